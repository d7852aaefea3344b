"""Measuring on a target: real LiteRT runs of tiny exported models, real stores, and hand-checked statistics."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.commands import cli
from pipelines.device import recording, results, session
from pipelines.device.session import Load, Raw, Start
from pipelines.device.settings import PROFILES, Settings, settings_of, target_of
from pipelines.device.subjects import Subject, of_files
from pipelines.litert import memory
from pipelines.litert.exported_model import ExportedModel, image_shape
from pipelines.litert.latency import Percentiles
from pipelines.litert.stream import BURST_S, check_same, random_images, time_bursts
from pipelines.results.statistics import approximate_t_quantile
from pipelines.system import machine, runtime
from pipelines.system.errors import StoreError
from pipelines.tracking.measured import OnTarget, record
from tests.places import ROOT
from tests.servers import free_port, open_folder, serving

# 5 windows of one process each, a round in each.
HASTY = Settings(
    profile="quick", loads=1, starts=1, min_duration_s=0.0, min_calls=5, limit_s=60.0, threads=(1,), batches=(4,)
)
HEAVY = ("tensorflow", "tf_keras", "scipy", "hydra", "omegaconf", "matplotlib", "pandas", "sklearn")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process ask for a profile that takes seconds."""
    monkeypatch.setitem(PROFILES, "quick", HASTY)


class Cells:
    """A store with cells as they are recorded, but that nobody trained."""

    baseline: str
    int8: str

    def __init__(self, folder: Path, uri: str | None = None) -> None:
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)
        location = None if uri else (folder / "artifacts").as_uri()
        self.experiment = self.client.create_experiment("mine", artifact_location=location)

    def add(self, technique: str, exported_model: Path, **params: str) -> str:
        run = self.client.create_run(self.experiment, run_name=f"net-digits-{technique}")
        run_id: str = run.info.run_id
        tags = {"model": "net", "dataset": "digits", "technique": technique, "seed": params.get("seed", "0")}
        for key, value in (tags | {"fingerprint": run_id, "hardware": "another"}).items():
            self.client.set_tag(run_id, key, value)
        own = {"model.width": "8", "seed": "0", "technique._target_": technique, "measurement.threads": "1"} | params
        for key, value in own.items():
            self.client.log_param(run_id, key, value)
        with renamed(exported_model, "model.tflite") as path:
            self.client.log_artifact(run_id, str(path), "cell")
        self.client.set_terminated(run_id)
        return run_id

    def run(self, run_id: str) -> Run:
        return self.client.get_run(run_id)

    def metrics(self, run_id: str, target: str) -> dict[str, float]:
        start = f"measure/{target}/"
        return {
            name.removeprefix(start): value
            for name, value in self.run(run_id).data.metrics.items()
            if name.startswith(start)
        }


@contextmanager
def renamed(path: Path, name: str) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(shutil.copy(path, Path(folder) / name))


