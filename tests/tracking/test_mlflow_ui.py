"""What MLflow's own pages show of opscore's runs: the list of cells, and a sweep's report among its files."""

from collections.abc import Iterator

import pytest
from mlflow.entities import Metric, RunTag
from selenium.webdriver.remote.webelement import WebElement

from pipelines.report.page import write
from pipelines.tracking import view
from pipelines.tracking.store import Store
from tests.browser import Browser, chromium
from tests.report.test_report_browser import CELLS
from tests.servers import ui

pytestmark = pytest.mark.slow

MAX_LENGTH = "efficientnet_lite0-cifar100-prune_filters_quantize_int8"
# MLflow's scripts are megabytes, and other tests run at the same time.
PATIENCE_S = 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The cells of the report as runs, one under the longest name there is, and the sweep's run with the report."""
    folder = tmp_path_factory.mktemp("store")
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", "mine")
    for number, cell in enumerate(CELLS):
        names = {"model": cell.model, "dataset": cell.dataset, "technique": cell.technique, "fingerprint": str(number)}
        tags = names | {"seed": cell.seed, "feasible": cell.feasible}
        run_id = store.client.create_run(store.experiment_id, run_name=cell.name if number else MAX_LENGTH).info.run_id
        store.client.log_batch(
            run_id,
            # A cell logs the last one too; a report works it out anew.
            metrics=[Metric(n, v, 0, 0) for n, v in (cell.metrics | {"baseline/dimensions_improved": 1}).items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        store.client.set_terminated(run_id)
    sweep = store.client.create_run(store.experiment_id, run_name="sweep").info.run_id
    store.client.set_tag(sweep, "sweep", "technique=baseline,cluster")
    write(CELLS, folder / "report", chosen="")
    store.client.log_artifacts(sweep, str(folder / "report"), "report")
    store.client.set_terminated(sweep)
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


def test_shared_view_lists_cells_by_score_with_full_headings(store: Store, address: str, browser: Browser) -> None:
    # MLflow makes only the columns that are in view.
    browser.open(view.link(address, store.experiment_id), width=2800)
    name = f".ag-row [col-id='{view.NAME}']"
    browser.until(lambda: len(browser.all(name)) == len(CELLS) + 1, seconds=PATIENCE_S)
    headings = {one.get_attribute("col-id"): one for one in browser.all(".ag-header-cell")}
    for column in view.COLUMNS:
        assert in_full(browser, headings[column], column.split("`")[1]), column
    assert [in_full(browser, cell, MAX_LENGTH) for cell in browser.all(name)].count(True) == 1
    cells = sorted(browser.all(".ag-row [col-id='metrics.`score/operational`']"), key=lambda cell: cell.rect["y"])
    scores = [float(text) for text in browser.texts(cells) if text != "-"]
    assert len(scores) == len(CELLS)
    assert scores == sorted(scores, reverse=True)


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
