"""A library that runs exported models, and how to find all of them."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

import pipelines.runtimes
from pipelines.litert.exported_model import Ends, ends

# Names of what the layers with weights compute in.
FLOAT32, FLOAT16, BFLOAT16, INT8 = "float32", "float16", "bfloat16", "int8"


class Loaded(Protocol):
    """An exported model that is ready to answer."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the images that it takes."""

    def query(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of one image: uint8 (h, w, 3) to float32 (classes,). Latency is the time of this call."""

    def query_batch(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of as many images as it was loaded for: uint8 (batch, h, w, 3) to float32 (batch, classes)."""

    @property
    def precision(self) -> str:
        """What the layers with weights really compute in: one of the names above, or the library's own word."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """Python lines that run an exported model without opscore.

    package: what `pip install` takes. imports: of the library. load: from the path `MODEL`. answer: from `pixels`, an
    array as the model's input takes it, (1, h, w, 3), to `logits`, (classes,).
    """

    package: str
    imports: str
    load: str
    answer: str


class Runtime(ABC):
    """A library with its settings. name: of a session's figures; letters, digits and `_`."""

    name: str

    @abstractmethod
    def program(self, threads: int) -> Program:
        """How a program without opscore does what `load` and `query` do."""

    @abstractmethod
    def version(self) -> str:
        """The library and its version, after importing it. Raises ValueError with the remedy where it is missing."""

    def prepare(self, path: Path) -> None:  # noqa: ARG002 (a runtime may need nothing of it)
        """Import the library and read of the file what opscore alone needs, so that the time of `load` has neither.

        Raises ValueError where opscore does not take the file.
        """
        self.version()

    @abstractmethod
    def load(self, path: Path, threads: int, *, batch: int = 1) -> Loaded:
        """Raises ValueError where it does not take the file or the batch."""


@cache
def form_of(path: Path) -> Ends:
    """How pixels enter and logits leave. Raises ValueError as ExportedModel does."""
    return ends(path)


@cache
def runtimes() -> dict[str, Runtime]:
    """All runtimes by name, in alphabetical order: the RUNTIMES of the modules of this package."""
    modules = [one.name for one in pkgutil.iter_modules(pipelines.runtimes.__path__) if one.name != "base"]
    found = (importlib.import_module(f"pipelines.runtimes.{name}").RUNTIMES for name in modules)
    return {runtime.name: runtime for some in found for runtime in some}


def named(name: str) -> Runtime:
    """The runtime of a name. Raises ValueError that lists all names."""
    known = runtimes()
    if name not in known:
        raise ValueError(f"runtimes must be of {', '.join(known)}, got {name!r}: set for example runtimes=litert")
    return known[name]
