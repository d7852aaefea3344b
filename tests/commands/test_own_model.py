"""A trained Keras 3 model from a file, through the command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel, tensor_dtypes
from tests.conftest import small_data
from tests.models.test_keras_attention import OWN
from tests.places import BRIEFLY, SMALL, Place, called, child_environment

pytestmark = pytest.mark.slow


def model(*middle: Any) -> Any:
    """A network for digits that expects numbers from 0 to 1."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same", activation="relu", strides=2),
            *middle,
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def accuracy_of_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A file with a trained model, and its accuracy on the test images by Keras."""
    import keras

    keras.utils.set_random_seed(0)
    data, _ = small_data()
    trained = model()
    trained.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    trained.fit(data.train.images / 255.0, data.train.labels, batch_size=16, epochs=25, verbose=0)
    answers = trained.predict(data.test.images / 255.0, verbose=0).argmax(axis=1)
    path = tmp_path_factory.mktemp("file") / "shoes.keras"
    trained.save(path)
    return path, float((answers == data.test.labels).mean())


@pytest.fixture(scope="module")
def path(accuracy_of_file: tuple[Path, float]) -> Path:
    return accuracy_of_file[0]


@pytest.fixture(scope="module")
def place(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with a sweep over the file."""
    place = Place(tmp_path_factory.mktemp("store"))
    done = place.run("-m", *of(path), "technique=baseline,quantize_int8,cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def of(path: Path) -> list[str]:
    return ["model=keras_file", f"model.path={path}", "model.pixels=0..1"]


def test_sweep_over_a_file(place: Place, accuracy_of_file: tuple[Path, float]) -> None:
    cells = {run.info.run_name: run for run in place.cells()}
    assert set(cells) == {f"shoes-digits-{technique}" for technique in ("baseline", "quantize_int8", "cluster")}
    assert {run.info.status for run in cells.values()} == {"FINISHED"}
    baseline = cells["shoes-digits-baseline"]
    accuracy = accuracy_of_file[1]
    assert accuracy > 0.8
    assert abs(baseline.data.metrics["test/accuracy"] - accuracy) <= 0.0101
    assert cells["shoes-digits-quantize_int8"].data.metrics["test/accuracy"] > accuracy - 0.05
    # It is unknown, and neither 0 nor that of the fine-tuning alone.
    assert not [run for run in cells.values() if "time/train_total_s" in run.data.metrics]
    assert not place.client.get_metric_history(baseline.info.run_id, "train/val_accuracy")
    assert place.client.get_metric_history(cells["shoes-digits-cluster"].info.run_id, "train/val_accuracy")


def test_exported_baseline_is_the_file(place: Place, path: Path) -> None:
    import keras

    data, _ = small_data()
    run = place.runs()["shoes-digits-baseline"]
    logits = ExportedModel(place.files(run) / "cell" / "model.tflite").logits(data.test.images)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    want = keras.saving.load_model(path).predict(data.test.images / 255.0, verbose=0)
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), want, atol=1e-4)


