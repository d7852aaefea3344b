"""What the cells of a sweep do at the moment, from the logs in their jobs' folders."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.execution.cell_process import LOG
from pipelines.execution.sweep_cell import JOB_OUTCOME

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

# What a cell reports (`executor`), and what its trainer prints after an epoch.
_REPORT = re.compile(r"\[\d\d:\d\d:\d\d\] ([^:]*-[^:]*-[^:]*): (.+)")
_EPOCH = re.compile(r"epoch \d+ of \d+(?=:)|training for .*")
MAX_CELLS = 4


@dataclass(frozen=True, kw_only=True)
class Running:
    """A cell at work.

    name: of the cell, or of one that it needs. doing: its last report, or the last epoch that it finished. Both may be
    empty.
    """

    name: str
    doing: str
    log_path: Path

    def __str__(self) -> str:
        parts = [part for part in (self.name, self.doing) if part]
        return ": ".join(parts) or "starting"


class Logs:
    """The logs in a sweep's folder of cells that have begun since a time, in s since 1970."""

    def __init__(self, folder: Path, since: float) -> None:
        self._folder, self._since = folder, since
        # How many bytes of a log were read, and what its cell did then.
        self._read: dict[Path, tuple[int, Running]] = {}

    def running(self) -> list[Running]:
        """The cells that have no outcome yet. Reads what was written since the last call."""
        found = []
        for path in sorted(self._folder.glob(f"*/{LOG}"), key=lambda path: (len(path.parent.name), path.parent.name)):
            # A cell may end, and its folder may go, at any time.
            with suppress(OSError):
                if not (path.parent / JOB_OUTCOME).exists() and path.stat().st_mtime >= self._since:
                    found.append(self._running(path))
        return found

    def _running(self, path: Path) -> Running:
        start, cell = self._read.get(path, (0, Running(name="", doing="", log_path=path)))
        with path.open("rb") as file:
            file.seek(start)
            # The last line may be written in part.
            whole, end, _ = file.read().rpartition(b"\n")
        for line in whole.decode(errors="replace").splitlines():
            if report := _REPORT.match(line):
                cell = Running(name=report[1], doing=report[2], log_path=path)
            elif epoch := _EPOCH.match(line):
                cell = replace(cell, doing=epoch[0])
        self._read[path] = (start + len(whole + end), cell)
        return cell


def lines(cells: list[Running]) -> list[str]:
    """Two lines for each running cell: what it does, and where its log is."""
    shown = [line for cell in cells[:MAX_CELLS] for line in (f"  {cell}", f"    {_short(cell.log_path)}")]
    return [*shown, f"  and {len(cells) - MAX_CELLS} more cells"] if len(cells) > MAX_CELLS else shown


def live(text: Callable[[], list[str]]) -> Live | None:
    """Lines at the bottom of the terminal that are renewed until `stop`; None where there is no terminal.

    What is printed meanwhile appears above them.
    """
    if not sys.stdout.isatty():
        return None
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def renderable() -> Text:
        return Text("\n".join(text()), overflow="fold")

    shown = Live(get_renderable=renderable, console=Console(highlight=False), refresh_per_second=2, transient=True)
    shown.start()
    # A process that is terminated could not show it again.
    shown.console.show_cursor(True)
    return shown


def _short(path: Path) -> Path:
    """The path from the working folder, where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
