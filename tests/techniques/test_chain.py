"""Chains whose steps do not fit together."""

from dataclasses import replace

import pytest

from pipelines.techniques.base import Chain
from pipelines.techniques.quantize import Quantize
from tests.conftest import SMALL_CNN
from tests.techniques.test_cluster import cluster
from tests.techniques.test_distill import distill
from tests.techniques.test_prune import prune
from tests.techniques.test_prune_filters import prune_filters
from tests.techniques.test_quantize_aware import qat

PRUNE, CLUSTER, DISTILL, FILTERS, QAT = prune(), cluster(), distill(), prune_filters(), qat()
INT8 = Quantize(scheme="int8", calibration_images=50)


def test_later_chain_stands_for_its_steps() -> None:
    """Its teacher is a cell that is needed, and its earlier steps are not lost."""
    inner = Chain(steps={"distill": DISTILL, "quantize": INT8})
    with pytest.raises(ValueError, match=r"rest\.steps\.distill trains from the model's own weights"):
        Chain(steps={"prune": PRUNE, "rest": inner})
    cluster = replace(CLUSTER, preserve_sparsity=True)
    Chain(steps={"prune": PRUNE, "more": prune(sparsity=0.9)}).check_steps()
    chain = Chain(steps={"prune": PRUNE, "rest": Chain(steps={"cluster": cluster, "quantize": INT8})})
    assert list(chain.steps) == ["prune", "rest.steps.cluster", "rest.steps.quantize"]
    assert chain.name == "prune_cluster_quantize_int8" and chain.parent.name == "prune_cluster"
    with pytest.raises(ValueError, match="first quantizes the exported model and must be the last step"):
        Chain(steps={"first": Chain(steps={"prune": PRUNE, "quantize": INT8}), "again": INT8})


@pytest.mark.parametrize(
    ("steps", "mend"),
    [
        ({"prune": PRUNE, "qat": QAT}, r"qat must keep the zeros of prune.*set technique.steps.qat.preserve=sparsity$"),
        (
            {"prune": PRUNE, "qat": replace(QAT, preserve="clusters")},
            "set technique.steps.qat.preserve=sparsity_and_clusters$",
        ),
        ({"cluster": CLUSTER, "last": QAT}, "the shared values of cluster.*technique.steps.last.preserve=clusters$"),
        ({"prune": PRUNE, "cluster": CLUSTER}, "set technique.steps.cluster.preserve_sparsity=true$"),
        ({"cluster": CLUSTER, "prune": PRUNE}, "prune must keep the shared values .*: let it be an earlier step$"),
        ({"prune": PRUNE, "again": prune(sparsity=0.5)}, "again must keep the zeros of prune.*: take one of them$"),
        ({"prune": PRUNE, "rows": prune(pattern="two_in_four", sparsity=0.5)}, "take one of them$"),
        ({"cluster": CLUSTER, "again": cluster(clusters=32)}, "take one of them$"),
        ({"prune": PRUNE, "filters": FILTERS}, "filters must keep the zeros of prune.*let it be an earlier step$"),
        (
            {"first": Chain(steps={"prune": PRUNE, "cluster": replace(CLUSTER, preserve_sparsity=True)}), "qat": QAT},
            "qat must keep the zeros of first",
        ),
    ],
)
def test_step_that_undoes_another_is_refused(steps: dict, mend: str) -> None:
    """Before its training, after which no zeros or shared values would be left."""
    with pytest.raises(ValueError, match=mend):
        Chain(steps=steps).check_steps()
    # A recorded cell is read all the same.
    assert Chain(steps=steps).name


def test_steps_name_their_settings_as_in_the_chain() -> None:
    chain = Chain(steps={"cluster": replace(CLUSTER, skip="."), "quantize": INT8})
    with pytest.raises(ValueError, match=r"lower technique\.steps\.cluster\.clusters or let technique\.steps\."):
        chain.check_network(lambda: SMALL_CNN.build((8, 8, 3), 10))
