"""Layers of a donor in another model: which are copied, and whether they are frozen or trained."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets.digits import Digits
from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG
from pipelines.results.folder import CellFiles, Finished
from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.layer_transfer import LayerTransfer
from pipelines.techniques.source import Source
from tests.conftest import SMALL_CNN, context, move_weights, small_data, with_trainer
from tests.results.test_summary import RESULT

SOURCE = Source(model=SMALL_CNN, dataset=None, uri=None)
BASELINE_EPOCHS = (
    {"val_accuracy": 0.1, "seconds": 1.0},
    {"val_accuracy": 0.2, "seconds": 2.0},
)


def transfer(**changed: Any) -> LayerTransfer:
    fields: dict[str, Any] = {"source": SOURCE, "match": "name", "layers": None, "freeze": 0}
    return LayerTransfer(**fields | changed)


def with_donor(donor: Any, folder: Path, epochs: int = 2) -> Context:
    """A context whose source is `donor`, and whose baseline reached 20% in 2 s."""
    files = CellFiles(folder)
    donor.save(files.checkpoint)
    finished = Finished(result=dataclasses.replace(RESULT, epochs=BASELINE_EPOCHS), files=files)
    return dataclasses.replace(context(epochs), source=finished, baseline=finished)


def fresh(width: int = 32, classes: int = 10) -> Candidate:
    data, _ = small_data()
    return Candidate(model=dataclasses.replace(SMALL_CNN, width=width).build(data.image_shape, classes))


def vgg(depth: int):
    model = VGG(depth=depth, weights=None, input_size=32, dropout=0.0, onednn=True)
    return model.build((32, 32, 3), 10)


@pytest.mark.slow
def test_untrained_baseline_gives_no_progress(tmp_path: Path) -> None:
    it = with_donor(fresh().model, tmp_path, epochs=1)
    assert it.baseline is not None
    untrained = dataclasses.replace(it.baseline, result=dataclasses.replace(it.baseline.result, epochs=()))
    done = transfer().apply(fresh(), dataclasses.replace(it, baseline=untrained))
    assert done.metrics["transfer/layers_copied"] == 11
    assert not [name for name in done.metrics if "epochs" in name or "baseline" in name]


@pytest.mark.slow
def test_trained_donor_gives_a_head_start(trained: Candidate, tmp_path: Path) -> None:
    it = with_donor(trained.model, tmp_path, epochs=1)
    done = transfer().apply(fresh(), it)
    plain = context(epochs=1)
    plain.trainer.fit(fresh().model)
    assert it.trainer.epochs[0]["val_accuracy"] > plain.trainer.epochs[0]["val_accuracy"]
    assert done.metrics["transfer/parameters_share"] == 1
    assert done.metrics["transfer/layers_copied"] == 11
    assert done.metrics["transfer/epochs_to_baseline_accuracy"] == 1
    assert done.metrics["transfer/seconds_to_baseline_accuracy"] == it.trainer.epochs[0]["seconds"]
    assert done.metrics["transfer/baseline_seconds"] == 2.0
    gain = it.trainer.epochs[0]["val_accuracy"] - 0.1
    assert done.metrics["transfer/equal_epochs_accuracy_gain"] == pytest.approx(gain)


@pytest.mark.slow
def test_frozen_layers_stay_and_others_learn(trained: Candidate, tmp_path: Path) -> None:
    chosen = transfer(layers="block[12]", freeze="always")
    done = chosen.apply(fresh(), with_donor(trained.model, tmp_path))
    for layer in done.model.layers:
        donor = trained.model.get_layer(layer.name)
        same = all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), donor.get_weights(), strict=True))
        if layer.weights:
            assert same == layer.name.startswith(("block1", "block2"))
    assert all(layer.trainable for layer in done.model.layers)
    rows = dict(zip(done.tables["transfer_plan"]["layer"], done.tables["transfer_plan"]["source_layer"], strict=True))
    assert {name for name, source in rows.items() if source} == {
        "block1_conv", "block1_bn", "block2_conv", "block2_bn",
    }  # fmt: skip
    copied = 32 * 27 + 32 * 9 * 32 + 2 * 4 * 32
    assert done.metrics["transfer/parameters_share"] == pytest.approx(copied / done.model.count_params())


def test_frozen_layers_that_move_are_refused(trained: Candidate, tmp_path: Path) -> None:
    it = with_trainer(with_donor(trained.model, tmp_path, epochs=1), move_weights)
    with pytest.raises(EffectError, match="layer block1_conv must keep its copied weights while frozen"):
        transfer(layers="block1", freeze="always").apply(fresh(), it)


@pytest.mark.slow
def test_layers_frozen_for_an_epoch_are_trained_later(trained: Candidate, tmp_path: Path) -> None:
    it = with_donor(trained.model, tmp_path, epochs=2)
    done = transfer(layers="block1", freeze=1).apply(fresh(), it)
    assert len(it.trainer.epochs) == 2
    moved = done.model.get_layer("block1_conv").get_weights()[0]
    assert not np.array_equal(moved, trained.model.get_layer("block1_conv").get_weights()[0])


@pytest.mark.slow
def test_by_shape_in_graph_order(tmp_path: Path) -> None:
    donor = fresh(width=16).model
    done = transfer(match="shape").apply(fresh(), with_donor(donor, tmp_path, epochs=1))
    plan = done.tables["transfer_plan"]
    pairs = {a: b for a, b in zip(plan["layer"], plan["source_layer"], strict=True) if b}
    # Width 16 has 3x3 kernels from 32 to 32 channels in its fourth block, width 32 in its second.
    assert pairs["block2_conv"] == "block4_conv"
    names = [layer.name for layer in donor.layers]
    positions = [names.index(source) for source in pairs.values()]
    assert positions == sorted(positions)


def test_other_number_of_classes_leaves_the_head(trained: Candidate, tmp_path: Path) -> None:
    data, _ = small_data()
    model = SMALL_CNN.build(data.image_shape, 12)
    it = with_donor(trained.model, tmp_path, epochs=1)
    pairs = transfer()._pairs(model, trained.model)
    assert "head_logits" not in {layer.name for layer, _ in pairs}
    assert len(pairs) == 10
    with pytest.raises(ValueError, match=r"no layer fits with technique\.layers=head"):
        transfer(layers="head").apply(Candidate(model=model), it)


@pytest.mark.slow
def test_by_map(trained: Candidate, tmp_path: Path) -> None:
    it = with_donor(trained.model, tmp_path, epochs=1)
    done = transfer(match={"block1_bn": "block2_bn"}, freeze="always").apply(fresh(), it)
    copied = done.model.get_layer("block1_bn").get_weights()
    assert all(
        np.array_equal(a, b) for a, b in zip(copied, trained.model.get_layer("block2_bn").get_weights(), strict=True)
    )


@pytest.mark.parametrize(
    ("match", "message"),
    [
        ({"block9_bn": "block2_bn"}, "must name layers with weights, got 'block9_bn', which the model does not have"),
        ({"block1_bn": "nowhere"}, "must name layers with weights, got 'nowhere', which the donor does not have"),
        ({"block1_bn": "block3_bn"}, "both must have one class and one shape"),
    ],
)
def test_bad_mapping_is_refused(match: dict, message: str, trained: Candidate, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        transfer(match=match).apply(fresh(), with_donor(trained.model, tmp_path))


def test_layers_that_no_name_begins_with_are_refused(trained: Candidate) -> None:
    with pytest.raises(
        ValueError, match=r"beginning of the name of a layer with weights, got 'conv': small_cnn has block1"
    ):
        transfer(layers="conv").check_source(lambda: fresh().model, lambda: trained.model)


def test_all_frozen_leaves_nothing_to_train(trained: Candidate, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves nothing of small_cnn to train"):
        transfer(freeze="always").apply(fresh(), with_donor(trained.model, tmp_path))


@pytest.mark.slow
def test_vgg16_goes_into_vgg19_by_name() -> None:
    model, donor = vgg(19), vgg(16)
    pairs = transfer(layers="block")._pairs(model, donor)
    missing = {layer.name for layer in model.layers if layer.weights} - {layer.name for layer, _ in pairs}
    assert missing == {"block3_conv4", "block4_conv4", "block5_conv4", "head_logits"}
    # In graph order it goes as far: equal shapes in other places.
    assert len(transfer(match="shape")._pairs(model, donor)) == 14


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"match": "size"}, "technique.match must be one of name, shape"),
        ({"match": {}}, "technique.match must name at least one pair"),
        ({"layers": "("}, "technique.layers must be a regular expression"),
        ({"freeze": -1}, "technique.freeze must be a whole number"),
        ({"freeze": "long"}, "technique.freeze must be a whole number or always"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transfer(**changed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "vgg16"}, "model@technique.source.model=vgg16"),
        ({"dataset": "digits"}, "dataset@technique.source.dataset=digits"),
        ({"uri": "models:/a"}, "technique.source.uri must be runs:/"),
        ({}, "got none of them"),
        ({"uri": "runs:/" + "0" * 32, "model": SMALL_CNN}, "got both"),
    ],
)
def test_bad_sources(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Source(**{"model": None, "dataset": None, "uri": None} | fields).check_named()


def test_source_by_its_dataset() -> None:
    Source(model=None, dataset=Digits(limit_train=300, limit_test=100, validation_fraction=0.2), uri=None).check_named()
    assert isinstance(SMALL_CNN, SmallCNN)
