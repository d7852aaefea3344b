"""The class names inside an exported model: a ZIP with `labels.txt` behind the flatbuffer, which LiteRT ignores.

Source: TensorFlow Lite Metadata, "associated files", https://ai.google.dev/edge/litert/models/metadata
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.results.files import LABELS


def labels_of(path: Path) -> tuple[str, ...]:
    """The class names in an exported model in the order of its logits; empty if it has none."""
    if not zipfile.is_zipfile(path):
        return ()
    with zipfile.ZipFile(path) as archive:
        if LABELS not in archive.namelist():
            return ()
        return tuple(archive.read(LABELS).decode("utf-8").splitlines())


def append_labels(path: Path, labels: Sequence[str], *, classes: int) -> None:
    """Store class names, in the order of the logits, in the exported model. Equal names give equal bytes.

    classes: the number of logits. Raises ValueError unless there is one single-line name per class and the file has
    none yet.
    """
    if found := labels_of(path):
        raise ValueError(f"{path} must have no labels yet, got {len(found)}: export it anew")
    if len(labels) != classes:
        raise ValueError(
            f"labels must be one for each of the {classes} classes of {path}, got {len(labels)}: pass the dataset's "
            "class names"
        )
    for label in labels:
        if label.splitlines() != [label]:
            raise ValueError(f"a label must be one non-empty line, got {label!r}: rename that class")
    with zipfile.ZipFile(path, "a") as archive:
        # A plain ZipInfo is dated 1980, so the bytes do not depend on the clock.
        archive.writestr(zipfile.ZipInfo(LABELS), "\n".join(labels))


def without_labels(path: Path) -> bytes:
    """The flatbuffer alone."""
    content = path.read_bytes()
    if not zipfile.is_zipfile(path):
        return content
    with zipfile.ZipFile(path) as archive:
        return content[: min(one.header_offset for one in archive.infolist())]
