"""How MLflow's UI shows an experiment: the columns, their widths and the order of the runs.

MLflow keeps a shared view in a tag of the experiment, and a link opens it. The format is the UI's own
(`createExperimentPageUIState` in MLflow 3.17); a UI ignores fields that it does not know.

The UI shows all digits of a metric under its whole name. So each cell has a few metrics more for the columns, rounded
and under short names.
"""

import json
from collections.abc import Mapping

from pipelines.results.columns import ACCURACY, COMPRESSED, GAIN, SCORE, TEST_MS, Column

KEY = "opscore"
TAG = f"mlflow.sharedViewState.{KEY}"
# The metrics of the columns, in the order of the columns.
ROUNDED: dict[str, Column] = {
    "score dB": SCORE,
    "accuracy": ACCURACY,
    "test ms": TEST_MS,
    "size kB": COMPRESSED,
    "gain dB": GAIN,
}
# Decimals of the numbers near 1; all others have three significant digits.
DECIMALS = {"score dB": 1, "gain dB": 1, "accuracy": 4}
SIGNIFICANT = 3
# Technique, model and dataset are in the name.
COLUMNS = (*(f"metrics.`{name}`" for name in ROUNDED), "tags.`seed`", "tags.`feasible`")
NAME = "attributes.`Run Name`"
# MLflow always shows this column. Before the name, it is wide enough for the icon of the run's status.
CREATED = "runDateAndNestInfo"
# Pixels. At 1400 pixels with the assistant's panel open, the table has 716 for these columns, enough up to the seed.
# All but the first two fit their headings in DejaVu Sans, the widest of the usual fonts.
WIDTHS = {CREATED: 40, NAME: 219} | {column: 28 + 7 * len(column.split("`")[1]) for column in COLUMNS}


def rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of the columns of a cell with these metrics; sizes in 1,000 bytes."""
    found = {
        name: metrics[column.metric] * column.factor for name, column in ROUNDED.items() if column.metric in metrics
    }
    return {
        name: round(value, DECIMALS[name]) if name in DECIMALS else float(f"{value:.{SIGNIFICANT}g}")
        for name, value in found.items()
    }


def state() -> str:
    """The view as JSON."""
    return json.dumps(
        {
            "orderByKey": f"metrics.`{SCORE.metric}`",
            "orderByAsc": False,
            "selectedColumns": COLUMNS,
            "columnOrder": [CREATED, NAME, *COLUMNS],
            "columnWidths": WIDTHS,
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "runsVisibilityMap": {},
            "runsHiddenMode": "FIRST_20_RUNS",
            "viewMaximized": False,
            "runListHidden": False,
            "isAccordionReordered": False,
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "groupBy": None,
            "groupsExpanded": {},
            "autoRefreshEnabled": True,
            "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        }
    )


def link(host: str, experiment_id: str) -> str:
    """The link to the experiment's runs in this view. Given any other parameter, the UI ignores the view."""
    return f"{host}/#/experiments/{experiment_id}/runs?viewStateShareKey={KEY}"
