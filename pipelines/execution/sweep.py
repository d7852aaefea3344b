"""A grid of cells: one parent run, progress, the summary, and a report.

Each cell leaves an `Outcome` in its job's folder and on the parent run (`sweep_cell`). The process that holds the sweep
reads both, so one machine, a cluster with a shared disk and one without work alike.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipelines.execution import cell_process, folders, grid, grid_preflight, progress
from pipelines.execution.request import SweepContext
from pipelines.execution.settings import check_no_password, check_settings, check_stays
from pipelines.execution.sweep_cell import JOB_OUTCOME
from pipelines.execution.sweep_table import count_line, progress_line, summary_of, wider
from pipelines.results.outcome import Outcome
from pipelines.system import guard, terminal
from pipelines.system.stopwatch import PARTS
from pipelines.system.words import number_of, some
from pipelines.tracking.address import place_options
from pipelines.tracking.client import retries

if TYPE_CHECKING:
    from pipelines.comparison.ranking import Comparison
    from pipelines.comparison.shortlist import Shortlist
    from pipelines.results.recorded_cell import RecordedCell
    from pipelines.tracking.sweep_run import SweepRun

log = logging.getLogger("opscore")

# In a sweep's folder: what a search leaves there, and the report.
PARETO, REPORT = "pareto.json", "report"
# How often the job folders and the parent run are searched for new outcomes.
LOOK_S, LOOK_AT_STORE_S = 0.5, 15.0
# After this time without a new outcome, the terminal shows that the sweep is still at work.
STILL_AT_WORK_S = 60.0


@dataclass
class Session:
    """What Hydra's callback and the command share: Hydra itself makes the callback, so they need a common place.

    adopted: the run that `mlflow run` opened, for the sweep to take. sweep: open from the first job on. context: what
    the sweep's cells must know; a launcher that sends the command's function to another process sends it along.
    """

    adopted: str | None = None
    sweep: Sweep | None = None
    context: SweepContext | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A sweep stays in the process that holds it."""
        return {"adopted": None, "sweep": None, "context": self.context}


# A process starts one sweep.
SESSION = Session()


class NoSweepError(BaseException):
    """No sweep could be opened, for the reason in `args`."""


class SweepCallback(Callback):
    """Hydra's callback, called before the first job in the process that holds the sweep."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's signature)
        """End the process with a sentence before Hydra enters another folder, or writes a password into its files."""
        try:
            check_stays(config)
            check_no_password(config)
        except ValueError as error:
            print(f"opscore: {error}", file=sys.stderr)
            sys.exit(guard.MISUSE)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's signature)
        """Check the configuration and open the parent run. Raises NoSweepError where that fails."""
        try:
            SESSION.sweep = Sweep.begin(config, adopted=SESSION.adopted)
        except Exception as error:
            # Hydra would only warn and start the jobs without their sweep; a BaseException stops it.
            raise NoSweepError(error) from error
        SESSION.context = SESSION.sweep.context


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What a sweep records at its end. note: markdown, empty where no cell has an answer. report: its page first."""

    outcomes: Sequence[Outcome]
    summary: str
    note: str
    report: Sequence[Path]


