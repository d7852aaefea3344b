"""Usual forms of archives: accepted, or refused with advice that works when pasted."""

import re
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipelines.datasets.npz import Npz
from pipelines.datasets.roles import assigned, role
from tests.places import Place

DIGEST = "6ef9131d75dd2649"
loaded = cache(load_digits)
NAMES = np.array([f"digit {number}" for number in range(10)])


def digits() -> dict[str, np.ndarray]:
    """600 real digits for training, 200 for testing: uint8 RGB of 8x8 pixels, with an edge that no axis shares."""
    source = loaded()
    grey = np.rint(source.images[:800] * 255 / 16).astype(np.uint8)[:, :, :7]
    rgb, labels = np.repeat(grey[..., None], 3, axis=-1), source.target[:800]
    return {
        "x_train": rgb[:600],
        "y_train": labels[:600],
        "x_test": rgb[600:],
        "y_test": labels[600:],
        "class_names": NAMES,
    }


def saved(folder, arrays: dict[str, Any]) -> Npz:
    np.savez(folder / "mine.npz", **arrays)
    return Npz(path=str(folder / "mine.npz"), validation_fraction=0.2)


def changed(x=None, y=None, **others) -> dict[str, np.ndarray]:
    """The digits with x applied to all images and y to all labels; None in `others` removes an array."""
    arrays = {k: (x if k[0] == "x" else y if k[0] == "y" else None) for k in digits()}
    out = {k: change(v) if (change := arrays[k]) else v for k, v in digits().items()} | others
    return {k: v for k, v in out.items() if v is not None}


TAKEN = {
    "labels (n, 1)": (changed(y=lambda y: y[:, None]), "labels of shape (600, 1) lost a dimension"),
    "labels (1, n)": (changed(y=lambda y: y[None]), "labels of shape (1, 600) lost a dimension"),
    "one-hot integers": (changed(y=lambda y: np.eye(10, dtype=int)[y]), "one-hot labels became class numbers"),
    "one-hot floats": (changed(y=lambda y: np.eye(10)[y]), "one-hot labels became class numbers"),
    "integral floats": (changed(y=lambda y: y.astype(np.float32)), ""),
    "from 1": (changed(y=lambda y: y + 1), "labels 1..10 were counted from 0"),
    "grey": (changed(x=lambda x: x[..., 0]), "grey images were repeated over three channels"),
    "one channel": (changed(x=lambda x: x[..., :1]), "grey images were repeated over three channels"),
    "channels first": (changed(x=lambda x: x.transpose(0, 3, 1, 2)), "channels were put last"),
    "floats 0..1": (changed(x=lambda x: x / 255), "floats 0..1 were multiplied by 255 and rounded"),
    "half floats": (changed(x=lambda x: x.astype(np.float32) / 255), "floats 0..1 were multiplied by 255"),
    "floats 0..255": (changed(x=lambda x: x.astype(np.float32)), "float32 of 0..255 became uint8"),
    "rounded floats": (changed(x=lambda x: np.clip(x + 0.2, 0, 255)), "float64 of 0..255 were rounded to uint8"),
    "wider integers": (changed(x=lambda x: x.astype(np.int64)), "int64 of 0..255 became uint8"),
    "bytes": (changed(class_names=NAMES.astype("S")), ""),
}


@pytest.mark.parametrize(("arrays", "note"), TAKEN.values(), ids=TAKEN)
def test_unambiguous_form_is_accepted_and_noted(tmp_path, arrays, note):
    data, plain = saved(tmp_path, arrays).load(), saved(tmp_path, digits()).load()
    assert data.digest == plain.digest
    assert plain.notes[:1] in ((), plain.notes) and not any("mine.npz" in one for one in plain.notes)
    assert note in " ".join(data.notes)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_black_and_white_has_one_scale_in_all_parts(tmp_path, dtype):
    """Integers of one part next to floats of the other."""
    white = {name: (images > 7).astype(np.float32) for name, images in digits().items() if name[0] == "x"}
    data = saved(tmp_path, digits() | white | {"x_train": white["x_train"].astype(dtype)}).load()
    assert {int(split.images.max()) for split in (data.train, data.test)} == {255}
    assert data.digest == saved(tmp_path, digits() | white).load().digest


