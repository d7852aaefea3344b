"""Promotion, rollback and pulling of real cells, against copies of one real store."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.entities import DatasetInput, Run

from pipelines.commands import promote, pull
from pipelines.litert.exported_model import ExportedModel
from pipelines.tracking.registry import Registry, model_name
from tests.conftest import small_data
from tests.places import ROOT, Place, logged_data

pytestmark = pytest.mark.slow

NAME = "opscore-digits"
BY = "filter=tags.technique = '{}' and params.`score.max_size_mb` = 'None'"
# The three cells that share the default profile; two more have another.
ALL = "filter=params.`score.max_size_mb` = 'None'"
Report = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with a baseline, two techniques from it, and the two again under a budget that they cannot keep."""
    place = Place(tmp_path_factory.mktemp("store"))
    # In one process, so that TensorFlow is loaded once.
    words = ["sweep.isolation=inline", "technique=quantize_float16,quantize_int8", "score.max_size_mb=null,0.001"]
    done = place.run("-m", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


class Copy:
    """The store's database, to be changed; artifacts are shared with all other copies."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        mlflow.set_tracking_uri(self.uri)
        # The command gives its whole process the registry of its own store.
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        (self.experiment,) = [one for one in self.client.search_experiments() if one.name == "mine"]

    def run(self, technique: str, budget: str = "None") -> Run:
        (found,) = [
            run
            for run in self.client.search_runs([self.experiment.experiment_id])
            if run.data.tags.get("technique") == technique and run.data.params["score.max_size_mb"] == budget
        ]
        return found

    def aliases(self) -> dict[str, str]:
        """Runs by alias."""
        model = self.client.get_registered_model(NAME)
        return {
            alias: str(self.client.get_model_version(NAME, number).run_id) for alias, number in model.aliases.items()
        }

    def versions(self) -> dict[str, dict[str, str]]:
        """Tags by version number."""
        return {str(one.version): one.tags for one in self.client.search_model_versions(f"name = '{NAME}'")}

    def state(self) -> Any:
        """All that promoting could change."""
        models = [(one.name, one.aliases, one.description) for one in self.client.search_registered_models()]
        versions = [(one.version, one.tags, one.description) for one in self.client.search_model_versions()]
        runs = [run.to_dictionary() for run in self.client.search_runs([self.experiment.experiment_id])]
        return models, versions, runs, [one.name for one in self.client.search_experiments()]

    def clone(self, run: Run, folder: Path, *, change: Callable[[Path], dict[str, float]], **tags: str) -> str:
        """A finished run like `run`, without a model, with other tags; `change` alters its files and gives metrics."""
        tags = run.data.tags | tags | {"mlflow.runName": "clone"}
        run_id: str = self.client.create_run(self.experiment.experiment_id, tags=tags).info.run_id
        cell = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="cell"))
        shutil.copytree(cell, folder / "cell")
        for key, number in (run.data.metrics | change(folder / "cell")).items():
            self.client.log_metric(run_id, key, number)
        for key, value in run.data.params.items():
            self.client.log_param(run_id, key, value)
        self.client.log_artifacts(run_id, str(folder / "cell"), "cell")
        self.client.log_inputs(run_id, [DatasetInput(one.dataset, one.tags) for one in logged_data(run)])
        self.client.set_terminated(run_id, "FINISHED")
        return run_id


@pytest.fixture
def copy(trained: Place, tmp_path: Path) -> Copy:
    shutil.copy(trained.folder / "mlflow.db", tmp_path)
    return Copy(tmp_path)


@pytest.fixture
def said(copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    """What a command says in this process. fails: that it must end with status 1 or 2, and say why."""

    def command(main: Callable[[], None], *words: str, fails: bool = False) -> str:
        given = [*words, "dataset=digits", f"tracking.uri={copy.uri}"]
        given += ["experiment=mine"] if main is promote.main and "rollback" not in words else []
        monkeypatch.setattr(sys, "argv", ["command", *given])
        if fails:
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code in (1, 2)
            return refusal(capsys)
        main()
        return capsys.readouterr().out

    return command


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """What a command ended with on stderr."""
    _, found, said = capsys.readouterr().err.rpartition("opscore: ")
    assert found
    return said.removesuffix("\n")


def test_the_best_cell_becomes_champion_with_its_reasons(copy: Copy, said: Report) -> None:
    out = said(promote.main, ALL)
    assert "3 candidates for opscore-digits" in out and "It is version 1 of opscore-digits now, the champion." in out
    cells = [copy.run(technique) for technique in ("baseline", "quantize_int8", "quantize_float16")]
    best = max(cells, key=lambda run: run.data.metrics["score/operational"])
    assert copy.aliases() == {"champion": best.info.run_id}
    tags = copy.versions()["1"]
    for name in ("operational", "accuracy_db", "size_db", "test_time_db", "train_time_db"):
        assert float(tags[f"score/{name}"]) == pytest.approx(best.data.metrics[f"score/{name}"], abs=1e-3)
    for gate in ("effect", "learnt", "feasible", "score", "accuracy"):
        assert tags[f"gate/{gate}"].startswith("passed: ")
    others = {run.info.run_id for run in cells} - {best.info.run_id}
    assert set(tags["compared_runs"].split(",")) == others
    digests = [one.dataset.digest for one in logged_data(best) if one.tags[0].value == "testing"]
    assert [tags["data_digest"]] == digests
    exported_model = mlflow.artifacts.download_artifacts(run_id=best.info.run_id, artifact_path="cell/model.tflite")
    assert tags["artifact_sha256"] == hashlib.sha256(Path(exported_model).read_bytes()).hexdigest()
    version = copy.client.get_model_version(NAME, "1")
    assert str(best.info.run_name) in str(version.description) and version.run_id == best.info.run_id


def test_promoting_again_has_nothing_to_do(copy: Copy, said: Report) -> None:
    said(promote.main, ALL)
    before = copy.state()
    out = said(promote.main, ALL)
    assert "Nothing to do: version 1" in out
    # What did not pass, and where, is shown all the same.
    assert re.search(r"small_cnn-digits-baseline .* score +[\d.]+ dB against", out)
    assert copy.state() == before


def test_better_cell_replaces_champion_and_rollback_undoes_it(copy: Copy, said: Report) -> None:
    first, second = copy.run("baseline").info.run_id, copy.run("quantize_int8").info.run_id
    said(promote.main, BY.format("baseline"))
    out = said(promote.main, BY.format("quantize_int8"))
    assert "It is version 2 of opscore-digits now, the champion, version 1 is previous." in out
    assert copy.aliases() == {"champion": second, "previous": first}
    tags = copy.versions()["2"]
    assert tags["replaced"] == f"version 1, run {first}"
    assert re.search(r"9\d\.\d\d dB against 8\d\.\d\d dB|dB against", tags["gate/score"])
    assert "95% interval of the difference" in tags["gate/accuracy"]
    before = copy.state()
    assert "Dry run: version 1 of opscore-digits would be champion" in said(promote.main, "rollback", "--dry-run")
    assert copy.state() == before
    assert "Version 1 of opscore-digits is champion again" in said(promote.main, "rollback")
    assert copy.aliases() == {"champion": first, "previous": second}
    # Promoted again it is the version that it was.
    assert "It is version 2 of opscore-digits now" in said(promote.main, ALL)
    assert copy.aliases() == {"champion": second, "previous": first}
    assert set(copy.versions()) == {"1", "2"}


def test_dry_run_shows_everything_and_changes_nothing(copy: Copy, said: Report) -> None:
    before = copy.state()
    out = said(promote.main, "--dry-run", ALL)
    assert "passes all gates" in out and "nothing was changed" in out
    assert copy.state() == before
    said(promote.main, BY.format("baseline"))
    before = copy.state()
    assert "in the place of version 1; nothing was changed" in said(promote.main, ALL, "--dry-run")
    assert copy.state() == before


def test_nothing_feasible_shows_the_nearest_misses(copy: Copy, said: Report) -> None:
    message = said(promote.main, "filter=params.`score.max_size_mb` = '0.001'", fails=True)
    assert "none of the candidates for opscore-digits passes all gates" in message
    assert "is above its budget 0.001" in message
    assert not copy.client.search_registered_models()
    # Not even beside a champion that was scored by another profile.
    said(promote.main, ALL)
    assert message == said(promote.main, "filter=params.`score.max_size_mb` = '0.001'", fails=True)


def test_what_cannot_be_compared_is_refused_in_one_sentence(
    copy: Copy, said: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    message = said(promote.main, fails=True)
    assert "the 5 cells were scored by different profiles" in message
    assert "params.`score.max_size_mb` = '0.001'" in message and "\n" not in message
    for words, expected in (
        (["filter=nonsense"], "must be one of MLflow's"),
        (["filter=tags.model = 'vgg16'"], "no finished cell"),
        (["sweep=nonsense"], "must be the run of a sweep"),
        (["margin=2"], "margin must be a fraction"),
        (["margin=much"], "margin must be a fraction"),
        (["experiment=other"], "got 'other', which is not in"),
        (["dataset=a/b"], "got 'a/b'"),
        (["dataset=claim-1"], "got 'claim-1'"),
        (["tracking.uri=sqlite:////nowhere/mlflow.db"], "no tracking store at"),
        (["rollback"], "has no version in sqlite:"),
    ):
        changed = [word.partition("=")[0] for word in words]
        if set(changed) & {"experiment", "dataset", "tracking.uri"}:
            # The last one that is given counts.
            given = [f"tracking.uri={copy.uri}", "experiment=mine", "dataset=digits", *words]
            message = _ended(promote.main, given, capsys)
        else:
            message = said(promote.main, *words, fails=True)
        assert expected in message, message
    assert not copy.client.search_registered_models()
    assert [one.name for one in copy.client.search_experiments()] == ["mine", "Default"]


def _ended(main: Callable[[], None], words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["command", *words])
        main()
    assert ended.value.code == 2
    return refusal(capsys)


def test_the_newest_sweep_can_be_chosen(copy: Copy, said: Report) -> None:
    # The baseline was run for the sweep's cells, and is none of them.
    assert "2 candidates" in said(promote.main, "sweep=last", ALL, "--dry-run")
    assert "the 4 cells were scored by different profiles" in said(promote.main, "sweep=last", fails=True)


def test_an_accuracy_that_fell_is_refused_whatever_the_score(copy: Copy, said: Report, tmp_path: Path) -> None:
    said(promote.main, BY.format("baseline"))
    champion = copy.run("baseline")

    def worse(cell: Path) -> dict[str, float]:
        """40 right answers become wrong, and the score far too good."""
        result = json.loads((cell / "result.json").read_text())
        result["measurement"]["correct"] -= 40
        (cell / "result.json").write_text(json.dumps(result))
        with np.load(cell / "predictions.npz") as arrays:
            logits = arrays["logits"]
        data, _ = small_data()
        right = np.flatnonzero(logits.argmax(axis=1) == data.test.labels)[:40]
        logits[right] = np.roll(logits[right], 1, axis=1)
        np.savez(cell / "predictions.npz", logits=logits)
        return {"score/operational": 200.0}

    clone = copy.clone(
        copy.run("quantize_int8"), tmp_path, change=worse, technique="worse", fingerprint="f", hardware="another"
    )
    message = said(promote.main, BY.format("worse"), fails=True)
    assert re.search(r"clone +0 +" + clone[:8] + r" +200\.00 +accuracy ", message), message
    assert copy.aliases() == {"champion": champion.info.run_id}
    # The next best is promoted, and the version says that hardware was mixed.
    out = said(promote.main, ALL)
    assert "With better scores, but refused:" in out and "Note: measured on different hardware (" in out
    assert copy.aliases()["champion"] != clone
    assert "another" in copy.versions()["2"]["hardware_note"]


def test_claims_are_left_alone(copy: Copy, said: Report) -> None:
    copy.client.create_registered_model("opscore-claim-0123-0", tags={"process": "somebody"})
    said(promote.main, ALL)
    said(promote.main, BY.format("baseline"), "margin=0.5", "--dry-run", fails=True)
    claim = copy.client.get_registered_model("opscore-claim-0123-0")
    assert claim.tags == {"process": "somebody"} and not claim.aliases


@pytest.mark.parametrize("broken_at", [1, 2])
def test_interrupted_promotion_keeps_a_champion(
    copy: Copy, said: Report, monkeypatch: pytest.MonkeyPatch, broken_at: int
) -> None:
    said(promote.main, BY.format("baseline"))
    first, second = copy.run("baseline").info.run_id, copy.run("quantize_int8").info.run_id
    calls = 0
    whole = MlflowClient.set_registered_model_alias

    def breaks(self: MlflowClient, *arguments: str) -> None:
        nonlocal calls
        calls += 1
        if calls == broken_at:
            raise MlflowException("the store is gone")
        whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", breaks)
        assert "the store is gone" in said(promote.main, BY.format("quantize_int8"), fails=True)
    assert copy.aliases()["champion"] == first
    said(promote.main, BY.format("quantize_int8"))
    assert copy.aliases() == {"champion": second, "previous": first}
    assert set(copy.versions()) == {"1", "2"}


def two_versions(copy: Copy, said: Report) -> tuple[str, str]:
    """The runs of version 1, which is previous, and of version 2, which is champion."""
    said(promote.main, BY.format("baseline"))
    said(promote.main, BY.format("quantize_int8"))
    return copy.run("baseline").info.run_id, copy.run("quantize_int8").info.run_id


def pasted(message: str, copy: Copy, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the command that a sentence offers does in bash."""
    (command,) = re.findall(r"`([^`]*)`", message)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "TF_"))}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["MLFLOW_TRACKING_URI"] = copy.uri
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_a_champion_whose_version_was_deleted_is_rolled_back(copy: Copy, said: Report) -> None:
    first, _ = two_versions(copy, said)
    copy.client.delete_model_version(NAME, "2")
    before = copy.state()
    out = said(promote.main, "rollback", "--dry-run")
    assert "version 1 of opscore-digits would be champion and none previous, as the champion's was deleted" in out
    assert copy.state() == before
    assert "where there is previous: return with `python -m pipelines.promote rollback dataset=digits`" in said(
        pull.main, fails=True
    )
    assert "Version 1 of opscore-digits is champion again, none is previous" in said(promote.main, "rollback")
    assert copy.aliases() == {"champion": first}
    assert "got none, where there is version 1 and 1 is the champion: promote a second one first" in said(
        promote.main, "rollback", fails=True
    )


