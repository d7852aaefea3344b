"""The cells of a grid, and checks of a command line that is a grid or should be one."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from pipelines.cells.compose import check_fields
from pipelines.execution.overrides import assignment, grid_command
from pipelines.execution.settings import check_stays

STUDY = "experiment"


def is_search(config: DictConfig) -> bool:
    """Whether the sweeper draws its cells, possibly some twice, instead of going through a grid."""
    return "n_trials" in config.hydra.sweeper


def lines(config: DictConfig) -> list[str]:
    """All overrides, swept and fixed: first those of a study's file, then those of the command line."""
    params = (config.hydra.sweeper.params or {}).items()
    fixed = (assignment(key, value) for key, value in params)
    return [*fixed, *typed(config.hydra.overrides.task)]


def typed(words: Any) -> list[str]:
    """Overrides as they were typed: `${...}` in them is of each cell, not of the grid. words: a ListConfig."""
    raw = OmegaConf.to_container(words, resolve=False)
    assert isinstance(raw, list)
    return [str(word) for word in raw]


def number_of_cells(config: DictConfig) -> int:
    """The number of cells that the sweeper runs; the most that a search may run, whose settings `some` checks."""
    if is_search(config):
        return int(config.hydra.sweeper.n_trials)
    return math.prod(len(values) for values in axes(config).values())


def cells(config: DictConfig) -> Iterator[tuple[str, ...]]:
    """The overrides of each cell of a grid."""
    return itertools.product(*axes(config).values())


def samples(config: DictConfig) -> Iterator[tuple[str, ...]]:
    """The overrides of few cells in which each value of a grid occurs."""
    values = list(axes(config).values())
    for number in range(max(map(len, values), default=0)):
        yield tuple(of_one[number % len(of_one)] for of_one in values)


def axes(config: DictConfig) -> dict[str, list[str]]:
    """The overrides of a grid by their keys, one for each value; a fixed key has one.

    Raises ValueError for one that has no list of values.
    """
    return {key: _values(override, key) for key, override in _overrides(config).items()}


def _overrides(config: DictConfig) -> dict[str, Override]:
    """By their keys. Of two with one key the later counts."""
    parsed = OverridesParser.create(config_loader=_loader()).parse_overrides(lines(config))
    return {override.get_key_element(): override for override in parsed}


def _values(override: Override, key: str) -> list[str]:
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ValueError(
            f"{key} must be a list of values in a grid, got {override.input_line}: write for example "
            f"{key}=1,2 or 'range(1,4)', or search the interval with hydra/sweeper=pareto"
        )
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ValueError(
            f"{key} must match at least one choice, got {override.input_line}: "
            + ("`opscore run --help` lists them" if _is_group(key) else "list the values, with commas")
        )
    return values


def check_composes(config: DictConfig) -> None:
    """Compose cells in which each value of a grid occurs.

    Raises Hydra's error for the first that it refuses, ValueError for a field that a choice lacks.
    """
    if is_search(config):
        return
    for overrides in samples(config):
        check_fields(composed(config, overrides))


def some(config: DictConfig) -> Iterable[tuple[str, ...]]:
    """The overrides of all cells of a grid, or of some of a search; none where its sweeper has no `check`.

    Lets a search's sweeper check its settings and its space. Raises its error.
    """
    if not is_search(config):
        return cells(config)
    sweeper = instantiate(config.hydra.sweeper)
    if not hasattr(sweeper, "check"):
        return ()
    samples_: list[tuple[str, ...]] = sweeper.check(typed(config.hydra.overrides.task), _loader()).samples()
    return samples_


