from dataclasses import replace

from pipelines.comparison.acceleration import notes
from pipelines.comparison.notes import notes as all_notes
from pipelines.results.acceleration import DENSE, INT16
from pipelines.results.cell_result import Delegation
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import compared, recorded


def delegated(technique: str, found: Delegation, model: str = "vgg16", **more) -> RecordedCell:
    return replace(recorded(technique, model=model, **more), delegated=found.text())


WHOLE = Delegation(partitions=1, undelegated={})
INTEGERS = Delegation(partitions=0, undelegated={"CONV_2D": 5}, int16=True)


def split(operators: int) -> Delegation:
    return Delegation(partitions=operators + 1, undelegated={"DEPTHWISE_CONV_2D": operators})


def test_cells_of_one_finding_share_a_note() -> None:
    comparison = compared(
        delegated("baseline", WHOLE),
        delegated("quantize_dynamic", split(14), model="mobilenet_v2", accuracy=0.82),
        delegated("quantize_dynamic", split(15), model="efficientnet_b0", accuracy=0.81),
        delegated("quantize_int16x8", INTEGERS),
        delegated("prune", WHOLE, ratio=(0.99, 1.01), accuracy=0.79),
        delegated("cluster", WHOLE, ratio=(0.99, 1.01), accuracy=0.78),
        recorded("quantize_int8"),
    )
    assert sorted(notes(comparison.entries)) == [
        "mobilenet_v2-cifar10-quantize_dynamic and 1 more: 14 to 15 DEPTHWISE_CONV_2D run outside LiteRT's accelerated "
        "delegate (XNNPACK), which splits the model into 15 to 16 parts: slower than inside it.",
        f"vgg16-cifar10-prune and 1 more: {DENSE}.",
        f"vgg16-cifar10-quantize_int16x8: {INT16}.",
    ]
    assert [one for one in all_notes(comparison) if "XNNPACK" in one]


def test_nothing_to_report() -> None:
    comparison = compared(delegated("baseline", WHOLE), recorded("quantize_int8"), recorded("prune"))
    assert notes(comparison.entries) == []
