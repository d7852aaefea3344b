import json
import os
from types import SimpleNamespace

import psutil
import pytest

from pipelines.system import guard, machine, runtime


class TestMachine:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("AMD EPYC 7B13", "amd-epyc-7b13-2c"),
            ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon-2c"),
            ("AMD Ryzen 7 5800X 8-Core Processor", "amd-ryzen-7-5800x-2c"),
            ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4-model-b-rev-1.4-2c"),
            ("", "2c"),
            # The cores stay.
            (
                "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
                "nvidia-jetson-orin-nano-engineering-reference-developer-k-2c",
            ),
        ],
    )
    def test_slug(self, monkeypatch, name, expected):
        monkeypatch.setattr(machine, "processor", lambda: name)
        monkeypatch.setattr(machine, "cores", lambda: 2)
        assert machine.slug() == expected

    @pytest.mark.parametrize(
        ("cpuinfo", "board", "expected"),
        [
            ("model name\t: AMD EPYC 7B13\n", "A board", "AMD EPYC 7B13"),
            ("CPU implementer\t: 0x41\n", "Raspberry Pi 5", "Raspberry Pi 5"),
            # In a container, which hides the board.
            ("CPU part\t: 0xd08\nModel\t\t: Raspberry Pi 4 Model B\n", None, "Raspberry Pi 4 Model B"),
            (
                "CPU implementer\t: 0x41\nCPU part\t: 0xd40\n\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n",
                None,
                "aarch64 implementer 0x41 part 0xd40",
            ),
        ],
    )
    def test_processor_of_many_machines(self, monkeypatch, tmp_path, cpuinfo, board, expected):
        for name, text in (("CPUINFO", cpuinfo), ("BOARD", board)):
            monkeypatch.setattr(machine, name, tmp_path / name)
            if text is not None:
                (tmp_path / name).write_text(text)
        monkeypatch.setattr("platform.processor", lambda: "")
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        assert machine.processor() == expected

    def test_governor_where_there_is_one(self, monkeypatch, tmp_path):
        monkeypatch.setattr(machine, "GOVERNOR", tmp_path / "none")
        assert machine.governor() is None and "governor" not in machine.description()
        (tmp_path / "governor").write_text("powersave\n")
        monkeypatch.setattr(machine, "GOVERNOR", tmp_path / "governor")
        assert machine.description()["governor"] == "powersave"

    def test_description(self):
        found = machine.description()
        assert found["cores"] == machine.cores() and found["runtime"].startswith("LiteRT 2.")
        assert {"processor", "memory_gib", "system", "python", "architecture"} <= set(found)
        json.dumps(found)

    @pytest.mark.parametrize(
        ("files", "cores", "memory"),
        [
            ({}, 64, 10**12),
            ({"cpu.max": "max 100000", "memory.max": "max"}, 64, 10**12),
            ({"cpu.max": "250000 100000", "memory.max": "8000000000"}, 2, 8 * 10**9),
            ({"cpu.max": "50000 100000"}, 1, 10**12),
            ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64, 10**12),
            (
                {
                    "cpu/cpu.cfs_quota_us": "400000",
                    "cpu/cpu.cfs_period_us": "100000",
                    "memory/memory.limit_in_bytes": "4000000000",
                },
                4,
                4 * 10**9,
            ),
        ],
        ids=["none", "no limit", "2.5 cores", "half a core", "v1, no limit", "v1"],
    )
    def test_limits_of_a_container_count(self, monkeypatch, tmp_path, files, cores, memory):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**12))
        assert machine.cores() == cores
        assert machine.free_memory() == memory


def test_fewer_threads_than_cores_are_in_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of trainings with other numbers of threads are not compared."""
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert runtime.trained_on() == runtime.hardware_name(runtime.hardware())
    monkeypatch.setattr(machine, "cores", lambda: 4)
    for threads, end in (("4", ""), ("2", ", 2 threads"), ("1", ", 1 thread"), ("", ""), ("auto", "")):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
        assert runtime.trained_on() == runtime.hardware_name(runtime.hardware()) + end


def test_a_disk_without_room_is_named(tmp_path):
    machine.check_room(tmp_path, 1000, "vgg16-cifar10-qat")
    with pytest.raises(
        OSError, match=r"vgg16-cifar10-qat needs about .* MB, and [\d,]+ of [\d,]+ MB are free"
    ) as refused:
        machine.check_room(tmp_path, 10**18, "vgg16-cifar10-qat")
    assert "make room on that disk, or choose another" in guard.sentence(refused.value)
