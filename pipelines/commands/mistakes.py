"""Explains in one sentence why Hydra cannot compose a configuration, with the nearest valid name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipelines.cells.compose import CONF
from pipelines.execution.overrides import assignment, for_compose, grid_command
from pipelines.system import checks

MAX_LISTED = 30
# Hydra's launchers for parallel cells: the plugin that each needs, and opscore's extra that installs it.
_LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "ray_cluster": ("hydra_ray_launcher", "ray"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_submitit_launcher", "slurm"),
}


def explained(error: Exception, arguments: Sequence[str]) -> str:
    """The sentence for an error that Hydra raised. arguments: the command line, options included."""
    words = for_compose(arguments)
    search = [word for word in words if word.startswith("hydra.searchpath=")]
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            found = next(_faults(words, search), None) or _taken_out(error, words)
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, OSError):
        found = None
    return found or _plainly(error)


def _taken_out(error: Exception, words: Sequence[str]) -> str | None:
    """The sentence where Hydra refused to take out a field, as it does for one without a value."""
    if not re.search("Could not delete from config|Error merging override ~", str(error)):
        return None
    fields = ((one[1:].partition("=")[0], one) for one in words if one.startswith("~"))
    return next((f"{name} cannot be taken out: leave {word} out" for name, word in fields if name in str(error)), None)


def _faults(words: Sequence[str], search: Sequence[str]) -> Iterator[str]:
    loader = GlobalHydra.instance().config_loader()

    def options(group: str) -> list[str]:
        """The choices of a group, those of a folder of the user's included."""
        return loader.get_group_options(group, ObjectType.CONFIG, config_name="config", overrides=list(search))

    parser = OverridesParser.create(config_loader=loader)
    fields: list[Override] = []
    choices: list[str] = list(search)
    swept: dict[str, list[str]] = {}
    for override in parser.parse_overrides(list(words)):
        group = override.key_or_group
        if options(group):
            fault = _of_group(override, options)
            if fault:
                yield fault
            elif override.is_sweep_override():
                swept[_name(override)] = list(override.sweep_string_iterator())
            elif not override.is_delete():
                choices.append(override.input_line or "")
        else:
            fields.append(override)
    given = {one.partition("=")[0] for one in choices}
    if "experiment" in given:
        # The command line counts before a study's file.
        of_study = {name: values for name, values in _of_study(choices, parser, options).items() if name not in given}
        swept = of_study | swept
    yield from filter(None, (_of_some(field, swept, choices) for field in fields))
    # All choices of a sweep have the fields that are left.
    first = [f"{group}={values[0]}" for group, values in swept.items() if values]
    config = compose("config", [*choices, *first], return_hydra_config=True)
    groups = [one for one in loader.list_groups("") if one != "hydra"]
    yield from filter(None, (_of_field(field, config, groups, options) for field in fields))


def _of_study(
    choices: Sequence[str], parser: OverridesParser, options_of: Callable[[str], Sequence[str]]
) -> dict[str, list[str]]:
    """The choices that a study goes through, by their names on a command line."""
    params = compose("config", list(choices), return_hydra_config=True).hydra.sweeper.get("params") or {}
    lines = [assignment(key, value) for key, value in params.items()]
    return {
        _name(one): list(one.sweep_string_iterator()) if one.is_sweep_override() else [str(one.value())]
        for one in parser.parse_overrides(lines)
        if options_of(one.key_or_group)
    }


def _of_group(override: Override, options_of: Callable[[str], Sequence[str]]) -> str | None:
    """The fault of a choice; None where it is valid."""
    group = override.key_or_group
    options = options_of(group)
    if override.is_delete():
        return f"{group} must be chosen, got {override.input_line}: leave it out for the default"
    if override.is_add() and override.package is None and group in _chosen():
        line = str(override.input_line)
        return f"{group} must be chosen without a plus, got {line}: write {line[1:]}"
    values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    for value in values:
        if value is None and group == "experiment":
            continue
        if isinstance(value, list):
            grid = grid_command([f"{_name(override)}={','.join(map(str, value))}"])
            return f"{group} must be one choice, got {value}: for a grid write `{grid}`"
        if group == "hydra/launcher" and (extra := _missing_extra(str(value))):
            return f"{group}={value} is not installed: pip install 'opscore[{extra}]'"
        if value not in options:
            meant = checks.nearest(str(value), options)
            mend = f": did you mean {_name(override)}={meant}?" if meant else ""
            if group == "experiment" and not meant:
                mend = f": for MLflow's experiment write {shlex.quote(f'tracking.experiment={value}')}"
            got = "null" if value is None else str(value)
            return f"{group} must be one of {', '.join(options)}, got {got!r}{mend}"
    return None


def _chosen() -> Collection[str]:
    """The groups of which the configuration has a choice by default, none included."""
    choices: Mapping[str, Any] = compose("config", return_hydra_config=True).hydra.runtime.choices
    return choices.keys()


def _missing_extra(launcher: str) -> str | None:
    """The extra that installs a launcher, if its plugin is not there."""
    plugin, extra = _LAUNCHERS.get(launcher, (None, None))
    return extra if plugin and find_spec(f"hydra_plugins.{plugin}") is None else None


