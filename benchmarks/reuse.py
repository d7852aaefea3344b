"""A grid that trains each model once, against the same cells each from nothing.

    python -m benchmarks.reuse [--overrides "model=small_cnn dataset=digits"] [--techniques a,b,...]

Both run the command as a user does, cell after cell: once as one sweep over an empty store, and once with a new empty
store for each cell, which then trains its own baseline and origin. The stores' schemas are made before the clock
starts.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipelines.results.metrics import OWN_TRAIN_S

ROOT = Path(__file__).resolve().parents[1]
TECHNIQUES = (
    "baseline,quantize_dynamic,quantize_float16,quantize_int8,cluster,cluster_quantize_int8,prune,prune_quantize_int8"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--techniques", default=TECHNIQUES, help="default: %(default)s")
    parser.add_argument("--overrides", default="model=small_cnn dataset=digits", help="default: %(default)s")
    arguments = parser.parse_args()
    techniques = arguments.techniques.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        once = _run(folder / "once", [arguments.techniques], arguments.overrides)
        each = _run(folder / "each", techniques, arguments.overrides)
    print(f"| {len(techniques)} cells | wall time | to one sweep | trainings |")
    print("|---|---|---|---|")
    for what, (seconds, trainings) in (("one sweep", once), ("each from nothing", each)):
        print(f"| {what} | {seconds:.0f} s | x {seconds / once[0]:.2f} | {trainings} |")


def _run(folder: Path, grids: list[str], overrides: str) -> tuple[float, int]:
    """Seconds of all grids, each with a store of its own, and how many models they trained."""
    import mlflow

    seconds, trainings = 0.0, 0
    for number, techniques in enumerate(grids):
        place = folder / str(number)
        place.mkdir(parents=True)
        client = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
        experiment = client.create_experiment("reuse", artifact_location=(place / "artifacts").as_uri())
        command = [
            *(sys.executable, "-m", "pipelines", "run", "-m", f"technique={techniques}", *shlex.split(overrides)),
            *("tracking.experiment=reuse", f"hydra.sweep.dir={place / 'sweep'}"),
        ]
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}"}
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
        seconds += time.perf_counter() - started
        cells = client.search_runs([experiment], "tags.technique != ''")
        trainings += sum(run.data.metrics[OWN_TRAIN_S] > 0 for run in cells)
    return seconds, trainings


if __name__ == "__main__":
    main()
