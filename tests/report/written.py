"""Reports on recorded cells."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipelines.comparison.ranking import compare
from pipelines.comparison.shortlist import shortlisted
from pipelines.report import page
from pipelines.results.recorded_cell import RecordedCell


def write(cells: Iterable[RecordedCell], folder: Path, **given: Any) -> list[Path]:
    """As `page.write`."""
    return page.write(shortlisted(compare(cells)), folder, **given)
