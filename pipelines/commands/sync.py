"""Send finished cells that their store lacks, for example after a tracking server did not answer: `opscore sync`.

Searches the given folders (default: outputs/ and multirun/) for finished cells with an incomplete run, and sends what
the run lacks. The command may be repeated. A run that the store has lost is replaced by a new one, if the images of
the dataset are still those that the cell was computed with.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from pipelines.cells.compose import recorded_cell
from pipelines.commands import arguments
from pipelines.execution.preflight import loaded
from pipelines.results.folder import CellFiles, Finished
from pipelines.system import guard
from pipelines.system.guard import FAILURE
from pipelines.system.words import number_of
from pipelines.tracking.cell_run import RunReceipt
from pipelines.tracking.client import live_run
from pipelines.tracking.credentials import DATABASE_PASSWORD, HTTP_PASSWORD, HTTP_USER, VARIABLE
from pipelines.tracking.moved import address_of
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.tags import FOLDER


def with_receipts(folders: Sequence[Path]) -> Iterator[Path]:
    """The folders of finished cells that have the receipt of a run."""
    for folder in folders:
        # The receipt of `.` is in the folder above.
        for result in sorted(folder.resolve().rglob(CellFiles(Path()).result.name)):
            if RunReceipt.path(result.parent).exists():
                yield result.parent


def _receipt(folder: Path) -> RunReceipt:
    """Raises ValueError where the file is damaged."""
    path = RunReceipt.path(folder)
    try:
        return RunReceipt.load(path)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} must be the receipt of the cell's run, got a damaged file ({error}): run the cell again, "
            f"then delete {path}"
        ) from error


def send(folder: Path, receipt: RunReceipt) -> str:
    """Complete the run of the finished cell in `folder`; gives the run's id.

    Raises StoreError where the store refuses, ValueError or OSError where the cell's data cannot be loaded, or have
    changed and a new run would name them.
    """
    from pipelines.execution import figures
    from pipelines.tracking.store import Store

    finished = Finished.load(folder)
    cell = recorded_cell(finished.files.config)
    data = loaded(cell.dataset)
    store = Store(receipt.uri, receipt.experiment, of_run=receipt.run_id if _is_there(receipt) else None)
    have_changed = receipt.images != data.digest
    # The store may have been away for a moment.
    if have_changed and live_run(store.client, receipt.run_id) is None:
        raise ValueError(
            f"its run is lost, and a new one needs the images of {cell.dataset.name} as they were: put them back, or "
            "run the cell again"
        )
    if not have_changed and not finished.files.folder.joinpath("figures").exists():
        figures.draw(finished, data, folder / "figures")
    # The tags by which it is found are those that it had, not those that today's code and libraries give.
    keys = receipt.keys | {FOLDER: str(folder.resolve())}
    with store.resumed(receipt.run_id, cell, data, folder, keys=keys, images=receipt.images) as run:
        run.record(finished, data)
    run.record_breakdown(finished)
    return run.run_id


def _is_there(receipt: RunReceipt) -> bool:
    """Whether the store has the receipt's run, perhaps in an experiment that was renamed."""
    from pipelines.tracking.experiment import reading_client

    try:
        return live_run(reading_client(receipt.uri), receipt.run_id) is not None
    except Exception:  # noqa: BLE001 (opening the store says in a sentence what is wrong)
        return False


@click.command("sync", cls=arguments.Command, help=__doc__)
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def command(folders: tuple[Path, ...]) -> None:
    """Send what is missing, and print the number of cells."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sent = failed = 0
    # Each receipt finds them so: MLflow keeps there the store that was sent to last, and opscore its password.
    given = {name: os.environ.get(name) for name in (VARIABLE, HTTP_USER, HTTP_PASSWORD, DATABASE_PASSWORD)}
    for folder in with_receipts(folders or (Path("outputs"), Path("multirun"))):
        for name, value in given.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        try:
            receipt = _receipt(folder)
            if receipt.recorded:
                continue
            there = replace(receipt, uri=address_of(receipt.uri, receipt.run_id))
            check_reachable(there.uri)
            run_id = send(folder, there)
        except Exception as error:  # The clients of S3 and others raise their own, and the other cells are still sent.
            if guard.is_interrupt(error):
                raise
            print(f"opscore: {folder}: {guard.sentence(error)}", file=sys.stderr)
            failed += 1
        else:
            print(f"sent    {folder}  run {run_id}")
            sent += 1
    print(f"{number_of(sent, 'cell')} sent" + (f", {failed} could not be sent" if failed else ""))
    sys.exit(FAILURE if failed else 0)
