"""The parent run of a sweep: its configuration, live counts, the outcome of each cell, and the summary."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.results.columns import HEADLINE
from pipelines.results.outcome import Outcome
from pipelines.system import stopwatch
from pipelines.system.words import number_of
from pipelines.tracking.client import TEXT_CHARACTERS
from pipelines.tracking.liveness import Pulse, process_id
from pipelines.tracking.store import TABLE
from pipelines.tracking.tags import FAILURE, HEARTBEAT, NOTE, PROCESS

if TYPE_CHECKING:
    from pipelines.tracking.store import Store

log = logging.getLogger(__name__)

FOLDER = "outcomes"
NOT_IN_A_NAME = re.compile(r"[^\w\-./ ]")


def post(store: Store, parent: str, outcome: Outcome) -> None:
    """Write a cell's outcome onto the parent run, in a file of its own, as many machines may write at once."""
    store.client.log_text(parent, outcome.text(), f"{FOLDER}/{outcome.number:05d}.json")


class SweepRun:
    """The parent run, in the process that started the sweep."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self.store = store
        self._client = store.client
        self._pulse = Pulse(lambda beat: self._client.set_tag(run_id, HEARTBEAT, beat))

    @classmethod
    def open(cls, store: Store, *, name: str, overrides: Sequence[str], config: str, adopted: str | None) -> SweepRun:
        """Open the parent run, or take the one that `mlflow run` opened, `adopted`. config: composed, YAML."""
        # A tag that is empty would not be found.
        tags = {"sweep": " ".join(overrides) or "without overrides", "mlflow.runName": name, PROCESS: process_id()}
        client = store.client
        run_id: str = adopted or client.create_run(store.experiment_id).info.run_id
        for key, value in tags.items():
            client.set_tag(run_id, key, value[:TEXT_CHARACTERS])
        # Of two overrides with one key the last counts, as for Hydra.
        params = {key: value for key, _, value in (override.partition("=") for override in overrides)}
        # `mlflow run` has recorded its own, with a shell's quotes, and no parameter takes another value.
        there = client.get_run(run_id).data.params if adopted else {}
        for key, value in params.items():
            if (name := NOT_IN_A_NAME.sub("_", key)) not in there:
                client.log_param(run_id, name, value)
        client.log_text(run_id, config, "sweep.yaml")
        run = cls(store, run_id)
        run._pulse.start()
        return run

    def count(self, counts: Mapping[str, int], total: int) -> None:
        """Record how many cells are done, reused, skipped and failed, unless the store does not answer."""
        from mlflow.entities import Metric

        now = int(time.time() * 1e3)
        numbers = {name: counts.get(name, 0) for name in ("done", "reused", "skipped", "failed")} | {"total": total}
        metrics = [Metric(f"cells/{name}", value, now, 0) for name, value in numbers.items()]
        try:
            self._client.log_batch(self.run_id, metrics=metrics)
        except Exception as error:  # noqa: BLE001 (the counts are recorded again with the next cell)
            log.debug("the counts are not in MLflow: %s", error)

    def outcomes(self, known: Collection[int]) -> list[Outcome]:
        """The outcomes on the run whose numbers are not known yet; none where the store does not answer."""
        import mlflow

        found = []
        try:
            for path in [artifact.path for artifact in self._client.list_artifacts(self.run_id, FOLDER)]:
                if int(path.rpartition("/")[2].removesuffix(".json")) not in known:
                    found.append(Outcome.parse(mlflow.artifacts.load_text(f"runs:/{self.run_id}/{path}")))
        except Exception as error:  # noqa: BLE001 (they are read again soon)
            log.debug("outcomes could not be read from MLflow: %s", error)
        return found

    def close(
        self,
        outcomes: Sequence[Outcome],
        *,
        summary: str,
        note: str,
        files: Sequence[Path],
        report: Sequence[Path],
        seconds: float,
        spent: Mapping[str, float],
        status: str,
        problem: str,
    ) -> None:
        """Record the summary and end the run.

        note: the answer in markdown; empty where no cell has one. files, report: become its artifacts, those of the
        report in a folder. seconds: the sweep's wall time. spent: seconds of its cells' processes by part. problem: why
        it FAILED or was KILLED.
        """
        import mlflow

        self._pulse.stop()
        try:
            # First of all: without it, `--sweep` only knows the cells that ran as its children.
            if outcomes:
                self._client.log_table(self.run_id, _columns(outcomes), TABLE)
            mlflow.log_metrics({"cells/seconds": seconds, **stopwatch.metrics(spent)}, run_id=self.run_id)
            self._client.log_text(self.run_id, summary + "\n", "summary.txt")
            for path in files:
                self._client.log_artifact(self.run_id, str(path))
            for path in report:
                self._client.log_artifact(self.run_id, str(path), "report")
            self._client.set_tag(self.run_id, NOTE, _note(note, outcomes, seconds, problem))
            if problem:
                self._client.set_tag(self.run_id, FAILURE, problem)
        except Exception as error:  # noqa: BLE001 (the summary was printed, and the cells have runs of their own)
            log.warning("the sweep's summary could not be recorded in %s: %s", self.store.uri, error)
        finally:
            try:
                self._client.set_terminated(self.run_id, status)
            except Exception as error:  # noqa: BLE001 (the next command marks it as KILLED)
                log.warning("the sweep's run could not be ended in %s: %s", self.store.uri, error)


def _note(answer: str, outcomes: Sequence[Outcome], seconds: float, problem: str) -> str:
    """The note: the answer, how many cells ended how, and where the rest is."""
    counts = Counter(outcome.status for outcome in outcomes)
    ended = ", ".join(f"{count} {status}" for status, count in counts.items())
    cells = f"{number_of(len(outcomes), 'cell')} in {seconds:,.0f} s: {ended}."
    failed = "" if answer else "No cell is fit to be operated. "
    more = "Artifacts: `report/report.html` has the figures, `summary.txt` and `cells.json` every cell."
    ends = [f"{failed}{cells}" if outcomes else "No cell has run.", *([f"{problem}."] if problem else [])]
    return "\n\n".join([*([answer] if answer else []), " ".join(ends), more])


def _columns(outcomes: Sequence[Outcome]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        "cell": [outcome.name for outcome in outcomes],
        "overrides": [" ".join(outcome.overrides) for outcome in outcomes],
        "status": [outcome.status for outcome in outcomes],
        "seconds": [outcome.seconds for outcome in outcomes],
    }
    columns |= {one.metric: [outcome.metrics.get(one.metric) for outcome in outcomes] for one in HEADLINE}
    return columns | {
        "run_id": [outcome.run_id for outcome in outcomes],
        "message": [outcome.message for outcome in outcomes],
    }
