import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.champion import gates
from pipelines.comparison.training_time import comparable
from pipelines.results.metrics import SCORE
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system.errors import StoreError
from tests.comparison.recorded import answers

PROFILE = {
    "score.test_time": "0.25",
    "score.train_time": "0.25",
    "score._target_": "pipelines.results.score.OperationalScore",
    "score.accuracy": "2.0",
    "score.size": "0.5",
    "score.max_size_mb": "None",
}
METRICS = {
    "test/accuracy": 0.9,
    "size/compressed_bytes": 80_000.0,
    "time/test_ms_p50": 0.5,
    "time/train_total_s": 10.0,
    "test/chance": 0.1,
    "baseline/accuracy_difference": 0.0,
    "baseline/accuracy_p_value": 1.0,
    "baseline/size_ratio": 1.0,
    "baseline/time_ratio_low": 0.99,
    "baseline/time_ratio_high": 1.01,
}
IMAGES = 1000
LIMITS = gates.Limits(max_drop=0.02, margin=0.01)


def cell(run_id: str, score: float, *, feasible: bool = True, **changed: object) -> RecordedCell:
    made = RecordedCell(
        run_id=run_id,
        started=0,
        name=f"small_cnn-digits-{run_id}",
        model="small_cnn",
        dataset="digits",
        technique=run_id,
        source="",
        seed="0",
        feasible=feasible,
        hardware="one, 2 cores",
        fingerprint=f"of {run_id}",
        digest="d1",
        training_digest="t1",
        test_shape=(IMAGES, 8, 8, 3),
        training_shape=(500, 8, 8, 3),
        params=PROFILE,
        metrics=METRICS | {SCORE: score},
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def no_answers(_: RecordedCell) -> npt.NDArray[np.bool_]:
    raise AssertionError("no answers are needed")


def decided(
    cells: list[RecordedCell], champion: RecordedCell | None, given: dict[str, npt.NDArray[np.bool_]] | None = None
) -> gates.Decision:
    known = given or {}
    return gates.decide(
        cells,
        champion,
        # The same file has the same fingerprint.
        remeasured=[one.run_id for one in cells if champion and one.fingerprint == champion.fingerprint],
        right_of=lambda one: known.get(one.run_id, answers(900)) if known else answers(900),
        limits=LIMITS,
    )


def test_without_a_champion_the_best_feasible_score_wins() -> None:
    cells = [cell("a", 50), cell("b", 70, feasible=False), cell("c", 60)]
    decision = decided(cells, None)
    assert decision.winner is not None and decision.winner.cell.run_id == "c"
    assert decision.winner.gates[-1].reason == "90.0%, compared with no champion"
    assert [gate.name for gate in decision.winner.gates] == list(gates.ORDER)
    assert [one.cell.run_id for one in decision.misses] == ["b"]


def test_better_score_at_equal_accuracy_replaces_champion() -> None:
    decision = decided([cell("old", 60), cell("new", 61), cell("worse", 59)], cell("old", 60))
    assert decision.winner is not None and decision.winner.cell.run_id == "new"
    assert "61.00 dB against 60.00 dB, +1.00 dB" in decision.winner.gates[3].reason


def test_a_lead_that_may_be_chance_does_not_replace_champion() -> None:
    # 90% of 1,000 images scatter by 0.95 points, their score by 40 / ln(10) * 0.0095 / 0.9 = 0.183 dB; a time that
    # scatters by 2% adds 5 / ln(10) * 0.02 = 0.043 dB. Two such scores differ by chance by 1.96 * 0.266 = 0.52 dB.
    tie = decided([cell("old", 60), cell("new", 60.4)], cell("old", 60))
    assert tie.winner is None and tie.stands
    (miss,) = tie.misses
    assert miss.gates[-1].name == "score"
    assert miss.gates[-1].reason == "60.40 dB against 60.00 dB, +0.40 dB: a tie, as such a lead may be chance"
    won = decided([cell("old", 60), cell("new", 60.8)], cell("old", 60))
    assert won.winner is not None and won.winner.cell.run_id == "new"


def test_next_best_wins_where_the_best_lost_accuracy() -> None:
    cells = [cell("old", 60), cell("small", 70), cell("new", 65)]
    given = {"old": answers(950), "small": answers(800, beside=950), "new": answers(945, beside=950, differing=21)}
    decision = decided(cells, cells[0], given)
    assert decision.winner is not None and decision.winner.cell.run_id == "new"
    (refused,) = decision.misses
    assert refused.gates[-1].name == "accuracy" and "80.0% against 95.0%" in refused.gates[-1].reason


def test_the_champion_remains_if_it_is_the_best_candidate() -> None:
    decision = gates.decide(
        [cell("old", 60), cell("b", 50)],
        cell("old", 60),
        remeasured=["old"],
        right_of=no_answers,
        limits=LIMITS,
    )
    assert decision.winner is None and decision.stands
    # A champion that is no candidate does not count as a winner.
    assert not gates.decide([cell("b", 50)], cell("old", 60), right_of=no_answers, limits=LIMITS).stands


def test_equal_fingerprint_is_the_champion_remeasured() -> None:
    old = cell("old", 60)
    other = {"score.accuracy": "1.0"}
    again = cell("again", 40, fingerprint=old.fingerprint, params=PROFILE | other, started=5)
    decision = decided([again, cell("new", 41, params=PROFILE | other)], old)
    # It does not replace itself with a better measurement, and is compared under the new profile.
    assert decision.champion == again
    assert decision.winner is not None and decision.winner.cell.run_id == "new"
    assert decided([cell("again", 61, fingerprint=old.fingerprint)], old).stands


def test_a_champion_that_breaks_new_budgets_does_not_remain() -> None:
    old = cell("old", 60)
    again = cell("again", 60, feasible=False, fingerprint=old.fingerprint)
    decision = decided([again, cell("b", 50, feasible=False)], old)
    assert not decision.stands
    assert {one.cell.run_id for one in decision.misses} == {"again", "b"}


@pytest.mark.parametrize(
    ("own", "champion", "differing", "passed"),
    [
        (900, 900, 0, True),
        # p = -20/1002, q = 22/1002: -1.996 +- 0.895 points, so the upper limit is -1.10: beyond one point.
        (880, 900, 20, False),
        # The same loss with many more differing predictions: -1.996 +- 2.80 points.
        (880, 900, 200, True),
        # p = -18/1002, q = 20/1002: -1.796 +- 0.855 points, upper limit -0.94.
        (882, 900, 18, True),
    ],
)
def test_accuracy_gate_needs_the_whole_interval_beyond_margin(
    own: int, champion: int, differing: int, passed: bool
) -> None:
    gate = gates.accuracy(answers(own, beside=champion, differing=differing), answers(champion), margin=0.01)
    assert gate.passed is passed
    assert f"one alone is right on {differing} of 1000 images" in gate.reason
    assert (gate.shortfall > 0) is not passed


def test_misses_are_ordered_by_gate_and_shortfall() -> None:
    budget = PROFILE | {"score.max_size_mb": "0.01"}
    near, far = (METRICS | {SCORE: 90.0, "size/compressed_bytes": size} for size in (11_000.0, 80_000.0))
    cells = [
        cell("far", 90, feasible=False, params=budget, metrics=far),
        cell("near", 90, feasible=False, params=budget, metrics=near),
        cell("close", 59, params=budget),
        cell("closer", 59.5, params=budget),
    ]
    decision = gates.decide(cells, cell("old", 60, params=budget), right_of=no_answers, limits=LIMITS)
    assert [one.cell.run_id for one in decision.misses] == ["closer", "close", "near", "far"]
    assert decision.misses[-1].gates[-1].reason == "score.max_size_mb missed by a factor of 8"


def test_lost_files_disqualify_a_cell_but_not_the_champion() -> None:
    lost = cell("lost", 70)

    def known(one: RecordedCell) -> npt.NDArray[np.bool_]:
        if one is lost:
            raise StoreError("its files are lost")
        return answers(900)

    decision = gates.decide([lost, cell("new", 65)], cell("old", 60), right_of=known, limits=LIMITS)
    assert decision.winner is not None and decision.winner.cell.run_id == "new"
    assert decision.misses[0].gates[-1].reason == "unknown, as its files are lost"
    with pytest.raises(StoreError):
        gates.decide([cell("new", 75)], lost, right_of=known, limits=LIMITS)


def test_a_missed_accuracy_budget_is_named() -> None:
    low = cell("low", 50, feasible=False, params=PROFILE | {"score.min_accuracy": "0.99"})
    (miss,) = decided([low], None).misses
    gate = miss.gates[-1]
    assert gate.name == "feasible" and gate.reason == "score.min_accuracy missed by a factor of 1.1"


@pytest.mark.parametrize(
    ("changed", "what"),
    [({"digest": "d0"}, "different images"), ({"params": PROFILE | {"score.accuracy": "1.0"}}, "different profiles")],
)
def test_incomparable_champion_is_refused_if_a_cell_is_feasible(changed: dict[str, Any], what: str) -> None:
    old = cell("old", 60, **changed)
    with pytest.raises(ValueError, match=what):
        decided([cell("new", 61)], old)
    assert not decided([cell("new", 61, feasible=False)], old).stands


def with_train_s(run_id: str, score: float, train_s: float | None, **changed: Any) -> RecordedCell:
    """A cell whose score of `score` dB without the training time has -5 log10(train_s) dB for it."""
    metrics = {name: value for name, value in METRICS.items() if name != "time/train_total_s"} | {SCORE: score}
    if train_s is not None:
        term = -5 * math.log10(train_s)
        metrics |= {SCORE: score + term, "score/train_time_db": term, "time/train_total_s": train_s}
    return cell(run_id, score, metrics=metrics, **changed)


def test_unknown_time_does_not_win_by_its_missing_term() -> None:
    # The unknown cell has 51 dB without a term, the champion 52 dB and -10 dB for 100 s.
    new, old = comparable([with_train_s("new", 51, None), with_train_s("old", 52, 100.0)])
    decision = decided([new], old)
    assert decision.winner is None
    assert decision.misses[0].gates[-1].reason == "51.00 dB against 52.00 dB, -1.00 dB"
    better, slow = comparable([with_train_s("better", 53, None), with_train_s("slow", 52, 100.0)])
    assert decided([better], slow).winner is not None


def test_unknown_time_misses_a_budget_of_training_time() -> None:
    profile = PROFILE | {"score.max_train_s": "99.0"}
    gate = decided([with_train_s("a", 50, None, feasible=False, params=profile)], None).misses[0].gates[-1]
    assert gate.name == "feasible"
    assert gate.reason == "score.max_train_s cannot be checked, as the training time is unknown"


def with_majority(run_id: str, score: float, p_value: float) -> RecordedCell:
    metrics = METRICS | {SCORE: score, "test/majority_share": 0.9, "test/majority_p_value": p_value}
    return cell(run_id, score, metrics=metrics, majority="7")


def test_a_cell_no_better_than_one_answer_cannot_become_champion() -> None:
    decision = decided([with_majority("a", 70, 0.3), with_majority("b", 60, 0.01)], None)
    assert decision.winner is not None and decision.winner.cell.run_id == "b"
    assert decision.winner.gates[0].reason == "90.0%, better than always answering '7' (90.0% of the test images)"
    (refused,) = decision.misses
    assert refused.gates[-1].name == "learnt"
    assert refused.gates[-1].reason == "90.0%, no better than always answering '7' (90.0% of the test images)"


def test_remeasured_champion_must_have_learnt() -> None:
    assert not decided([with_majority("old", 60, 0.3)], cell("old", 60)).stands


def test_a_cell_without_a_test_against_the_majority_passes() -> None:
    winner = decided([cell("a", 50)], None).winner
    assert winner is not None
    gate = winner.gates[0]
    assert gate.passed and "no test of it" in gate.reason


def with_accuracy(run_id: str, score: float, accuracy: float, **changed: Any) -> RecordedCell:
    return cell(run_id, score, metrics=METRICS | {SCORE: score, "test/accuracy": accuracy}, **changed)


def test_a_cell_far_below_the_most_accurate_is_refused() -> None:
    # 54.1% with the best score, as a quantized network of too few epochs had, against 65.1%.
    cells = [with_accuracy("small", 70, 0.541), with_accuracy("int8", 69, 0.651), with_accuracy("float", 60, 0.661)]
    decision = decided(cells, None)
    assert decision.winner is not None and decision.winner.cell.run_id == "int8"
    assert decision.most_accurate is not None and decision.most_accurate.runs == (cells[2],)
    (refused,) = decision.misses
    assert refused.gates[-1].name == "drop"
    assert refused.gates[-1].reason == (
        "54.1%, 12.00 points below small_cnn-digits-float, the most accurate cell; allowed 2.00"
    )
    assert refused.gates[-1].shortfall == pytest.approx(0.10)


@pytest.mark.parametrize(("max_drop", "winner"), [(0.02, "a"), (0.0199, "b"), (0.0, "b")])
def test_a_drop_of_exactly_max_drop_is_allowed(max_drop: float, winner: str) -> None:
    # 0.9 - 0.88 is more than 0.02 in floating point.
    cells = [with_accuracy("a", 70, 0.88), with_accuracy("b", 60, 0.9)]
    limits = gates.Limits(max_drop=max_drop, margin=0.01)
    decision = gates.decide(cells, None, right_of=lambda _: answers(900), limits=limits)
    assert decision.winner is not None and decision.winner.cell.run_id == winner


def test_a_cell_that_learnt_nothing_sets_no_standard() -> None:
    # Always right about the majority, but only that.
    majority = with_majority("majority", 80, 0.3)
    majority = replace(majority, metrics=majority.metrics | {"test/accuracy": 0.95})
    decision = decided([majority, with_accuracy("a", 50, 0.9)], None)
    assert decision.winner is not None and decision.winner.cell.run_id == "a"


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        ({"max_accuracy_drop": "0.01"}, "score.max_accuracy_drop missed by a factor of 3"),
        ({"max_accuracy_drop": "0.0"}, "score.max_accuracy_drop missed"),
        ({"min_speedup": "3.0"}, "score.min_speedup missed by a factor of 1.5"),
        ({"min_size_reduction": "8.0"}, "score.min_size_reduction missed by a factor of 2"),
    ],
)
def test_a_missed_goal_is_named(goal: dict[str, str], reason: str) -> None:
    compared = {
        "baseline/accuracy_difference": -0.03,
        "baseline/accuracy_p_value": 0.01,
        "baseline/time_ratio": 0.5,
        "baseline/time_ratio_low": 0.5,
        "baseline/time_ratio_high": 0.5,
        "baseline/size_ratio": 0.25,
    }
    params = PROFILE | {f"score.{name}": value for name, value in goal.items()}
    low = cell("low", 50, feasible=False, params=params, metrics=METRICS | compared | {SCORE: 50.0})
    assert decided([low], None).misses[0].gates[-1].reason == reason


