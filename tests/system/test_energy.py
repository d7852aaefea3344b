"""Energy comes from the machine's counters, and is absent where there are none."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from zeus.device import cpu as zeus_cpu
from zeus.device.cpu import rapl

from pipelines.device import session
from pipelines.device.consumption import ConsumptionRequest, consumed
from pipelines.device.raw import Consumption
from pipelines.device.results import summarize
from pipelines.device.settings import Settings
from pipelines.device.subjects import of_files
from pipelines.device.table import text
from pipelines.system import energy


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A processor's counters as Linux has them; memory is a zone below the package."""
    package = tmp_path / "intel-rapl:0"
    for zone, name in ((package, "package-0"), (package / "intel-rapl:0:0", "dram")):
        zone.mkdir()
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text("1000000\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path))
    with cleared_caches(monkeypatch):
        yield package


class cleared_caches:  # noqa: N801 (reads as a context)
    """Clears what Zeus and opscore cache about the machine, before and after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zeus_cpu, "_cpus", None)

    def __enter__(self) -> None:
        rapl.rapl_is_available.cache_clear()
        energy._counters.cache_clear()

    def __exit__(self, *_: object) -> None:
        self.__enter__()


def test_joules_are_differences_of_counters_and_add_up(package: Path) -> None:
    joules: dict[str, float] = {}
    with energy.measure_energy(joules):
        (package / "energy_uj").write_text("3500000\n")
        (package / "intel-rapl:0:0" / "energy_uj").write_text("1250000\n")
    assert joules == pytest.approx({"cpu": 2.5, "dram": 0.25})
    with energy.measure_energy(joules):
        (package / "energy_uj").write_text("4000000\n")
    assert joules == pytest.approx({"cpu": 3.0, "dram": 0.25})


def test_counter_that_began_again_gives_no_sum(package: Path) -> None:
    joules: dict[str, float] = {}
    for microjoules in (500, 3_000_000):
        with energy.measure_energy(joules):
            (package / "energy_uj").write_text(f"{microjoules}\n")
            (package / "intel-rapl:0:0" / "energy_uj").write_text("1250000\n")
    assert math.isnan(joules["cpu"])
    assert joules["dram"] == pytest.approx(0.25)


def test_memory_without_a_counter_is_absent(package: Path) -> None:
    (package / "intel-rapl:0:0" / "name").write_text("core\n")
    joules: dict[str, float] = {}
    with energy.measure_energy(joules):
        (package / "energy_uj").write_text("2000000\n")
    assert joules == pytest.approx({"cpu": 1.0})


def test_a_machine_without_counters_has_no_joules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(rapl, "CONTAINER_RAPL_DIR", str(tmp_path / "none"))
    joules: dict[str, float] = {}
    with cleared_caches(monkeypatch), energy.measure_energy(joules):
        pass
    assert "cpu" not in joules


def test_an_images_energy_is_that_of_the_counted_calls(package: Path, made: Path) -> None:
    counter = package / "energy_uj"
    over = threading.Event()

    def burn() -> None:
        joules = 1
        while not over.wait(0.01):
            joules += 1
            partial = counter.with_suffix(".partial")
            partial.write_text(f"{joules}000000\n")
            partial.replace(counter)

    burning = threading.Thread(target=burn)
    burning.start()
    try:
        found = consumed(
            ConsumptionRequest(
                exported_model=str(made / "int8.tflite"),
                runtime="litert",
                threads=1,
                warmup_calls=1,
                duration_s=0.5,
                seed=0,
            )
        )
    finally:
        over.set()
        burning.join()
    # Some of what the thread above added, which depends on how often it could.
    assert 1 <= found["cpu"] <= int(counter.read_text()) / 1e6
    assert found["dram"] == 0
    assert found["images"] > 50


SHORT = Settings(
    profile="quick", loads=1, starts=1, min_duration_s=0.1, min_calls=5, limit_s=5.0, batches=(), warmup_calls=1
)


@pytest.mark.slow
def test_energy_is_among_metrics_and_table(made: Path) -> None:
    subjects = of_files([made / "int8.tflite"], None)
    raws = session.run(subjects, SHORT, report=lambda _: None).raws
    assert not any("energy" in name for name in summarize(subjects, raws, SHORT)[0].metrics())
    raws[0].consumption[1] = Consumption(images=200, joules={"cpu": 5.0, "dram": 0.5})
    results = summarize(subjects, raws, SHORT)
    found = {name: value for name, value in results[0].metrics().items() if "energy" in name}
    assert found == {"energy_cpu_mj_1t": 25.0, "energy_dram_mj_1t": 2.5}
    assert "cpu mJ, 1t" in text(results)


@pytest.mark.slow
def test_energy_pass_has_a_process_per_number_of_threads(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "is_available", lambda: True)
    subjects = of_files([made / "int8.tflite", made / "float32.tflite"], None)
    both = Settings(**vars(SHORT) | {"threads": (1, 2)})
    raws = session.run(subjects, both, report=lambda _: None).raws
    for raw in raws:
        assert set(raw.consumption) == {1, 2}
        # Each process reads the counters itself, and this machine may have none.
        assert all(one.images > 0 and "gpu" not in one.joules for one in raw.consumption.values())
