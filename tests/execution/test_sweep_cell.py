"""What a sweep tells the process of a cell."""

import pytest
from omegaconf import OmegaConf

from pipelines.execution import sweep_cell


@pytest.mark.parametrize(("cpus", "threads"), [(None, None), (0.5, 1), (2.0, 2), (4, 4)])
def test_ray_gives_a_cell_whole_threads(cpus: float | None, threads: int | None) -> None:
    launcher = OmegaConf.create({"ray": {"remote": {"num_cpus": cpus}}})
    assert sweep_cell._share_of_cores(launcher) == threads
