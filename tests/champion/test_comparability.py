import pytest

from pipelines.champion import comparability
from pipelines.results.metrics import SCORE
from tests.champion.test_gates import METRICS, PROFILE, cell


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


def test_different_hardware_has_a_note() -> None:
    assert comparability.conditions_note([cell("a", 1), cell("b", 2)]) is None
    note = comparability.conditions_note([cell("a", 1), cell("b", 2, hardware="two, 8 cores")])
    assert note is not None and "one, 2 cores; two, 8 cores" in note


def test_other_measurement_of_a_champion_has_a_note() -> None:
    cells = [cell(name, 1, params=PROFILE | {"measurement.threads": name}) for name in "14"]
    note = comparability.conditions_note([*cells, cell("older", 1)])
    assert note is not None and note.startswith(
        "measured under different conditions (measurement.threads 1; 4; null): accuracy and size compare"
    )


def test_other_machines_and_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="measured on different machines") as caught:
        comparability.check_comparable([cell("a", 1), cell("b", 2, hardware="two, 8 cores")])
    assert "--filter 'tags.hardware = \"two, 8 cores\"' (1 cell)" in str(caught.value)
    quick = {"measurement.min_calls": "50", "measurement.timeout_s": "60"}
    default = {"measurement.min_calls": "1000", "measurement.timeout_s": "600"}
    cells = [cell("a", 1, params=PROFILE | default), cell("b", 2, params=PROFILE | quick)]
    with pytest.raises(ValueError, match="measured with different settings") as caught:
        comparability.check_comparable(cells)
    assert 'params."measurement.min_calls" = "50"' in str(caught.value) and "timeout" not in str(caught.value)
    # A limit on the time changes nothing that is measured.
    same = default | {"measurement.timeout_s": "60"}
    comparability.check_comparable([cells[0], cell("b", 2, params=PROFILE | same)])


def test_cells_timed_by_an_older_version_are_refused() -> None:
    new = cell("b", 2, metrics=METRICS | {SCORE: 2.0, "test/chance": 0.1})
    with pytest.raises(ValueError, match="timed in two ways") as caught:
        comparability.check_comparable([cell("a", 1), new])
    assert "--filter 'metrics.\"test/chance\" >= 0' (1 cell)" in str(caught.value)


def test_a_filter_has_all_conditions_that_are_needed() -> None:
    quick = PROFILE | {"measurement.min_calls": "50"}
    goal = PROFILE | {"measurement.min_calls": "1000", "score.min_speedup": "2"}
    with pytest.raises(ValueError, match="measured with different settings and scored by different profiles") as caught:
        comparability.check_comparable([cell("a", 1, params=quick), cell("b", 2, params=goal)])
    expected = """--filter 'params."measurement.min_calls" = "50" and params."score.min_speedup" = "None"' (1 cell)"""
    assert expected in str(caught.value)
