"""Measure exported models on this machine: `opscore measure --sweep last`.

Finished cells of a tracking store and their baselines, or files on disk, take turns in one session. The figures go into
a new folder below `out`, and those of cells also onto their runs as measure/<device>/... . The command needs no
TensorFlow and no dataset, as calls get random images. docs/reference/measurement.md explains each figure.

  opscore measure --dataset cifar10 --filter "tags.model = 'resnet50'" --profile thorough
  opscore measure --sweep last --tracking-uri http://127.0.0.1:5000 --target kitchen-pi
  opscore measure small.tflite large.tflite --reference large.tflite --threads 1,4 --batches none
  opscore measure --sweep last --runtimes litert,openvino     which of the two is faster here, and are they as accurate
  opscore measure --send measured/20261231-120000      figures that a store missed
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from click.core import ParameterSource

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.comparison.on_device import Device
from pipelines.device import recording, session, table
from pipelines.device.results import DeviceResult, summarize
from pipelines.device.session import Images
from pipelines.device.settings import Settings, device_name, settings_of
from pipelines.device.subjects import Subject, of_cells, of_files, on_runtimes
from pipelines.results.on_device import LITERT
from pipelines.results.tables import wrapped
from pipelines.runtimes.base import runtimes
from pipelines.system import machine, runtime
from pipelines.system.errors import StoreError
from pipelines.system.guard import FAILURE, INTERRUPTED, MisuseError
from pipelines.system.places import expanded
from pipelines.tracking.run_files import NAMES
from pipelines.tracking.store import Store

if TYPE_CHECKING:
    from pipelines.datasets.base import Dataset

# What does not apply to a session that is only sent.
MEASURING = ("paths", "files", "reference", "profile", "runtimes", "threads", "batches", "limit", "target", "out")


@click.command(
    "measure",
    cls=arguments.WordCommand,
    help=__doc__,
    positional=lambda word: "=" not in word or (word.lower().endswith(".tflite") and Path(word).is_file()),
)
@click.argument("paths", nargs=-1, metavar="[FILE.tflite]...", type=click.Path(readable=False))
@selection.options
@arguments.setting("--files", metavar="PATHS", help="Files on disk instead of cells, separated by commas.")
@arguments.setting(
    "--reference",
    metavar="PATH",
    type=click.Path(readable=False),
    help="The file to compare the others with; default: the first.",
)
@arguments.setting(
    "--profile", default="standard", show_default=True, help="quick, standard, or thorough (10 s, 662 calls)."
)
@arguments.setting("--runtimes", metavar="NAMES", help=f"Of {', '.join(runtimes())}; default: {LITERT}.")
@arguments.setting("--threads", metavar="NUMBERS", help="Of the runtime, in turn; default: 1 and all cores.")
@arguments.setting("--batches", metavar="SIZES", help="Batch sizes for the throughput, or none.")
@arguments.setting("--limit", metavar="SECONDS", help="Timing for each exported model and number of threads.")
@arguments.setting("--target", metavar="NAME", help="This machine's name; default: from its processor.")
@arguments.OUT(default="measured", show_default=True, help="Gets a folder for the session.")
@arguments.WIDE()
# No setting: an empty folder, as of an unset variable, would measure and record all cells.
@click.option(
    "--send",
    metavar="FOLDER",
    type=click.Path(readable=False),
    help="Send a session that its store missed; nothing is measured.",
)
def command(
    chosen: Selection,
    *,
    paths: tuple[str, ...],
    files: str | None,
    reference: str | None,
    profile: str,
    target: str | None,
    out: Path,
    send: str | None,
    width: float,
    **limits: str | None,
) -> None:
    """Measure, or send the figures of an earlier session."""
    for path in paths:
        if not path.lower().endswith(".tflite"):
            inside = f"{shlex.quote(str(Path(path)))}/*.tflite" if Path(path).is_dir() else "model.tflite"
            raise MisuseError(
                f"words must be name=value, or files that end in .tflite, got {path!r}: name for example {inside}"
            )
    named = [expanded(path) for path in (*paths, *(map(str.strip, files.split(",")) if files else ()))]
    _check_chosen(chosen, named, reference)
    if send is not None:
        if not send:
            raise MisuseError("send must be the folder of a session, got nothing: name one below measured/")
        _check_alone(send, chosen)
        folder = expanded(send)
        sent = recording.send(folder, chosen.uri)
        print(sent.text(recording.target_of(folder)))
        if sent.lost:
            sys.exit(FAILURE)
        return
    with arguments.checked():
        settings = settings_of(profile, **limits)
        name = device_name(target)
    try:
        subjects, store = _subjects(chosen, named, reference)
        images = _real_images(subjects, store) if store and settings.compares_answers else {}
        folder, measured, results = _measured(subjects, settings, name, store, images, out=out)
    except KeyboardInterrupt:
        print("opscore: interrupted: nothing was recorded", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(table.text(results, width=width))
    for sentence in measured.left_out:
        print(wrapped(sentence, width))
    print(f"\nresults and the time of every call: {folder}")
    if measured.cut:
        # Figures that a run has may be better.
        kept = f"; nothing was sent: {recording.later(folder)}" if store else ""
        print(f"opscore: {measured.cut}{kept}", file=sys.stderr)
        sys.exit(FAILURE)
    if store is None:
        return
    try:
        sent = recording.send(folder)
    except KeyboardInterrupt:
        print(f"opscore: interrupted: {recording.later(folder)}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(f"{sent.text(name)} in {store.uri}")
    compared = Device(target=name, threads=min(settings.threads)).options + chosen.options
    # A device that only measures has no SciPy.
    where = "" if find_spec("scipy") else ", where opscore is installed with its extra `train`"
    print(f"`opscore compare{compared}` compares the cells by these times{where}")
    if sent.lost:
        sys.exit(FAILURE)


def _measured(
    subjects: Sequence[Subject],
    settings: Settings,
    target: str,
    store: Store | None,
    images: Mapping[str, Images],
    *,
    out: Path,
) -> tuple[Path, session.Measured, list[DeviceResult]]:
    """Measure exported models and save the session; gives its folder too.

    store: holds their files; None for files on disk. images: real ones by the subjects' labels.
    """

    def on_wait() -> None:
        _report("waiting, something else is being measured on this machine")

    # Made first, so that no session is lost for want of it.
    folder = recording.new_folder(out)
    with _removed_if_empty(folder), runtime.machine_lock("measuring", on_wait=on_wait):
        models = "1 exported model" if len(subjects) == 1 else f"{len(subjects)} exported models"
        _report(f"measuring {models} on {target}, profile {settings.profile}")
        uri = store.uri if store else None
        begun = recording.session_of(target, machine.description(), settings, uri)
        everything = on_runtimes(subjects, settings.runtimes)
        measured = session.run(everything, settings, images=images, report=_report)
        results = summarize(measured.subjects, measured.raws, settings, cut=measured.cut)
        recording.save(folder, begun, measured, results)
    return folder, measured, results


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _subjects(chosen: Selection, files: Sequence[Path], reference: str | None) -> tuple[list[Subject], Store | None]:
    if files:
        with arguments.checked():
            return of_files(files, expanded(reference) if reference else None), None
    store = chosen.store()
    return of_cells(chosen.cells(store), store), store


def _real_images(subjects: Sequence[Subject], store: Store) -> dict[str, Images]:
    """The test images of the subjects' datasets, by label, as far as they are at hand. Each dataset is loaded once."""
    if not find_spec("hydra"):
        _report(
            "answers are compared on random pixels, as test images need opscore with its extra `train`, got no Hydra"
        )
        return {}
    found = {}
    loaded: dict[str, Images] = {}
    for subject in subjects:
        try:
            dataset = store.read(subject.runs[-1], f"/{NAMES.config}", _dataset_of)
            images = _test_images(dataset, loaded)
            _check_images(images, store.cell(subject.runs[-1]).digest)
            found[subject.label] = images
        except (ImportError, OSError, ValueError, StoreError) as error:
            _report(f"the answers of {subject.label} are compared on random pixels, as its images are missing: {error}")
    return found


