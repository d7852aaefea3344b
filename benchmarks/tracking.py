"""What tracking adds to a cell: seconds to create its run, log everything and end it, and milliseconds an epoch.

    python -m benchmarks.tracking [--models small_cnn resnet50] [--epochs 30] [--repeats 5] [--server]

A cell is run once for each model, with the command. Then its run is made again and again from the finished files, by
what every cell does: opened and named with tags, parameters and datasets; one call an epoch; metrics, note, folder,
tables and the pyfunc model at the end. The store is SQLite; `--server` adds PostgreSQL and MLflow's server on this
machine. MLflow's own import is timed apart. Figures are the least, then the median. A whole run has ten epochs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from hydra import compose, initialize_config_dir

from benchmarks.images import random_npz
from benchmarks.overhead import VALIDATION, cell_command, new_store
from pipelines.cells.cell import Cell
from pipelines.cells.compose import CONF, cell_of
from pipelines.execution.preflight import loaded
from pipelines.results.folder import Finished
from pipelines.tracking.store import Store

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("open and start", "an epoch", "record and end")
# Of a cell of a minute.
EPOCHS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["small_cnn", "resnet50"])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # a line each run amid the table
    # Not in TMPDIR: the user nobody, as whom root starts PostgreSQL, must be able to enter.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        data, fraction = random_npz(folder, training=640, validation=VALIDATION, test=1000)
        stores = {"SQLite": new_store(folder)}
        if arguments.server:
            from tests.servers import free_port, serving

            served = folder / "server"
            served.mkdir(mode=0o755)
            stores["server"] = stack.enter_context(serving(served, free_port())).uri
        print(f"import of MLflow and opening SQLite: {_import_s(stores['SQLite']):.2f} s\n")
        print("| model | files | store | open and start | an epoch | record and end | whole run | of a minute |")
        print("|---|---|---|---|---|---|---|---|")
        for model in arguments.models:
            place = folder / model
            command = cell_command(model, (data, fraction), epochs=1, store=stores["SQLite"], folder=str(place))
            subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
            (result,) = place.glob("*/result.json")
            cell, finished = _cell(command[4:]), Finished.load(result.parent)
            size = sum(path.stat().st_size for path in result.parent.rglob("*") if path.is_file())
            for kind, uri in stores.items():
                _tell(
                    f"| {model} | {size / 1e6:.1f} MB | {kind}",
                    [_timed(cell, finished, Store(uri, "opscore"), arguments.epochs) for _ in range(arguments.repeats)],
                )


def _tell(what: str, taken: list[dict[str, float]]) -> None:
    best = {part: min(one[part] for one in taken) for part in PARTS}
    middle = {part: median(one[part] for one in taken) for part in PARTS}
    whole = [one["open and start"] + EPOCHS * one["an epoch"] + one["record and end"] for one in taken]
    print(
        f"{what} | {best['open and start'] * 1e3:.0f} ms ({middle['open and start'] * 1e3:.0f}) "
        f"| {best['an epoch'] * 1e3:.1f} ms ({middle['an epoch'] * 1e3:.1f}) "
        f"| {best['record and end']:.2f} s ({middle['record and end']:.2f}) "
        f"| {min(whole):.2f} s ({median(whole):.2f}) | {min(whole) / 60:.1%} ({median(whole) / 60:.1%}) |",
        flush=True,
    )


def _import_s(uri: str) -> float:
    """Seconds, the least of three, of what a process pays once."""
    code = "import time; t = time.perf_counter(); from pipelines.tracking.store import Store"
    code += f"; Store({uri!r}, 'opscore'); print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    return min(
        float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout) for _ in range(3)
    )


def _cell(overrides: list[str]) -> Cell:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return cell_of(compose("config", overrides))


def _timed(cell: Cell, finished: Finished, store: Store, epochs: int) -> dict[str, float]:
    """Seconds of each part of `PARTS`."""
    data = loaded(cell.dataset)
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        with store.run(cell, data, Path(place) / "cell", keys={}) as run:
            opened = time.perf_counter()
            for epoch in range(epochs):
                run.on_epoch(epoch + 1, finished.result.epochs[0])
            logged = time.perf_counter()
            run.record(finished, data)
        ended = time.perf_counter()
    return dict(zip(PARTS, (opened - started, (logged - opened) / epochs, ended - logged), strict=True))


if __name__ == "__main__":
    main()
