from dataclasses import replace

from pipelines.champion.description import OPENING, of_model, of_version
from pipelines.champion.gates import Gate
from tests.comparison.recorded import recorded
from tests.results.test_summary import BASELINE, RESULT

GATES = [Gate(name="score", passed=True, reason="25.00 dB, the best of the feasible")]


def test_model_says_input_output_and_how_to_load() -> None:
    text = of_model("opscore-pets", "pets", (32, 48, 3), ["cat", "do`g"])
    assert text.startswith(f"{OPENING}2 classes of the dataset pets: `cat`, ``do`g``.\n")
    assert "uint8, not scaled, of shape (n, 32, 48, 3)" in text and "`probabilities` (n, 2)" in text
    assert 'mlflow.pyfunc.load_model("models:/opscore-pets@champion").predict(images)' in text


def test_only_the_first_of_many_classes_are_named() -> None:
    text = of_model("opscore-many", "many", (), [f"c{number}" for number in range(25)])
    assert "`c19` and 5 more." in text and "(n, height, width, 3)" in text


def test_version_has_figures_with_interval_and_what_was_compared() -> None:
    result = replace(RESULT, measurement=replace(RESULT.measurement, test_images=400, correct=300, accuracy=0.75))
    text = of_version(result, GATES, candidates=4, replaced="version 1, run abc", cell=recorded("qat"))
    assert "score 70.6 dB." in text
    # Wilson's interval of 300 in 400.
    assert "accuracy **75.0%** (95% interval 70.5% to 79.0%, 300 of 400 test images)" in text
    assert " ms** an image" in text and " kB** (" in text and "Its baseline has 50.0%, " in text
    assert "compared with 3 other candidates on the same test images. It replaced version 1, run abc." in text
    assert text.endswith("- score: 25.00 dB, the best of the feasible")


def test_names_of_classes_are_shown_as_they_are() -> None:
    gate = Gate(name="learnt", passed=True, reason="better than always answering '<none>'")
    text = of_version(RESULT, [gate], candidates=1, replaced="nothing", cell=recorded("qat"))
    assert text.endswith(r"- learnt: better than always answering '\<none\>'")


def test_version_of_a_baseline_without_rivals() -> None:
    first = "nothing, it is the first"
    text = of_version(BASELINE, GATES, candidates=1, replaced=first, cell=recorded("baseline"), note="Times differ.")
    assert "\n\nTimes differ.\n\n" in text
    assert "Its baseline" not in text and "It was compared with no other." in text
