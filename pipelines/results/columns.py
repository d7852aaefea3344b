"""The columns of tables of cells: name, unit and number of digits of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pipelines.results import metrics
from pipelines.results.score import CRITERIA, apart_from


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    key: of the value in a row. heading: with the unit. about: a description. form: the text of a number, after
    multiplication by `factor`; None for text. metric: its name in MLflow, empty where the value is no metric of a run.
    """

    key: str
    heading: str
    about: str
    form: Callable[[float], str] | None = None
    factor: float = 1.0
    metric: str = ""

    def text(self, value: float | None) -> str:
        """The number in this column's format, a dash where there is none."""
        if value is None or math.isnan(value):
            return "-"
        return (self.form or str)(value * self.factor)


def three_digits(value: float) -> str:
    """A number with three significant digits and no exponent: `0.0128`, `2.84`, `89.8`, `13,500`."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    places = 2 - int(exponent)
    return f"{float(f'{mantissa}e{exponent}'):,.{max(0, places)}f}"


def milliseconds(value: float) -> str:
    """A time in ms with its unit."""
    return f"{three_digits(value)} ms"


def seconds(value: float) -> str:
    """A time in s with its unit."""
    return f"{three_digits(value)} s"


def kilobytes(count: float) -> str:
    """A number of bytes in kB of 1,000 bytes, with its unit."""
    return f"{three_digits(count / 1e3)} kB"


# A `z` shows a rounded -0.0 as 0.0.
_DECIBELS, _GAIN = "{:.1f}".format, "{:+z.1f}".format


def percent(fraction: float) -> str:
    """A fraction as `98.6%`; what is not all of it does not read as 100.0%."""
    return f"{apart_from(100 * fraction, 100, '.1f')}%"


SCORE = Column(key="score", heading="score dB", about="operational score", form=_DECIBELS, metric=metrics.SCORE)
GAIN = Column(key="gain", heading="gain dB", about="score minus the baseline's", form=_GAIN, metric=metrics.GAIN)
_SHORT = {"accuracy": "accuracy", "size": "size", "test_time": "test", "train_time": "train"}
# The score's criteria in sentences.
CRITERION = {
    "accuracy": "accuracy",
    "size": "compressed size",
    "test_time": "test time",
    "train_time": "training time",
}
GAINS = {
    name: Column(
        key=f"gain_{_SHORT[name]}",
        heading=f"gain from {_SHORT[name]}",
        about=f"the gain's part from {CRITERION[name]}",
        form=GAIN.form,
        metric=metrics.gain_of(name),
    )
    for name in CRITERIA
}
ACCURACY = Column(
    key="accuracy",
    heading="accuracy",
    about="fraction of test images that are classified correctly, and its 95% interval",
    form=percent,
    metric=metrics.ACCURACY,
)
TEST_MS = Column(
    key="test_ms",
    heading="test ms",
    about="median time to classify one image, in ms",
    form=three_digits,
    metric=metrics.TEST_MS,
)
TRAIN_S = Column(
    key="train_s",
    heading="train s",
    about="all training that led to the file, in s",
    form=three_digits,
    metric=metrics.TRAIN_S,
)
FILE = Column(
    key="file_bytes",
    heading="file kB",
    about="the deployed file, in 1,000 bytes",
    form=three_digits,
    factor=1e-3,
    metric=metrics.FILE_BYTES,
)
COMPRESSED = Column(
    key="compressed_bytes",
    heading="compressed kB",
    about="the file after DEFLATE, in 1,000 bytes",
    form=three_digits,
    factor=1e-3,
    metric=metrics.COMPRESSED_BYTES,
)
IMPROVED = Column(
    key="improved",
    heading="better in",
    about="the number of accuracy, time and size that improve on the baseline",
    form="{:.0f} of 3".format,
    metric=metrics.IMPROVED,
)
FIRST = Column(
    key="first", heading="first", about="share of all weights under which it ranks first", form="{:.0%}".format
)
# The text of a training time that nobody knows, in place of the figure.
UNKNOWN = "unknown"
# For tables with few columns.
HEADLINE = (SCORE, ACCURACY, TEST_MS, COMPRESSED, GAIN)
MEASURED = (SCORE, GAIN, ACCURACY, TEST_MS, TRAIN_S, FILE, COMPRESSED)
