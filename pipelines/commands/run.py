"""The command: compose with Hydra, check everything, run the cell or the grid, record it in MLflow."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipelines.cells.compose import CONF, cell_of
from pipelines.execution import folders, grid, overrides, sweep
from pipelines.execution.sweep import Ticket
from pipelines.results.records import Outcome
from pipelines.system import guard, runtime
from pipelines.tracking.credentials import concealed

# What a cell needs is imported where it runs: `--help` and `--cfg` answer without NumPy.
if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.execution.executor import Executed
    from pipelines.tracking.store import Store

log = logging.getLogger("opscore")


@guard.command
def main() -> int | None:
    """Entry point of `python -m pipelines.run` and of `opscore`."""
    runtime.collect_seldom()
    # MLflow's next start_run() would adopt this run, whichever cell it is for: it is handed over by name instead.
    adopted = os.environ.pop("MLFLOW_RUN_ID", None)
    if sys.argv[1:2] == ["--cell"]:
        return _child(Path(sys.argv[2]))
    if sys.argv[1:] == ["--info", "compatibility"]:
        from pipelines.cells.compatibility import Compatibility

        print(Compatibility.of(CONF).text())
        return None
    # Hydra writes its command line into files: no password stays in it.
    sys.argv[1:] = overrides.prepared(concealed(overrides.expand(sys.argv[1:])))
    sweep.ADOPTED.extend([adopted] if adopted else [])
    return _composed(adopted)


def _composed(adopted: str | None) -> int:
    """Let Hydra compose and start the cell or the grid; gives the exit status."""
    # Filled before the first job of a multirun. A launcher that sends `task` to another process sends it along.
    tickets = sweep.TICKETS
    statuses: list[int] = []
    began: list[Path] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def task(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return sweep.run_cell(config, tickets[0], inline=run_inline)
        began.append(Path(HydraConfig.get().runtime.output_dir))
        statuses.append(_single(config, began[0], run_id=adopted))
        return None

    error: BaseException | None = None
    try:
        with _hydra_raises():
            task()
    except BaseException as raised:
        if not sweep.CURRENT:
            raise _as_misuse(raised, began=bool(began)) from raised
        error = raised
    statuses.extend(running.finish(error) for running in sweep.CURRENT)
    return max(statuses, default=0)


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise what it otherwise prints with a traceback before it ends the process."""
    os.environ[guard.SHOW_TRACEBACK] = "1"
    try:
        yield
    finally:
        if not guard.ASKED:
            del os.environ[guard.SHOW_TRACEBACK]


def _as_misuse(error: BaseException, *, began: bool) -> BaseException:
    """What Hydra raised before any cell or sweep began, as one sentence on the configuration."""
    if isinstance(error, sweep.NoSweepError):
        (error,) = error.args
        # A store that refuses is among the last.
        if isinstance(error, ValueError | OSError | RuntimeError) and not isinstance(error, HydraException):
            return guard.MisuseError(guard.sentence(error))
    if began or not isinstance(error, Exception) or isinstance(error, guard.MisuseError):
        return error
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return guard.MisuseError(
            f"hydra.run.dir, or hydra.sweep.dir of a grid, must be a folder that can be written, got {error.filename} "
            f"({error.strerror}): set hydra.run.dir=outputs/mine, or hydra.sweep.dir= with -m"
        )
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError | TypeError | AttributeError):
        from pipelines.commands.mistakes import explained

        return guard.MisuseError(explained(error, sys.argv[1:]))
    return error


def run_inline(config: DictConfig, folder: Path, ticket: Ticket) -> Outcome:
    """Run a sweep's cell in this process and say what became of it."""
    from pipelines.results.metrics import metrics_of
    from pipelines.system import stopwatch

    name = ""
    try:
        cell, store = _checked(config, ticket)
        name = cell.name
        executed = _execute(cell, store, folder, patience_s=config.tracking.patience_s, ticket=ticket)
    except Exception as error:
        if guard.is_interrupted():
            raise KeyboardInterrupt from error
        message = guard.sentence(error, folder=folder)
        print(f"opscore: {name or 'the cell'} failed: {message}", file=sys.stderr)
        return replace(sweep.failed(message, name), spent=stopwatch.total(stopwatch.current()))
    return Outcome(
        number=-1,
        name=name,
        overrides=(),
        status="reused" if executed.reused else "done",
        seconds=0,
        run_id=executed.run_id,
        metrics=metrics_of(executed.result),
        spent=stopwatch.total(stopwatch.current()),
    )


