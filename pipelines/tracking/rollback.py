"""Returning a dataset to an earlier champion, also where the present one, or the one before, was deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.system.errors import StoreError
from pipelines.tracking.registry import CHAMPION, PREVIOUS, Registry, asked


def roll_back(registry: Registry, name: str, *, to: str | None, dry_run: bool) -> tuple[str, str | None]:
    """Make an earlier version the champion again, and the present champion the previous one.

    to: the version's number; None for the one with the alias previous. dry_run: only look. Gives the numbers of the
    version returned to and of the former champion, None where that was deleted. Raises StoreError where there is no
    version to return to, or its artifact is lost.
    """
    aliases, there = registry.aliases(name), registry.numbers(name)
    target = to or aliases.get(PREVIOUS)
    champion = aliases.get(CHAMPION) if aliases.get(CHAMPION) in there else None
    version = registry.version(name, target) if target in there and target is not None else None
    if version is None or target == champion:
        raise StoreError(_no_way_back(registry.uri, name, to, champion, there))
    with tempfile.TemporaryDirectory() as folder:
        registry.download(name, version, Path(folder))
    if not dry_run:
        before = aliases.get(PREVIOUS)
        kept = before if before in there and before != target else None
        registry.point(name, champion=version.number, previous=champion or kept)
    return version.number, champion


def _no_way_back(uri: str, name: str, to: str | None, champion: str | None, there: Sequence[str]) -> str:
    """Why there is no version to return to, and what can be done, in one sentence."""
    if not there:
        return (
            f"{name} has no version in {uri} to return to: promote a cell with `python -m pipelines.promote "
            f"{asked(name)}`"
        )
    if to is None:
        fault = f"{name} must have a previous version to return to, got none"
    elif to == champion:
        fault = f"version must be another than the champion's, got {to}"
    else:
        fault = f"version must be one of {', '.join(there)}, got {to}"
    fault += f", where there {'is version' if len(there) == 1 else 'are versions'} {', '.join(there)}"
    fault += f" and {champion} is the champion" if champion else " and no champion"
    others = [number for number in there if number != champion]
    if not others:
        return f"{fault}: promote a second one first"
    return f"{fault}: choose one with `python -m pipelines.promote rollback {asked(name)} version={others[-1]}`"
