"""The split that a folder's name stands for, as people write it."""

from __future__ import annotations

import re

SPLITS = ("train", "validation", "test")
_EXTRA = r"[\W_]*(set|data|images?|imgs?|split)?[\W_]*\d*"
_SPLIT = {
    "train": re.compile(rf"(train(ing)?|trn){_EXTRA}"),
    "validation": re.compile(rf"(val(id(ation|ate)?)?|dev(elopment)?){_EXTRA}"),
    "test": re.compile(rf"(test(ing)?|tst|eval(uation)?){_EXTRA}"),
}
# As in `seg_train`, `test-jpg` and `trainA`.
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_VERSION = re.compile(r"v?\d+")


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for; None for any other name."""
    return next((split for split, pattern in _SPLIT.items() if pattern.fullmatch(name.casefold())), None)


def split_of_last_word(name: str) -> str | None:
    """The split at the end of a longer name, as in `seg_train` and `asl_alphabet_test`; None without one."""
    return split_of(_words(name)[-1]) if _words(name) else None


def split_in(name: str) -> tuple[str | None, tuple[str, ...]]:
    """The split that a word of the name stands for, None without one, and its other words but a version at the end."""
    words = _words(name)
    at = next((place for place in reversed(range(len(words))) if split_of(words[place])), None)
    if at is None:
        return None, ()
    others = [word.casefold() for word in (*words[:at], *words[at + 1 :])]
    while others and _VERSION.fullmatch(others[-1]):
        others.pop()
    return split_of(words[at]), tuple(others)


def _words(name: str) -> list[str]:
    return [word for word in _BETWEEN_WORDS.split(name) if word]