@pytest.fixture
def cells(tmp_path: Path, made: Path) -> Cells:
    store = Cells(tmp_path)
    store.baseline = store.add("baseline", made / "float32.tflite")
    store.int8 = store.add("quantize_int8", made / "int8.tflite")
    return store


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command says in this process. fails: that it must end with status 1 or 2, and say one sentence on it."""

    def run(*words: str, fails: bool = False) -> str:
        own = [] if any(word.startswith("out=") for word in words) else [f"out={tmp_path / 'measured'}"]
        monkeypatch.setattr(sys, "argv", ["measure", *words, "profile=quick", *own])
        if fails:
            with pytest.raises(SystemExit) as ended:
                cli.main("measure")
            assert ended.value.code in (1, 2)
            refusal = capsys.readouterr().err.splitlines()[-1]
            assert refusal.startswith("opscore: ")
            return refusal
        cli.main("measure")
        return capsys.readouterr().out

    return run


def sessions(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "measured").iterdir())


class TestBursts:
    def trace(self, seed: int, rounds: int) -> tuple[list[str], list]:
        seen: list[str] = []
        calls = [lambda name=name: seen.append(name) for name in "abc"]
        timed = time_bursts(calls, warmup_calls=3, min_duration_s=0, min_calls=rounds, limit_s=60, seed=seed)
        return seen, timed

    def test_warm_up_comes_first_and_each_has_one_burst_a_round(self):
        seen, timed = self.trace(0, rounds=1)
        assert seen[:9] == list("aaabbbccc")
        turns = [name for index, name in enumerate(seen[9:]) if index == 0 or seen[8 + index] != name]
        assert sorted(turns) == list("abc")
        for name, (ns, bursts) in zip("abc", timed, strict=True):
            assert bursts.tolist() == [len(ns)]
            # Three to warm up, one at the start of the burst.
            assert seen.count(name) == len(ns) + 4

    def test_a_slow_call_has_two_in_a_burst_and_a_fast_one_many(self):
        def slow() -> None:
            end = perf_counter() + 2 * BURST_S
            while perf_counter() < end:
                pass

        (slow_ns, slow_bursts), (_, fast_bursts) = time_bursts(
            [slow, lambda: None], warmup_calls=0, min_duration_s=0, min_calls=6, limit_s=60, seed=0
        )
        assert slow_bursts.tolist() == [2, 2, 2]
        assert len(fast_bursts) == 3 and fast_bursts.min() > 10
        assert slow_ns.min() >= 2 * BURST_S * 1e9

    def test_goes_on_until_the_duration_is_met(self):
        timed = time_bursts([lambda: None] * 2, warmup_calls=0, min_duration_s=0.06, min_calls=1, limit_s=60, seed=0)
        assert all(ns.sum() >= 0.06e9 for ns, _ in timed)

    def test_the_limit_ends_it_after_a_whole_round(self):
        timed = time_bursts([lambda: None] * 2, warmup_calls=0, min_duration_s=60, min_calls=1, limit_s=0, seed=0)
        assert [len(bursts) for _, bursts in timed] == [1, 1]

    def test_nothing_to_time(self):
        assert time_bursts([], warmup_calls=0, min_duration_s=60, min_calls=1, limit_s=60, seed=0) == []


class TestBatch:
    @pytest.mark.parametrize("name", ["float32", "uint8", "int8"])
    def test_answers_as_alone(self, made, name):
        images = random_images((8, 8, 3), 8, seed=0)
        path = made / f"{name}.tflite"
        together = ExportedModel(path, batch=8).query_batch(images)
        assert together.shape == (8, 10)
        check_same(ExportedModel(path).logits(images), together, path)

    def test_operators_that_hold_it_to_one_image_are_named(self, made):
        with pytest.raises(
            ValueError, match=r"single.tflite must take 8 images at once with builtin operators only, got"
        ):
            ExportedModel(made / "single.tflite", batch=8)

    @pytest.mark.parametrize("wrong", [1.0, math.nan])
    def test_other_answers_are_refused(self, wrong):
        alone = np.array([[0.0, 1.0]], np.float32)
        with pytest.raises(ValueError, match="must give the same logits in a batch"):
            check_same(alone, alone + np.float32(wrong), Path("x"))

    def test_image_shape_without_loading(self, made):
        assert image_shape(made / "int8.tflite") == (8, 8, 3)
        with pytest.raises(ValueError, match=r"gray.tflite must have one input \(1, h, w, 3\)"):
            image_shape(made / "gray.tflite")

    def test_random_images_follow_the_seed(self):
        one, same, other = (random_images((2, 3, 3), 4, seed) for seed in (0, 0, 1))
        assert one.shape == (4, 2, 3, 3) and one.dtype == np.uint8
        assert np.array_equal(one, same) and not np.array_equal(one, other)


class TestMemory:
    def test_a_childs_peak_is_its_own(self):
        """What getrusage says of a child that was started from a large process would be the large one's."""
        code = (
            "import numpy as np; from pipelines.litert import memory; memory.restart_peak(); "
            "before = memory.peak_bytes(); held = np.ones(50_000_000, np.uint8); print(before, memory.peak_bytes())"
        )
        held = np.ones(400_000_000, np.uint8)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        before, after = map(int, done.stdout.split())
        assert len(held) and before < 200e6
        assert 45e6 < after - before < 60e6

    def test_restarts(self):
        memory.restart_peak()
        held = np.ones(100_000_000, np.uint8)
        high = memory.peak_bytes()
        del held
        memory.restart_peak()
        assert memory.peak_bytes() < high - 50e6


