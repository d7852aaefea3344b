"""Intervals, ties, the Pareto front and the weights, against values by hand and SciPy's."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.commands.compare import text
from pipelines.comparison import article
from pipelines.comparison.entries import (
    Comparison,
    compare,
    entries_of,
    nearest_flip,
    pareto_front,
    possible_scores,
    rank_acceptability,
)
from pipelines.comparison.notes import notes
from pipelines.results.recorded import RecordedCell
from pipelines.results.statistics import mean_share

# a, s, t, r of the default profile, as MLflow keeps parameters.
PARAMS = {"score.accuracy": "2", "score.size": "0.5", "score.test_time": "0.25", "score.train_time": "0.25"}
NAN = math.nan


def recorded(
    technique: str,
    *,
    accuracy: float = 0.8,
    megabytes: float = 1.0,
    test_ms: float = 1.0,
    train_s: float = 10.0,
    ratio: tuple[float, float] = (0.7, 0.8),
    p_value: float = 1.0,
    seed: int = 0,
    model: str = "vgg16",
    hardware: str = "a CPU",
    feasible: bool = True,
    images: int = 1000,
    started: int = 0,
    digest: str = "d",
    training: str = "t",
    params: dict[str, str] | None = None,
) -> RecordedCell:
    """A cell of ten classes with the score's terms worked out, beside a baseline of 80%, 1 MB, 1 ms and 10 s."""

    def terms(accuracy: float, megabytes: float, test_ms: float, train_s: float) -> dict[str, float]:
        kappa = (accuracy - 0.1) / 0.9
        return {
            "accuracy": 40 * math.log10(100 * kappa),
            "size": -10 * math.log10(megabytes),
            "test_time": -5 * math.log10(test_ms),
            "train_time": -5 * math.log10(train_s),
        }

    own, other = terms(accuracy, megabytes, test_ms, train_s), terms(0.8, 1.0, 1.0, 10.0)
    metrics = {
        "test/accuracy": accuracy,
        "size/file_bytes": megabytes * 1e6,
        "size/compressed_bytes": megabytes * 1e6,
        "time/test_ms_p50": test_ms,
        "time/train_total_s": train_s,
        "score/operational": sum(own.values()),
        **{f"score/{name}_db": value for name, value in own.items()},
    }
    if technique != "baseline":
        metrics |= {f"score/gain_{name}_db": own[name] - other[name] for name in own}
        metrics |= {
            "score/gain_db": sum(own.values()) - sum(other.values()),
            "baseline/accuracy_p_value": p_value,
            "baseline/time_ratio_low": ratio[0],
            "baseline/time_ratio_high": ratio[1],
        }
    return RecordedCell(
        run_id=f"{technique}{seed}{started}0123456789",
        started=started,
        name=f"{model}-cifar10-{technique}",
        model=model,
        dataset="cifar10",
        technique=technique,
        source="",
        seed=str(seed),
        feasible=str(feasible),
        hardware=hardware,
        fingerprint="",
        digest=digest,
        training_digest=training,
        test_shape=(images, 32, 32, 3) if images else (),
        training_shape=(50_000, 32, 32, 3),
        params={**PARAMS, "seed": str(seed), "technique._target_": technique, "model._target_": model} | (params or {}),
        metrics=metrics,
    )


def one(*cells: RecordedCell) -> Comparison:
    (comparison,) = compare(cells)
    return comparison


def test_the_front_by_hand() -> None:
    values = np.array(
        [
            [3.0, 1.0],
            [1.0, 3.0],
            [2.0, 2.0],
            [2.0, 2.0],  # equal to the one before: both stay
            [1.0, 2.0],  # worse than [1, 3] in one, better in none
            [NAN, 9.0],  # unknown: neither on the front nor in anybody's way
            [0.0, 0.0],
        ]
    )
    assert pareto_front(values).tolist() == [True, True, True, True, False, False, False]


