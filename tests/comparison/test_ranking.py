"""Ties, the Pareto front and the weights, against values by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.comparison.notes import notes
from pipelines.comparison.ranking import nearest_flip, pareto_front, possible_scores, rank_acceptability
from pipelines.results.recorded_cell import RecordedCell
from pipelines.results.verdict import TRAIN_SPREAD
from tests.comparison.recorded import compared, recorded


def test_the_front_by_hand() -> None:
    values = np.array(
        [
            [3.0, 1.0],
            [1.0, 3.0],
            [2.0, 2.0],
            [2.0, 2.0],  # equal to the one before: both stay
            [1.0, 2.0],  # worse than [1, 3] in one, better in none
            [math.nan, 9.0],  # unknown: neither on the front nor in anybody's way
            [0.0, 0.0],
        ]
    )
    assert pareto_front(values).tolist() == [True, True, True, True, False, False, False]


def test_front_against_comparing_all_pairs() -> None:
    values = np.random.default_rng(0).integers(0, 6, size=(60, 3)).astype(float)
    expected = [not any((other >= row).all() and (other > row).any() for other in values) for row in values]
    assert pareto_front(values).tolist() == expected


def test_front_of_many_rows_with_equal_order() -> None:
    # On a line where one column rises as the other falls nothing is dominated, and everything beside it is.
    line = np.stack([np.arange(500.0), -np.arange(500.0)], axis=1)
    values = np.concatenate([line - [0.0, 0.5], line])
    assert pareto_front(values).tolist() == [False] * 500 + [True] * 500


def test_rank_acceptability_of_two_criteria_by_hand() -> None:
    # With weights w and 1 - w: rows lead where w > 2/3 (3w > 2 (1-w) + w ...), worked out by hand:
    # A = 3w, B = 2(1-w), equal at w = 0.4.
    shares = rank_acceptability(np.array([[3.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]), draws=40_000, seed=0)
    assert shares == pytest.approx([0.6, 0.4, 0.0], abs=0.01)
    assert shares.sum() == pytest.approx(1)


def test_dominated_rows_do_not_change_rank_acceptability() -> None:
    values = np.random.default_rng(1).normal(size=(5, 4))
    dominated = values[np.arange(200) % 5] - np.random.default_rng(2).uniform(0.01, 1, size=(200, 4))
    alone = rank_acceptability(values, draws=1000, seed=0)
    assert rank_acceptability(np.concatenate([values, dominated]), draws=1000, seed=0).tolist() == [
        *alone,
        *[0.0] * 200,
    ]


def test_equal_rows_share_the_first_rank() -> None:
    assert rank_acceptability(np.array([[1.0, 2.0], [1.0, 2.0]]), draws=100, seed=0).tolist() == [0.5, 0.5]
    assert len(rank_acceptability(np.empty((0, 4)), draws=10, seed=0)) == 0


def test_nearest_flip_by_hand() -> None:
    values = np.array([[4.0, 0.0], [0.0, 3.0], [1.0, 2.0]])
    # Row 0 leads with 4w against 3 v and w + 2 v. With v = 1: against row 2, 3w = 2 at w = 2/3; against row 1 at 3/4.
    assert nearest_flip(np.array([1.0, 1.0]), values, 0) == pytest.approx((0.75, 1))
    # With w = 1: against row 1, v = 4/3; against row 2, v = 3/2.
    assert nearest_flip(np.array([1.0, 1.0]), values, 1) == pytest.approx((4 / 3, 1))
    # Nothing that stays above 0 lets the other lead.
    assert nearest_flip(np.array([1.0, 1.0]), np.array([[4.0, 1.0], [3.0, 1.0]]), 0) is None


def test_ties_follow_from_the_number_of_test_images() -> None:
    close = [recorded("quantize_int8", accuracy=0.81), recorded("quantize_dynamic", accuracy=0.80)]
    assert len(compared(*close).tied) == 2
    many = [
        recorded("quantize_int8", accuracy=0.81, images=200_000),
        recorded("cluster", accuracy=0.80, images=200_000),
    ]
    # What a latency scatters by is less than 0.1 dB; a point of accuracy is 0.25 dB.
    assert compared(*many).tied == {"vgg16-cifar10-quantize_int8"}
    assert (len(compared(*close).ties), len(compared(*many).ties)) == (2, 0)


def test_seeds_that_scatter_tie_and_seeds_that_agree_do_not() -> None:
    def seeds(technique: str, *accuracies: float) -> list[RecordedCell]:
        return [recorded(technique, accuracy=a, seed=s) for s, a in enumerate(accuracies)]

    scattered = compared(*seeds("cluster", 0.7, 0.8, 0.9), *seeds("prune", 0.72, 0.79, 0.88))
    assert len(scattered.tied) == 2
    agreeing = compared(*seeds("cluster", 0.900, 0.901, 0.902), *seeds("prune", 0.700, 0.701, 0.702))
    assert agreeing.tied == {"vgg16-cifar10-cluster"}


@pytest.mark.parametrize(("images", "tied"), [(200, 2), (1_000_000, 1)])
def test_few_images_tie_seeds_that_agree(images: int, tied: int) -> None:
    # The means differ by 0.4 points, and the seeds by far less.
    cells = [
        recorded(technique, accuracy=middle + 1e-4 * (seed % 3), seed=seed, images=images)
        for technique, middle in (("cluster", 0.95), ("prune", 0.946))
        for seed in range(10)
    ]
    assert len(compared(*cells).tied) == tied


@pytest.mark.parametrize("images", [200, 10_000])
def test_ties_equal_those_of_drawing_for_every_entry(images: int) -> None:
    rng = np.random.default_rng(0)
    cells = [recorded(f"one_{n}", accuracy=a, images=images) for n, a in enumerate(rng.uniform(0.6, 0.9, 300))]
    # Two seeds have t's heavy tails: even from far below they may tie.
    for n, (middle, apart) in enumerate(zip(rng.uniform(0.6, 0.9, 100), rng.uniform(0, 0.2, 100), strict=True)):
        cells += [
            recorded(f"two_{n}", accuracy=middle + side * apart / 2, seed=side, images=images) for side in (-1, 1)
        ]
    comparison = compared(*cells)
    leading, *scores = (
        possible_scores(entry, TRAIN_SPREAD, 10_000, [0, at]) for at, entry in enumerate(comparison.entries)
    )
    expected = {comparison.entries[0].label}
    expected |= {
        entry.label
        for entry, drawn in zip(comparison.entries[1:], scores, strict=True)
        if np.mean(drawn >= leading) >= 0.025
    }
    assert comparison.tied == expected
    assert 10 < len(expected) < 300


def test_an_infeasible_cell_cannot_win() -> None:
    comparison = compared(recorded("cluster", accuracy=0.9, feasible=False), recorded("prune", accuracy=0.7))
    assert comparison.winner is not None and comparison.winner.technique == "prune"
    assert comparison.rank_acceptability.keys() == {"vgg16-cifar10-prune"}
    assert compared(recorded("cluster", feasible=False)).winner is None
    assert notes(compared(recorded("cluster", feasible=False))) == ["No cell keeps the budgets of its score profile."]


def test_the_nearest_flip_changes_the_winner() -> None:
    cells = [recorded("quantize_int8", accuracy=0.75, megabytes=0.25), recorded("baseline", accuracy=0.8)]
    comparison = compared(*cells)
    assert comparison.winner is not None and comparison.winner.technique == "quantize_int8"
    (size,) = [move for move in comparison.weight_flips if move.criterion == "size"]
    assert size.winner == "vgg16-cifar10-baseline" and 0 < size.after < size.before == 0.5

    def score(cell: RecordedCell, exponent: float) -> float:
        return cell.metrics["score/operational"] + cell.metrics["score/size_db"] * (exponent / 0.5 - 1)

    for exponent, first in ((size.after + 0.001, cells[0]), (size.after - 0.001, cells[1])):
        assert max(cells, key=lambda cell: score(cell, exponent)) is first


def test_the_noise_of_one_training_is_a_tie() -> None:
    # The same cell run four times: 97.90 to 97.26 dB by training time alone, which scattered by a factor of 1.34.
    repeats = [
        recorded(f"repeat_{n}", train_s=seconds, own_s=seconds) for n, seconds in enumerate((7.5, 9.0, 8.8, 10.0))
    ]
    assert len(compared(*repeats).tied) == 4
    # An eighth of the training time is no noise.
    fast = recorded("transfer", train_s=1.25, own_s=1.25, images=10**7)
    slow = recorded("baseline", train_s=10.0, own_s=10.0, images=10**7)
    assert compared(fast, slow).tied == {"vgg16-cifar10-transfer"}


def test_a_training_that_cells_share_does_not_tie_them() -> None:
    # 2% smaller and 0.09 dB better, after the same training of 10 s, which scatters by 0.26 dB.
    shared = [recorded("baseline", own_s=10.0), recorded("quantize_float16", megabytes=0.98)]
    sharp = [replace(cell, test_shape=(10**8, 32, 32, 3)) for cell in shared]
    exact = {"baseline/time_ratio_low": 0.9999, "baseline/time_ratio_high": 1.0001}
    sharp = [replace(cell, metrics=cell.metrics | exact) for cell in sharp]
    assert compared(*sharp).tied == {"vgg16-cifar10-quantize_float16"}
    apart = [sharp[0], replace(sharp[1], metrics=sharp[1].metrics | {"time/train_s": 10.0})]
    apart[0] = replace(apart[0], metrics=apart[0].metrics | {"time/train_total_s": 10.5, "time/train_s": 10.5})
    assert len(compared(*apart).tied) == 2


def test_an_unbalanced_test_set_widens_what_accuracy_scores() -> None:
    # With p_e = 0.7 instead of 0.1, one point of 80% is a tenth of kappa instead of a seventieth.
    even, uneven = (
        replace(cell, metrics=cell.metrics | {"test/chance": chance})
        for cell, chance in ((recorded("cluster"), 0.1), (recorded("prune"), 0.7))
    )
    narrow, wide = (np.std(possible_scores(compared(cell).entries[0], 0.0, 10_000, [0, 0])) for cell in (even, uneven))
    assert wide > 5 * narrow


def test_a_criterion_that_the_score_does_not_weigh_has_factors() -> None:
    small = {"score.size": "0"}
    cells = [recorded("baseline", megabytes=4.0, params=small), recorded("cluster", megabytes=0.5, params=small)]
    comparison = compared(*cells)
    by_technique = {entry.technique: entry for entry in comparison.entries}
    assert by_technique["cluster"].factors["size"] == pytest.approx(-20 * math.log10(0.5))
    # Among all weights, those of the size count too.
    assert comparison.rank_acceptability["vgg16-cifar10-cluster"] == pytest.approx(1.0)


def test_factors_times_exponents_are_the_score() -> None:
    (entry,) = compared(recorded("quantize_int8", accuracy=0.7, megabytes=0.3, test_ms=0.2, train_s=7.0)).entries
    exponents = {"accuracy": 2, "size": 0.5, "test_time": 0.25, "train_time": 0.25}
    assert sum(exponents[name] * value for name, value in entry.factors.items()) == pytest.approx(entry.score.value)
