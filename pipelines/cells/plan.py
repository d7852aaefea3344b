"""The plan of a cell: its fingerprint, its result key, and the plans of the cells that it needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.cells.cell import Cell, describe
from pipelines.cells.sources import code_digest
from pipelines.datasets.base import Dataset
from pipelines.system import runtime
from pipelines.system.digests import sha256
from pipelines.techniques.base import FileTechnique


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A cell with the keys under which the store may have it.

    fingerprint: SHA-256 in hexadecimal over everything that determines the trained and the exported model. result_key:
    SHA-256 over the fingerprint, LiteRT's version, and the settings of measurement and score. Equal fingerprints share
    training and exported model; equal result keys share every result. code: SHA-256 over the code and the libraries
    alone, which two seeds of a cell share. needs: the plans of the cells that must be finished first, by role: `source`
    (the teacher or donor), `parent` (whose trained model the cell starts from) and `baseline`.
    """

    cell: Cell
    fingerprint: str
    result_key: str
    code: str
    needs: Mapping[str, Plan]

    @property
    def baseline(self) -> str:
        """The fingerprint of its baseline; empty for a baseline."""
        return self.needs["baseline"].fingerprint if "baseline" in self.needs else ""

    @classmethod
    def of(cls, cell: Cell, digest_of: Callable[[Dataset], str]) -> Plan:
        """Plan a cell and what it needs. digest_of: hashes the content of a dataset's splits.

        Raises OSError where a file with weights cannot be read.
        """
        return _planned(cell, digest_of, {})


def _planned(cell: Cell, digest_of: Callable[[Dataset], str], known: dict[str, Plan]) -> Plan:
    """known: plans by the description of their cell, because several roles may name one cell."""
    key = json.dumps(describe(cell), sort_keys=True)
    if key not in known:
        needs = {role: _planned(other, digest_of, known) for role, other in cell.needs.items()}
        computed_by = _computed_by(cell)
        fingerprint = _fingerprint(cell, digest_of, needs, computed_by)
        known[key] = Plan(
            cell=cell,
            fingerprint=fingerprint,
            result_key=_result_key(cell, fingerprint),
            code=_digest(computed_by | {role: needs[role].code for role in ("parent", "source") if role in needs}),
            needs=needs,
        )
    return known[key]


def _computed_by(cell: Cell) -> dict[str, Any]:
    """The code and the libraries that make its exported model."""
    parts = (cell.model, cell.dataset, cell.technique, cell.training)
    return {
        "code": code_digest((kind for part in parts for kind in _classes(part)), cell.model.modules),
        "libraries": {
            name: version
            for name, version in runtime.versions().items()
            # A rewriting sets ranges and compares answers by LiteRT.
            if name.startswith("tensorflow") or isinstance(cell.technique.last, FileTechnique)
        },
    }


def _fingerprint(
    cell: Cell, digest_of: Callable[[Dataset], str], needs: Mapping[str, Plan], computed_by: Mapping[str, Any]
) -> str:
    return _digest(
        {
            **computed_by,
            "model": describe(cell.model, determining=True),
            "weights": [content(origin) for origin in cell.model.origin],
            "data": digest_of(cell.dataset),
            "dataset": describe(cell.dataset, determining=True),
            "technique": describe(cell.technique, determining=True),
            "training": describe(cell.training, determining=True) | {"learning_rate": cell.learning_rate},
            "precision": cell.precision,
            "seed": cell.seed,
            "deterministic": cell.deterministic,
            "parent": needs["parent"].fingerprint if "parent" in needs else None,
            "source": needs["source"].fingerprint if "source" in needs else None,
        }
    )


def _result_key(cell: Cell, fingerprint: str) -> str:
    measured = {name: describe(getattr(cell, name), determining=True) for name in ("measurement", "score")}
    return _digest({"fingerprint": fingerprint, "litert": runtime.versions()["ai-edge-litert"]} | measured)


def _classes(part: Any) -> Iterator[type]:
    """The classes of nested dataclasses."""
    if isinstance(part, Mapping):
        for item in part.values():
            yield from _classes(item)
    elif is_dataclass(part) and not isinstance(part, type):
        yield type(part)
        for one in fields(part):
            yield from _classes(getattr(part, one.name))


def _digest(determining: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def content(origin: str | Path | None) -> str | None:
    """A hash of a file's content, so that its name does not count."""
    if not isinstance(origin, Path):
        return origin
    path = origin
    status = path.stat()
    return _hash(path, status.st_mtime_ns, status.st_size)


@cache
def _hash(path: Path, changed_ns: int, size: int) -> str:  # noqa: ARG001 (a changed file is read again)
    return sha256(path)