def test_the_front_is_what_no_pair_refutes() -> None:
    values = np.random.default_rng(0).integers(0, 6, size=(60, 3)).astype(float)
    expected = [not any((other >= row).all() and (other > row).any() for other in values) for row in values]
    assert pareto_front(values).tolist() == expected


def test_the_front_of_many_rows_that_sort_alike() -> None:
    # On a line where one column rises as the other falls nothing is dominated, and everything beside it is.
    line = np.stack([np.arange(500.0), -np.arange(500.0)], axis=1)
    values = np.concatenate([line - [0.0, 0.5], line])
    assert pareto_front(values).tolist() == [False] * 500 + [True] * 500


def test_first_ranks_of_two_criteria_are_the_lengths_on_the_line() -> None:
    # With weights w and 1 - w: rows lead where w > 2/3 (3w > 2 (1-w) + w ...), worked out by hand:
    # A = 3w, B = 2(1-w), equal at w = 0.4.
    shares = rank_acceptability(np.array([[3.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]), draws=40_000, seed=0)
    assert shares == pytest.approx([0.6, 0.4, 0.0], abs=0.01)
    assert shares.sum() == pytest.approx(1)


def test_rows_that_others_dominate_do_not_change_the_first_ranks() -> None:
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


def test_the_nearest_move_by_hand() -> None:
    values = np.array([[4.0, 0.0], [0.0, 3.0], [1.0, 2.0]])
    # Row 0 leads with 4w against 3 v and w + 2 v. With v = 1: against row 2, 3w = 2 at w = 2/3; against row 1 at 3/4.
    assert nearest_flip(np.array([1.0, 1.0]), values, 0) == pytest.approx((0.75, 1))
    # With w = 1: against row 1, v = 4/3; against row 2, v = 3/2.
    assert nearest_flip(np.array([1.0, 1.0]), values, 1) == pytest.approx((4 / 3, 1))
    # Nothing that stays above 0 lets the other lead.
    assert nearest_flip(np.array([1.0, 1.0]), np.array([[4.0, 1.0], [3.0, 1.0]]), 0) is None


def test_seeds_become_one_entry_and_a_repeated_run_counts_once() -> None:
    cells = [recorded("cluster", accuracy=a, seed=s) for s, a in enumerate((0.7, 0.8, 0.9))]
    stale = recorded("cluster", accuracy=0.2, seed=2, started=-1)
    (entry,) = entries_of([*cells, stale])
    assert len(entry.runs) == 3
    expected = mean_share([0.7, 0.8, 0.9], 1000)
    assert (entry.accuracy.value, entry.accuracy.low, entry.accuracy.high) == pytest.approx((0.8, *expected))
    assert entry.score.value == pytest.approx(np.mean([cell.metrics["score/operational"] for cell in cells]))


def test_seeds_on_other_images_are_other_entries() -> None:
    seeds = [
        recorded("cluster", seed=0, digest="1234567890", accuracy=0.99),
        recorded("cluster", seed=1, digest="abcdefghij", accuracy=0.15, images=50),
        recorded("cluster", seed=2, digest="abcdefghij", accuracy=0.2, images=50, training="other images"),
    ]
    comparison = one(*seeds, recorded("baseline", digest="1234567890"))
    assert {entry.label: len(entry.runs) for entry in comparison.entries} == {
        "vgg16-cifar10-baseline": 1,
        "vgg16-cifar10-cluster test-images=12345678 training-images=t": 1,
        "vgg16-cifar10-cluster test-images=abcdefgh training-images=t": 1,
        "vgg16-cifar10-cluster test-images=abcdefgh training-images=other im": 1,
    }
    (said,) = [note for note in notes(comparison) if "different sets of images" in note]
    assert "2 different sets of images (50, 1,000 images)" in said
    assert "filter=\"dataset.digest = '1234567890'\"" in said


def test_label_omits_images_that_follow_from_the_settings() -> None:
    cells = [recorded("cluster", digest=n, params={"dataset.limit_test": n}) for n in ("100", "200")]
    assert {entry.label for entry in entries_of(cells)} == {
        "vgg16-cifar10-cluster dataset.limit_test=100",
        "vgg16-cifar10-cluster dataset.limit_test=200",
    }


def test_names_that_were_not_recorded_once_do_not_part_seeds() -> None:
    cells = [
        recorded("cluster", seed=0),
        recorded("cluster", seed=1, params={"dataset.name": "cifar10", "model.name": "vgg16"}),
    ]
    (entry,) = entries_of(cells)
    assert len(entry.runs) == 2
    assert any("Two seeds have one difference" in note for note in notes(one(*cells)))


def test_what_differs_in_cells_of_one_name_is_in_the_label() -> None:
    cells = [recorded("cluster", params={"technique.clusters": n, "x": "same"}) for n in ("8", "16")]
    labels = {entry.label for entry in entries_of(cells)}
    assert labels == {"vgg16-cifar10-cluster technique.clusters=16", "vgg16-cifar10-cluster technique.clusters=8"}


def test_times_of_mixed_hardware_are_flagged_and_not_averaged() -> None:
    cells = [recorded("cluster", seed=0), recorded("cluster", seed=1, hardware="another CPU")]
    comparison = one(*cells, recorded("baseline"))
    (entry,) = [entry for entry in comparison.entries if entry.technique == "cluster"]
    assert entry.mixed
    for estimate in (entry.test_ms, entry.train_s, entry.score, entry.gain):
        assert math.isnan(estimate.value)
    assert entry.compressed_bytes.value == 1e6
    assert comparison.winner is not None and comparison.winner.technique == "baseline"
    assert any("not averaged" in note for note in notes(comparison))
    assert any("2 machines" in note for note in notes(comparison))
    assert "nan" not in text(comparison)


def test_ties_follow_from_the_number_of_test_images() -> None:
    close = [recorded("quantize_int8", accuracy=0.81), recorded("quantize_dynamic", accuracy=0.80)]
    assert len(one(*close).tied) == 2
    many = [
        recorded("quantize_int8", accuracy=0.81, images=200_000),
        recorded("cluster", accuracy=0.80, images=200_000),
    ]
    # What a latency scatters by is less than 0.1 dB; a point of accuracy is 0.25 dB.
    assert one(*many).tied == {"vgg16-cifar10-quantize_int8"}


def test_seeds_that_scatter_tie_and_seeds_that_agree_do_not() -> None:
    def seeds(technique: str, *accuracies: float) -> list[RecordedCell]:
        return [recorded(technique, accuracy=a, seed=s) for s, a in enumerate(accuracies)]

    scattered = one(*seeds("cluster", 0.7, 0.8, 0.9), *seeds("prune", 0.72, 0.79, 0.88))
    assert len(scattered.tied) == 2
    agreeing = one(*seeds("cluster", 0.900, 0.901, 0.902), *seeds("prune", 0.700, 0.701, 0.702))
    assert agreeing.tied == {"vgg16-cifar10-cluster"}


@pytest.mark.parametrize("images", [200, 10_000])
def test_ties_are_those_of_drawing_for_every_entry(images: int) -> None:
    rng = np.random.default_rng(0)
    cells = [recorded(f"one_{n}", accuracy=a, images=images) for n, a in enumerate(rng.uniform(0.6, 0.9, 300))]
    # Two seeds have t's heavy tails: even from far below they may tie.
    for n, (middle, apart) in enumerate(zip(rng.uniform(0.6, 0.9, 100), rng.uniform(0, 0.2, 100), strict=True)):
        cells += [recorded(f"two_{n}", accuracy=middle + side * apart / 2, seed=side) for side in (-1, 1)]
    comparison = one(*cells)
    leading, *scores = (possible_scores(entry, 10_000, [0, at]) for at, entry in enumerate(comparison.entries))
    expected = {comparison.entries[0].label}
    expected |= {
        entry.label
        for entry, drawn in zip(comparison.entries[1:], scores, strict=True)
        if np.mean(drawn >= leading) >= 0.025
    }
    assert comparison.tied == expected
    assert 10 < len(expected) < 300


def test_what_is_not_feasible_cannot_win() -> None:
    comparison = one(recorded("cluster", accuracy=0.9, feasible=False), recorded("prune", accuracy=0.7))
    assert comparison.winner is not None and comparison.winner.technique == "prune"
    assert comparison.rank_acceptability.keys() == {"vgg16-cifar10-prune"}
    assert one(recorded("cluster", feasible=False)).winner is None
    assert notes(one(recorded("cluster", feasible=False))) == ["No cell keeps the budgets of its score profile."]


def test_the_move_that_is_told_changes_the_winner() -> None:
    cells = [recorded("quantize_int8", accuracy=0.75, megabytes=0.25), recorded("baseline", accuracy=0.8)]
    comparison = one(*cells)
    assert comparison.winner is not None and comparison.winner.technique == "quantize_int8"
    (size,) = [move for move in comparison.weight_flips if move.criterion == "size"]
    assert size.winner == "vgg16-cifar10-baseline" and 0 < size.after < size.before == 0.5

    def score(cell: RecordedCell, exponent: float) -> float:
        return cell.metrics["score/operational"] + cell.metrics["score/size_db"] * (exponent / 0.5 - 1)

    for exponent, first in ((size.after + 0.001, cells[0]), (size.after - 0.001, cells[1])):
        assert max(cells, key=lambda cell: score(cell, exponent)) is first


def test_marks_and_the_articles_words() -> None:
    comparison = one(
        recorded("baseline"),
        recorded("quantize_int8", megabytes=0.25, ratio=(0.7, 0.8)),
        recorded("cluster", megabytes=0.4, accuracy=0.6, p_value=0.001, ratio=(0.99, 1.01)),
        recorded("transfer", accuracy=0.9, p_value=0.01, ratio=(1.2, 1.3), train_s=1.0),
    )
    assert article.table(comparison).splitlines()[2:] == [
        "| vgg16 | quantize_int8 | = | + | + | 2-D |",
        "| vgg16 | cluster | - | = | + | 1-D |",
        "| vgg16 | transfer | + | - | = | 1-D |",
    ]
    said = article.claims([comparison])
    assert "quantization is best in several dimensions holds here: it improves two or more in 1 of 1 cells" in said
    assert "weight clustering is useful in two dimensions does not hold here: in 0 of 1 cells" in said
    assert "transfer learning is useful in two dimensions does not hold here" in said


def test_claims_without_their_cells_are_not_told() -> None:
    assert article.claims([one(recorded("baseline"))]).count("cannot be told") == 3


def test_a_cell_that_learnt_nothing_is_named_and_not_the_fittest() -> None:
    nothing = recorded("quantize_int8", megabytes=0.1)
    nothing = replace(
        nothing,
        metrics=nothing.metrics | {"test/majority_share": 0.79, "test/majority_p_value": 0.2},
        majority="cat",
    )
    comparison = one(nothing, recorded("baseline"))
    assert comparison.entries[0].technique == "quantize_int8"
    assert comparison.winner is not None and comparison.winner.technique == "baseline"
    sentence = "vgg16-cifar10-quantize_int8 is no better than always answering 'cat' (79.0% of the test images)."
    assert sentence in notes(comparison)
    assert "vgg16-cifar10-quantize_int8 (nothing learnt)" in text(comparison)
    assert notes(one(nothing)) == ["No cell has learnt enough to be the fittest.", sentence]
    (both,) = entries_of([nothing, recorded("quantize_int8", seed=1)])
    assert both.uninformed.endswith("with 1 of 2 seeds") and not both.eligible
