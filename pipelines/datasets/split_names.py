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


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for; None for any other name."""
    return next((split for split, pattern in _SPLIT.items() if pattern.fullmatch(name.casefold())), None)


def split_of_last_word(name: str) -> str | None:
    """The split at the end of a longer name, as in `seg_train` and `asl_alphabet_test`; None without one."""
    return split_of(_words(name)[-1]) if _words(name) else None


def _words(name: str) -> list[str]:
    return [word for word in _BETWEEN_WORDS.split(name) if word]
