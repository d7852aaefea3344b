"""The summary of a sweep, which shows the figures of its comparison."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipelines.execution.sweep import Sweep, _as_compared
from pipelines.results.metrics import SCORE, TEST_MS, TIME_RATIO
from pipelines.results.outcome import Outcome
from tests.comparison.recorded import recorded


def test_table_has_the_times_of_the_shortlist() -> None:
    cell = replace(recorded("qat", test_ms=2.0), run_id="a")
    own = {TEST_MS: 3.0, SCORE: 1.0, "time/train_s": 5.0}
    done = Outcome(number=0, name="", overrides=(), status="done", seconds=0, run_id="a", metrics=own)
    failed = replace(done, number=1, status="failed", run_id="", metrics={})
    found = _as_compared([done, failed], [cell])
    assert found[0].metrics[TEST_MS] == 2.0 and found[0].metrics[SCORE] == cell.metrics[SCORE]
    assert found[0].metrics["time/train_s"] == 5.0
    assert found[1] == failed


def test_interrupt_at_the_end_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the shortlist and the report are made."""
    done = Outcome(number=0, name="net-digits-qat", status="done", run_id="a", metrics={SCORE: 1.0})
    sweep: Any = Sweep.__new__(Sweep)
    fields = {"context": Mock(since=0), "_stop": threading.Event(), "_watcher": Mock(), "_look": Mock(), "_live": None}
    fields |= {"_outcomes": {0: done}, "_total": 1, "_place": "", "_folder": tmp_path, "_began": 0.0, "_search": False}
    vars(sweep).update(fields, _run=Mock())
    monkeypatch.setattr(Sweep, "_cells", Mock(side_effect=KeyboardInterrupt))
    assert sweep.finish(None) == 130
    (closed,) = sweep._run.close.call_args_list
    assert closed.args == ([done],) and closed.kwargs["status"] == "KILLED"
    printed = capsys.readouterr()
    assert "net-digits-qat" in printed.out and printed.out.count("net-digits-qat") == 1
    assert "net-digits-qat" in closed.kwargs["summary"] and printed.err == "opscore: interrupted\n"


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("store", "the sweep's cells could not be read from the store: away"),
        ("pipelines.comparison.ranking.compare", "the sweep's cells could not be compared: away"),
        ("pipelines.report.page.write", "the report could not be made: away"),
    ],
)
def test_what_fails_at_the_end_costs_no_outcome(
    broken: str,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = Mock(side_effect=OSError("away"))
    base, other = recorded("baseline"), recorded("qat")
    cells = [
        replace(base, run_id="baseline"),
        replace(other, run_id="qat", metrics={**other.metrics, TIME_RATIO: 0.75}),
    ]
    outcomes = {
        number: Outcome(number=number, name=cell.name, status="done", run_id=cell.run_id, metrics=cell.metrics)
        for number, cell in enumerate(cells)
    }
    run = Mock(run_id="s")
    run.store.finished_cells = away if broken == "store" else lambda: cells
    if broken != "store":
        monkeypatch.setattr(broken, away)
    sweep: Any = Sweep.__new__(Sweep)
    fields = {"context": Mock(since=0), "_stop": threading.Event(), "_watcher": Mock(), "_look": Mock(), "_live": None}
    fields |= {"_outcomes": outcomes, "_total": 2, "_place": "", "_folder": tmp_path, "_began": 0.0, "_search": False}
    vars(sweep).update(fields, _run=run, _broken_off=False)
    assert sweep.finish(None) == 0
    assert sentence in caplog.text
    (closed,) = run.close.call_args_list
    assert closed.kwargs["status"] == "FINISHED"
    assert [outcome.name for outcome in closed.args[0]] == [cell.name for cell in cells]
    printed = capsys.readouterr().out
    assert all(cell.name in printed and cell.name in closed.kwargs["summary"] for cell in cells)
