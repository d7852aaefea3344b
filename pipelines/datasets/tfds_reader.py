"""The subprocess that reads a dataset of TensorFlow Datasets: `python -m pipelines.datasets.tfds_reader <JSON>`.

It writes an `.npz` file for `dataset=npz` and prints notes, a line each; or it prints one sentence and exits with
status 1.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.system import runtime
from pipelines.system.checks import did_you_mean
from pipelines.system.words import one_line, some

# Usual names of each part, in order of precedence.
PARTS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


def read(*, name: str, data_dir: str | None, image_size: int | None, file: str) -> list[str]:
    """Prepare the dataset if needed and write its images and labels; gives notes on what was changed.

    Raises ValueError with one sentence.
    """
    builder = _builder(name, data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise ValueError(
            f"dataset.name={name} must be in {builder.data_dir} or come from its source, which failed "
            f"({type(error).__name__}: {_line(error)}): prepare it on a machine with network and copy that folder, or "
            "set dataset.source_dir to where it is"
        ) from error
    image, label = _features(name, builder.info.features)
    arrays: dict[str, Any] = {"class_names": np.array(builder.info.features[label].names)}
    for part, names in PARTS.items():
        split = next((one for one in names if one in builder.info.splits), None)
        if split is None:
            continue
        images: list[npt.NDArray[np.uint8]] = []
        labels: list[int] = []
        for example in _examples(builder, split):
            # Competitions do not publish the labels of their test images.
            if example[label] < 0:
                images, labels = [], []
                break
            # At once: photographs at full size may not fit into memory together.
            images.append(example[image] if image_size is None else _resized(example[image], image_size))
            labels.append(int(example[label]))
        if labels:
            arrays[f"x_{part}"] = _stacked(name, images)
            arrays[f"y_{part}"] = np.array(labels, np.int64)
    if "x_train" not in arrays:
        raise ValueError(
            f"dataset.name={name} must have a split train, got {', '.join(builder.info.splits)}: choose another"
        )
    notes = _leave_out_empty(name, arrays)
    try:
        np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise ValueError(
            f"dataset.name={name} must fit into {Path(file).parent.parent}, got {_line(error)}: set TMPDIR to a folder "
            "with more room, or dataset.image_size, or a smaller one, for example dataset.image_size=64"
        ) from error
    return notes


def _leave_out_empty(name: str, arrays: dict[str, Any]) -> list[str]:
    """Leave out the classes of which no part has an image, such as 11 of 37 in emnist/letters."""
    names, parts = arrays["class_names"], [key for key in arrays if key.startswith("y_")]
    used = np.unique(np.concatenate([arrays[key] for key in parts]))
    empty = np.delete(names, used)
    if not len(empty):
        return []
    arrays["class_names"] = names[used]
    for key in parts:
        arrays[key] = np.searchsorted(used, arrays[key])
    return [f"{name}: {len(empty)} of {len(names)} classes have no images and were left out: {some(empty.tolist())}"]


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a split, one after the other."""
    import tensorflow_datasets as tfds

    # All other formats need TensorFlow.
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return iter(builder.as_data_source(split=split))
    with runtime.without_greetings():
        dataset = builder.as_dataset(split=split)
    return iter(tfds.as_numpy(dataset))


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        # It loads TensorFlow for most.
        with runtime.without_greetings():
            return tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        known = tfds.list_builders()
        base = name.partition("/")[0].partition(":")[0]
        if base not in known:
            raise ValueError(
                f"dataset.name must be a dataset of tensorflow-datasets, or one that is prepared in "
                f"{data_dir or 'its default folder'}, got {name!r}{did_you_mean(base, known)}"
            ) from error
        raise ValueError(f"dataset.name={name} cannot be loaded: {_line(error)}") from error


def _features(name: str, features: Any) -> tuple[str, str]:
    """The names of the one image and of the one label of an example."""
    import tensorflow_datasets as tfds

    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    found = {}
    for what, kind in kinds.items():
        keys = [key for key, feature in features.items() if isinstance(feature, kind)]
        if len(keys) != 1 and what not in keys:
            raise ValueError(
                f"dataset.name={name} must have one {what} for each example, got {', '.join(keys) or 'none'} among "
                f"{', '.join(features)}: choose a dataset for classification"
            )
        found[what] = keys[0] if len(keys) == 1 else what
    return found["image"], found["label"]


def _stacked(name: str, images: list[npt.NDArray[Any]]) -> npt.NDArray[np.uint8]:
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise ValueError(
            f"dataset.image_size must be set for dataset.name={name}, whose images are of {len(sizes)} sizes: set for "
            "example dataset.image_size=64"
        )
    return np.stack(images)


def _resized(image: npt.NDArray[Any], side: int) -> npt.NDArray[np.uint8]:
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else image).resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels[..., None] if grey else pixels


def _line(error: Exception) -> str:
    return one_line(error)[:200]


def main(request: dict[str, Any]) -> int:
    """Read the requested dataset; returns the exit status."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            notes = read(**request)
    except ValueError as error:
        print(error)
    except MemoryError:
        print(
            f"dataset.name={request['name']} must fit into memory: set dataset.image_size, or a smaller one, for "
            "example dataset.image_size=64"
        )
    except Exception as error:  # noqa: BLE001 (damaged files make the readers of each format raise their own)
        folder = request["data_dir"] or "the folder of prepared datasets"
        print(
            f"dataset.name={request['name']} must be readable, got {type(error).__name__}: {_line(error)}; delete its "
            f"folder in {folder}, so that it is prepared again"
        )
    else:
        print("\n".join(notes))
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
