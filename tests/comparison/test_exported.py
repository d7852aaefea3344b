"""All figures of comparisons as a CSV file."""

import csv
import io
from dataclasses import replace

from pipelines.comparison.exported import text
from pipelines.comparison.ranking import compare
from tests.comparison.recorded import recorded


def test_a_row_for_each_entry() -> None:
    transfer = recorded("layer_transfer", accuracy=0.85)
    transfer = replace(transfer, metrics=transfer.metrics | {"transfer/parameters_share": 0.5})
    cells = [
        recorded("baseline", megabytes=1.000123),
        recorded("quantize_int8", megabytes=0.25, seed=0, ratio=(0.7, 0.8)),
        recorded("quantize_int8", megabytes=0.25, seed=1, ratio=(0.7, 0.9)),
        transfer,
        recorded("baseline", dataset="digits", digest="other", model="net, small", train_s=None),
    ]
    rows = list(csv.DictReader(io.StringIO(text(compare(cells)))))
    found = {(row["dataset"], row["technique"]): row for row in rows}
    assert len(rows) == len(found) == 4
    base, int8 = found["cifar10", "baseline"], found["cifar10", "quantize_int8"]
    assert (float(base["accuracy"]), base["compressed_bytes"], base["gain"]) == (0.8, "1000123", "")
    # Each bound is of one measurement, and their means are no bounds of the mean.
    assert int8["seeds"] == "2" and int8["time_ratio_low"] == int8["time_ratio_high"] == ""
    assert float(found["cifar10", "layer_transfer"]["time_ratio_high"]) == 0.8
    assert len(int8["runs"].split()) == 2
    assert (int8["mark_size"], int8["improved"], int8["transfer_parameters_share"]) == ("better", "2", "")
    assert float(found["cifar10", "layer_transfer"]["transfer_parameters_share"]) == 0.5
    other = found["digits", "baseline"]
    assert (other["model"], other["train_s"]) == ("net, small", "")
