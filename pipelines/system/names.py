"""Checks of the names of datasets, models and classes, before anything is trained.

The names become registered models with `models:/` addresses, MLflow's tags and filters, folders, and labels.txt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# The name of a cell's folder is <model>-<dataset>-<technique>, and a file name has at most 255 bytes.
MAX_NAME_BYTES = 90
# `opscore-claim-...` are entries of the registry that belong to no dataset (pipelines.tracking.claims).
RESERVED = "claim-"
_MARKS = "._- "
# Words that are not text to Hydra.
_NO_TEXT = ("null", "true", "false", "nan", "inf")


def resolved(field: str, given: object, default: str) -> str:
    """The name of a part of a cell, given or by default, in Unicode's composed form (NFC).

    field: such as `dataset.name`, for the message. Raises ValueError for a name that cannot be used everywhere.
    """
    name = default if given is None or given == "" else given
    if isinstance(name, int | float) and not isinstance(name, bool):
        name = str(name)  # `dataset.name=2024` is a number to Hydra
    name = unicodedata.normalize("NFC", name) if isinstance(name, str) else name
    if fault := _fault(name):
        origin = "" if name is given else " by default"
        raise ValueError(f"{field} must be {fault}, got {name!r}{origin}: set {override(field, str(name))}")
    assert isinstance(name, str)
    return name


def check_dataset(field: str, name: str) -> None:
    """Raise ValueError if a dataset cannot be registered under a name that is valid otherwise."""
    if name.startswith(RESERVED):
        raise ValueError(
            f"{field} must not begin with {RESERVED!r}, which names entries of another kind in MLflow's registry, got "
            f"{name!r}: set {override(field, name)}"
        )


def class_name(text: str) -> str:
    """The name of a class in the form in which names are compared: accents composed (NFC), no blanks at the ends.

    macOS decomposes accents in the names of folders.
    """
    return unicodedata.normalize("NFC", text).strip()


def check_classes(names: Sequence[str]) -> None:
    """Raise ValueError unless class names are distinct and each fits on a line of labels.txt."""
    for number, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"class_names must not be blank, got {name!r} for class number {number}: name that class")
        # Control characters, line breaks of every kind and surrogates, which UTF-8 cannot hold.
        bad = next((one for one in name if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp")), None)
        if bad is not None:
            raise ValueError(
                f"class_names must be one line of plain text each, got {name!r} with the character {bad!r}: rename "
                "that class"
            )
    seen: set[str] = set()
    for name in names:
        if class_name(name) in seen:
            raise ValueError(f"class_names must differ from each other, got {name!r} twice: rename one")
        seen.add(class_name(name))


def override(field: str, name: str) -> str:
    """`<field>=<a valid name like the given one>`, quoted for a shell."""
    value = suggested(name)
    # Hydra accepts letters beyond ASCII only in quotes, which a shell would remove.
    return f"{field}={value}" if value.isascii() else f"'{field}=\"{value}\"'"


def suggested(name: str) -> str:
    """A valid name that resembles the given one and has no blanks."""
    kept = "".join(one if _is_plain(one) and one != " " else "-" for one in unicodedata.normalize("NFC", name))
    words = "-".join(word for word in kept.split("-") if word).strip("._-")
    short = words.encode()[: MAX_NAME_BYTES // 2].decode(errors="ignore").strip("._-")
    return f"my-{short or 'own'}" if not short or short.startswith("claim") or short.lower() in _NO_TEXT else short


def _fault(name: object) -> str:
    """The condition that a name violates, empty for a valid name."""
    if not isinstance(name, str):
        return "text"
    if not all(map(_is_plain, name)) or not name or name != name.strip() or not name.strip(_MARKS):
        return "a name of letters, digits, '.', '_', '-' and blanks between them"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"at most {MAX_NAME_BYTES} bytes long"
    return ""


def _is_plain(character: str) -> bool:
    """Whether it is a letter, digit or combining mark of any script, or one of four punctuation marks."""
    return character in _MARKS or unicodedata.category(character)[0] in "LMN"
