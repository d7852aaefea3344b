"""From runs of MLflow to recorded cells."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipelines.results.on_device import PREFIX
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system.errors import StoreError
from pipelines.tracking import tags as tag_names

if TYPE_CHECKING:
    from mlflow.entities import Run

_SETTING = "training.mixed_precision"
# Fields of RecordedCell that are tags, by the tag's name.
TAGS = {
    **{name: name for name in ("model", "dataset", "technique", "source", "seed", "hardware")},
    tag_names.FINGERPRINT: "fingerprint",
    tag_names.BASELINE: "baseline",
    tag_names.CODE: "code",
    tag_names.MAJORITY: "majority",
    tag_names.DELEGATED: "delegated",
    tag_names.TRAINED_ON: "trained_on",
    tag_names.LITERT: "litert",
}


def cell_of(run: Run) -> RecordedCell:
    """The cell of a run. Strings that many runs share are kept in memory once."""
    tags, inputs = run.data.tags, run.inputs.dataset_inputs if run.inputs else []
    images = {tag.value: one.dataset for one in inputs for tag in one.tags}
    test, training = images.get("testing"), images.get("training")
    words: dict[str, Any] = {field: sys.intern(tags.get(name, "")) for name, field in TAGS.items()}
    return RecordedCell(
        run_id=run.info.run_id,
        started=run.info.start_time,
        name=run.info.run_name,
        digest=test.digest if test else "",
        training_digest=training.digest if training else "",
        test_shape=_shape(test.profile or "{}") if test else (),
        training_shape=_shape(training.profile or "{}") if training else (),
        feasible=tags.get("feasible") == "True",
        params={sys.intern(name): sys.intern(value) for name, value in _as_computed(run.data.params, tags).items()},
        metrics={sys.intern(name): value for name, value in run.data.metrics.items()},
        on_devices={name: sys.intern(value) for name, value in tags.items() if name.startswith(f"{PREFIX}/")},
        **words,
    )


def _as_computed(params: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """The parameters with the precision that a setting came to on its machine: that is what tells cells apart."""
    used = tags.get("precision", "").removeprefix("mixed_")
    if not used:
        return dict(params)
    return {name: value for name, value in params.items() if name != _SETTING} | {"training.precision": used}


@lru_cache
def _shape(profile: str) -> tuple[int, ...]:
    """The shape of a split's images, from MLflow's profile of the dataset."""
    return tuple(json.loads(profile).get("features_shape", ()))


def quoted(value: str) -> str:
    """A text as MLflow's filters take it, in Unicode's composed form. Raises StoreError for one that none can hold."""
    value = unicodedata.normalize("NFC", value)
    if "'" in value and '"' in value:
        raise StoreError(
            f"dataset must not hold quotes of both kinds, got {value!r}: no filter of MLflow's can hold it, so choose "
            "the cells with --filter"
        )
    return f'"{value}"' if "'" in value else f"'{value}'"
