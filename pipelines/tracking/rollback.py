"""Returning a dataset to an earlier champion, even where the champion or the previous version was deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.system.errors import StoreError
from pipelines.tracking.registry import CHAMPION, PREVIOUS, Registry


def roll_back(registry: Registry, name: str, *, to: str | None, dry_run: bool) -> tuple[str, str | None]:
    """Make an earlier version the champion again, and the current champion the previous one.

    to: the version's number; None for the one with the alias previous. dry_run: change nothing. Gives the numbers of
    the new champion and of the new previous version, None where there is none. Raises StoreError where there is no
    version to return to, or its exported model is lost.
    """
    aliases, numbers = registry.aliases(name), [one.number for one in registry.versions(name)]
    number = to or aliases.get(PREVIOUS)
    champion = aliases.get(CHAMPION) if aliases.get(CHAMPION) in numbers else None
    version = registry.version(name, number) if number in numbers and number is not None else None
    if version is None or number == champion:
        raise StoreError(_refusal(registry, name, to, champion, numbers))
    with tempfile.TemporaryDirectory() as folder:
        registry.download(name, version, Path(folder))
    earlier = aliases.get(PREVIOUS)
    previous = champion or (earlier if earlier in numbers and earlier != number else None)
    if not dry_run:
        registry.point(name, champion=version.number, previous=previous)
    return version.number, previous


def _refusal(registry: Registry, name: str, to: str | None, champion: str | None, numbers: Sequence[str]) -> str:
    """Why there is no version to return to, with a mend."""
    option = registry.option(name)
    if not numbers:
        return f"{name} has no version in {registry.uri} to return to: promote a cell with `opscore promote {option}`"
    if to is None:
        fault = f"{name} must have a previous version to return to, got none"
    elif to == champion:
        fault = f"version must be another than the champion's, got {to}"
    else:
        fault = f"version must be one of {', '.join(numbers)}, got {to}"
    fault += f", where there {'is version' if len(numbers) == 1 else 'are versions'} {', '.join(numbers)}"
    fault += f" and {champion} is the champion" if champion else " and no champion"
    others = [number for number in numbers if number != champion]
    if not others:
        return f"{fault}: promote a second one first"
    return f"{fault}: choose one with `opscore rollback {option} --version {others[-1]}`"
