"""Who trains what, so that processes that need the same model train it once.

MLflow has one operation that only one of several callers can win: to create a registered model under a new name. A
claim is such an entry, `opscore-claim-<fingerprint>-<generation>`, there for as long as its owner works. It holds the
owner's process and heartbeat. Whoever finds the owner dead creates the next generation, which again only one can do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.tracking.liveness import DEAD_AFTER_S, HEARTBEAT, PROCESS, Pulse, identity, is_gone

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "opscore-claim-"
DESCRIPTION = "opscore trains this model. The entry goes when it is done, and is no model version."


@dataclass(frozen=True, kw_only=True)
class _Entry:
    name: str
    generation: int
    process: str
    heartbeat: str


class Claims:
    """The claims in one tracking store."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        # Of each entry the heartbeat that was read last, and when it changed by this process's clock: clocks of two
        # machines need not agree.
        self._seen: dict[str, tuple[str, float]] = {}

    @contextmanager
    def held(self, fingerprint: str) -> Iterator[bool]:
        """Try to claim: gives whether this process holds the claim while the context lasts.

        It is not given where another living process holds it. Never hold a claim while waiting for another.
        """
        name = self._take(fingerprint)
        if name is None:
            yield False
            return
        try:
            with Pulse(lambda: self._client.set_registered_model_tag(name, HEARTBEAT, f"{time.time():.0f}")):
                yield True
        finally:
            # After the last heartbeat: a database refuses to delete an entry to which a tag is being added.
            self._delete(name)

    def clear_dead(self) -> None:
        """Delete the claims of processes of this machine that have ended."""
        for entry in self._entries(PREFIX):
            if is_gone(entry.process):
                self._delete(entry.name)

    def _take(self, fingerprint: str) -> str | None:
        prefix = f"{PREFIX}{fingerprint[:32]}-"
        entries = self._entries(prefix)
        newest = max(entries, key=lambda entry: entry.generation, default=None)
        if newest is not None and not self._dead(newest):
            return None
        name = f"{prefix}{newest.generation + 1 if newest else 0}"
        if not self._create(name):
            return None
        for entry in entries:
            self._delete(entry.name)
        return name

    def _create(self, name: str) -> bool:
        from mlflow import MlflowException

        tags = {PROCESS: identity(), HEARTBEAT: f"{time.time():.0f}"}
        try:
            self._client.create_registered_model(name, tags=tags, description=DESCRIPTION)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                return False
            raise
        return True

    def _delete(self, name: str) -> None:
        from mlflow import MlflowException

        # Deleted by one who found its owner dead, or the store is gone: then it is found dead later.
        with suppress(MlflowException):
            self._client.delete_registered_model(name)

    def _dead(self, entry: _Entry) -> bool:
        if is_gone(entry.process):
            return True
        heartbeat, since = self._seen.get(entry.name, (None, 0.0))
        now = time.monotonic()
        if heartbeat != entry.heartbeat:
            self._seen[entry.name] = (entry.heartbeat, now)
            return False
        return now - since > DEAD_AFTER_S

    def _entries(self, prefix: str) -> list[_Entry]:
        try:
            found = self._client.search_registered_models(f"name LIKE '{prefix}%'")
        except Exception:
            # While the store was away nobody's heartbeat could be seen.
            self._seen.clear()
            raise
        return [
            _Entry(
                name=model.name,
                generation=int(model.name.rpartition("-")[2]),
                process=model.tags.get(PROCESS, ""),
                heartbeat=model.tags.get(HEARTBEAT, ""),
            )
            for model in found
        ]
