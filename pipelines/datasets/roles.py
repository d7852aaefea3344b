"""The roles of an archive's arrays, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PARTS = {
    "train": "train training",
    "validation": "val valid validation dev",
    "test": "test testing eval evaluation",
}
_KINDS = {"x": "x image images img imgs data", "y": "y label labels target targets"}
_CLASS_NAMES = {
    "class_names", "classnames", "classes", "label_names", "labels_names", "target_names", "categories", "names",
}  # fmt: skip
_WORDS = {word: key for table in (_PARTS, _KINDS) for key, words in table.items() for word in words.split()}


def role(name: str) -> str | None:
    """x_train, y_test, x_validation, ..., or x and y for images that are not split, class_names, or None."""
    lower = name.casefold()
    if lower in _CLASS_NAMES:
        return "class_names"
    words = re.sub(r"^([xy])(?=[a-z]{2})(?=train|test|val|dev|eval)", r"\1_", lower).replace("-", "_").split("_")
    keys = [_WORDS.get(word) for word in words]
    kinds, parts = [key for key in keys if key in _KINDS], [key for key in keys if key in _PARTS]
    if len(kinds) != 1 or len(parts) > 1 or len(keys) != len(kinds) + len(parts):
        return None
    return "_".join([str(kinds[0]), *map(str, parts)])


def assigned(names: Iterable[str]) -> dict[str, str]:
    """The array of each role; one that has its role's own name takes precedence.

    Raises ValueError where two arrays have one role.
    """
    found: dict[str, str] = {}
    names = list(names)
    # Images for evaluation are the test images where there are no others, and never with the labels of others.
    for_testing = {role(name) for name in names if not _is_for_evaluation(name)} & {"x_test", "y_test"}
    for name in sorted(names, key=lambda one: one != role(one)):
        wanted = role(name)
        if wanted is None or (for_testing and _is_for_evaluation(name)):
            continue
        if found.get(wanted, wanted) != wanted:
            raise ValueError(
                f"{wanted} must be one array, got {found[wanted]} and {name}: save one of them as {wanted}"
            )
        found.setdefault(wanted, name)
    if not {"x_test", "y_test"} <= found.keys():
        found = {wanted: name for wanted, name in found.items() if not _is_for_evaluation(name)}
    return found


def _is_for_evaluation(name: str) -> bool:
    return "eval" in name.casefold()
