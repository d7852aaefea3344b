"""Tables of cells in markdown pages, generated from the runs, so that no number is copied by hand."""

from __future__ import annotations

import math
import re
import shlex
import shutil
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison import training_time
from pipelines.comparison.baselines import baselines_of
from pipelines.comparison.entries import Entry, entries_of
from pipelines.comparison.groups import conditions, groups_of
from pipelines.comparison.labels import settings_key
from pipelines.results.columns import IMPROVED, MEASURED
from pipelines.results.tables import fill_marks, markdown
from pipelines.system.machine import DISK_FULL
from pipelines.system.words import number_of

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell

COLUMNS = (*MEASURED, IMPROVED)
# Names may hold blanks.
MARK = r"cells model=(?P<model>[^\n]+?) dataset=(?P<dataset>[^\n]+?)(?P<more>(?: [\w.]+=\S+)*)"


def rewrite(page: str, cells: Sequence[RecordedCell]) -> str:
    """`page` with its marked tables generated anew.

    Raises ValueError where it has no mark, or a mark has no cell, or cells that do not compare.
    """

    def table_of(found: re.Match[str]) -> str:
        model, dataset, more = found["model"], found["dataset"], found["more"]
        conditions = dict(condition.split("=", 1) for condition in more.split())
        chosen = [
            cell
            for cell in cells
            if (cell.model, cell.dataset) == (model, dataset) and conditions.items() <= cell.params.items()
        ]
        if not chosen:
            raise ValueError(
                f"a table needs model={model} dataset={dataset}{more}, got no finished cell like that among those "
                "chosen: run it, or choose it, too"
            )
        return table(chosen)

    written, count = fill_marks(page, MARK, table_of)
    meant = re.findall(r"^<!-- *cells\b.*(?:model|dataset)=.*", page, re.MULTILINE)
    wrong = [line for line in meant if not re.fullmatch(f"<!-- {MARK} -->\r?", line)]
    if wrong or not count:
        raise ValueError(
            f"a table's mark must be a line <!-- cells model=<model> dataset=<dataset> -->, with a line <!-- end --> "
            f"below it, got {repr(wrong[0]) if wrong else 'none'}: write it so"
        )
    return written


def rewrite_file(path: Path, cells: Sequence[RecordedCell]) -> None:
    """As `rewrite`, of a file in UTF-8. All else of it stays as it is, also on a full disk.

    Raises ValueError for another encoding, and as `rewrite`.
    """
    try:
        page = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the file must be text in UTF-8, got {path} with the byte {error.object[error.start]:#04x}: save it so, "
            f"or `iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(path))} -o {shlex.quote(f'{path.stem}-utf8.md')}`"
        ) from error
    content, place = rewrite(page, cells).encode("utf-8"), path.resolve()
    partial = place.with_name(f"{place.name}.partial")
    try:
        partial.write_bytes(content)
        shutil.copymode(place, partial)
        partial.replace(place)
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        # The folder is not ours, or the file alone is mounted.
        place.write_bytes(content)
    finally:
        with suppress(OSError):
            partial.unlink()


def table(cells: Sequence[RecordedCell]) -> str:
    """The newest cell of each technique and source as a markdown table, the baseline first, then by falling gain.

    Its seeds are averaged. A sentence below the table states where the training time is left out of the scores. Raises
    ValueError where these cells do not compare.
    """
    newest: dict[tuple[str, str], tuple[object, object]] = {}
    by_key: dict[tuple[object, object], list[RecordedCell]] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: cell.started):
        key = settings_key(cell), frozenset(conditions(cell).items())
        by_key[key].append(cell)
        newest[cell.technique, cell.source] = key
    shown = [cell for key in newest.values() for cell in by_key[key]]
    if len(groups := groups_of(shown)) > 1:
        raise ValueError(
            f"the cells of a table must compare with each other, got those of {' and of '.join(map(str, groups))}: "
            "choose one of these, for example by --filter or --sweep"
        )
    # Where a baseline of the seed is shown, it must be that of the others.
    bases, seeds = baselines_of(shown, shown), {one.seed for one in shown if not one.baseline}
    if others := [one for one in shown if one.baseline and one.run_id not in bases and one.seed in seeds]:
        raise ValueError(
            f"the cells of a table must have the baseline that it shows, got {others[0].name}, whose baseline has "
            "other settings or is not chosen: add settings to the mark, or choose by --filter or --sweep"
        )
    entries = entries_of(shown)
    entries.sort(key=lambda entry: -np.nan_to_num(entry.gain.value, nan=math.inf))
    heading = ["technique", *(column.heading for column in COLUMNS)]
    rows = [_row(entry) for entry in entries]
    if devices := {(one.target, one.threads) for entry in entries for one in entry.devices}:
        heading.append("runtime")
        rows = [[*row, entry.runtime] for row, entry in zip(rows, entries, strict=True)]
    notes = [f"Times are those on {target} with {number_of(threads, 'thread')}." for target, threads in sorted(devices)]
    notes += [note] if (note := training_time.note([run for entry in entries for run in entry.runs])) else []
    return "\n".join([markdown([heading, *rows]), *(f"\n{note}" for note in notes)]) + "\n"


def _row(entry: Entry) -> list[str]:
    technique = f"`{entry.technique}`" + (f" from `{entry.source}`" if entry.source else "")
    return [technique, *map(entry.format_estimate, COLUMNS)]
