"""The settings of a session: three profiles, and the values that can replace theirs."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace

from pipelines.results.on_device import LITERT
from pipelines.runtimes.base import named
from pipelines.system import checks, machine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one session measures each exported model.

    threads: numbers of the runtime's threads, each measured separately. batches: sizes of batches, whose throughput is
    measured with the largest number of threads. windows: parts of the session, whose medians must agree. loads: fresh
    processes in each window. starts: fresh processes for start-up and memory. min_duration_s, min_calls: of all counted
    calls; a quarter of the duration for a batch. limit_s: seconds of timing per exported model after which one number
    of threads or one batch ends. runtimes: names, of which the first is the one that the others are compared with.
    answers: images whose classes are compared between runtimes, at most. seed: of random images and orders.
    """

    profile: str
    loads: int
    starts: int
    min_duration_s: float
    min_calls: int
    limit_s: float
    threads: tuple[int, ...] = (1,)
    batches: tuple[int, ...] = (8, 32)
    windows: int = 5
    warmup_calls: int = 5
    seed: int = 0
    runtimes: tuple[str, ...] = (LITERT,)
    answers: int = 1000

    @property
    def compares_answers(self) -> bool:
        """Whether there is a runtime whose answers may differ from LiteRT's."""
        return self.runtimes != (LITERT,)

    def __post_init__(self) -> None:
        if len(set(self.runtimes)) < len(self.runtimes):
            raise ValueError(f"runtimes must be distinct, got {','.join(self.runtimes)}: name each once")
        for name in self.runtimes:
            named(name).version()
        if not self.threads:
            raise ValueError("threads must hold at least one number, got none: set for example threads=1,4")
        for threads in self.threads:
            checks.integer("threads", threads, minimum=1)
        for batch in self.batches:
            checks.integer("batches", batch, minimum=2)
        checks.number("limit", self.limit_s, exclusive_minimum=0)


PROFILES = {
    one.profile: one
    for one in (
        # For a first look.
        Settings(
            profile="quick",
            loads=1,
            starts=3,
            min_duration_s=1.0,
            min_calls=50,
            limit_s=30.0,
            batches=(8,),
            answers=200,
        ),
        Settings(profile="standard", loads=2, starts=5, min_duration_s=4.0, min_calls=200, limit_s=120.0),
        # 662 calls are the fewest from which MLPerf estimates a 99th percentile (conf/measurement/thorough.yaml).
        Settings(
            profile="thorough", loads=4, starts=9, min_duration_s=10.0, min_calls=662, limit_s=600.0, answers=10_000
        ),
    )
}


def settings_of(
    name: str,
    *,
    threads: str | None = None,
    batches: str | None = None,
    limit: str | None = None,
    runtimes: str | None = None,
) -> Settings:
    """A profile with the given values in place of its own; threads are by default 1 and the number of usable cores.

    threads, batches: numbers separated by commas, or `none`. limit: seconds. runtimes: names separated by commas.
    Raises ValueError, also where the library of a runtime is missing.
    """
    checks.one_of("profile", name, PROFILES)
    profile = PROFILES[name]
    return replace(
        profile,
        threads=numbers("threads", threads) if threads else tuple(sorted({1, machine.cores()})),
        batches=numbers("batches", batches) if batches else profile.batches,
        limit_s=seconds("limit", limit) if limit else profile.limit_s,
        runtimes=tuple(one.strip() for one in runtimes.split(",")) if runtimes else profile.runtimes,
        # A repeated session has other orders: what they do to the times shows.
        seed=secrets.randbelow(2**31),
    )


def device_name(given: str | None) -> str:
    """The name of this device in MLflow, by default that of the machine. Raises ValueError if MLflow cannot hold it."""
    name = given or machine.slug()
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"target must be letters, digits, '.', '_' and '-' and begin with a letter or digit, got {name!r}: set "
            f"for example target={machine.slug()}"
        )
    return name


def numbers(name: str, text: str) -> tuple[int, ...]:
    """`1,4` as (1, 4), in rising order, and `none` as (). Raises ValueError."""
    if text == "none":
        return ()
    try:
        return tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        example = {"threads": "1,4", "batches": "8,32"}[name]
        raise ValueError(
            f"{name} must be whole numbers, with commas between them, got {text!r}: set for example {name}={example}"
        ) from None


def seconds(name: str, text: str) -> float:
    """A number of seconds. Raises ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number of seconds, got {text!r}: set for example {name}=60") from None
