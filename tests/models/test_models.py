import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from pipelines.models import complexity
from pipelines.models.efficientnet import EfficientNet
from pipelines.models.efficientnet_lite import EfficientNetLite
from pipelines.models.mobilenet import MobileNetV2
from pipelines.models.resnet import ResNet
from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG
from pipelines.training import precision
from tests.models.networks import SHAPE, SHARED, images, outputs

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path for path in (ROOT / "conf/model").glob("*.yaml") if path.stem != "keras_file")
# Deeper networks, and one of the same layers that is tested in full.
LITE = "efficientnet_lite0"
DEEPER = {"resnet101": "resnet50", "vgg19": "vgg16", "efficientnet_lite1": LITE, "efficientnet_lite2": LITE}


# Networks whose random blocks begin as the identity: the last normalization of each, and their number.
IDENTITIES = {
    "resnet50": ("_3_bn", 16), "efficientnet_b0": ("_project_bn", 9), "efficientnet_lite0": ("_project_bn", 9),
    "mobilenet_v2": ("_project_BN", 10),
}  # fmt: skip


def configured(path: Path, **overrides: Any):
    return hydra.utils.instantiate(
        OmegaConf.merge(OmegaConf.load(path), OmegaConf.create({"weights": None, **overrides}))
    )


def kinds(model: Any) -> set[tuple[Any, ...]]:
    """What tells layers apart, but for their sizes."""
    names = ("kernel_size", "strides", "padding", "use_bias", "depth_multiplier")
    found = set()
    for layer in model.layers:
        activation = getattr(getattr(layer, "activation", None), "__name__", None)
        found.add((type(layer).__name__, activation, *(getattr(layer, name, None) for name in names)))
    return found


def check_identities(model: Any, ending: str, blocks: int) -> None:
    layers = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    silent = [layer.name for layer in layers if not layer.gamma.numpy().any()]
    assert len(silent) == blocks
    assert all(name.endswith(ending) for name in silent)
    assert all((layer.gamma.numpy() == 1).all() for layer in layers if layer.name not in silent)


@cache
def kinds_of(path: Path) -> set[tuple[Any, ...]]:
    """Those of a configured network."""
    return kinds(configured(path, input_size=None).build(SHAPE, 7))


