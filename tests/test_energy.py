"""Energy is what the machine's counters say, and nothing where they say nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from zeus.device import cpu as zeus_cpu
from zeus.device.cpu import rapl

from pipelines import energy


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A processor's counters as Linux shows them; its memory is a zone below."""
    package = tmp_path / "intel-rapl:0"
    for zone, name in ((package, "package-0"), (package / "intel-rapl:0:0", "dram")):
        zone.mkdir()
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text("1000000\n")
        (zone / "max_energy_range_uj").write_text("262143328850\n")
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path))
    with forgotten(monkeypatch):
        yield package


class forgotten:  # noqa: N801 (reads as a context)
    """What Zeus and we have found out about the machine, before and after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zeus_cpu, "_cpus", None)

    def __enter__(self) -> None:
        rapl.rapl_is_available.cache_clear()
        energy._counters.cache_clear()

    def __exit__(self, *_: object) -> None:
        self.__enter__()


def test_joules_are_what_the_counters_moved_by_and_add_up(package: Path) -> None:
    joules: dict[str, float] = {}
    with energy.counted(joules):
        (package / "energy_uj").write_text("3500000\n")
        (package / "intel-rapl:0:0" / "energy_uj").write_text("1250000\n")
    assert joules == pytest.approx({"cpu": 2.5, "dram": 0.25})
    with energy.counted(joules):
        (package / "energy_uj").write_text("4000000\n")
    assert joules == pytest.approx({"cpu": 3.0, "dram": 0.25})


def test_memory_that_tells_nothing_is_absent(package: Path) -> None:
    (package / "intel-rapl:0:0" / "name").write_text("core\n")
    joules: dict[str, float] = {}
    with energy.counted(joules):
        (package / "energy_uj").write_text("2000000\n")
    assert joules == pytest.approx({"cpu": 1.0})


def test_a_machine_without_counters_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(rapl, "CONTAINER_RAPL_DIR", str(tmp_path / "none"))
    joules: dict[str, float] = {}
    with forgotten(monkeypatch), energy.counted(joules):
        pass
    assert "cpu" not in joules
