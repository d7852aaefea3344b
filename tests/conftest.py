import gc
import os
import shutil
import signal
import subprocess
import sys

# Keras 2 for tensorflow-model-optimization; both must stand before TensorFlow is imported anywhere.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

# A number of columns would make the commands' tables narrow, as in a terminal.
os.environ.pop("COLUMNS", None)

# A shell that puts the tests into the background makes their children ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

from pipelines.datasets.base import Dataset, ImageData
from pipelines.models.small_cnn import SmallCNN
from pipelines.system.machine import cores
from pipelines.techniques.base import Candidate, Chain, Context
from tests.places import end_what_was_started, once

# Minutes each, as one worker runs a whole file.
LONGEST = ("test_docs.py", "test_sweep.py", "test_sync.py")
SMALL_CNN = SmallCNN(width=32, weights=None, input_size=None, dropout=0.0, onednn=True)

# TensorFlow stays out of the process that measures, here too.
MAKE_EXPORTED_MODELS = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf, tf_keras as keras
folder = sys.argv[1]
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.layers.Input((8, 8, 3)),
    keras.layers.Rescaling(1 / 127.5, offset=-1),
    keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
    keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(10),
])
model.set_weights([4 * weight for weight in model.get_weights()])
images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
np.savez(f"{folder}/keras.npz", images=images, logits=model(images.astype(np.float32)).numpy())
function = tf.function(model).get_concrete_function(tf.TensorSpec((1, 8, 8, 3), tf.float32))
for name, dtype in (("float32", None), ("uint8", tf.uint8), ("int8", tf.int8)):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.experimental_lower_to_saved_model = False
    if dtype is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = dtype
    with open(f"{folder}/{name}.tflite", "wb") as file:
        file.write(converter.convert())
