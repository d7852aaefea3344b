"""Comparisons in which the training time of a cell is unknown."""

import math
from dataclasses import replace

import pytest

from pipelines.commands.compare import text
from pipelines.comparison.notes import notes
from pipelines.comparison.pages import rewrite
from pipelines.comparison.ranking import compare
from pipelines.comparison.training_time import comparable, note, spread
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import compared, recorded

# 40 log10(100 (0.8 - 0.1) / 0.9), of a cell with 80%, 1 MB and 1 ms.
PLAIN_DB = 40 * math.log10(70 / 0.9)
SLOW = recorded("prune", train_s=10_000.0, accuracy=0.81)
FAST = recorded("cluster", train_s=1.0)
UNKNOWN = recorded("baseline", model="mine", train_s=None, accuracy=0.75)
NOTE = (
    "The training time of 1 of 3 runs (mine) is unknown, so all scores here leave the training time out: "
    "model.trained_s=<seconds> counts it."
)


def ranked(*cells: RecordedCell) -> list[str]:
    return [entry.technique for entry in compared(*cells).entries]


def test_known_times_count_as_before() -> None:
    cells = [SLOW, FAST]
    assert comparable(cells) == cells
    # 20 dB for the training time against 0.5 dB for the accuracy.
    assert ranked(*cells) == ["cluster", "prune"]
    assert note(cells) is None


def test_one_unknown_time_leaves_it_out_of_all_scores() -> None:
    comparison = compared(SLOW, FAST, UNKNOWN)
    assert [entry.technique for entry in comparison.entries] == ["prune", "cluster", "baseline"]
    fast = comparison.entries[1]
    assert fast.score.value == pytest.approx(PLAIN_DB)
    # The cluster cell equals its baseline but for its training time.
    assert fast.gain.value == pytest.approx(0.0) and math.isnan(fast.gains["train_time"])
    assert fast.train_s.value == 1.0
    for entry in comparison.entries:
        assert list(entry.terms) == ["accuracy", "size", "test_time"]
        assert sum(entry.terms.values()) == pytest.approx(entry.score.value)
    assert [flip.criterion for flip in comparison.weight_flips] == ["accuracy", "size", "test_time"]
    assert sum(comparison.rank_acceptability.values()) == pytest.approx(1.0)


def test_cells_of_another_dataset_are_as_before() -> None:
    first, second = compare([SLOW, FAST, replace(UNKNOWN, dataset="digits", digest="other")])
    assert [entry.technique for entry in first.entries] == ["cluster", "prune"]
    assert not [one for one in notes(first) if "unknown" in one]
    assert [one for one in notes(second) if "1 of 1 runs (mine) is unknown" in one]


def test_the_note_is_given_once() -> None:
    assert notes(compared(SLOW, FAST, UNKNOWN)).count(NOTE) == 1
    infeasible = [replace(cell, feasible=False) for cell in (SLOW, FAST, UNKNOWN)]
    assert NOTE in notes(compared(*infeasible))


def test_no_note_where_the_score_weighs_no_training_time() -> None:
    params = {"score.train_time": "0.0"}
    assert note([recorded("baseline", train_s=None, params=params)]) is None


def test_terminal_shows_unknown() -> None:
    lines = text(compared(SLOW, FAST, UNKNOWN)).splitlines()
    rows = {tuple(line.split()[:2]): line for line in lines if line.startswith(("mine", "vgg16"))}
    assert " unknown " in rows["mine", "baseline"] and " 1.00 " in rows["vgg16", "cluster"]
    assert NOTE in " ".join(lines) and "nan" not in "".join(lines)


def test_time_stated_later_replaces_the_unknown_one() -> None:
    stated = recorded(
        "baseline", model="mine", train_s=3600.0, accuracy=0.75, started=1, params={"model.trained_s": "3600"}
    )
    unknown = replace(UNKNOWN, params=UNKNOWN.params | {"model.trained_s": "None"})
    comparison = compared(SLOW, FAST, unknown, stated)
    assert len(comparison.entries) == 3
    # -5 log10(3600) = -17.8 dB and -1.5 dB of accuracy, against -20 dB of the prune cell's 10,000 s.
    assert [entry.technique for entry in comparison.entries] == ["cluster", "baseline", "prune"]
    assert not [one for one in notes(comparison) if "unknown" in one]


def test_tables_of_a_page_leave_it_out_of_all_rows() -> None:
    cells = [recorded("baseline", train_s=10.0), recorded("cluster", train_s=1.0), recorded("distill", train_s=None)]
    mark = "<!-- cells model=vgg16 dataset=cifar10 -->\n<!-- end -->\n"
    written = rewrite(mark, cells)
    rows = {line.split("`")[1]: line for line in written.splitlines() if line.startswith("| `")}
    assert all(f" {PLAIN_DB:.1f} " in row for row in rows.values())
    assert " unknown " in rows["distill"] and "+0.0" in rows["cluster"]
    assert written.count("1 of 3 runs (vgg16) is unknown") == 1
    assert rewrite(written, cells) == written


def test_spread_of_training_times_by_hand() -> None:
    # Log times 0 and 0.2 in three entries, and 0, 0.1, 0.2 in one: sums of squares 3 * 0.02 + 0.02, 5 degrees.
    logs = [(0.0, 0.2)] * 3 + [(0.0, 0.1, 0.2)]
    entries = [
        [recorded("cluster", seed=n, own_s=10 * math.exp(log)) for n, log in enumerate(of_one)] for of_one in logs
    ]
    assert spread(entries) == pytest.approx(math.sqrt(0.08 / 5))
    # Fewer degrees of freedom, single runs and cells that do not train say too little.
    assert spread(entries[:2]) == 0.12
    assert (
        spread([[recorded("baseline", own_s=5.0)], *([[recorded("quantize_int8", seed=n) for n in (0, 1)]] * 9)])
        == 0.12
    )
