"""Datasets of TensorFlow Datasets, read in a subprocess: preparing them loads TensorFlow."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.datasets.arrays import ArrayDataset, Arrays
from pipelines.datasets.base import SplitDataset
from pipelines.datasets.npz import read_archive
from pipelines.system import checks, interpreter

READER = "pipelines.datasets.tfds_reader"


@dataclass(frozen=True, kw_only=True)
class Tfds(SplitDataset, ArrayDataset):
    """A dataset with one image and one `ClassLabel` for each example.

    name: of the dataset in tensorflow-datasets. config, version: None for its defaults. source_dir: folder of prepared
    datasets, None for the library's default. image_size: side in pixels to which images are resized
    (`pipelines/datasets/picture.py`); None where all have one size. Only labelled test images are test images.
    """

    default_name = ""

    config: str | None = None
    version: str | None = None
    source_dir: str | None = field(default=None, metadata={"fingerprint": False})
    image_size: int | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError(
                "dataset.name must name a dataset of tensorflow-datasets, got null: set dataset.name=mnist"
            )
        self._check_plain_name()
        super().__post_init__()
        if self.image_size is not None:
            checks.integer("dataset.image_size", self.image_size, minimum=8)

    def _check_plain_name(self) -> None:
        """Refuse the library's notation `name/config:version`; the message names the fields to set instead."""
        rest, _, version = str(self.name).partition(":")
        base, _, config = rest.partition("/")
        parts = {"config": config, "version": version}
        if meant := " ".join(f"dataset.{part}={value}" for part, value in parts.items() if value):
            raise ValueError(
                f"dataset.name must be the dataset's name alone, got {self.name!r}: set dataset.name={base} {meant}"
            )

    def preflight(self) -> None:
        """Check that the library is installed; the dataset itself is looked up when it is read."""
        if importlib.util.find_spec("tensorflow_datasets") is None:
            raise ValueError(
                "dataset=tfds must have tensorflow-datasets, which is not installed: pip install 'opscore[tfds]'"
            )

    def _ended(self, status: int) -> str:
        """Why a reader without a message has ended. status: negative for a signal."""
        if status != -signal.SIGKILL:
            return f"dataset.name={self.name} could not be read (status {status} of its reader)"
        return (
            f"dataset.name={self.name} must fit into memory, and its reader was killed, probably for lack of it: set "
            "dataset.image_size, or a smaller one, for example dataset.image_size=64"
        )

    def read_arrays(self) -> Arrays:
        """All labelled images, which a process of its own reads."""
        self.preflight()
        with tempfile.TemporaryDirectory(prefix="opscore-tfds-") as scratch:
            file = Path(scratch, f"{self.name}.npz")
            config = f"/{self.config}" if self.config else ""
            request = {
                "name": self.name + config + (f":{self.version}" if self.version else ""),
                "data_dir": self.source_dir and os.path.expanduser(self.source_dir),  # noqa: PTH111
                "image_size": self.image_size,
                "file": str(file),
            }
            done = subprocess.run(
                interpreter.command(READER, json.dumps(request)),
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                env=interpreter.environment(os.environ) | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            )
            output = done.stdout.strip().splitlines()
            if done.returncode or not file.is_file():
                raise ValueError(output[-1] if output else self._ended(done.returncode))
            arrays = read_archive(file, self.test_fraction)
            return replace(arrays, notes=(*output, *arrays.notes))
