"""Runs one requested cell in this process; also the entry point of the child that `cell_process` starts."""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.execution.cell_process import CHILD_OUTCOME, failed
from pipelines.execution.request import CellRequest
from pipelines.results.outcome import Outcome
from pipelines.system import guard, interpreter, runtime, stopwatch, terminal
from pipelines.system.places import CHECKOUT
from pipelines.tracking.address import EMBEDDED_URI

log = logging.getLogger("opscore")

if TYPE_CHECKING:
    from pipelines.execution.executor import Executed
    from pipelines.tracking.store import Store


def checked_store(request: CellRequest, *, adopted: str | None = None) -> Store:
    """Check all that can be checked before anything is computed, then open the store.

    adopted: the run that `mlflow run` opened, for the cell to take; its experiment replaces the configured one. Raises
    MisuseError, or StoreError where the store refuses.
    """
    from pipelines.execution.preflight import preflight
    from pipelines.tracking.artifacts import check_usable

    try:
        # During a sweep, a server may not answer for a while.
        check_usable(request.uri, patience_s=request.patience_s if request.sweep_id else 0)
        preflight(request.cell)
    except (ValueError, OSError) as error:
        raise guard.MisuseError(guard.message(error)) from error
    store = request.store(adopted=adopted)
    if request.sweep_id is None:
        store.close_dead()
    return store


def execute(request: CellRequest, store: Store, folder: Path, *, adopted: str | None = None) -> Executed:
    """Reuse the cell, or run and record it after the cells that it needs, and show it. adopted: as in `Executor`."""
    from pipelines.cells.plan import Plan
    from pipelines.execution.executor import Executor
    from pipelines.execution.preflight import digest_of

    request = replace(request, experiment=store.experiment)
    executor = Executor(store=store, request=request, folder=folder, adopted=adopted)
    executed = executor.execute(Plan.of(request.cell, digest_of))
    if not request.needed:
        _show(executed, store)
    return executed


def run_inline(request: CellRequest, folder: Path) -> Outcome:
    """Run a cell in this process; gives its outcome. Raises nothing but KeyboardInterrupt."""
    from pipelines.results.metrics import metrics_of

    name = request.cell.name
    try:
        store = checked_store(request)
        executed = execute(request, store, folder)
    except Exception as error:
        if guard.is_interrupt(error):
            raise KeyboardInterrupt from error
        message = guard.sentence(error, folder=folder)
        print(f"opscore: {name} failed: {message}", file=sys.stderr)
        return replace(failed(message, name), spent=stopwatch.total(stopwatch.current()))
    return Outcome(
        name=name,
        status="reused" if executed.files is None else "done",
        run_id=executed.run_id,
        metrics=metrics_of(executed.result) | _compared(executed, store),
        spent=stopwatch.total(stopwatch.current()),
    )


def _compared(executed: Executed, store: Store) -> dict[str, float]:
    """The metrics that a comparison gives the cell by its ratio to its baseline: a search decides by them.

    Empty where the store does not answer.
    """
    from pipelines.comparison.anchoring import anchored, headline

    try:
        own = store.cell(executed.run_id)
        (found,) = anchored([own], store.baselines(own.dataset))
    except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the cell has its own times)
        log.debug("the times of the cell's baseline could not be read: %s", error)
        return {}
    return headline(found)


def _show(executed: Executed, store: Store) -> None:
    """Print the result, and the places of its files and its run."""
    from pipelines.results.summary import table

    print(f"\n{table(executed.result)}\n")
    if executed.files is None:
        print("reused  finished before, nothing was computed; `resume=false` runs it again")
    else:
        print(f"files   {executed.files.folder}")
    print(f"run     {store.link(executed.run_id)}\nlist    {store.list_link}")
    if not store.uri.startswith("http"):
        print(f"UI      {_ui_command(store)}")
    print(flush=True)


def _ui_command(store: Store) -> str:
    """The shell command that shows the store in MLflow's UI."""
    if store.uri != EMBEDDED_URI or CHECKOUT is None:
        return f"mlflow ui --backend-store-uri {shlex.quote(store.uri)}"
    return "make ui" if Path.cwd() == CHECKOUT else f"make -C {shlex.quote(str(CHECKOUT))} ui"


@guard.command
def main() -> int:
    """The child: `python -m pipelines.execution.cell_main <folder>/cell.yaml`."""
    runtime.relax_gc()
    path = Path(sys.argv[1])
    # Its log may be on a full disk, and its terminal closed.
    with terminal.lasting():
        logging.basicConfig(
            stream=sys.stdout, level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S"
        )
        logging.getLogger("absl").setLevel(logging.WARNING)
        interpreter.search_working_folder()
        outcome = run_inline(CellRequest.load(path), path.parent)
        outcome.save(path.parent / CHILD_OUTCOME)
    return guard.FAILURE if outcome.status == "failed" else 0


if __name__ == "__main__":
    main()