def test_a_baseline_does_not_reach_goals_over_itself() -> None:
    params = PROFILE | {"score.min_size_reduction": "4.0"}
    baseline = cell("baseline", 50, feasible=False, params=params)
    (miss,) = decided([baseline], None).misses
    assert miss.gates[-1].reason == "score.min_size_reduction missed by a factor of 4"


def test_the_mean_over_seeds_decides_and_not_a_lucky_one() -> None:
    lucky = [with_accuracy(f"seed{n}", 70 + n, a, seed=str(n), name="lucky", technique="lucky")
             for n, a in enumerate((0.95, 0.80, 0.80))]  # fmt: skip
    steady = with_accuracy("steady", 60, 0.9)
    decision = decided([*lucky, steady], None)
    # 85% on average, five points below the steady one.
    assert decision.winner is not None and decision.winner.cell is steady
    reasons = {miss.gates[-1].reason for miss in decision.misses}
    assert reasons == {"85.0%, 5.00 points below small_cnn-digits-steady, the most accurate cell; allowed 2.00"}


def seeds(name: str, scores: tuple[float, ...], **changed: Any) -> list[RecordedCell]:
    return [
        cell(f"{name}{seed}", score, seed=str(seed), **({"name": name, "technique": name} | changed))
        for seed, score in enumerate(scores)
    ]