def loads_of(*medians_ms: float, calls: int = 40, windows: Sequence[int] | None = None) -> list[Load]:
    """One load of so many constant calls for each median, in four bursts."""
    windows = windows or range(len(medians_ms))
    return [
        Load(window=window, ns=np.full(calls, int(ms * 1e6)), bursts=np.full(4, calls // 4))
        for ms, window in zip(medians_ms, windows, strict=True)
    ]


def shared_machine(generator: np.random.Generator) -> tuple[list[Load], list[Load]]:
    """A session of two exported models, 5 windows of 2 loads of 8 bursts of 5 calls, on a machine that others use.

    Each load lies in memory as chance has it; for spells, by bursts, one takes up to twice as long and the other up to
    half as long again; single calls are interrupted.
    """
    sessions: tuple[list[Load], list[Load]] = ([], [])
    for window in range(5):
        for _ in range(2):
            spell = np.repeat(generator.random() * (generator.random(8) < 0.6), 5)
            for loads, base_ns, suffers in zip(sessions, (1e6, 3e6), (1.0, 0.5), strict=True):
                ns = base_ns * np.exp(generator.normal(0, 0.01)) * (1 + suffers * spell)
                ns = ns * (1 + 3 * (generator.random(40) < 0.2)) * np.exp(generator.normal(0, 0.005, 40))
                loads.append(Load(window=window, ns=ns.astype(np.int64), bursts=np.full(8, 5)))
    return sessions


class TestLatency:
    SETTINGS = replace(HASTY, min_calls=200, min_duration_s=0.2)

    def test_by_hand(self):
        # The candidate takes half the reference's time in each load, whatever the machine does.
        own, reference = loads_of(1, 1.01, 1.02, 1.03, 1.04), loads_of(2, 2.02, 2.04, 2.06, 2.08)
        found = results.latency(own, reference, self.SETTINGS)
        assert (found.calls, found.seconds, found.p50_ms) == pytest.approx((200, 0.204, 1.02))
        assert found.windows_ms == pytest.approx((1, 1.01, 1.02, 1.03, 1.04))
        half = approximate_t_quantile(4) * np.log([1, 1.01, 1.02, 1.03, 1.04]).std(ddof=1) * math.sqrt(2 / 5)
        assert math.log(found.p50_high_ms / 1.02) == pytest.approx(half, rel=0.05)
        assert math.log(1.02 / found.p50_low_ms) == pytest.approx(half, rel=0.05)
        # Its windows do not agree on the time, but on the ratio.
        assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((0.5, 0.495, 0.505))
        assert found.p99_ms is None and found.invalid == ()

    def test_no_ratio_is_known_to_less_than_a_percent(self):
        found = results.latency(loads_of(*[1] * 5), loads_of(*[2] * 5), self.SETTINGS)
        assert (found.p50_low_ms, found.p50_high_ms) == pytest.approx((1, 1))
        assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((0.5, 0.495, 0.505))

    def test_windows_that_disagree_on_the_ratio_widen_it(self):
        own, reference = loads_of(1, 1.1, 1.2, 1.3, 1.4), loads_of(*[2] * 5)
        found = results.latency(own, reference, self.SETTINGS)
        assert found.ratio == pytest.approx(0.5)
        assert found.ratio_low is not None and found.ratio_high is not None
        assert found.ratio_low < 0.45 and found.ratio_high > 0.55

    def test_a_99th_percentile_takes_662_calls(self):
        assert results.latency(loads_of(*[1] * 5, calls=132), None, self.SETTINGS).p99_ms is None
        assert results.latency(loads_of(*[1] * 5, calls=136), None, self.SETTINGS).p99_ms == 1

    @pytest.mark.parametrize("disturbed", [1, 3, 4])
    def test_a_ratio_is_that_of_artifacts_left_alone(self, disturbed):
        # As where cores are moved apart for a while: one model takes twice as long, the other a third more.
        own, reference = (
            loads_of(*[2] * disturbed, *[1] * (5 - disturbed)),
            loads_of(*[4] * disturbed, *[3] * (5 - disturbed)),
        )
        found = results.latency(own, reference, self.SETTINGS)
        assert found.ratio == pytest.approx(1 / 3)
        assert found.ratio_low is not None and found.ratio_high is not None
        assert found.ratio_low <= 1 / 3 <= found.ratio_high
        # Where a repeat may well meet no quiet window, the interval says so.
        assert (found.ratio_high >= 1 / 2) == (disturbed > 2)

    def test_calls_that_were_interrupted_do_not_count(self):
        # First deciles 1 and 10: the second burst was disturbed as a whole.
        own = [Load(window=w, ns=np.array([1, 900, 1, 1, 10, 900, 10]), bursts=np.array([4, 3])) for w in range(5)]
        reference = [Load(window=w, ns=np.array([2, 400]), bursts=np.array([1, 1])) for w in range(5)]
        assert results.ratio(own, reference, seed=0)[0] == pytest.approx(0.5)

    def test_a_repeat_lies_inside_on_a_machine_that_others_use(self):
        inside = 0
        for seed in range(200):
            generator = np.random.default_rng(seed)
            first, second = (shared_machine(generator) for _ in "ab")
            _, low, high = results.ratio(*first, seed=0)
            inside += low <= results.ratio(*second, seed=0)[0] <= high
        # Three standard errors of 200 cases are 5%.
        assert inside / 200 >= 0.9

    @pytest.mark.parametrize(
        ("loads", "settings", "reasons"),
        [
            (loads_of(*[1] * 5), {"min_calls": 201}, ["201 calls must be timed, got 200 within limit=60 s"]),
            (loads_of(*[1] * 5), {"min_duration_s": 1.0}, ["1 s must be timed, got 0.20 s within limit=60 s"]),
            (loads_of(1, 1, 1, 1, 1.1), {}, []),
            (
                loads_of(1, 1, 1, 1, 1.11),
                {},
                ["the medians of 5 windows must agree within 10%, got 1 to 1.11 ms"],
            ),
            (
                loads_of(1, 2, 2, 2, 2),
                {"min_calls": 662, "min_duration_s": 10},
                ["10 s must be", "662 calls must be", "the medians of 5 windows"],
            ),
            # Two loads of a window count together.
            (loads_of(1, 1.18, 1, 1.18, windows=[0, 0, 1, 1], calls=52), {}, []),
        ],
    )
    def test_validity(self, loads, settings, reasons):
        found = results.latency(loads, None, replace(self.SETTINGS, **settings)).invalid
        assert len(found) == len(reasons)
        for got, expected in zip(found, reasons, strict=True):
            assert got.startswith(expected)


class TestSettings:
    def test_defaults(self):
        settings = settings_of("standard")
        assert settings.threads == tuple(sorted({1, machine.cores()}))
        assert (settings.batches, settings.windows, settings.limit_s) == ((8, 32), 5, 120)

    def test_thorough_is_mlperfs_minimum_for_p99(self):
        settings = settings_of("thorough")
        assert (settings.min_duration_s, settings.min_calls) == (10, 662)

    def test_given(self):
        settings = settings_of("standard", threads="4,1", batches="none", limit="2.5")
        assert (settings.threads, settings.batches, settings.limit_s) == ((1, 4), (), 2.5)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("name", "slow", "profile must be one of quick, standard, thorough, got 'slow'"),
            ("threads", "0", "threads must be a whole number of at least 1"),
            ("threads", "two", "threads must be whole numbers, got 'two'"),
            ("threads", "none", "threads must name one at least"),
            ("batches", "1", "batches must be a whole number of at least 2"),
            ("limit", "-1", "limit must be a number, more than 0"),
            ("limit", "long", "limit must be a number of seconds, got 'long'"),
        ],
    )
    def test_bad_values_are_named(self, name, value, message):
        with pytest.raises(ValueError, match=f"^{message}"):
            settings_of(**{"name": "standard"} | {name: value})

    def test_target(self):
        assert target_of(None) == machine.slug()
        assert target_of("pi-4.kitchen") == "pi-4.kitchen"
        with pytest.raises(ValueError, match=r"^target must be letters, digits, .* got 'a/b'"):
            target_of("a/b")


