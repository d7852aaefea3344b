"""Files that hold no model that opscore takes, each with its sentence, and files that hold code."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.keras_files import SHAPE, agree, images, library, randomized, saved, settings, with_even_answers
from tests.places import ROOT

GENERATIONS = pytest.mark.parametrize("generation", [2, 3])
SUFFIXES = pytest.mark.parametrize("suffix", [".keras", ".h5"])


def small(generation: int = 3, *middle: Any) -> Any:
    keras = library(generation)
    layers = keras.layers
    convolution = layers.Conv2D(4, 3, strides=2, activation="relu")
    ends = [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), convolution, *middle, *ends])


def refused(path: object, *words: str, **changed: Any) -> None:
    """Assert that preflight refuses a file in one sentence with these words, and with its path."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        settings(path, **changed).preflight(SHAPE)
    text = str(caught.value)
    assert "\n" not in text and ": " in text
    for word in (*words, str(path)):
        assert word in text, text


def edited(path: Path, name: str, change: Any) -> Path:
    """A .keras file in which one of its JSON files is changed."""
    other = path.with_name("edited.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for item in old.namelist():
            content = old.read(item)
            new.writestr(item, json.dumps(change(json.loads(content))) if item == name else content)
    return other


def test_files_that_are_none(tmp_path: Path) -> None:
    refused(tmp_path / "none.keras", "must be a file that exists")
    refused(tmp_path, "got the folder", "name the file")
    with pytest.raises(ValueError, match=r"model.path must be given.*model.path=shoes.keras"):
        replace(settings("x.keras"), path=None).preflight(SHAPE)


def test_other_kinds_of_files(tmp_path: Path) -> None:
    tflite = tmp_path / "model.tflite"
    tflite.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    refused(tflite, "must be a whole Keras model", "model.save('model.keras')")
    for name in ("photos.zip", "photos.keras"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("photo.png", b"1")
        refused(tmp_path / name, "zip archive of another kind", "model.save('model.keras')")
    (tmp_path / "empty.keras").write_bytes(b"")
    refused(tmp_path / "empty.keras", "damaged")


@GENERATIONS
@SUFFIXES
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_truncated_file(generation: int, suffix: str, kept: float, tmp_path: Path) -> None:
    path = saved(small(generation), tmp_path / f"model{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refused(path, f"must be a complete {suffix} file", "damaged", "copy or write it again")


def test_damaged_inside(tmp_path: Path) -> None:
    path = saved(small(), tmp_path / "model.keras")
    refused(edited(path, "config.json", lambda _: 7), "damaged")
    refused(edited(path, "config.json", lambda _: {"class_name": "Sequential"}), "damaged")
    refused(edited(path, "metadata.json", lambda _: []), "damaged")


@GENERATIONS
def test_file_with_weights_only(generation: int, tmp_path: Path) -> None:
    model = small(generation)
    paths = [tmp_path / "model.weights.h5", *([tmp_path / "weights.h5"] if generation == 2 else [])]
    for path in paths:
        model.save_weights(path)
        refused(path, "whole model", "weights only", "load_weights")


def test_file_with_an_optimizer_only(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "optimizer.h5", "w") as file:
        file.create_group("optimizer_weights").create_dataset("step", data=1)
    refused(tmp_path / "optimizer.h5", "state of an optimizer only")


@pytest.mark.slow
def test_mend_for_saved_model_works(tmp_path: Path) -> None:
    keras = library(2)
    folder = tmp_path / "my model"
    model = with_even_answers(randomized(small(2)), images(SHAPE))
    keras.models.save_model(model, folder, save_format="tf")
    with pytest.raises(ValueError, match="got the SavedModel") as caught:
        settings(folder).preflight(SHAPE)
    mend = re.search(r"`(python -c .*)`", str(caught.value))
    assert mend is not None
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", mend[1]], check=True, env=os.environ | {"PATH": path}, capture_output=True)
    agree(model, settings(f"{folder}.keras").build(SHAPE, 3), images(SHAPE))


@pytest.mark.parametrize(("generation", "version"), [(2, "2.99.0"), (3, "3.99.0"), (3, "4.0.0")])
def test_file_of_newer_keras(generation: int, version: str, tmp_path: Path) -> None:
    path = saved(small(generation), tmp_path / "model.keras")
    newer = edited(path, "metadata.json", lambda one: one | {"keras_version": version})
    settings(newer).build(SHAPE, 3)
    newer.rename(path)

    def unreadable(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["layers"][1]["class_name"] = "Resampling"
        return config

    newer = edited(path, "config.json", unreadable)
    package = "tf-keras" if generation == 2 else "keras"
    with pytest.raises(ValueError, match=rf"Keras {version} wrote: pip install '{package}>={version}'"):
        settings(newer).build(SHAPE, 3)


def test_file_that_keras_cannot_read(tmp_path: Path) -> None:
    def unreadable(config: dict[str, Any]) -> dict[str, Any]:
        config["config"]["layers"][1]["class_name"] = "Resampling"
        return config

    path = edited(saved(small(), tmp_path / "model.keras"), "config.json", unreadable)
    with pytest.raises(ValueError, match=r"must be readable by Keras .*save it again"):
        settings(path).build(SHAPE, 3)


def test_graphs_of_another_form(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    image, other = keras.Input(SHAPE), keras.Input(SHAPE)
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([image, other]))
    path = tmp_path / "model.keras"
    refused(saved(keras.Model([image, other], layers.Dense(3)(pooled)), path), "one input, got 2")
    pooled = layers.GlobalAveragePooling2D()(image)
    two = {"kind": layers.Dense(3)(pooled), "box": layers.Dense(4)(pooled)}
    refused(saved(keras.Model(image, two), path), "one output, got 2")
    refused(saved(keras.Model(image, list(two.values())), path), "one output, got 2")
    flat = keras.Sequential([keras.Input((12,)), layers.Dense(3)])
    refused(saved(flat, path), "model of images", "(12,)")
    first = keras.Sequential([keras.Input((3, 32, 32)), layers.Flatten(), layers.Dense(3)])
    refused(saved(first, path), "model of images", "(3, 32, 32)", "channels last")
    refused(saved(keras.Sequential([layers.Flatten(), layers.Dense(3)]), path), "was built", "keras.Input")


@GENERATIONS
def test_several_inputs_and_outputs_of_h5(generation: int, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image, other = keras.Input(SHAPE), keras.Input(SHAPE)
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([image, other]))
    path = tmp_path / "model.h5"
    refused(saved(keras.Model([image, other], layers.Dense(3)(pooled)), path), "one input, got 2")
    pooled = layers.GlobalAveragePooling2D()(image)
    refused(saved(keras.Model(image, [layers.Dense(3)(pooled), layers.Dense(4)(pooled)]), path), "one output, got 2")


@GENERATIONS
def test_subclassed_model(generation: int, tmp_path: Path) -> None:
    keras = library(generation)

    class Shoes(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.dense = keras.layers.Dense(3)

        def call(self, image: Any) -> Any:
            return self.dense(keras.layers.Flatten()(image))

    model = Shoes()
    model(np.zeros((1, *SHAPE), np.float32))
    refused(saved(model, tmp_path / "model.keras"), "the subclassed Shoes", "keras.Model(inputs, outputs)")


@GENERATIONS
def test_layer_called_twice(generation: int, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    shared, relu = layers.Conv2D(3, 3, padding="same", name="shared"), layers.ReLU()
    x = relu(shared(relu(shared(image))))
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match=r"layer shared of kind Conv2D .* is called 2 times with the same weights"):
        settings(saved(model, tmp_path / "model.keras")).preflight(SHAPE)


@SUFFIXES
def test_file_is_read_by_its_content(suffix: str, tmp_path: Path) -> None:
    model = with_even_answers(randomized(small()), images(SHAPE))
    other = ".keras" if suffix == ".h5" else ".h5"
    path = shutil.copy(saved(model, tmp_path / f"model{suffix}"), tmp_path / f"other{other}")
    file = settings(path)
    file.preflight(SHAPE)
    assert file.name == "other"
    agree(model, file.build(SHAPE, 3), images(SHAPE))


def test_preflight_loads_no_tensorflow(tmp_path: Path) -> None:
    paths = [saved(small(generation), tmp_path / f"{generation}.h5") for generation in (2, 3)]
    paths.append(saved(small(), tmp_path / "3.keras"))
    program = (
        "import sys; from tests.models.keras_files import settings\n"
        "for path in sys.argv[1:]: settings(path).preflight((32, 32, 3)); settings(path).check_classes('abc')\n"
        "assert not {'tensorflow', 'keras', 'tf_keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, *map(str, paths)], check=True, cwd=ROOT)


@GENERATIONS
@SUFFIXES
def test_what_only_a_training_needs_is_not_read(tmp_path: Path, generation: int, suffix: str) -> None:
    """A metric of the user's own class, as Keras's guide has it."""
    keras = library(generation)

    @keras.saving.register_keras_serializable(package="mine")
    class Share(keras.metrics.Mean):  # type: ignore[misc,name-defined]
        pass

    model = small(generation)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[Share()])
    path = saved(with_even_answers(randomized(model), images(SHAPE)), tmp_path / f"compiled{suffix}")
    it = settings(path)
    it.preflight(SHAPE)
    agree(model, it.build(SHAPE, 3), images(SHAPE))


def test_sequential_models_of_the_first_keras_2(tmp_path: Path) -> None:
    """Until 2.2.2, their layers were the whole configuration."""
    import h5py

    path = saved(with_even_answers(randomized(small(2)), images(SHAPE)), tmp_path / "old.h5")
    model = library(2).models.load_model(path, compile=False)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"] = [one for one in config["config"]["layers"] if one["class_name"] != "InputLayer"]
        config["config"][0]["config"]["batch_input_shape"] = [None, *SHAPE]
        file.attrs["model_config"] = json.dumps(config)
    it = settings(path)
    it.preflight(SHAPE)
    agree(model, it.build(SHAPE, 3), images(SHAPE))
