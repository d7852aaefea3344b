"""The training time of cells whose model comes trained, by hand and through the command."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from pipelines.execution.job import Job
from pipelines.execution.sweep_table import summary_of
from pipelines.results.folder import CellFiles, Finished
from pipelines.results.outcome import Outcome
from pipelines.tracking.tags import TRAINED_ON
from tests.cells.test_config import composed
from tests.conftest import small_data
from tests.places import Place
from tests.results.test_summary import RESULT

OWN = "model._target_=tests.own_models.Trained"


def total_s(trained_for: float | None, own_s: float, **needed: float | None) -> float | None:
    """Of a cell with `own_s` of its own training. needed: the totals of the cells that it needs, by role."""
    cell = composed(
        "technique=quantize_int8", OWN, f"+model.trained_for={'null' if trained_for is None else trained_for}"
    )
    files = CellFiles(Path())

    def finished(seconds: float | None) -> Finished:
        timing = dataclasses.replace(RESULT.timing, train_total_s=seconds)
        return Finished(result=dataclasses.replace(RESULT, timing=timing), files=files)

    job = Job(
        cell=cell,
        data=small_data()[0],
        files=files,
        fingerprint="",
        needed={role: finished(seconds) for role, seconds in needed.items()},
        on_epoch=lambda *_: None,
        report=print,
    )
    return job._train_total_s(own_s)


@pytest.mark.parametrize(
    ("trained_for", "needed", "expected"),
    [
        (3600.0, {}, 3605.0),
        (0.0, {}, 5.0),
        # A parent's total holds the 3600 s already.
        (3600.0, {"parent": 3600.0, "baseline": 3600.0}, 3605.0),
        (3600.0, {"source": 40.0, "baseline": 3600.0}, 3645.0),
        (3600.0, {"parent": 3600.0, "source": 40.0}, 3645.0),
        (None, {}, None),
        (None, {"parent": None}, None),
        (0.0, {"source": None, "baseline": 7.0}, None),
    ],
)
def test_total_of_all_training(
    trained_for: float | None, needed: dict[str, float | None], expected: float | None
) -> None:
    assert total_s(trained_for, 5.0, **needed) == expected


@pytest.mark.slow
def test_training_times_of_two_machines_are_not_compared(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.run("technique=baseline").returncode == 0
    (baseline,) = place.cells()
    # As if another machine with this store had trained it.
    (record,) = tmp_path.glob(f"artifacts/{baseline.info.run_id}/artifacts/cell/result.json")
    told = json.loads(record.read_text())
    here, told["timing"]["trained_on"] = told["timing"]["trained_on"], "a GPU"
    record.write_text(json.dumps(told))
    place.client.set_tag(baseline.info.run_id, TRAINED_ON, "a GPU")
    done = place.run("technique=qat", "training.fine_tuning_epochs=1", out="qat")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The same machines did not train it and its baseline" in " ".join(done.stdout.split())
    (qat,) = place.cells("tags.technique = 'qat'")
    # Both trainings led to it.
    assert here and qat.data.tags[TRAINED_ON] == "; ".join(sorted(["a GPU", here]))
    assert not {"baseline/train_ratio", "score/gain_train_time_db"} & qat.data.metrics.keys()
    assert qat.data.metrics["time/train_total_s"] > baseline.data.metrics["time/train_total_s"]
    compared = place.opscore("compare", f"experiment={place.name}")
    assert "The cells were trained on different machines (" in " ".join(compared.stdout.split())


def test_sweep_notes_unknown_training_times() -> None:
    known = {"score/operational": 50.0, "time/train_total_s": 1.0}
    given = [known, {"score/operational": 60.0}, {}]
    outcomes = [
        Outcome(
            number=at, name=f"c{at}", overrides=(), status="done" if metrics else "failed", seconds=1, metrics=metrics
        )
        for at, metrics in enumerate(given)
    ]
    sentence = "The training time of 1 of 2 cells is unknown, so their scores leave it out"
    assert sentence in summary_of(outcomes, {})
    assert "unknown" not in summary_of([outcomes[0], outcomes[2]], {})


@pytest.mark.slow
def test_cells_of_a_model_of_unknown_time(tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place.run("technique=quantize_float16", OWN, "model.name=mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training for" not in done.stdout and "Traceback" not in done.stderr
    assert len(re.findall(r"^training time +unknown +unknown$", done.stdout, re.M)) == 1
    again = place.run("technique=quantize_int8", OWN, "model.name=mine", "score.max_train_s=9", out="budget")
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"mine-digits-baseline: .*, training time unknown, reused\n", again.stdout)
    assert "Not feasible: training time in s is unknown" in again.stdout
    for run in place.cells():
        assert run.data.metrics["time/train_s"] == 0
        assert not {"time/train_total_s", "score/train_time_db", "score/gain_train_time_db"} & run.data.metrics.keys()
        parts = [run.data.metrics[f"score/{name}_db"] for name in ("accuracy", "size", "test_time")]
        assert run.data.metrics["score/operational"] == pytest.approx(sum(parts))
        assert "training time unknown" in run.data.tags["mlflow.note.content"]

    stated = place.run("technique=quantize_float16", OWN, "+model.trained_for=3600", "model.name=known", out="stated")
    assert stated.returncode == 0, stated.stdout + stated.stderr
    known = place.cells("tags.model = 'known'")
    assert [run.data.metrics["time/train_total_s"] for run in known] == [3600.0, 3600.0]
    assert len(known) == 2

    by = "filter=params.`score.max_train_s` = 'None'"
    compared = place.opscore("compare", "dataset=digits", "experiment=mine", by)
    assert compared.returncode == 0, compared.stderr
    assert "The training time of 2 of 4 runs (mine) is unknown" in " ".join(compared.stdout.split())
    written = place.opscore("report", "dataset=digits", "experiment=mine", by)
    assert written.returncode == 0, written.stderr
    (page,) = place.folder.rglob("report.html")
    assert "The training time of 2 of 4 runs (mine) is unknown" in page.read_text()


@pytest.mark.slow
def test_a_chain_shares_the_training_of_its_baseline(tmp_path: Path) -> None:
    """Its fine-tuning is certainly more training, as that of its first step alone is."""
    place = Place(tmp_path)
    done = place.run("technique=cluster_quantize_int8", "training.epochs=4", "training.fine_tuning_epochs=2")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = {run.data.tags["technique"]: run.data.metrics for run in place.cells()}
    base, cluster, chain = (runs[name] for name in ("baseline", "cluster", "cluster_quantize_int8"))
    assert "time/train_shared_s" not in base
    for metrics in (cluster, chain):
        assert metrics["time/train_shared_s"] == base["time/train_total_s"]
        assert metrics["baseline/train_ratio_low"] > 1
    assert chain["time/train_s"] == 0 and chain["time/train_total_s"] == cluster["time/train_total_s"]
    for name in ("", "_low", "_high"):
        assert chain[f"baseline/train_ratio{name}"] == pytest.approx(cluster[f"baseline/train_ratio{name}"])