def test_digest_is_stable_across_versions(tmp_path):
    assert saved(tmp_path, digits()).load().digest.startswith(DIGEST)


def test_classes_without_names_are_their_numbers(tmp_path):
    assert saved(tmp_path, changed(class_names=None)).load().class_names == tuple("0123456789")
    data = saved(tmp_path, changed(class_names=None, y=lambda y: y + 1)).load()
    assert data.class_names == (*"123456789", "10")
    assert "labels 1..10 were counted from 0" in " ".join(data.notes)


def test_validation_images_of_medmnist_are_used(tmp_path):
    d = digits()
    arrays = {"train_images": d["x_train"][:400], "train_labels": d["y_train"][:400, None]}
    arrays |= {"val_images": d["x_train"][400:], "val_labels": d["y_train"][400:, None]}
    dataset = saved(tmp_path, arrays | {"test_images": d["x_test"], "test_labels": d["y_test"][:, None]})
    data = dataset.load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [400, 200, 200]
    assert "took train_images as x_train" in " ".join(data.notes)
    limited = Npz(path=dataset.path, limit_train=90).load()
    assert [len(split) for split in (limited.train, limited.validation)] == [60, 30]
    with pytest.raises(ValueError, match=r"got 20: set dataset.limit_train=29$"):
        Npz(path=dataset.path, limit_train=20).load()
    assert len(Npz(path=dataset.path, limit_train=29).load().validation) == 10


@pytest.mark.parametrize("names", [("X", "y"), ("images", "labels"), ("x_train", "y_train"), ("data", "target")])
def test_images_without_a_test_part_are_split(tmp_path, names):
    d = digits()
    others = {"x_holdout": d["x_test"], "ids": np.arange(3)}
    data = saved(tmp_path, dict(zip(names, (d["x_train"], d["y_train"]), strict=True)) | others).load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [384, 96, 120]
    (note,) = data.notes
    assert "no test images are there, so 0.2 of all were held out for testing; left out ids, x_holdout" in note


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("X_train", "x_train"),
        ("Xtrain", "x_train"),
        ("test_labels", "y_test"),
        ("x_valid", "x_validation"),
        ("labels_val", "y_validation"),
        ("x_eval", "x_test"),
        ("yeval", "y_test"),
        ("evaluation_images", "x_test"),
        ("Images", "x"),
        ("ids", None),
        ("y_train_coarse", None),
        ("Classes", "class_names"),
    ],
)
def test_usual_names(name, expected):
    assert role(name) == expected


