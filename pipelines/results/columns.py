"""The figures that tables show of a cell: what each is called, its unit, and how many digits it gets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.results import metrics
from pipelines.results.score import CRITERIA


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    key: of the value in a row. heading: with the unit. about: what it holds, in words. form, factor: how a number is
    shown; none for words. A `z` in a form keeps a rounded -0.00 from being shown. metric: its name in MLflow, empty for
    what is no metric of a run.
    """

    key: str
    heading: str
    about: str
    form: str = ""
    factor: float = 1.0
    metric: str = ""

    def text(self, value: float | None) -> str:
        """A number as it is shown, a dash where there is none."""
        return "-" if value is None or math.isnan(value) else self.form.format(value * self.factor)


SCORE = Column(key="score", heading="score dB", about="operational score", form="{:.2f}", metric=metrics.SCORE)
GAIN = Column(key="gain", heading="gain dB", about="score minus the baseline's", form="{:+z.2f}", metric=metrics.GAIN)
_SHORT = {"accuracy": "accuracy", "size": "size", "test_time": "test", "train_time": "train"}
# As sentences call the score's criteria.
CRITERION = {
    "accuracy": "accuracy",
    "size": "compressed size",
    "test_time": "test time",
    "train_time": "training time",
}
# By criterion.
GAINS = {
    name: Column(
        key=f"gain_{_SHORT[name]}",
        heading=f"of {_SHORT[name]}",
        about=f"the gain's part from {CRITERION[name]}",
        form=GAIN.form,
        metric=metrics.gain_of(name),
    )
    for name in CRITERIA
}
ACCURACY = Column(
    key="accuracy",
    heading="accuracy",
    about="share of test images that are classified right, and its 95% interval",
    form="{:.2%}",
    metric=metrics.ACCURACY,
)
TEST_MS = Column(
    key="test_ms",
    heading="test ms",
    about="median time to classify one image, in ms",
    form="{:.3f}",
    metric=metrics.TEST_MS,
)
TRAIN_S = Column(
    key="train_s",
    heading="train s",
    about="all training that led to the file, in s",
    form="{:.1f}",
    metric=metrics.TRAIN_S,
)
FILE = Column(
    key="file_bytes",
    heading="file kB",
    about="the deployed file, in 1,000 bytes",
    form="{:.1f}",
    factor=1e-3,
    metric=metrics.FILE_BYTES,
)
COMPRESSED = Column(
    key="compressed_bytes",
    heading="packed kB",
    about="the file after DEFLATE",
    form="{:.1f}",
    factor=1e-3,
    metric=metrics.COMPRESSED_BYTES,
)
IMPROVED = Column(
    key="improved",
    heading="better in",
    about="in how many of accuracy, time and size",
    form="{:.0f} of 3",
    metric=metrics.IMPROVED,
)
FIRST = Column(key="first", heading="first", about="share of all weightings under which it ranks first", form="{:.0%}")
# Where there is room for a few only.
HEADLINE = (SCORE, GAIN, ACCURACY, TEST_MS, COMPRESSED)
MEASURED = (SCORE, GAIN, ACCURACY, TEST_MS, TRAIN_S, FILE, COMPRESSED)
