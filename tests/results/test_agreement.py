import math

import numpy as np
import pytest

from pipelines.results import agreement

# Rows are true classes. 100 images: 60 of a, 30 of b, 10 of c; c is never answered.
CONFUSION = np.array([[50, 10, 0], [15, 15, 0], [5, 5, 0]])


def test_kappa_by_hand() -> None:
    # p_e = 0.6 * 0.7 + 0.3 * 0.3 + 0.1 * 0 = 0.51, p_o = 0.65.
    chance = agreement.chance(CONFUSION)
    assert chance == pytest.approx(0.51)
    assert agreement.kappa(0.65, chance) == pytest.approx(0.14 / 0.49)


def test_chance_of_equally_many_images_is_one_over_classes() -> None:
    assert agreement.chance(np.array([[9, 1], [6, 4]])) == pytest.approx(0.5)


def test_kappa_where_one_class_is_all_there_is() -> None:
    assert agreement.kappa(1.0, agreement.chance(np.array([[7, 0], [0, 0]]))) == 0.0


def test_recall_and_precision_by_hand() -> None:
    table = agreement.by_class(CONFUSION, ("a", "b", "c"))
    assert table["test images"] == [60, 30, 10]
    assert table["recall"] == pytest.approx([50 / 60, 0.5, 0.0])
    assert table["precision"][:2] == pytest.approx([50 / 70, 0.5]) and table["precision"][2] is None
    assert agreement.balanced_accuracy(CONFUSION) == pytest.approx((50 / 60 + 0.5 + 0) / 3)


def test_a_class_without_test_images_has_no_recall() -> None:
    confusion = np.array([[3, 1], [0, 0]])
    assert agreement.by_class(confusion, ("a", "b"))["recall"] == [0.75, None]
    assert agreement.balanced_accuracy(confusion) == 0.75 and not math.isnan(agreement.balanced_accuracy(confusion))


def test_p_value_of_chance_agreement_is_that_of_random_labels() -> None:
    random = np.random.default_rng(0)
    labels, answers = random.permutation(np.repeat([0, 1, 2], (60, 25, 15))), np.repeat([0, 1, 2], (50, 30, 20))
    confusion = np.zeros((3, 3), np.int64)
    np.add.at(confusion, (labels, answers), 1)
    found = [int((random.permutation(labels) == answers).sum()) for _ in range(20_000)]
    exact = np.mean(np.array(found) >= confusion.trace())
    assert 0.01 < exact < 0.99 and agreement.p_value(confusion) == pytest.approx(exact, abs=0.01)


def test_constant_answer_agrees_by_chance() -> None:
    assert agreement.p_value(np.array([[19, 0], [1, 0]])) == 1.0
    assert agreement.p_value(np.array([[1, 0], [0, 0]])) == 1.0


@pytest.mark.parametrize(
    ("images", "defects", "alarms", "hits", "expected"),
    [(359, 55, 1, 1, 0.1532), (359, 26, 2, 1, 0.1398), (1000, 20, 8, 2, 0.0103)],
)
def test_p_value_of_two_classes_is_fishers(images: int, defects: int, alarms: int, hits: int, expected: float) -> None:
    confusion = np.array([[images - defects - alarms + hits, alarms - hits], [defects - hits, hits]])
    draws = sum(math.comb(defects, one) * math.comb(images - defects, alarms - one) for one in range(hits, alarms + 1))
    assert agreement.p_value(confusion) == pytest.approx(draws / math.comb(images, alarms))
    assert agreement.p_value(confusion) == pytest.approx(expected, abs=1e-3)
