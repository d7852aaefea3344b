"""The command: compose with Hydra, check everything, run the cell, record it in MLflow."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

# What a cell needs is imported where it runs: `--help` and `--cfg` answer without NumPy.
if TYPE_CHECKING:
    from pipelines.cell import Cell
    from pipelines.datasets.base import Dataset, ImageData
    from pipelines.records import Finished
    from pipelines.tracking import Store

log = logging.getLogger("opscore")

CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = ("model", "dataset", "technique", "training", "measurement", "score")
# From the process that holds the sweep to the processes of its cells.
PARENT_RUN = "OPSCORE_PARENT_RUN_ID"
MISUSE, FAILURE = 2, 1
# What a cell raises when its configuration or its surroundings are at fault: the sentence is enough.
EXPECTED = (ValueError, OSError, FloatingPointError, RuntimeError)


def main() -> None:
    """Entry point of `python -m pipelines.run` and of `opscore`."""
    sys.argv[1:] = expand_overrides(sys.argv[1:])
    # MLflow's next start_run() would adopt this run, whichever cell it is for: it is handed over by name instead.
    adopted = os.environ.pop("MLFLOW_RUN_ID", None)
    if sys.argv[1:2] == ["--cell"]:
        sys.exit(_child(Path(sys.argv[2])))
    if sys.argv[1:] == ["--info", "compatibility"]:
        from pipelines.compatibility import Compatibility

        print(Compatibility.of(CONF).text())
        return
    statuses: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def task(config: DictConfig) -> None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            statuses.append(_in_child(config, adopted))
        else:
            statuses.append(_guarded(config, Path(HydraConfig.get().runtime.output_dir), run_id=adopted))

    task()
    failed = sum(status != 0 for status in statuses)
    if failed and len(statuses) > 1:
        print(f"opscore: {failed} of {len(statuses)} cells failed", file=sys.stderr)
    sys.exit(max(statuses, default=0))


def expand_overrides(arguments: list[str]) -> list[str]:
    """Split the one argument after `--overrides` as a shell would; all others stay.

    `mlflow run -P overrides="a=1 b=x,y"` hands over everything as a single argument.
    """
    if "--overrides" not in arguments:
        return arguments
    at = arguments.index("--overrides")
    given = arguments[at + 1] if at + 1 < len(arguments) else ""
    return arguments[:at] + shlex.split(given) + arguments[at + 2 :]


def cell_of(config: DictConfig) -> Cell:
    """Instantiate and check a composed configuration. Raises ValueError with one sentence."""
    from pipelines.cell import Cell

    try:
        parts = {group: instantiate(config[group], _convert_="all") for group in GROUPS}
    except InstantiationException as error:
        raise ValueError(str(error.__cause__ or error)) from error
    return Cell(**parts, seed=config.seed, deterministic=config.deterministic)


@cache
def loaded(dataset: Dataset) -> ImageData:
    """The dataset's images and labels, read once in a process."""
    return dataset.load()


def digest_of(dataset: Dataset) -> str:
    """The content of a dataset's splits, for fingerprints."""
    return loaded(dataset).digest


def execute(
    cell: Cell, store: Store, folder: Path, *, run_id: str | None = None, parent: str | None = None
) -> Finished:
    """Run and record one cell, after the cells that it needs: each of them is reused or run the same way.

    folder: receives one subfolder a cell. run_id: an open MLflow run to adopt for this cell.
    """
    from pipelines import figures, job

    needed = _needed(cell, store, folder, parent=parent)
    data, fingerprint = loaded(cell.dataset), cell.fingerprint(digest_of)
    place = folder / cell.name
    place.mkdir(parents=True)
    with store.run(cell, data, fingerprint, run_id=run_id, parent=parent) as run:
        finished = job.run(
            cell, data, place, fingerprint=fingerprint, needed=needed, on_epoch=run.on_epoch, say=log.info
        )
        log.info("%s: recording", cell.name)
        figures.draw(finished, data, place / "figures")
        run.record(finished, data)
        _tell(finished, store, run.run_id)
    return finished


