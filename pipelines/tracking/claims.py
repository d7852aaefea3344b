"""Claims on trainings, so that processes that need the same model train it once.

MLflow has one operation that only one of several callers can win: creating an entry of its registry under a new name. A
claim is such an entry, `opscore-claim-<fingerprint>-<generation>`, which exists while its owner works. Its tags hold
the owner's process and heartbeat. A process that finds the owner dead creates the next generation, which again only one
process can do.

The entry is a prompt and not a model, so that MLflow does not list it among the models. Prompts and models share their
names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pipelines.tracking.liveness import DEAD_AFTER_S, Pulse, beat_now, is_dead, is_gone, process_id

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import Prompt

PREFIX = "opscore-claim-"
DESCRIPTION = "opscore is training a model, and deletes this entry afterwards. It is no prompt and has no versions."
# Tags of a claim.
CLAIM_PROCESS, CLAIM_HEARTBEAT = "process", "heartbeat"


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
            with Pulse(lambda beat: self._client.set_prompt_tag(name, CLAIM_HEARTBEAT, beat)):
                yield True
        finally:
            # After the last heartbeat, because a database refuses to delete an entry that is getting a tag.
            self._delete(name)

    def clear_dead(self) -> None:
        """Delete the claims of processes that have ended."""
        for entry in self._entries(PREFIX):
            beat = entry.tags.get(CLAIM_HEARTBEAT)
            if beat and is_dead(entry.tags.get(CLAIM_PROCESS, ""), float(beat)):
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

        tags = {CLAIM_PROCESS: process_id(), CLAIM_HEARTBEAT: beat_now()}
        try:
            self._client.create_prompt(name, DESCRIPTION, tags)
        except MlflowException as error:
            # The other one may be deleted before MLflow looks at what it is.
            if error.error_code in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"):
                return False
            raise
        return True

    def _delete(self, name: str) -> None:
        from mlflow import MlflowException

        # Another process may have found the owner dead and deleted it. If the store does not answer, one will later.
        with suppress(MlflowException):
            self._client.delete_prompt(name)

    def _is_dead(self, entry: Prompt) -> bool:
        if is_gone(entry.tags.get(CLAIM_PROCESS, "")):
            return True
        heartbeat, now = entry.tags.get(CLAIM_HEARTBEAT, ""), time.monotonic()
        seen, since = self._seen.get(entry.name, (None, 0.0))
        if seen != heartbeat:
            self._seen[entry.name] = (heartbeat, now)
            return False
        return now - since > DEAD_AFTER_S

    def _entries(self, prefix: str) -> Sequence[Prompt]:
        try:
            return list(self._client.search_prompts(f"name LIKE '{prefix}%'"))
        except Exception:
            # While the store did not answer, no heartbeat could be seen.
            self._seen.clear()
            raise
