"""The decoded images that are kept on this machine: `opscore cache` shows them, `opscore cache clear` deletes them.

Images in folders are decoded once and read from there by every later cell. They lie in the user's cache directory, or
in OPSCORE_CACHE, and take at most OPSCORE_CACHE_GB; the least recently used go first, none that a running cell uses.
"""

from __future__ import annotations

import time

import click

from pipelines.commands import arguments
from pipelines.datasets.cache import DEFAULT_GB, GB, Cache, Stored, amount


@click.command(
    "cache", cls=arguments.Command, help=__doc__, epilog=f"OPSCORE_CACHE_GB is {DEFAULT_GB:g} where it is not set."
)
@click.argument("action", type=click.Choice(["show", "clear"]), default="show")
def command(action: str) -> None:
    """Show the cache, or clear it."""
    with arguments.checked():
        cache = Cache.of_environment()
    print(cleared(cache) if action == "clear" else shown(cache))


main = arguments.entry(command, "python -m pipelines.cache")


def shown(cache: Cache) -> str:
    """Every set of images, the most recently used first, and what all files take."""
    entries = [one for one in cache.stored() if one.facts]
    rows = [_row(one) for one in reversed(entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    taken = sum(one.bytes for one in cache.stored())
    return "\n".join([*lines, f"{amount(taken)} of at most {cache.limit_bytes / GB:g} GB are taken in {cache.folder}"])


def cleared(cache: Cache) -> str:
    """Delete all that is not in use; gives what that was worth."""
    kept = freed = 0
    for one in cache.stored():
        if cache.remove(one.key):
            freed += one.bytes
        else:
            kept += one.bytes
    left = f", {amount(kept)} in use stay" if kept else ""
    return f"{amount(freed)} deleted in {cache.folder}{left}"


def _row(one: Stored) -> tuple[str, ...]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.last_used))
    return (
        *(amount(one.bytes), f"{one.facts['images']:,} images", f"{one.facts['side']} px"),
        *(
            one.facts["folder"],
            "in use" if one.in_use else f"last used {used}",
        ),
    )
