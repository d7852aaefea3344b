"""What `opscore measure` recorded on a cell, by device and runtime.

Metrics begin with `measure/<device>/<runtime>/`.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

PREFIX = "measure"
# The runtime that cells are measured with.
LITERT = "litert"
# The names of figures below `measure/<device>/<runtime>/` that are read again, some by the number of threads.
VALID, AGREEMENT, AGREEMENT_CHANGED = "valid", "agreement", "agreement_changed"
P50 = ("p50_ms", "p50_low_ms", "p50_high_ms")
RATIO = ("ratio", "ratio_low", "ratio_high")
# Share of the images of which a runtime may change the class beyond rounding.
MAX_CHANGED = 0.01
# Two measurements of one model differ by so much.
SAME = 0.02
# Tags below `measure/<device>/<runtime>/`: the session's machine as JSON, the library, what it computed in, the second
# at which the session began, why its figures do not count, or NOT_INVALID, and the runtime and file that ratios are to:
# `<runtime> <SHA-256 of the file>`, its own for the reference itself.
HARDWARE, VERSION, PRECISION, BEGAN, INVALID = "hardware", "version", "precision", "began", "invalid"
REFERENCE = "reference"
NOT_INVALID = "no"
TAGS = (HARDWARE, VERSION, PRECISION, BEGAN, INVALID, REFERENCE)
Key = TypeVar("Key")
_THREADS = re.compile(rf"{P50[0]}_(\d+)t")


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures of a cell on a device by a runtime.

    metrics: by name below `measure/<device>/<runtime>/`, without those that do not exist. tags: of TAGS, as far as they
    were recorded.
    """

    target: str
    runtime: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of threads that were measured, in rising order."""
        return tuple(sorted(int(found[1]) for name in self.metrics if (found := _THREADS.fullmatch(name))))

    def is_reliable(self, threads: int) -> bool:
        """Whether the session found no reason why the times with so many threads do not count."""
        return bool(self.metrics.get(by_threads(VALID, threads), 1.0))

    @property
    def same_answers(self) -> bool:
        """Whether it gives LiteRT's answers, as far as they were compared."""
        return self.metrics.get(AGREEMENT_CHANGED, 0.0) <= MAX_CHANGED

    @property
    def agreement(self) -> float | None:
        """The share of images with the class that LiteRT gives; None where it was not compared."""
        return self.metrics.get(AGREEMENT)

    def p50_ms(self, threads: int) -> tuple[float, float, float]:
        """The median time of one image, and the bounds of its 95% prediction interval."""
        value, low, high = (self.metrics.get(by_threads(name, threads)) for name in P50)
        assert value is not None
        return value, low or value, high or value

    def compared(self, threads: int, *, by_ratio: bool) -> float:
        """What orders the runtimes of a model: the ratio to their reference, where they share one, else the time.

        The device may be busier in one minute than in another, which cancels in the ratio.
        """
        return (self.ratio(threads) or (1.0,))[0] if by_ratio else self.p50_ms(threads)[0]

    def ratio(self, threads: int) -> tuple[float, float, float] | None:
        """The time over that of the session's reference, and its bounds; None for the reference itself."""
        found = [self.metrics.get(by_threads(name, threads)) for name in RATIO]
        known = [value for value in found if value is not None]
        return (known[0], known[1], known[2]) if len(known) == len(found) else None


@dataclass(frozen=True, kw_only=True)
class OnDevice:
    """How a cell runs on a device, by the figures that `comparison.on_device` chose.

    began: the second at which its session began, empty where it is not recorded. ran_on: the machine of the cell's own
    run. agreement: share of images with the class that LiteRT gives; None where it was not compared. times_ms:
    median time of one image by runtime.
    """

    target: str
    runtime: str
    threads: int
    began: str
    ran_on: str
    is_reliable: bool
    agreement: float | None
    times_ms: Mapping[str, float]


def by_threads(name: str, threads: int) -> str:
    """The name of a figure that was taken with so many threads."""
    return f"{name}_{threads}t"


def figures(metrics: Mapping[str, float], tags: Mapping[str, str] | None = None) -> list[Figures]:
    """All that was measured on devices, from a run's metrics and tags, by device and runtime in alphabetical order."""
    numbers: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for name, value in metrics.items():
        place, last = _place(name)
        # A figure that only an earlier session had is NaN.
        if place and not math.isnan(value):
            numbers[place][last] = value
    words: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name, text in (tags or {}).items():
        place, last = _place(name)
        if place and last in TAGS:
            words[place][last] = text
    return [
        Figures(target=target, runtime=runtime, metrics=of_one, tags=words[target, runtime])
        for (target, runtime), of_one in sorted(numbers.items())
    ]


def share_reference(found: Iterable[Figures]) -> bool:
    """Whether the ratios of all are to one file on one runtime."""
    references = {one.tags.get(REFERENCE) for one in found}
    return len(references) == 1 and None not in references


def fastest(found: Sequence[Figures]) -> tuple[Figures, int] | None:
    """The figures and the number of threads with the least median time, of runtimes that give LiteRT's answers.

    The runtimes compete for each number of threads, as a ratio is to the reference with as many; the fastest of each
    compete by their times. Of times that are as good as equal, that of LiteRT, then of the fewest threads. None where
    there is none. A time that is not reliable counts too: what disturbs a session makes times longer.
    """
    usable = [one for one in found if one.same_answers]
    by_ratio = share_reference(found)
    times: dict[tuple[str, int], float] = {}
    for threads in sorted({threads for one in usable for threads in one.threads}):
        with_them = {one.runtime: one for one in usable if threads in one.threads}
        compared = {name: one.compared(threads, by_ratio=by_ratio) for name, one in with_them.items()}
        runtime = least(compared, key=lambda name: (name != LITERT,))
        times[runtime, threads] = with_them[runtime].p50_ms(threads)[0]
    if not times:
        return None
    runtime, threads = least(times, key=lambda setting: (setting[0] != LITERT, setting[1]))
    return next(one for one in found if one.runtime == runtime), threads


def least(times: Mapping[Key, float], key: Callable[[Key], tuple[Any, ...]]) -> Key:
    """The name of the least time; of those within SAME of it, the first by `key`."""
    best = min(times.values())
    return min((name for name, ms in times.items() if ms <= best * (1 + SAME)), key=key)


def _place(name: str) -> tuple[tuple[str, str] | None, str]:
    """Device and runtime of a metric's or a tag's name, None for another's; and its last part."""
    first, *rest = name.split("/")
    return ((rest[0], rest[1]), rest[2]) if first == PREFIX and len(rest) == 3 else (None, name)
