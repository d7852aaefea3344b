"""From what a file's model answers to logits of the dataset's classes, and from raw pixels to what it expects."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.models.keras_file import PIXELS
from pipelines.training.precision import policy
from tests.models.keras_files import (
    SHAPE,
    agree,
    images,
    library,
    outputs,
    randomized,
    saved,
    settings,
    softmax,
    with_even_answers,
)  # fmt: skip

CLASSES = ["cat", "dog", "owl"]
GENERATIONS = pytest.mark.parametrize("generation", [2, 3])


def small(*ends: Any, generation: int = 3, shape: tuple[int, int, int] = SHAPE) -> Any:
    """A model that expects small numbers, up to the layers `ends`."""
    keras = library(generation)
    layers = keras.layers
    middle = [layers.Conv2D(8, 3, strides=2, activation="relu"), layers.GlobalAveragePooling2D()]
    return randomized(keras.Sequential([keras.Input(shape), layers.Rescaling(1 / 255), *middle, *ends]))


@GENERATIONS
@pytest.mark.parametrize("end", ["inside", "Softmax", "Activation", "dropout", "logits"])
def test_softmax_is_taken_off(generation: int, end: str, tmp_path: Path) -> None:
    layers = library(generation).layers
    dense = layers.Dense(3, activation="softmax" if end == "inside" else None)
    softmaxes = {"Softmax": [layers.Softmax()], "Activation": [layers.Activation("softmax")]}
    more = softmaxes.get(end) or ([layers.Dropout(0.5), layers.Softmax()] if end == "dropout" else [])
    model = with_even_answers(small(dense, *more, generation=generation), images(SHAPE))
    file = settings(saved(model, tmp_path / "model.keras"))
    file.check_classes(CLASSES)
    built = file.build(SHAPE, 3)
    assert built.layers[-1].name == "head_logits"
    assert built.layers[-1].activation.__name__ == "linear"
    if end == "logits":
        np.testing.assert_allclose(outputs(built, images(SHAPE)), outputs(model, images(SHAPE)), atol=1e-5)
    else:
        agree(model, built, images(SHAPE))


@GENERATIONS
def test_activation_before_the_softmax_stays(generation: int, tmp_path: Path) -> None:
    layers = library(generation).layers
    model = small(layers.Dense(3, activation="relu"), layers.Softmax(), generation=generation)
    batch = images(SHAPE)
    built = settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 3)
    np.testing.assert_allclose(softmax(outputs(built, batch)), outputs(model, batch), atol=1e-5)
    assert (outputs(built, batch) >= 0).all() and (outputs(built, batch) == 0).any()


@GENERATIONS
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_softmax_before_a_flattening_is_taken_off(generation: int, precision: str, tmp_path: Path) -> None:
    """As MobileNet of early versions of Keras ends; its answers can be put into another order too."""
    keras = library(generation)
    layers = keras.layers
    ends = [layers.Reshape((1, 1, 8)), layers.Conv2D(3, 1), layers.Activation("softmax"), layers.Reshape((3,))]
    model = with_even_answers(small(*ends, generation=generation), images(SHAPE))
    (tmp_path / "names.txt").write_text("owl\ncat\ndog\n")
    file = settings(saved(model, tmp_path / "model.keras"), class_names=str(tmp_path / "names.txt"))
    with policy(precision):
        built = file.build(SHAPE, 3)
    assert "softmax" not in {getattr(layer, "activation", len).__name__ for layer in built.layers}
    assert built.output.dtype == "float32"
    file.arrange(built, CLASSES)
    want = outputs(model, images(SHAPE))[:, [1, 2, 0]]
    np.testing.assert_allclose(
        softmax(outputs(built, images(SHAPE))), want, atol=1e-5 if precision == "float32" else 0.05
    )


@GENERATIONS
@pytest.mark.parametrize("merge", ["layer", "arithmetic", "reshaped"])
def test_merged_probabilities_are_refused(generation: int, merge: str, tmp_path: Path) -> None:
    """The loss takes them for logits, and a student would learn next to nothing from them."""
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    ends = [layers.Reshape((3,))] if merge == "reshaped" else []
    one, two = (small(layers.Dense(3, activation="softmax"), *ends, generation=generation)(image) for _ in range(2))
    merged = (one + two) / 2 if merge == "arithmetic" else layers.Average()([one, two])
    path = saved(keras.Model(image, merged), tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"must give logits, got .*, which computes with probabilities"):
        settings(path).build(SHAPE, 3)


@GENERATIONS
@pytest.mark.parametrize("end", ["gate", "softmax", "dropout"])
def test_merged_branches_may_be_logits(generation: int, end: str, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(image)))
    one, two = layers.Dense(3)(x), layers.Dense(3, activation="sigmoid")(x)
    if end == "dropout":
        merged = layers.Add()([one, layers.Dropout(0.5)(layers.Dense(3)(x))])
    else:
        merged = layers.Multiply()([one, two])
    merged = layers.Softmax()(layers.Add()([two, two]) if end == "softmax" else merged)
    model = randomized(keras.Model(image, merged))
    built = settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 3)
    np.testing.assert_allclose(softmax(outputs(built, images(SHAPE))), outputs(model, images(SHAPE)), atol=1e-5)


@GENERATIONS
@pytest.mark.parametrize("inside", [True, False])
def test_sigmoid_becomes_two_logits(generation: int, inside: bool, tmp_path: Path) -> None:
    layers = library(generation).layers
    ends = [layers.Dense(1, activation="sigmoid")] if inside else [layers.Dense(1), layers.Activation("sigmoid")]
    batch = images(SHAPE, 12)
    model = with_even_answers(small(*ends, generation=generation), batch)
    file = settings(saved(model, tmp_path / "model.keras"))
    file.check_classes(["no", "yes"])
    built = file.build(SHAPE, 2)
    want = outputs(model, batch)[:, 0]
    assert 0 < (want > 0.5).sum() < len(batch)
    got = outputs(built, batch)
    np.testing.assert_allclose(softmax(got)[:, 1], want, atol=1e-6)
    np.testing.assert_array_equal(got.argmax(axis=1), want > 0.5)


def test_last_convolution_may_give_the_answers(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    ends = [layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(3, 1), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), *ends, layers.Softmax()])
    path = saved(randomized(model), tmp_path / "model.keras")
    agree(model, settings(path).build(SHAPE, 3), images(SHAPE))
    (tmp_path / "names.txt").write_text("owl\ncat\ndog\n")
    file = settings(path, class_names=str(tmp_path / "names.txt"))
    built = file.build(SHAPE, 3)
    file.arrange(built, CLASSES)
    want = outputs(model, images(SHAPE))[:, [1, 2, 0]]
    np.testing.assert_allclose(softmax(outputs(built, images(SHAPE))), want, atol=1e-5)
    with pytest.raises(ValueError, match=r"got 3 and 4 classes"):
        settings(path).build(SHAPE, 4)


def test_feature_map_is_no_row_of_answers(tmp_path: Path) -> None:
    keras = library(3)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(3, 3)])
    with pytest.raises(ValueError, match=r"one row of answers.*\(30, 30, 3\).*GlobalAveragePooling2D"):
        settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 3)


@pytest.mark.parametrize("answers", [1, 3])
def test_number_of_answers_is_checked_first(answers: int, tmp_path: Path) -> None:
    file = settings(saved(small(library(3).layers.Dense(answers)), tmp_path / "model.keras"))
    with pytest.raises(ValueError, match=f"got {answers} in .*model.keras and 4 classes"):
        file.check_classes([*CLASSES, "yak"])


def test_class_names_reorder_the_answers(tmp_path: Path) -> None:
    keras = library(3)
    model = with_even_answers(small(keras.layers.Dense(3, activation="softmax")), images(SHAPE))
    names = tmp_path / "names.txt"
    names.write_text("dog\nowl\n\ncat\n")
    file = settings(saved(model, tmp_path / "model.keras"), class_names=str(names))
    file.check_classes(CLASSES)
    built = file.build(SHAPE, 3)
    file.arrange(built, CLASSES)
    # cat is the file's answer 2, dog 0, owl 1.
    want = outputs(model, images(SHAPE))[:, [2, 0, 1]]
    np.testing.assert_allclose(softmax(outputs(built, images(SHAPE))), want, atol=1e-5)


def test_class_names_reorder_a_sigmoid(tmp_path: Path) -> None:
    batch = images(SHAPE, 12)
    model = with_even_answers(small(library(3).layers.Dense(1, activation="sigmoid")), batch)
    (tmp_path / "names.txt").write_text("yes\nno\n")
    file = settings(saved(model, tmp_path / "model.keras"), class_names=str(tmp_path / "names.txt"))
    built = file.build(SHAPE, 2)
    file.arrange(built, ["no", "yes"])
    np.testing.assert_allclose(softmax(outputs(built, batch))[:, 0], outputs(model, batch)[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "must be a file that exists.*names.txt"),
        ("cat\ndog\n", r"3 classes, got .*names.txt with 2 lines and without owl"),
        ("cat\ndog\nyak\n", r"names.txt with 3 lines and without owl: write cat, dog, owl, one a line"),
        ("cat\ncat\ndog\nowl\n", r"3 classes, got .*names.txt with 4 lines: write"),
        ("cat\ndog\ndog\n", r"without owl"),
    ],
)
def test_class_names_that_do_not_fit(text: str | None, message: str, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    if text is not None:
        names.write_text(text)
    file = settings(saved(small(library(3).layers.Dense(3)), tmp_path / "model.keras"), class_names=str(names))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        file.check_classes(CLASSES)


def test_class_names_of_a_windows_editor(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes("\ufeffowl\r\ncat\r\ndog\r\n".encode())
    file = settings(saved(small(library(3).layers.Dense(3)), tmp_path / "model.keras"), class_names=str(names))
    assert file._order(CLASSES) == [1, 2, 0]


def test_class_names_with_decomposed_letters(tmp_path: Path) -> None:
    """As a Mac writes the names of folders; the dataset's are composed."""
    names = tmp_path / "names.txt"
    names.write_text(unicodedata.normalize("NFD", "g\u00fcl\n\u00e7ilek\nelma\n"), encoding="utf-8")
    file = settings(saved(small(library(3).layers.Dense(3)), tmp_path / "model.keras"), class_names=str(names))
    assert file._order(["\u00e7ilek", "elma", "g\u00fcl"]) == [1, 2, 0]


