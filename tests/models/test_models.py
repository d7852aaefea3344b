import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from pipelines.models import complexity, pretrained
from pipelines.models.efficientnet import EfficientNet
from pipelines.models.efficientnet_lite import EfficientNetLite0
from pipelines.models.mobilenet import MobileNetV2
from pipelines.models.resnet import ResNet
from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "conf/model").glob("*.yaml"))
SHARED: dict[str, Any] = {"weights": None, "input_size": None, "dropout": 0.2, "onednn": True}
SHAPE = (32, 32, 3)
# Large, and of the same family as one that is tested in full.
ONLY_BUILT = {"resnet101", "vgg19"}


def configured(path: Path, **overrides: Any):
    return hydra.utils.instantiate(
        OmegaConf.merge(OmegaConf.load(path), OmegaConf.create({"weights": None, **overrides}))
    )


def images(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def outputs(model, batch: np.ndarray) -> np.ndarray:
    return np.asarray(model(batch, training=False))


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("tf_keras")


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


# Every configuration


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_names_its_model(path: Path) -> None:
    model = configured(path)
    assert model.name == path.stem
    model.preflight(SHAPE)
    with pytest.raises(InstantiationException, match=r"model\.dropout must be a fraction in \[0, 1\), got 1\.5"):
        configured(path, dropout=1.5)


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
    if config.name in ONLY_BUILT:
        return
    batch = images(2)
    logits = outputs(model, batch)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    file = tmp_path / "model.keras"
    model.save(file)
    np.testing.assert_array_equal(outputs(keras.models.load_model(file), batch), logits)


def test_construction_and_preflight_load_no_tensorflow() -> None:
    program = f"""
import sys, hydra
from pathlib import Path
from omegaconf import OmegaConf
for path in Path({str(ROOT / "conf/model")!r}).glob("*.yaml"):
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
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = SmallCNN(**SHARED, width=4).build((8, 8, 3), 3)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert model.get_layer("block1_conv").compute_dtype == "float16"
    assert outputs(model, images(1, 8)).dtype == np.float32


def test_small_cnn_is_small_and_can_be_quantized(keras) -> None:
    model = SmallCNN(**SHARED, width=32).build(SHAPE, 10)
    assert complexity.parameters(model) == 76_138
    first, *others = complexity.kernels(model).values()
    assert first.size == 864
    assert all(kernel.size > 1024 for kernel in others)


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


# Weights in Keras's files


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
    # Pixels in the wrong order give something else, so that the test would notice.
    assert not np.allclose(outputs(head, batch[..., ::-1]), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_efficientnet_imagenet_equals_keras(keras, tmp_path, monkeypatch) -> None:
    file = tmp_path / "efficientnetb0_notop.h5"
    source = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=SHAPE)
    normalization = next(layer for layer in source.layers if type(layer).__name__ == "Normalization")
    normalization.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), 0])
    source.save_weights(file)
    # Keras's own graph for ImageNet, given this file in the place of the one it would download.
    from tf_keras.src.applications import efficientnet

    monkeypatch.setattr(efficientnet.data_utils, "get_file", lambda *args, **kwargs: str(file))
    expected = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=SHAPE)
    monkeypatch.setattr(pretrained.Archive, "is_at", lambda self, path: True)
    monkeypatch.setattr(pretrained.Archive, "fetch", lambda self: file)
    ours = EfficientNet(**SHARED | {"weights": "imagenet"}, variant=0).build(SHAPE, 10)
    features = keras.Model(ours.input, ours.get_layer("top_activation").output)
    batch = images(2)
    np.testing.assert_allclose(outputs(features, batch), outputs(expected, batch), rtol=1e-3, atol=1e-5)
    # No layer carries Keras's counter, as those of the other graph in this process do.
    assert not [layer.name for layer in ours.layers if re.search(r"_\d+$", layer.name)]


def test_random_vgg_kernels_keep_the_scale_of_the_image(keras) -> None:
    model = VGG(**SHARED, depth=19).build(SHAPE, 10)
    for name, inputs in (("block1_conv2", 9 * 64), ("block5_conv4", 9 * 512)):
        assert model.get_layer(name).get_weights()[0].std() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
    last = keras.Model(model.input, model.get_layer("block5_conv4").output)
    # Of Keras's own initialization, 16 layers leave a two hundredth.
    assert 10 < outputs(last, images(4)).std() < 1000


@pytest.mark.parametrize(
    ("config", "ending", "blocks"),
    [
        (ResNet(**SHARED, depth=50), "_3_bn", 16),
        (EfficientNet(**SHARED, variant=0), "_project_bn", 9),
        (EfficientNetLite0(**SHARED), "_project_bn", 9),
        (MobileNetV2(**SHARED), "_project_BN", 10),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_random_blocks_begin_as_the_identity(config, ending: str, blocks: int, keras) -> None:
    layers = [layer for layer in config.build(SHAPE, 10).layers if type(layer).__name__ == "BatchNormalization"]
    silent = [layer.name for layer in layers if not layer.gamma.numpy().any()]
    assert len(silent) == blocks
    assert all(name.endswith(ending) for name in silent)
    assert all((layer.gamma.numpy() == 1).all() for layer in layers if layer.name not in silent)


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


def test_keras_requests_the_same_files(keras, monkeypatch) -> None:
    asked: dict[str, Any] = {}

    class StopError(Exception):
        pass

    def note(file, origin, cache_subdir, file_hash=None):
        asked.update(file=file, url=origin, folder=cache_subdir, md5=file_hash)
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
        assert asked == {"file": archive.file, "url": archive.url, "folder": "models", "md5": archive.md5}


# Preflight


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


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: ResNet(**SHARED, depth=18), r"model\.depth must be one of 50, 101, got 18"),
        (lambda: VGG(**SHARED, depth=11), r"model\.depth must be one of 16, 19, got 11"),
        (lambda: EfficientNet(**SHARED, variant=8), r"model\.variant must be one of .*7, got 8"),
        (lambda: SmallCNN(**SHARED, width=0), r"model\.width must be a whole number of at least 1"),
        (
            lambda: SmallCNN(**SHARED | {"weights": "imagenet"}, width=8),
            r"model\.weights must be null for small_cnn, which has no pretrained weights, .*got 'imagenet'",
        ),
        (
            lambda: MobileNetV2(**SHARED | {"weights": "a.pt"}),
            r"model\.weights must be imagenet, null or a \.h5 or \.keras file for mobilenet_v2, got 'a\.pt'",
        ),
        (lambda: EfficientNetLite0(**SHARED | {"weights": "a.h5"}), r"null or a \.keras file"),
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
    for name in ("text.h5", "text.keras"):
        (tmp_path / name).write_text("an error page")
        with pytest.raises(ValueError, match=r"must be a whole \.(h5|keras) file"):
            MobileNetV2(**SHARED | {"weights": str(tmp_path / name)}).preflight(SHAPE)


# Checkpoints


def small(**overrides: object) -> SmallCNN:
    return SmallCNN(**{**SHARED, "width": 4, **overrides})


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


# EfficientNet-Lite0


def test_lite0_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"opscore\[pretrained\]'.*model\.weights=null"):
        EfficientNetLite0(**SHARED | {"weights": "imagenet"}).preflight(SHAPE)


def test_lite0_has_only_layers_for_integer_hardware(keras) -> None:
    model = EfficientNetLite0(**SHARED).build(SHAPE, 10)
    assert {type(layer).__name__ for layer in model.layers} == {
        *("InputLayer", "Rescaling", "ZeroPadding2D", "Conv2D", "DepthwiseConv2D", "BatchNormalization"),
        *("ReLU", "Add", "Dropout", "GlobalAveragePooling2D", "Dense"),
    }
    assert {layer.epsilon for layer in model.layers if layer.name.endswith("bn")} == {1e-3}
    rescale = keras.Model(model.input, model.get_layer("rescale").output)
    pixels = np.full((1, *SHAPE), [0, 127, 255], np.float32)
    np.testing.assert_allclose(outputs(rescale, pixels)[0, 0, 0], [-127 / 128, 0, 1], atol=1e-6)


def test_lite0_imagenet_features_separate_classes(keras) -> None:
    """A linear probe, 350 images to train and 150 to test; random weights see little more than colours."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    file = ROOT.parent / "shared/data/cifar10.npz"
    config = EfficientNetLite0(**SHARED | {"weights": "imagenet", "input_size": 64})
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
