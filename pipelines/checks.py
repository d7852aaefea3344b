"""Early checks of configured values: what must hold, what was got, what would do.

Every function raises ValueError with one sentence. They are called from `__post_init__` of the classes
that Hydra instantiates, so that a bad value ends a run in about a second, before TensorFlow loads.
"""

import re
from collections.abc import Collection


def whole(name: str, value: object, *, least: int) -> None:
    """Check that `value` is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}: set {name}={least} or more"
        )


def number(name: str, value: object, *, above: float | None = None, least: float | None = None) -> None:
    """Check that `value` is a finite real number, greater than `above` and no less than `least`."""
    wanted = f"more than {above:g}" if above is not None else f"{least:g} or more"
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != float("inf")
    if not ok or not (
        (above is None or value > above) and (least is None or value >= least)  # type: ignore[operator]
    ):
        raise ValueError(f"{name} must be a number, {wanted}, got {value!r}: set {name}=<number>")


def fraction(name: str, value: object, *, zero: bool = False) -> None:
    """Check that `value` lies in (0, 1), or in [0, 1) where `zero` is allowed."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if not ok or not (0 <= value < 1) or (value == 0 and not zero):  # type: ignore[operator]
        raise ValueError(
            f"{name} must be a fraction in {'[' if zero else '('}0, 1), got {value!r}: set for example {name}=0.1"
        )


def one_of(name: str, value: object, choices: Collection[object]) -> None:
    """Check that `value` is among `choices`."""
    if value not in choices:
        listed = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}: set {name}=<one of them>")


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