class TestMachine:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("AMD EPYC 7B13", "amd-epyc-7b13-2c"),
            ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon-2c"),
            ("AMD Ryzen 7 5800X 8-Core Processor", "amd-ryzen-7-5800x-2c"),
            ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4-model-b-rev-1.4-2c"),
            ("", "2c"),
        ],
    )
    def test_slug(self, monkeypatch, name, expected):
        monkeypatch.setattr(machine, "processor", lambda: name)
        monkeypatch.setattr(machine, "cores", lambda: 2)
        assert machine.slug() == expected

    def test_governor_where_there_is_one(self, monkeypatch, tmp_path):
        monkeypatch.setattr(machine, "GOVERNOR", tmp_path / "none")
        assert machine.governor() is None and "governor" not in machine.description()
        (tmp_path / "governor").write_text("powersave\n")
        monkeypatch.setattr(machine, "GOVERNOR", tmp_path / "governor")
        assert machine.description()["governor"] == "powersave"

    def test_description(self):
        told = machine.description()
        assert told["cores"] == machine.cores() and told["runtime"].startswith("LiteRT 2.")
        assert {"processor", "memory_gib", "system", "python", "architecture"} <= set(told)
        json.dumps(told)


class TestSubjects:
    def test_the_first_file_is_the_reference_unless_named(self, made, monkeypatch):
        monkeypatch.chdir(made)
        paths = [Path("int8.tflite"), Path("float32.tflite")]
        assert [(one.label, one.reference) for one in of_files(paths, None)] == [("int8", None), ("float32", "int8")]
        assert [one.reference for one in of_files(paths, paths[1])] == ["float32", None]
        assert of_files(paths, None)[0].path.is_absolute()

    def test_two_files_of_one_name(self, made, tmp_path):
        other = tmp_path / "b"
        other.mkdir()
        shutil.copy(made / "int8.tflite", other)
        labels = [one.label for one in of_files([made / "int8.tflite", other / "int8.tflite"], None)]
        assert labels == [str(made / "int8").strip("/"), str(other / "int8").strip("/")]


