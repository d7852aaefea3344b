"""What a deployer can set in LiteRT, and what it gives: `.tflite` files by the default and by other settings.

    python -m benchmarks.litert_settings resnet50.tflite vgg16.tflite [--threads 1] [--seconds 2]

Single images in turns, in bursts; the time is the first decile of the bursts' means. "again" is a second copy of the
default and shows the noise. For each setting: the ratio to the default, the largest difference of a logit in units of
their range, and the share of 200 random images with another class. Then start-up in fresh processes, the median of
five: the milliseconds of loading, and the rise of the peak memory, by default, and with XNNPACK's weight cache when it
is written and when it is there. Last, the ratio of processes with huge pages to those without, in pairs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from pipelines.litert import memory
from pipelines.litert.exported_model import ExportedModel, ends
from pipelines.litert.latency import Nanoseconds
from pipelines.litert.stream import in_turn, random_images, span, time_bursts
from pipelines.runtimes.litert import DEFAULT, FLOAT16_FORCED, Compiled

# XNNPACK's flag for indirection buffers that are made anew in each call.
TRANSIENT = 0x20
FLAGS = {
    "compiled": DEFAULT,
    "compiled, float16": DEFAULT | FLOAT16_FORCED,
    "compiled, transient indirection buffers": DEFAULT | TRANSIENT,
}
STARTS, PAIRS = 5, 4
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--start", choices=["default", "cache"], help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    (path, *_) = arguments.files
    if arguments.start:
        print(json.dumps(_start(path, arguments.cache)))
    elif arguments.alone:
        print(json.dumps(_times([ExportedModel(path, arguments.threads)], path, arguments.seconds)))
    else:
        for path in arguments.files:
            _settings(path, arguments.threads, arguments.seconds)
            _starts(path)
            _huge_pages(path, arguments.seconds)


def _settings(path: Path, threads: int, seconds: float) -> None:
    models: dict[str, Any] = {name: ExportedModel(path, threads) for name in ("default", "again")}
    models |= {name: Compiled(path, threads, flags=flags) for name, flags in FLAGS.items()}
    images = random_images(models["default"].image_shape, 200, 0)
    logits = {name: np.stack([model.query(image) for image in images]) for name, model in models.items()}
    times = dict(zip(models, _times(list(models.values()), path, seconds), strict=True))
    first = logits["default"]
    print(f"\n{path.name}, {threads} thread(s), default {times['default']:.3f} ms")
    for name in models:
        difference = float(np.abs(logits[name] - first).max()) / span(first)
        changed = float((logits[name].argmax(axis=1) != first.argmax(axis=1)).mean())
        print(f"  {name:40} x {times[name] / times['default']:.2f}  difference {difference:.1e}  changed {changed:.1%}")


def _times(models: list[Any], path: Path, seconds: float) -> list[float]:
    images = random_images(ends(path).image_shape, 16, 0)
    bursts: list[tuple[Nanoseconds, Any]] = time_bursts(
        [in_turn(model, images) for model in models],
        warmup_calls=10,
        min_duration_s=seconds,
        min_calls=50,
        limit_s=10 * seconds * len(models),
        seed=0,
    )
    return [_first_decile_ms(ns, counts) for ns, counts in bursts]


def _first_decile_ms(ns: Nanoseconds, counts: Any) -> float:
    parts = np.split(ns, np.cumsum(counts)[:-1])
    return float(np.quantile([part.mean() for part in parts], 0.1)) / 1e6


def _start(path: Path, cache: str | None) -> dict[str, float]:
    image = random_images(ends(path).image_shape, 1, 0)[0]
    memory.restart_peak()
    before, began = memory.peak_bytes(), perf_counter()
    model = Compiled(path, 1, flags=DEFAULT, xnnpack_weight_cache_path=cache) if cache else ExportedModel(path)
    loaded = perf_counter()
    model.query(image)
    return {"load_ms": 1e3 * (loaded - began), "memory_mb": (memory.peak_bytes() - before) / 1e6}


def _starts(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, list[dict[str, float]]] = {"default": [], "cache written": [], "cache there": []}
        for number in range(STARTS):
            cache = f"{folder}/{number}.cache"
            found["default"].append(_child([path, "--start", "default"]))
            found["cache written"].append(_child([path, "--start", "cache", "--cache", cache]))
            found["cache there"].append(_child([path, "--start", "cache", "--cache", cache]))
    for name, starts in found.items():
        load, peak = (median(one[key] for one in starts) for key in ("load_ms", "memory_mb"))
        print(f"  start, {name:33} load {load:.1f} ms  memory {peak:.0f} MB")


def _huge_pages(path: Path, seconds: float) -> None:
    ratios = []
    for _ in range(PAIRS):
        words = [path, "--alone", "--seconds", seconds]
        (plain,), (huge,) = _child(words), _child(words, HUGE_PAGES)
        ratios.append(huge / plain)
    print(
        f"  huge pages                               x {np.mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def _child(words: list[Any], variables: dict[str, str] | None = None) -> Any:
    command = [sys.executable, "-m", "benchmarks.litert_settings", *map(str, words)]
    ended = subprocess.run(command, env=os.environ | (variables or {}), capture_output=True, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
