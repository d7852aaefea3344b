"""Decoded images on this machine: `opscore cache` shows them, `opscore cache clear` deletes them.

Images in folders are decoded once, and every later cell reads the result. It is in the user's cache directory, or in
OPSCORE_CACHE, and takes at most OPSCORE_CACHE_GB. The least recently used images are deleted first, and none that a
running cell uses.
"""

from __future__ import annotations

import time

import click

from pipelines.commands import arguments
from pipelines.datasets.cache import DEFAULT_GB, GB, Cache, Stored, amount
from pipelines.results.tables import aligned


@click.command(
    "cache", cls=arguments.Command, help=__doc__, epilog=f"OPSCORE_CACHE_GB is {DEFAULT_GB:g} where it is not set."
)
@click.argument("action", type=click.Choice(["show", "clear"]), default="show")
def command(action: str) -> None:
    """Show the cache, or clear it."""
    with arguments.checked():
        cache = Cache.of_environment()
    print(_clear(cache) if action == "clear" else _table(cache))


def _table(cache: Cache) -> str:
    """Every set of images, the most recently used first, and the size of all files."""
    stored = cache.stored()
    rows = [_row(one) for one in reversed(stored) if one.facts]
    taken = f"{amount(sum(one.bytes for one in stored))} of at most {cache.limit_bytes / GB:g} GB"
    return "\n".join([*([aligned(rows, left=len(rows[0]))] if rows else []), f"{taken} are taken in {cache.folder}"])


def _row(one: Stored) -> tuple[str, ...]:
    used = "in use" if one.in_use else time.strftime("last used %Y-%m-%d %H:%M", time.localtime(one.last_used))
    images, side = f"{one.facts['images']:,} images", f"{one.facts['side']} px"
    return (amount(one.bytes), images, side, one.facts["folder"], used)


def _clear(cache: Cache) -> str:
    """Delete what is not in use; gives the size of what was deleted and of the rest."""
    kept = freed = 0
    for one in cache.stored():
        if cache.remove(one.key):
            freed += one.bytes
        else:
            kept += one.bytes
    left = f", {amount(kept)} in use stay" if kept else ""
    return f"{amount(freed)} deleted in {cache.folder}{left}"
