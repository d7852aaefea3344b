"""The shortlist, by hand and against all cells tried one by one."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.comparison import shortlist_text
from pipelines.comparison.shortlist import (
    ALLOWANCES,
    Shortlist,
    difference,
    doubts_of,
    images_for_resolvable,
    images_to_tell,
    shortlist,
)
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system.errors import StoreError
from tests.comparison.recorded import answers, compared, recorded

IMAGES = 10_000


def listed(*cells: RecordedCell) -> Shortlist:
    found = shortlist(compared(*cells))
    assert found is not None
    return found


def cell(technique: str, accuracy: float, megabytes: float, images: int = IMAGES, **changed: object) -> RecordedCell:
    return recorded(technique, accuracy=accuracy, megabytes=megabytes, images=images, **changed)  # type: ignore[arg-type]


def test_the_fittest_cell_within_each_allowance_by_hand() -> None:
    found = listed(
        cell("baseline", 0.66, 4.0, test_ms=2.0),
        cell("quantize_dynamic", 0.66, 2.0, test_ms=1.0),
        cell("quantize_int8", 0.651, 1.0),
        # The best score by far, for a tenth of the training time and of the size.
        cell("transfer_quantize_int8", 0.541, 0.1, train_s=1.0),
    )
    assert [(row.given_up, row.entry.technique) for row in found.rows] == [
        ("0 points", "quantize_dynamic"),
        ("1 to 10 points", "quantize_int8"),
        ("any", "transfer_quantize_int8"),
    ]
    # Of equally accurate cells the fitter one is the one to compare with.
    assert found.most_accurate.technique == "quantize_dynamic"
    int8 = found.rows[1]
    assert (int8.drop, int8.times_smaller, int8.times_faster) == pytest.approx((0.009, 2.0, 1.0))
    assert found.smallest.technique == "transfer_quantize_int8" and found.fastest.test_ms.value == 1.0


def test_a_drop_of_exactly_the_allowance_is_within_it() -> None:
    found = listed(cell("baseline", 0.9, 4.0), cell("quantize_int8", 0.88, 1.0))
    assert [row.given_up for row in found.rows] == ["0 to 1 point", "2 points or more"]


def test_infeasible_and_uninformed_cells_are_left_out() -> None:
    nothing = cell("cluster", 0.9, 0.1)
    nothing.metrics.update({"test/majority_share": 0.9, "test/majority_p_value": 0.5})
    found = listed(cell("baseline", 0.8, 4.0, feasible=False), cell("quantize_int8", 0.7, 1.0), nothing)
    # The most accurate may break a budget: what is lost to it is lost all the same.
    assert found.most_accurate.technique == "baseline"
    assert [(row.given_up, row.entry.technique) for row in found.rows] == [("10 points or more", "quantize_int8")]
    assert shortlist(compared(cell("baseline", 0.8, 4.0, feasible=False))) is None
    far = listed(cell("baseline", 0.8, 4.0, feasible=False), cell("quantize_int8", 0.6, 1.0))
    assert far.warnings[1:] == (
        "No cell within its budgets is within 10 points of the most accurate, vgg16-cifar10-baseline.",
    )


@pytest.mark.parametrize("seed", range(20))
def test_rows_equal_those_of_trying_all_cells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [
        cell(f"t{n}", round(accuracy, 3), size, test_ms=ms, feasible=bool(fits))
        for n, (accuracy, size, ms, fits) in enumerate(
            zip(
                rng.uniform(0.6, 0.9, 40),
                rng.uniform(0.1, 5, 40),
                rng.uniform(0.1, 5, 40),
                rng.random(40) < 0.8,
                strict=True,
            )
        )
    ]
    found = listed(*cells)
    best = max(one.metrics["test/accuracy"] for one in cells)
    expected = {}
    for allowance in ALLOWANCES:
        within = [
            one
            for one in cells
            if one.feasible and (allowance is None or best - one.metrics["test/accuracy"] <= allowance + 1e-9)
        ]
        if within:
            expected[allowance] = max(within, key=lambda one: one.metrics["score/operational"]).technique
    assert {allowance: row.entry.technique for row in found.rows for allowance in row.allowances} == expected
    # Rows that repeat the row above are folded.
    assert all(one.entry is not two.entry for one, two in zip(found.rows, found.rows[1:], strict=False))


def test_interval_of_a_drop_by_hand() -> None:
    own, top = cell("quantize_int8", 0.88, 1.0, images=1000), cell("baseline", 0.9, 4.0, images=1000)
    known = {own.run_id: answers(880, beside=900), top.run_id: answers(900)}
    # p = -20/1002, q = 22/1002: -1.996 +- 0.909 points.
    found = difference([own], [top], lambda one: known[one.run_id])
    assert (100 * found.low, 100 * found.high) == pytest.approx((-2.905, -1.087), abs=1e-3)
    assert found.discordant == 0.02
    # Without the answers as if no image was wrong in both: 120 and 100 wrong answers.
    assert difference([own], [top], None).discordant == pytest.approx(0.22)

    def lost(_: RecordedCell) -> npt.NDArray[np.bool_]:
        raise StoreError("its files are lost")

    assert difference([own], [top], lost) == difference([own], [top], None)


def test_seeds_are_paired_and_widen_the_interval() -> None:
    top = [cell("baseline", accuracy, 4.0, seed=n) for n, accuracy in enumerate((0.90, 0.91, 0.92))]
    own = [cell("quantize_int8", accuracy, 1.0, seed=n) for n, accuracy in enumerate((0.89, 0.90, 0.91))]

    def known(one: RecordedCell) -> npt.NDArray[np.bool_]:
        right, its = round(IMAGES * one.accuracy), round(IMAGES * top[int(one.seed)].accuracy)
        return answers(right, IMAGES, beside=its, differing=0 if one in top else max(200, its - right))

    agreeing = difference(own, top, known)
    # Every pair loses one point: the interval is that of the images.
    assert agreeing.low < -0.01 < agreeing.high and agreeing.high - agreeing.low < 0.006
    scattered = [cell("quantize_int8", accuracy, 1.0, seed=n) for n, accuracy in enumerate((0.91, 0.90, 0.89))]
    found = difference(scattered, top, known)
    # Differences of 0.01, -0.01, -0.03: mean -0.01, standard error 0.0115, t of two degrees 4.30: 4.97 points. The
    # images add 0.30 points for 233 of 10,000 in quadrature, which is 4.98.
    assert found.seeds_low == pytest.approx(-0.0597, abs=1e-4)
    assert (found.low, found.high) == pytest.approx((-0.0598, 0.0398), abs=1e-4)
    assert "its seeds differ so much" in doubts_of(scattered, top, [0.02], known)[0]


def test_seeds_that_only_one_has_count() -> None:
    """Two of three seeds lose 3.2 points, while the one that both have wins."""
    (top,) = [cell("baseline", 0.893, 4.0)]
    own = [cell("quantize_int8", accuracy, 1.0, seed=n) for n, accuracy in enumerate((0.905, 0.861, 0.861))]
    found = difference(own, [top], None)
    # By hand: s^2 = (2.933^2 + 2 * 1.467^2) / 2 = 6.453, and 4.303 * sqrt(6.453 * 4 / 3) = 12.62 points around -1.73.
    assert found.seeds_low == pytest.approx(-0.1436, abs=1e-4)
    assert (found.low + found.high) / 2 == pytest.approx(-0.0173, abs=1e-3)
    assert "its seeds differ so much" in doubts_of(own, [top], [0.02], None)[0]


def test_a_doubt_ends_with_the_allowance_that_it_is_about() -> None:
    top, own = cell("baseline", 0.9, 4.0, images=359), cell("quantize_int8", 0.9 - 2 / 359, 1.0, images=359)
    known = {top.run_id: answers(323, 359), own.run_id: answers(321, 359, beside=323)}
    found = shortlist(compared(top, own), lambda one: known[one.run_id])
    assert found is not None
    row = found.recommended
    assert row.given_up == "1 point or more" and "it may lose 1.6 points" in row.doubt
    assert "quantize_int8 (sure from 2)" in shortlist_text.text(found)


def test_more_images_do_not_narrow_the_spread_of_seeds() -> None:
    # By hand: (1.96^2 * (0.05 - 0.01^2)) / (0.01^2 - 0.009^2) = 0.19169 / 1.9e-5.
    assert images_to_tell(0.01, 0.02, 0.05, 0.009) == pytest.approx(10_089, rel=1e-3)
    assert images_to_tell(0.01, 0.02, 0.05) == pytest.approx(1917, rel=1e-3)
    assert images_to_tell(0.01, 0.02, 0.05, 0.011) == math.inf


def test_images_that_would_tell_by_hand() -> None:
    # z^2 (0.02 - 0.0001) / (0.02 - 0.01)^2
    assert images_to_tell(0.01, 0.02, 0.02) == pytest.approx(1.959964**2 * 0.0199 / 0.0001)
    assert math.isinf(images_to_tell(0.02, 0.02, 0.02))


def test_a_row_that_the_images_do_not_show_is_doubted() -> None:
    found = listed(cell("baseline", 0.9, 4.0, images=1000), cell("quantize_int8", 0.895, 1.0, images=1000))
    row = found.rows[-1]
    assert row.given_up == "1 point or more"
    # q = (205 + 2) / 1002, p = -5/1002 adjusted; room 0.01 - 0.00499: 31,600 images, rounded up.
    assert row.doubt == "not sure on 1,000 images, where it may lose 3.3 points; about 32,000 would decide it"
    text = " ".join(shortlist_text.text(found).split())
    assert "quantize_int8 (sure from 5)" in text
    assert f"vgg16-cifar10-quantize_int8: {row.doubt}." in text
    sure = listed(cell("baseline", 0.9, 4.0, images=10**6), cell("quantize_int8", 0.895, 1.0, images=10**6))
    assert sure.rows[-1].doubt == "" and "not sure" not in shortlist_text.text(sure)


def test_no_number_of_images_next_to_their_own() -> None:
    # The approximation gives 4,900: next to 4,500 that is no advice.
    found = listed(cell("baseline", 0.95, 4.0, images=4500), cell("quantize_int8", 0.949, 1.0, images=4500))
    assert found.rows[-1].doubt == "not sure on 4,500 images, where it may lose 1.1 points"


def test_the_fastest_of_those_that_tie_is_the_most_accurate() -> None:
    found = listed(
        cell("qat", 0.90, 1.0, test_ms=1.004),
        cell("quantize_int8", 0.87, 1.0, test_ms=1.0),
        cell("baseline", 0.89, 4.0),
    )
    assert found.fastest.technique == "qat" and found.smallest.technique == "qat"


def test_a_small_test_set_is_named_first() -> None:
    # A = 92/104: z^2 * 2 * 0.8846 * 0.1154 / 0.05^2 = 314.
    assert images_for_resolvable(0.9, 100) == pytest.approx(313.7, abs=0.1)
    found = listed(cell("baseline", 0.9, 4.0, images=100), cell("quantize_int8", 0.85, 1.0, images=100))
    assert found.warnings == (
        "100 test images cannot tell 5 points of accuracy apart, which takes about 320: the most accurate cell may be "
        "so by chance.",
    )
    assert shortlist_text.text(found).startswith("100 test images cannot tell")
    # Ten images without an error are no proof.
    assert listed(cell("baseline", 1.0, 4.0, images=10)).warnings
    assert not listed(cell("baseline", 0.9, 4.0, images=1000)).warnings


def test_text_of_the_shortlist() -> None:
    found = listed(
        cell("baseline", 0.9, 4.0, images=10**6, test_ms=2.0),
        cell("quantize_int8", 0.885, 1.0, images=10**6, test_ms=0.5),
    )
    first, heading, *lines = shortlist_text.text(found).splitlines()
    assert first == "Most accurate: vgg16-cifar10-baseline, 90.0%. The fittest cell that loses at most:"
    assert heading.split()[:5] == ["lose", "model", "technique", "accuracy", "95%"] and heading.endswith(
        "smaller  faster"
    )
    assert " ".join(lines[0].split()) == ("0 to 1 point vgg16 baseline 90.0% 89.9% to 90.1% 2.00 4,000 10.0 65.4")
    # (0.885 - 0.1) / 0.9: 40 log10(87.22) - 10 log10(1) - 5 log10(0.5) - 5 log10(10) = 74.13.
    assert " ".join(lines[1].split()) == (
        "2 points or more vgg16 quantize_int8 88.5% 88.4% to 88.6% 0.500 1,000 10.0 74.1 x 4.00 x 4.00"
    )
    assert lines[2:] == [
        "Smallest: vgg16-cifar10-quantize_int8, 1,000 kB, 1.5 points less accurate.",
        "Fastest: vgg16-cifar10-quantize_int8, 0.500 ms, 1.5 points less accurate.",
    ]


def test_narrow_shortlist_shows_what_decides() -> None:
    found = listed(
        cell("baseline", 0.9, 4.0), cell("prune_filters_quantize_int8", 0.7, 1.0, model="efficientnet_lite0")
    )
    text = shortlist_text.text(found, width=80)
    assert max(map(len, text.splitlines())) <= 80 and "columns: --wide)" in text
    heading = text.splitlines()[2]
    assert heading.split() == ["lose", "model", "technique", "accuracy", "test", "compressed"]


def test_no_number_is_given_that_nobody_has() -> None:
    # Exactly two points are lost: no number of images would show that it is not more.
    found = listed(cell("baseline", 0.9, 4.0), cell("quantize_int8", 0.88, 1.0))
    assert found.rows[-1].doubt == "not sure on 10,000 images, where it may lose 2.9 points"


def test_faster_is_by_the_ratio_that_was_timed_side_by_side() -> None:
    timed = cell("quantize_int8", 0.9, 1.0, test_ms=0.8)
    timed.metrics["baseline/time_ratio"] = 0.4
    other = cell("baseline", 0.91, 4.0, test_ms=1.0)
    # 1 / 0.4, and not 1.0 / 0.8 of two sessions.
    assert listed(timed, other).rows[-1].times_faster == pytest.approx(2.5)
    of_another = cell("baseline", 0.91, 4.0, test_ms=1.0, model="resnet50")
    assert listed(timed, of_another).rows[-1].times_faster == pytest.approx(1.25)


def test_cells_that_miss_a_budget_are_counted_first() -> None:
    found = listed(cell("baseline", 0.9, 4.0), cell("quantize_int8", 0.89, 1.0, feasible=False))
    assert found.warnings == ("1 cell misses a budget or goal of the score profile and cannot be chosen.",)


def test_a_small_loss_has_its_digits() -> None:
    found = listed(cell("baseline", 0.9203, 4.0, images=10_000), cell("quantize_float16", 0.9201, 2.0, images=10_000))
    assert "Smallest: vgg16-cifar10-quantize_float16, 2,000 kB, 0.02 points less accurate." in shortlist_text.text(
        found
    )
