"""From a composed Hydra configuration to a checked cell."""

from __future__ import annotations

import json
import os
import re
import traceback
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from pipelines.system import checks, interpreter
from pipelines.system.places import CHECKOUT, PACKAGE
from pipelines.system.words import one_line

# Imported where a cell is made: `--help` and `--cfg` need no models and techniques.
if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipelines.cells.cell import Cell

# At the top of a checkout, inside the package of a wheel.
CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"
GROUPS = ("model", "dataset", "technique", "training", "measurement", "score")
# Keys that the command itself reads.
OWN = ("seed", "deterministic", "data_dir", "resume", "tracking", "sweep", "experiment", "hydra")
TRACKING = ("uri", "experiment", "patience_s")
SWEEP = ("isolation", "timeout_s", "threads")
_PLAIN = (str, int, float, bool, type(None))


@contextmanager
def sentences() -> Iterator[None]:
    """Raise ValueError with one sentence where the block reads a field that was taken out, or refers to nothing."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise ValueError(unresolved(error, "the configuration")) from error


@sentences()
def cell_of(config: DictConfig) -> Cell:
    """Instantiate and check a composed configuration.

    Raises ValueError with one sentence; IncompatibleError, a ValueError, where technique and model do not go together.
    """
    from pipelines.cells.cell import Cell

    check_names(config)
    parts = {group: instantiated(group, config[group]) for group in GROUPS}
    return Cell(**parts, seed=config.seed, deterministic=config.deterministic)


def recorded_cell(path: Path) -> Cell:
    """The cell of a description in a finished cell's folder. Raises as `cell_of`."""
    recorded = json.loads(path.read_text())
    parts = [one for one in recorded.values() if isinstance(one, dict)]
    # For classes and layers of one's own, and the hash of their code.
    own = f"{PACKAGE.name}."
    if any(one.get("custom_objects") or not str(one.get("_target_", own)).startswith(own) for one in parts):
        interpreter.search_working_folder()
    # The class of the cell, which a composed configuration does not name.
    recorded.pop("_target_", None)
    return cell_of(OmegaConf.create(recorded))


def check_names(config: DictConfig) -> None:
    """Raise ValueError for an unknown name, and for a missing group.

    Hydra refuses unknown names on the command line, but accepts them in a study's file and after a plus.
    """
    for group in GROUPS:
        if OmegaConf.is_missing(config, group) or not isinstance(config.get(group), Mapping):
            raise ValueError(f"{group} must be chosen, got {config.get(group)}: leave it out for the default")
    text = OmegaConf.to_yaml(config, resolve=False)
    everything = OmegaConf.to_container(config, resolve=False)
    assert isinstance(everything, dict)
    for name in map(str, everything):
        # Other values may refer to a user's own name.
        if name not in (*GROUPS, *OWN) and not re.search(rf"\$\{{{re.escape(name)}[}}.\[]", text):
            raise ValueError(_unknown("", name, (*GROUPS, *OWN[:-1]), _leaves(everything)))
    if isinstance(config.get("experiment"), Mapping):
        names = ", ".join(map(str, config.experiment))
        raise ValueError(
            f"a study must begin with the line `# @package _global_`, got one without, so that it sets {names} of "
            "itself alone: make this the first line of its file in experiment/, in UTF-8 without a byte-order mark"
        )
    for group, known in (("tracking", TRACKING), ("sweep", SWEEP)):
        for name in config.get(group) or ():
            if name not in known:
                raise ValueError(_unknown(group, name, known))


def check_fields(config: DictConfig) -> None:
    """Raise ValueError where a part of a cell has a field that its class lacks, or lacks one."""
    for group in GROUPS:
        _check_node(group, config[group])


def instantiated(group: str, node: Any) -> Any:
    """The object of a group's values. Raises ValueError with one sentence where they do not make one."""
    _check_node(group, node)
    base = next((kind for kind, name in _own_names().items() if name == group), None)
    if base and not node.get("_target_"):
        raise ValueError(
            f"{group}._target_ must name a class that inherits {base.__name__}, got none: write it into the yaml file, "
            "as `_target_: package.module.Class`"
        )
    try:
        made = instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, ValueError):
            raise ValueError(_with_full_names(str(cause), group, node)) from error
        for prefix, cls, values in _classes(group, node):
            _check_types(prefix, cls, values)
        if isinstance(cause, TypeError | ImportError | AttributeError | OSError):
            raise ValueError(
                f"{group} cannot be made of its values ({type(cause).__name__}: {cause}{_where(cause)})"
            ) from error
        raise cause from error  # a fault of the class, which needs its traceback
    _check_made(group, made)
    if base and not isinstance(made, base):
        raise ValueError(
            f"{group}._target_ must name a class that inherits {base.__name__}, got {node['_target_']}: let the class "
            f"inherit {base.__module__}.{base.__name__}"
        )
    return made


def _with_full_names(message: str, group: str, node: Any) -> str:
    """A refusal with the names that fields have in this configuration.

    A class names its fields as if it were chosen itself: `technique.sparsity` also where it is a step of a chain.
    """
    for prefix, cls, values in reversed(list(_classes(group, node))):
        own = next((name for kind, name in _own_names().items() if issubclass(cls, kind)), None)
        if own in (None, prefix):
            continue
        try:
            instantiate(values, _convert_="all")
        except InstantiationException:
            return re.sub(rf"(?<![\w.]){own}\.", f"{prefix}.", message)
    return message


