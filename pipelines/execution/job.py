"""The work on one cell: train, optimize, export, verify, measure and score. Uses neither Hydra nor MLflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.cells.cell import describe
from pipelines.execution import rehearsal
from pipelines.execution.export import export, rewrite
from pipelines.execution.scoring import cell_result
from pipelines.litert.delegation import delegation
from pipelines.litert.kernels import sparsity
from pipelines.litert.session import Result, measure
from pipelines.models import checkpoint, complexity, keras_loading
from pipelines.results import agreement
from pipelines.results.cell_result import Complexity, Timing
from pipelines.results.columns import FILE
from pipelines.results.folder import Build, CellFiles, Finished, Trained
from pipelines.results.json_record import in_json
from pipelines.results.metrics import why_unnamed
from pipelines.results.recorded_cell import BASELINE
from pipelines.system import machine, runtime
from pipelines.system.places import expanded
from pipelines.system.stopwatch import part
from pipelines.techniques.base import Candidate, Context, FileTechnique, Table
from pipelines.training import precision
from pipelines.training.trainer import OnEpoch, Trainer

if TYPE_CHECKING:
    import tf_keras

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData

# Fields of datasets and models that name a file or a folder, always and where they are no word such as `imagenet`.
_PATHS, _PATHS_OR_WORDS = ("path", "data_dir", "source_dir"), ("weights", "class_names")


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work on one cell, whose folder must exist and receives all its files.

    needed: finished cells by role, those of `cell.needs` and a `source` that is named by its run. on_epoch: called
    after each epoch. report: prints a line of progress.
    """

    cell: Cell
    data: ImageData
    files: CellFiles
    fingerprint: str
    needed: Mapping[str, Finished]
    on_epoch: OnEpoch
    report: Callable[[str], None]

    def run(self, *, trained: Finished | None, unfinished: CellFiles | None) -> Finished:
        """Do the steps that earlier attempts have not finished.

        trained: a finished cell of the same fingerprint; its exported model is only measured, for which `needed` may
        hold the baseline alone. unfinished: files of an earlier attempt at the same fingerprint, to go on from.
        Raises EffectError where the exported model does not show the technique's effect, FloatingPointError where
        training diverged, RuntimeError where measuring failed.
        """
        cell, files = self.cell, self.files
        _write_config(cell, files)
        runtime.configure(onednn=cell.model.onednn, deterministic=cell.deterministic)
        if trained is not None:
            self._report("trained already, so it is only measured")
            build = _reuse_build(trained, files)
        elif unfinished is not None and unfinished.build.exists():
            self._report(f"trained and exported before, in {unfinished.folder}, so it goes on with measuring")
            _copy((*unfinished.built, unfinished.build), files.folder)
            build = Build.load(files.build)
        else:
            build = self._build(unfinished)
        baseline = self.needed.get("baseline")
        measured = self._measure(baseline)
        result = cell_result(
            cell,
            self.data,
            fingerprint=self.fingerprint,
            build=build,
            measured=measured,
            delegation=delegation(files.exported_model),
            baseline=baseline,
        )
        self._save_table("classes", agreement.by_class(measured.confusion, self.data.class_names))
        result.save(files.result)
        # The result holds everything that these files do.
        for path in (files.trained, files.state, files.build):
            path.unlink(missing_ok=True)
        return Finished(result=result, files=files)

    def _report(self, text: str) -> None:
        self.report(f"{self.cell.name}: {text}")

    def _save_table(self, name: str, table: Mapping[str, Any]) -> None:
        self.files.tables.mkdir(exist_ok=True)
        (self.files.tables / f"{name}.json").write_text(in_json(table))

    def _save_tables(self, tables: Mapping[str, Table]) -> None:
        """Save a technique's tables. One that cannot be recorded must not cost the training."""
        for name, table in tables.items():
            if not re.fullmatch(r"[\w. -]{1,100}", str(name)):
                self.report(f"tables[{name!r}] of the technique must have a name that a file can have: it is left out")
                continue
            try:
                self._save_table(name, table)
            except (TypeError, ValueError) as error:
                self.report(f"tables[{name!r}] of the technique is left out: {error}")

    def _numbers(self, metrics: Mapping[str, object]) -> dict[str, float]:
        """A technique's metrics as floats, also those of TensorFlow, without what cannot be recorded."""
        found: dict[str, float] = {}
        for name, value in metrics.items():
            if why := why_unnamed(name):
                self.report(f"metrics[{name!r}] of the technique must {why}: it is left out; call it for example own/x")
                continue
            try:
                found[name] = float(value)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                kind = type(value).__name__
                self.report(f"metrics[{name!r}] of the technique must be a number, got {kind}: it is left out")
        return found

    def _measure(self, baseline: Finished | None) -> Result:
        # Two cells that are timed at once on one machine slow each other down.
        def on_wait() -> None:
            self._report("waiting, another cell is being measured")

        exported_model, test = self.files.exported_model, self.data.test
        with part("measure"), runtime.machine_lock("measuring", on_wait=on_wait):
            self._report(f"measuring {FILE.text(exported_model.stat().st_size)} kB on {len(test):,} test images")
            return measure(
                exported_model,
                reference=baseline.files.exported_model if baseline else None,
                images=test.images,
                labels=test.labels,
                settings=self.cell.measurement,
                seed=self.cell.seed,
                folder=self.files.folder,
            )

    def _build(self, unfinished: CellFiles | None) -> Build:
        """Train and export. Each is kept as soon as it is done, so that a later failure costs neither."""
        last = self.cell.technique.last
        build = self._rewritten(last) if isinstance(last, FileTechnique) else self._exported(unfinished)
        build.save(self.files.build)
        return build

    def _rewritten(self, technique: FileTechnique) -> Build:
        """Change the parent's exported model: neither is a network trained nor one converted."""
        exported_model, parent = self.files.exported_model, self.needed["parent"]
        started = time.perf_counter()
        with part("optimize"), rehearsal.named_failure(self.cell.technique.name):
            self._report("starting")
            done = rewrite(technique, parent.files.exported_model, self.data, exported_model, report=self._report)
        optimize_s = time.perf_counter() - started
        self._save_tables(done.tables)
        for name, document in done.documents.items():
            (self.files.folder / name).write_text(in_json(document))
        if technique is self.cell.technique:
            technique.verify_file(exported_model)
        else:
            # The effects of a chain's other steps are those that its network promises.
            self._prepare_networks()
            network = checkpoint.load(parent.files.checkpoint)
            self.cell.technique.verify(Candidate(model=network), exported_model)
        return Build(
            fingerprint=self.fingerprint,
            timing=self._timing(optimize_s=optimize_s),
            complexity=replace(parent.result.complexity, sparsity=sparsity(exported_model)),
            epochs=(),
            metrics=self._numbers(done.metrics),
            joules={},
            precision=self.cell.precision,
            notes=done.notes,
        )

    def _prepare_networks(self) -> None:
        """Load TensorFlow, and teach it the layers of the models whose checkpoints this cell reads."""
        runtime.prepare(onednn=self.cell.model.onednn, deterministic=self.cell.deterministic)
        for of in (self.cell, *self.cell.needs.values()):
            of.model.register()
        if "source" in self.needed:  # which may be a run of any model
            register_layers(self.needed["source"].files)

    def _exported(self, unfinished: CellFiles | None) -> Build:
        self._prepare_networks()
        runtime.start_devices()
        if unfinished is not None:
            self._report(f"trained before, in {unfinished.folder}, so it goes on with exporting")
            candidate, trained = self._resume_training(unfinished)
        else:
            self._report("starting")
            candidate, trained = self._train()
        self._report("exporting")
        exported_model = self.files.exported_model
        with part("convert"):
            started = time.perf_counter()
            with rehearsal.named_layers(self.cell.technique.name, candidate):
                export(candidate, self.data, exported_model)
            convert_s = time.perf_counter() - started
            self.cell.technique.verify(candidate, exported_model)
        return Build(
            fingerprint=self.fingerprint,
            timing=self._timing(
                optimize_s=trained.optimize_s,
                convert_s=convert_s,
                train_s=trained.train_s,
                machines=[trained.machine] if trained.train_s else [],
            ),
            complexity=Complexity(
                parameters=complexity.parameters(candidate.model),
                macs=complexity.macs(candidate.model),
                sparsity=sparsity(exported_model),
            ),
            epochs=trained.epochs,
            metrics=trained.metrics,
            joules=trained.joules,
            precision=trained.precision,
            notes=trained.notes,
        )

    def _timing(
        self, *, optimize_s: float, convert_s: float = 0.0, train_s: float = 0.0, machines: Sequence[str] = ()
    ) -> Timing:
        """machines: those of the cell's own training."""
        return Timing(
            train_s=train_s,
            train_total_s=self._train_total_s(train_s),
            optimize_s=optimize_s,
            convert_s=convert_s,
            trained_on=self._trained_on(machines),
            shared_s=self._shared_s(),
        )

    def _train_total_s(self, own_s: float) -> float | None:
        """All training that led to the exported model; None where a part of it is unknown."""
        parts = [self.needed[role].result.timing.train_total_s for role in ("parent", "source") if role in self.needed]
        # A parent's total holds the training before any cell already.
        if "parent" not in self.needed:
            parts.append(self.cell.model.trained_s)
        known = [part for part in parts if part is not None]
        return own_s + sum(known) if len(known) == len(parts) else None

    def _shared_s(self) -> float | None:
        """The training of the baseline that the cell continues; 0 where it continues none, None where it is unknown."""
        if "parent" not in self.needed:
            return 0.0
        parent = self.needed["parent"].result
        return parent.timing.train_total_s if parent.technique == BASELINE else parent.timing.shared_s

    def _trained_on(self, own: Sequence[str]) -> str:
        """The machines of all training that led to the exported model; empty where one is unknown."""
        before = (self.needed[role].result.timing for role in ("parent", "source") if role in self.needed)
        parts = [*own, *(timing.trained_on for timing in before)]
        return "; ".join(sorted({one for part in parts for one in part.split("; ")})) if all(parts) else ""

    def _train(self) -> tuple[Candidate, Trained]:
        cell, files = self.cell, self.files
        runtime.seed_everything(cell.seed, deterministic=cell.deterministic)
        trainer = trainer_of(cell, self.data, on_epoch=self.on_epoch)
        if cell.model.unproven and not (cell.model.trained and cell.baseline is None):
            quiet = replace(self, report=lambda _: None)
            rehearsal.rehearse(cell.technique, quiet._optimize, trainer, own=cell.model.is_of_user)
            runtime.forget_networks()
            runtime.seed_everything(cell.seed, deterministic=cell.deterministic)
        started = time.perf_counter()
        candidate = self._optimize(trainer)
        optimize_s = time.perf_counter() - started
        self._save_tables(candidate.tables)
        trained = Trained(
            fingerprint=self.fingerprint,
            train_s=trainer.seconds,
            optimize_s=optimize_s,
            epochs=tuple(trainer.epochs),
            metrics=self._numbers(candidate.metrics),
            joules=trainer.joules,
            precision=cell.precision,
            notes=trainer.notes,
            machine=runtime.trained_on(),
        )
        with part("record"):
            # The state of the trainer's `legacy` optimizers is no part of a `.keras` file.
            candidate.model.save(files.checkpoint)
            state = cell.technique.last.state(candidate)
            if state is not None:
                np.savez(files.state, *state)
                trained.save(files.trained)
        return candidate, trained

    def _resume_training(self, unfinished: CellFiles) -> tuple[Candidate, Trained]:
        """The trained candidate of an attempt that failed before its export."""
        trained, files = Trained.load(unfinished.trained), self.files
        _copy((unfinished.checkpoint, unfinished.tables, unfinished.state, unfinished.trained), files.folder)
        with np.load(files.state) as arrays:
            state = [arrays[f"arr_{at}"] for at in range(len(arrays.files))]
        candidate = self.cell.technique.last.resumed(checkpoint.load(files.checkpoint), state)
        return replace(candidate, metrics=trained.metrics), trained

    def _optimize(self, trainer: Trainer) -> Candidate:
        parent, source, baseline = (self.needed.get(role) for role in ("parent", "source", "baseline"))
        with part("build"):
            if parent is not None:
                model = checkpoint.load(parent.files.checkpoint)
            else:
                model = network_of(self.cell, self.data)
                self.cell.model.arrange(model, self.data.class_names)
        # The checkpoint, the exported model and what the converter makes of it, each of 4 bytes a weight at most.
        machine.check_room(self.files.folder, 12 * complexity.parameters(model), self.cell.name)
        if source is not None and self.cell.source is None:
            self.report(
                f"{source.result.name} was named by its run; the accuracy here counts if its training did not use "
                "these test images"
            )
        with part("optimize"):
            model_of = self.cell.model
            context = Context(
                trainer=trainer,
                source=source,
                baseline=baseline,
                trained=model_of.trained,
                other_pixels=model_of.other_pixels if model_of.trained else {},
                report=self.report,
            )
            candidate = self.cell.technique.apply(Candidate(model=model), context)
            return replace(candidate, model=checkpoint.as_float32(candidate.model))


