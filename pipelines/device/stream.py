"""The times of many exported models, in one process: `python -m pipelines.device.stream REQUEST.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.litert.process import serve
from pipelines.litert.stream import IMAGES, check_same, in_turn, random_images, time_bursts
from pipelines.runtimes.base import Runtime, named


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """A request to the child. exported_models: absolute paths. runtimes: the name of the runtime of each. order: the
    places of all in these lists, in which they are loaded. limit_s: for the timing. seed: of images and turns.
    """

    exported_models: tuple[str, ...]
    runtimes: tuple[str, ...]
    order: tuple[int, ...]
    threads: int
    batch: int
    warmup_calls: int
    min_duration_s: float
    min_calls: int
    limit_s: float
    seed: int


def streamed(request: StreamRequest) -> dict[str, Any]:
    """For each exported model, by its place: `ns_<place>` of all counted calls, and `bursts_<place>`, calls per burst.

    One that does not support the batch size has `refused_<place>`, the reason, instead.
    """
    calls: list[Callable[[], object]] = []
    places: list[int] = []
    found: dict[str, Any] = {}
    for place in request.order:
        path, runtime = Path(request.exported_models[place]), named(request.runtimes[place])
        try:
            calls.append(prepared(path, runtime, request))
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


def prepared(path: Path, runtime: Runtime, request: StreamRequest) -> Callable[[], object]:
    """A call of the loaded exported model with random images.

    Raises ValueError if it does not support the batch size, or its logits in a batch differ.
    """
    if request.batch == 1:
        return single(path, runtime, request.threads, request.seed)
    model = runtime.load(path, request.threads, batch=request.batch)
    batch = random_images(model.image_shape, request.batch, request.seed)
    alone = runtime.load(path, 1)
    check_same(np.stack([alone.query(image) for image in batch[:4]]), model.query_batch(batch)[:4], path)
    return lambda: model.query_batch(batch)


def single(path: Path, runtime: Runtime, threads: int, seed: int) -> Callable[[], object]:
    """A call of the loaded exported model that cycles through `IMAGES` random images."""
    model = runtime.load(path, threads)
    return in_turn(model, random_images(model.image_shape, IMAGES, seed))


if __name__ == "__main__":
    serve(StreamRequest, streamed)
