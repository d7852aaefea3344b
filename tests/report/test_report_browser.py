"""The report in a real browser: its choices, plots and table, on a wide screen and on a phone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from pipelines.report.page import write
from tests.browser import Browser, chromium
from tests.comparison.recorded import recorded

CELLS = [
    recorded("baseline"),
    recorded("quantize_int8", megabytes=0.25, accuracy=0.79, test_ms=0.75),
    recorded("cluster", megabytes=0.4, accuracy=0.7, train_s=30, feasible=False),
    recorded("baseline", model="resnet50", accuracy=0.9, megabytes=4, test_ms=5, train_s=20000),
    # Timed on two machines, so it has no test time and no point in that plot.
    recorded("quantize_int8", model="resnet50", seed=0, megabytes=1.5, accuracy=0.85),
    recorded("quantize_int8", model="resnet50", seed=1, megabytes=1.5, accuracy=0.87, hardware="another"),
    replace(recorded("baseline", accuracy=0.95), dataset="digits"),
    replace(
        recorded("layer_transfer", accuracy=0.93, megabytes=0.5, test_ms=1.5),
        dataset="digits",
        source="efficientnet_lite0-cifar100-baseline",
    ),
]
LONG = "layer_transfer from efficientnet_lite0-cifar100-baseline"
WIDE, PHONE = 1280, 390


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(CELLS, tmp_path_factory.mktemp("report"), chosen="")[0]


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(opened: Browser, report: Path) -> Browser:
    """The report as it opens on a wide screen."""
    opened.open(report, width=WIDE)
    opened.until(lambda: opened.all(".point"))
    return opened


def rows(page: Browser, selector: str = "#table tbody tr:not([hidden])") -> list[list[str]]:
    """The cells of each visible row, from the top, without small print."""
    script = (
        "return [...document.querySelectorAll(arguments[0])].map((row) =>"
        "  [...row.cells].map((cell) => cell.innerText.split('\\n')[0]))"
    )
    found: list[list[str]] = page.run(script, selector)
    return found


def names(page: Browser) -> list[str]:
    """Model, technique and dataset of each visible row, from the top."""
    return [" ".join(row[1:4]) for row in rows(page)]


def column(page: Browser, key: str) -> list[str]:
    at = page.run("return document.querySelector(`th[data-key='${arguments[0]}']`).cellIndex", key)
    return [row[at] for row in rows(page)]


def points(page: Browser) -> dict[str, list[WebElement]]:
    """The points of each dataset's plot, the highest first."""
    script = (
        "return Object.fromEntries([...document.querySelectorAll('#plots section')].map((plot) => {"
        "  const top = (point) => point.getBoundingClientRect().top;"
        "  const points = [...plot.querySelectorAll('.point')].sort((one, other) => top(one) - top(other));"
        "  return [plot.querySelector('h3').innerText, points];"
        "}))"
    )
    found: dict[str, list[WebElement]] = page.run(script)
    return found


def drawn(page: Browser) -> dict[str, int]:
    """How many points each plot has."""
    return {dataset: len(of_one) for dataset, of_one in points(page).items()}


def tick(page: Browser, key: str, value: str) -> None:
    choice = f".choice[data-key='{key}']"
    for part in ("summary", f"input[value='{value}']", "summary"):
        page.one(f"{choice} {part}").click()


def tooltip(page: Browser) -> list[str]:
    """The lines of the tooltip, which must be inside the window."""
    assert page.run(
        "const at = document.getElementById('tooltip').getBoundingClientRect();"
        "return at.left >= 0 && at.top >= 0 && at.right <= innerWidth && at.bottom <= innerHeight"
    )
    return page.one("#tooltip").text.split("\n")


def marked(page: Browser) -> list[str]:
    """Model, technique and dataset of the marked rows."""
    return [" ".join(row[1:4]) for row in rows(page, "#table tr.hit")]


@pytest.mark.slow
def test_page_opens_from_a_file_and_loads_nothing_else(opened: Browser, report: Path) -> None:
    opened.complaints()
    opened.requests()
    opened.open(report, width=WIDE)
    opened.until(lambda: drawn(opened) == {"cifar10": 4, "digits": 2})
    assert "1 cell without both values is not drawn." in opened.one("#plots").text
    assert len(rows(opened)) == 7
    assert opened.one("#count").text == "7 of 7 cells"
    assert opened.texts(opened.all("#legend span")) == ["resnet50", "vgg16", "hollow: dominated", "grey: over budget"]
    tick(opened, "model", "vgg16")
    # All plots are redrawn when the window changes.
    opened.resize(PHONE)
    opened.until(lambda: opened.one("#plots svg").size["width"] < PHONE)
    assert opened.complaints() == []
    assert opened.requests() == [report.as_uri()]


