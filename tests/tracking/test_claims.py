"""Claims and signs of life in a real SQLite store."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from pipelines.tracking import claims as module
from pipelines.tracking import liveness, tags
from pipelines.tracking.claims import CLAIM_HEARTBEAT, CLAIM_PROCESS, PREFIX, Claims
from pipelines.tracking.liveness import Pulse, is_gone, process_id
from pipelines.tracking.store import Store
from tests.places import until

FINGERPRINT = "ab" * 32
ELSEWHERE = "another-machine pid:[1] 17 1790000000"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(f"sqlite:///{tmp_path_factory.mktemp('claims') / 'mlflow.db'}", "claims")


@pytest.fixture
def client(store: Store) -> Iterator[MlflowClient]:
    yield store.client
    for claim in store.client.search_prompts():
        store.client.delete_prompt(claim.name)


def dead_process() -> str:
    program = "from pipelines.tracking.liveness import process_id; print(process_id())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def leave(client: MlflowClient, process: str, generation: int = 0) -> str:
    name = f"{PREFIX}{FINGERPRINT[:32]}-{generation}"
    client.create_prompt(name, tags={CLAIM_PROCESS: process, CLAIM_HEARTBEAT: "1"})
    return name


def names(client: MlflowClient) -> list[str]:
    return [model.name.removeprefix(PREFIX) for model in client.search_prompts()]


@pytest.mark.slow
def test_one_at_a_time_holds_a_claim(client: MlflowClient) -> None:
    with Claims(client).held(FINGERPRINT) as first:
        assert first
        with Claims(client).held(FINGERPRINT) as second, Claims(client).held("cd" * 32) as another:
            assert not second and another
    assert names(client) == []
    with Claims(client).held(FINGERPRINT) as again:
        assert again


def test_claim_being_deleted_still_belongs_to_its_owner(client: MlflowClient) -> None:
    """A search finds the entry, and then no tags of it: both are not read at one moment."""
    name = f"{PREFIX}{FINGERPRINT[:32]}-0"
    client.create_prompt(name)
    claims = Claims(client)
    claims.clear_dead()
    with claims.held(FINGERPRINT) as held:
        assert not held
    client.delete_prompt(name)
    with claims.held(FINGERPRINT) as held:
        assert held


def test_a_claim_ends_with_an_error_too(client: MlflowClient) -> None:
    with pytest.raises(RuntimeError), Claims(client).held(FINGERPRINT):
        raise RuntimeError
    assert names(client) == []


def test_one_of_many_gets_a_dead_owners_claim(client: MlflowClient) -> None:
    leave(client, dead_process())
    together, done = threading.Barrier(6, timeout=60), threading.Barrier(6, timeout=60)

    def want(_: int) -> bool:
        together.wait()
        with Claims(client).held(FINGERPRINT) as held:
            done.wait()
            return held

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(want, range(6))) == [False] * 5 + [True]
    assert names(client) == []


def test_remote_owner_without_heartbeat_is_dead(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_AFTER_S", 0.3)
    name = leave(client, ELSEWHERE)
    waiting = Claims(client)
    for beat in range(4):
        client.set_prompt_tag(name, CLAIM_HEARTBEAT, str(beat))
        time.sleep(0.2)
        with waiting.held(FINGERPRINT) as held:
            assert not held
    time.sleep(0.4)
    with waiting.held(FINGERPRINT) as held:
        assert held
        assert names(client) == [f"{FINGERPRINT[:32]}-1"]


def test_a_claim_shows_that_its_owner_lives(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_S", 0.1)
    with Claims(client).held(FINGERPRINT):
        (claim,) = client.search_prompts()
        assert claim.tags[CLAIM_PROCESS] == process_id()
        client.set_prompt_tag(claim.name, CLAIM_HEARTBEAT, "0")
        until(lambda: float(client.search_prompts()[0].tags[CLAIM_HEARTBEAT]) > 0)


def test_claim_is_not_among_the_models(client: MlflowClient) -> None:
    with Claims(client).held(FINGERPRINT):
        assert list(client.search_registered_models()) == []
        assert names(client) == [f"{FINGERPRINT[:32]}-0"]


def test_failed_heartbeat_stops_neither_work_nor_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_S", 0.01)
    beats: list[float] = []

    def beat(_: str) -> None:
        beats.append(time.monotonic())
        raise ConnectionError

    with Pulse(beat):
        until(lambda: len(beats) > 2)


def test_liveness_of_local_and_remote_processes() -> None:
    own = process_id()
    assert not is_gone(own)
    assert is_gone(dead_process())
    assert not is_gone(ELSEWHERE)
    assert not is_gone("")
    # The same number, given to another process later.
    stem, _, started = own.rpartition(" ")
    second, ticks = started.split(".")
    assert is_gone(f"{stem} {second}.{int(ticks) + 1}")
    # Where /proc does not tell.
    created = psutil.Process().create_time()
    assert not is_gone(f"{stem} {created:.0f}")
    assert is_gone(f"{stem} {created - 100:.0f}")


def test_a_clock_that_is_set_ends_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a virtual machine that resumes: psutil adds the time of the machine's start."""
    own = process_id()
    created = psutil.Process().create_time() + 7200
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: created)
    assert not is_gone(own)


