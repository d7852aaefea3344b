"""`opscore layers` on recorded cells."""

import json

import pytest

from pipelines.commands.layers import float_cell, measured
from pipelines.tracking.store import Store
from tests.places import Place

pytestmark = pytest.mark.slow

SMALL = ("dataset=digits", "model=small_cnn", "training.epochs=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("layers"))
    done = place.run(*SMALL, "technique=quantize_int8")
    assert done.returncode == 0, done.stderr
    return place


def test_quantized_cell_is_told_by_its_parents_file(place: Place) -> None:
    before = {run.info.run_id: run.data.tags for run in place.all()}
    runs = {run.info.run_name.rpartition("-")[2]: run.info.run_id for run in place.cells()}
    tables = {}
    for name, run in runs.items():
        done = place.opscore("layers", f"run={run}", "--out", name)
        assert done.returncode == 0, done.stderr
        assert "small_cnn-digits-baseline, one layer alone in 8 bits\n" in done.stdout
        tables[name] = json.loads((place.folder / name / "sensitivity.json").read_text())
    assert tables["baseline"] == tables["quantize_int8"]
    table = tables["baseline"]
    assert len(table["layer"]) == 6 and "head_logits" in table["layer"]
    assert table["snr_db"] == sorted(table["snr_db"]) and table["snr_db"][0] > 10
    assert f"{table['layer'][0]} " in done.stdout and f"{table['snr_db'][0]:.1f}" in done.stdout
    assert {path.name for path in (place.folder / "baseline").iterdir()} == {
        "sensitivity.json",
        "sensitivity.png",
        "model_explorer.json",
    }
    assert {run.info.run_id: run.data.tags for run in place.all()} == before, "nothing is recorded"


def test_images_that_have_changed_since_are_refused(place: Place) -> None:
    runs = {run.info.run_name: run.info.run_id for run in place.cells()}
    cell, finished = float_cell(Store.existing(place.uri, place.name), runs["small_cnn-digits-baseline"])
    with pytest.raises(
        ValueError, match="the images of digits must be those that small_cnn-digits-baseline was tested"
    ):
        measured(cell, finished, digest="of others")


def test_parent_is_found_after_a_change_of_code(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.cells.plan.code_digest", lambda *_: "changed")
    runs = {run.info.run_name: run.info.run_id for run in place.cells()}
    cell, _ = float_cell(Store.existing(place.uri, place.name), runs["small_cnn-digits-quantize_int8"])
    assert cell.name == "small_cnn-digits-baseline"


def test_a_run_is_named_by_its_link_and_a_sweep_is_told_apart(place: Place) -> None:
    sweep = place.client.create_run(place.experiment, tags={"sweep": "seed=0,1"}).info.run_id
    place.client.set_terminated(sweep)
    for name in (f"runs:/{sweep}", f"http://127.0.0.1:5000/#/experiments/1/runs/{sweep}"):
        done = place.opscore("layers", f"run={name}")
        assert done.returncode == 1 and f"{sweep} is the run of a sweep, not of a cell: name one of its" in done.stderr


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        ((), "run must be given", 2),
        (("run=0123456789abcdef0123456789abcdef",), "run must be the id of a finished cell in sqlite", 1),
        (("run=04f39bc9",), "run must be the whole id of a run, of 32 characters, got '04f39bc9'", 2),
        ((f"run={'0' * 32}", "tracking.uri=sqlite:///nowhere.db"), "there is no tracking store at sqlite:///", 2),
    ],
)
def test_what_is_no_cell_is_refused(words: tuple[str, ...], message: str, status: int, place: Place) -> None:
    done = place.opscore("layers", *words)
    assert done.returncode == status and message in done.stderr and "Traceback" not in done.stderr
