"""Many recorded cells: the number of requests does not grow with the runs, and no artifact is opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from benchmarks.synthetic import cells, fill
from pipelines.commands.selection import Selection
from pipelines.tracking.store import Store
from tests.report.written import write

pytestmark = pytest.mark.slow

RUNS = 1100
# MLflow gives out a thousand at a time.
PAGES = 2


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of finished cells whose artifacts nobody has."""
    folder = tmp_path_factory.mktemp("many")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    store = Store(uri, "opscore")
    fill(uri, store.experiment_id, (folder / "artifacts").as_uri(), RUNS)
    return uri


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """The SQL that is sent to any database while the test runs."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


def test_cells_are_read_by_the_page(uri: str, statements: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(uri, "opscore")
    searches: list[dict[str, Any]] = []
    search = store.client.search_runs

    def counted(*arguments: Any, **named: Any) -> Any:
        searches.append(named)
        return search(*arguments, **named)

    monkeypatch.setattr(store.client, "search_runs", counted)
    statements.clear()
    found = store.finished_cells()
    assert (len(found), len(searches)) == (RUNS, PAGES)
    # Metrics, parameters and tags come for 500 runs at a time.
    assert len(statements) < 20 * PAGES


def test_read_cells_equal_the_recorded_ones(uri: str) -> None:
    found = {cell.run_id: cell for cell in Store(uri, "opscore").finished_cells()}
    for made in cells(RUNS):
        cell = found[made.run_id]
        assert made.params["training.mixed_precision"] == "auto" and made.tags["precision"] == "float32"
        params = {name: value for name, value in made.params.items() if name != "training.mixed_precision"}
        expected = (made.metrics, params | {"training.precision": "float32"}, made.started)
        assert (cell.metrics, cell.params, cell.started) == expected
        assert {name: getattr(cell, name) for name in ("model", "dataset", "technique")} == {
            name: made.tags[name] for name in ("model", "dataset", "technique")
        }
        made_as = (made.result.name, made.result.fingerprint, 10_000)
        assert (cell.name, cell.fingerprint, cell.test_images) == made_as


def test_a_report_opens_no_artifact(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an artifact was requested")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", refuse)
    monkeypatch.setattr(mlflow.artifacts, "list_artifacts", refuse)
    assert not Path(uri.removeprefix("sqlite:///")).with_name("artifacts").exists()
    selection = Selection(uri=uri, dataset="cifar10")
    chosen = selection.cells(selection.store())
    page, *figures = write(chosen, tmp_path, chosen="dataset=cifar10")
    html = page.read_text()
    assert html.count("<tr data-at=") == len(chosen) == sum(cell.dataset == "cifar10" for cell in chosen)
    assert html.rstrip().endswith("</html>")
    assert len(figures) == 4
