"""The files in a cell's folder, and the records of its stages."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.results.cell_result import CellResult, Complexity, Timing
from pipelines.results.files import EXPLORER, MODEL
from pipelines.results.json_record import Record


class _File:
    """The path of a file in the folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, files: "CellFiles", owner: type) -> Path:
        return files.folder / self._name


@dataclass(frozen=True)
class CellFiles:
    """The paths in a cell's folder."""

    folder: Path

    # The `CellResult`, JSON. It is written last: where it is, the cell is complete.
    result = _File("result.json")
    # The cell's description, JSON.
    config = _File("config.json")
    # The deployable file.
    exported_model = _File(MODEL)
    # The trained Keras model; absent where the technique trains nothing.
    checkpoint = _File("checkpoint.keras")
    # The `Trained`, JSON, while the cell is not finished.
    trained = _File("trained.json")
    # What `Technique.resumed` needs beside the checkpoint: arrays by their place, while the cell is not finished.
    state = _File("state.npz")
    # The `Build`, JSON, while the cell is not finished.
    build = _File("build.json")
    # A folder of tables, JSON, columns by name: `classes`, and those of the technique.
    tables = _File("tables")
    # Each layer's sensitivity to 8 bits, for Google's Model Explorer; absent where it was not asked for.
    explorer = _File(EXPLORER)
    # The exported model's answers over the test split, in its order: array `logits`, float32 (n, classes).
    predictions = _File("predictions.npz")
    # Seconds of the cell's wall time by part (`pipelines/system/stopwatch.py`), JSON, and the same as a picture.
    breakdown = _File("breakdown.json")
    breakdown_figure = _File("figures/breakdown.png")
    # Nanoseconds of each timed call: arrays `candidate` and, with a baseline, `reference`.
    latency = _File("latency.npz")

    @property
    def built(self) -> tuple[Path, ...]:
        """What exists before the cell is measured."""
        return self.exported_model, self.checkpoint, self.tables, self.explorer


@dataclass(frozen=True, kw_only=True)
class Trained(Record):
    """A cell whose network is trained: with the checkpoint, enough to export it in another process.

    fingerprint: of the cell. metrics: the technique's own. notes: on the training, a sentence each. machine: that
    trained it, by its hardware; empty in records that are older than it.
    """

    fingerprint: str
    train_s: float
    optimize_s: float
    epochs: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    joules: dict[str, float]
    precision: str
    machine: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Build(Record):
    """A cell whose exported model is in its folder and not yet measured."""

    fingerprint: str
    timing: Timing
    complexity: Complexity
    epochs: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    joules: dict[str, float]
    precision: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished cell: its record and its files."""

    result: CellResult
    files: CellFiles

    @classmethod
    def load(cls, folder: Path) -> "Finished":
        """Open a finished cell's folder. Raises FileNotFoundError where the cell is not complete."""
        files = CellFiles(folder)
        return cls(result=CellResult.load(files.result), files=files)
