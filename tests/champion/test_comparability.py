import pytest

from pipelines.champion import comparability
from tests.champion.test_gates import PROFILE, cell


def test_different_test_images_are_refused_with_filters() -> None:
    with pytest.raises(ValueError, match="tested on different images") as caught:
        comparability.check_comparable([cell("a", 1), cell("b", 2), cell("c", 3, digest="d2")])
    assert "filter=\"dataset.digest = 'd1'\" (2 cells) or filter=\"dataset.digest = 'd2'\" (1 cells)" in str(
        caught.value
    )


def test_different_profiles_are_refused_with_filters() -> None:
    other = cell("b", 2, params=PROFILE | {"score.max_size_mb": "5.0"})
    with pytest.raises(ValueError, match="different profiles") as caught:
        comparability.check_comparable([cell("a", 1), other])
    assert "params.`score.max_size_mb` = '5.0'" in str(caught.value)
    assert "score.accuracy" not in str(caught.value)
    same = dict(reversed((PROFILE | {"score.accuracy": "2"}).items()))
    comparability.check_comparable([cell("a", 1), cell("b", 2, params=same)])


def test_cells_without_a_digest_are_refused() -> None:
    with pytest.raises(ValueError, match="got none for all 2"):
        comparability.check_comparable([cell("a", 1, digest=""), cell("b", 2, digest="")])


def test_different_hardware_has_a_note() -> None:
    assert comparability.hardware_note([cell("a", 1), cell("b", 2)]) is None
    note = comparability.hardware_note([cell("a", 1), cell("b", 2, hardware="two, 8 cores")])
    assert note is not None and "one, 2 cores; two, 8 cores" in note
