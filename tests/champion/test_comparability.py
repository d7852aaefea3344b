import pytest

from pipelines.champion import comparability
from tests.champion.test_gates import PROFILE, cell


def test_different_test_images_are_refused_with_filters() -> None:
    with pytest.raises(ValueError, match="tested on different images") as caught:
        comparability.check_comparable([cell("a", 1), cell("b", 2), cell("c", 3, digest="d2")])
    assert "--filter 'dataset.digest = \"d1\"' (2 cells) or --filter 'dataset.digest = \"d2\"' (1 cell)" in str(
        caught.value
    )


def test_different_profiles_are_refused_with_filters() -> None:
    other = cell("b", 2, params=PROFILE | {"score.max_size_mb": "5.0"})
    with pytest.raises(ValueError, match="different profiles") as caught:
        comparability.check_comparable([cell("a", 1), other])
    assert '--filter \'params."score.max_size_mb" = "5.0"\' (1 cell)' in str(caught.value)
    assert "score.accuracy" not in str(caught.value)
    same = dict(reversed((PROFILE | {"score.accuracy": "2"}).items()))
    comparability.check_comparable([cell("a", 1), cell("b", 2, params=same)])


def test_cells_without_a_digest_are_refused() -> None:
    with pytest.raises(ValueError, match="got none for all 2"):
        comparability.check_comparable([cell("a", 1, digest=""), cell("b", 2, digest="")])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hardware": "two, 8 cores"}, "measured on different machines (one, 2 cores and two, 8 cores)"),
        ({"digest": "d2"}, "tested on different images (d1 and d2)"),
        (
            {"params": PROFILE | {"measurement.threads": "4"}},
            "measured with different settings (measurement.threads null and 4)",
        ),
        (
            {"params": PROFILE | {"score.max_size_mb": "5.0"}},
            "scored by different profiles (score.max_size_mb null and 5)",
        ),
    ],
)
def test_champion_that_cannot_be_compared_is_refused(changed: dict, message: str) -> None:
    comparability.check_champion(cell("old", 1), cell("new", 2))
    with pytest.raises(ValueError, match="add --anew") as caught:
        comparability.check_champion(cell("old", 1), cell("new", 2, **changed))
    assert f"small_cnn-digits-old of run old, and the candidates were {message} and cannot be compared" in str(
        caught.value
    )
    assert ("add --target" in str(caught.value)) is ("hardware" in changed)


def test_other_machines_and_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="measured on different machines") as caught:
        comparability.check_comparable([cell("a", 1), cell("b", 2, hardware="two, 8 cores")])
    assert "--filter 'tags.hardware = \"two, 8 cores\"' (1 cell)" in str(caught.value)
    assert str(caught.value).endswith("the id of its run, or measure all on one device and add --target")
    with pytest.raises(ValueError, match="different machines") as of_sweep:
        comparability.check_comparable([cell("a", 1), cell("b", 2, hardware="two, 8 cores")], of_one_sweep=True)
    assert "--sweep" not in str(of_sweep.value) and "--target" in str(of_sweep.value)
    quick = {"measurement.min_calls": "50", "measurement.timeout_s": "60"}
    default = {"measurement.min_calls": "1000", "measurement.timeout_s": "600"}
    cells = [cell("a", 1, params=PROFILE | default), cell("b", 2, params=PROFILE | quick)]
    with pytest.raises(ValueError, match="measured with different settings") as caught:
        comparability.check_comparable(cells)
    assert 'params."measurement.min_calls" = "50"' in str(caught.value) and "timeout" not in str(caught.value)
    # A limit on the time changes nothing that is measured.
    same = default | {"measurement.timeout_s": "60"}
    comparability.check_comparable([cells[0], cell("b", 2, params=PROFILE | same)])


def test_a_filter_has_all_conditions_that_are_needed() -> None:
    quick = PROFILE | {"measurement.min_calls": "50", "score.min_speedup": "None"}
    goal = PROFILE | {"measurement.min_calls": "1000", "score.min_speedup": "2"}
    with pytest.raises(ValueError, match="measured with different settings and scored by different profiles") as caught:
        comparability.check_comparable([cell("a", 1, params=quick), cell("b", 2, params=goal)])
    expected = """--filter 'params."measurement.min_calls" = "50" and params."score.min_speedup" = "None"' (1 cell)"""
    assert expected in str(caught.value)


def test_no_filter_is_offered_that_finds_nothing() -> None:
    """A score of one's own may lack a parameter, and no filter finds runs without it."""
    goal = PROFILE | {"score.min_speedup": "2"}
    with pytest.raises(ValueError, match="scored by different profiles") as caught:
        comparability.check_comparable([cell("a", 1, params=PROFILE), cell("b", 2, params=goal)])
    assert """--filter 'params."score.min_speedup" = "2"' (1 cell)""" in str(caught.value)
    assert "None" not in str(caught.value)
    renamed = [PROFILE | {"score.a": "1"}, PROFILE | {"score.b": "1"}]
    with pytest.raises(ValueError, match=r"cannot be compared: run them again with one of their profiles$"):
        comparability.check_comparable(
            [cell(str(number), 1, params=params) for number, params in enumerate(renamed)], of_one_sweep=True
        )
