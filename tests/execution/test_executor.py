"""What an executor does where the store or a file changes meanwhile."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from mlflow import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from requests import HTTPError

from pipelines.cells.plan import Plan
from pipelines.execution import executor
from pipelines.execution.executor import Executor
from pipelines.execution.preflight import digest_of
from pipelines.system.errors import StoreError
from pipelines.tracking.client import may_pass
from pipelines.tracking.store import Store
from tests.cells.test_config import composed
from tests.places import Place


def test_recording_is_tried_for_as_long_as_the_patience(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server answers that it is well while its database starts."""
    monkeypatch.setattr(executor, "POLL_S", 0.01)
    monkeypatch.setattr(executor, "check_reachable", lambda *_, **__: None)
    monkeypatch.setattr("pipelines.execution.figures.draw", lambda *_: None)
    refusals: list[Exception] = [ConnectionError("503")] * 3
    asked = 0

    class Run:
        def record(self, *_: object) -> None:
            nonlocal asked
            asked += 1
            if refusals:
                raise StoreError("refused") from refusals.pop()

    def record(patience_s: float) -> None:
        it: Any = Executor(store=Mock(), request=Mock(patience_s=patience_s), folder=tmp_path)
        it._record(Run(), Mock(files=Mock(folder=tmp_path)), None)

    record(600)
    assert not refusals
    for patience_s in (0.0, 0.05):
        refusals = [ConnectionError("503")] * 1000
        with pytest.raises(StoreError, match="refused"):
            record(patience_s)

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("no answer")

    # The sentence that says where the files are, and how to send them.
    monkeypatch.setattr(executor, "check_reachable", away)
    refusals = [ConnectionError("503")] * 1000
    with pytest.raises(StoreError, match="refused"):
        record(600)
    monkeypatch.setattr(executor, "check_reachable", lambda *_, **__: None)
    # What the store will never take is tried once more.
    refusals, asked = [MlflowException("gone", RESOURCE_DOES_NOT_EXIST)] * 9, 0
    with pytest.raises(StoreError, match="refused"):
        record(600)
    assert asked == 2


def test_weights_that_changed_since_the_start_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = composed("technique=baseline")
    stale = replace(Plan.of(cell, digest_of), fingerprint="of the former file")
    it: Any = Executor(store=Mock(), request=Mock(), folder=tmp_path)
    monkeypatch.setattr(Executor, "_opened", lambda *_: nullcontext(Mock()))
    monkeypatch.setattr(Executor, "_kept", lambda *_, **__: None)
    monkeypatch.setattr(Executor, "_earlier", lambda *_: (None, None))
    with pytest.raises(RuntimeError, match=r"a file that small_cnn-digits-baseline starts from, .* changed"):
        it._run(stale, {})


def test_older_run_is_taken_where_the_newest_lost_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    tags = {"opscore.fingerprint": "f"}
    runs = [place.client.create_run(place.experiment, start_time=at, tags=tags).info.run_id for at in (1, 2)]
    for run_id in runs:
        place.client.log_text(run_id, "", "cell/model.tflite")
        place.client.set_terminated(run_id)
    older, newest = [place.files(place.client.get_run(run_id)) / "cell" / "model.tflite" for run_id in runs]
    monkeypatch.setattr(Store, "result", lambda *_: None)
    store = Store.existing(place.uri, place.name)
    assert store.find_trained(fingerprint="f") == runs[1]
    newest.unlink()
    assert store.find_trained(fingerprint="f") == runs[0]
    assert store.find(fingerprint="f") == runs[1]
    older.unlink()
    assert store.find_trained(fingerprint="f") is None


def test_errors_that_may_pass_are_those_of_a_store_that_is_away() -> None:
    answer = Mock(status_code=500)
    passing = [
        MlflowException("API request to http://h/api failed with exception HTTPConnectionPool: too many 503"),
        MlflowException("API request to http://h/api failed with timeout exception"),
        MlflowException("API request to endpoint /x failed with error code 502 != 200. Response body: '<html>'"),
        MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE),
        HTTPError(response=answer),
        TimeoutError(),
    ]
    lasting = [
        MlflowException("Run not found", error_code=RESOURCE_DOES_NOT_EXIST),
        MlflowException("database or disk is full", error_code=TEMPORARILY_UNAVAILABLE),
        HTTPError(response=Mock(status_code=403)),
        TypeError(),
        None,
    ]
    assert [may_pass(one) for one in (*passing, *lasting)] == [True] * len(passing) + [False] * len(lasting)