def test_a_silent_process_of_this_machine_lives() -> None:
    """Stopped by Ctrl-Z, or without its store for a while."""
    assert not liveness.is_dead(process_id(), 0.0)
    assert liveness.is_dead(dead_process(), time.time())
    assert liveness.is_dead(ELSEWHERE, 0.0) and not liveness.is_dead(ELSEWHERE, time.time())


def test_a_machine_of_the_same_name_is_another() -> None:
    """Cloned machines share their name, and Linux numbers the processes of each in the same namespace."""
    host = socket.gethostname()
    dead = dead_process()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert dead.startswith(f"{host} {boot} ")
    assert not is_gone(dead.replace(boot, "00000000-0000-4000-8000-000000000000"))


def test_a_process_that_the_system_hides_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `hidepid` on a machine of several users."""

    def hidden(pid: int | None = None) -> psutil.Process:
        raise psutil.NoSuchProcess(pid or 0)

    own, dead = process_id(), dead_process()
    monkeypatch.setattr(psutil, "Process", hidden)
    monkeypatch.setattr(os, "kill", lambda _pid, _signal: refuse())
    assert not is_gone(own)
    monkeypatch.undo()
    assert is_gone(dead)


def refuse() -> None:
    raise PermissionError


def test_only_runs_of_dead_processes_are_closed(store: Store) -> None:
    client = store.client
    processes = {"dead": dead_process(), "alive": process_id(), "elsewhere": ELSEWHERE}
    now, long_ago = str(time.time()), str(time.time() - 3600)

    def opened(process: str, heartbeat: str) -> str:
        named = {tags.PROCESS: process, tags.HEARTBEAT: heartbeat}
        run_id: str = client.create_run(store.experiment_id, tags=named).info.run_id
        return run_id

    runs = {name: opened(process, now) for name, process in processes.items()}
    runs["silent"] = opened(ELSEWHERE, long_ago)
    claim = leave(client, processes["dead"])
    assert store.close_dead() == 2
    states = {name: client.get_run(run_id) for name, run_id in runs.items()}
    assert {name: run.info.status for name, run in states.items()} == {
        "dead": "KILLED", "alive": "RUNNING", "elsewhere": "RUNNING", "silent": "KILLED",
    }  # fmt: skip
    assert "ended without closing it" in states["dead"].data.tags["failure"]
    with pytest.raises(mlflow.MlflowException, match="not found"):
        client.get_registered_model(claim)
    assert store.close_dead() == 0


def test_artifacts_are_next_to_the_database(store: Store) -> None:
    folder = Path(store.uri.removeprefix("sqlite:///")).parent
    assert store.client.get_experiment(store.experiment_id).artifact_location == (folder / "artifacts").as_uri()


def test_two_commands_may_close_the_same_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = store.client
    named = {tags.PROCESS: dead_process(), tags.HEARTBEAT: str(time.time())}
    first, second, deleted = (client.create_run(store.experiment_id, tags=named).info.run_id for _ in range(3))
    real = client.set_tag

    def set_tag(run_id: str, *given: Any) -> None:
        if run_id == first and not client.get_run(first).data.tags.get("failure"):
            # Another command is between looking for the tag and inserting it.
            real(run_id, *given)
            raise mlflow.MlflowException("UNIQUE constraint failed", error_code=BAD_REQUEST)
        if run_id == deleted:
            client.delete_run(deleted)
        real(run_id, *given)

    monkeypatch.setattr(client, "set_tag", set_tag)
    assert store.close_dead() == 2
    assert [client.get_run(one).info.status for one in (first, second)] == ["KILLED", "KILLED"]
