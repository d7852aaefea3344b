"""Many exported models timed in turns, in one process: `python -m pipelines.litert.stream REQUEST.json`.

Each exported model has a burst of calls in its turn: single calls in turns would find the caches full of other models'
data, unlike in deployment. A cell and its baseline take turns in bursts too (`pipelines.litert.child`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.latency import Nanoseconds
from pipelines.litert.process import serve
from pipelines.system.runtime import no_garbage_collection

# The durations of all profiles, divided by their windows, are multiples of it.
BURST_S = 0.02
# Least number of counted calls of a burst.
BURST_CALLS = 5
IMAGES = 16
# Greatest difference of an image's logits alone and in a batch, in units of their range.
MAX_DIFFERENCE = 0.02


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """A request to the child. exported_models: absolute paths. limit_s: for the timing. seed: of images and turns."""

    exported_models: tuple[str, ...]
    threads: int
    batch: int
    warmup_calls: int
    min_duration_s: float
    min_calls: int
    limit_s: float
    seed: int
    result: str


def streamed(request: StreamRequest) -> dict[str, Any]:
    """For each exported model, by its place: `ns_<place>` of all counted calls, and `bursts_<place>`, calls per burst.

    One that does not support the batch size has `refused_<place>`, the reason, instead.
    """
    calls: list[Callable[[], object]] = []
    places: list[int] = []
    found: dict[str, Any] = {}
    for place, path in enumerate(request.exported_models):
        try:
            calls.append(prepared(Path(path), request))
            places.append(place)
        except ValueError as error:
            if request.batch == 1:
                raise
            found[f"refused_{place}"] = np.array(str(error))
    timed = time_bursts(
        calls,
        warmup_calls=request.warmup_calls,
        min_duration_s=request.min_duration_s,
        min_calls=request.min_calls,
        limit_s=request.limit_s,
        seed=request.seed,
    )
    for place, (taken, bursts) in zip(places, timed, strict=True):
        found |= {f"ns_{place}": taken, f"bursts_{place}": bursts}
    return found


def random_images(shape: tuple[int, int, int], count: int, seed: int) -> npt.NDArray[np.uint8]:
    """uint8 (count, h, w, 3), uniformly distributed: timing needs no dataset."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def prepared(path: Path, request: StreamRequest) -> Callable[[], object]:
    """A call of the loaded exported model with random images.

    Raises ValueError if it does not support the batch size, or its logits in a batch differ.
    """
    if request.batch == 1:
        return single(path, request.threads, request.seed)
    exported_model = ExportedModel(path, request.threads, batch=request.batch)
    batch = random_images(exported_model.image_shape, request.batch, request.seed)
    check_same(ExportedModel(path).logits(batch[:4]), exported_model.query_batch(batch)[:4], path)
    return lambda: exported_model.query_batch(batch)


def single(path: Path, threads: int, seed: int) -> Callable[[], object]:
    """A call of the loaded exported model that cycles through `IMAGES` random images."""
    exported_model = ExportedModel(path, threads)
    return in_turn(exported_model, random_images(exported_model.image_shape, IMAGES, seed))


def in_turn(exported_model: ExportedModel, images: npt.NDArray[np.uint8]) -> Callable[[], object]:
    """A call of the exported model with the next of the images, (n, h, w, 3), which begin again after the last."""
    following = cycle(images)
    return lambda: exported_model.query(next(following))


def check_same(alone: npt.NDArray[np.float32], together: npt.NDArray[np.float32], path: Path) -> None:
    """Raise ValueError where the logits of images in a batch differ from those of single images."""
    differing = float(np.abs(alone - together).max())
    if not differing <= MAX_DIFFERENCE * max(float(np.ptp(alone)), 1e-6):
        raise ValueError(
            f"{path} must give the same logits in a batch as for single images, got a difference of {differing:.3g}"
        )


def time_bursts(
    calls: Sequence[Callable[[], object]],
    *,
    warmup_calls: int,
    min_duration_s: float,
    min_calls: int,
    limit_s: float,
    seed: int,
    on_average: bool = False,
) -> list[tuple[Nanoseconds, npt.NDArray[np.int64]]]:
    """Nanoseconds of all counted calls, and their number in each burst, for each of `calls`: int64 (calls,), (rounds,).

    In every round each has one burst, in random order, so that a slow phase of the machine affects all equally. A burst
    has at least `BURST_S` and `BURST_CALLS` of counted calls, after one that is not counted. Rounds continue until each
    has `min_calls` and `min_duration_s` of counted calls, or until `limit_s` has passed since the start; there is
    always one round. on_average: the duration is that of the average model, so that a model with slow calls, whose
    bursts are longer, does not wait for a fast one.
    """
    for call in calls:
        for _ in range(warmup_calls):
            call()
    taken_ns: list[list[int]] = [[] for _ in calls]
    bursts: list[list[int]] = [[] for _ in calls]
    turns, shuffle = list(range(len(calls))), random.Random(seed).shuffle
    began = perf_counter_ns()
    with no_garbage_collection(collect=True):
        while True:
            shuffle(turns)
            for turn in turns:
                taken = _burst(calls[turn])
                taken_ns[turn] += taken
                bursts[turn].append(len(taken))
            sums_ns = [sum(one) for one in taken_ns] or [0]
            duration_ns = sum(sums_ns) / len(sums_ns) if on_average else min(sums_ns)
            enough = all(len(one) >= min_calls for one in taken_ns) and duration_ns >= min_duration_s * 1e9
            if enough or not calls or perf_counter_ns() - began >= limit_s * 1e9:
                break
    return [(np.array(ns, np.int64), np.array(counts, np.int64)) for ns, counts in zip(taken_ns, bursts, strict=True)]


def _burst(call: Callable[[], object]) -> list[int]:
    call()
    taken: list[int] = []
    left_ns = int(BURST_S * 1e9)
    while left_ns > 0 or len(taken) < BURST_CALLS:
        start = perf_counter_ns()
        call()
        taken.append(perf_counter_ns() - start)
        left_ns -= taken[-1]
    return taken


if __name__ == "__main__":
    serve(StreamRequest, streamed)
