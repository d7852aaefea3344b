"""Measure what 8 bits do to each layer of a recorded cell: `opscore layers --run ID`.

Quantizes one layer at a time of the cell's exported model, of its parent cell's if its own is quantized, and compares
the answers to 200 validation images. Prints the layers, the most sensitive first, and writes `sensitivity.json`,
`sensitivity.png` and `model_explorer.json` into `out`. Takes seconds to minutes; nothing is trained or recorded.

  opscore layers run=8e32d872e055418bbb358505255bf35d out=layers
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cells.compose import recorded_cell
from pipelines.cells.plan import Plan
from pipelines.commands import arguments
from pipelines.execution.preflight import digest_of, loaded
from pipelines.litert.exported_model import tensor_dtypes
from pipelines.quantization import sensitivity
from pipelines.results.files import EXPLORER
from pipelines.results.tables import aligned
from pipelines.system import runtime
from pipelines.system.errors import StoreError
from pipelines.system.guard import MisuseError

if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.results.folder import Finished
    from pipelines.tracking.store import Store

CALIBRATION_IMAGES = 200


def float_cell(store: Store, run_id: str) -> tuple[Cell, Finished]:
    """The cell of a run with its files, or its parent cell where the exported model is quantized.

    Raises ValueError where there is no float file, StoreError where the run is no finished cell.
    """
    finished = store.open(run_id)
    cell = recorded_cell(finished.files.config)
    if tensor_dtypes(finished.files.exported_model).keys() & {"int8", "float16"}:
        found = _parent(store, run_id, cell)
        if found is None:
            raise ValueError(
                f"run must name a cell with an exported model of float32, got {finished.result.name}, whose parent "
                "cell is not in the store: name the run of its baseline"
            )
        return float_cell(store, found)
    return cell, finished


def _parent(store: Store, run_id: str, cell: Cell) -> str | None:
    """The run of a cell's parent; None where the store has none."""
    needs = cell.needs
    # The run names its baseline, whatever code and libraries trained it.
    if "parent" in needs and needs["parent"] == needs.get("baseline") and (recorded := store.cell(run_id).baseline):
        return store.find(fingerprint=recorded)
    parent = Plan.of(cell, digest_of).needs.get("parent")
    return store.find(fingerprint=parent.fingerprint) if parent else None


def measured(cell: Cell, finished: Finished, *, digest: str) -> list[sensitivity.Sensitivity]:
    """The sensitivity of each layer of a cell's float file. digest: begins that of the cell's test images.

    Raises ValueError where the dataset has other images now.
    """
    from pipelines.quantization.calibration import calibrated, chosen

    # The libraries' greetings are held back, and the progress is not.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1) as terminal, runtime.without_greetings():
        data, flatbuffer = loaded(cell.dataset), finished.files.exported_model.read_bytes()
        if not data.test.digest.startswith(digest):
            raise ValueError(
                f"the images of {cell.dataset.name} must be those that {finished.result.name} was tested on, got "
                "others: put them back, or run the cell again and name its new run"
            )
        runtime.configure(onednn=cell.model.onednn, deterministic=cell.deterministic)
        ranges = calibrated(flatbuffer, chosen(data.train, CALIBRATION_IMAGES))
        return sensitivity.of_8_bits(
            flatbuffer, ranges, data.validation, report=lambda line: print(line, file=terminal)
        )


def written(columns: dict[str, list[Any]], out: Path) -> list[Path]:
    """Write the three files into a folder."""
    from pipelines.execution import figures

    out.mkdir(parents=True, exist_ok=True)
    documents = {"sensitivity.json": columns, EXPLORER: sensitivity.model_explorer(columns)}
    for name, document in documents.items():
        (out / name).write_text(json.dumps(document, indent=2) + "\n")
    figures.save(lambda: figures.sensitivity_bars(columns), out / "sensitivity.png")
    return [path for name in (*documents, "sensitivity.png") if (path := out / name).is_file()]


@click.command("layers", cls=arguments.WordCommand, help=__doc__)
@arguments.setting("--run", metavar="ID", help="Of a cell's run; must be given.")
@arguments.OUT(default="opscore-layers", show_default=True, help="For the files.")
@arguments.STORE()
def command(run: str | None, out: Path, uri: str | None) -> None:
    """Measure, print and write."""
    from pipelines.tracking.experiment import reading_client
    from pipelines.tracking.store import Store

    if not run:
        raise MisuseError("run must be given, got none: set run= to the id of a cell's run")
    # A link, or `runs:/<id>`, ends with it.
    found_id = re.search(r"(?:^|/)([0-9a-f]{32})$", run)
    if found_id is None:
        raise MisuseError(
            f"run must be the whole id of a run, of 32 characters, got {run!r}: it is the end of the cell's link "
            "(`run`), and in MLflow's UI"
        )
    run = found_id[1]
    with arguments.checked():
        address = arguments.open_address(uri)
        reading_client(address)
    try:
        store = Store(address, "", of_run=run, create=False)
        cell, finished = float_cell(store, run)
        digest = store.cell(run).digest
    except StoreError as error:
        raise StoreError(f"run must be the id of a finished cell in {address}, got {run!r} ({error})") from error
    found = measured(cell, finished, digest=digest)
    columns = sensitivity.table(found)
    rows = zip(*(columns[name] for name in ("layer", "operator", "weights", "snr_db", "accuracy_change")), strict=True)
    heading = ("layer", "operator", "weights", "SNR dB", "points")
    cells = [
        (layer, kind, f"{count:,}", f"{snr:.1f}", f"{100 * change:+z.1f}") for layer, kind, count, snr, change in rows
    ]
    print(f"{finished.result.name}, one layer alone in 8 bits\n\n{aligned([heading, *cells])}\n")
    print(*written(columns, out), sep="\n")