class TestSession:
    def test_too_little_memory_is_one_sentence(self):
        subject = Subject(label="huge", path=Path("huge.tflite"), sha256="", image_shape=(8, 8, 3))
        raw = Raw(starts=[Start(load_ms=1, first_call_ms=1, call_ms=1, peak_bytes=2**60)])
        with pytest.raises(
            MemoryError, match=r"the 1 exported models must fit into memory together, got .* measure fewer"
        ):
            session.check_memory([subject], [raw])

    @pytest.mark.parametrize(
        ("call_ms", "expected"),
        [
            # 5 processes x (50 calls of 0.2 s / 5, and one in three not counted) x 2 settings of threads.
            (200, 2 * 5 * (10 * 0.2 * 1.5)),
            # Fast: 0.2 s of bursts of 25 ms in each.
            (0.1, 2 * 5 * 0.2),
        ],
    )
    def test_estimate(self, call_ms, expected):
        settings = replace(HASTY, min_duration_s=1.0, min_calls=50, threads=(1, 2), batches=())
        raw = Raw(starts=[Start(load_ms=0, first_call_ms=0, call_ms=call_ms, peak_bytes=0)])
        assert session.estimate_s([raw], settings) - 10 * session.PROCESS_S == pytest.approx(expected, rel=0.05)

    def test_minutes(self):
        assert [session.minutes(one) for one in (3.4, 89, 200)] == ["3 s", "89 s", "3 min"]

    def test_a_dead_child_names_what_it_measured(self, made, monkeypatch, tmp_path):
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\nulimit -c 0\nkill -9 $$\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(RuntimeError, match="measuring int8 failed: its child process was killed by SIGKILL"):
            session.run(of_files([made / "int8.tflite"], None), HASTY, report=lambda _: None)


