"""Recorded cells that no run made, for tests of what is computed from them."""

import math

import numpy as np
import numpy.typing as npt

from pipelines.comparison.ranking import Comparison, compare
from pipelines.results.metrics import TRAIN_RATIO, TRAIN_RATIO_HIGH, TRAIN_RATIO_LOW
from pipelines.results.recorded_cell import RecordedCell
from pipelines.results.verdict import training_ratio

# a, s, t, r of the default profile, as MLflow keeps parameters.
PARAMS = {"score.accuracy": "2", "score.size": "0.5", "score.test_time": "0.25", "score.train_time": "0.25"}


def recorded(
    technique: str,
    *,
    accuracy: float = 0.8,
    megabytes: float = 1.0,
    test_ms: float = 1.0,
    train_s: float | None = 10.0,
    ratio: tuple[float, float] = (0.7, 0.8),
    p_value: float = 1.0,
    seed: int = 0,
    model: str = "vgg16",
    hardware: str = "a CPU",
    feasible: bool = True,
    images: int = 1000,
    started: int = 0,
    digest: str = "d",
    training: str = "t",
    params: dict[str, str] | None = None,
    own_s: float = 0.0,
    dataset: str = "cifar10",
) -> RecordedCell:
    """A cell of ten classes with the terms of its score, compared with a baseline of 80%, 1 MB, 1 ms and 10 s.

    train_s: None where it is unknown, as that of its baseline then is. own_s: the part of it that the cell trained for.
    """

    def terms(accuracy: float, megabytes: float, test_ms: float, train_s: float | None) -> dict[str, float]:
        kappa = (accuracy - 0.1) / 0.9
        known = {
            "accuracy": 40 * math.log10(100 * kappa),
            "size": -10 * math.log10(megabytes),
            "test_time": -5 * math.log10(test_ms),
        }
        return known if train_s is None else known | {"train_time": -5 * math.log10(train_s)}

    shared = {name: value for name, value in (params or {}).items() if name.startswith(("training.", "model."))}
    base = f"{model} {dataset} {seed} {digest} {training} {hardware} {shared}"
    own = terms(accuracy, megabytes, test_ms, train_s)
    other = terms(0.8, 1.0, 1.0, None if train_s is None else 10.0)
    metrics = {
        "test/accuracy": accuracy,
        "test/chance": 0.1,
        "time/train_s": own_s,
        "size/file_bytes": megabytes * 1e6,
        "size/compressed_bytes": megabytes * 1e6,
        "time/test_ms_p50": test_ms,
        "score/operational": sum(own.values()),
        **{f"score/{name}_db": value for name, value in own.items()},
    }
    if train_s is not None:
        metrics["time/train_total_s"] = train_s
    if technique != "baseline":
        metrics |= {"baseline/accuracy_difference": accuracy - 0.8, "baseline/size_ratio": megabytes}
        if train_s is not None:
            found = training_ratio(train_s - own_s, train_s, 10.0)
            metrics |= dict(zip((TRAIN_RATIO, TRAIN_RATIO_LOW, TRAIN_RATIO_HIGH), found, strict=True))
        metrics |= {f"score/gain_{name}_db": own[name] - other[name] for name in own}
        metrics |= {
            "score/gain_db": sum(own.values()) - sum(other.values()),
            "baseline/accuracy_p_value": p_value,
            "baseline/time_ratio_low": ratio[0],
            "baseline/time_ratio_high": ratio[1],
        }
    return RecordedCell(
        run_id=f"{technique}{seed}{started}0123456789-{model}-{dataset}-{params or ''}",
        started=started,
        name=f"{model}-{dataset}-{technique}",
        model=model,
        dataset=dataset,
        technique=technique,
        source="",
        seed=str(seed),
        feasible=feasible,
        hardware=hardware,
        fingerprint=base if technique == "baseline" else f"{technique} {params} of {base}",
        baseline="" if technique == "baseline" else base,
        digest=digest,
        training_digest=training,
        test_shape=(images, 32, 32, 3) if images else (),
        training_shape=(50_000, 32, 32, 3),
        params={**PARAMS, "seed": str(seed), "technique._target_": technique, "model._target_": model} | (params or {}),
        metrics=metrics,
    )


def compared(*cells: RecordedCell) -> Comparison:
    (comparison,) = compare(cells)
    return comparison


def answers(
    right: int, images: int = 1000, *, beside: int | None = None, differing: int | None = None
) -> npt.NDArray[np.bool_]:
    """The first `right` of the images got right.

    beside: so many are right for another, and exactly one of the two gets `differing` images right; as few as possible
    by default.
    """
    found: npt.NDArray[np.bool_] = np.arange(images) < (right if beside is None else beside)
    if beside is not None:
        gained = ((abs(right - beside) if differing is None else differing) + right - beside) // 2
        found[: beside + gained - right] = False
        found[beside : beside + gained] = True
    assert found.sum() == right
    return found