def _single(config: DictConfig, folder: Path, *, run_id: str | None) -> int:
    """Run the one cell that was asked for; gives the exit status. What the user can mend is told in one sentence."""
    name = ""
    try:
        cell, store = _checked(config, None, run_id=run_id)
        _claim(folder)
        name = cell.name
        _execute(
            cell,
            store,
            folder,
            patience_s=config.tracking.patience_s,
            run_id=run_id,
            since=0 if config.resume else int(time.time() * 1e3),
        )
    except BaseException as error:  # noqa: BLE001 (it becomes the status)
        return guard.report(error, name=name if not isinstance(error, guard.MisuseError) else "", folder=folder)
    return 0


def _claim(folder: Path) -> None:
    try:
        folders.claim(folder, "hydra.run.dir")
    except (ValueError, OSError) as error:
        raise guard.MisuseError(str(error)) from error


def _checked(config: DictConfig, ticket: Ticket | None, *, run_id: str | None = None) -> tuple[Cell, Store]:
    """The cell and the open store. Raises MisuseError with what can be known before anything is computed."""
    from pipelines.execution.executor import preflight
    from pipelines.tracking.address import check_reachable, tracking_uri
    from pipelines.tracking.artifacts import check_place

    try:
        sweep.check_settings(config)
        if ticket is None and HydraConfig.initialized():
            grid.check_single()
        cell = cell_of(config)
        uri = ticket.uri if ticket else tracking_uri(config.tracking.uri)
        # In the middle of a sweep a server may be away for a while.
        check_reachable(uri, patience_s=config.tracking.patience_s if ticket else 0)
        check_place(uri)
        preflight(cell)
    except (ValueError, OSError) as error:
        raise guard.MisuseError(str(error)) from error

    from pipelines.tracking.store import Store

    if ticket is not None:
        return cell, Store(uri, ticket.experiment, beside=ticket.parent)
    store = Store(uri, config.tracking.experiment, beside=run_id)
    store.close_dead()
    return cell, store


def _execute(
    cell: Cell,
    store: Store,
    folder: Path,
    *,
    patience_s: float,
    run_id: str | None = None,
    ticket: Ticket | None = None,
    since: int = 0,
) -> Executed:
    from pipelines.execution.executor import Executor

    def in_child(other: Cell, place: Path) -> None:
        from pipelines.cells.cell import parts_of

        settings = {"tracking": {"uri": store.uri, "experiment": store.experiment, "patience_s": patience_s}}
        passed_on = {"resume": True, "sweep": {"isolation": "process", "timeout_s": None, "threads": None}}
        own = {"ticket": vars(ticket)} if ticket else {}
        config = OmegaConf.create(parts_of(other) | settings | passed_on | own)
        OmegaConf.save(config, place / "cell.yaml")
        command = [sys.executable, "-m", "pipelines.run", "--cell", str(place / "cell.yaml")]
        with subprocess.Popen(command, env=guard.child_environment()) as child:
            try:
                child.wait()
            except KeyboardInterrupt:
                # It got the interrupt too, and closes its run.
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=sweep.GRACE_S)
                child.kill()
                raise

    executor = Executor(
        store=store,
        folder=folder,
        parent=ticket.parent if ticket else None,
        since=ticket.since if ticket else since,
        patience_s=patience_s,
        in_child=in_child,
        tell=lambda executed: _tell(executed, store),
    )
    return executor.execute(cell, run_id=run_id)


def _child(resolved: Path) -> int:
    """A cell in a process of its own, as `sweep.run_cell` and `_execute` ask for it."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("absl").setLevel(logging.WARNING)
    config: Any = OmegaConf.load(resolved)
    ticket = Ticket(**config.pop("ticket")) if "ticket" in config else None
    if ticket is None:
        return _single(config, resolved.parent, run_id=None)
    outcome = run_inline(config, resolved.parent, ticket)
    sweep.leave(outcome, resolved.parent, name=sweep.CELL_OUTCOME)
    return guard.FAILURE if outcome.status == "failed" else 0


def _tell(executed: Executed, store: Store) -> None:
    from pipelines.results.summary import table

    print(f"\n{table(executed.result)}\n")
    if executed.files is None:
        print("reused  finished before, nothing was computed; `resume=false` runs it again")
    else:
        print(f"files   {executed.files.folder}")
    print(f"run     {store.link(executed.run_id)}")
    print(f"list    {store.list_link}")
    if not store.uri.startswith("http"):
        print(f"UI      {_ui(store)}")
    print(flush=True)


def _ui(store: Store) -> str:
    """The command that shows the store, to be pasted into a shell."""
    from pipelines.system.places import CHECKOUT

    if not store.embedded or CHECKOUT is None:
        return f"mlflow ui --backend-store-uri {shlex.quote(store.uri)}"
    return "make ui" if Path.cwd() == CHECKOUT else f"make -C {shlex.quote(str(CHECKOUT))} ui"