def test_rollback_without_previous_lists_the_versions(copy: Copy, said: Report, tmp_path: Path) -> None:
    first, second = two_versions(copy, said)
    said(promote.main, BY.format("quantize_float16"), "--anew")
    third = copy.run("quantize_float16").info.run_id
    assert copy.aliases() == {"champion": third, "previous": second}
    copy.client.delete_model_version(NAME, "2")
    message = said(promote.main, "rollback", fails=True)
    assert "got none, where there are versions 1, 3 and 3 is the champion" in message
    assert pasted(message, copy, tmp_path).returncode == 0
    assert copy.aliases() == {"champion": first, "previous": third}
    for number, expected in (("2", "must be one of 1, 3, got 2"), ("1", "another than the champion's"), ("x", "got x")):
        assert expected in said(promote.main, "rollback", f"version={number}", fails=True)
    # The champion is deleted as well, so that none has an alias but previous.
    copy.client.delete_model_version(NAME, "1")
    said(promote.main, "rollback")
    assert copy.aliases() == {"champion": third}


def test_without_any_alias_a_version_can_be_named(copy: Copy, said: Report, tmp_path: Path) -> None:
    first, second = two_versions(copy, said)
    for alias in ("champion", "previous"):
        copy.client.delete_registered_model_alias(NAME, alias)
    message = said(promote.main, "rollback", fails=True)
    assert "where there are versions 1, 2 and no champion" in message
    copy.client.set_registered_model_alias(NAME, "previous", "1")
    assert pasted(message, copy, tmp_path).returncode == 0
    # Another than previous was asked for, which stays what it is.
    assert copy.aliases() == {"champion": second, "previous": first}