def _dataset_of(description: Path) -> Dataset:
    """The dataset in the description of a finished cell."""
    from pipelines.cells.compose import recorded_cell

    return recorded_cell(description).dataset


def _test_images(dataset: Dataset, known: dict[str, Images]) -> Images:
    """Of a dataset. known: those of loaded datasets, by their settings."""
    from pipelines.execution.preflight import loaded

    if repr(dataset) not in known:
        split = loaded(dataset).test
        known[repr(dataset)] = Images(pixels=split.images, labels=split.labels.astype(np.int64), digest=split.digest)
    return known[repr(dataset)]


def _check_images(images: Images, recorded: str) -> None:
    """Raise ValueError where the test images are not those that the cell was tested on. recorded: begins the digest."""
    if not recorded:
        raise ValueError("its run does not name them")
    if not images.digest.startswith(recorded):
        raise ValueError("they are not those of its run any more, or not here")


def _check_chosen(chosen: Selection, files: Sequence[Path], reference: str | None) -> None:
    """Raise MisuseError where both files and cells are chosen."""
    if files and chosen.conditions:
        name = next(iter(chosen.conditions))
        raise MisuseError(f"either files or cells must be chosen, got {files[0]} and {name}=: leave one out")
    if reference and not files:
        raise MisuseError(
            f"reference must be one of the files, got {reference} and no files: leave it out, as cells are compared "
            "with their baselines"
        )


def _check_alone(send: str, chosen: Selection) -> None:
    """Raise MisuseError where an option would change a session that is only sent."""
    context = click.get_current_context()
    options = {
        name: value
        for name, value in context.params.items()
        if name in MEASURING and context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    given = {name: value for name, value in {**chosen.conditions, **options}.items() if value}
    if given:
        name, value = next(iter(given.items()))
        name = {"paths": "files"}.get(name, name)
        value = value if isinstance(value, str | Path) else ",".join(map(str, value))
        raise MisuseError(
            f"send takes a session as it was measured, got {name}={value} with send={send}: leave {name} out, or "
            "measure anew without send"
        )


def _report(text: str) -> None:
    print(f"opscore: {text}", file=sys.stderr, flush=True)
