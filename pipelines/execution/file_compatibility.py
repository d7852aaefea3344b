"""Which techniques take the model of a file: each is applied without training, and the outcome is converted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from pipelines.system import guard, runtime

if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.techniques.base import Candidate, Technique
    from pipelines.training.trainer import Trainer


def lines(words: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """A line for each technique, as soon as it is known.

    words: overrides that choose the model and the dataset. names: of the techniques; empty for all. Raises MisuseError
    where no cell can be made of them, HydraException or OmegaConfBaseException for a wrong name.
    """
    from pipelines.cells.compatibility import choices
    from pipelines.cells.compose import CONF, cell_of, instantiated
    from pipelines.execution.preflight import preflight

    with initialize_config_dir(str(CONF), version_base="1.3"):
        # One after the other: a wrong name is an error, and a choice of the user's own is found.
        chosen = {
            name: instantiated("technique", compose("config", [*words, f"technique={name}"]).technique)
            for name in names
        }
        config = compose("config", [*words, "technique=baseline"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    try:
        cell = cell_of(config)
        preflight(cell)
    except (ValueError, OSError) as error:
        raise guard.MisuseError(guard.message(error)) from error
    runtime.prepare(onednn=cell.model.onednn, deterministic=cell.deterministic)
    techniques: dict[str, Technique] = chosen or choices(CONF, "technique")
    width = max(map(len, techniques))
    for name, technique in techniques.items():
        yield f"{name:{width}}  {_answer(cell, technique)}"


def _answer(cell: Cell, technique: Technique) -> str:
    """`yes`, or why not."""
    from pipelines.execution.job import trainer_of
    from pipelines.execution.preflight import loaded
    from pipelines.execution.rehearsal import rehearse
    from pipelines.techniques.base import Candidate, Chain, Context, EffectError

    data = loaded(cell.dataset)
    steps = list(technique.steps.values()) if isinstance(technique, Chain) else [technique]
    if any(step.source_cell is not None for step in steps):
        return "not known, as it depends on the teacher or donor: a run checks it before it trains"

    def optimize(idle: Trainer) -> Candidate:
        candidate = Candidate(model=cell.model.build(data.image_shape, len(data.class_names)))
        for step in steps:
            context = Context(trainer=idle, trained=cell.model.trained, report=lambda _: None)
            try:
                candidate = step.apply(candidate, context)
            except EffectError:
                continue  # the effect comes with the training
        return candidate

    trainer = trainer_of(cell, data, on_epoch=lambda *_: None)
    try:
        technique.check_steps()
        technique.preflight(cell.model)
        rehearse(technique, optimize, trainer, verify=True)
    except (ValueError, EffectError) as error:
        return f"no: {error}"
    finally:
        runtime.forget_networks()
    return "yes"