def test_a_deleted_model_is_registered_again(copy: Copy, said: Report) -> None:
    two_versions(copy, said)
    copy.client.delete_registered_model(NAME)
    message = said(promote.main, "rollback", fails=True)
    assert "has no version in" in message and "`python -m pipelines.promote dataset=digits`" in message
    assert "there is none" in said(pull.main, fails=True)
    assert "It is version 1 of opscore-digits now" in said(promote.main, ALL)


def test_a_version_whose_artifact_is_lost_is_not_returned_to(copy: Copy, said: Report) -> None:
    two_versions(copy, said)
    before = copy.aliases()
    place = Path(copy.client.get_model_version_download_uri(NAME, "1").removeprefix("file://"))
    (exported_model,) = place.rglob("model.tflite")
    try:
        exported_model.rename(exported_model.with_suffix(".away"))
        message = said(promote.main, "rollback", fails=True)
    finally:
        exported_model.with_suffix(".away").rename(exported_model)
    assert "the artifact of version 1 of opscore-digits is lost" in message and "version=2`" in message
    assert copy.aliases() == before


def test_a_lost_champion_can_be_restored_left_or_replaced(copy: Copy, said: Report, tmp_path: Path) -> None:
    first, second = two_versions(copy, said)
    copy.client.delete_run(second)
    message = said(promote.main, BY.format("quantize_float16"), fails=True)
    assert "the champion, is lost" in message and "\n" not in message
    # One may do without the run: to return, and to fetch what is in operation.
    assert "SHA-256 verified" in said(pull.main, f"out={tmp_path / 'pulled'}")
    said(promote.main, "rollback")
    assert copy.aliases() == {"champion": first, "previous": second}
    said(promote.main, "rollback")
    # Or replace it.
    out = said(promote.main, BY.format("quantize_float16"), "--anew", "--dry-run")
    assert "in the place of version 2; nothing was changed" in out
    # Or bring it back.
    assert pasted(message, copy, tmp_path).returncode == 0
    assert "Traceback" not in said(promote.main, BY.format("quantize_int8"))
    assert "It is version 3" in said(promote.main, BY.format("quantize_float16"), "--anew")
    assert copy.aliases() == {"champion": copy.run("quantize_float16").info.run_id, "previous": second}


