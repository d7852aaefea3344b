"""What MLflow's own pages show of opscore's runs: the list of cells, a cell, a sweep with its report, the registry."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Metric, RunTag
from selenium.webdriver.remote.webelement import WebElement

from pipelines.champion import description
from pipelines.champion.gates import Gate
from pipelines.comparison import shortlist_note
from pipelines.comparison.shortlist import shortlist
from pipelines.results.folder import CellFiles, Finished
from pipelines.results.outcome import Outcome
from pipelines.tracking import tags, view
from pipelines.tracking.cell_run import CellRun
from pipelines.tracking.registry import Registry
from pipelines.tracking.serving import signature
from pipelines.tracking.store import Store
from pipelines.tracking.sweep_run import SweepRun
from pipelines.tracking.tags import FINGERPRINT, RESULT_KEY
from tests.browser import Browser, chromium
from tests.cells.test_config import composed
from tests.comparison.recorded import compared, recorded
from tests.conftest import small_data
from tests.report.test_report_browser import CELLS
from tests.report.written import write
from tests.results.test_summary import RESULT
from tests.servers import ui

pytestmark = pytest.mark.slow

# MLflow's scripts are megabytes, and other tests run at the same time.
PATIENCE_S = 60
HARDWARE = {"processor": "AMD EPYC", "cores": 2, "memory_gib": 24.0, "gpus": [], "ai-edge-litert": "2.3.0"}
MODEL = "opscore-digits"


def record_cell(store: Store, folder: Path) -> str:
    """The run of a cell whose result is made up, with a model that is never loaded."""
    files = CellFiles(folder / "cell")
    files.folder.mkdir()
    result = replace(RESULT, hardware=HARDWARE, violations=(), majority=None, epochs=(), metrics={})
    data, _ = small_data()
    cell = composed("dataset=digits", "technique=quantize_int8")
    with (
        pytest.MonkeyPatch.context() as patch,
        store.run(cell, data, files.folder, keys={FINGERPRINT: "f" * 64, RESULT_KEY: "1" * 64}) as run,
    ):
        patch.setattr(CellRun, "_has_model", lambda _: True)
        run.record(Finished(result=result, files=files), data)
        mlflow.pyfunc.log_model(
            name="model",
            python_model=mlflow.pyfunc.PythonModel(),
            signature=signature((8, 8, 3), 10),
            pip_requirements=[],
        )
    return run.run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The cells of the report as runs, a sweep's run with the report, and a cell's that is registered."""
    folder = tmp_path_factory.mktemp("store")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", "mine")
    for number, cell in enumerate(CELLS):
        named = {"model": cell.model, "dataset": cell.dataset, "technique": cell.technique}
        named |= {"seed": cell.seed, "feasible": str(cell.feasible), tags.FINGERPRINT: str(number)}
        run_id = store.client.create_run(store.experiment_id, run_name=cell.name).info.run_id
        store.client.log_batch(
            run_id,
            metrics=[Metric(n, v, 0, 0) for n, v in (view.rounded(cell.metrics) | cell.metrics).items()],
            tags=[RunTag(name, value) for name, value in named.items()],
        )
        store.client.set_terminated(run_id)
    sweep = SweepRun.open(store, name="sweep", overrides=["technique=baseline,cluster"], config="", adopted=None)
    report = write(CELLS, folder / "report", chosen="")
    listed = shortlist(compared(*CELLS[:6]))
    assert listed is not None
    outcomes = [Outcome(number=0, name="a", overrides=(), status="done", seconds=1, run_id="", metrics={}, spent={})]
    sweep.close(
        outcomes,
        summary="",
        note=shortlist_note.note({"cifar10": listed}),
        files=[],
        report=report,
        seconds=1,
        spent={},
        status="FINISHED",
        problem="",
    )
    run_id = record_cell(store, folder)
    Registry(store.uri, store.client).promote(
        MODEL,
        run_id,
        reasons={"cell": RESULT.name},
        description=description.of_version(
            RESULT,
            [Gate(name="score", passed=True, reason="the best")],
            candidates=3,
            replaced="nothing",
            cell=recorded("quantize_int8"),
        ),
        about=description.of_model(MODEL, "digits", (8, 8, 3), list("0123456789")),
        is_own=description.is_own,
        instead_of=None,
    )
    return store


