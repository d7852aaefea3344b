"""Whether the prediction intervals of `opscore measure` hold for repeated sessions.

    python -m benchmarks.intervals [--profile standard] [--repeats 5] [--folder outputs/intervals]

Six artifacts of three networks, float32 and int8, are measured in sessions of their own, one after the other, each a
process as a user starts it. Of every two artifacts (15 pairs) and each number of threads, the interval of one session
must hold the ratio of the session right after or before it, its repeat; how often it holds that of any other session is
counted too. The machine is taken as it is: its load when each session began is printed.
`--folder` keeps artifacts and sessions; sessions that it has already are counted again.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.device import results
from pipelines.litert.latency import Load, Nanoseconds, ratio

ROOT = Path(__file__).resolve().parents[1]
WANTED = 0.9
WINDOWS = 5
KINDS: tuple[Literal["float32", "int8"], ...] = ("float32", "int8")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A figure of one session with its interval, and what another session got, `apart` sessions later or earlier."""

    threads: str
    value: float
    low: float
    high: float
    repeated: float
    apart: int

    @property
    def holds(self) -> bool:
        """Whether the interval covers what the other session got."""
        return self.low <= self.repeated <= self.high

    @property
    def width(self) -> float:
        """Half the interval, as a share of the figure."""
        return (self.high - self.low) / 2 / self.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="standard", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="sessions, default: %(default)s")
    parser.add_argument("--folder", type=Path, default=Path("outputs/intervals"), help="default: %(default)s")
    arguments = parser.parse_args()
    files = _artifacts(arguments.folder)
    out = arguments.folder / arguments.profile
    out.mkdir(parents=True, exist_ok=True)
    for _ in range(arguments.repeats - len(list(out.iterdir()))):
        print(f"load before this session, of the last minute: {os.getloadavg()[0]:.2f}", file=sys.stderr)
        command = [sys.executable, "-m", "pipelines", "measure", *files, f"profile={arguments.profile}"]
        subprocess.run([*command, "batches=none", f"out={out}"], cwd=ROOT, check=True, stdout=sys.stderr)
    sessions = [_read(folder) for folder in sorted(out.iterdir())]
    ratios = _claims([_ratios(one) for one in sessions])
    medians = _claims([_medians(one) for one in sessions])
    heading = [f"{len(sessions)} sessions, profile {arguments.profile}", "a repeat", "every other session"]
    print(f"| {' | '.join([*heading, 'half width, median', 'largest'])} |")
    print("|---|---|---|---|---|")
    for what, claims in (("ratio", ratios), ("p50", medians)):
        for threads in sorted({claim.threads for claim in claims}):
            _row(f"{what}, {threads} threads", [claim for claim in claims if claim.threads == threads])
    invalid = [
        why for folder in sorted(out.iterdir()) for path in folder.glob("*/result.json") for why in _invalid(path)
    ]
    print(f"\nINVALID: {len(invalid)} of {sum(map(len, sessions))}; {_spread(out)}")
    print(f"ratios: a repeat held {_held(_repeats(ratios))}, every other session {_held(ratios)}")
    sys.exit(0 if np.mean([claim.holds for claim in _repeats(ratios)]) >= WANTED else 1)


def _row(what: str, claims: list[Claim]) -> None:
    widths = [claim.width for claim in claims]
    held = f"{_held(_repeats(claims))} | {_held(claims)}"
    print(f"| {what} | {held} | {np.median(widths):.1%} | {max(widths):.1%} |")


