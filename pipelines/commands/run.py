"""`opscore run` and `opscore sweep`: compose with Hydra, check everything, run the cell or the grid and record it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipelines.cells.cell import Cell
from pipelines.cells.compose import CONF, cell_of
from pipelines.commands import arguments
from pipelines.execution import folders, grid, overrides, sweep
from pipelines.execution.cell_main import checked_store, execute
from pipelines.execution.request import CellRequest
from pipelines.execution.settings import check_settings
from pipelines.execution.sweep_cell import run_cell
from pipelines.system import guard, machine, runtime, terminal
from pipelines.system.words import one_line
from pipelines.tracking.address import tracking_uri
from pipelines.tracking.client import retries
from pipelines.tracking.credentials import concealed


@guard.command
def main() -> int | None:
    """Run the cell or the grid that the arguments describe."""
    # Taken out, because MLflow's next start_run() would adopt this run for whichever cell comes first.
    adopted = os.environ.pop("MLFLOW_RUN_ID", None)
    if (others := without_info(sys.argv[1:])) is not None:
        _show_compatibility(others)
        return None
    # Hydra writes its command line into files, so passwords are taken out of it.
    sys.argv[1:] = overrides.prepared(concealed(overrides.expand(sys.argv[1:])))
    sweep.SESSION.adopted = adopted
    with terminal.lasting():
        return _composed(adopted)


def without_info(words: list[str]) -> list[str] | None:
    """The words but `--info compatibility` or `--info=compatibility`; None where neither is among them."""
    for option in (["--info", "compatibility"], ["--info=compatibility"]):
        for at in range(len(words)):
            end = at + len(option)
            if words[at:end] == option:
                return words[:at] + words[end:]
    return None


def _show_compatibility(words: list[str]) -> None:
    """Print which technique takes which model or, where overrides choose a model, which technique takes that one."""
    from pipelines.cells.compatibility import Compatibility
    from pipelines.execution import file_compatibility

    # Several techniques are no grid here.
    choice = "technique="
    names = [name for word in words if word.startswith(choice) for name in word.removeprefix(choice).split(",")]
    others = [word for word in words if not word.startswith(choice)]
    words = overrides.for_compose(overrides.prepared(concealed(overrides.expand(others)), shows=True))
    try:
        for line in file_compatibility.lines(words, names) if words or names else [Compatibility.of(CONF).text()]:
            print(line, flush=True)
    except YAMLError as error:
        raise _no_yaml(error) from error
    except (HydraException, OmegaConfBaseException) as error:
        from pipelines.commands.mistakes import explained

        chosen = [f"{choice}{','.join(names)}"] if names else []
        raise guard.MisuseError(explained(error, [*words, *chosen])) from error
    except ValueError as error:
        raise guard.MisuseError(str(error)) from error


def _composed(adopted: str | None) -> int:
    """Let Hydra compose and start the cell or the grid; gives the exit status."""
    # A launcher that sends `task` to another process also sends the session.
    session = sweep.SESSION
    statuses: list[int] = []
    began: list[Path] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def task(config: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            assert session.context is not None
            return run_cell(config, session.context)
        began.append(Path(HydraConfig.get().runtime.output_dir))
        statuses.append(_single(config, began[0], adopted=adopted))
        return None

    error: BaseException | None = None
    try:
        with _hydra_raises():
            task()
    except BaseException as raised:
        if session.sweep is None:
            raise _as_misuse(raised, began=bool(began)) from raised
        error = raised
    if session.sweep is not None:
        statuses.append(session.sweep.finish(error, _why(error)))
    return max(statuses, default=0)


def _why(error: BaseException | None) -> str:
    """Why a sweep was broken off, in a sentence; empty where it was not, or the user did it."""
    if error is None or guard.is_interrupt(error):
        return ""
    if isinstance(error, HydraException | OmegaConfBaseException):
        from pipelines.commands.mistakes import explained

        return explained(error, sys.argv[1:])
    return guard.sentence(error)


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise what it otherwise prints with a traceback before it ends the process."""
    ours = {} if guard.TRACEBACK_REQUESTED else dict.fromkeys((guard.SHOW_TRACEBACK, guard.FOR_HYDRA), "1")
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _as_misuse(error: BaseException, *, began: bool) -> BaseException:
    """The error that Hydra raised before any cell or sweep began, as one sentence on the configuration."""
    if isinstance(error, sweep.NoSweepError):
        (error,) = error.args
        # RuntimeError includes StoreError.
        if isinstance(error, ValueError | OSError | RuntimeError) and not isinstance(error, HydraException):
            return guard.MisuseError(guard.sentence(error))
    if isinstance(error, YAMLError):
        return _no_yaml(error)
    if began or not isinstance(error, Exception) or isinstance(error, guard.MisuseError | BrokenPipeError):
        return error
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        # Another folder on a full disk is no mend.
        return guard.MisuseError(guard.sentence(error) if error.errno in machine.DISK_FULL else _no_folder(error))
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError | TypeError | AttributeError):
        from pipelines.commands.mistakes import explained

        return guard.MisuseError(explained(error, sys.argv[1:]))
    return error


