from pipelines.comparison.shortlist import shortlist
from pipelines.comparison.shortlist_note import note
from tests.comparison.recorded import compared, recorded


def test_first_sentence_is_the_answer_with_its_figures() -> None:
    cells = [recorded("baseline"), recorded("quantize_int8", megabytes=0.25, accuracy=0.79, test_ms=0.75)]
    listed = shortlist(compared(*cells))
    assert listed is not None
    first, table, *_ = note({"cifar10": listed}).split("\n\n")
    start = "**Fittest for cifar10: vgg16-cifar10-quantize_int8**, 79"
    assert first.startswith(start) and " ms an image, 250" in first and " kB compressed. " in first
    assert "loses 1 point to the most accurate cell, vgg16-cifar10-baseline" in first
    assert first.endswith("It is the smallest and fastest cell.")
    assert table.splitlines()[0].count("|") == 6


def test_settings_are_shown_literally() -> None:
    cells = [
        recorded("layer_transfer", accuracy=accuracy, params={"technique.layers": layers})
        for accuracy, layers in ((0.9, ".*conv.*"), (0.8, ".*block.*"))
    ]
    listed = shortlist(compared(recorded("baseline"), *cells))
    assert listed is not None
    text = note({"a*b": listed})
    assert r"**Fittest for a\*b: " in text and r"technique.layers=.\*conv.\*" in text


def test_what_is_worse_is_called_so() -> None:
    # The fittest by its training alone.
    cells = [recorded("baseline"), recorded("transfer", megabytes=1.25, test_ms=1.3, accuracy=0.79, train_s=0.01)]
    listed = shortlist(compared(*cells))
    assert listed is not None and listed.recommended.entry.technique == "transfer"
    first = note({"cifar10": listed}).split("\n\n")[0]
    assert "vgg16-cifar10-baseline, and is 1.25 times larger and 1.30 times slower. " in first