def _repeats(claims: list[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.apart == 1]


def _held(claims: list[Claim]) -> str:
    held = [claim.holds for claim in claims]
    return f"{sum(held)} of {len(held)}, {np.mean(held):.1%}"


Figures = dict[tuple[str, str, str], tuple[float, float, float]]


def _claims(sessions: list[Figures]) -> list[Claim]:
    """Each session's intervals about every other's figures."""
    return [
        Claim(threads=key[0], value=value, low=low, high=high, repeated=other[key][0], apart=abs(here - there))
        for (here, one), (there, other) in permutations(enumerate(sessions), 2)
        for key, (value, low, high) in one.items()
    ]


def _ratios(loads: dict[tuple[str, str], list[Load]]) -> Figures:
    """By threads and the two artifacts, what the session says of their ratio."""
    return {
        (threads, one, other): ratio(loads[threads, one], loads[threads, other], seed=0)
        for threads in {threads for threads, _ in loads}
        for one, other in combinations(sorted({label for _, label in loads}), 2)
    }


def _medians(loads: dict[tuple[str, str], list[Load]]) -> Figures:
    return {(threads, label, ""): results.p50_ms(of_one, seed=0) for (threads, label), of_one in loads.items()}


def _read(folder: Path) -> dict[tuple[str, str], list[Load]]:
    """A session's loads by threads and artifact."""
    found = {}
    for path in folder.glob("*/latency.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                if name.startswith("ns_"):
                    threads = name.removeprefix("ns_")
                    found[threads.removesuffix("t"), path.parent.name] = _loads(
                        arrays[name], arrays[f"bursts_{threads}"], arrays[f"loads_{threads}"]
                    )
    return found


def _loads(ns: Nanoseconds, bursts: Nanoseconds, loads: Nanoseconds) -> list[Load]:
    split = np.split(bursts, np.cumsum(loads)[:-1])
    calls = np.split(ns, np.cumsum([int(one.sum()) for one in split])[:-1])
    return [
        Load(window=place * WINDOWS // len(split), ns=own, bursts=of_one)
        for place, (own, of_one) in enumerate(zip(calls, split, strict=True))
    ]


def _invalid(path: Path) -> list[str]:
    return json.loads(path.read_text())["invalid"]  # type: ignore[no-any-return]


def _spread(out: Path) -> str:
    """By how much the medians of one artifact's windows differed."""
    spreads = [
        max(one["windows_ms"]) / min(one["windows_ms"]) - 1
        for path in out.glob("*/*/result.json")
        for one in json.loads(path.read_text())["latency"].values()
    ]
    quartiles = np.percentile(spreads, (25, 50, 75, 100))
    return (
        "largest to smallest median of a session's windows: "
        + ", ".join(f"{one:.1%}" for one in quartiles)
        + (" (quartiles, largest)")
    )


def _artifacts(folder: Path) -> list[str]:
    """Untrained networks serve: what the weights are makes no difference to the time."""
    folder = folder.resolve() / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{net}_{kind}" for net in ("small_cnn", "mobilenet_v2", "efficientnet_lite0") for kind in KINDS]
    paths = [folder / f"{name}.tflite" for name in names]
    if not all(path.is_file() for path in paths):
        code = f"from benchmarks.intervals import make; make({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return [str(path) for path in paths]


def make(folder: str) -> None:
    """Write the artifacts; in a process of its own, whose memory then goes back."""
    from benchmarks.images import image_data
    from pipelines.execution.export import export
    from pipelines.models.efficientnet_lite import EfficientNetLite
    from pipelines.models.mobilenet import MobileNetV2
    from pipelines.models.small_cnn import SmallCNN
    from pipelines.system import runtime
    from pipelines.techniques.base import Candidate
    from pipelines.techniques.quantize import Quantize

    runtime.prepare(onednn=True, deterministic=False)
    settings: dict[str, Any] = {"weights": None, "dropout": 0.0, "onednn": True}
    nets = (
        (SmallCNN(width=32, input_size=None, **settings), 8),
        (MobileNetV2(input_size=32, **settings), 32),
        (EfficientNetLite(variant=0, input_size=64, **settings), 32),
    )
    for net, side in nets:
        images = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
        model = net.build(images.shape[1:], 10)
        for kind in KINDS:
            rewriting = None if kind == "float32" else Quantize(scheme=kind, calibration_images=32)
            path = Path(folder) / f"{net.name}_{kind}.tflite"
            export(Candidate(model=model, rewriting=rewriting), image_data(images), path)


if __name__ == "__main__":
    main()