def _no_folder(error: OSError) -> str:
    from pipelines.tracking.artifacts import free_folder

    own = shlex.quote(f"hydra.run.dir={free_folder('opscore-outputs')}")
    return (
        f"hydra.run.dir, or hydra.sweep.dir of a grid, must be a folder that can be written, got {error.filename} "
        f"({error.strerror}): set {own}, or hydra.sweep.dir= with -m"
    )


def _no_yaml(error: YAMLError) -> guard.MisuseError:
    return guard.MisuseError(
        f"the configuration's files must be YAML, got an error ({one_line(error)}): correct that line"
    )


def _single(config: DictConfig, folder: Path, *, adopted: str | None) -> int:
    """Run a single cell; gives the exit status. Errors are reported in one sentence."""
    name, request, store = "", None, None
    try:
        request = _request(config)
        store = checked_store(request, adopted=adopted)
        with arguments.checked():
            folders.claim(folder, "hydra.run.dir")
        name = request.cell.name
        execute(request, store, folder, adopted=adopted)
    except BaseException as error:  # noqa: BLE001 (it becomes the status)
        status = guard.report(error, name=name if not isinstance(error, guard.MisuseError) else "", folder=folder)
        if request and store and _learns(request.cell) and guard.is_interrupt(error):
            # A teacher or donor that did not end in time was killed with its run open.
            with suppress(Exception), retries(0):
                store.close_dead()
        return status
    return 0


def _learns(cell: Cell | None) -> bool:
    """Whether the cell, or one that it starts from, has a teacher or donor, which runs in a process of its own."""
    return cell is not None and (cell.source is not None or _learns(cell.parent))


def _announce(config: DictConfig) -> None:
    """Set TensorFlow's variables already now, as the module of a user's own class may load TensorFlow."""
    names = ("model.onednn", "deterministic")
    onednn, deterministic = (OmegaConf.select(config, name, throw_on_resolution_failure=False) for name in names)
    # Other values are refused later.
    if isinstance(onednn, bool) and isinstance(deterministic, bool) and "tensorflow" not in sys.modules:
        runtime.configure(onednn=onednn, deterministic=deterministic)


def _request(config: DictConfig) -> CellRequest:
    """The checked cell and its store. Raises MisuseError."""
    try:
        check_settings(config)
        if HydraConfig.initialized():
            grid.check_single(config)
        _announce(config)
        return CellRequest(
            cell=cell_of(config),
            uri=tracking_uri(config.tracking.uri),
            experiment=config.tracking.experiment,
            since=0 if config.resume else int(time.time() * 1e3),
            patience_s=config.tracking.patience_s,
        )
    except (ValueError, OSError) as error:
        raise guard.MisuseError(guard.message(error)) from error
