"""Names and fields of a model from a file."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.champion.model_card import _start, _unseen
from pipelines.models.keras_graph import Rebuild
from pipelines.models.keras_layers import UnsupportedLayerError
from pipelines.models.keras_value import Value
from tests.models.keras_files import SHAPE, images, library, outputs, saved, settings, softmax
from tests.places import ROOT


@pytest.mark.parametrize("name", ["My Net FINAL v2", "modèle_größe", "_resfinal", "best-1"])
def test_any_file_name_makes_a_network(name: str, tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    middle = [layers.Conv2D(4, 3, name=f"conv {name}"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(SHAPE), *middle, layers.Dense(3, activation="softmax")])
    file = settings(saved(model, tmp_path / f"{name}.keras"))
    assert file.name == name
    built, batch = file.build(SHAPE, 3), images(SHAPE)
    np.testing.assert_allclose(softmax(built.predict(batch, verbose=0)), outputs(model, batch), atol=1e-5)


def test_layer_that_keras_2_lacks_is_refused_by_name(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    image = keras.Input(SHAPE)
    tokens = layers.Reshape((SHAPE[0] * SHAPE[1], 3))(image)
    x = layers.GroupQueryAttention(4, 2, 2, name="attend")(tokens, tokens)
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    with pytest.raises(ValueError, match=r"layer attend of kind GroupedQueryAttention is unknown to Keras 2"):
        settings(saved(model, tmp_path / "vit.keras")).build(SHAPE, 3)


def test_trusted_code_that_fails_in_silence_is_named() -> None:
    def fails(x: object) -> None:
        raise RuntimeError

    layer = SimpleNamespace(name="odd", function=fails, arguments=None)
    with pytest.raises(UnsupportedLayerError, match="layer odd of kind Lambda cannot be written as layers"):
        Rebuild(generation=3, custom={})._function(layer, Value(library(2).Input(SHAPE)), "")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ["cat", "dog"]}, r"model.class_names must be a name in text or null, got \['cat', 'dog'\]"),
        ({"custom_objects": "my_layers.py"}, "set model.custom_objects=my_layers$"),
        ({"custom_objects": "./own/my_layers.py"}, "set model.custom_objects=own.my_layers$"),
        ({"custom_objects": "/a/my_layers.py"}, "=my_layers, and PYTHONPATH to the folder of my_layers.py$"),
        ({"custom_objects": "own.blocks.py"}, "set model.custom_objects=own.blocks$"),
        ({"custom_objects": "own/my_layers"}, "set model.custom_objects=own.my_layers$"),
        ({"custom_objects": "my-layers.py"}, "give the file a name of letters, digits and underscores"),
        ({"custom_objects": "own/notes.txt"}, "set model.custom_objects=notes$"),
        ({"trained_s": -1}, "model.trained_s must be"),
        ({"pixels": "0-1"}, "model.pixels must be one of 0..255"),
    ],
)
def test_fields_are_checked(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**{"path": "shoes.keras", **changed})


def test_module_in_the_working_folder_is_found(tmp_path: Path) -> None:
    """The console command has no working folder on its path."""
    (tmp_path / "own.py").write_text("")
    program = "from pipelines.models.custom_objects import find; print(find('own').origin)"
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(tmp_path / "own.py"), done.stderr


def test_model_card_says_what_is_known_of_the_file() -> None:
    params = {"model.path": "nets/shoes.keras", "model.file_sha256": "ab12"}
    assert _start(params) == "the file `shoes.keras` (SHA-256 `ab12`)"
    assert "not trained on by this cell" in _unseen(params) and "not known" in _unseen(params)
    assert _unseen({"model.weights": "imagenet"}).startswith(
        "never trained on, unless they are among those of ImageNet"
    )
    assert _unseen({"model.weights": "None", "technique.source.dataset": "None"}) == "never trained on"
    donor = {"model.weights": "None", "technique.source.dataset.name": "photos"}
    assert "not trained on by this cell" in _unseen(donor)
    assert _start({"model.weights": "imagenet"}) == "ImageNet weights"