def test_pixels_that_fit_better_are_named(path: Path, tmp_path: Path) -> None:
    """A network that was trained on 0..1 is right far more often than by chance on other pixels, too."""
    place, wrong = Place(tmp_path), [one.replace("0..1", "-1..1") for one in of(path)]
    words = ["technique=baseline", "dataset.limit_train=null", "dataset.validation_fraction=0.3"]
    done = place.run(*wrong, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "if it gets their pixels as 0..1: set model.pixels=0..1" in " ".join(done.stdout.split())
    right = place.run(*of(path), *words, out="right")
    assert right.returncode == 0 and "set model.pixels" not in right.stdout


def test_file_may_be_fine_tuned_first(path: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place.run(*of(path), "technique=baseline", "model.trained=false", "model.name=mine")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = place.cells()
    assert run.info.run_name == "mine-digits-baseline"
    assert len(place.client.get_metric_history(run.info.run_id, "train/val_accuracy")) == 2
    assert run.data.metrics["time/train_s"] > 0
    # What is rehearsed first, with few images and no training, has steps and a baseline all the same.
    donor = ("dataset@technique.source.dataset=digits", "technique.source.dataset.max_shift=1")
    for words in (("technique=prune", "technique.epochs=1"), ("technique=layer_transfer", *donor)):
        done = place.run(*of(path), "model.trained=false", *words, out=words[0])
        assert done.returncode == 0, done.stdout + done.stderr


def test_stated_seconds_count_and_answers_by_chance_are_reported(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(0)
    path = tmp_path / "random.keras"
    model().save(path)
    place = Place(tmp_path)
    done = place.run(*of(path), "technique=baseline", "model.trained_s=60")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = place.cells()
    assert run.data.metrics["time/train_total_s"] == 60
    text = " ".join(done.stdout.split())
    assert "no better than always answering" in text
    assert "model.pixels" in text and "model.class_names" in text


def test_layer_that_is_not_taken_fails_before_training(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "odd.keras"
    odd = keras.layers.UpSampling2D(interpolation="bicubic", name="enlarge")
    model(odd).save(path)
    place = Place(tmp_path)
    done = place.run(*of(path), "technique=cluster")
    assert done.returncode != 0
    text = " ".join((done.stdout + done.stderr).split())
    assert "layer enlarge of kind UpSampling2D" in text, text[-1500:]
    assert not [run for run in place.cells() if run.info.status == "FINISHED"]


def test_network_that_cannot_be_saved_fails_before_training(tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place.run("model._target_=tests.own_models.Unsaved", "technique=baseline", "training.mixed_precision=false")
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and "training for" not in text, text
    assert "Keras must be able to save layer scaled of kind Scaled, got NotImplementedError" in text
    assert "give its class a get_config()" in text


def test_number_of_answers_is_refused_at_once(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "three.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(path)
    place = Place(tmp_path)
    done = place.run(*of(path), "technique=baseline")
    assert done.returncode != 0
    assert "got 3 in" in " ".join(done.stderr.split()) and "10 classes" in " ".join(done.stderr.split())
    assert not place.cells()


def test_rehearsal_finds_what_a_technique_does_not_take(tmp_path: Path) -> None:
    import keras

    layers = keras.layers
    path = tmp_path / "no_head.keras"
    normalized = layers.LayerNormalization(epsilon=1e-6)
    pooled = [layers.Conv2D(10, 3), normalized, layers.GlobalAveragePooling2D(), layers.Softmax()]
    keras.Sequential([keras.Input((8, 8, 3)), *pooled]).save(path)
    place = Place(tmp_path)
    done = place.run(*of(path), "technique=transfer")
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1 and "training for" not in text
    assert "failed: transfer needs dense layers behind a pooling or flattening layer" in text
    # The same is known without a run.
    own = tmp_path / "own" / "technique" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: pipelines.techniques.baseline.Baseline\n")
    steps = "defaults: [prune@steps.prune, cluster@steps.cluster, _self_]\n"
    own.with_name("undoing.yaml").write_text(f"{steps}_target_: pipelines.techniques.base.Chain\n")
    asked = "baseline,cluster,cqat,mine,prune,prune_filters,qat,quantize_int16x8,quantize_mixed,transfer,undoing"
    folder = ["--config-dir", "own"]
    command = [
        "pipelines",
        "run",
        "--info",
        "compatibility",
        *folder,
        *of(path),
        "dataset=digits",
        f"technique={asked}",
    ]
    shown = called(*command, cwd=tmp_path, variables=child_environment(place.uri)).stdout
    lines = dict(
        line.split(maxsplit=1)
        for line in shown.splitlines()
        if line.startswith(("transfer ", "qat ", "prune ", "mine ", "quantize_int16x8 ", "undoing "))
    )
    assert "quantize_dynamic" not in shown
    # LiteRT ends a process that loads it.
    assert "LiteRT does not load this network with 16-bit activations" in lines["quantize_int16x8"]
    assert lines["prune"] == lines["mine"] == "yes"
    # Known without a training, too.
    assert lines["qat"].startswith("no: qat left ") and "choose quantize_int8" in lines["qat"]
    assert lines["undoing"].startswith("no: cluster must keep the zeros of prune")
    assert lines["transfer"].startswith("no: transfer needs dense layers behind a pooling")


def test_transformer_with_own_layers_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    (tmp_path / "own_transformer.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own, layers = __import__("own_transformer"), keras.layers
    image = keras.Input((8, 8, 3))
    x = own.PatchEncoder(16, 12)(own.Patches(2)(image))
    x = layers.Add()([x, layers.MultiHeadAttention(3, 4)(x, x)])
    answers = layers.Dense(10)(layers.GlobalAveragePooling1D()(layers.Dense(24, activation="gelu")(x)))
    keras.Model(image, answers).save(tmp_path / "vit.keras")
    place = Place(tmp_path)
    words = [
        *of(tmp_path / "vit.keras"),
        "model.custom_objects=own_transformer",
        "technique=quantize_int8,prune_filters,prune",
    ]
    command = ["run", "-m", "tracking.experiment=mine", *BRIEFLY, *SMALL, *words]
    done = called("pipelines", *command, cwd=tmp_path, variables=place.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    cells = place.runs()
    assert {f"vit-digits-{name}" for name in ("baseline", "quantize_int8", "prune_filters")} <= set(cells)
    logs = " ".join(" ".join(path.read_text().split()) for path in tmp_path.glob("multirun/**/cell.log"))
    assert "the weights inside layers of your own are only trained: patch_encoder" in logs
    # Its parent is found by the code of the layers, too.
    run_id = cells["vit-digits-quantize_int8"].info.run_id
    shown = called("pipelines", "layers", f"run={run_id}", cwd=tmp_path, variables=place.environment())
    assert shown.returncode == 0 and "vit-digits-baseline, one layer alone in 8 bits" in shown.stdout, shown.stderr
    file = ExportedModel(place.files(cells["vit-digits-quantize_int8"]) / "cell" / "model.tflite")
    assert "float32" not in tensor_dtypes(file.path)
