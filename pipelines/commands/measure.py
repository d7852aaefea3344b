"""Measure artifacts on this machine: `python -m pipelines.measure sweep=last`.

Finished cells of a tracking store and their baselines, or files on disk, take turns in one session; the figures go onto
the cells' runs as measure/<target>/..., and into a new folder below `out` in any case. Needs no TensorFlow and no
dataset: calls get random images. docs/measuring.md says what each figure means.

  python -m pipelines.measure dataset=cifar10 filter="tags.model = 'resnet50'" profile=thorough
  python -m pipelines.measure sweep=last tracking.uri=http://server:5000 target=kitchen-pi
  python -m pipelines.measure small.tflite large.tflite reference=large.tflite threads=1,4 batches=none
  python -m pipelines.measure send=measured/20261231-120000      what a store missed

profile: quick, standard, or thorough (10 s and 662 calls for each artifact and number of threads). threads: default 1
and all cores. limit: seconds of timing for each artifact and number of threads, beyond which it is INVALID. target: the
name of this machine. files: paths separated by commas; reference: the one that others are compared with, default the
first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.commands import arguments
from pipelines.commands.compare import SELECTION, selected
from pipelines.device import recording, session, table
from pipelines.device.results import summarized
from pipelines.device.settings import ARGUMENTS, settings_of, target_of
from pipelines.device.subjects import Subject, of_cells, of_files
from pipelines.system import guard, machine, runtime
from pipelines.tracking.address import tracking_uri
from pipelines.tracking.store import Store, store_errors

DEFAULTS = SELECTION | ARGUMENTS | {"files": None, "reference": None, "out": "measured", "send": None}
Given = dict[str, str | None]


@guard.command
def main() -> None:
    """Measure, or send what was measured; one sentence where it fails."""
    parser = arguments.parser("python -m pipelines.measure", str(__doc__), DEFAULTS)
    words: list[str] = parser.parse_args().settings
    try:
        given, files = _given(words)
        if given["send"]:
            sent = recording.send(Path(given["send"]), given["tracking.uri"])
            print(f"{sent} runs got their figures")
        else:
            _measure(given, files)
    except KeyboardInterrupt:
        print("opscore: interrupted: nothing was recorded", file=sys.stderr)
        sys.exit(130)
    except _refusals() as error:
        sys.exit(f"opscore: {error}")


def _measure(given: Given, files: Sequence[Path]) -> None:
    settings, target = settings_of(given), target_of(given)
    uri = None if files else tracking_uri(given["tracking.uri"])
    subjects, _store = _subjects(given, files)
    with runtime.alone("measuring", wait=lambda: _say("waiting, something else is being measured on this machine")):
        _say(f"measuring {_counted(subjects)} on {target}, profile {settings.profile}")
        begun = recording.session_of(target, machine.description(), settings, uri)
        raws = session.run(subjects, settings, say=_say)
    results = summarized(subjects, raws, settings)
    folder = recording.new_folder(Path(str(given["out"])))
    recording.save(folder, begun, subjects, raws, results)
    print(table.text(results))
    print(f"\nresults and every call's time: {folder}")
    if uri is not None:
        sent = recording.send(folder)
        print(f"{sent} runs in {uri} got them as measure/{target}/...")


def _subjects(given: Given, files: Sequence[Path]) -> tuple[list[Subject], Store | None]:
    """What to measure. The files of a store on another machine are there as long as the store object is."""
    if files:
        return of_files(files, Path(given["reference"]) if given["reference"] else None), None
    cells = selected([f"{name}={given[name]}" for name in SELECTION if given[name]])
    store = Store.existing(tracking_uri(given["tracking.uri"]), str(given["experiment"]))
    return of_cells(cells, store), store


def _given(words: Sequence[str]) -> tuple[Given, list[Path]]:
    """The settings, and the files on disk. Raises ValueError where both files and cells are chosen."""
    paths = [word for word in words if word.endswith(".tflite") and "=" not in word]
    given = arguments.settings([word for word in words if word not in paths], DEFAULTS)
    paths += (given["files"] or "").split(",") if given["files"] else []
    chosen = [name for name in ("dataset", "sweep", "filter") if given[name]]
    if paths and chosen:
        raise ValueError(f"either files or cells must be chosen, got {paths[0]} and {chosen[0]}=: leave one out")
    if given["reference"] and not paths:
        raise ValueError("reference must be one of the files, got no files: cells are compared with their baselines")
    return given, [Path(path) for path in paths]


def _refusals() -> tuple[type[Exception], ...]:
    expected = (ValueError, OSError, RuntimeError, MemoryError)
    # Files on disk need no MLflow, and it takes a second to load.
    return (*expected, *store_errors()) if "mlflow" in sys.modules else expected


def _counted(subjects: Sequence[Subject]) -> str:
    return f"{len(subjects)} artifact{'' if len(subjects) == 1 else 's'}"


def _say(text: str) -> None:
    print(f"opscore: {text}", file=sys.stderr, flush=True)
