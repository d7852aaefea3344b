"""Which technique goes with which model, by the techniques' own checks and the values of `conf/`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipelines.cells.compose import instantiated
from pipelines.models.base import Model
from pipelines.results.tables import aligned
from pipelines.system.words import one_line
from pipelines.techniques.base import Technique


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """reasons: why a technique refuses a model, by (technique, model); all other pairs go together."""

    techniques: tuple[str, ...]
    models: tuple[str, ...]
    reasons: dict[tuple[str, str], str]

    @classmethod
    def of(cls, conf: Path) -> Compatibility:
        """Check every technique with every model of the folder `conf`; loads no TensorFlow."""
        models: dict[str, Model] = choices(conf, "model")
        techniques: dict[str, Technique] = choices(conf, "technique")
        reasons = {}
        for technique_name, technique in techniques.items():
            for model_name, model in models.items():
                try:
                    technique.preflight(model)
                except ValueError as error:
                    reasons[technique_name, model_name] = str(error)
        return cls(techniques=tuple(techniques), models=tuple(models), reasons=reasons)

    def text(self) -> str:
        """A table for the terminal, with the reasons below."""
        lines = [aligned([("", *self.models), *self.rows]), ""]
        lines += [f"[{number}] {reason}" for reason, number in self.notes.items()]
        return "\n".join(lines)

    @property
    def notes(self) -> dict[str, int]:
        """Reasons, numbered in the order of the table."""
        pairs = product(self.techniques, self.models)
        distinct = dict.fromkeys(self.reasons[pair] for pair in pairs if pair in self.reasons)
        return {reason: number for number, reason in enumerate(distinct, start=1)}

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """For each technique its name, and for each model `yes` or the number of the reason why not."""
        notes = self.notes

        def entry(technique: str, model: str) -> str:
            reason = self.reasons.get((technique, model))
            return "yes" if reason is None else f"[{notes[reason]}]"

        return [(technique, *(entry(technique, model) for model in self.models)) for technique in self.techniques]


def choices(conf: Path, group: str) -> dict[str, Any]:
    """Every choice of a group of the folder `conf` by its name, made with the values of its yaml; no TensorFlow.

    Raises ValueError with the file whose values do not make one.
    """
    found = {}
    with initialize_config_dir(str(conf), version_base="1.3"):
        for path in sorted((conf / group).glob("*.yaml")):
            try:
                found[path.stem] = instantiated(group, compose(f"{group}/{path.stem}", [])[group])
            except (ValueError, HydraException, OmegaConfBaseException, YAMLError) as error:
                raise ValueError(f"{path}: {one_line(error)}") from error
    return found