odd = {
    "single": [keras.layers.Input((8, 8, 3)), keras.layers.Lambda(lambda x: tf.reshape(x, (1, 192)))],
    "flat": [keras.layers.Input((12,))],
    "gray": [keras.layers.Input((8, 8, 1)), keras.layers.Flatten()],
    "any": [keras.layers.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()],
}
for name, layers in odd.items():
    model = keras.Sequential([*layers, keras.layers.Dense(2)])
    shape = (1, *model.input_shape[1:])
    function = tf.function(model).get_concrete_function(tf.TensorSpec(shape, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.experimental_lower_to_saved_model = False
    with open(f"{folder}/{name}.tflite", "wb") as file:
        file.write(converter.convert())
# With an operator that LiteRT lacks.
layers = [keras.layers.Input((8, 8, 3), batch_size=1), keras.layers.Lambda(tf.math.atan), keras.layers.Flatten()]
converter = tf.lite.TFLiteConverter.from_keras_model(keras.Sequential([*layers, keras.layers.Dense(10)]))
converter.allow_custom_ops = True
with open(f"{folder}/custom.tflite", "wb") as file:
    file.write(converter.convert())
"""


@pytest.fixture(scope="session", autouse=True)
def images_are_kept_for_these_tests_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands in child processes inherit it."""
    os.environ["OPSCORE_CACHE"] = str(tmp_path_factory.mktemp("opscore-cache"))


@pytest.fixture(scope="module", autouse=True)
def the_stores_of_one_file_are_not_the_next_ones() -> Iterator[None]:
    """MLflow keeps the store that was set last for the whole process; clients without a registry take that one."""
    variables = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    environment = {name: os.environ.get(name) for name in variables}
    yield
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if "mlflow" in sys.modules:
        import mlflow

        # `set_registry_uri(None)` writes that into the environment.
        mlflow.tracking._model_registry.utils._registry_uri = None
        mlflow.tracking._tracking_service.utils._tracking_uri = None


@cache
def small_data() -> tuple[ImageData, Dataset]:
    """300 real digits, and the dataset they come from."""
    from pipelines.datasets.digits import Digits

    dataset = Digits(limit_train=300, limit_test=100, validation_fraction=0.2)
    return dataset.load(), dataset


def context(epochs: int = 8) -> Context:
    """What a technique works with on the small data: batches of 32, Adam from 3e-3."""
    from pipelines.training.trainer import Trainer, Training

    data, dataset = small_data()
    settings = Training(
        epochs=epochs,
        batch_size=32,
        optimizer="adam",
        learning_rate=3e-3,
        warmup_fraction=0.0,
        patience=epochs,
        mixed_precision=False,
    )
    trainer = Trainer(settings=settings, data=data, dataset=dataset, seed=0, on_epoch=lambda *_: None)
    return Context(trainer=trainer, report=lambda _: None)


def with_trainer(it: Context, fit: Callable[[Any], None]) -> Context:
    """The context with a trainer that does `fit` to a network instead of training it."""
    from pipelines.training.trainer import Trainer

    class Other(Trainer):
        def fit(self, model: Any, **_: Any) -> None:
            fit(model)

    old = it.trainer
    other = Other(settings=old.settings, data=old.data, dataset=old.dataset, seed=0, on_epoch=old.on_epoch)
    return replace(it, trainer=other)


def move_weights(model: Any) -> None:
    """Change every weight of a network, of frozen layers too."""
    model.set_weights([weight + 1 for weight in model.get_weights()])


def through(chain: Chain, candidate: Candidate, it: Context, *, after: int = 0) -> Candidate:
    """The steps of a chain after the first `after`; in a cell, those before the last are cells of their own."""
    for step in [*chain.steps.values()][after:]:
        candidate = step.apply(candidate, it)
    return candidate


def exported(candidate: Candidate, path: Path) -> Path:
    """The candidate's exported model, by the real converter."""
    from pipelines.execution.export import export

    data, _ = small_data()
    export(candidate, data, path)
    return path


def exported_accuracy(path: Path) -> float:
    """Accuracy of an exported model on the 100 test digits, by LiteRT."""
    from pipelines.litert.exported_model import ExportedModel

    data, _ = small_data()
    return float((ExportedModel(path).logits(data.test.images).argmax(axis=1) == data.test.labels).mean())


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    from pipelines.models import checkpoint

    def make(folder: Path) -> None:
        import tf_keras

        from pipelines.techniques.baseline import Baseline

        tf_keras.utils.set_random_seed(0)
        data, _ = small_data()
        it = context()
        candidate = Baseline().apply(Candidate(model=SMALL_CNN.build(data.image_shape, 10)), it)
        assert it.trainer.epochs[-1]["val_accuracy"] > 0.9
        candidate.model.save(folder / "model.keras")

    return Candidate(model=checkpoint.load(once(tmp_path_factory, "trained", make) / "model.keras"))


@pytest.fixture
def trained(trained_once: Candidate) -> Candidate:
    """A copy of a small network that was trained on the small data: a test may change it."""
    from pipelines.models.checkpoint import duplicate

    return Candidate(model=duplicate(trained_once.model))


@pytest.fixture(scope="session")
def exported_baseline(trained_once: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = once(tmp_path_factory, "exported", lambda folder: exported(trained_once, folder / "model.tflite"))
    return folder / "model.tflite"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float32, uint8 and int8 exported models of one small net, what Keras says of 60 images, and others: `single`
    takes no batch, `flat` and `gray` are no classifiers of RGB images."""

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-c", MAKE_EXPORTED_MODELS, str(folder)], check=True, capture_output=True)

    return once(tmp_path_factory, "artifacts", make)


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python in an environment of the packages that `run.py` of a pulled model asks for, and nothing else."""
    below = Path("venv", "bin", "python")

    def make(folder: Path) -> None:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert uv is not None
        packages = [f"{name}=={version(name)}" for name in ("ai-edge-litert", "openvino", "numpy", "pillow")]
        subprocess.run([uv, "venv", "--python", sys.executable, folder / "venv"], check=True, capture_output=True)
        install = [uv, "pip", "install", "--python", str(folder / below), *packages]
        subprocess.run(install, check=True, capture_output=True)

    return once(tmp_path_factory, "environment", make) / below


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A test that fails half-way must not leave trainings behind."""
    yield
    end_what_was_started()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: the quick ones fill what is left, and no worker waits for another at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.name not in LONGEST))


def pytest_collection() -> None:
    """What the imports of all tests make stays: collections in between take a third of their time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Tests make garbage."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(100_000, 20, 10)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: many tests wait for processes and servers."""
    return cores() + 1


@pytest.fixture(scope="session")
def separable() -> Candidate:
    """A network with two depthwise convolutions, large enough for the converter to quantize them."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    data, _ = small_data()
    layers = tf_keras.layers
    convolutions = [
        [layers.DepthwiseConv2D(3, padding="same"), layers.Conv2D(128, 1, activation="relu")] for _ in range(2)
    ]
    return Candidate(
        model=tf_keras.Sequential(
            [
                layers.Input(data.image_shape),
                layers.Rescaling(1 / 255),
                layers.Conv2D(128, 3, activation="relu"),
                *(layer for pair in convolutions for layer in pair),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10),
            ]
        )
    )
