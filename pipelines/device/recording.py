"""A session's results: first in a folder, then on the runs of a store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.device.results import Measured
from pipelines.device.session import Raw, raw_arrays
from pipelines.device.settings import Settings
from pipelines.device.subjects import Subject
from pipelines.system.errors import StoreError
from pipelines.tracking.address import check_reachable, tracking_uri
from pipelines.tracking.client import connected
from pipelines.tracking.measured import OnTarget, record
from pipelines.tracking.moved import address_of

SESSION, RESULT, LATENCY = "session.json", "result.json", "latency.npz"


@dataclass(frozen=True, kw_only=True)
class Session:
    """What the exported models of a session share. began: seconds since 1970. uri: the store's; None for files."""

    target: str
    began: int
    hardware: dict[str, Any]
    settings: dict[str, Any]
    uri: str | None


def session_of(target: str, hardware: Mapping[str, Any], settings: Settings, uri: str | None) -> Session:
    """A session that begins now."""
    return Session(target=target, began=int(time.time()), hardware=dict(hardware), settings=asdict(settings), uri=uri)


def new_folder(out: Path) -> Path:
    """A new folder below `out` with the time as its name: no session is written over."""
    folder = out / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    return folder


def save(
    folder: Path, session: Session, subjects: Sequence[Subject], raws: Sequence[Raw], results: Sequence[Measured]
) -> None:
    """Write a subfolder for each exported model, and what they share last: where it is, the session is complete."""
    for subject, raw, measured in zip(subjects, raws, results, strict=True):
        own = folder / subject.folder
        own.mkdir()
        np.savez_compressed(own / LATENCY, allow_pickle=False, **raw_arrays(raw))
        told = {**asdict(measured), "invalid": measured.invalid, "metrics": measured.metrics(), **asdict(session)}
        (own / RESULT).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    (folder / SESSION).write_text(json.dumps(asdict(session), indent=2) + "\n", encoding="utf-8")


def send(folder: Path, uri: str | None = None) -> int:
    """Put the figures of a saved session on its runs, in the store it came from unless another is named.

    Gives how many runs there were. May be repeated. Raises ValueError where the folder holds no session of a store,
    StoreError with how to send it later where the store refuses.
    """
    session = _load(folder)
    if uri is None and session.uri is None:
        raise ValueError(f"{folder} must be a session with a store's cells, got one of files on disk: there is no run")
    runs = (run_id for run_id, _ in _on_target(folder, session))
    uri = tracking_uri(uri) if uri else address_of(str(session.uri), next(runs, ""))
    sent = 0
    try:
        check_reachable(uri)
        client = connected(uri)
        for run_id, found in _on_target(folder, session):
            record(client, run_id, found)
            sent += 1
    except (OSError, StoreError) as error:
        raise StoreError(
            f"all results are in {folder}, but only {sent} runs got theirs in {uri} ({error}): send them, when it "
            f"answers again, with `python -m pipelines.measure send={folder}`"
        ) from error
    return sent


def _load(folder: Path) -> Session:
    try:
        return Session(**json.loads((folder / SESSION).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"send must be the folder of a session, got {str(folder)!r} ({error}): name it") from error


def _on_target(folder: Path, session: Session) -> Iterator[tuple[str, OnTarget]]:
    for path in sorted(folder.glob(f"*/{RESULT}")):
        told = json.loads(path.read_text(encoding="utf-8"))
        found = OnTarget(
            target=session.target,
            began=session.began,
            hardware=session.hardware,
            metrics=told["metrics"],
            invalid="; ".join(told["invalid"]),
            folder=path.parent,
        )
        for run_id in told["runs"]:
            yield run_id, found