def test_the_champion_is_served_by_mlflow(copy: Copy, said: Report) -> None:
    said(promote.main, ALL)
    data, _ = small_data()
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    answer = model.predict(data.test.images)
    right = answer["class"] == np.array(data.class_names)[data.test.labels]
    run = copy.client.get_run(copy.aliases()["champion"])
    assert right.mean() == run.data.metrics["test/accuracy"]


@pytest.mark.parametrize("technique", ["quantize_int8", "quantize_float16"])
def test_what_is_pulled_runs_as_its_card_says(
    copy: Copy,
    said: Report,
    tmp_path: Path,
    technique: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said(promote.main, BY.format(technique))
    out = tmp_path / "deep" / "pulled"
    printed = said(pull.main, f"out={out}")
    assert "SHA-256 verified" in printed
    assert {path.name for path in out.iterdir()} == {"model.tflite", "labels.txt", "MODEL_CARD.md"}
    assert [path.name for path in out.parent.iterdir()] == ["pulled"]
    run = copy.run(technique)
    digest = hashlib.sha256((out / "model.tflite").read_bytes()).hexdigest()
    card = (out / "MODEL_CARD.md").read_text()
    m = run.data.metrics
    accuracy = f"{m['test/accuracy']:.2%}, 95% interval"
    for text in (digest, run.info.run_id, run.data.tags["hardware"].split(",")[0], accuracy, "limit_train=300",
                 "8 x 8 x 3", "random weights", "nobody else's licence", "240", "latency against the baseline's",
                 f"{m['score/operational']:.2f} dB", copy.versions()["1"]["data_digest"]):  # fmt: skip
        assert text in card, text
    assert "=None" not in card and "_target_" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(code.splitlines()) == 6
    data, _ = small_data()
    monkeypatch.chdir(out)
    shown = []
    for image in data.test.images[:20]:
        exec(code, {"image": image})
        shown.append(capsys.readouterr().out.strip())
    logits = ExportedModel(out / "model.tflite").logits(data.test.images[:20])
    assert shown == [data.class_names[number] for number in logits.argmax(axis=1)]


def test_an_earlier_pull_is_written_over_and_nothing_else(copy: Copy, said: Report, tmp_path: Path) -> None:
    said(promote.main, BY.format("baseline"))
    out = tmp_path / "pulled"
    out.mkdir()
    said(pull.main, f"out={out}")
    before = (out / "model.tflite").read_bytes()
    said(promote.main, BY.format("quantize_int8"))
    said(pull.main, f"out={out}")
    assert (out / "model.tflite").read_bytes() != before
    said(pull.main, f"out={out}", "alias=previous")
    assert (out / "model.tflite").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    assert "got " in (message := said(pull.main, f"out={out}", fails=True)) and "notes.txt" in message
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.tflite").write_text("mine")
    assert "model.tflite" in said(pull.main, f"out={other}", fails=True)
    assert (other / "model.tflite").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    assert "new or empty folder" in said(pull.main, f"out={tmp_path / 'file'}", fails=True)
    assert "got 'best' where there is champion, previous" in said(
        pull.main, f"out={tmp_path / 'none'}", "alias=best", fails=True
    )
    assert not (tmp_path / "none").exists()


def test_a_tampered_artifact_is_refused(copy: Copy, said: Report, tmp_path: Path) -> None:
    said(promote.main, ALL)
    version = Registry(copy.uri).aliased(NAME, "champion")
    assert version is not None
    place = copy.client.get_model_version_download_uri(NAME, version.number).removeprefix("file://")
    (exported_model,) = Path(place).rglob("model.tflite")
    content = exported_model.read_bytes()
    try:
        exported_model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        message = said(pull.main, f"out={tmp_path / 'pulled'}", fails=True)
    finally:
        exported_model.write_bytes(content)
    assert "it is not the one that was promoted" in message and "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_download_that_breaks_off_leaves_nothing_behind(
    copy: Copy, said: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(promote.main, ALL)

    def breaks(self: Registry, name: str, version: object, folder: Path) -> Path:
        (folder / "model.tflite").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "download", breaks)
    with pytest.raises(SystemExit, match="130"):
        said(pull.main, f"out={tmp_path / 'pulled'}")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_the_commands_themselves_without_tensorflow(copy: Copy, tmp_path: Path) -> None:
    for package in ("tensorflow", "tf_keras"):
        (tmp_path / "stubs" / package).mkdir(parents=True)
        (tmp_path / "stubs" / package / "__init__.py").write_text("raise SystemExit('TensorFlow was imported')")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {
        "MLFLOW_TRACKING_URI": copy.uri,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "stubs"), str(ROOT)]),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    done = run("pipelines.promote", "dataset=digits", "experiment=mine", "--dry-run")
    assert done.returncode == 1 and "different profiles" in done.stderr and "Traceback" not in done.stderr
    done = run("pipelines.promote", "dataset=digits", "experiment=mine", ALL)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    done = run("pipelines.pull", "dataset=digits")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / NAME / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("dataset", ["digits", "my photos_2.1-a", "Blüten"])
def test_names_that_can_be_registered(dataset: str) -> None:
    assert model_name(dataset) == f"opscore-{dataset}"


@pytest.mark.parametrize("dataset", ["a/b", "a:b", "it's", "a@b", "a%20b", "a?b", "claim-x", "a\nb"])
def test_names_that_cannot(dataset: str) -> None:
    with pytest.raises(ValueError, match="run its cells once more with"):
        model_name(dataset)
