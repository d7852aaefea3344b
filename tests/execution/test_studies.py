"""The smoke study, as its header says, on a store of its own."""

import re
from pathlib import Path

import pytest

from tests.places import BRIEFLY, ROOT, Place, called

pytestmark = pytest.mark.slow


def test_smoke(tmp_path: Path) -> None:
    place = Place(tmp_path)
    # In one process, as no cell of it dies.
    # Measured for less time than `quick` takes.
    grid = ["experiment=smoke", "tracking.experiment=mine", "sweep.isolation=inline", f"hydra.sweep.dir={tmp_path}/out"]
    grid += BRIEFLY
    done = called("pipelines", "sweep", *grid, cwd=ROOT, variables=place.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"\[\d/7\] +(\w+)", done.stdout)) == ["done"] * 6 + ["skipped"]
    (parent,) = place.sweeps()
    assert parent.info.run_name == "smoke of 7 cells"
    assert parent.data.params["technique"].startswith("baseline,transfer")
    for run in place.cells():
        assert run.data.metrics["test/accuracy"] > 0.5, run.info.run_name
