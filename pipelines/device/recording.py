"""A session's results, saved in a folder and then sent to the runs of a store."""

from __future__ import annotations

import itertools
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.device.results import DeviceResult
from pipelines.device.session import Measured, raw_arrays
from pipelines.device.settings import Settings
from pipelines.results.on_device import BEFORE_RUNTIMES
from pipelines.results.record import Record
from pipelines.system.errors import StoreError
from pipelines.tracking.address import check_reachable, tracking_uri
from pipelines.tracking.client import connected
from pipelines.tracking.credentials import redacted
from pipelines.tracking.measured import OnTarget, record
from pipelines.tracking.moved import address_of

SESSION, RESULT, LATENCY = "session.json", "result.json", "latency.npz"


@dataclass(frozen=True, kw_only=True)
class Session(Record):
    """The properties of a session.

    began: seconds since 1970. uri: the store's; None for files on disk. left_out: a sentence for each exported model
    that a runtime does not take.
    """

    target: str
    began: int
    hardware: dict[str, Any]
    settings: dict[str, Any]
    uri: str | None
    left_out: tuple[str, ...] = ()


def session_of(target: str, hardware: Mapping[str, Any], settings: Settings, uri: str | None) -> Session:
    """A session that starts now."""
    return Session(target=target, began=int(time.time()), hardware=dict(hardware), settings=asdict(settings), uri=uri)


def new_folder(out: Path) -> Path:
    """Create a folder below `out` with the time as its name, so that no session overwrites another."""
    folder = out / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    return folder


def save(folder: Path, session: Session, measured: Measured, results: Sequence[DeviceResult]) -> None:
    """Write a subfolder for each exported model, and the session's properties last: with them it is complete."""
    session = replace(session, left_out=tuple(measured.left_out))
    for subject, raw, result in zip(measured.subjects, measured.raws, results, strict=True):
        own = _new(folder / subject.folder)
        np.savez_compressed(own / LATENCY, allow_pickle=False, **raw_arrays(raw))
        content = {**asdict(result), "invalid": result.invalid, "metrics": result.metrics(), **asdict(session)}
        (own / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    session.save(folder / SESSION)


def _new(folder: Path) -> Path:
    """Create the folder, with a number behind its name where another subject's name gives the same one."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    free = next(one for one in itertools.chain([folder], numbered) if not one.exists())
    free.mkdir()
    return free


def send(folder: Path, uri: str | None = None) -> int:
    """Send the figures of a saved session to its runs and return the number of runs. It can be repeated.

    uri: of the store; by default the one that the cells came from. Raises ValueError if the folder holds no session of
    a store, StoreError with the command that sends it later if the store refuses.
    """
    session, given = _load(folder), uri
    if uri is None and session.uri is None:
        raise ValueError(
            f"{folder} must be a session with a store's cells, got one of files on disk, which have no run"
        )
    runs = (run_id for run_id, _ in _on_target(folder, session))
    uri = tracking_uri(uri) if uri else address_of(str(session.uri), next(runs, ""))
    sent: set[str] = set()
    try:
        check_reachable(uri)
        client = connected(uri)
        for run_id, found in _on_target(folder, session):
            record(client, run_id, found)
            sent.add(run_id)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"all results are in {folder}, but only {len(sent)} runs in {uri} received theirs ({error}): send them, "
            f"once it answers again, with `opscore measure --send {shlex.quote(str(folder))}{_option(given)}`"
        ) from error
    return len(sent)


def _option(uri: str | None) -> str:
    """The option that names a store, without its password."""
    return f" --tracking-uri {shlex.quote(redacted(uri))}" if uri else ""


def target_of(folder: Path) -> str:
    """The device of a saved session. Raises ValueError if the folder holds none."""
    return _load(folder).target


def _load(folder: Path) -> Session:
    try:
        return Session.load(folder / SESSION)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"send must be the folder of a session, got {str(folder)!r} ({error}): name one below measured/"
        ) from error


def _on_target(folder: Path, session: Session) -> Iterator[tuple[str, OnTarget]]:
    for path in sorted(folder.glob(f"*/{RESULT}")):
        content = json.loads(path.read_text(encoding="utf-8"))
        found = OnTarget(
            target=session.target,
            # Sessions from before runtimes could be chosen have none.
            runtime=content.get("runtime", BEFORE_RUNTIMES),
            version=content.get("version", ""),
            precision=content.get("precision", ""),
            began=session.began,
            hardware=session.hardware,
            metrics=content["metrics"],
            invalid="; ".join(content["invalid"]),
            folder=path.parent,
        )
        for run_id in content["runs"]:
            yield run_id, found
