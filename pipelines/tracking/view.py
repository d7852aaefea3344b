"""How MLflow's UI shows an experiment: which columns, how wide, sorted by what.

MLflow keeps a view that somebody shares in a tag of the experiment, and opens it for whoever follows the link. The form
is the UI's own (`createExperimentPageUIState` in MLflow 3.17); a UI that does not know a field leaves it out.
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
# Pixels: the name wide enough for `efficientnet_lite0-cifar100-prune_filters_quantize_int8`, the others for what the UI
# heads them with, which is cut after 100 otherwise, in DejaVu Sans, the widest of usual fonts, with the arrow of order.
WIDTHS = {NAME: 420} | {column: max(70, 50 + 7 * len(column.split("`")[1])) for column in COLUMNS}


def state() -> str:
    """The view as MLflow keeps it, JSON."""
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
    """The experiment's list of runs in this view. One more parameter of a search, and the UI leaves the view out."""
    return f"{host}/#/experiments/{experiment_id}/runs?viewStateShareKey={KEY}"
