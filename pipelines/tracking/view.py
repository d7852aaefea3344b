"""How MLflow's UI shows an experiment: the columns, their widths and the order of the runs.

MLflow keeps a shared view in a tag of the experiment, and a link opens it. The format is the UI's own
(`createExperimentPageUIState` in MLflow 3.17); a UI ignores fields that it does not know.
"""

import json

from pipelines.results.columns import HEADLINE, IMPROVED, SCORE, TRAIN_S

KEY = "opscore"
TAG = f"mlflow.sharedViewState.{KEY}"
COLUMNS = (
    "tags.`seed`",  # technique, model and dataset are in the name
    *(f"metrics.`{column.metric}`" for column in (*HEADLINE, TRAIN_S, IMPROVED)),
    "tags.`feasible`",
)
NAME = "attributes.`Run Name`"
# Pixels. The name fits `efficientnet_lite0-cifar100-prune_filters_quantize_int8`. The other columns fit their headings
# in DejaVu Sans, the widest of the usual fonts, with the sorting arrow; by default the UI cuts them after 100 pixels.
WIDTHS = {NAME: 420} | {column: max(70, 50 + 7 * len(column.split("`")[1])) for column in COLUMNS}


def state() -> str:
    """The view as JSON."""
    return json.dumps(
        {
            "orderByKey": f"metrics.`{SCORE.metric}`",
            "orderByAsc": False,
            "selectedColumns": COLUMNS,
            "columnOrder": [NAME, *COLUMNS],
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
