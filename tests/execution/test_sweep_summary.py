"""The summary of a sweep, which shows the figures of its comparison."""

from dataclasses import replace

from pipelines.execution.sweep import _as_compared
from pipelines.results.metrics import SCORE, TEST_MS
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
