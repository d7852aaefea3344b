import pytest

from pipelines.system import checks


@pytest.mark.parametrize(
    ("given", "offered"),
    [
        ("2%", "0.02"),
        (" 0.5 % ", "0.005"),
        (20, "0.2"),
        (2.5, "0.025"),
        (1, "0.1"),
        (150, "0.1"),
        (-1, "0.1"),
        (True, "0.1"),
    ],
)
def test_a_percentage_is_offered_as_its_fraction(given: object, offered: str) -> None:
    with pytest.raises(ValueError, match=rf"set for example --max-drop={offered}$"):
        checks.fraction("--max-drop", given, zero=True)


@pytest.mark.parametrize("value", [0.02, 0, 0.999])
def test_fractions_are_taken(value: float) -> None:
    checks.fraction("--max-drop", value, zero=True)