def check_references(config: DictConfig) -> None:
    """Raise ValueError where a study's file refers to what its grid varies: Hydra would give all cells the default."""
    if is_search(config):
        return
    params = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create({}), resolve=False)
    assert isinstance(params, dict)
    varied = {key for key, values in axes(config).items() if len(values) > 1}
    for key, value in ((str(key), str(value)) for key, value in params.items()):
        for reference in re.findall(r"(?<!\\)\$\{([\w.]+)\}", value):
            if any(reference == one or reference.startswith(f"{one}.") for one in varied):
                escaped = re.sub(r"(?<!\\)\$\{", r"\\${", value)
                raise ValueError(f"{key} of a study's file must be resolved in each cell, got {value}: write {escaped}")


def check_studies(config: DictConfig) -> None:
    """Raise ValueError where a grid goes through studies that are grids themselves: their own grids would be lost."""
    chosen = _overrides(config).get(STUDY)
    studies = _values(chosen, STUDY) if chosen else []
    if len(studies) > 1 and any(_is_grid(config, study) for study in studies):
        others = [word for word in _line(config.hydra) if not word.startswith(f"{STUDY}=")]
        commands = " && ".join(grid_command([study, *others]) for study in studies)
        raise ValueError(
            f"{STUDY} must be one study, as each is a grid of its own, got {len(studies)}: run one after the other, "
            f"`{commands}`"
        )


def check_single(config: DictConfig) -> None:
    """Raise ValueError for what holds in a grid only: a study that is one, unless every key that it sweeps is fixed,
    and limits of a sweep's cells.
    """
    job = HydraConfig.get()
    # A study's file may have limits for its sweep.
    for name in ("timeout_s", "threads"):
        named = [word for word in typed(job.overrides.task) if re.match(rf"\+*sweep(\.{name})?=", word)]
        if named and config.sweep[name] is not None:
            raise ValueError(
                f"sweep.{name} is for the cells of a sweep, got {named[-1]} for a single cell: run "
                f"`{grid_command(_line(job))}`, or leave it out"
            )
    params = job.sweeper.get("params") or {}
    study = job.runtime.choices.get(STUDY)
    fixed = {word.lstrip("+").partition("=")[0] for word in typed(job.overrides.task)}
    swept = [key for key in params if key not in fixed]
    if study is None or not swept:
        return
    one = " ".join(_first(assignment(key, params[key])) for key in swept)
    raise ValueError(
        f"{STUDY} must be a single cell or be swept, got {study}, a grid over {', '.join(swept)}: run "
        f"`{grid_command(_line(job))}`, or fix {one} for one cell"
    )


def _line(job: HydraConf | DictConfig) -> list[str]:
    """The words of the command, for its repetition. job: Hydra's part of the configuration."""
    folders = [one.path for one in job.runtime.config_sources if one.provider == "command-line"]
    options = [word for folder in folders for word in ("--config-dir", folder)]
    settings = [word for word in typed(job.overrides.hydra) if not word.startswith("hydra.mode=")]
    return [*options, *settings, *typed(job.overrides.task)]


def _is_group(key: str) -> bool:
    return bool(_loader().get_group_options(key.partition("@")[0]))


def _first(line: str) -> str:
    """An override with the first of its values."""
    override = OverridesParser.create(config_loader=_loader()).parse_override(line)
    key = override.get_key_element()
    is_interval = override.is_sweep_override() and not override.is_discrete_sweep()
    return f"{key}=..." if is_interval else _values(override, key)[0]


def composed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a cell of a grid, with what the grid's sets in Hydra, such as `hydra.searchpath`.

    It becomes Hydra's own as well, as for a job: `${hydra:...}` in a value is resolved through it.
    """
    every = [*typed(config.hydra.overrides.hydra), *overrides]
    of_cell = _loader().load_configuration(config.hydra.job.config_name, every, run_mode=RunMode.RUN)
    # Hydra numbers a job when it starts it.
    with open_dict(of_cell):
        of_cell.hydra.job.update(num=0, id="0")
    check_stays(of_cell)
    HydraConfig.instance().set_config(of_cell)
    return of_cell


def _is_grid(config: DictConfig, study: str) -> bool:
    return study != f"{STUDY}=null" and bool(composed(config, [study]).hydra.sweeper.get("params"))


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()