# Every configuration


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_names_its_model(path: Path) -> None:
    model = configured(path)
    assert model.name == path.stem
    assert model.trained is False and model.trained_s == 0.0
    model.preflight(SHAPE)
    with pytest.raises(InstantiationException, match=r"model\.dropout must be a fraction in \[0, 1\), got 1\.5"):
        configured(path, dropout=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_builds_a_flat_graph_from_pixels_to_logits(path: Path, keras, tmp_path: Path) -> None:
    config = configured(path, input_size=None)
    model = config.build(SHAPE, 7)
    names = [layer.name for layer in model.layers]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert names[-1] == "head_logits"
    assert "head_pool" in names
    assert ("head_dropout" in names) == (config.dropout > 0)
    assert model.input_shape == (None, *SHAPE)
    assert model.output_shape == (None, 7)
    if config.name in IDENTITIES:
        check_identities(model, *IDENTITIES[config.name])
    if config.name in DEEPER:
        assert kinds(model) <= kinds_of(path.with_stem(DEEPER[config.name]))
        return
    batch = images(2)
    logits = outputs(model, batch)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    file = tmp_path / "model.keras"
    model.save(file)
    np.testing.assert_array_equal(outputs(keras.models.load_model(file), batch), logits)


class Nested(SmallCNN):
    """Holds a model in its model."""

    def backbone(self, image_shape: tuple[int, int, int]) -> Any:
        import tf_keras

        inner = super().backbone(image_shape)
        image = tf_keras.layers.Input(image_shape)
        return tf_keras.Model(image, inner(image))


class Shared(SmallCNN):
    """Calls a layer twice."""

    def backbone(self, image_shape: tuple[int, int, int]) -> Any:
        import tf_keras

        inner = super().backbone(image_shape)
        convolution = tf_keras.layers.Conv2D(inner.output_shape[-1], 1, name="twice")
        return tf_keras.Model(inner.input, convolution(convolution(inner.output)))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Nested, "must be one flat graph, got the model .* inside it: call its layers one by one"),
        (Shared, "must call each layer once, got 2 calls of twice: make a layer for each call"),
    ],
)
def test_graph_that_is_not_flat_is_refused(model: type[SmallCNN], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        model(width=8, weights=None, input_size=None, dropout=0.0, onednn=True).build(SHAPE, 7)


def test_construction_and_preflight_load_no_tensorflow() -> None:
    program = f"""
import sys, hydra
from pathlib import Path
from omegaconf import OmegaConf
for path in {[str(path) for path in CONFIGS]!r}:
    config = OmegaConf.merge(OmegaConf.load(path), {{"weights": None}})
    hydra.utils.instantiate(config).preflight((32, 32, 3))
assert not {{"tensorflow", "tf_keras", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# Graph


def test_resizes_inside_the_graph(keras) -> None:
    model = SmallCNN(**SHARED | {"input_size": 16}, width=4).build((8, 8, 3), 3)
    assert model.get_layer("resize").output_shape == (None, 16, 16, 3)
    own = SmallCNN(**SHARED | {"input_size": 8}, width=4).build((8, 8, 3), 3)
    assert "resize" not in [layer.name for layer in own.layers]


def test_logits_are_float32_under_mixed_precision(keras) -> None:
    with precision.policy("mixed_float16"):
        model = SmallCNN(**SHARED, width=4).build((8, 8, 3), 3)
    assert model.get_layer("block1_conv").compute_dtype == "float16"
    assert outputs(model, images(1, 8)).dtype == np.float32


def test_small_cnn_is_small_and_can_be_quantized(keras) -> None:
    model = SmallCNN(**SHARED, width=32).build(SHAPE, 10)
    assert complexity.parameters(model) == 76_138
    first, *others = complexity.kernels(model).values()
    assert first.size == 864
    assert all(kernel.size > 1024 for kernel in others)


@pytest.mark.slow
def test_small_cnn_learns_digits(keras) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    pixels = np.repeat(pixels.reshape(-1, 8, 8, 1) * (255 / 16), 3, axis=3).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(pixels))
    pixels, labels = pixels[order], labels[order]
    keras.utils.set_random_seed(0)
    model = SmallCNN(**SHARED | {"dropout": 0.0}, width=32).build((8, 8, 3), 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(pixels[:1400], labels[:1400], epochs=5, batch_size=64, verbose=0)
    assert model.evaluate(pixels[1400:], labels[1400:], verbose=0)[1] > 0.95


@pytest.mark.slow
def test_random_vgg_kernels_keep_the_scale_of_the_image(keras) -> None:
    model = VGG(**SHARED, depth=19).build(SHAPE, 10)
    for name, inputs in (("block1_conv2", 9 * 64), ("block5_conv4", 9 * 512)):
        assert model.get_layer(name).get_weights()[0].std() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
    last = keras.Model(model.input, model.get_layer("block5_conv4").output)
    # With Keras's initialization, 16 layers leave a two hundredth.
    assert 10 < outputs(last, images(4)).std() < 1000


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: ResNet(**SHARED, depth=18), r"model\.depth must be one of 50, 101, got 18"),
        (lambda: VGG(**SHARED, depth=11), r"model\.depth must be one of 16, 19, got 11"),
        (lambda: EfficientNet(**SHARED, variant=8), r"model\.variant must be one of .*7, got 8"),
        (lambda: SmallCNN(**SHARED, width=0), r"model\.width must be a whole number of at least 1"),
        (
            lambda: SmallCNN(**SHARED | {"weights": "imagenet"}, width=8),
            r"model\.weights must be null or a \.keras file that opscore wrote, as small_cnn has no .*got 'imagenet'",
        ),
        (
            lambda: MobileNetV2(**SHARED | {"weights": "a.pt"}),
            r"model\.weights must be imagenet, null or a \.h5 or \.keras file for mobilenet_v2, got 'a\.pt'",
        ),
        (lambda: EfficientNetLite(variant=0, **SHARED | {"weights": "a.h5"}), r"null or a \.keras file"),
        (lambda: MobileNetV2(**SHARED | {"weights": 3}), r"model\.weights must be imagenet, .*got 3"),
        (lambda: MobileNetV2(**SHARED | {"input_size": 4}), r"model\.input_size must be a whole number"),
    ],
)
def test_bad_fields(build, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        build()


def test_names() -> None:
    assert ResNet(**SHARED, depth=101).name == "resnet101"
    assert EfficientNet(**SHARED, variant=7).name == "efficientnet_b7"


def test_small_images(keras) -> None:
    sentence = "model.input_size must be at least 32 for resnet50, images are 8x8: set model.input_size=32"
    with pytest.raises(ValueError, match=sentence):
        ResNet(**SHARED, depth=50).preflight((8, 8, 3))
    ResNet(**SHARED | {"input_size": 32}, depth=50).preflight((8, 8, 3))
    with pytest.raises(ValueError, match="for vgg16, got 16"):
        VGG(**SHARED | {"input_size": 16}, depth=16).preflight(SHAPE)
    with pytest.raises(ValueError, match="3 channels, got 1"):
        SmallCNN(**SHARED, width=8).preflight((8, 8, 1))


def test_missing_or_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.weights must be a file that exists, got .*none\.h5"):
        MobileNetV2(**SHARED | {"weights": str(tmp_path / "none.h5")}).preflight(SHAPE)
    (tmp_path / "unpacked.keras").mkdir()
    with pytest.raises(FileNotFoundError, match=r"got the folder .*unpacked\.keras: correct the path"):
        MobileNetV2(**SHARED | {"weights": str(tmp_path / "unpacked.keras")}).preflight(SHAPE)
    for name in ("text.h5", "text.keras"):
        (tmp_path / name).write_text("an error page")
        with pytest.raises(ValueError, match=r"must be a complete \.(h5|keras) file"):
            MobileNetV2(**SHARED | {"weights": str(tmp_path / name)}).preflight(SHAPE)
    with zipfile.ZipFile(tmp_path / "photos.keras", "w") as archive:
        archive.writestr("photo.txt", "no network")
    with pytest.raises(ValueError, match=r"must be a complete \.keras file, got .*photos\.keras, which is damaged"):
        MobileNetV2(**SHARED | {"weights": str(tmp_path / "photos.keras")}).preflight(SHAPE)
