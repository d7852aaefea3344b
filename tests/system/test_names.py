import unicodedata
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pipelines.cells.cell import parts_of
from pipelines.cells.compose import cell_of
from pipelines.cells.plan import Plan
from pipelines.datasets.digits import Digits
from pipelines.datasets.npz import Npz
from pipelines.system.names import MAX_NAME_BYTES, check_classes, override, resolved, suggested
from tests.cells.test_config import composed

DECOMPOSED = unicodedata.normalize("NFD", "Blüten")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "photos"),
        ("", "photos"),
        ("shoes", "shoes"),
        ("my photos_2.1-a", "my photos_2.1-a"),
        (2024, "2024"),
        ("花", "花"),
        ("फूल", "फूल"),
        ("زهور", "زهور"),
        (DECOMPOSED, "Blüten"),
        ("n" * MAX_NAME_BYTES, "n" * MAX_NAME_BYTES),
    ],
)
def test_names_that_can_be_used_everywhere(given: object, name: str) -> None:
    assert resolved("dataset.name", given, "photos") == name


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ("a/b", "dataset.name=a-b"),
        ("a:b", "dataset.name=a-b"),
        ("it's", "dataset.name=it-s"),
        ("a%20b", "dataset.name=a-20b"),
        (" a ", "dataset.name=a"),
        ("a\nb", "dataset.name=a-b"),
        ("<b>$x$</b>", "dataset.name=b-x-b"),
        ("..", "dataset.name=my-own"),
        ("", "dataset.name=my-own"),
        ("🍕", "dataset.name=my-own"),
        ("true!", "dataset.name=my-true"),
        ("Blüten!", "'dataset.name=\"Blüten\"'"),
        (True, "dataset.name=my-True"),
        ("x" * 200, f"dataset.name={'x' * (MAX_NAME_BYTES // 2)}"),
        ("花" * 40, f"'dataset.name=\"{'花' * 15}\"'"),
    ],
)
def test_invalid_names_are_refused_with_a_valid_one(given: object, mend: str) -> None:
    with pytest.raises(ValueError, match=r"^dataset\.name must be ") as refused:
        resolved("dataset.name", given, str(given))
    assert str(refused.value).endswith(f": set {mend}")
    _, _, value = mend.strip("'").partition("=")
    assert resolved("dataset.name", value.strip('"'), "") == value.strip('"')


def test_a_file_gives_its_dataset_a_name_unless_another_is_given(tmp_path: Path) -> None:
    assert Npz(path=str(tmp_path / "shoes.npz")).name == "shoes"
    assert Npz(path=str(tmp_path / "sh/oes?.npz"), name="shoes").name == "shoes"
    with pytest.raises(ValueError, match=r"got 'oes\?' by default: set dataset\.name=oes$"):
        Npz(path=str(tmp_path / "sh/oes?.npz"))


@pytest.mark.parametrize("name", ["claim-1", "claim-"])
def test_a_dataset_cannot_have_the_name_of_a_claim(name: str) -> None:
    with pytest.raises(ValueError, match=r"set dataset\.name=my-claim"):
        Digits(name=name)
    assert suggested(name).startswith("my-claim") and override("dataset.name", name).isascii()


def test_other_names_are_the_same_cell_in_another_process_too() -> None:
    plain, named = composed(), composed("dataset.name=shoes", "model.name=tiny")
    assert named.name == "tiny-shoes-quantize_int8" and plain.name == "small_cnn-digits-quantize_int8"
    keys = {Plan.of(cell, lambda dataset: dataset.load().digest).result_key for cell in (plain, named)}
    assert len(keys) == 1
    assert cell_of(OmegaConf.create(parts_of(named))) == named
    assert cell_of(OmegaConf.create(parts_of(plain))).name == plain.name


@pytest.mark.parametrize(
    "name", ["a$b", "$\\frac$", "x^2_3", "100%", "a,b", "a|b", "<b>", '"q"', " a ", "花", "x" * 200]
)
def test_class_names_may_be_any_text_of_one_line(name: str) -> None:
    check_classes([name, "other"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", ""], "must not be blank, got '' for class number 1"),
        (["a", " "], "must not be blank"),
        (["a", "b\nc"], r"one line of plain text each, got 'b\\nc'"),
        (["a", "b\u2028c"], "one line"),
        (["a", "b\x00"], "one line"),
        (["a", "b\x1b[31m"], "one line"),
        (["a", "b\udcff"], "one line"),
        (["a", "a"], "must differ from each other, got 'a' twice"),
        (["Blüten", DECOMPOSED], "must differ"),
    ],
)
def test_classes_that_labels_txt_cannot_hold(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_classes(names)
