"""The model of a cell as it is served: in an environment without TensorFlow, by a real server, over HTTP."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.pyfunc.model import PythonModelContext

from benchmarks.serving import HOST, serving
from pipelines.litert.exported_model import ExportedModel
from pipelines.techniques.base import Candidate
from pipelines.tracking.serving import ServedModel, UnfitImages, needed_code
from tests.conftest import SMALL_CNN, exported, small_data
from tests.places import ROOT, Place

pytestmark = pytest.mark.slow

# What the model must work without; opscore's own package is `pipelines`.
ABSENT = ("tensorflow", "tf_keras", "hydra", "pipelines")
SHAPE = (8, 8, 3)
# As JSON carries them.
WRONG: dict[str, tuple[Any, str]] = {
    "halves": (np.full((1, *SHAPE), 0.5).tolist(), r"float64 of shape \(1, 8, 8, 3\)"),
    "scaled": (np.full((2, *SHAPE), 1.0).tolist(), r"float64 of shape \(2, 8, 8, 3\)"),
    "one half": ([[*[[[255] * 3] * 8] * 7, [[0.5] * 3] * 8]], r"float64 of shape \(1, 8, 8, 3\)"),
    "negative": (np.full((1, *SHAPE), -1).tolist(), "values from -1 to -1"),
    "256": (np.arange(65, 257).reshape(1, *SHAPE).tolist(), "values from 65 to 256"),
    "text": (np.full((1, *SHAPE), "12").tolist(), r"<U2 of shape \(1, 8, 8, 3\)"),
    "truths": (np.full((1, *SHAPE), True).tolist(), r"bool of shape \(1, 8, 8, 3\)"),
    "nothings": (np.full((1, *SHAPE), None).tolist(), r"object of shape \(1, 8, 8, 3\)"),
    "higher": (np.zeros((1, 9, 8, 3), int).tolist(), r"int64 of shape \(1, 9, 8, 3\)"),
    "larger": (np.zeros((1, 32, 32, 3), int).tolist(), r"int64 of shape \(1, 32, 32, 3\)"),
    "one channel": (np.zeros((1, 8, 8, 1), int).tolist(), r"int64 of shape \(1, 8, 8, 1\)"),
    "four channels": (np.zeros((1, 8, 8, 4), int).tolist(), r"int64 of shape \(1, 8, 8, 4\)"),
    "no channels": (np.zeros((1, 8, 8), int).tolist(), r"int64 of shape \(1, 8, 8\)"),
    "one image": (np.zeros(SHAPE, int).tolist(), r"int64 of shape \(8, 8, 3\)"),
    "no image": ([], r"float64 of shape \(0,\)"),
    "ragged": ([[[[1, 2, 3], [1, 2]]]], "lists of unequal lengths"),
    "unequal images": ([[[[1, 2, 3]]], [[[1, 2, 3]] * 2]], "lists of unequal lengths"),
    "a name": ({"image": np.zeros((1, *SHAPE), int).tolist()}, "dict"),
}
# What MLflow's server refuses itself, in its words.
REFUSED: dict[str, tuple[Any, str]] = {
    "no key": ({"images": [[[[1, 2, 3]]]]}, "must be a dictionary with 'inputs' key"),
    "another key": ({"instances": [[[[1, 2, 3]]]]}, "must be a dictionary with 'inputs' key"),
    "no object": ([[[[1, 2, 3]]]], "must be a JSON dictionary .* Received a list"),
    "half a text": (b'{"inputs": [[[', "valid JSON formatted string"),
    "nothing": (b"", "valid JSON formatted string"),
}
SENTENCE = r"images must be whole numbers 0 to 255 \(uint8\) of shape \(n, 8, 8, 3\) .* got {}: send RGB pixels"


@pytest.fixture(scope="module")
def exported_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    candidate = Candidate(model=SMALL_CNN.build(SHAPE, 10))
    return exported(candidate, tmp_path_factory.mktemp("artifact") / "model.tflite")


@pytest.fixture
def model(exported_model: Path) -> ServedModel:
    model = ServedModel()
    model.load_context(PythonModelContext({"artifact": str(exported_model)}, None))
    return model


def predict(model: ServedModel, images: Any) -> dict[str, np.ndarray]:
    return model.predict(PythonModelContext({}, None), images)


def expected(exported_model: ExportedModel, images: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names and probabilities by the artifact itself."""
    exponentials = np.exp(exported_model.logits(images).astype(float))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return [exported_model.labels[index] for index in probabilities.argmax(axis=1)], probabilities


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_answer_is_the_exported_models(model: ServedModel, exported_model: Path, dtype: type) -> None:
    images = small_data()[0].test.images[:5]
    names, probabilities = expected(ExportedModel(exported_model), images)
    answer = predict(model, images.astype(dtype))
    assert answer["class"].tolist() == names
    assert answer["probabilities"].dtype == np.float32
    assert np.allclose(answer["probabilities"], probabilities, atol=1e-6)


@pytest.mark.parametrize(("images", "got"), WRONG.values(), ids=WRONG)
def test_wrong_images_are_named(model: ServedModel, images: Any, got: str) -> None:
    with pytest.raises(UnfitImages, match=SENTENCE.format(got)) as caught:
        predict(model, images)
    assert caught.value.get_http_status_code() == 400


def test_answer_holds_the_sentence_without_mlflows_prefix() -> None:
    error = UnfitImages("images must be")
    error.message = f"Failed to predict data '[[...]]'. \nError: {error.message}"
    assert json.loads(error.serialize_as_json())["message"] == "images must be"