@pytest.mark.parametrize(
    ("key", "value", "count", "dots", "left"),
    [
        ("dataset", "digits", 2, {"digits": 2}, {"vgg16 baseline digits", f"vgg16 {LONG} digits"}),
        ("model", "resnet50", 2, {"cifar10": 1}, {"resnet50 baseline cifar10", "resnet50 quantize_int8 cifar10"}),
        ("technique", LONG, 1, {"digits": 1}, {f"vgg16 {LONG} digits"}),
    ],
)
def test_plots_and_table_show_the_ticked_cells(
    page: Browser, key: str, value: str, count: int, dots: dict[str, int], left: set[str]
) -> None:
    tick(page, key, value)
    assert drawn(page) == dots
    assert set(names(page)) == left
    assert page.one("#count").text == f"{count} of 7 cells"
    assert page.one(f"[data-key='{key}'] b").text == value


def test_choices_combine_and_are_reset(page: Browser) -> None:
    tick(page, "technique", "baseline")
    tick(page, "technique", "quantize_int8")
    assert page.one("#count").text == "5 of 7 cells"
    page.one("#front-only").click()
    assert drawn(page) == {"cifar10": 3, "digits": 1}
    assert "resnet50 quantize_int8 cifar10" not in names(page)
    tick(page, "model", "resnet50")
    tick(page, "dataset", "digits")
    assert (names(page), page.all(".point")) == ([], [])
    assert "No cell is left" in page.one("#plots").text
    page.one("button[type=reset]").click()
    page.until(lambda: page.one("#count").text == "7 of 7 cells")
    assert drawn(page) == {"cifar10": 4, "digits": 2}
    assert len(names(page)) == 7
    assert page.texts(page.all(".choice b")) == ["all", "all", "all"]


def test_the_pareto_front_alone(page: Browser) -> None:
    page.one("#front-only").click()
    assert drawn(page) == {"cifar10": 3, "digits": 2}
    assert set(column(page, "front")) == {"yes"}
    assert page.one("#count").text == "5 of 7 cells"


def test_choosing_another_axis_moves_points_and_label(page: Browser) -> None:
    """The resnet has the longest training time; the cell without a test time has a size."""

    def order() -> list[str]:
        """Accuracies from left to right in the plot of cifar10."""
        found = []
        for point in sorted(points(page)["cifar10"], key=lambda point: point.location["x"]):
            page.point_at(point)
            found.append(tooltip(page)[1])
        return found

    assert "test time of one image in ms" in page.one("#plots svg").text
    assert order()[0] == "accuracy 79.00%"
    across = Select(page.one("#across"))
    before = [point.location for point in points(page)["cifar10"]]
    across.select_by_visible_text("compressed file in MB")
    assert [point.location for point in points(page)["cifar10"]] != before
    assert "compressed file in MB" in page.one("#plots svg").text
    assert "test time of one image in ms" not in page.one("#plots svg").text
    assert order() == [f"accuracy {share}.00%" for share in (79, 70, 80, 86, 90)]
    across.select_by_visible_text("training time in s")
    assert order()[-2:] == ["accuracy 70.00%", "accuracy 90.00%"]


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_pointing_at_a_cell_shows_values_and_marks_its_row(page: Browser, width: int) -> None:
    page.open(page.driver.current_url, width=width)
    page.until(lambda: page.all(".point"))
    # As with more cells than fit.
    page.run("document.getElementById('scroll').style.maxHeight = '130px'")
    for dataset, shares in {"cifar10": (90, 80, 79, 70), "digits": (95, 93)}.items():
        for point, share in zip(points(page)[dataset], shares, strict=True):
            page.point_at(point)
            name, accuracy, *more = tooltip(page)
            assert accuracy == f"accuracy {share}.00%"
            assert ("over its budget" in more) == (share == 70)
            (row,) = marked(page)
            assert row == f"{name.split('. ')[1]} {dataset}"
            assert page.run(
                "const row = document.querySelector('tr.hit').getBoundingClientRect();"
                "const box = document.getElementById('scroll').getBoundingClientRect();"
                "return row.top >= box.top && row.bottom <= box.bottom"
            )
    page.point_at(page.one("h1"))
    assert not page.one("#tooltip").is_displayed()
    assert marked(page) == []