class TestFiles:
    def test_everything_is_measured_and_kept(self, made, said, tmp_path, monkeypatch):
        monkeypatch.chdir(made)
        out = said("float32.tflite", "files=int8.tflite,single.tflite", "threads=1,2", "target=here")
        assert "No batch of 4:" in out and "single.tflite must take 4 images at once" in out
        (folder,) = sessions(tmp_path)
        assert str(folder) in out
        shared = json.loads((folder / "session.json").read_text())
        assert (shared["target"], shared["uri"]) == ("here", None)
        assert shared["hardware"] == machine.description()
        told = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}
        assert set(told) == {"float32", "int8", "single"}
        int8 = told["int8"]["metrics"]
        assert {"valid", "load_ms", "first_call_ms", "peak_memory_mb", "images_per_s_b4_2t"} <= set(int8)
        for threads in ("1t", "2t"):
            assert int8[f"p50_low_ms_{threads}"] <= int8[f"p50_ms_{threads}"] <= int8[f"p50_high_ms_{threads}"]
            assert int8[f"p50_ms_{threads}"] <= int8[f"p90_ms_{threads}"]
            assert int8[f"ratio_low_{threads}"] <= int8[f"ratio_{threads}"] <= int8[f"ratio_high_{threads}"]
        assert "ratio_1t" not in told["float32"]["metrics"]
        assert "images_per_s_b4_2t" not in told["single"]["metrics"]
        with np.load(folder / "int8" / "latency.npz") as raw:
            assert raw["starts"].shape == (1, 4) and len(raw["loads_1t"]) == 5
            assert raw["loads_1t"].sum() == len(raw["bursts_1t"]) and raw["bursts_1t"].sum() == len(raw["ns_1t"])
            assert int8["calls_1t"] == len(raw["ns_1t"])
            assert int8["p50_ms_1t"] == pytest.approx(Percentiles.of(raw["ns_1t"]).p50_ms)
            assert {"ns_b4", "bursts_b4", "loads_b4"} <= set(raw.files)

    def test_a_limit_that_is_too_short_is_invalid_and_kept(self, made, said, tmp_path, monkeypatch):
        monkeypatch.setitem(PROFILES, "quick", replace(HASTY, min_duration_s=30.0, min_calls=10**6))
        out = said(str(made / "int8.tflite"), "limit=0.1", "batches=none", "threads=1")
        assert "INVALID int8, 1 threads: 30 s must be timed, got" in out
        assert "1000000 calls must be timed, got" in out and "A higher limit=" in out
        (folder,) = sessions(tmp_path)
        assert json.loads((folder / "int8" / "result.json").read_text())["metrics"]["valid"] == 0

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nothing.tflite"], "nothing.tflite must be a .tflite file, got no such file"),
            (["flat.tflite"], r"flat.tflite must have one input \(1, h, w, 3\)"),
            (["bad.tflite"], "bad.tflite must be a TFLite flatbuffer"),
            (["int8.tflite", "int8.tflite"], "files must be different ones"),
            (["int8.tflite", "sweep=last"], "either files or cells must be chosen, got int8.tflite and sweep="),
            (["int8.tflite", "reference=float32.tflite"], "reference must be one of the files, got 'float32.tflite'"),
            (["reference=int8.tflite"], "reference must be one of the files, got int8.tflite and no files"),
            (["int8.tflite", "threads=none"], "threads must name one at least"),
            (["int8.tflite", "speed=1"], r"arguments must be name=value with one of dataset, .* got 'speed=1'"),
            (["int8.tflite", "target=a/b"], "target must be letters"),
            (["send=."], r"send must be the folder of a session, got '\.'"),
            (["tracking.uri=http://127.0.0.1:9"], "the MLflow server http://127.0.0.1:9 does not answer"),
        ],
    )
    def test_mistakes_are_one_sentence_within_a_second(self, made, said, monkeypatch, words, message):
        monkeypatch.chdir(made)
        (made / "bad.tflite").write_bytes(b"garbage" * 100)
        began = perf_counter()
        answer = said(*words, fails=True)
        assert perf_counter() - began < 1
        assert re.match(f"opscore: {message}", answer)
        assert "\n" not in answer

    def test_waits_for_its_turn(self, made, said, capsys):
        inside, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with runtime.machine_lock("measuring", on_wait=lambda: None):
                inside.set()
                leave.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        inside.wait(60)
        threading.Timer(1, leave.set).start()
        said(str(made / "int8.tflite"), "batches=none", "threads=1")
        holder.join()
        assert leave.is_set()