def test_mean_score_over_seeds_decides_as_in_the_report() -> None:
    # The single best score is a's, the best mean b's.
    decision = decided([*seeds("a", (94, 90, 86)), *seeds("b", (92, 93, 91))], None)
    assert decision.winner is not None and decision.winner.cell.run_id == "b1"
    assert decision.winner.gates[3].reason == "92.0 dB over 3 seeds, the best that passes the gates above"


def test_every_seed_must_keep_budgets_and_have_learnt() -> None:
    infeasible = [replace(one, feasible=one.seed != "2") for one in seeds("a", (94, 94, 94))]
    blind = with_majority("b", 93, 0.3)
    learnt = replace(with_majority("other", 95, 0.001), seed="1", name=blind.name, technique=blind.technique)
    decision = decided([*infeasible, blind, learnt, cell("c", 60)], None)
    assert decision.winner is not None and decision.winner.cell.run_id == "c"
    assert [(one.gates[-1].name, one.judged.seed) for one in decision.misses] == [("feasible", "2"), ("learnt", "0")]


def test_lucky_seed_does_not_replace_the_champion_of_its_cell() -> None:
    cells = seeds("a", (90, 95))
    decision = gates.decide(cells, cells[0], remeasured=["a0"], right_of=no_answers, limits=LIMITS)
    assert decision.winner is None and decision.stands
    # Others have to beat the mean.
    found = decided([*cells, cell("b", 92)], cells[0])
    assert found.misses[0].gates[-1].reason == "92.00 dB against 92.50 dB, -0.50 dB"