def network_of(cell: Cell, data: ImageData) -> tf_keras.Model:
    """The network that a cell without parent trains, computing in the cell's precision."""
    with precision.policy(cell.precision):
        return cell.model.build(data.image_shape, len(data.class_names))


def trainer_of(cell: Cell, data: ImageData, *, on_epoch: OnEpoch) -> Trainer:
    """The trainer of a cell, at the cell's learning rate."""
    settings = replace(cell.training, learning_rate=cell.learning_rate)
    return Trainer(settings=settings, data=data, dataset=cell.dataset, seed=cell.seed, on_epoch=on_epoch)


def rename(cell: Cell, finished: Finished, folder: Path, *, report: Callable[[str], None]) -> Finished:
    """Copy a finished cell of the same result key into `folder` under the names of `cell`. Nothing is computed."""
    report(f"{cell.name}: finished before as {finished.result.name}, so it is only recorded under its new name")
    shutil.copytree(finished.files.folder, folder, dirs_exist_ok=True)
    files = CellFiles(folder)
    _write_config(cell, files)
    result = replace(finished.result, model=cell.model.name, dataset=cell.dataset.name)
    result.save(files.result)
    return Finished(result=result, files=files)


def register_layers(files: CellFiles) -> None:
    """Make the layers of the user's own in a finished cell's model known to tf_keras, to load its checkpoint."""
    module = json.loads(files.config.read_text())["model"].get("custom_objects")
    if module is not None:
        keras_loading.register(module)


def _write_config(cell: Cell, files: CellFiles) -> None:
    files.config.write_text(in_json(_located(describe(cell))))


def _located(described: Any, field: str = "") -> Any:
    """A description with absolute paths: `opscore sync` may read it in another folder."""
    if isinstance(described, dict):
        return {name: _located(value, name) for name, value in described.items()}
    if field not in (*_PATHS, *_PATHS_OR_WORDS) or not isinstance(described, str):
        return described
    path = os.path.abspath(expanded(described))  # noqa: PTH100 (as the datasets do)
    return path if field in _PATHS or Path(path).is_file() else described


def _reuse_build(trained: Finished, files: CellFiles) -> Build:
    _copy(trained.files.built, files.folder)
    # A result has every field of its build.
    return Build(**{one.name: getattr(trained.result, one.name) for one in fields(Build)})


def _copy(paths: Sequence[Path], folder: Path) -> None:
    """Copy the files and folders that exist."""
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path.exists():
            shutil.copy2(path, folder)
