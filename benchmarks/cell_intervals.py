"""Whether the interval of a cell's ratio holds for a repeated measurement, and what measuring a cell takes.

    python -m benchmarks.cell_intervals [--sessions quick:12 default:8] [--before CHECKOUT]      # 6 minutes

Untrained networks of 32 pixels, each against its float32 baseline: int8, dynamic range, and a copy of the baseline's
file, whose ratio is 1. A session measures each pair once, as a cell does (`pipelines.litert.session.measure`) on 200
random test images. Of every two sessions, in either order, the interval of the one must hold the ratio of the other.
The seconds are those of the whole measurement: load time, first call, all logits and latency.

`--before` measures with another checkout too, in turns. `--folder` keeps files and sessions; sessions that it has
already are counted again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WANTED = 0.9
IMAGES, SIDE = 200, 32
PAIRS = (
    ("small_cnn", "int8"),
    ("mobilenet_v2", "int8"),
    ("mobilenet_v2", "dynamic"),
    ("mobilenet_v2", "copy"),
    ("resnet50", "int8"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", nargs="+", default=["quick:12", "default:8"], help="default: %(default)s")
    parser.add_argument("--before", type=Path, help="another checkout of opscore")
    parser.add_argument("--folder", type=Path, default=Path("outputs/cell_intervals"), help="default: %(default)s")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    _make_files(folder)
    checkouts = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    held = []
    for name, count in (one.split(":") for one in arguments.sessions):
        began = f"{os.getloadavg()[0]:.2f}"
        found = _sessions(checkouts, name, int(count), folder)
        print(f"\n{name}: {found['now'][0]['settings']}; load average {began} to {os.getloadavg()[0]:.2f}\n")
        print("| pair | version | ratio, median | half width, median | a repeat is inside | seconds, median |")
        print("|---|---|---|---|---|---|")
        for way, sessions in found.items():
            inside = [flag for pair in PAIRS for flag in _row("-".join(pair), way, sessions)]
            seconds = np.median([sum(one["seconds"] for one in session["pairs"].values()) for session in sessions])
            print(f"| all | {way} | | | {_share(inside)} | {seconds / len(PAIRS):.2f} |")
            held += inside if way == "now" else []
    print(f"\nA repeat is inside: {_share(held)}, wanted {WANTED:.0%}")
    sys.exit(0 if np.mean(held) >= WANTED else 1)


def _row(pair: str, way: str, sessions: list[dict[str, Any]]) -> list[bool]:
    """Print one pair's figures, and return for each ordered pair of sessions whether the interval holds."""
    found = [session["pairs"][pair] for session in sessions]
    inside = [one["low"] <= other["ratio"] <= one["high"] for one, other in permutations(found, 2)]
    half = np.median([(one["high"] - one["low"]) / 2 / one["ratio"] for one in found])
    ratio, seconds = (np.median([one[name] for one in found]) for name in ("ratio", "seconds"))
    ones = sum(one["low"] <= 1 <= one["high"] for one in found)
    copy = f"; 1 is inside {ones} of {len(found)}" if pair.endswith("copy") else ""
    print(f"| {pair} | {way} | {ratio:.4f} | {half:.1%} | {_share(inside)}{copy} | {seconds:.2f} |")
    return inside


def _share(inside: list[bool]) -> str:
    return f"{sum(inside)} of {len(inside)}, {np.mean(inside):.1%}"


def _sessions(checkouts: dict[str, Path], settings: str, count: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All sessions of each checkout, each a process, in turns; those in `folder` are read."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in checkouts}
    for number in range(count):
        for way, checkout in checkouts.items():
            path = folder / f"{way}-{settings}-{number}.json"
            if not path.is_file():
                environment = {**os.environ, "PYTHONPATH": str(checkout)}
                command = [sys.executable, __file__, settings, str(number), str(folder), str(path)]
                subprocess.run(command, cwd=checkout, env=environment, check=True)
            found[way].append(json.loads(path.read_text()))
    return found


def measure_session(settings_name: str, seed: int, folder: Path, out: Path) -> None:
    """In a session's process: measure all pairs once."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from pipelines.litert.session import measure

    with initialize_config_dir(str(Path.cwd() / "conf"), version_base="1.3"):
        settings = instantiate(compose(overrides=[f"+measurement={settings_name}"]).measurement)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    pairs = {}
    for net, kind in PAIRS:
        with tempfile.TemporaryDirectory() as scratch:
            began = time.perf_counter()
            found = measure(
                folder / f"{net}_{kind}.tflite",
                reference=folder / f"{net}_float32.tflite",
                images=images,
                labels=np.arange(IMAGES) % 10,
                settings=settings,
                seed=seed,
                folder=Path(scratch),
            )
        seconds = time.perf_counter() - began
        values = {"ratio": found.ratio, "low": found.ratio_low, "high": found.ratio_high, "seconds": seconds}
        pairs[f"{net}-{kind}"] = values
    out.write_text(json.dumps({"settings": asdict(settings), "pairs": pairs}, indent=2) + "\n")


def _make_files(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{net}_{kind}" for net, kind in PAIRS} | {f"{net}_float32" for net, _ in PAIRS}
    if not all((folder / f"{name}.tflite").is_file() for name in names):
        code = f"from benchmarks.cell_intervals import make; make({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def make(folder: str) -> None:
    """Write the exported models; in a process of its own, whose memory then goes back."""
    from benchmarks.images import image_data
    from pipelines.execution.export import export
    from pipelines.models.mobilenet import MobileNetV2
    from pipelines.models.resnet import ResNet
    from pipelines.models.small_cnn import SmallCNN
    from pipelines.system import runtime
    from pipelines.techniques.base import Candidate
    from pipelines.techniques.quantize import Quantize

    runtime.prepare(onednn=True, deterministic=False)
    settings: dict[str, Any] = {"weights": None, "dropout": 0.0, "onednn": True}
    images = np.random.default_rng(0).integers(0, 256, (64, SIDE, SIDE, 3), dtype=np.uint8)
    for net in (
        SmallCNN(width=32, input_size=None, **settings),
        MobileNetV2(input_size=SIDE, **settings),
        ResNet(depth=50, input_size=SIDE, **settings),
    ):
        model = net.build(images.shape[1:], 10)
        for kind in ("float32", "int8", "dynamic"):
            rewriting = None if kind == "float32" else Quantize(scheme=kind, calibration_images=32)
            path = Path(folder) / f"{net.name}_{kind}.tflite"
            export(Candidate(model=model, rewriting=rewriting), image_data(images), path)
        shutil.copyfile(Path(folder) / f"{net.name}_float32.tflite", Path(folder) / f"{net.name}_copy.tflite")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[4].endswith(".json"):
        measure_session(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