def _of_some(override: Override, swept: Mapping[str, Sequence[str]], choices: Sequence[str]) -> str | None:
    """The fault of a field that some choices of a sweep have and others lack; None for any other."""
    if override.is_add() or override.is_force_add():
        return None
    key = override.key_or_group
    group = next((one for one in swept if key.startswith(f"{one.rpartition('@')[2]}.")), "")
    options = swept.get(group, ())
    having = [one for one in options if _has(compose("config", [*choices, f"{group}={one}"]), key)]
    lacking = [one for one in options if one not in having]
    if not having or not lacking:
        return None
    return (
        f"{key} is a field of {group}={','.join(having)} and not of {group}={','.join(lacking)}: sweep them in two "
        "commands"
    )


def _of_field(
    override: Override, config: DictConfig, groups: Sequence[str], options_of: Callable[[str], Sequence[str]]
) -> str | None:
    """The fault of a field's name; None where it is valid."""
    key = override.key_or_group
    if override.is_add() or override.is_force_add() or _has(config, key):
        return None
    if "." not in key and (group := checks.nearest(key, groups)):
        value = _value(override)
        meant = f"{group}={value}" if value in options_of(group) else group
        return f"{key} is no group of choices and no field: did you mean {meant}?"
    known = names(config, with_hydra=key.startswith("hydra"))
    group, _, leaf = key.partition(".")
    if steps := [one for one in known if one.startswith(f"{group}.steps.") and one.endswith(f".{leaf}")]:
        words = [shlex.quote(f"{one}={_value(override)}") for one in steps]
        return f"{key} is no field of this chain: did you mean {' or '.join(words)}?"
    group, other = _elsewhere(key, options_of)
    if other:
        choices = " or ".join(f"{group}={one}" for one in other)
        word = shlex.quote(f"{key}={_value(override)}")
        which = "which is not" if len(other) == 1 else "none of which is"
        return f"{key} is a field of {choices}, {which} chosen: write {group}={other[0]} {word}"
    group = key.rpartition(".")[0]
    here = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == group][:MAX_LISTED]
    field = nearest_field(key, known)
    text = _value(override) if not override.is_delete() else ""
    where = f"{group} ({', '.join(here)})" if here and group else "the configuration"
    mend = f"did you mean {shlex.quote(f'{field}={text}')}?" if field else "`opscore run --cfg job` shows all fields"
    return f"{key} is no field of {where}: {mend}"


def _name(override: Override) -> str:
    """Of a choice, as on the command line."""
    return f"{override.key_or_group}@{override.package}" if override.package else override.key_or_group


def _value(override: Override) -> str:
    """The value as on the command line, which for a grid are several."""
    if override.is_choice_sweep():
        return ",".join(override.sweep_string_iterator())
    if override.is_sweep_override():
        return str(override.input_line).partition("=")[2]
    return override.get_value_element_as_str()


def _elsewhere(key: str, options_of: Callable[[str], Sequence[str]]) -> tuple[str, list[str]]:
    """The group of a field that the given choice of it lacks, and the choices that have the field."""
    group, _, leaf = key.partition(".")
    if group == "hydra":
        group = "/".join(key.split(".")[:2])
        return group, [one for one in options_of(group) if _plugin_has(group, one, key)]
    files = [CONF / group / f"{one}.yaml" for one in options_of(group)] if leaf else []
    return group, [path.stem for path in files if path.is_file() and leaf in OmegaConf.load(path)]


def _plugin_has(group: str, option: str, key: str) -> bool:
    """Whether a choice of Hydra's, such as a launcher, has a field; False where its package is not installed."""
    try:
        return _has(compose("config", [f"{group}={option}"], return_hydra_config=True), key)
    except (HydraException, OmegaConfBaseException):
        return False


def nearest_field(key: str, known: Sequence[str]) -> str | None:
    """The dotted name nearest to `key`: in its own group, then with the same last part, then anywhere."""
    group, _, leaf = key.rpartition(".")
    here = {one.rpartition(".")[2]: one for one in known if group and one.rpartition(".")[0] == group}
    leaves = {one.rpartition(".")[2]: one for one in reversed(known)}
    return (
        here.get(checks.nearest(leaf, here) or "")
        or leaves.get(leaf)
        or checks.nearest(key, known)
        or leaves.get(checks.nearest(leaf, leaves) or "")
    )


def names(config: DictConfig, *, with_hydra: bool = False) -> list[str]:
    """The dotted names of all fields of a configuration, without those of groups and classes."""

    def below(node: Any, name: str) -> Iterator[str]:
        if not isinstance(node, dict):
            yield name
            return
        for key, value in node.items():
            if not str(key).startswith("_") and (name or with_hydra or key != "hydra"):
                yield from below(value, f"{name}.{key}" if name else str(key))

    return list(below(OmegaConf.to_container(config, resolve=False), ""))


def _has(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = node._get_node(part)
    return True


def _plainly(error: Exception) -> str:
    """Hydra's own message without its blank lines and addresses, or the sentence of a sweeper or a launcher."""
    # Hydra itself raises its subclasses.
    if type(error) is CompactHydraException:
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "https://" not in line]
    return "the configuration cannot be composed: " + "; ".join(lines[:3])
