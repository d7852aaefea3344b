"""The report in a real browser: its choices, plots and table, on a wide screen and on a phone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from pipelines.results.recorded_cell import RecordedCell
from tests.browser import Browser, chromium
from tests.comparison.recorded import recorded
from tests.report.written import write

CELLS = [
    recorded("baseline"),
    recorded("quantize_int8", megabytes=0.25, accuracy=0.79, test_ms=0.75),
    recorded("cluster", megabytes=0.4, accuracy=0.7, train_s=30, feasible=False),
    recorded("baseline", model="resnet50", accuracy=0.9, megabytes=4, test_ms=5, train_s=20000),
    recorded("quantize_int8", model="resnet50", seed=0, megabytes=4.5, test_ms=6, accuracy=0.85),
    recorded("quantize_int8", model="resnet50", seed=1, megabytes=4.5, test_ms=6, accuracy=0.87),
    replace(recorded("baseline", accuracy=0.95), dataset="digits", digest="digits"),
    replace(
        recorded("layer_transfer", accuracy=0.93, megabytes=0.5, test_ms=1.5),
        dataset="digits",
        digest="digits",
        source="efficientnet_lite0-cifar100-baseline",
    ),
]
LONG = "layer_transfer from efficientnet_lite0-cifar100-baseline"
LEGEND = [
    *("resnet50", "vgg16", "filled: on the Pareto front", "hollow: beaten by another cell", "grey: over budget"),
    "ringed: on the shortlist",
]
WIDE, PHONE = 1400, 390


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


def place(page: Browser, key: str) -> int:
    found: int = page.run("return document.querySelector(`th[data-key='${arguments[0]}']`).cellIndex", key)
    return found


def names(page: Browser, selector: str = "#table tbody tr:not([hidden])") -> list[str]:
    """Model, technique and dataset of each visible row, from the top."""
    places = [place(page, key) for key in ("model", "technique", "dataset")]
    return [" ".join(row[at] for at in places) for row in rows(page, selector)]


def column(page: Browser, key: str) -> list[str]:
    at = place(page, key)
    return [row[at] for row in rows(page)]


def points(page: Browser) -> dict[str, list[WebElement]]:
    """The points of each dataset's plot, the highest first."""
    script = (
        "return Object.fromEntries([...document.querySelectorAll('.plot')].map((plot) => {"
        "  const middle = (point) => { const at = point.getBoundingClientRect(); return at.top + at.height / 2; };"
        "  const points = [...plot.querySelectorAll('.point')].sort((one, other) => middle(one) - middle(other));"
        "  return [plot.dataset.dataset, points];"
        "}))"
    )
    found: dict[str, list[WebElement]] = page.run(script)
    return found


def drawn(page: Browser) -> dict[str, int]:
    """How many points each plot has that has any."""
    return {dataset: len(of_one) for dataset, of_one in points(page).items() if of_one}


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
    return names(page, "#table tr.hit")


# The colour of a row whose point is pointed at.
HIT = "rgb(255, 243, 205)"


@pytest.mark.slow
def test_page_opens_from_a_file_and_loads_nothing_else(opened: Browser, report: Path) -> None:
    opened.complaints()
    opened.requests()
    opened.open(report, width=WIDE)
    opened.until(lambda: drawn(opened) == {"cifar10": 5, "digits": 2})
    assert len(rows(opened)) == 7
    assert opened.one("#count").text == "7 of 7 cells"
    assert opened.texts(opened.all(".legend span"))[:6] == LEGEND
    tick(opened, "model", "vgg16")
    # All plots are redrawn when the window changes.
    opened.resize(PHONE)
    opened.until(lambda: opened.one(".area > svg").size["width"] < PHONE)
    assert opened.complaints() == []
    assert opened.requests() == [report.as_uri()]