def test_arrow_keys_walk_through_a_plot(page: Browser) -> None:
    page.run("arguments[0].focus()", page.one("#plots svg"))

    def press(key: str) -> tuple[list[str], list[str]]:
        ActionChains(page.driver).send_keys(key).perform()
        return tooltip(page)[1:3], marked(page)

    fastest = (["accuracy 79.00%", "test time 0.750 ms"], ["vgg16 quantize_int8 cifar10"])
    slowest = (["accuracy 90.00%", "test time 5.000 ms"], ["resnet50 baseline cifar10"])
    assert press(Keys.ARROW_RIGHT) == fastest
    assert press(Keys.ARROW_RIGHT)[0][1] == "test time 1.000 ms"
    assert press(Keys.ARROW_LEFT) == fastest
    assert press(Keys.ARROW_LEFT) == slowest
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not page.one("#tooltip").is_displayed()
    assert marked(page) == []


def test_a_heading_sorts_and_unknown_values_go_last(page: Browser) -> None:
    def click(key: str) -> list[str]:
        page.one(f"th[data-key='{key}'] button").click()
        return column(page, key)

    falling = [f"{share}.00%" for share in (95, 93, 90, 86, 80, 79, 70)]
    assert column(page, "accuracy") not in (falling, falling[::-1])
    assert click("accuracy") == falling
    assert page.one("th[data-key='accuracy']").get_attribute("aria-sort") == "descending"
    assert click("accuracy") == falling[::-1]
    assert click("test_ms") == ["5.000", "1.500", "1.000", "1.000", "1.000", "0.750", "–"]  # noqa: RUF001
    assert click("test_ms")[::6] == ["0.750", "–"]  # noqa: RUF001
    assert click("model") == ["resnet50"] * 2 + ["vgg16"] * 5
    assert [heading.get_attribute("data-key") for heading in page.all("th[aria-sort]")] == ["model"]


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_nothing_is_wider_than_the_window(page: Browser, width: int) -> None:
    page.open(page.driver.current_url, width=width)
    page.until(lambda: page.all(".point"))
    # The distance by which the page scrolls sideways.
    wider = "const it = document.scrollingElement; return it.scrollWidth - it.clientWidth"
    assert page.run(wider) == 0
    assert page.run("return innerWidth") == width
    for choice in page.all("details summary"):
        choice.click()
        (opened,) = page.visible("details[open] > div")
        assert opened.rect["x"] >= 0 and opened.rect["x"] + opened.rect["width"] <= width
        assert page.run(wider) == 0
    # The wide table scrolls in its own box, in which the ranks stay visible.
    assert page.run("const box = document.getElementById('scroll'); box.scrollLeft = 1e4; return box.scrollLeft") > 0
    place = page.one("#table tbody td")
    assert place.text == "1"
    assert page.run("const at = arguments[0].getBoundingClientRect(); return at.left", place) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_texts_of_a_plot_are_inside_it_and_do_not_overlap(page: Browser, width: int) -> None:
    """Training times reach from 10 s to hours, so not all ticks of 1, 2, 5 and 10 fit on a phone."""
    page.resize(width)
    # Redrawn for the window, not scaled to it.
    fits = "const plot = document.querySelector('#plots svg'); return plot.viewBox.baseVal.width === plot.clientWidth"
    page.until(lambda: page.run(fits))
    script = """
        const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
        return [...document.querySelectorAll("#plots svg")].map((plot) => {
            const whole = plot.getBoundingClientRect();
            const words = [...plot.querySelectorAll("text")];
            const boxes = words.map((text) => text.getBoundingClientRect());
            return {
                numbers: words.filter((text) => /^[\\d.]+$/.test(text.textContent)).length,
                inside: boxes.every((one) => one.left >= whole.left && one.right <= whole.right
                    && one.top >= whole.top && one.bottom <= whole.bottom),
                apart: boxes.every((one, at) => boxes.slice(at + 1).every((other) => apart(one, other))),
            };
        });
    """
    across = Select(page.one("#across"))
    for option in across.options:
        across.select_by_visible_text(option.text)
        for plot in page.run(script):
            assert plot["inside"] and plot["apart"], option.text
            assert plot["numbers"] >= 2, option.text
