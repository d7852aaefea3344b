import hashlib
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.models import checkpoint, pretrained
from pipelines.models.efficientnet import EfficientNet
from pipelines.models.mobilenet import MobileNetV2
from pipelines.models.resnet import ResNet
from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG
from pipelines.training import precision
from tests.models.keras_files import library
from tests.models.networks import SHAPE, SHARED, images, outputs
from tests.servers import files_served

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras/models").mkdir(parents=True)
    return tmp_path / "keras/models"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def randomized(keras, application: str):
    """Keras's own network with random weights, the biases and statistics too."""
    keras.utils.set_random_seed(0)
    build = getattr(keras.applications, application)
    model = build(include_top=False, weights=None, input_shape=SHAPE)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if layer.name.endswith("_bn") or "conv" not in layer.name:
            continue
        layer.set_weights([w + (w.ndim == 1) * rng.uniform(0, 0.1, w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "application", "module"),
    [
        (ResNet(**SHARED, depth=50), "ResNet50", "resnet"),
        (VGG(**SHARED, depth=16), "VGG16", "vgg16"),
        (MobileNetV2(**SHARED), "MobileNetV2", "mobilenet_v2"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_features_equal_those_of_keras(config, application, module, keras, tmp_path: Path) -> None:
    original = randomized(keras, application)
    file = tmp_path / "notop.h5"
    original.save_weights(file)
    loaded = type(config)(**vars(config) | {"weights": str(file)})
    loaded.preflight(SHAPE)
    ours = loaded.build(SHAPE, 10)
    batch = images(4)
    preprocess = getattr(keras.applications, module).preprocess_input
    expected = outputs(original, preprocess(batch.copy())).mean(axis=(1, 2))
    head = keras.Model(ours.input, ours.get_layer("head_pool").output)
    assert expected.std() > 0
    np.testing.assert_allclose(outputs(head, batch), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    # Pixels in the wrong order give other features, so the test would fail.
    assert not np.allclose(outputs(head, batch[..., ::-1]), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_efficientnet_imagenet_equals_keras(keras, tmp_path, monkeypatch) -> None:
    file = tmp_path / "efficientnetb0_notop.h5"
    source = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=SHAPE)
    normalization = next(layer for layer in source.layers if type(layer).__name__ == "Normalization")
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), 0])
    source.save_weights(file)
    # Keras's own graph for ImageNet, with this file instead of a download.
    from tf_keras.src.applications import efficientnet

    monkeypatch.setattr(efficientnet.data_utils, "get_file", lambda *args, **kwargs: str(file))
    expected = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=SHAPE)
    monkeypatch.setattr(pretrained.Archive, "is_at", lambda self, path: True)
    monkeypatch.setattr(pretrained.Archive, "fetch", lambda self: file)
    ours = EfficientNet(**SHARED | {"weights": "imagenet"}, variant=0).build(SHAPE, 10)
    features = keras.Model(ours.input, ours.get_layer("top_activation").output)
    batch = images(2)
    np.testing.assert_allclose(outputs(features, batch), outputs(expected, batch), rtol=1e-3, atol=1e-5)
    # A file that somebody trained further has the same normalization, and not the published content.
    source.load_weights(file)
    source.get_layer("stem_conv").set_weights([1.01 * one for one in source.get_layer("stem_conv").get_weights()])
    source.save_weights(tmp_path / "mine.h5")
    expected.get_layer("stem_conv").set_weights(source.get_layer("stem_conv").get_weights())
    monkeypatch.setattr(pretrained.Archive, "is_at", lambda self, path: False)
    mine = EfficientNet(**SHARED | {"weights": str(tmp_path / "mine.h5")}, variant=0).build(SHAPE, 10)
    features = keras.Model(mine.input, mine.get_layer("top_activation").output)
    np.testing.assert_allclose(outputs(features, batch), outputs(expected, batch), rtol=1e-3, atol=1e-5)
    # No layer carries Keras's counter, as those of the other graph in this process do.
    assert not [layer.name for layer in ours.layers if re.search(r"_\d+$", layer.name)]


@pytest.mark.slow
def test_file_of_another_network_is_refused(keras, tmp_path: Path) -> None:
    file = tmp_path / "notop.h5"
    keras.applications.VGG16(include_top=False, weights=None, input_shape=SHAPE).save_weights(file)
    with pytest.raises(ValueError, match=r"must be Keras's weights of mobilenet_v2 without its top"):
        MobileNetV2(**SHARED | {"weights": str(file)}).build(SHAPE, 10)


def test_archives_equal_those_of_the_installed_keras(keras) -> None:
    from tf_keras.src.applications import efficientnet, mobilenet_v2, resnet, vgg16, vgg19

    for depth in (50, 101):
        archive = ResNet(**SHARED, depth=depth).archive
        assert archive.md5 == resnet.WEIGHTS_HASHES[f"resnet{depth}"][1]
        file = f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        assert archive.url == resnet.BASE_WEIGHTS_PATH + file
    for depth, module in ((16, vgg16), (19, vgg19)):
        archive = VGG(**SHARED, depth=depth).archive
        assert archive.url == module.WEIGHTS_PATH_NO_TOP
        assert f'file_hash="{archive.md5}"' in Path(module.__file__).read_text()
    for variant in range(8):
        archive = EfficientNet(**SHARED, variant=variant).archive
        assert archive.md5 == efficientnet.WEIGHTS_HASHES[f"b{variant}"][1]
        assert archive.url == f"{efficientnet.BASE_WEIGHTS_PATH}efficientnetb{variant}_notop.h5"
    file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    assert MobileNetV2(**SHARED).archive.url == mobilenet_v2.BASE_WEIGHT_PATH + file


@pytest.mark.slow
def test_keras_requests_the_same_files(keras, monkeypatch) -> None:
    requested: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def note(file, origin, cache_subdir, file_hash=None):
        requested.update(file=file, url=origin, folder=cache_subdir, md5=file_hash)
        raise StopError

    from tf_keras.src.utils import data_utils

    monkeypatch.setattr(data_utils, "get_file", note)
    for config, application in (
        (VGG(**SHARED, depth=16), "VGG16"),
        (MobileNetV2(**SHARED), "MobileNetV2"),
    ):
        with pytest.raises(StopError):
            getattr(keras.applications, application)(include_top=False, input_shape=SHAPE)
        archive = config.archive
        assert requested == {"file": archive.file, "url": archive.url, "folder": "models", "md5": archive.md5}


def test_imagenet_without_file_or_network(cache: Path, offline: None) -> None:
    with pytest.raises(ConnectionError) as caught:
        ResNet(**SHARED | {"weights": "imagenet"}, depth=50).preflight(SHAPE)
    file = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    for part in (f"/resnet/{file}", str(cache / file), "model.weights=null"):
        assert part in str(caught.value)


def test_imagenet_in_the_cache_needs_no_network(cache: Path, offline: None) -> None:
    model = MobileNetV2(**SHARED | {"weights": "imagenet"})
    model.archive.cached.touch()
    model.preflight(SHAPE)
    assert model.archive.fetch() == model.archive.cached


def test_damaged_file_in_the_cache_is_ignored(cache: Path, offline: None) -> None:
    model = VGG(**SHARED | {"weights": "imagenet"}, depth=16)
    model.archive.cached.write_bytes(b"damaged")
    with pytest.raises(ConnectionError):
        model.preflight(SHAPE)


def test_imagenet_weights_can_be_downloaded(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: asked.append(request) or Answer())  # type: ignore[func-returns-value]
    model = EfficientNet(**SHARED | {"weights": "imagenet"}, variant=3)
    model.preflight(SHAPE)
    assert [(request.method, request.full_url) for request in asked] == [("HEAD", model.archive.url)]


def small(**overrides: object) -> SmallCNN:
    return SmallCNN(**{**SHARED, "width": 4, **overrides})


def test_checkpoint_loads_as_by_keras(keras, tmp_path: Path) -> None:
    """Compiled and trained before, which leaves its optimizer in the file, and in half precision."""
    with precision.policy(precision.BFLOAT16):
        model = small().build((8, 8, 3), 5)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images(8, 8), np.arange(8) % 5, verbose=0)
    path = tmp_path / "a.keras"
    model.save(path)
    ours, theirs = checkpoint.load(path), keras.models.load_model(path, compile=False)
    assert ours.get_config() == theirs.get_config() and ours.name == theirs.name
    assert getattr(ours, "optimizer", None) is None
    assert [weight.name for weight in ours.weights] == [weight.name for weight in theirs.weights]
    for one, other, trained in zip(ours.get_weights(), theirs.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(one, other) and np.array_equal(one, trained)


def test_checkpoint_with_equal_classes_is_copied_entirely(keras, tmp_path: Path) -> None:
    source = small().build((8, 8, 3), 5)
    source.save(tmp_path / "source.keras")
    config = small(weights=str(tmp_path / "source.keras"))
    config.preflight((8, 8, 3))
    batch = images(2, 8)
    np.testing.assert_array_equal(outputs(config.build((8, 8, 3), 5), batch), outputs(source, batch))


def test_checkpoint_with_other_classes_leaves_the_head_fresh(keras, tmp_path: Path) -> None:
    source = small().build((8, 8, 3), 5)
    source.save(tmp_path / "source.keras")
    model = small(weights=str(tmp_path / "source.keras")).build((8, 8, 3), 7)
    assert model.output_shape == (None, 7)
    for name in ("block1_conv", "block5_bn"):
        for ours, theirs in zip(model.get_layer(name).get_weights(), source.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_checkpoint_of_other_shapes_or_layers_names_the_layer(keras, tmp_path: Path) -> None:
    file = tmp_path / "source.keras"
    small(width=6).build((8, 8, 3), 5).save(file)
    with pytest.raises(ValueError, match="layer block1_conv must have weights of shapes"):
        small(weights=str(file)).build((8, 8, 3), 5)
    with pytest.raises(ValueError, match="the checkpoint has no layer Conv1"):
        MobileNetV2(**SHARED | {"weights": str(file)}).build(SHAPE, 5)
    # A checkpoint with more layers than the model is another network as well.
    donor = small().build((8, 8, 3), 5)
    x = keras.layers.Conv2D(16, 1, name="block6_conv")(donor.get_layer("block5_relu").output)
    keras.Model(donor.input, x).save(file)
    with pytest.raises(ValueError, match="the model has no layer block6_conv"):
        small(weights=str(file)).build((8, 8, 3), 5)


@pytest.mark.parametrize("generation", [2, 3])
def test_network_of_another_program_is_no_checkpoint(generation: int, tmp_path: Path) -> None:
    """Keras's own application has the same layers, and takes its colours in another order."""
    layers = library(generation).layers
    file = tmp_path / "mine.keras"
    image = library(generation).Input((8, 8, 3))
    library(generation).Model(image, layers.Conv2D(8, 3, name="block1_conv")(image)).save(file)
    with pytest.raises(
        ValueError, match=r"must be a .keras file that opscore wrote, got .*set model=keras_file model.p"
    ):
        small(weights=str(file)).preflight((8, 8, 3))


def test_imagenet_is_downloaded_once_and_checked(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/notop.h5").write_bytes(b"weights")
    with files_served(tmp_path / "mirror") as url:
        right, wrong = (
            pretrained.Archive(url=f"{url}/notop.h5", md5=hashlib.md5(content, usedforsecurity=False).hexdigest())
            for content in (b"weights", b"others")
        )
        with pytest.raises(ValueError, match=f"must give the file with MD5 {wrong.md5}, but gave another"):
            wrong.fetch()
        assert not right.cached.exists()
        right.cached.write_bytes(b"damaged")
        assert right.fetch() == cache / "notop.h5"
        assert right.cached.read_bytes() == b"weights"
    # The server is gone.
    assert right.fetch() == right.cached
    with pytest.raises(ConnectionError, match=rf"put that file at {cache}/notop.h5, or set model\.weights=null"):
        wrong.fetch()