def _own_names() -> dict[type, str]:
    from pipelines.datasets.base import Dataset
    from pipelines.models.base import Model
    from pipelines.techniques.base import Technique
    from pipelines.techniques.source import Source

    return {Model: "model", Dataset: "dataset", Technique: "technique", Source: "technique.source"}


def unresolved(error: Exception, name: str) -> str:
    """The sentence for a field that is not there, or refers to what is not. name: where, unless OmegaConf tells."""
    reason = str(error).splitlines()[0]
    name = getattr(error, "full_key", None) or name
    if isinstance(error, ConfigAttributeError):
        return f"{name} must be given, got nothing: leave ~{name} out"
    missing = re.search(r"Interpolation key '(\w+)' not found", reason)
    if missing and missing[1] in os.environ:
        mend = f"write ${{oc.env:{missing[1]}}} for the variable of the environment"
    elif variable := re.search(r"Environment variable '(\w+)' not found", reason):
        mend = f"`export {variable[1]}=` a value before, or write ${{oc.env:{variable[1]},default}}"
    else:
        mend = "`opscore run --cfg job` shows all fields"
    return f"{name} must refer to what is there, got {reason}: {mend}"


def _where(error: BaseException) -> str:
    """The line of a user's class that raised an error; empty where its values did not fit."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "" if "hydra" in Path(last.filename).parts else f", in {last.filename}, line {last.lineno}"


def _check_made(name: str, made: Any) -> None:
    """Raise ValueError where a field of an object, or of an object in it, has a value of the wrong type."""
    if isinstance(made, Mapping):
        for key, value in made.items():
            _check_made(f"{name}.{key}", value)
    if is_dataclass(made) and not isinstance(made, type):
        values = {one.name: getattr(made, one.name) for one in fields(made) if one.init}
        _check_types(name, type(made), values)
        for field, value in values.items():
            _check_made(f"{name}.{field}", value)


def _check_node(name: str, node: Any) -> None:
    """Raise ValueError where a node has an unknown class or an unknown field, or lacks a field."""
    for prefix, cls, values in _classes(name, node):
        known = {one.name: one for one in fields(cls) if one.init}
        for field in values:
            if field not in known and not str(field).startswith("_"):
                raise ValueError(_unknown(prefix, str(field), tuple(known)))
        for field, one in known.items():
            if field not in values and one.default is MISSING and one.default_factory is MISSING:
                example = f"{prefix}.{field}={_example(_hints(cls).get(field))}"
                raise ValueError(f"{prefix}.{field} must be given, got nothing: set for example {example}")


def _check_types(prefix: str, cls: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError where a plain value, which includes null, has a type that its field does not take."""
    hints = _hints(cls)
    for field, value in values.items():
        if field in hints and isinstance(value, _PLAIN) and not _fits(value, hints[field]):
            raise ValueError(
                f"{prefix}.{field} must be {_wanted(hints[field])}, got {'null' if value is None else repr(value)}: "
                f"set for example {prefix}.{field}={_example(hints[field])}"
            )


def _classes(name: str, node: Any) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """The dataclasses of a node and of those below it, with their dotted names and values."""
    if not isinstance(node, Mapping):
        return
    try:
        given = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except Exception as error:
        raise ValueError(unresolved(error, name)) from error
    values: dict[str, Any] = dict(given)  # type: ignore[arg-type]
    if "_target_" in values:
        try:
            cls = get_class(values["_target_"])
        except (ImportError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{name}._target_ must be a class that can be imported, got {values['_target_']!r} "
                f"({one_line(error.__cause__ or error)}): correct it, or set PYTHONPATH to its folder"
            ) from error
        if is_dataclass(cls):
            yield name, cls, values
    for field, value in values.items():
        yield from _classes(f"{name}.{field}", value)


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # names that a user's class imports for its type checker only
        return {}


def _unknown(prefix: str, name: str, known: tuple[str, ...], leaves: Mapping[str, str] | None = None) -> str:
    dotted = f"{prefix}." if prefix else ""
    meant = checks.nearest(name, known)
    meant = f"{dotted}{meant}" if meant else (leaves or {}).get(name)
    return (
        f"{dotted}{name} is no field of {prefix or 'the configuration'} ({', '.join(known)}): "
        f"{f'did you mean {meant}?' if meant else 'leave it out'}"
    )


def _leaves(everything: Mapping[Any, Any]) -> dict[str, str]:
    """The fields of the groups by the last part of their names: `epochs` is training.epochs."""
    groups = ((group, everything.get(group)) for group in reversed(GROUPS))
    return {str(field): f"{group}.{field}" for group, node in groups if isinstance(node, Mapping) for field in node}


def _fits(value: object, hint: Any) -> bool:
    """Whether a field takes a plain value; fields with other than plain types take any."""
    kinds = _kinds(hint)
    if not all(kind in _PLAIN for kind in kinds):
        return value is not None or type(None) in kinds or Any in kinds
    return type(value) in kinds or (type(value) is int and float in kinds)


def _kinds(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(kind for one in typing.get_args(hint) for kind in _kinds(one))
    if typing.get_origin(hint) is typing.Literal:
        return tuple(type(one) for one in typing.get_args(hint))
    return (hint,)


_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "null"}
_EXAMPLES = {str: "name", int: "1", float: "0.1", bool: "true", type(None): "null"}


def _wanted(hint: Any) -> str:
    return " or ".join(_WORDS.get(kind, "something else") for kind in _kinds(hint))


def _example(hint: Any) -> str:
    return next((_EXAMPLES[kind] for kind in _kinds(hint) if kind in _EXAMPLES), "")
