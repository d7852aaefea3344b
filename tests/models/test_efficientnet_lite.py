from pathlib import Path

import numpy as np
import pytest

from pipelines.models import torch_file
from pipelines.models.efficientnet_lite import EfficientNetLite
from tests.models.networks import SHAPE, SHARED, outputs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("variant", "parameters"), [(0, 3_413_024), (1, 4_189_344), (2, 4_869_168)])
@pytest.mark.slow
def test_each_variant_takes_every_tensor_of_its_package(keras, variant: int, parameters: int) -> None:
    """The head of ImageNet's 1,000 classes is all that is left over."""
    config = EfficientNetLite(variant=variant, **SHARED | {"weights": "imagenet"})
    try:
        config.preflight(SHAPE)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    backbone = config.backbone(SHAPE)
    config.load_imagenet(backbone)
    assert backbone.count_params() == parameters
    tensors = torch_file.read(config._imagenet_file())
    counted = {name: tensor.size for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert sum(counted.values()) == parameters + counted["_fc.weight"] + counted["_fc.bias"]


def test_variant_that_has_no_weights() -> None:
    with pytest.raises(ValueError, match=r"model\.variant must be one of"):
        EfficientNetLite(variant=3, **SHARED)


def test_lite0_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"opscore\[pretrained\]'.*model\.weights=null"):
        EfficientNetLite(variant=0, **SHARED | {"weights": "imagenet"}).preflight(SHAPE)


@pytest.mark.slow
def test_lite0_has_only_layers_for_integer_hardware(keras) -> None:
    model = EfficientNetLite(variant=0, **SHARED).build(SHAPE, 10)
    assert {type(layer).__name__ for layer in model.layers} == {
        *("InputLayer", "Rescaling", "ZeroPadding2D", "Conv2D", "DepthwiseConv2D", "BatchNormalization"),
        *("ReLU", "Add", "Dropout", "GlobalAveragePooling2D", "Dense"),
    }
    assert {layer.epsilon for layer in model.layers if layer.name.endswith("bn")} == {1e-3}
    rescale = keras.Model(model.input, model.get_layer("rescale").output)
    pixels = np.full((1, *SHAPE), [0, 127, 255], np.float32)
    np.testing.assert_allclose(outputs(rescale, pixels)[0, 0, 0], [-127 / 128, 0, 1], atol=1e-6)


@pytest.mark.slow
def test_lite0_imagenet_features_separate_classes(keras) -> None:
    """A linear probe, 350 images to train and 150 to test; random weights detect little more than colours."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    file = ROOT.parent / "shared/data/cifar10.npz"
    config = EfficientNetLite(variant=0, **SHARED | {"weights": "imagenet", "input_size": 64})
    try:
        config.preflight(SHAPE)
        data = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    pixels, labels = data["x_train"][:500].astype(np.float32), data["y_train"][:500]
    backbone = config.backbone(SHAPE)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    features = keras.Model(backbone.input, pooled)

    def probe() -> float:
        found = np.concatenate([outputs(features, pixels[i : i + 100]) for i in range(0, 500, 100)])
        found = preprocessing.StandardScaler().fit(found[:350]).transform(found)
        fitted = linear_model.LogisticRegression(C=1e-3, max_iter=300).fit(found[:350], labels[:350])
        return fitted.score(found[350:], labels[350:])

    accuracy: dict[str | None, float] = {None: probe()}
    config.load_imagenet(backbone)
    accuracy["imagenet"] = probe()
    print(f"linear probe on EfficientNet-Lite0: {accuracy}")
    assert accuracy["imagenet"] > 0.5
    assert accuracy["imagenet"] > accuracy[None] + 0.2
