"""Claims on trainings, so that processes that need the same model train it once.

MLflow has one operation that only one of several callers can win: creating a registered model under a new name. A claim
is such an entry, `opscore-claim-<fingerprint>-<generation>`, which exists while its owner works. Its tags hold the
owner's process and heartbeat. A process that finds the owner dead creates the next generation, which again only one
process can do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipelines.tracking.liveness import DEAD_AFTER_S, HEARTBEAT, PROCESS, Pulse, identity, is_gone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

PREFIX = "opscore-claim-"
DESCRIPTION = "opscore is training this model, and deletes this entry afterwards. It has no versions."


class Claims:
    """The claims in one tracking store."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        # The last heartbeat of each claim, and when this process saw it change by its own clock: the clocks of two
        # machines may differ.
        self._seen: dict[str, tuple[str, float]] = {}

    @contextmanager
    def held(self, fingerprint: str) -> Iterator[bool]:
        """Try to claim; gives whether this process holds the claim while the context lasts.

        Another living process may hold it. Never hold a claim while waiting for another.
        """
        name = self._take(fingerprint)
        if name is None:
            yield False
            return
        try:
            with Pulse(lambda: self._client.set_registered_model_tag(name, HEARTBEAT, f"{time.time():.0f}")):
                yield True
        finally:
            # After the last heartbeat, because a database refuses to delete an entry that is getting a tag.
            self._delete(name)

    def clear_dead(self) -> None:
        """Delete the claims of processes of this machine that have ended."""
        for entry in self._entries(PREFIX):
            if is_gone(entry.tags.get(PROCESS, "")):
                self._delete(entry.name)

    def _take(self, fingerprint: str) -> str | None:
        prefix = f"{PREFIX}{fingerprint[:32]}-"
        entries = {int(entry.name.rpartition("-")[2]): entry for entry in self._entries(prefix)}
        newest = max(entries, default=-1)
        if entries and not self._is_dead(entries[newest]):
            return None
        name = f"{prefix}{newest + 1}"
        if not self._create(name):
            return None
        for entry in entries.values():
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

        # Another process may have found the owner dead and deleted it. If the store does not answer, one will later.
        with suppress(MlflowException):
            self._client.delete_registered_model(name)

    def _is_dead(self, entry: RegisteredModel) -> bool:
        if is_gone(entry.tags.get(PROCESS, "")):
            return True
        heartbeat, now = entry.tags.get(HEARTBEAT, ""), time.monotonic()
        seen, since = self._seen.get(entry.name, (None, 0.0))
        if seen != heartbeat:
            self._seen[entry.name] = (heartbeat, now)
            return False
        return now - since > DEAD_AFTER_S

    def _entries(self, prefix: str) -> Sequence[RegisteredModel]:
        try:
            return self._client.search_registered_models(f"name LIKE '{prefix}%'")
        except Exception:
            # While the store did not answer, no heartbeat could be seen.
            self._seen.clear()
            raise
