"""Return a dataset to an earlier champion: `opscore rollback --dataset cifar10`.

Champion and previous exchange their aliases. Where the champion's version was deleted, previous becomes champion.

  opscore rollback --dataset cifar10 --dry-run
  opscore rollback --dataset cifar10 --version 2
"""

from __future__ import annotations

import click

from pipelines.commands import arguments
from pipelines.tracking.artifacts import check_usable
from pipelines.tracking.registry import CHAMPION, PREVIOUS, Registry, model_name
from pipelines.tracking.rollback import roll_back


def rolled_back(dataset: str, *, version: str | None, uri: str | None, dry_run: bool) -> str:
    """Return to an earlier version; gives a report.

    version: its number, None for the previous one. uri: the store, None for the default one. Raises MisuseError, or
    StoreError where there is no version to return to.
    """
    with arguments.checked():
        name = model_name(dataset)
        registry = Registry(arguments.open_address(uri), named=uri)
        if not dry_run:
            check_usable(registry.uri)
    returned, previous = roll_back(registry, name, to=version, dry_run=dry_run)
    other = f"version {previous} is {PREVIOUS}" if previous else f"none is {PREVIOUS}, as the champion's was deleted"
    if dry_run:
        return f"Dry run: version {returned} of {name} would be {CHAMPION} again, {other}; nothing was changed."
    return (
        f"Version {returned} of {name} is {CHAMPION} again, {other}. The next promotion compares all cells once more: "
        "leave some out with --filter or --sweep."
    )


@click.command("rollback", cls=arguments.WordCommand, help=__doc__)
@arguments.setting("--dataset", metavar="NAME", help="Whose champion; must be given.")
@arguments.setting("--version", metavar="NUMBER", help="The version to return to; default: the previous one.")
@arguments.STORE()
@arguments.DRY_RUN()
def command(dataset: str | None, version: str | None, uri: str | None, dry_run: bool) -> None:
    """Roll back, and print the report."""
    print(rolled_back(arguments.required_dataset(dataset), version=version, uri=uri, dry_run=dry_run))
