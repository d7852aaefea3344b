import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.device import schedule, session, stream
from pipelines.device.raw import Raw, Start
from pipelines.device.results import summarize
from pipelines.device.settings import settings_of
from pipelines.device.subjects import Subject, of_files
from tests.device.recorded_runs import FAST


def fail(monkeypatch, fails):
    """Let the passes that `fails` chooses end as where their process is killed."""
    real = session._stream

    def stream(one, *others):
        if fails(one):
            raise RuntimeError("measuring int8 failed: its child process was killed by SIGKILL")
        real(one, *others)

    monkeypatch.setattr(session, "_stream", stream)


class TestSession:
    def test_too_little_memory_is_refused(self):
        subject = Subject(label="huge", path=Path("huge.tflite"), sha256="", file_bytes=1, image_shape=(8, 8, 3))
        raw = Raw(version="", precision="", starts=[Start(load_ms=1, first_call_ms=1, call_ms=1, peak_bytes=2**60)])
        with pytest.raises(
            MemoryError, match=r"the 1 exported models must fit into memory together, got .* measure fewer"
        ):
            session.check_memory([subject], [raw])

    @pytest.mark.parametrize(
        ("call_ms", "expected"),
        [
            # 5 processes x (50 calls of 0.2 s / 5, and one of six is not counted) x 2 numbers of threads.
            (200, 2 * 5 * (10 * 0.2 * 1.2)),
            # Fast: 0.2 s of bursts of 20 ms in each.
            (0.1, 2 * 5 * 0.2),
        ],
    )
    def test_estimate(self, call_ms, expected):
        settings = replace(FAST, min_duration_s=1.0, min_calls=50, threads=(1, 2), batches=())
        raw = Raw(version="", precision="", starts=[Start(load_ms=0, first_call_ms=0, call_ms=call_ms, peak_bytes=0)])
        assert schedule.estimate_s([raw], settings) - 10 * schedule.PROCESS_S == pytest.approx(expected, rel=0.05)

    def test_a_batch_that_fails_costs_no_other_figure(self, made, monkeypatch):
        fail(monkeypatch, lambda one: one.batch == 4 and one.window == 1)
        told: list[str] = []
        settings = replace(FAST, batches=(4, 2), threads=(1,))
        (raw,) = session.run(of_files([made / "int8.tflite"], None), settings, report=told.append).raws
        assert raw.throughput.keys() == {2} and len(raw.throughput[2]) == settings.windows
        assert raw.refused[4].endswith("was killed by SIGKILL (--batches none leaves batches out)")
        assert len(raw.latency[1]) == settings.windows * settings.loads
        assert len([one for one in told if one.startswith("no batches of 4 are measured: measuring int8")]) == 1

    def test_windows_before_one_that_fails_are_kept(self, made, monkeypatch):
        fail(monkeypatch, lambda one: one.window == 3 and one.threads == 2)
        settings = replace(FAST, windows=5, batches=(), threads=(1, 2))
        subjects = of_files([made / "int8.tflite"], None)
        found = session.run(subjects, settings, report=lambda _: None)
        (raw,) = found.raws
        for loads in raw.latency.values():
            assert [load.window for load in loads] == [0, 1, 2]
        assert found.cut.startswith("3 of 5 windows were measured: measuring int8 failed: its child process was killed")
        thorough = replace(settings, min_duration_s=5.0, min_calls=10_000)
        (result,) = summarize(subjects, [raw], thorough, cut=found.cut)
        assert result.latency[1].invalid[-1] == found.cut and "must be timed" not in " ".join(result.invalid)
        assert [len(one.windows_ms) for one in result.latency.values()] == [3, 3]

    def test_a_file_that_is_lost_costs_no_window(self, made, monkeypatch, tmp_path):
        path = tmp_path / "int8.tflite"
        path.write_bytes((made / "int8.tflite").read_bytes())

        def lost(one):
            if one.window == 3:
                path.unlink(missing_ok=True)
            return False

        fail(monkeypatch, lost)
        settings = replace(FAST, windows=5, batches=(), threads=(1,))
        subjects = of_files([path], None)
        size = path.stat().st_size
        found = session.run(subjects, settings, report=lambda _: None)
        assert found.cut.startswith("3 of 5 windows were measured")
        (result,) = summarize(subjects, found.raws, settings, cut=found.cut)
        assert result.file_bytes == size and len(result.latency[1].windows_ms) == 3
        assert any("the file of int8 changed meanwhile" in why for why in result.invalid)

    def test_a_model_that_ends_its_process_is_left_out(self, made, monkeypatch):
        real = session._starts

        def starts(subject, settings):
            if subject.label == "int8":
                raise RuntimeError("measuring int8 failed: its child process was killed by SIGABRT;\nits last words")
            return real(subject, settings)

        monkeypatch.setattr(session, "_starts", starts)
        subjects = of_files([made / "float32.tflite", made / "int8.tflite"], None)
        found = session.run(subjects, replace(FAST, batches=(), threads=(1,)), report=lambda _: None)
        assert [one.label for one in found.subjects] == ["float32"]
        assert found.left_out == [
            "int8 is left out: measuring int8 failed: its child process was killed by SIGABRT; its last words"
        ]

    def test_minutes(self):
        assert [schedule.minutes(one) for one in (3.4, 89, 200)] == ["3 s", "89 s", "3 min"]

    def test_a_dead_subprocess_names_its_subject(self, made, monkeypatch, tmp_path):
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nulimit -c 0\nkill -9 $$\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(RuntimeError, match="measuring int8 failed: its child process was killed by SIGKILL"):
            session.run(of_files([made / "int8.tflite"], None), FAST, report=lambda _: None)


def test_models_are_loaded_in_the_order_of_the_request(made, monkeypatch):
    paths = [str(made / f"{name}.tflite") for name in ("float32", "uint8", "int8")]
    loaded: list[str] = []

    def prepared(path, runtime, request):
        loaded.append(str(path))
        number = paths.index(str(path))
        return lambda: time.sleep(0.001 * number)

    monkeypatch.setattr(stream, "prepared", prepared)
    request = stream.StreamRequest(
        exported_models=tuple(paths),
        runtimes=("litert",) * 3,
        order=(2, 0, 1),
        threads=1,
        batch=1,
        warmup_calls=0,
        min_duration_s=0.0,
        min_calls=1,
        limit_s=10.0,
        seed=0,
    )
    found = stream.streamed(request)
    assert loaded == [paths[2], paths[0], paths[1]]
    medians = [float(np.median(found[f"ns_{place}"])) for place in range(3)]
    assert medians == sorted(medians), "the times are those of the models in the request's lists"


@pytest.mark.parametrize("processes", [5, 10, 20])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 23, 55])
def test_each_model_has_each_place_about_equally_often(count, processes):
    """What is loaded first is up to 7% slower than what is loaded last, in every process."""
    orders = [schedule.order_of(count, before, processes, seed=1) for before in range(processes)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    for place in range(count):
        had = Counter(order[place] for order in orders)
        assert max(had.values()) - min(had[model] for model in range(count)) <= 1
    means = [np.mean([order.index(model) for order in orders]) for model in range(count)]
    assert np.ptp(means) <= max(1, count / 5)


def test_each_session_draws_its_orders():
    seeds = {settings_of("quick").seed for _ in range(3)}
    assert len(seeds) > 1
    assert len({schedule.order_of(6, 0, 5, seed) for seed in range(20)}) > 10