def test_champion_stands_where_its_cell_was_trained_again() -> None:
    old = cell("old", 60)
    again = replace(cell("again", 55, fingerprint=old.fingerprint), name=old.name, technique=old.technique)
    # Another file, which is worse.
    decision = gates.decide([again], old, right_of=no_answers, limits=LIMITS)
    assert decision.winner is None and decision.stands
    assert decision.misses[0].gates[-1].reason == "55.00 dB against 60.00 dB, -5.00 dB"


def test_champion_that_lost_too_much_accuracy_does_not_stand() -> None:
    old, new = with_accuracy("old", 95, 0.80), with_accuracy("new", 93, 0.95)
    decision = decided([old, new], old)
    assert decision.winner is not None and decision.winner.cell.run_id == "new"
    assert decision.winner.gates[3].reason == (
        "93.0 dB; the champion's 95.0 dB is no bar, as it fails the gate drop now"
    )
    assert decision.misses[0].cell.run_id == "old" and decision.misses[0].gates[-1].name == "drop"
    # So does one that is not among the candidates.
    assert decided([new], old).winner is not None


def test_of_equally_accurate_cells_the_fittest_is_the_reference() -> None:
    decision = decided([cell("a", 50), cell("b", 60)], None)
    assert decision.most_accurate is not None and decision.most_accurate.technique == "b"


