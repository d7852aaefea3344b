"""Parts of a user's own that break, reached through `_target_`."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.datasets.arrays import Arrays
from pipelines.datasets.digits import Digits
from pipelines.models.small_cnn import SmallCNN
from pipelines.system import checks, runtime
from pipelines.techniques.base import Candidate, Context
from pipelines.techniques.baseline import Baseline

if TYPE_CHECKING:
    import tf_keras


def _break(stage: str) -> Any:
    raise KeyError(f"a fault in {stage}")


@dataclass(frozen=True, kw_only=True)
class Data(Digits):
    """Breaks when it is read."""

    def read_arrays(self) -> Arrays:
        return _break("load")


@dataclass(frozen=True, kw_only=True)
class Network(SmallCNN):
    """Breaks when it is built."""

    def build(self, image_shape: tuple[int, int, int], classes: int) -> "tf_keras.Model":
        """Raise KeyError."""
        return _break("build")


@dataclass(frozen=True, kw_only=True)
class Training(Baseline):
    """Breaks instead of training."""

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Raise KeyError."""
        return _break("train")


@dataclass(frozen=True, kw_only=True)
class Aborted(Baseline):
    """Ends its process as native code does."""

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Abort."""
        with runtime.without_greetings():
            os.write(2, b"LLVM ERROR: no such register\n")
            os.abort()


@dataclass(frozen=True, kw_only=True)
class Checking(Baseline):
    """Breaks when it checks its exported model."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """Raise KeyError."""
        _break("verify")


@dataclass(frozen=True, kw_only=True)
class Interrupted(Baseline):
    """Turns Ctrl-C into an error of its own, as native code below Keras does."""

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Raise RuntimeError."""
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)  # the signal may come a moment later
        except KeyboardInterrupt as error:
            raise RuntimeError("the native code was interrupted") from error
        return candidate


@dataclass(frozen=True, kw_only=True)
class Unchecked(Baseline):
    """Calls a check with an argument that it does not have."""

    def __post_init__(self) -> None:
        checks.number("technique.step", 1, above=0)  # type: ignore[call-arg]