@GENERATIONS
def test_gray_is_that_of_pillow(generation: int, tmp_path: Path) -> None:
    shape = (28, 28, 1)
    gray = images((28, 28, 3)).astype(np.uint8)
    pillow = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in gray])[..., None].astype(np.float32)
    dense = library(generation).layers.Dense(3, activation="softmax")
    model = with_even_answers(small(dense, generation=generation, shape=shape), pillow)
    built = settings(saved(model, tmp_path / "model.keras")).build((28, 28, 3), 3)
    want, got = outputs(model, pillow), softmax(outputs(built, gray.astype(np.float32)))
    assert np.ptp(want, axis=0).max() > 0.01
    # Pillow rounds to whole numbers.
    np.testing.assert_allclose(got, want, atol=2e-3)
    exact = gray.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], np.float32)
    np.testing.assert_allclose(got, outputs(model, exact), atol=1e-5)


@pytest.mark.parametrize("pixels", ["0..255", "0..1", "-1..1", "caffe", "torch"])
def test_pixels_are_what_the_model_expects(pixels: str, tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    raw = images(SHAPE)
    modes = {"-1..1": "tf", "caffe": "caffe", "torch": "torch"}
    expected = raw / 255 if pixels == "0..1" else raw
    if pixels in modes:
        preprocess = keras.applications.imagenet_utils.preprocess_input
        expected = preprocess(raw.copy(), data_format="channels_last", mode=modes[pixels])
    middle = [layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(SHAPE), *middle, layers.Dense(3, activation="softmax")])
    with_even_answers(randomized(model), expected)
    built = settings(saved(model, tmp_path / "model.keras"), pixels=pixels).build(SHAPE, 3)
    want = outputs(model, expected)
    assert np.ptp(want, axis=0).max() > 0.01
    np.testing.assert_allclose(softmax(outputs(built, raw)), want, atol=1e-5)


@pytest.mark.parametrize("pixels", PIXELS)
def test_other_pixels_are_seen_through_one_network(pixels: str, tmp_path: Path) -> None:
    layers = library(3).layers
    middle = layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(3)
    path = saved(library(3).Sequential([library(3).Input(SHAPE), *middle]), tmp_path / "model.keras")
    file = settings(path, pixels=pixels)
    built = file.build(SHAPE, 3)
    assert file.other_pixels.keys() == PIXELS.keys() - {pixels}
    for other, seen in file.other_pixels.items():
        want = outputs(settings(path, pixels=other).build(SHAPE, 3), images(SHAPE))
        got = outputs(built, seen(images(SHAPE)))
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * np.abs(want).max())