class TestStore:
    def test_figures_stand_on_the_runs(self, cells, said, tmp_path):
        out = said("dataset=digits", f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "target=here")
        assert f"2 runs in {cells.uri} got them as measure/here/..." in out
        (folder,) = sessions(tmp_path)
        for run_id, name in ((cells.baseline, "baseline"), (cells.int8, "quantize_int8")):
            told = json.loads((folder / f"net-digits-{name}-seed-0" / "result.json").read_text())
            assert told["runs"] == [run_id]
            assert cells.metrics(run_id, "here") == pytest.approx(told["metrics"])
            tags = cells.run(run_id).data.tags
            assert json.loads(tags["measure/here/hardware"]) == machine.description()
            assert tags["measure/here/invalid"] == ("; ".join(told["invalid"]) or "no")
            files = {Path(one.path).name for one in cells.client.list_artifacts(run_id, "measure/here")}
            assert files == {"result.json", "latency.npz"}
            assert cells.run(run_id).info.status == "FINISHED"
        assert "ratio_1t" in cells.metrics(cells.int8, "here")
        assert "ratio_1t" not in cells.metrics(cells.baseline, "here")

    def test_a_baseline_that_was_not_chosen_is_measured_too(self, cells, said, made):
        # Neither of another seed nor of another width, nor the older one of the same.
        cells.add("baseline", made / "uint8.tflite", seed="1")
        cells.add("baseline", made / "uint8.tflite", **{"model.width": "16"})
        newer = cells.add("baseline", made / "float32.tflite", **{"measurement.threads": "2"})
        out = said(
            "filter=tags.technique = 'quantize_int8'", f"tracking.uri={cells.uri}", "experiment=mine", "threads=1"
        )
        assert "2 runs in" in out
        assert "ratio_1t" in cells.metrics(cells.int8, machine.slug())
        assert cells.metrics(newer, machine.slug()) and not cells.metrics(cells.baseline, machine.slug())

    def test_one_artifact_of_two_runs_is_measured_once(self, cells, said, made):
        again = cells.add("quantize_int8", made / "int8.tflite", **{"score.size": "1"})
        said(f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "target=here")
        assert cells.metrics(again, "here") == cells.metrics(cells.int8, "here")
        assert "ratio_1t" in cells.metrics(again, "here")

    def test_two_targets_keep_both_and_the_newest_counts(self, cells, said, monkeypatch):
        chosen = (f"tracking.uri={cells.uri}", "experiment=mine", "threads=1")
        said(*chosen, "target=one")
        first = cells.metrics(cells.int8, "one")
        said(*chosen, "target=two", "batches=none")
        assert cells.metrics(cells.int8, "one") == first
        assert "images_per_s_b4_1t" not in cells.metrics(cells.int8, "two")
        later = time.time() + 60
        monkeypatch.setattr(time, "time", lambda: later)
        said(*chosen, "target=one", "batches=none")
        second = cells.metrics(cells.int8, "one")
        assert set(second) == set(first)
        # What only the first session gave does not stand beside the second.
        assert math.isnan(second["images_per_s_b4_1t"])
        history = cells.client.get_metric_history(cells.int8, "measure/one/p50_ms_1t")
        assert [point.value for point in history] == [first["p50_ms_1t"], second["p50_ms_1t"]]
        assert history[1].timestamp - history[0].timestamp >= 60_000

    def test_a_store_that_goes_away_leaves_all_in_the_folder(self, cells, said, tmp_path, monkeypatch):
        def away(*_: object) -> None:
            raise StoreError("run x could not be given its figures (connection refused)")

        monkeypatch.setattr(recording, "record", away)
        answer = said(f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "target=here", fails=True)
        (folder,) = sessions(tmp_path)
        assert f"all results are in {folder}, but only 0 runs" in answer
        assert f"python -m pipelines.measure send={folder}" in answer
        assert not cells.metrics(cells.int8, "here")
        monkeypatch.undo()
        monkeypatch.setattr(sys, "argv", ["measure", f"send={folder}"])
        cli.main("measure")
        assert cells.metrics(cells.int8, "here")["valid"] in (0, 1)

    def test_an_older_session_that_is_sent_late_changes_nothing(self, cells, tmp_path):
        def at(began: int, p50: float) -> OnTarget:
            place = tmp_path / str(began)
            place.mkdir(exist_ok=True)
            (place / "result.json").write_text(str(began))
            return OnTarget(target="t", began=began, hardware={}, metrics={"p50_ms_1t": p50}, invalid="", folder=place)

        for found in (at(200, 2.0), at(100, 1.0), at(200, 2.0)):
            record(cells.client, cells.int8, found)
        assert cells.metrics(cells.int8, "t") == {"p50_ms_1t": 2.0}
        assert len(cells.client.get_metric_history(cells.int8, "measure/t/p50_ms_1t")) == 1
        assert cells.run(cells.int8).data.tags["measure/t/began"] == "200"

    def test_files_of_a_session_cannot_be_sent(self, made, said, tmp_path):
        said(str(made / "int8.tflite"), "batches=none", "threads=1")
        assert "got one of files on disk" in said(f"send={sessions(tmp_path)[0]}", fails=True)

    def test_no_cell(self, cells, said):
        assert "no finished cell in" in said("dataset=none", f"tracking.uri={cells.uri}", "experiment=mine", fails=True)

    def test_a_lost_artifact(self, cells, said, tmp_path):
        shutil.rmtree(tmp_path / "artifacts" / cells.int8)
        answer = said(f"tracking.uri={cells.uri}", "experiment=mine", fails=True)
        assert f"the files of run {cells.int8} are lost" in answer


