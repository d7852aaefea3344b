"""The baseline of a recorded cell."""

from dataclasses import replace

from pipelines.comparison.baselines import baselines_of
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import recorded


def baseline(run_id: str, fingerprint: str, started: int = 0, **params: str) -> RecordedCell:
    found = recorded("baseline", started=started, params=params)
    return replace(found, run_id=run_id, fingerprint=fingerprint)


def test_it_is_the_one_of_the_recorded_fingerprint() -> None:
    # The newer one has the same settings, but was trained by other code.
    others = [baseline("older", "a"), baseline("newer", "b", started=1)]
    cell = replace(recorded("quantize_int8"), baseline="a")
    assert baselines_of([cell, *others], others)[cell.run_id].run_id == "older"
    assert baselines_of([replace(cell, baseline="lost")], others) == {}
