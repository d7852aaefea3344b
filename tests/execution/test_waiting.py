"""A cell that waits for another process to train what both need."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowException

from pipelines.execution import executor
from pipelines.execution.executor import Executor


def looking(*looks: object, patience_s: float) -> Any:
    """What a cell gets that finds `looks` in the store, one after another."""
    remaining = iter(looks)

    class Looking(Executor):
        def _reuse(self, plan: Any) -> Any:
            found = next(remaining)
            if isinstance(found, Exception):
                raise found
            return found

    # Another process holds the claim.
    store = SimpleNamespace(uri="sqlite:///mlflow.db", claims=SimpleNamespace(held=lambda _: nullcontext(False)))
    request = SimpleNamespace(patience_s=patience_s)
    it: Any = Looking(store=store, request=request, folder=Path())  # type: ignore[arg-type]
    plan = SimpleNamespace(fingerprint="f", cell=SimpleNamespace(name="baseline"))
    return it._run_exclusively(plan, {})


def test_waiting_goes_on_where_the_store_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "POLL_S", 0)
    away = MlflowException("API request to /runs/search failed")
    assert looking(None, away, None, "the finished cell", patience_s=600) == "the finished cell"
    # What lasts longer than the patience is raised, and what is over begins anew.
    with pytest.raises(MlflowException, match="API request"):
        looking(None, *[away] * 100_000, patience_s=0.05)
    assert looking(None, away, None, away, None, "the finished cell", patience_s=600) == "the finished cell"
    # Before it has waited, and without patience, the store must answer.
    for looks, patience_s in (((away,), 600.0), ((None, away), 0.0)):
        with pytest.raises(MlflowException, match="API request"):
            looking(*looks, patience_s=patience_s)