class Sweep:
    """A sweep in the process that started it: watches for outcomes, prints and records them."""

    def __init__(self, context: SweepContext, run: SweepRun, folder: Path, total: int, config: DictConfig) -> None:
        self.context = context
        self._search = grid.is_search(config)
        # The settings that tell its cells apart.
        self._swept = [] if self._search else [key for key, values in grid.axes(config).items() if len(values) > 1]
        self._run = run
        self._folder = folder
        self._place = place_options(run.store.experiment, config.tracking.uri)
        self._total = total
        self._outcomes: dict[int, Outcome] = {}
        self._read: set[Path] = set()
        self._began = self._last_news = self._looked_at_store = time.monotonic()
        self._logs = progress.Logs(folder, since=time.time())
        # Cells in this process print to the terminal themselves.
        self._live = progress.live(self._at_work) if config.sweep.isolation == "process" else None
        self._broken_off = False
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="sweep", daemon=True)
        self._watcher.start()

    @classmethod
    def begin(cls, config: DictConfig, *, adopted: str | None) -> Sweep:
        """Open the parent run, or adopt the one that `mlflow run` opened. Raises ValueError, OSError or StoreError."""
        from pipelines.tracking.address import tracking_uri
        from pipelines.tracking.artifacts import check_usable

        check_settings(config)
        grid.check_studies(config)
        grid.check_references(config)
        some = grid.some(config)
        grid.check_composes(config)
        total = grid.number_of_cells(config)
        uri = tracking_uri(config.tracking.uri)
        check_usable(uri)
        first = grid_preflight.first_that_can_run(config, some)
        if first and config.sweep.isolation == "process" and "BasicLauncher" in config.hydra.launcher._target_:
            # It loads TensorFlow while this process loads MLflow.
            cell_process.prepare(first)
        folder = Path(config.hydra.sweep.dir)
        folders.claim(folder, "hydra.sweep.dir")

        from pipelines.tracking.store import Store
        from pipelines.tracking.sweep_run import SweepRun

        store = Store(uri, config.tracking.experiment, of_run=adopted)
        store.check_artifacts()
        if closed := store.close_dead():
            _say(f"{number_of(closed, 'run')} of dead processes, still open, marked as KILLED")
        # A search writes its own.
        for stale in (*folder.glob(f"*/{JOB_OUTCOME}"), *(folder.glob(PARETO) if grid.is_search(config) else ())):
            stale.unlink()
        run = SweepRun.open(
            store,
            name=f"{config.hydra.runtime.choices.get('experiment') or 'sweep'} of {number_of(total, 'cell')}",
            overrides=grid.lines(config),
            config=OmegaConf.to_yaml(config),
            adopted=adopted,
        )
        since = 0 if config.resume else store.started(run.run_id)
        _say(f"{number_of(total, 'cell')}, in {folder}\nrun     {store.link(run.run_id)}\n")
        context = SweepContext(sweep_id=run.run_id, uri=uri, experiment=store.experiment, since=since)
        return cls(context, run, folder, total, config)

    def finish(self, error: BaseException | None, why: str = "") -> int:
        """Print and record the results; gives the exit status.

        error: by which the sweep was broken off, if it was. why: the sentence for it, empty for an interrupt.
        """
        self._broken_off = error is not None
        try:
            self._stop.set()
            self._watcher.join()
            self._look(at_store=True)
            self._end_live()
            answer = self._answer(self._cells())
        except BaseException as late:
            # Ctrl-C again, or at the very end: what is known is printed and recorded all the same.
            if not guard.is_interrupt(late):
                raise
            error, self._broken_off = late, True
            self._end_live()
            answer = self._answer([])
        outcomes, spent = self._ended()
        problem = self._problem(outcomes)
        interrupted, failed = guard.is_interrupt(error), bool(problem or error)
        self._run.close(
            answer.outcomes,
            summary=answer.summary,
            note=answer.note,
            files=[path for path in [self._folder / PARETO] if self._search and path.exists()],
            report=answer.report,
            seconds=time.monotonic() - self._began,
            spent=spent,
            status="KILLED" if interrupted else "FAILED" if failed else "FINISHED",
            problem="; ".join(filter(None, [why, problem])),
        )
        store = self._run.store
        if failed:
            # A cell that was killed, or that lost its store, leaves its run open.
            with suppress(Exception), retries(0):
                store.close_dead()
        if answer.report:
            print(f"report  {answer.report[0]}")
        print(f"run     {store.link(self._run.run_id)}\nlist    {store.list_link}", flush=True)
        if why:
            print(f"opscore: {why}", file=sys.stderr)
        if problem:
            reason = "interrupted, " if interrupted else ""
            again = "the same command again runs only these"
            if self.context.since:
                again = "with resume=true, the same command takes what has finished, also before this sweep"
            print(f"opscore: {reason}{problem}; {again}", file=sys.stderr)
        elif interrupted and not why:
            print("opscore: interrupted", file=sys.stderr)
        return guard.INTERRUPTED if interrupted else guard.FAILURE if failed else 0

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _ended(self) -> tuple[list[Outcome], dict[str, float]]:
        """The outcomes in the order of the grid, and what their cells spent by part, in seconds."""
        outcomes = [self._outcomes[number] for number in sorted(self._outcomes)]
        return outcomes, {part: sum(one.spent.get(part, 0.0) for one in outcomes) for part in PARTS}

    def _answer(self, cells: Sequence[RecordedCell]) -> _Answer:
        """Print the summary, and write the report on the cells; without any, the summary has what the outcomes say."""
        from pipelines.comparison import shortlist_note, shortlist_text

        outcomes, spent = self._ended()
        compared = self._compared(cells)
        shortlists = {str(comparison.title): listed for comparison, listed in compared if listed}
        datasets = {cell.dataset for cell in cells}
        shown = _as_compared(outcomes, cells)

        def summary(width: float) -> str:
            more = wider(self._place)
            lists = (shortlist_text.titled(dataset, listed, width, more) for dataset, listed in shortlists.items())
            only = "".join(datasets) if len(datasets) == 1 and width < terminal.UNLIMITED else ""
            return "\n\n".join([*lists, summary_of(shown, spent, dataset=only, place=self._place, width=width)])

        # It takes longest, and an interrupt must not come between the two that print the summary.
        report = self._report(compared)
        _say(f"\n{summary(terminal.columns())}\n")
        return _Answer(
            outcomes=shown, summary=summary(terminal.UNLIMITED), note=shortlist_note.note(shortlists), report=report
        )

    def _problem(self, outcomes: Sequence[Outcome]) -> str:
        """How many cells failed and did not run; empty where none."""
        failed = sum(one.status == "failed" for one in outcomes)
        counts = {"failed": failed, "did not run": self._not_run(outcomes)}
        return ", ".join(
            f"{count} of {number_of(self._total, 'cell')} {what}" for what, count in counts.items() if count
        )

    def _missing(self) -> list[str]:
        """A sentence on the cells that the report lacks, if there are any."""
        outcomes, _ = self._ended()
        cells, sentences = number_of(self._total, "cell"), []
        for status, why in (("failed", "failed"), ("skipped", "had a technique that its model does not take")):
            if names := [one.name for one in outcomes if one.status == status]:
                named = some(list(dict.fromkeys(names)))
                sentences.append(f"{len(names)} of {cells} of this sweep {why}, and are not on this page: {named}.")
        if missing := self._not_run(outcomes):
            sentences.append(f"{missing} of {cells} of this sweep did not run, and are not on this page.")
        return sentences

    def _not_run(self, outcomes: Sequence[Outcome]) -> int:
        # A search does not run a cell again that it draws twice.
        return 0 if self._search and not self._broken_off else max(0, self._total - len(outcomes))

    def _cells(self) -> list[RecordedCell]:
        """The sweep's cells with results, as the store has them; none where it does not answer."""
        runs = {outcome.run_id for outcome in self._outcomes.values() if outcome.metrics}
        if not runs:
            return []
        try:
            from pipelines.comparison.anchoring import anchored

            every = self._run.store.finished_cells()
            return anchored([cell for cell in every if cell.run_id in runs], every)
        except Exception as error:  # noqa: BLE001 (the outcomes are known without them)
            log.warning("the sweep's cells could not be read from the store: %s", error)
            return []

    def _compared(self, cells: Sequence[RecordedCell]) -> list[tuple[Comparison, Shortlist | None]]:
        """The comparisons of the sweep's cells, each with its shortlist; none where that fails."""
        from pipelines.comparison.ranking import compare
        from pipelines.comparison.shortlist import shortlisted

        try:
            return shortlisted(compare(cells), self._run.store.right)
        except Exception as error:  # noqa: BLE001 (the outcomes matter more)
            log.warning("the sweep's cells could not be compared: %s", error)
            return []

    def _report(self, compared: Sequence[tuple[Comparison, Shortlist | None]]) -> list[Path]:
        """The page of the report on the sweep's cells, then its figures; none where there are no cells or it fails."""
        if not compared:
            return []
        try:
            from pipelines.report.page import write

            folder, chosen = self._folder / REPORT, f"sweep={self._run.run_id}"
            options = f" --sweep {self._run.run_id}{self._place}"
            return write(compared, folder, chosen=chosen, options=options, cautions=self._missing())
        except Exception as error:  # noqa: BLE001 (the cells and the summary matter more)
            log.warning("the report could not be made: %s", error)
            return []

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            now = time.monotonic()
            at_store = now - self._looked_at_store > LOOK_AT_STORE_S
            if at_store:
                self._looked_at_store = now
            self._look(at_store=at_store)
            if now - self._last_news > STILL_AT_WORK_S:
                self._last_news = now
                if self._live is None:
                    _say("\n".join(self._at_work()))

    def _at_work(self) -> list[str]:
        """How far the sweep is, and what its cells do."""
        count = count_line(list(self._outcomes.values()), self._total, time.monotonic() - self._began)
        return [count, *progress.lines(self._logs.running())]

    def _look(self, *, at_store: bool) -> None:
        """Print the outcomes that are new in the jobs' folders and, with `at_store`, on the parent run."""
        found: list[tuple[Outcome, Path | None]]
        found = [(Outcome.load(path), path.with_name(cell_process.LOG)) for path in self._unread()]
        if at_store and len(self._outcomes) + len(found) < self._total:
            # Their folders are on other machines.
            found.extend((outcome, None) for outcome in self._run.outcomes(known=self._outcomes.keys()))
        lines = []
        for outcome, log_path in found:
            if outcome.number in self._outcomes:
                continue
            self._outcomes[outcome.number] = outcome
            self._last_news = time.monotonic()
            output = log_path if log_path and log_path.exists() else None
            lines.append(progress_line(outcome, len(self._outcomes), self._total, swept=self._swept, log=output))
        if lines:
            self._run.count(Counter(outcome.status for outcome in self._outcomes.values()), self._total)
            _say("\n".join(lines))

    def _unread(self) -> list[Path]:
        found = sorted(set(self._folder.glob(f"*/{JOB_OUTCOME}")) - self._read)
        self._read.update(found)
        return found


def _say(text: str) -> None:
    """Print at once; where the reader of the pipe has gone, the sweep goes on."""
    with suppress(BrokenPipeError):
        print(text, flush=True)


def _as_compared(outcomes: Sequence[Outcome], cells: Sequence[RecordedCell]) -> list[Outcome]:
    """The outcomes with the times and scores that their cells have in a comparison (`comparison.anchoring`)."""
    from pipelines.comparison.anchoring import headline

    compared = {cell.run_id: headline(cell) for cell in cells}
    return [replace(one, metrics={**one.metrics, **compared.get(one.run_id, {})}) for one in outcomes]
