"""A finished cell that is requested under another name, and classes with unusual names."""

import json
import re
import unicodedata

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.places import Place

pytestmark = pytest.mark.slow

CLASSES = ["$\\frac{$", "a|b", "<b>x</b>", "花", "🍕", "two  blanks", "x" * 200, "a_b^c", "100%, or", "`\\'\"&amp;"]


# As macOS writes it into names of files.
DECOMPOSED = unicodedata.normalize("NFD", "Blüten")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with a technique and its baseline on the digits, in a file whose classes have odd names."""
    place = Place(tmp_path_factory.mktemp("store"))
    digits = load_digits()
    images = np.repeat(np.rint(digits.images * 255 / 16).astype(np.uint8)[..., None], 3, axis=-1)
    np.savez(
        place.folder / "photos.npz",
        x_train=images[:1200],
        y_train=digits.target[:1200],
        x_test=images[1200:],
        y_test=digits.target[1200:],
        class_names=np.array(CLASSES),
    )
    done = place.run(*overrides(place), out="first")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "Glyph" not in done.stderr and "could not be drawn" not in done.stdout
    figures = place.folder / "first" / "small_cnn-photos-baseline" / "figures"
    assert {path.name for path in figures.glob("*.png")} >= {"confusion_matrix.png", "latency.png", "training.png"}
    # At least one of them is too long for a figure.
    listed = dict(line.split("\t") for line in (figures / "classes.txt").read_text().splitlines())
    assert list(listed.values()) == CLASSES
    return place


def overrides(place: Place) -> list[str]:
    return ["dataset=npz", f"dataset.path={place.folder}/photos.npz", "technique=quantize_float16"]


def test_renamed_cell_is_used_everywhere_without_training(place: Place) -> None:
    done = place.run(*overrides(place), f'dataset.name="{DECOMPOSED}"', "model.name=tiny", out="second")
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout + done.stderr
    assert "tiny-Blüten-quantize_float16: finished before as small_cnn-photos-quantize_float16" in output
    assert not [word for word in ("training for", ": exporting", ": measuring") if word in output]
    runs = {run.info.run_name: run for run in place.cells("attributes.status = 'FINISHED'")}
    for technique in ("baseline", "quantize_float16"):
        old, new = runs[f"small_cnn-photos-{technique}"], runs[f"tiny-Blüten-{technique}"]
        assert (new.data.tags["model"], new.data.tags["dataset"]) == ("tiny", "Blüten")
        same = {name: value for name, value in old.data.metrics.items() if not name.startswith(("wall/", "system/"))}
        assert same == {name: new.data.metrics[name] for name in same} and same
        assert new.data.tags["opscore.identity"] == old.data.tags["opscore.identity"]
        assert new.data.params["dataset.name"] == "Blüten"
    again = place.run(*overrides(place), f'dataset.name="{DECOMPOSED}"', "model.name=tiny", out="third")
    assert "reused  finished before" in again.stdout
    assert len(place.cells()) == 4

    compared = place.opscore("compare", f"dataset={DECOMPOSED}", "experiment=mine")
    assert "tiny-Blüten-quantize_float16" in compared.stdout and "photos" not in compared.stdout, compared.stderr
    promoted = place.opscore("promote", "dataset=Blüten", "experiment=mine")
    assert "It is version 1 of opscore-Blüten now" in promoted.stdout, promoted.stderr
    pulled = place.opscore("pull", "dataset=Blüten", "out=pulled")
    assert pulled.returncode == 0 and "tiny-Blüten-" in pulled.stdout, pulled.stderr
    assert (place.folder / "pulled" / "labels.txt").read_text().splitlines() == CLASSES
    assert json.loads((place.folder / "second" / "tiny-Blüten-baseline" / "result.json").read_text())["model"] == "tiny"


def test_cell_whose_model_is_lost_is_made_again_renamed(place: Place) -> None:
    tags = "tags.technique = 'quantize_float16'"
    lost = [place.files(run) / "cell" / "model.tflite" for run in place.cells(tags)]
    kept = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    try:
        done = place.run(*overrides(place), "dataset.name=shoes", out="lost")
        assert done.returncode == 0, done.stdout + done.stderr
        (run,) = place.cells(f"{tags} and tags.dataset = 'shoes'")
        assert run.info.status == "FINISHED" and (place.files(run) / "cell" / "model.tflite").read_bytes() == kept[0]
    finally:
        for path, content in zip(lost, kept, strict=True):
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["dataset.name=a%b"], "dataset.name must be a name of letters, digits"),
        (["dataset.name=claim-1"], "set dataset.name=my-claim-1"),
        (["model.name='a/b'"], "got 'a/b': set model.name=a-b"),
    ],
)
def test_names_are_refused_before_anything_is_trained(place: Place, words: list[str], sentence: str) -> None:
    before = len(place.all())
    done = place.run(*overrides(place), *words, out="refused")
    assert done.returncode == 2 and sentence in done.stderr, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(place.all()) == before


def test_seeds_on_other_images_are_compared_separately(place: Place) -> None:
    path = place.folder / "photos.npz"
    before = path.read_bytes()
    with np.load(path) as arrays:
        other = dict(arrays)
    # The same path holds other images tomorrow.
    other |= {"x_test": other["x_test"][::-1][:300], "y_test": other["y_test"][::-1][:300]}
    np.savez(path, **other)
    try:
        done = place.run("dataset=npz", f"dataset.path={path}", "technique=baseline", "seed=1", out="other")
    finally:
        path.write_bytes(before)
    assert done.returncode == 0, done.stdout + done.stderr
    compared = place.opscore("compare", "dataset=photos", "experiment=mine")
    titles = re.findall(r"^photos \(images \w{8}\): \d cells?$", compared.stdout, re.MULTILINE)
    assert len(titles) == 2, compared.stdout + compared.stderr
    for low, high in re.findall(r"([-\d.]+)% to ([-\d.]+)%", compared.stdout):
        assert 0 <= float(low) <= float(high) <= 100
    # `promote` ranks none of them with the others, and gives filters that choose.
    refused = place.opscore("promote", "dataset=photos", "experiment=mine", "--dry-run")
    assert refused.returncode == 1 and "tested on different images and cannot be compared" in refused.stderr
    chosen = re.findall(r"--filter '(.*?)' \(", refused.stderr)
    one = place.opscore("compare", "dataset=photos", "experiment=mine", "--filter", chosen[0])
    assert one.returncode == 0 and re.search(r"^photos: \d cells?$", one.stdout, re.MULTILINE), one.stdout + one.stderr