both = "x_train, x_test = ({}, {})"
REFUSED = {
    "-1..1": (changed(x=lambda x: x / 127.5 - 1), r"use (\(x_train \+ 1\) / 2) if"),
    "opaque": (changed(x=lambda x: np.pad(x, [(0, 0)] * 3 + [(0, 1)], constant_values=255)), r"with (x_train\S* :3\])"),
    "RGBA": (changed(x=lambda x: np.concatenate([x, x[..., :1]], -1)), r"by (x_train.* - x_train\[\.\.\., 3:\])"),
    "0 and 1": (changed(x=lambda x: (x > 99).astype(np.uint8)), r"use (x_train \* 255) if"),
    "NaN": (changed(x=lambda x: np.where(x == 255, np.nan, x / 255)), r"with (np.nan_to_num\(.*\))$"),
    "12 bits": (
        changed(x=lambda x: x.astype(np.uint16) * 16),
        r"use (np.rint\(x_train \* \(255 / 4095\)\).astype\('uint8'\)) if 4095 is white",
    ),
    "of MATLAB": (changed(x=lambda x: x.transpose(1, 2, 3, 0)), r"by (x_train.transpose\(3, 0, 1, 2\))$"),
    "16 bits": (changed(x=lambda x: x.astype(np.uint16) * 257), r"use (np.rint\(.*'uint8'\)) if"),
    "dark floats": (changed(x=lambda x: x / 255 * 16), r"or (x_train / 16) if"),
    "flat": (changed(x=lambda x: x[:, :7, :7, 0].reshape(-1, 49)), r"use (x_train.reshape\(-1, 7, 7\))"),
    "video": (changed(x=lambda x: x[:, None].repeat(2, 1)), r"as (x_train\[:, 0\])"),
    "int8": (changed(x=lambda x: (x.astype(int) - 128).astype(np.int8)), r"use (\(x_train.*'uint8'\)) if"),
    "probabilities": (changed(y=lambda y: np.eye(10)[y] * 0.9 + 0.01), r"use (y_train.argmax\(1\)) if"),
    "one-hot by columns": (changed(y=lambda y: np.eye(10)[y].T), r"use (y_train.T)$"),
    "latin-1": (changed(class_names=np.array([b"\xe4%d" % n for n in range(10)])), r"use (np.char.*'latin-1'\))$"),
}


@pytest.mark.parametrize(("arrays", "advice"), REFUSED.values(), ids=REFUSED)
def test_advice_works_when_pasted(tmp_path, arrays, advice):
    with pytest.raises(ValueError) as caught:
        saved(tmp_path, arrays).load()
    mend = re.search(advice, str(caught.value))
    assert mend, str(caught.value)
    mended = dict(arrays)
    for name in (mend[1].startswith("np.char") and ["class_names"]) or [
        one for one in arrays if one.startswith("x_train" if "x_train" in mend[1] else "y_train")
    ] + [one for one in arrays if one.startswith("x_test" if "x_train" in mend[1] else "y_test")]:
        code = mend[1].replace("_train", name[1:]) if name != "class_names" else mend[1]
        mended[name] = eval(code, {"np": np} | arrays)
    data = saved(tmp_path, mended).load()
    assert len(data.train) == 480


STATEMENTS = {
    "text": changed(y=lambda y: NAMES[y]),
    "text of one column": changed(y=lambda y: NAMES[y][:, None]),
    "-1 and more": changed(y=lambda y: y - 1, class_names=None),
    "gaps": changed(y=lambda y: 10 * y + 3, class_names=None),
    "half labels": changed(y=lambda y: np.where(np.arange(len(y)) == 5, 0.5, y)),
    "outside": changed(y=lambda y: np.where(np.arange(len(y)) == 5, 99, y)),
}


@pytest.mark.parametrize("arrays", STATEMENTS.values(), ids=STATEMENTS)
def test_statements_work_when_pasted(tmp_path, arrays):
    scope = {"np": np} | arrays
    for _ in range(2):  # once for each part
        try:
            data = saved(tmp_path, {k: v for k, v in scope.items() if k in digits()}).load()
            break
        except ValueError as error:
            found = re.search(r"(?:with) (.*)$", str(error))
            assert found is not None
            exec(found[1], scope)
    else:
        data = saved(tmp_path, {k: v for k, v in scope.items() if k in digits()}).load()
    assert len(data.class_names) == 10


def test_three_of_many_absent_classes_are_named(tmp_path):
    arrays = changed(y=lambda y: y % 3, class_names=NAMES)
    with pytest.raises(ValueError, match=r"^y_train must hold every class, got no image of .*, .*, .* and 4 more: "):
        saved(tmp_path, arrays).load()


