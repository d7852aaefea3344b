import json

import pytest

from pipelines.system import machine


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
        found = machine.description()
        assert found["cores"] == machine.cores() and found["runtime"].startswith("LiteRT 2.")
        assert {"processor", "memory_gib", "system", "python", "architecture"} <= set(found)
        json.dumps(found)
