"""Early checks of configured values.

Every check raises ValueError with one sentence: what must hold, the value, and a value that would do. They are called
from `__post_init__` of the classes that Hydra instantiates, so that a bad value ends a run in about a second,
before TensorFlow loads.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterable


def integer(name: str, value: object, *, minimum: int) -> None:
    """Check that `value` is an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(
            f"{name} must be a whole number of at least {minimum}, got {value!r}: set for example {name}={minimum}"
        )


def number(
    name: str,
    value: object,
    *,
    exclusive_minimum: float | None = None,
    minimum: float | None = None,
    example: float | None = None,
) -> None:
    """Check that `value` is a finite real number, greater than `exclusive_minimum` and no less than `minimum`.

    example: a value that would do; by default one near the minimum.
    """
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (exclusive_minimum is None or value > exclusive_minimum)
        and (minimum is None or value >= minimum)
    ):
        return
    if exclusive_minimum is not None:
        wanted, near = f"more than {exclusive_minimum:g}", exclusive_minimum + 1
    else:
        wanted, near = f"{minimum:g} or more", minimum or 0
    example = near if example is None else example
    raise ValueError(f"{name} must be a number, {wanted}, got {value!r}: set for example {name}={example:g}")


def fraction(name: str, value: object, *, zero: bool = False, example: float = 0.1, meaning: str = "") -> None:
    """Check that `value` is in (0, 1), or in [0, 1) if `zero` is allowed. meaning: of the example, in words."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if not ok or not (0 <= value < 1) or (value == 0 and not zero):  # type: ignore[operator]
        raise ValueError(
            f"{name} must be a fraction in {'[' if zero else '('}0, 1){meaning and f', where {example} is {meaning}'}, "
            f"got {value!r}: set for example {name}={_of_percent(value) or example}"
        )


def _of_percent(value: object) -> str:
    """The fraction that a percentage, `2%` or 2, was probably meant to be; empty for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*", str(value))
    percent = float(found[1]) if found else 0.0
    is_one = 0 < percent < 100 and (percent > 1 or "%" in str(value))
    return f"{percent / 100:g}" if is_one else ""


def one_of(name: str, value: object, choices: Collection[object]) -> None:
    """Check that `value` is among `choices`."""
    if all(value != choice for choice in choices):
        # As Hydra writes them.
        words = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices]
        meant = nearest(str(value), words) or words[0]
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {value!r}: set for example {name}={meant}")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` most likely misspells; None if it resembles none of them."""
    folded = {re.sub(r"[_.\- ]", "", choice.lower()): choice for choice in choices}
    found = difflib.get_close_matches(re.sub(r"[_.\- ]", "", word.lower()), folded, n=1, cutoff=0.7)
    return folded[found[0]] if found else None


def did_you_mean(word: str, choices: Collection[str]) -> str:
    """`: did you mean <one of the choices>?`, empty if `word` resembles none of them."""
    meant = nearest(word, choices)
    return f": did you mean {meant}?" if meant else ""


def flag(name: str, value: object) -> None:
    """Check that `value` is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}: set {name}=true or {name}=false")


def pattern(name: str, value: object) -> None:
    """Check that `value` is a regular expression, or None."""
    if value is None:
        return
    try:
        re.compile(value)  # type: ignore[call-overload]
    except (re.error, TypeError) as error:
        raise ValueError(
            f"{name} must be a regular expression, got {value!r} ({error}): set for example {name}='block[45]'"
        ) from error