def _needed(cell: Cell, store: Store, folder: Path, *, parent: str | None) -> dict[str, Finished]:
    """The finished cells of `cell.needs`, from the store or run now, and a source that is named by its run."""
    needed: dict[str, Finished] = {}
    source = cell.technique.learns_from
    if source is not None and source.uri is not None:
        needed["source"] = store.load(source.uri)
    by_fingerprint: dict[str, Finished] = {}
    for role, other in cell.needs.items():
        fingerprint = other.fingerprint(digest_of)
        if fingerprint not in by_fingerprint:
            finished = store.find(fingerprint)
            if finished is not None:
                log.info("%s: reused, trained in %.1f s", other.name, finished.result.timing.train_total_s)
            elif role == "source":
                # Another network may want oneDNN the other way, which is set once for a process.
                finished = _source_in_child(other, store, folder, fingerprint, parent=parent)
            else:
                finished = execute(other, store, folder, parent=parent)
            by_fingerprint[fingerprint] = finished
        needed[role] = by_fingerprint[fingerprint]
    return needed


def _source_in_child(cell: Cell, store: Store, folder: Path, fingerprint: str, *, parent: str | None) -> Finished:
    from pipelines.cell import parts_of

    place = folder / f"source-{fingerprint[:8]}"
    place.mkdir(parents=True)
    config = OmegaConf.create({**parts_of(cell), "tracking": {"uri": store.uri, "experiment": store.experiment}})
    log.info("%s: not in the store, so it is run first", cell.name)
    _run_child(config, place, parent)
    finished = store.find(fingerprint)
    if finished is None:
        raise RuntimeError(f"{cell.name}, which is to be learnt from, did not finish: see its message above")
    return finished


def _preflight(cell: Cell) -> None:
    """Raise what a cell, or one that it needs, would fail with, before anything is computed."""
    cell.dataset.preflight()
    cell.model.preflight(loaded(cell.dataset).image_shape)
    for role, other in cell.needs.items():
        if role == "source" or other.source is not None:
            _preflight(other)


def _guarded(config: DictConfig, folder: Path, *, run_id: str | None = None, parent: str | None = None) -> int:
    """Run the cell of `config`; gives the exit status. What the user can mend is told in one sentence."""
    from pipelines import tracking

    try:
        cell = cell_of(config)
        uri = tracking.tracking_uri(config.tracking.uri)
        tracking.check_reachable(uri)
        _preflight(cell)
    except (ValueError, OSError) as error:
        print(f"opscore: {error}", file=sys.stderr)
        return MISUSE
    try:
        store = tracking.Store(uri, config.tracking.experiment, beside=run_id or parent)
        execute(cell, store, folder, run_id=run_id, parent=parent)
    except EXPECTED as error:
        log.debug("traceback", exc_info=error)
        print(f"opscore: {cell.name} failed: {error}", file=sys.stderr)
        return FAILURE
    return 0


def _in_child(config: DictConfig, parent: str | None) -> int:
    """Run a sweep's cell in a process of its own: memory goes back, and oneDNN is set for its model.

    A grid holds pairs of technique and model that do not go together: they are left out and are no failure.
    """
    from pipelines.cell import IncompatibleError

    try:
        cell_of(config)
    except IncompatibleError as error:
        print(f"opscore: skipped: {error}", file=sys.stderr)
        return 0
    except ValueError as error:
        print(f"opscore: {error}", file=sys.stderr)
        return MISUSE
    return _run_child(config, Path(HydraConfig.get().runtime.output_dir), parent)


def _run_child(config: DictConfig, folder: Path, parent: str | None) -> int:
    resolved = folder / "cell.yaml"
    OmegaConf.save(config, resolved, resolve=True)
    environment = os.environ | ({PARENT_RUN: parent} if parent else {})
    command = [sys.executable, "-m", "pipelines.run", "--cell", str(resolved)]
    return subprocess.run(command, env=environment, check=False).returncode


def _child(resolved: Path) -> int:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("absl").setLevel(logging.WARNING)
    config: Any = OmegaConf.load(resolved)
    return _guarded(config, resolved.parent, parent=os.environ.get(PARENT_RUN))


def _tell(finished: Finished, store: Store, run_id: str) -> None:
    from pipelines.summary import table

    print(f"\n{table(finished.result)}\n")
    print(f"files   {finished.files.folder}")
    print(f"run     {store.link(run_id)}")
    if not store.uri.startswith("http"):
        print(f"UI      {'make ui' if store.embedded else f'mlflow ui --backend-store-uri {store.uri}'}")
    print(flush=True)


if __name__ == "__main__":
    main()