def test_files_on_disk_load_no_heavy_library(made, tmp_path):
    code = (
        "import sys; from dataclasses import replace; from pipelines.device.settings import PROFILES; "
        "PROFILES['quick'] = replace(PROFILES['quick'], min_duration_s=0, min_calls=5, starts=1); "
        "from pipelines.commands.cli import main; main('measure'); "
        f"print([name for name in {(*HEAVY, 'mlflow')} if name in sys.modules])"
    )
    words = [str(made / "int8.tflite"), "profile=quick", "threads=1", f"out={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_device_without_tensorflow_measures_against_a_server(made, tmp_path):
    """The extra `measure` in a virtual environment of its own: on files, and with cells of an MLflow server."""
    uv = Path(sys.executable).with_name("uv")
    # What is built from: the sources without what lies beside them here.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("pipelines", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, f"{tmp_path}[measure]"], check=True)
    there = f"import importlib.util as u; print([name for name in {HEAVY} if u.find_spec(name)])"
    run = {"cwd": made, "capture_output": True, "text": True}
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run([python, "-c", there], env=clean, check=True, **run).stdout.strip() == "[]"
    measure = [python, "-m", "pipelines.measure", "profile=quick", "threads=1", "batches=none", f"out={tmp_path}/out"]
    done = subprocess.run([*measure, "float32.tflite", "int8.tflite"], env=clean, check=False, **run)
    assert done.returncode == 0, done.stderr
    with open_folder() as folder, serving(folder, free_port()) as server:
        cells = Cells(folder, server.uri)
        run_ids = [
            cells.add("baseline", made / "float32.tflite"),
            cells.add("quantize_int8", made / "int8.tflite"),
        ]
        words = [f"tracking.uri={server.uri}", "experiment=mine", "target=device"]
        done = subprocess.run([*measure, *words], env=clean, check=False, **run)
        assert done.returncode == 0, done.stderr
        assert all(cells.metrics(run_id, "device")["p50_ms_1t"] > 0 for run_id in run_ids)
        assert cells.metrics(run_ids[1], "device")["ratio_1t"] > 0
        server.stop()
        began = perf_counter()
        done = subprocess.run([*measure, *words], env=clean, check=False, **run)
        assert done.returncode == 2 and "does not answer" in done.stderr and perf_counter() - began < 3
