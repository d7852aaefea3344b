from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.results.acceleration import DENSE, INT16, NO_PART, SLOW_TYPES, no_faster, outside, sentences
from pipelines.results.cell_result import Delegation, Verdict
from pipelines.results.folder import CellFiles, Finished
from pipelines.results.metrics import metrics_of
from pipelines.results.summary import note, table
from tests.results.test_summary import COMPARISON, RESULT

WHOLE = Delegation(partitions=1, undelegated={})
SPLIT = Delegation(partitions=15, undelegated={"DEPTHWISE_CONV_2D": 14})
INTEGERS = Delegation(partitions=0, undelegated={"CONV_2D": 5, "MEAN": 1}, int16=True)
SPLIT_SENTENCE = (
    "14 DEPTHWISE_CONV_2D run outside LiteRT's accelerated delegate (XNNPACK), which splits the model into 15 parts: "
    "slower than inside it"
)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], None),
        ([WHOLE], None),
        ([SPLIT], SPLIT_SENTENCE),
        ([WHOLE, SPLIT], SPLIT_SENTENCE),
        (
            [SPLIT, Delegation(partitions=16, undelegated={"DEPTHWISE_CONV_2D": 15})],
            "14 to 15 DEPTHWISE_CONV_2D run outside LiteRT's accelerated delegate (XNNPACK), which splits the model "
            "into 15 to 16 parts: slower than inside it",
        ),
        (
            [Delegation(partitions=1, undelegated={"MEAN": 1})],
            "1 MEAN runs outside LiteRT's accelerated delegate (XNNPACK): slower than inside it",
        ),
        (
            [Delegation(partitions=1, undelegated={"ADD": 1, "MEAN": 1})],
            "1 ADD, 1 MEAN run outside LiteRT's accelerated delegate (XNNPACK): slower than inside it",
        ),
        ([INTEGERS], INT16),
        ([replace(INTEGERS, int16=False)], NO_PART),
    ],
)
def test_outside(found: list[Delegation], expected: str | None) -> None:
    assert outside(found) == expected


@pytest.mark.parametrize(
    ("technique", "time", "found", "expected"),
    [
        ("prune", "tied", WHOLE, DENSE),
        ("prune_2_4", "worse", None, DENSE),
        ("cluster", "tied", WHOLE, DENSE),
        ("prune_cluster", "tied", WHOLE, DENSE),
        ("prune_quantize_int8", "worse", WHOLE, DENSE),
        ("prune_quantize_int8", "better", WHOLE, None),
        ("prune", None, WHOLE, None),
        ("prune_filters", "tied", WHOLE, None),
        ("quantize_int8", "worse", WHOLE, SLOW_TYPES),
        ("pcqat", "worse", WHOLE, SLOW_TYPES),
        ("prune_filters_quantize_int8", "worse", WHOLE, SLOW_TYPES),
        ("quantize_int8", "tied", WHOLE, None),
        ("quantize_float16", "worse", WHOLE, None),
        ("quantize_int8", "worse", None, None),
        ("quantize_dynamic", "worse", SPLIT, None),
        ("distill", "worse", WHOLE, None),
        ("baseline", None, WHOLE, None),
    ],
)
def test_no_faster(technique: str, time: Verdict | None, found: Delegation | None, expected: str | None) -> None:
    assert no_faster(technique, time, found) == expected


def test_sentence_in_table_and_note() -> None:
    slow = replace(RESULT, delegation=SPLIT)
    for text in (table(slow), note(slow)):
        assert " ".join(text.split()).count(f"{SPLIT_SENTENCE}.") == 1
    for text in (table(RESULT), note(RESULT)):
        assert "XNNPACK" not in text
    pruned = replace(RESULT, technique="prune", delegation=WHOLE, comparison=replace(COMPARISON, test_time="tied"))
    assert sentences(pruned) == [f"{DENSE}."]


def test_record_and_metrics(tmp_path: Path) -> None:
    result = replace(RESULT, delegation=SPLIT)
    result.save(CellFiles(tmp_path).result)
    assert Finished.load(tmp_path).result == result
    metrics = metrics_of(replace(RESULT, delegation=SPLIT))
    assert (metrics["model/delegate_partitions"], metrics["model/undelegated_operators"]) == (15, 14)
    assert not [name for name in metrics_of(RESULT) if "delegate" in name]
