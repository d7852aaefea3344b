"""Download a dataset's champion: `opscore pull --dataset cifar10 --out somewhere`.

Writes model.tflite, labels.txt, MODEL_CARD.md and run.py into `out` (default: opscore-<dataset>), if the exported model
has the SHA-256 of the one that was promoted. Overwrites an earlier pull of the same model, and refuses any other folder
that is not empty. Needs neither TensorFlow nor the data.

run.py classifies image files without opscore: by the runtime for which the champion was promoted, which is LiteRT
unless a device's times decided, or with --target by the one that was fastest on that device when `opscore measure`
measured the model there.

  opscore pull --dataset cifar10 --target kitchen-pi
  opscore pull --dataset cifar10 --alias previous --tracking-uri http://127.0.0.1:5000
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

import click

from pipelines.champion.model_card import Facts, card, title
from pipelines.commands import arguments
from pipelines.device import program
from pipelines.litert.labels import labels_of
from pipelines.results.columns import kilobytes, percent
from pipelines.results.files import LABELS, MODEL, PROGRAM
from pipelines.results.on_device import LITERT, fastest, figures
from pipelines.results.promotion import OF_RUNTIME, OF_TARGET, OF_THREADS
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system.checks import nearest
from pipelines.system.guard import MisuseError
from pipelines.system.words import number_of
from pipelines.tracking.registry import CHAMPION, PREFIX, PREVIOUS, Registry, Version, model_name

# The card is written first, because it identifies even an interrupted pull.
CARD = "MODEL_CARD.md"
FILES = (CARD, LABELS, MODEL, PROGRAM)


def pulled(dataset: str, out: Path | None, *, alias: str, target: str | None, uri: str | None) -> str:
    """Download, verify and write; gives a report.

    out: a folder, None for one with the model's name. target: a device, for the program's runtime; None for the runtime
    of the promotion, which is LiteRT unless a device's times decided. uri: the store, None for the default one. Raises
    MisuseError or ValueError for a bad request, StoreError where the exported model is not the promoted one.
    """
    with arguments.checked():
        name = model_name(dataset)
        out = out or Path(name)
        check_free(out, name)
        registry = Registry(arguments.open_address(uri), named=uri)
    version = registry.aliased(name, alias)
    if version is None:
        aliases, option = registry.aliases(name), registry.option(name)
        there = ", ".join(sorted(aliases)) or "none"
        if meant := nearest(alias, aliases):
            raise MisuseError(f"alias must be one of those of {name}, {there}, got {alias!r}: did you mean {meant}?")
        if not aliases and (other := nearest(dataset, registry.datasets() - {name.removeprefix(PREFIX)})):
            raise MisuseError(
                f"{dataset} has no champion in {registry.uri}: did you mean --dataset {shlex.quote(other)}?"
            )
        # The champion's version was deleted.
        back = f"return with `opscore rollback {option}`, or " if there == PREVIOUS else ""
        raise ValueError(
            f"alias must be one of those of {name} in {registry.uri}, got {alias!r} where there is {there}: "
            f"{back}promote a cell with `opscore promote {option}`"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_disk_of(out), prefix=f".{out.name}-") as scratch:
        folder = Path(scratch)
        exported_model = registry.download(name, version, folder)
        facts = gathered(registry, name, version, exported_model, target)
        (folder / CARD).write_text(card(facts), encoding="utf-8")
        (folder / PROGRAM).write_text(facts.program, encoding="utf-8")
        (folder / LABELS).write_text("\n".join(facts.labels) + "\n", encoding="utf-8")
        if exported_model != folder / MODEL:
            shutil.move(exported_model, folder / MODEL)
        out.mkdir(exist_ok=True)
        for file in FILES:
            (folder / file).replace(out / file)
    m = facts.result.measurement
    return (
        f"{name} version {version.number}, the {alias}: {facts.result.name}, accuracy {percent(m.accuracy)} on "
        f"{m.test_images:,} test images, {kilobytes(m.file_bytes)}, SHA-256 verified\n"
        f"{PROGRAM} classifies image files, {facts.program_for}\n"
        + "\n".join(str(out / file) for file in reversed(FILES))
    )


def _disk_of(out: Path) -> Path:
    """A folder on the same disk as `out`, from which each file gets there in one step.

    Its parent, where an interrupted pull leaves nothing in `out`; `out` itself where that is a mount point.
    """
    parent = out.absolute().parent
    if not out.exists() or (os.access(parent, os.W_OK) and parent.stat().st_dev == out.stat().st_dev):
        return parent
    return out


def check_free(out: Path, name: str) -> None:
    """Raise FileExistsError unless `out` is missing, empty, or an earlier pull of the model `name`.

    Raises PermissionError for one that cannot be written to.
    """
    if not out.exists():
        return
    if out.is_dir() and not os.access(out, os.W_OK | os.X_OK):
        raise PermissionError(f"out must be a folder that this user may write to, got {out}: choose another")
    there = sorted(one.name for one in out.iterdir()) if out.is_dir() else [out.name]
    foreign = [one for one in there if one not in FILES] if out.is_dir() else there
    card_file = out / CARD
    if not (card_file.is_file() and card_file.read_text(encoding="utf-8").partition("\n")[0] == title(name)):
        foreign = foreign or there
    if foreign:
        raise FileExistsError(
            f"out must be a new or empty folder, or an earlier pull of {name}, got {out} with {foreign[0]}: set out= "
            "to another"
        )


def gathered(registry: Registry, name: str, version: Version, exported_model: Path, target: str | None) -> Facts:
    """The facts of the model card. Raises ValueError where the exported model has no labels, or no time on `target`."""
    labels = labels_of(exported_model)
    if not labels:
        raise ValueError(
            f"the exported model of version {version.number} of {name} must contain {LABELS}, got none: run its cell "
            "with resume=false and promote it"
        )
    cell = registry.cell(version.run_id)
    if target:
        (runtime, threads), where = _fastest(cell, target, registry), f", the fastest on {target}"
    else:
        # What the gates were passed with.
        runtime, threads = version.tags.get(OF_RUNTIME, LITERT), int(version.tags.get(OF_THREADS, 1))
        where = f", by which it was promoted for {version.tags[OF_TARGET]}" if OF_TARGET in version.tags else ""
    return Facts(
        name=name,
        number=version.number,
        cell=cell,
        result=registry.result(version.run_id),
        tags=version.tags,
        labels=labels,
        sha256=version.sha256,
        output=program.output_in_words(exported_model),
        program=program.program(exported_model, runtime, threads),
        program_for=f"by {runtime} with {number_of(threads, 'thread')}{where}",
    )


def _fastest(cell: RecordedCell, target: str, registry: Registry) -> tuple[str, int]:
    """The runtime and the number of threads that are fastest on a device. Raises ValueError where there is none."""
    found = figures(cell.metrics, cell.on_devices)
    best = fastest([one for one in found if one.target == target])
    if best is None:
        there = ", ".join(sorted({one.target for one in found})) or "none"
        raise ValueError(
            f"target must be a device on which {cell.name} was measured, got {target!r} where there is {there}: "
            f"measure it with `opscore measure --target {target} --filter \"attributes.run_id = '{cell.run_id}'\""
            f"{registry.place(cell.run_id)}`"
        )
    one, threads = best
    return one.runtime, threads


@click.command("pull", cls=arguments.WordCommand, help=__doc__)
@arguments.setting("--dataset", metavar="NAME", help="Whose champion; must be given.")
@arguments.OUT(help="Where the files go; default: opscore-<dataset>.")
@arguments.setting("--alias", metavar="ALIAS", default=CHAMPION, show_default=True, help="Or previous.")
@arguments.setting(
    "--target", metavar="DEVICE", help="Whose fastest runtime run.py uses; default: that of the promotion."
)
@arguments.STORE()
def command(dataset: str | None, *, out: Path | None, alias: str, target: str | None, uri: str | None) -> None:
    """Pull, and print the report."""
    print(pulled(arguments.required_dataset(dataset), out, alias=alias, target=target, uri=uri))
