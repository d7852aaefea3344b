import pytest

from pipelines.commands import arguments

DEFAULTS = {"dataset": None, "experiment": "opscore"}


def test_what_is_given_takes_the_place_of_the_default() -> None:
    assert arguments.settings([], DEFAULTS) == DEFAULTS
    assert arguments.settings(["dataset=a=b c", "experiment="], DEFAULTS) == {
        "dataset": "a=b c",
        "experiment": "opscore",
    }


@pytest.mark.parametrize("word", ["dataset", "--dataset", "data=1", "=1", ""])
def test_what_is_not_known_gets_a_sentence(word: str) -> None:
    with pytest.raises(ValueError, match=f"name=value with one of dataset, experiment, got '{word}'"):
        arguments.settings([word], DEFAULTS)


def test_help_lists_the_names() -> None:
    assert "dataset=, experiment=opscore" in arguments.parser("prog", "what it does", DEFAULTS).format_help()


def test_options_may_stand_anywhere() -> None:
    parser = arguments.parser("prog", "what it does", DEFAULTS)
    parser.add_argument("--into")
    given = parser.parse_args(["dataset=a", "--into", "file", "experiment=b"])
    assert given.settings == ["dataset=a", "experiment=b"] and given.into == "file"