@pytest.mark.parametrize(
    ("key", "value", "count", "dots", "left"),
    [
        ("dataset", "digits", 2, {"digits": 2}, {"vgg16 baseline digits", f"vgg16 {LONG} digits"}),
        ("model", "resnet50", 2, {"cifar10": 2}, {"resnet50 baseline cifar10", "resnet50 quantize_int8 cifar10"}),
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
    assert page.texts(page.all(".area")) == ["No cell is chosen."] * 2
    page.one("button[type=reset]").click()
    page.until(lambda: page.one("#count").text == "7 of 7 cells")
    assert drawn(page) == {"cifar10": 5, "digits": 2}
    assert len(names(page)) == 7
    assert page.texts(page.all(".choice b")) == ["all", "all", "all"]


def test_the_pareto_front_alone(page: Browser) -> None:
    page.one("#front-only").click()
    assert drawn(page) == {"cifar10": 3, "digits": 2}
    assert set(column(page, "front")) == {"yes"}
    assert page.one("#count").text == "5 of 7 cells"


def test_choosing_another_axis_moves_points_and_label(page: Browser) -> None:
    """The resnet has the longest training time; its quantized form is the largest."""

    def order() -> list[str]:
        """Accuracies from left to right in the plot of cifar10."""
        found = []
        for point in sorted(points(page)["cifar10"], key=lambda point: point.location["x"]):
            page.point_at(point)
            found.append(tooltip(page)[1])
        return found

    assert "test time of one image in ms" in page.one(".area > svg").text
    assert order()[0] == "accuracy 79.0%"
    across = Select(page.one(".across"))
    before = [point.location for point in points(page)["cifar10"]]
    across.select_by_visible_text("compressed size in kB")
    assert [point.location for point in points(page)["cifar10"]] != before
    assert "compressed size in kB" in page.one(".area > svg").text
    assert "test time of one image in ms" not in page.one(".area > svg").text
    assert order() == [f"accuracy {share}.0%" for share in (79, 70, 80, 90, 86)]
    across.select_by_visible_text("training time in s")
    assert order()[-2:] == ["accuracy 70.0%", "accuracy 90.0%"]


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_pointing_at_a_cell_shows_values_and_marks_its_row(page: Browser, width: int) -> None:
    page.open(page.driver.current_url, width=width)
    page.until(lambda: page.all(".point"))
    # As with more cells than fit.
    page.run("document.getElementById('scroll').style.maxHeight = '180px'")
    for dataset, shares in {"cifar10": (90, 86, 80, 79, 70), "digits": (95, 93)}.items():
        for point, share in zip(points(page)[dataset], shares, strict=True):
            page.point_at(point)
            name, accuracy, *more = tooltip(page)
            assert accuracy == f"accuracy {share}.0%"
            assert ("misses a budget" in more) == (share == 70)
            (row,) = marked(page)
            assert row == f"{name.split('. ')[1]} {dataset}"
            assert page.run(
                "const row = document.querySelector('tr.hit').getBoundingClientRect();"
                "const box = document.getElementById('scroll').getBoundingClientRect();"
                "return row.top >= box.top && row.bottom <= box.bottom"
            )
            # Every second row has a colour of its own.
            assert page.run("return getComputedStyle(document.querySelector('tr.hit')).backgroundColor") == HIT
    page.point_at(page.one("h1"))
    assert not page.one("#tooltip").is_displayed()
    assert marked(page) == []


def test_arrow_keys_walk_through_a_plot(page: Browser) -> None:
    page.run("arguments[0].focus()", page.one(".area > svg"))

    def press(key: str) -> tuple[list[str], list[str]]:
        ActionChains(page.driver).send_keys(key).perform()
        return tooltip(page)[1:3], marked(page)

    fastest = (["accuracy 79.0%", "test time 0.750 ms"], ["vgg16 quantize_int8 cifar10"])
    slowest = (["accuracy 86.0%", "test time 6.00 ms"], ["resnet50 quantize_int8 cifar10"])
    assert press(Keys.ARROW_RIGHT) == fastest
    assert press(Keys.ARROW_RIGHT)[0][1] == "test time 1.00 ms"
    assert press(Keys.ARROW_LEFT) == fastest
    assert press(Keys.ARROW_LEFT) == slowest
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not page.one("#tooltip").is_displayed()
    assert marked(page) == []


def test_a_heading_sorts_and_unknown_values_go_last(page: Browser) -> None:
    def click(key: str) -> list[str]:
        page.one(f"th[data-key='{key}'] button").click()
        return column(page, key)

    falling = [f"{share}.0%" for share in (95, 93, 90, 86, 80, 79, 70)]
    assert column(page, "accuracy") not in (falling, falling[::-1])
    assert click("accuracy") == falling
    assert page.one("th[data-key='accuracy']").get_attribute("aria-sort") == "descending"
    assert click("accuracy") == falling[::-1]
    assert click("test_ms") == ["6.00 ms", "5.00 ms", "1.50 ms", "1.00 ms", "1.00 ms", "1.00 ms", "0.750 ms"]
    assert click("test_ms")[::6] == ["0.750 ms", "6.00 ms"]
    page.one("#more-columns").click()
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
    if width == PHONE:
        assert not page.visible(".choice")
        page.one("#choose > summary").click()
    for choice in page.all(".choice > summary"):
        choice.click()
        (opened,) = page.visible(".choice[open] > div")
        assert opened.rect["x"] >= 0 and opened.rect["x"] + opened.rect["width"] <= width
        assert page.run(wider) == 0
    # The table fits a wide screen. On a phone it scrolls in its own box, in which the names stay in view.
    wide = "const box = document.getElementById('scroll'); box.scrollLeft = 1e4; return box.scrollLeft"
    assert (page.run(wide) > 0) == (width == PHONE)
    page.one("#more-columns").click()
    assert page.run(wide) > 0
    name, last = page.one("#table tbody th"), page.one("#table tbody td:last-child")
    assert name.text.startswith("1. vgg16 quantize_int8")
    # What scrolls below the names is hidden by them.
    assert page.run("return getComputedStyle(arguments[0]).backgroundColor", name).startswith("rgb(")
    sides = [
        page.run("const at = arguments[0].getBoundingClientRect(); return [at.left, at.right]", one)
        for one in (name, last)
    ]
    assert sides[0][0] >= 0 and sides[0][1] <= sides[1][0] and sides[1][1] <= width
    # So do those of the shortlist, in full.
    for part in page.all(".shortlist td"):
        assert part.rect["x"] >= 0 and part.rect["x"] + part.rect["width"] <= width


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_texts_of_a_plot_are_inside_it_and_do_not_overlap(page: Browser, width: int) -> None:
    """Training times reach from 10 s to hours, so not all ticks of 1, 2, 5 and 10 fit on a phone."""
    page.resize(width)
    # Redrawn for the window, not scaled to it.
    fits = "const plot = document.querySelector('.area > svg'); return plot.viewBox.baseVal.width === plot.clientWidth"
    page.until(lambda: page.run(fits))
    script = """
        const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
        return [...document.querySelectorAll(".area > svg")].map((plot) => {
            const whole = plot.getBoundingClientRect();
            const words = [...plot.querySelectorAll("text")];
            const boxes = words.map((text) => text.getBoundingClientRect());
            return {
                numbers: words.filter((text) => /^[\\d.,]+$/.test(text.textContent)).length,
                inside: boxes.every((one) => one.left >= whole.left && one.right <= whole.right
                    && one.top >= whole.top && one.bottom <= whole.bottom),
                apart: boxes.every((one, at) => boxes.slice(at + 1).every((other) => apart(one, other))),
            };
        });
    """
    across = Select(page.one(".across"))
    for option in across.options:
        across.select_by_visible_text(option.text)
        for plot in page.run(script):
            assert plot["inside"] and plot["apart"], option.text
            assert plot["numbers"] >= 2, option.text


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_axes_of_nearly_equal_cells(opened: Browser, tmp_path: Path, width: int) -> None:
    """Their ticks have many digits, and their noise does not fill an axis."""
    shares = (0.9712, 0.9715, 0.9722, 0.9733)
    cells = [recorded(f"prune_{n}", accuracy=share, test_ms=1 + n / 1000) for n, share in enumerate(shares)]
    opened.open(write(cells, tmp_path, chosen="")[0], width=width)
    opened.until(lambda: len(opened.all(".point")) == 4)
    script = """
        const plot = document.querySelector(".area > svg"), whole = plot.getBoundingClientRect();
        const words = [...plot.querySelectorAll("text")], boxes = words.map((text) => text.getBoundingClientRect());
        return [words.map((text) => text.textContent), boxes.every((one) => one.left >= whole.left
            && one.right <= whole.right && one.top >= whole.top && one.bottom <= whole.bottom)];
    """
    words, inside = opened.run(script)
    assert inside
    accuracies = [float(word[:-1]) for word in words if word.endswith("%")]
    times = [float(word) for word in words if word.replace(".", "").isdigit()]
    assert max(accuracies) - min(accuracies) >= 1.5 and max(times) - min(times) >= 0.1


def test_two_comparisons_of_one_dataset(opened: Browser, tmp_path: Path) -> None:
    """Each has its own plot. What sets them apart is in small print, not in the headings."""
    cells = [recorded(technique, images=images, digest=f"of {images}") for images in (100, 2000)
             for technique in ("baseline", "cluster")]  # fmt: skip
    opened.complaints()
    opened.open(write(cells, tmp_path, chosen="")[0], width=WIDE)
    opened.until(lambda: len(opened.all(".point")) == 4)
    assert opened.complaints() == []
    assert opened.texts(opened.all(".answer h2")) == ["Which of these 2 cells is fit to be operated on cifar10?"] * 2
    assert opened.texts(opened.all(".conditions")) == ["Conditions: 100 test images", "Conditions: 2,000 test images"]
    assert column(opened, "dataset") == ["cifar10"] * 4


def synthetic(number: int) -> list[RecordedCell]:
    """Cells of two models, each with its baseline, whose accuracy grows with their test time and size."""
    return [
        recorded(
            "baseline" if n < 2 else f"prune_{n}",
            model=("vgg16", "resnet50")[n % 2],
            accuracy=0.7 + 0.2 * (n * 37 % number) / number,
            megabytes=0.1 + n * 37 % number / 10,
            test_ms=0.1 + (n * 37 + n % 5 * 11) % number / 20,
        )
        for n in range(number)
    ]


LABELS = """
    const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
    const plot = document.querySelector(".area > svg"), whole = plot.getBoundingClientRect();
    const labels = [...plot.querySelectorAll(".label")], boxes = labels.map((label) => label.getBoundingClientRect());
    const front = [...plot.querySelectorAll(".point[stroke='#000']")].map((point) => point.getBoundingClientRect());
    // The corners of a point's box are not of its shape.
    const inner = (one) => ({ left: one.left + 3, right: one.right - 3, top: one.top + 3, bottom: one.bottom - 3 });
    return {
        words: labels.map((label) => label.textContent),
        apart: boxes.every((one, at) => boxes.slice(at + 1).every((other) => apart(one, other))),
        clear: boxes.every((one) => front.every((point) => apart(one, inner(point)))),
        inside: boxes.every((one) => one.left >= whole.left && one.right <= whole.right && one.top >= whole.top),
        front: front.length,
    };
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("number", [8, 36, 200])
def test_labels_of_the_front_do_not_overlap(opened: Browser, tmp_path: Path, number: int, width: int) -> None:
    opened.open(write(synthetic(number), tmp_path, chosen="")[0], width=width)
    opened.until(lambda: len(opened.all(".point")) == number)
    labels = opened.run(LABELS)
    assert labels["apart"] and labels["clear"] and labels["inside"]
    assert len(labels["words"]) >= min(labels["front"], 10)
    links = len(opened.all(".link"))
    assert links == number - 2 if number < 60 else 0 < links <= labels["front"]


def test_first_screen_holds_question_shortlist_plot_and_why(page: Browser) -> None:
    assert page.one("h2").text == "Which of these 5 cells is fit to be operated on cifar10?"
    assert page.one(".why").text.startswith(
        "resnet50 baseline is the most accurate cell (90.0%), and the fittest within"
    )
    assert [row[0] for row in rows(page, ".answer:first-child .shortlist tbody tr:not(.doubt)")][-1] == "any"
    for part in ("h2", ".why", ".shortlist", ".area > svg"):
        at = page.one(part).rect
        assert at["y"] + at["height"] < 900, part
    # The cells of the shortlist have their mark in the table.
    assert len(page.all(".icon path")) == len(page.all(".shortlist tbody tr:not(.doubt)"))
    assert page.one(".answer:first-child .area .ring")


def test_choices_appear_when_the_window_grows(page: Browser) -> None:
    page.open(page.driver.current_url, width=PHONE)
    page.until(lambda: page.all(".point"))
    assert not page.visible(".choice")
    page.resize(WIDE)
    page.until(lambda: page.visible(".choice"))


def test_lines_join_a_baseline_to_its_cells(page: Browser) -> None:
    starts = (
        "return [...document.querySelectorAll('.link')].map((line) => [line.x1, line.y1].map((at) => at.baseVal.value))"
    )
    # Of the vgg16 two, of the resnet50 one, and one of the digits.
    found = page.run(starts)
    assert len(found) == 4 and sorted(found.count(start) for start in found) == [1, 1, 2, 2]
    assert str(page.one("path.front").get_attribute("d")).count("V") == 2


def test_far_cells_are_named_where_the_axis_ends(opened: Browser, tmp_path: Path) -> None:
    cells = [recorded("cluster", accuracy=0.2, test_ms=9), *synthetic(8)]
    opened.open(write(cells, tmp_path, chosen="")[0], width=WIDE)
    opened.until(lambda: len(opened.all(".point")) == 9)
    assert "1 cell below 70.0% is drawn on the lower edge: vgg16 cluster (20.0%)." in opened.one(".area").text
    # One of two is not few: the axis holds both.
    opened.open(write(cells[:2], tmp_path, chosen="")[0], width=WIDE)
    opened.until(lambda: len(opened.all(".point")) == 2)
    assert "lower edge" not in opened.one(".area").text


def test_a_heading_sorts_by_keyboard(page: Browser) -> None:
    page.run("document.querySelector('th[data-key=accuracy] button').focus()")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert column(page, "accuracy")[0] == "95.0%"
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    assert column(page, "accuracy")[0] == "70.0%"


def test_without_javascript_the_page_has_the_figures(opened: Browser, report: Path) -> None:
    opened.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.open(report, width=WIDE)
        assert len(opened.visible("noscript img")) == 2
    finally:
        opened.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