def test_each_of_many_threads_gets_its_own_answer(model: ServedModel) -> None:
    images = small_data()[0].test.images
    alone = predict(model, images)["probabilities"]
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda index: predict(model, images[index : index + 1]), list(range(100)) * 10)
        together = np.concatenate([answer["probabilities"] for answer in answers])
    assert np.array_equal(together, np.tile(alone, (10, 1)))


def test_an_interpreter_that_failed_is_used_again(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    images = small_data()[0].test.images[:1]
    with monkeypatch.context() as broken:
        broken.setattr(ExportedModel, "logits", lambda *_: 1 / 0)
        for _ in range((os.cpu_count() or 1) + 1):
            with pytest.raises(ZeroDivisionError):
                predict(model, images)
    assert predict(model, images)["class"].shape == (1,)


def test_logged_code_is_exactly_what_the_model_imports(tmp_path: Path) -> None:
    show = (
        "import runpy, sys; runpy.run_path(sys.argv[1]);"
        "print(*sorted(one.__file__ for name, one in sys.modules.items() if name.partition('.')[0] == 'pipelines'));"
        f"print(*set({ABSENT}) & set(sys.modules))"
    )
    with needed_code() as code:
        files = sorted(str(path) for path in code.rglob("*.py"))
        done = subprocess.run(
            [sys.executable, "-c", show, ROOT / "pipelines" / "tracking" / "serving.py"],
            env=os.environ | {"PYTHONPATH": str(code.parent)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
    loaded, absent = done.stdout.splitlines()
    assert loaded.split() == files
    assert absent == "pipelines"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store whose champion for digits is a quantized network."""
    place = Place(tmp_path_factory.mktemp("store"))
    done = place.run("technique=quantize_int8")
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = place.runs()["small_cnn-digits-quantize_int8"].outputs
    assert outputs is not None
    mlflow.set_tracking_uri(place.uri)
    version = mlflow.register_model(f"models:/{outputs.model_outputs[0].model_id}", "opscore-digits").version
    place.client.set_registered_model_alias("opscore-digits", "champion", version)
    return place


@pytest.fixture(scope="module")
def programs(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment that holds what the model's requirements say."""
    mlflow.set_tracking_uri(place.uri)
    requirements = mlflow.pyfunc.get_model_dependencies("models:/opscore-digits@champion")
    folder = tmp_path_factory.mktemp("environment")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", folder / "venv", "--requirement", requirements]
    subprocess.run(install, check=True)
    return folder / "venv" / "bin"


@pytest.fixture(scope="module")
def port(place: Place, programs: Path) -> Iterator[int]:
    """The port of a server that runs the champion."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", place.uri)
        with serving("models:/opscore-digits@champion", programs) as port:
            yield port


@pytest.fixture(scope="module")
def served(place: Place) -> ExportedModel:
    return ExportedModel(place.files(place.runs()["small_cnn-digits-quantize_int8"]) / "cell" / "model.tflite")


def post(connection: HTTPConnection, body: Any) -> tuple[int, Any]:
    """Status and answer; bodies that are no bytes are sent as JSON."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", "/invocations", sent, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.fixture
def connection(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection(HOST, port, timeout=60)
    yield connection
    connection.close()


def test_the_environment_has_neither_tensorflow_nor_opscore(programs: Path, tmp_path: Path) -> None:
    show = f"import importlib.util as u; print(*[name for name in {ABSENT} if u.find_spec(name)])"
    done = subprocess.run([programs / "python", "-c", show], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_images_are_classified(connection: HTTPConnection, served: ExportedModel) -> None:
    images = small_data()[0].test.images[:3]
    names, probabilities = expected(served, images)
    status, answer = post(connection, {"inputs": images.tolist()})
    assert (status, answer["predictions"]["class"]) == (200, names)
    assert np.allclose(answer["predictions"]["probabilities"], probabilities, atol=1e-6)


@pytest.mark.parametrize(("images", "got"), WRONG.values(), ids=WRONG)
def test_wrong_images_get_a_400_and_one_sentence(connection: HTTPConnection, images: Any, got: str) -> None:
    status, answer = post(connection, {"inputs": images})
    assert status == 400
    assert re.match(SENTENCE.format(got), answer["message"])
    assert "\n" not in answer["message"]


@pytest.mark.parametrize(("body", "sentence"), REFUSED.values(), ids=REFUSED)
def test_invalid_request_gets_400_and_the_reason(connection: HTTPConnection, body: Any, sentence: str) -> None:
    status, answer = post(connection, body)
    assert status == 400
    assert re.search(sentence, answer["message"])


def test_files_are_refused(connection: HTTPConnection) -> None:
    connection.request("POST", "/invocations", b"\x89PNG", {"Content-Type": "image/png"})
    answer = connection.getresponse()
    assert answer.status == 415
    assert b"only supports" in answer.read()


def test_thousand_concurrent_requests_are_answered_rightly(port: int, served: ExportedModel) -> None:
    images = small_data()[0].test.images
    names, probabilities = expected(served, images)

    def client(number: int) -> int:
        connection = HTTPConnection(HOST, port, timeout=60)
        for request in range(125):
            # Each time others, one to four of them.
            chosen = (np.arange(request % 4 + 1) + 125 * number + request) % len(images)
            status, answer = post(connection, {"inputs": images[chosen].tolist()})
            assert (status, answer["predictions"]["class"]) == (200, [names[index] for index in chosen])
            assert np.allclose(answer["predictions"]["probabilities"], probabilities[chosen], atol=1e-6)
        connection.close()
        return request + 1

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(client, range(8))) == 1000
