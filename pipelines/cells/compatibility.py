"""Which technique goes with which model, asked of the techniques themselves as the configuration ships them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from pipelines.models.base import Model
from pipelines.results.tables import aligned, markdown
from pipelines.techniques.base import Technique


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """reasons: why a technique refuses a model, by (technique, model); a pair that is not in it goes together."""

    techniques: tuple[str, ...]
    models: tuple[str, ...]
    reasons: dict[tuple[str, str], str]

    @classmethod
    def of(cls, conf: Path) -> Compatibility:
        """Ask every technique about every model of the folder `conf`; loads no TensorFlow."""
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
        """A table for the terminal, and the reasons under it."""
        notes = self._notes()
        lines = [aligned([("", *self.models), *self._rows(notes)]), ""]
        lines += [f"[{number}] {reason}" for reason, number in notes.items()]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The same as a page of the documentation."""
        notes = self._notes()
        heading = ("technique", *(f"`{model}`" for model in self.models))
        lines = [
            "# Which technique goes with which model",
            "",
            "Written by `make docs` from the techniques' own checks, with the values of `conf/`; the terminal shows it "
            "with",
            "`python -m pipelines.run --info compatibility`. A cell of a pair that is refused ends before anything is "
            "trained; a sweep",
            "skips it.",
            "",
            markdown([heading, *((f"`{technique}`", *rest) for technique, *rest in self._rows(notes))]),
            "",
            *(f"- [{number}] {reason}" for reason, number in notes.items()),
            "",
        ]
        return "\n".join(lines)

    def _notes(self) -> dict[str, int]:
        """Reasons, numbered in the order of the table."""
        distinct = dict.fromkeys(
            self.reasons[pair]
            for pair in ((technique, model) for technique in self.techniques for model in self.models)
            if pair in self.reasons
        )
        return {reason: number for number, reason in enumerate(distinct, start=1)}

    def _rows(self, notes: dict[str, int]) -> list[tuple[str, ...]]:
        def shown(technique: str, model: str) -> str:
            reason = self.reasons.get((technique, model))
            return "yes" if reason is None else f"[{notes[reason]}]"

        return [(technique, *(shown(technique, model) for model in self.models)) for technique in self.techniques]


def choices(conf: Path, group: str) -> dict[str, Any]:
    """Every choice of a group of the folder `conf`, made with the values of its yaml, by its word; no TensorFlow."""
    names = sorted(path.stem for path in (conf / group).glob("*.yaml"))
    with initialize_config_dir(str(conf), version_base="1.3"):
        configs = {name: compose(f"{group}/{name}", [])[group] for name in names}
        return {name: instantiate(config, _convert_="all") for name, config in configs.items()}
