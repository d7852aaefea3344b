"""What a command asks for before anything runs: how many cells, and whether it says one cell or a grid as it must."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig

from pipelines.execution.overrides import command_line

STUDY = "experiment"


def is_search(config: DictConfig) -> bool:
    """Whether the sweeper draws its cells, some of them perhaps twice, instead of going through a grid."""
    return "n_trials" in config.hydra.sweeper


def lines(config: DictConfig) -> list[str]:
    """What is swept and what is fixed: of a study's file, then of the command line."""
    params = [
        f"{key}={'null' if value is None else value}" for key, value in (config.hydra.sweeper.params or {}).items()
    ]
    return [*params, *config.hydra.overrides.task]


def number_of_cells(config: DictConfig) -> int:
    """How many cells the sweeper will ask for; a search asks for so many at most."""
    if is_search(config):
        return int(config.hydra.sweeper.n_trials)
    count = 1
    for _, values in axes(config):
        count *= len(values)
    return count


def cells(config: DictConfig) -> Iterator[tuple[str, ...]]:
    """The overrides of each cell of a grid."""
    return itertools.product(*(values for _, values in axes(config)))


def axes(config: DictConfig) -> list[tuple[str, list[str]]]:
    """The overrides of a grid by their keys, each with all its values, of which a fixed one has one.

    Of two overrides with one key the later counts. Raises ValueError for one that no grid can go through.
    """
    found: dict[str, list[str]] = {}
    for override in _parser().parse_overrides(lines(config)):
        key = override.get_key_element()
        found[key] = _values(override, key)
    return list(found.items())


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
        raise ValueError(f"{key} must match one choice at least, got {override.input_line}: `--help` lists them")
    return values


def check_composes(config: DictConfig) -> None:
    """Compose samples in which every value of a grid occurs. Raises what Hydra raises for the first that it refuses."""
    if is_search(config):
        return
    grid = axes(config)
    loader = _loader()
    for number in range(max((len(values) for _, values in grid), default=0)):
        job = [values[number % len(values)] for _, values in grid]
        loader.load_configuration("config", job, run_mode=RunMode.RUN)


def check_studies(config: DictConfig) -> None:
    """Raise ValueError where a grid goes through studies that are grids themselves: each one's own would be lost."""
    studies = next((values for key, values in axes(config) if key == STUDY), [])
    if len(studies) < 2:
        return
    grids = [study for study in studies if _params(study)]
    if grids:
        others = [word for word in config.hydra.overrides.task if not word.startswith(f"{STUDY}=")]
        commands = " && ".join(command_line(["-m", study, *others]) for study in studies)
        raise ValueError(
            f"{STUDY} must be one study, as each is a grid of its own, got {len(studies)}: run one after the other, "
            f"`{commands}`"
        )


def check_single() -> None:
    """Raise ValueError where a study that is a grid was asked for as one cell, unless all that it sweeps is fixed."""
    job = HydraConfig.get()
    params = job.sweeper.get("params") or {}
    study = job.runtime.choices.get(STUDY)
    fixed = {word.lstrip("+").partition("=")[0] for word in job.overrides.task}
    swept = [key for key in params if key not in fixed]
    if study is None or not swept:
        return
    words = list(job.overrides.task)
    one = " ".join(f"{key}={str(params[key]).split(',')[0]}" for key in swept)
    raise ValueError(
        f"{STUDY}={study} is a grid over {', '.join(swept)}, and needs -m: `{command_line(['-m', *words])}`; for one "
        f"cell of it fix {one}"
    )


def _params(study: str) -> bool:
    """Whether a study says what is to be swept."""
    if study == f"{STUDY}=null":
        return False
    composed = _loader().load_configuration("config", [study], run_mode=RunMode.RUN)
    return bool(composed.hydra.sweeper.get("params"))


def _parser() -> OverridesParser:
    return OverridesParser.create(config_loader=_loader())


def _loader() -> ConfigLoader:
    return GlobalHydra.instance().config_loader()
