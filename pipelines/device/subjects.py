"""The subjects of a session: files on disk, or finished cells of a store with their baselines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.comparison.baselines import baselines_of
from pipelines.litert.exported_model import image_shape
from pipelines.results.on_device import LITERT
from pipelines.results.recorded_cell import BASELINE
from pipelines.system.digests import sha256

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell
    from pipelines.tracking.store import Store


# Of a file's name, with room for a number.
MAX_BYTES = 200


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An exported model to measure.

    label, runtime: unique together in a session. runs: the MLflow runs that its figures belong to; none for a file on
    disk. reference: label and runtime of the subject that its times are compared with, if any.
    """

    label: str
    path: Path
    sha256: str
    file_bytes: int
    image_shape: tuple[int, int, int]
    runs: tuple[str, ...] = ()
    reference: tuple[str, str] | None = None
    runtime: str = LITERT

    @property
    def key(self) -> tuple[str, str]:
        """What another subject's `reference` says of this one."""
        return self.label, self.runtime

    @property
    def name(self) -> str:
        """For messages."""
        return name_of(self.label, self.runtime)

    @property
    def folder(self) -> str:
        """The name as that of a folder, as far as file systems take it."""
        name = re.sub(r"[^\w.-]+", "-", self.name).encode()[:MAX_BYTES].decode(errors="ignore")
        return name.strip("-.") or "model"


def name_of(label: str, runtime: str) -> str:
    """Label, and runtime unless it is the usual one."""
    return label if runtime == LITERT else f"{label} on {runtime}"


def on_runtimes(subjects: Sequence[Subject], runtimes: Sequence[str]) -> list[Subject]:
    """Each subject on each runtime. Times are compared with the reference on the first runtime, its own there too."""
    first = runtimes[0]

    def on(subject: Subject, runtime: str) -> Subject:
        label = subject.reference[0] if subject.reference else subject.label
        is_itself = (label, first) == (subject.label, runtime)
        return replace(subject, runtime=runtime, reference=None if is_itself else (label, first))

    return [on(subject, runtime) for subject in subjects for runtime in runtimes]


def of_files(paths: Sequence[Path], reference: Path | None) -> list[Subject]:
    """Files on disk, all compared with `reference`, by default the first one.

    Raises ValueError if one is no exported model, or `reference` is none of them.
    """
    if len(set(paths)) < len(paths):
        raise ValueError(f"files must be distinct, got {', '.join(map(str, paths))}: name each once")
    if reference is not None and reference not in paths:
        raise ValueError(f"reference must be one of the files, got {str(reference)!r}: set reference={paths[0]}")
    labels = _labels_of(paths)
    first = labels[paths.index(reference or paths[0])]
    return [
        Subject(
            label=label,
            path=path.resolve(),
            sha256=sha256(_existing(path)),
            file_bytes=path.stat().st_size,
            image_shape=image_shape(path),
            reference=None if label == first else (first, LITERT),
        )
        for label, path in zip(labels, paths, strict=True)
    ]


def of_cells(cells: Sequence[RecordedCell], store: Store) -> list[Subject]:
    """The exported models of cells and of their baselines that the store has; equal files are one subject.

    Raises StoreError if an exported model is lost.
    """
    datasets = sorted({cell.dataset for cell in cells if cell.technique != BASELINE})
    among = [one for name in datasets for one in store.baselines(name)]
    baselines = baselines_of(cells, among)
    by_id = {cell.run_id: cell for cell in [*cells, *baselines.values()]}
    files = {run_id: store.exported_model(run_id) for run_id in by_id}
    hashes = {run_id: sha256(path) for run_id, path in files.items()}
    runs: dict[str, list[str]] = {}
    for run_id in sorted(by_id, key=lambda one: by_id[one].started):
        runs.setdefault(hashes[run_id], []).append(run_id)
    labels = _labels_of_cells(runs, by_id)
    subjects = []
    for sha, run_ids in runs.items():
        # The newest run of this exported model that has a baseline determines the reference.
        references = [hashes[baselines[one].run_id] for one in run_ids if one in baselines]
        references = [labels[one] for one in references if one != sha]
        subjects.append(
            Subject(
                label=labels[sha],
                path=files[run_ids[-1]],
                sha256=sha,
                file_bytes=files[run_ids[-1]].stat().st_size,
                image_shape=image_shape(files[run_ids[-1]]),
                runs=tuple(run_ids),
                reference=(references[-1], LITERT) if references else None,
            )
        )
    return subjects


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} must be a .tflite file, got no such file: correct its name")
    return path


def _labels_of(paths: Sequence[Path]) -> list[str]:
    """The shortest of stem, path without ending and path that no other file has."""
    stems, bare = [path.stem for path in paths], [str(path.with_suffix("")) for path in paths]

    def label(path: Path, stem: str, without_ending: str) -> str:
        if stems.count(stem) == 1:
            return stem
        return without_ending if bare.count(without_ending) == 1 else str(path)

    return list(map(label, paths, stems, bare))


def _labels_of_cells(runs: Mapping[str, Sequence[str]], cells: Mapping[str, RecordedCell]) -> dict[str, str]:
    named = {sha: f"{cells[ids[-1]].name} seed {cells[ids[-1]].seed}" for sha, ids in runs.items()}
    names = list(named.values())
    return {sha: name if names.count(name) == 1 else f"{name} {runs[sha][-1][:8]}" for sha, name in named.items()}