def test_without_a_champion_no_answers_are_needed() -> None:
    decision = gates.decide([cell("a", 50)], None, right_of=no_answers, limits=LIMITS)
    assert decision.winner is not None


def test_promoted_seed_itself_keeps_the_accuracy() -> None:
    cells = [cell("top", 60)]
    for seed, (score, accuracy) in enumerate([(80, 0.9), (80.5, 0.9), (81, 0.85)]):
        cells += [with_accuracy(f"a{seed}", score, accuracy, seed=str(seed), name="a", technique="a")]
    # The mean of the seeds is 1.7 points below the top, the seed with the best score 5 points.
    decision = decided(cells, None)
    assert decision.winner is not None
    assert decision.winner.cell.run_id == "a1"
    assert decision.winner.gates[3].reason.startswith("80.5 dB over 3 seeds")


def test_champion_that_does_not_compete_sets_the_standard() -> None:
    """As where a sweep without its cell is chosen, on a test set too small for the last gate."""
    old = with_accuracy("old", 60, 0.95)
    answers_of = {"old": answers(950), "new": answers(900, beside=950)}
    decision = decided([with_accuracy("new", 70, 0.9)], old, answers_of)
    (refused,) = decision.misses
    assert (
        refused.gates[-1].reason
        == "90.0%, 5.00 points below small_cnn-digits-old, the champion of run old; allowed 2.00"
    )
    assert decision.winner is None
