"""Code in a file is never run unasked; the user's own layers come from the user's module; the content counts."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cells.plan import content
from pipelines.models import checkpoint, complexity, keras_loading
from tests.models.keras_files import SHAPE, agree, images, library, randomized, saved, settings, with_even_answers
from tests.places import called, child_environment

GENERATIONS = pytest.mark.parametrize("generation", [2, 3])
SUFFIXES = pytest.mark.parametrize("suffix", [".keras", ".h5"])
LAYER = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Doubled(keras.layers.Layer):
    def __init__(self, factor=2.0, **given):
        super().__init__(**given)
        self.factor = factor

    def build(self, shape):
        self.offset = self.add_weight(name="offset", shape=(shape[-1],), initializer="zeros")

    def call(self, x):
        return x * self.factor + self.offset

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
"""


def small(generation: int, *middle: Any) -> Any:
    keras = library(generation)
    layers = keras.layers
    convolution = layers.Conv2D(4, 3, strides=2, activation="relu")
    ends = [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), convolution, *middle, *ends])


def changed(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    """A copy of a `.keras` file with other layers in its configuration."""
    edited = path.with_name("edited.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(edited, "w") as new:
        for item in old.namelist():
            content = old.read(item)
            if item == "config.json":
                config = json.loads(content)
                change(config["config"]["layers"])
                content = json.dumps(config).encode()
            new.writestr(item, content)
    return edited


@GENERATIONS
@SUFFIXES
@pytest.mark.parametrize("place", ["layer", "nested", "wrapped"])
def test_code_in_a_file_is_not_run(generation: int, suffix: str, place: str, tmp_path: Path) -> None:
    keras, marker = library(generation), str(tmp_path / "ran")
    layers = keras.layers

    def attack(x: Any, marker: str = marker) -> Any:
        with open(marker, "w"):  # noqa: PTH123
            return x

    code = lambda x, attack=attack: attack(x)  # noqa: E731
    inner = layers.Lambda(code, name="attack")
    made = {
        "layer": lambda: inner,
        "nested": lambda: keras.Sequential([keras.Input((15, 15, 4)), inner]),
        "wrapped": lambda: layers.TimeDistributed(inner),
    }
    path = saved(small(generation, made[place]()), tmp_path / f"model{suffix}")
    Path(marker).unlink(missing_ok=True)
    file = settings(path)
    for read in (lambda: file.preflight(SHAPE), lambda: file.build(SHAPE, 3), lambda: file.check_classes("abc")):
        with pytest.raises(ValueError, match=r"layer .* holds Python code .*model.trust=true"):
            read()
    assert not Path(marker).exists()


def _operation(marker: Path) -> dict[str, Any]:
    """A call of TensorFlow whose arguments are all in the file: Keras 2 makes it while it reads the file."""
    return {
        "class_name": "TFOpLambda",
        "config": {"name": "tf.io.write_file", "dtype": "float32", "function": "io.write_file"},
        "inbound_nodes": [["_CONSTANT_VALUE", -1, str(marker), {"contents": "ran"}]],
    }


def _function(marker: Path) -> dict[str, Any]:
    """The same of a function in the place of a layer."""
    return {
        "class_name": "function",
        "module": "keras.utils",
        "config": "get_file",
        "inbound_nodes": [["_CONSTANT_VALUE", -1, str(marker), {"origin": "http://127.0.0.1:9/none"}]],
    }


def _method(marker: Path) -> dict[str, Any]:
    """The same of a method that Keras finds by its name."""
    return {
        "class_name": "ClassMethod",
        "config": {"name": "method", "cls_symbol": "io.write_file", "method_name": "__call__"},
        "inbound_nodes": [["_CONSTANT_VALUE", -1, str(marker), {"contents": "ran"}]],
    }


def _cell(marker: Path) -> dict[str, Any]:
    """The same within a model within a layer."""
    inner = {"name": "inner", "layers": [_operation(marker)], "input_layers": [], "output_layers": []}
    cell = {"class_name": "Functional", "config": inner, "module": "keras"}
    return {"class_name": "RNN", "config": {"name": "rnn", "cell": cell}, "inbound_nodes": []}


@pytest.mark.parametrize("entry", [_operation, _function, _method, _cell])
def test_call_in_a_file_is_not_made(entry: Callable[[Path], dict[str, Any]], tmp_path: Path) -> None:
    keras, marker = library(2), tmp_path / "ran"
    image = keras.Input(SHAPE)
    answers = keras.layers.Dense(10, name="head_logits")(keras.layers.Flatten()(image))
    path = saved(keras.Model(image, answers), tmp_path / "model.keras")
    assert checkpoint.is_own(path)
    attack = {"name": "attack", "module": "keras.layers"} | entry(marker)
    edited = changed(path, lambda layers: layers.append(attack))
    # Neither the user's model nor weights for one of opscore's.
    with pytest.raises(ValueError, match=r"layer .* holds Python code .*set model.trust=true"):
        settings(edited).preflight(SHAPE)
    assert not checkpoint.is_own(edited)
    done = called("pipelines", "run", f"model.weights={edited}", cwd=tmp_path, variables=child_environment(""))
    assert done.returncode == 2 and "must be a .keras file that opscore wrote" in done.stderr
    assert not marker.exists()


@pytest.mark.parametrize("name", ["Lambda", "layers.Lambda", "keras>Lambda"])
def test_lambda_is_known_by_any_name(name: str, tmp_path: Path) -> None:
    path = saved(small(3), tmp_path / "model.keras")
    attack = {"module": "keras", "class_name": name, "config": {"name": "attack"}}
    edited = changed(path, lambda layers: layers[2].update(attack))
    with pytest.raises(ValueError, match=r"layer attack of .* holds Python code"):
        settings(edited).preflight(SHAPE)


@pytest.mark.parametrize("place", ["layer", "nested", "function"])
def test_module_in_a_file_is_not_imported(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\ndef relu(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    keras = library(3)
    nested = keras.Sequential([keras.Input((15, 15, 4)), keras.layers.ReLU()], name="nested")
    path = saved(small(3, nested, keras.layers.Activation("relu", name="own")), tmp_path / "model.keras")
    evil = {"module": "evil_module", "registered_name": None}

    def change(layers: list[dict[str, Any]]) -> None:
        found = {one["config"].get("name"): one for one in layers}
        if place == "function":
            found["own"]["config"]["activation"] = {"class_name": "function", "config": "relu", **evil}
        else:
            found["nested" if place == "nested" else "own"].update(evil)

    edited = changed(path, change)
    file = settings(edited)
    if place != "nested":
        with pytest.raises(ValueError, match=r"model.custom_objects must be a module that defines .* got colorsys"):
            settings(edited, custom_objects="colorsys").build(SHAPE, 3)
    for read in (lambda: file.preflight(SHAPE), lambda: file.build(SHAPE, 3)):
        with pytest.raises(ValueError, match=r"of your own .*set model.custom_objects"):
            read()
    assert not marker.exists()


BLOCK = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Block(keras.layers.Layer):
    def __init__(self, **given):
        super().__init__(**given)
        self.first, self.second = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, x, training=False):
        return self.second(keras.activations.relu(self.first(x, training=training)), training=training)
"""


@pytest.mark.parametrize("generation", [2, 3])
@SUFFIXES
def test_own_layers_come_from_a_module(
    generation: int, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"own_layers_{generation}_{suffix[1:]}"
    text = LAYER if generation == 3 else LAYER.replace("import keras", "import tf_keras as keras")
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    layer = __import__(module).Doubled(3.0)
    model = with_even_answers(randomized(small(generation, layer)), images(SHAPE))
    path = saved(model, tmp_path / f"model{suffix}")
    with pytest.raises(ValueError, match=r"of your own class Doubled, .* set model.custom_objects"):
        settings(path).preflight(SHAPE)
    with pytest.raises(ValueError, match=r"model.custom_objects must be a module .*got missing_module"):
        settings(path, custom_objects="missing_module").preflight(SHAPE)
    with pytest.raises(ValueError, match=r"model.custom_objects must be a module .*got missing.module"):
        settings(path, custom_objects="missing.module").preflight(SHAPE)
    file = settings(path, custom_objects=module)
    file.preflight(SHAPE)
    built = file.build(SHAPE, 3)
    agree(model, built, images(SHAPE))
    # A checkpoint is read in another process, in which tf_keras has to know the layer.
    built.save(tmp_path / "checkpoint.keras")
    (tmp_path / "reading.py").write_text(
        "import sys; from tests.models.keras_files import settings; import tf_keras\n"
        "settings(sys.argv[1], custom_objects=sys.argv[2]).register()\n"
        "tf_keras.models.load_model(sys.argv[3])"
    )
    words = [str(path), module, str(tmp_path / "checkpoint.keras")]
    done = called("reading", *words, cwd=tmp_path, variables=child_environment(""))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("generation", [2, 3])
def test_constant_in_a_call_is_refused(generation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"called_layers_{generation}"
    text = LAYER if generation == 3 else LAYER.replace("import keras", "import tf_keras as keras")
    text = text.replace("def call(self, x):", "def call(self, x, times=1.0):").replace("x * ", "times * x * ")
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    keras = library(generation)
    image = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(__import__(module).Doubled(name="mine")(x, times=3.0))
    path = saved(keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"layer mine of kind Doubled is called with 3\.0 next to its inputs"):
        settings(path, custom_objects=module).build(SHAPE, 3)


@pytest.mark.parametrize("generation", [2, 3])
def test_own_activation_of_a_known_name_is_refused(
    generation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"own_functions_{generation}"
    (tmp_path / f"{module}.py").write_text(
        f"import {'keras' if generation == 3 else 'tf_keras as keras'}\nimport tensorflow as tf\n\n"
        '@keras.saving.register_keras_serializable(package="mine")\n'
        "def leaky_relu(x):\n    return tf.nn.leaky_relu(x, 0.1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    activation = library(generation).layers.Activation(__import__(module).leaky_relu, name="mine")
    path = saved(small(generation, activation), tmp_path / "model.keras")
    with pytest.raises(
        ValueError, match=r"layer mine of kind Activation has the activation leaky_relu of model\.custom"
    ):
        settings(path, custom_objects=module).build(SHAPE, 3)


@GENERATIONS
@pytest.mark.parametrize("frozen", ["", "first", "block"])
def test_own_block_of_several_layers_answers_as_before(
    generation: int, frozen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras 3 lists the weights of its layers one after the other, Keras 2 those that are trained first."""
    module = f"own_blocks_{generation}_{frozen}"
    text = BLOCK if generation == 3 else BLOCK.replace("import keras", "import tf_keras as keras")
    end = "keras.layers.BatchNormalization()\n\n"
    text = text.replace(end, f"{end[:-1]}        self.first.trainable = {frozen != 'first'}\n\n")
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    block = __import__(module).Block(name="mine")
    model = randomized(small(generation, block))
    block.trainable = frozen != "block"
    file = settings(saved(model, tmp_path / "model.keras"), custom_objects=module)
    agree(model, file.build(SHAPE, 3), images(SHAPE), spread=0)


def test_own_layer_may_have_the_name_of_one_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_attention.py").write_text(LAYER.replace("Doubled", "Attention"))
    monkeypatch.syspath_prepend(tmp_path)
    model = randomized(small(3, __import__("own_attention").Attention()))
    built = settings(saved(model, tmp_path / "model.keras"), custom_objects="own_attention").build(SHAPE, 3)
    assert complexity.macs(built) == 15 * 15 * 9 * 3 * 4 + 4 * 3


@GENERATIONS
def test_option_that_is_not_the_default_is_refused(
    generation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"own_options_{generation}"
    text = LAYER if generation == 3 else LAYER.replace("import keras", "import tf_keras as keras")
    text = text.replace("def call(self, x):", "def call(self, x, double=True):")
    (tmp_path / f"{module}.py").write_text(text.replace("x * self.factor", "x * (self.factor if double else 1.0)"))
    monkeypatch.syspath_prepend(tmp_path)
    keras = library(generation)

    def file(*, double: bool) -> Any:
        image = keras.Input(SHAPE)
        x = __import__(module).Doubled(name="mine")(keras.layers.Conv2D(4, 3)(image), double=double)
        answers = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
        return settings(saved(keras.Model(image, answers), tmp_path / "model.keras"), custom_objects=module)

    assert file(double=True).build(SHAPE, 3)
    with pytest.raises(ValueError, match="layer mine of kind Doubled is called with False next to its inputs"):
        file(double=False).build(SHAPE, 3)


def test_half_precision_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module computes something else than the one by which the model was made."""
    (tmp_path / "own_changed.py").write_text(LAYER)
    monkeypatch.syspath_prepend(tmp_path)
    keras = library(3)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = randomized(small(3, __import__("own_changed").Doubled(3.0)))
        file = settings(saved(model, tmp_path / "model.keras"), custom_objects="own_changed")
        assert file.build(SHAPE, 3)
        (tmp_path / "own_changed.py").write_text(LAYER.replace("x * self", "-100.0 + x * self"))
        keras_loading.register.cache_clear()
        with pytest.raises(ValueError, match="must answer as it did"):
            file.build(SHAPE, 3)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import tensorflow as tf\n\nclass Mine(tf.keras.layers.Layer):\n    pass\n",
            r"got Mine in own_0, which is of tf\.keras, .*write `import keras`",
        ),
        (
            "from keras import quantizers\nfrom keras.ops.image import resize\nimport keras.ops.nn\n",
            r"imported with Keras 2 .* got own_1 \(ImportError: cannot",
        ),
    ],
)
def test_module_that_does_not_fit_is_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = re.search(r"own_\d", message)
    assert name is not None
    (tmp_path / f"{name[0]}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    path = saved(small(3), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=message):
        settings(path, custom_objects=name[0]).build(SHAPE, 3)


def test_content_counts_and_not_the_path(tmp_path: Path) -> None:
    first = saved(small(3), tmp_path / "first.keras")
    second = Path(shutil.copy(first, tmp_path / "second.keras"))
    other = saved(small(3), tmp_path / "other.keras")
    hashes = [[content(one) for one in settings(path).origin] for path in (first, second, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    named = [content(one) for one in settings(first, class_names=str(tmp_path / "names.txt")).origin]
    assert named != hashes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import keras\nmodel = keras.Sequential()\nmodel.fit(1)\nmodel.save('x.keras')\n",
            "calls fit and save when it",
        ),
        (
            "for _ in range(3):\n    made = [1]\n    made.fit(2)\n",
            "calls fit when it is imported: put these lines below",
        ),
        ("def main():\n    model = [1]\n    model.fit(1)\n\nmain()\n", "calls fit when it is imported"),
        ("import keras\nkeras.saving.save_model(1, 2)\n", "calls save_model when it is imported"),
        ("import numpy as np\nnp.save(1)\nprint(\n", r"own_script_syntax.py, line \d: .*: correct it$"),
        ("def train(model):\n    model.fit(1)\n\nif __name__ == '__main__':\n    train(None).save('x.keras')\n", ""),
    ],
    ids=["script", "loop", "main", "saving", "syntax", "guarded"],
)
def test_module_that_trains_when_it_is_imported(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """It would write over the file that is measured."""
    name = f"own_script_{request.node.callspec.id}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    file = settings(saved(small(3), tmp_path / "model.keras"), custom_objects=name)
    if not message:
        file.preflight(SHAPE)
        return
    with pytest.raises(ValueError, match=message):
        file.preflight(SHAPE)


def test_module_that_imports_the_layers_is_told_from_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_inner.py").write_text(LAYER)
    (tmp_path / "own_outer.py").write_text("from own_inner import Doubled\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = saved(small(3, __import__("own_inner").Doubled()), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"got own_outer: set model.custom_objects=own_inner, which it imports$"):
        settings(path, custom_objects="own_outer").build(SHAPE, 3)


def test_initializer_of_keras_3_in_an_own_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Keras's example of a compact transformer."""
    text = LAYER.replace("self.factor = factor", "self.factor = keras.initializers.get(factor)")
    text = text.replace('"factor": self.factor', '"factor": keras.initializers.serialize(self.factor)')
    text = text.replace("x * self.factor", "x").replace('initializer="zeros"', "initializer=self.factor")
    (tmp_path / "own_initialized.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    model = randomized(small(3, __import__("own_initialized").Doubled("glorot_uniform")))
    file = settings(saved(model, tmp_path / "model.keras"), custom_objects="own_initialized")
    agree(model, file.build(SHAPE, 3), images(SHAPE), spread=0)
