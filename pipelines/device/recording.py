"""A session's results, saved in a folder and then sent to the runs of a store."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.device.raw import raw_arrays
from pipelines.device.results import DeviceResult
from pipelines.device.session import Measured
from pipelines.device.settings import Settings
from pipelines.results.json_record import Record
from pipelines.results.on_device import (
    BEGAN,
    HARDWARE,
    INVALID,
    NOT_INVALID,
    PRECISION,
    REFERENCE,
    VERSION,
    Figures,
)
from pipelines.system import places
from pipelines.system.errors import StoreError
from pipelines.system.words import number_of
from pipelines.tracking.address import store_option, tracking_uri
from pipelines.tracking.experiment import reading_client
from pipelines.tracking.measured import LostRunError, record
from pipelines.tracking.moved import address_of
from pipelines.tracking.reachable import check_reachable

SESSION, RESULT, LATENCY = "session.json", "result.json", "latency.npz"


@dataclass(frozen=True, kw_only=True)
class Session(Record):
    """The properties of a session.

    began: seconds since 1970. uri: the store's; None for files on disk. left_out: a sentence for each exported model
    that a runtime does not take. cut: as of `Measured`.
    """

    target: str
    began: int
    hardware: dict[str, Any]
    settings: dict[str, Any]
    uri: str | None
    left_out: tuple[str, ...] = ()
    cut: str = ""


def session_of(target: str, hardware: Mapping[str, Any], settings: Settings, uri: str | None) -> Session:
    """A session that starts now."""
    return Session(target=target, began=int(time.time()), hardware=dict(hardware), settings=asdict(settings), uri=uri)


def new_folder(out: Path) -> Path:
    """Create a folder below `out` with the time as its name, so that no session overwrites another."""
    with suppress(FileExistsError):
        out.mkdir(parents=True)
    return places.new_folder(out, time.strftime("%Y%m%d-%H%M%S"))


def save(folder: Path, session: Session, measured: Measured, results: Sequence[DeviceResult]) -> None:
    """Write a subfolder for each exported model, and the session's properties last: with them it is complete."""
    session = replace(session, left_out=tuple(measured.left_out), cut=measured.cut)
    for subject, raw, result in zip(measured.subjects, measured.raws, results, strict=True):
        own = places.new_folder(folder, subject.folder)
        np.savez_compressed(own / LATENCY, allow_pickle=False, **raw_arrays(raw))
        content = {**asdict(result), "invalid": result.invalid, "metrics": result.metrics(), **asdict(session)}
        (own / RESULT).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    session.save(folder / SESSION)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """The numbers of runs that got their figures, and of those that keep newer ones. lost: the ids of lost runs."""

    runs: int
    newer: int
    lost: tuple[str, ...]

    def text(self, target: str) -> str:
        """In a line."""
        kept = f"; newer figures stay on {number_of(self.newer, 'run')}" if self.newer else ""
        lost = f"; the store has lost {number_of(len(self.lost), 'run')}: {', '.join(self.lost)}" if self.lost else ""
        return f"{number_of(self.runs, 'run')} got figures as measure/{target}/...{kept}{lost}"


def send(folder: Path, uri: str | None = None) -> Sent:
    """Send the figures of a saved session to its runs. It can be repeated.

    uri: of the store; by default the one that the cells came from. Raises ValueError if the folder holds no session of
    a store, StoreError with the command that sends it later if the store refuses. A run that is lost does not keep the
    others from getting theirs.
    """
    session, given = _load(folder), uri
    if session.uri is None:
        raise ValueError(
            f"{folder} must be a session with a store's cells, got one of files on disk, which have no run"
        )
    runs = (run_id for run_id, *_ in _figures(folder, session))
    uri = tracking_uri(uri) if uri else address_of(session.uri, next(runs, ""))
    sent: dict[str, bool] = {}
    lost: set[str] = set()
    try:
        check_reachable(uri)
        client = reading_client(uri)
        for run_id, found, files in _figures(folder, session):
            try:
                sent[run_id] = record(client, run_id, found, files) or sent.get(run_id, False)
            except LostRunError:
                lost.add(run_id)
    except (OSError, StoreError) as error:
        raise StoreError(
            f"{number_of(sum(sent.values()), 'run')} in {uri} received their figures ({error}): {later(folder, given)}"
        ) from error
    return Sent(runs=sum(sent.values()), newer=len(sent) - sum(sent.values()), lost=tuple(sorted(lost)))


def later(folder: Path, uri: str | None = None) -> str:
    """Where a session's results are, and the command that sends them. uri: of the store, if it was named."""
    return (
        f"all results are in {folder}, send them, once the store takes them, with "
        f"`opscore measure --send {shlex.quote(str(folder))}{store_option(uri)}`"
    )


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


def _reference(content: Mapping[str, Any], hashes: Mapping[str, str]) -> str:
    """What a result's ratios are to, its runtime and its file. hashes: SHA-256 of the session's files by label."""
    label, runtime = content["reference"] or (content["label"], content["runtime"])
    return f"{runtime} {hashes[label]}"


def _figures(folder: Path, session: Session) -> Iterator[tuple[str, Figures, Path]]:
    """The runs of a session, each with its figures and with the folder of the files that they are from."""
    contents = {path: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob(f"*/{RESULT}"))}
    hashes = {content["label"]: content["sha256"] for content in contents.values()}
    for path, content in contents.items():
        tags = {
            BEGAN: str(session.began),
            INVALID: "; ".join(content["invalid"]) or NOT_INVALID,
            HARDWARE: json.dumps(session.hardware),
            VERSION: content["version"],
            PRECISION: content["precision"],
            REFERENCE: _reference(content, hashes),
        }
        found = Figures(target=session.target, runtime=content["runtime"], metrics=content["metrics"], tags=tags)
        for run_id in content["runs"]:
            yield run_id, found, path.parent