@pytest.fixture(scope="module")
def address(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ui(store.uri, tmp_path_factory.mktemp("ui")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def in_full(browser: Browser, cell: WebElement, words: str) -> bool:
    """Whether a table's cell, itself in view, shows the words and cuts nothing off them."""
    script = """
        const [cell, words] = arguments;
        const right = cell.getBoundingClientRect().right;
        let it = [...cell.querySelectorAll("*")].find((one) => !one.children.length && one.textContent === words);
        if (!it || it.getBoundingClientRect().right > right || right > innerWidth) return false;
        for (; it !== cell; it = it.parentElement)
            if (getComputedStyle(it).display !== "inline" && it.scrollWidth > it.clientWidth) return false;
        return true;
    """
    return bool(browser.run(script, cell, words))


def open_run(browser: Browser, store: Store, address: str, condition: str, *, width: int) -> None:
    """Open the page of the only run that meets a condition, and wait for its description."""
    (run,) = store.client.search_runs([store.experiment_id], condition)
    browser.open("about:blank")
    browser.open(f"{address}/#/experiments/{store.experiment_id}/runs/{run.info.run_id}", width=width)
    browser.until(lambda: "Description" in headings(browser), seconds=PATIENCE_S)


def headings(browser: Browser) -> list[str]:
    return browser.texts(browser.all("h4"))


def scrolls_sideways(browser: Browser) -> bool:
    """Whether anything in the page is wider than the part of it that is seen."""
    script = """
        return [...document.querySelectorAll("main *")].some((one) =>
            one.scrollWidth > one.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(one).overflowX));
    """
    return bool(browser.run(script))


def test_shared_view_lists_cells_by_score(store: Store, address: str, browser: Browser) -> None:
    # The assistant's panel is open.
    browser.open(view.link(address, store.experiment_id), width=1400)
    name = f".ag-row [col-id='{view.NAME}']"
    browser.until(lambda: len(browser.all(name)) == len(CELLS) + 2, seconds=PATIENCE_S)
    assert "MLflow Assistant" in browser.one("body").text
    edge = browser.run("return document.querySelector('.ag-root').getBoundingClientRect().right")
    shown = [one for one in browser.all(".ag-header-cell") if one.rect["x"] + one.rect["width"] <= edge + 1]
    shown.sort(key=lambda one: one.rect["x"])
    named = [one.get_attribute("col-id") for one in shown]
    assert named[1:] == [view.CREATED, view.NAME, *(f"metrics.`{one}`" for one in view.ROUNDED), "tags.`seed`"]
    assert browser.texts(shown)[2:] == ["Run Name", "score dB", "accuracy", "test ms", "size kB", "gain dB", "seed"]
    for heading, words in zip(shown[3:], [*view.ROUNDED, "seed"], strict=True):
        assert in_full(browser, heading, words), words
    assert any(in_full(browser, cell, "vgg16-cifar10-quantize_int8") for cell in browser.all(name))
    cells = sorted(browser.all(".ag-row [col-id='metrics.`score dB`']"), key=lambda cell: cell.rect["y"])
    texts = [text for text in browser.texts(cells) if text != "-"]
    assert len(texts) == len(CELLS) + 1 and max(map(len, texts)) <= 5
    assert [float(text) for text in texts] == sorted(map(float, texts), reverse=True)


def test_cell_page_opens_with_its_whole_note(store: Store, address: str, browser: Browser) -> None:
    open_run(browser, store, address, "tags.`opscore.identity` != ''", width=1920)
    shown = browser.until(lambda: browser.texts(browser.all("[role=status] [title]:first-child")), seconds=PATIENCE_S)
    assert headings(browser)[0] == "Description"
    first = browser.one("main p")
    assert browser.texts([first])[0].startswith("vgg16-cifar10-quantize_int8: score 25.0 dB")
    # MLflow cuts a long one.
    assert not browser.all("[data-testid=show-comment-toggle]")
    people = list(takewhile(lambda one: not one.startswith(tags.PREFIX), shown))
    assert people == ["model", "dataset", "technique", "seed", "hardware", "feasible"], shown
    assert all(one.startswith(tags.PREFIX) for one in shown[len(people) :])


def test_sweep_page_names_the_fittest_first(store: Store, address: str, browser: Browser) -> None:
    open_run(browser, store, address, "tags.sweep != ''", width=1400)
    first, *_ = browser.texts(browser.all("main p"))
    assert first.startswith("Fittest for cifar10: resnet50-cifar10-baseline, 90")
    assert " ms an image, " in first and " kB compressed." in first
    assert browser.texts(browser.all("main table th"))[:2] == ["lose at most", "cell"]
    assert not scrolls_sideways(browser)


def test_registry_says_what_the_model_is(store: Store, address: str, browser: Browser) -> None:
    browser.open("about:blank")
    browser.open(f"{address}/#/models/{MODEL}", width=1400)
    browser.until(lambda: "Classifies images into the 10 classes" in browser.one("main").text, seconds=PATIENCE_S)
    about = browser.one("main").text
    for words in ("uint8, not scaled, of shape (n, 8, 8, 3)", "probabilities", f"models:/{MODEL}@champion"):
        assert words in about
    browser.open(f"{address}/#/models/{MODEL}/versions/1", width=1400)
    browser.until(lambda: "Inputs (1)" in browser.one("main").text, seconds=PATIENCE_S)
    page = browser.one("main").text
    for words in ("95% interval", " ms an image", " kB", "compared with 2 other candidates"):
        assert words in page

    def unfolded(part: str) -> bool:
        (row,) = [one for one in browser.all("main *") if one.text == part][-1:]
        row.click()
        return True

    # The page may draw itself again between finding a row and its click.
    for part in ("Inputs (1)", "Outputs (2)"):
        browser.until(functools.partial(unfolded, part), seconds=PATIENCE_S)
    rows = browser.until(lambda: browser.one("main").text.partition("Outputs (2)")[2] and browser.one("main").text)
    assert "images (required)" in rows and "Tensor (dtype: uint8, shape: [-1,8,8,3])" in rows
    assert "Tensor (dtype: float32, shape: [-1,10])" in rows


def test_models_page_shows_no_claim(store: Store, address: str, browser: Browser) -> None:
    with store.claims.held("ab" * 32) as held:
        assert held
        browser.open("about:blank")
        browser.open(f"{address}/#/models", width=1400)
        browser.until(lambda: browser.all(f"a[href='#/models/{MODEL}']"), seconds=PATIENCE_S)
        assert [one for one in browser.all("main a") if "claim" in (one.get_attribute("href") or "")] == []


def test_a_sweeps_report_works_in_mlflows_frame(store: Store, address: str, browser: Browser) -> None:
    (sweep,) = store.client.search_runs([store.experiment_id], "tags.sweep != ''")
    page = f"{address}/#/experiments/{store.experiment_id}/runs/{sweep.info.run_id}/artifacts/report/report.html"
    browser.open(page, width=1600)
    frame = browser.until(lambda: browser.one("iframe"), seconds=PATIENCE_S)
    # Neither a page of the same origin nor one that may open windows: what works here works without either.
    assert frame.get_attribute("sandbox") == "allow-scripts"
    browser.driver.switch_to.frame(frame)
    browser.until(lambda: len(browser.all(".point")) == 7)
    browser.one("#front-only").click()
    assert browser.one("#count").text == "5 of 7 cells"
    browser.one("button[type=reset]").click()
    browser.until(lambda: browser.one("#count").text == "7 of 7 cells")
    browser.point_at(browser.one(".point"))
    assert browser.one("#tooltip").is_displayed()
    # A link within the page; MLflow's frame leads such links nowhere of itself.
    browser.one("nav a[href='#figures']").click()
    browser.until(lambda: abs(browser.run("return document.getElementById('figures').getBoundingClientRect().top")) < 2)
