import subprocess
import sys

import numpy as np

from tests.places import ROOT


class TestMemory:
    def test_a_childs_peak_is_its_own(self):
        """getrusage in a child of a large process would report the peak of the large process."""
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
        # In a process of its own: this one may have gigabytes of other tests.
        program = (
            "import numpy as np; from pipelines.litert import memory; memory.restart_peak();"
            "held = np.ones(100_000_000, np.uint8); high = memory.peak_bytes(); del held; memory.restart_peak();"
            "print(high - memory.peak_bytes())"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert int(done.stdout) > 50e6