def test_limit_names_a_number_that_works(tmp_path):
    x = np.repeat(digits()["x_train"], 5, axis=0)
    y = np.arange(len(x)) % 100
    np.savez(tmp_path / "many.npz", x_train=x, y_train=y, x_test=x[:200], y_test=y[:200])
    with pytest.raises(ValueError, match=r"got 100 with dataset.validation_fraction=0.1: set dataset.limit_train=995$"):
        Npz(path=str(tmp_path / "many.npz"), limit_train=100).load()
    assert len(Npz(path=str(tmp_path / "many.npz"), limit_train=995).load().validation) == 100


@pytest.mark.slow
def test_command_trains_on_a_usual_archive(tmp_path):
    place, d = Place(tmp_path), digits()
    arrays = {"X_train": d["x_train"][..., 0] / 255, "Y_train": np.eye(10)[d["y_train"]]}
    np.savez(tmp_path / "theirs.npz", **arrays, X_test=d["x_test"][..., 0] / 255, Y_test=np.eye(10)[d["y_test"]])
    done = place.run(
        "dataset=npz",
        f"dataset.path={tmp_path}/theirs.npz",
        "technique=baseline",
        "training.epochs=1",
        "model.input_size=8",
    )
    assert done.returncode == 0, done.stderr
    output = " ".join(done.stdout.split())
    assert (
        "theirs.npz: took X_train as x_train, Y_train as y_train, X_test as x_test, Y_test as y_test; floats" in output
    )
    refused = place.run("dataset=npz", f"dataset.path={tmp_path}/theirs.npz", "dataset.limit_train=20", out="refused")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "set dataset.limit_train=48" in refused.stderr


@pytest.mark.parametrize("dark", ["x_train", "x_test"])
@pytest.mark.parametrize(
    "scaled", [lambda x: (x / 255).astype(np.float32), lambda x: x > 127, lambda x: (x > 127).astype(np.int64)]
)
def test_parts_of_two_scales_are_refused(tmp_path, dark, scaled):
    x, y = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8), np.arange(40) % 2
    arrays = {"x_train": x, "x_test": x} | {dark: scaled(x)}
    np.savez(tmp_path / "mixed.npz", y_train=y, y_test=y, **arrays)
    with pytest.raises(ValueError, match=rf"{dark} must have the scale of .*: use np.rint\({dark} \* 255\)"):
        Npz(path=str(tmp_path / "mixed.npz")).load()
    mended = np.rint(arrays[dark] * 255).astype("uint8")
    np.savez(tmp_path / "mended.npz", y_train=y, y_test=y, **arrays | {dark: mended})
    assert Npz(path=str(tmp_path / "mended.npz"), validation_fraction=0.2).load().image_shape == (8, 8, 3)


def test_dark_integers_are_noted(tmp_path):
    """As of scikit-learn, whose white is 16."""
    arrays = changed(x=lambda x: (x // 15).astype(np.uint8))
    notes = saved(tmp_path, arrays).load().notes
    assert notes[-1].startswith("all images have no pixel of 64 or more, of 255: if they have a scale of their own")


@pytest.mark.parametrize(
    ("others", "test"),
    [
        ((), None),
        (("x_eval",), None),
        (("x_eval", "y_eval"), "x_eval"),
        (("x_eval", "y_eval", "x_test", "y_test"), "x_test"),
        (("x_eval", "x_test", "y_test"), "x_test"),
        (("x_test", "x_eval", "y_eval"), "x_test"),
        (("y_test", "x_eval", "y_eval"), None),
    ],
)
def test_images_for_evaluation_are_for_testing_if_there_are_none(others, test):
    assert assigned(["x_train", "y_train", *others]).get("x_test") == test


@pytest.mark.parametrize("name", ["photos.zip", "table.csv"])
def test_file_that_is_no_archive_of_arrays_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(10_000):
                archive.writestr(f"cat/{number}.jpg", b"")
    else:
        path.write_text("file,label\na.jpg,cat\n")
    with pytest.raises(ValueError, match=r"must (hold the array x_train|name an \.npz file), got") as refused:
        Npz(path=str(path)).preflight()
    assert len(str(refused.value)) < 500
