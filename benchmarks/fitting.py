"""Trainings that go on an epoch at a time, each in a process of its own, so that several can take turns.

    python -m benchmarks.fitting MODEL IMAGES [--steps-per-execution N] [OVERRIDE ...]

is opscore's side: the trainer of every cell, random images of 32x32 pixels, 10 classes, random weights, batch 128,
augmented, and the model's own settings unless overridden. It prints the MACs of one image, then trains an epoch for
each line that it reads and prints its images per second and what the training used, which it reads from the network
and from TensorFlow: precision, oneDNN and whose convolutions.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

from benchmarks.images import CLASSES, SIDE, random_npz, random_overrides
from benchmarks.turns import take_turns

ROOT = Path(__file__).resolve().parents[1]
# More than anyone asks for: a training ends with its standard input.
EPOCHS = 1000


class Fitting:
    """A process that trains an epoch on request.

    expected: what it must use, by name; an epoch that used something else raises RuntimeError. environment: is added.
    """

    def __init__(
        self,
        *command: str,
        expected: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._expected = command, dict(expected or {})
        self.used: dict[str, str] = {}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.macs = int(self._told("MACS"))

    @classmethod
    def of_opscore(
        cls,
        model: str,
        images: int,
        *settings: str,
        expected: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "Fitting":
        """Our trainer. settings: options and overrides of `python -m benchmarks.fitting`."""
        command = (sys.executable, "-m", "benchmarks.fitting", model, str(images), *settings)
        return cls(*command, expected=expected, environment=environment)

    def epoch(self) -> float:
        """Images per second of one more epoch."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        rate, *used = self._told("RATE").split()
        self.used = dict(each.split("=") for each in used)
        if not self._expected.items() <= self.used.items():
            raise RuntimeError(f"{shlex.join(self._command)} must use {self._expected}, got {self.used}")
        return float(rate)

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _told(self, what: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, value = line.partition(" ")
            if word == what:
                return value
        raise RuntimeError(f"a training must report its {what}, but it ended with status {self._process.wait()}")


def told(fittings: Mapping[str, Fitting]) -> str:
    """What each training used, in a line each."""
    return "\n".join(
        f"{name}: {', '.join(f'{what} {value}' for what, value in one.used.items())}" for name, one in fittings.items()
    )


def rates_in_turns(fittings: Mapping[str, Fitting], epochs: int) -> dict[str, list[float]]:
    """Images per second of so many epochs of each, taken in turns after a first one that is left out; ends them."""
    taken = take_turns({name: fitting.epoch for name, fitting in fittings.items()}, epochs + 1)
    for fitting in fittings.values():
        fitting.end()
    return {name: rates[1:] for name, rates in taken.items()}


def of_neighbours(rates: Sequence[float], reference: Sequence[float]) -> float:
    """The median ratio of the epochs of one turn."""
    return statistics.median(one / other for one, other in zip(rates, reference, strict=True))


def random_cell(model: str, *, training: int, test: int, epochs: int, overrides: Sequence[str] = ()) -> tuple[Any, Any]:
    """A cell as above and its loaded data, with as many images; TensorFlow is loaded as the model wants it."""
    from hydra import compose, initialize_config_dir

    from pipelines.cells.compose import CONF, cell_of
    from pipelines.execution.preflight import loaded
    from pipelines.system import runtime

    with tempfile.TemporaryDirectory() as folder:
        written = random_npz(Path(folder), training=training, validation=CLASSES, test=test)
        given = [*random_overrides(model, written, epochs=epochs), f"++model.input_size={SIDE}"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cell = cell_of(compose("config", [*given, *overrides]))
        data = loaded(cell.dataset)
    runtime.prepare(onednn=cell.model.onednn, deterministic=False)
    return replace(cell, training=replace(cell.training, learning_rate=cell.learning_rate)), data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=int)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_intermixed_args()

    from pipelines.execution.job import network_of, trainer_of
    from pipelines.models.complexity import macs

    cell, data = random_cell(
        arguments.model, training=arguments.images, test=CLASSES, epochs=EPOCHS, overrides=arguments.overrides
    )
    import tf_keras

    tf_keras.Model.compile = partialmethod(tf_keras.Model.compile, steps_per_execution=arguments.steps_per_execution)
    model = network_of(cell, data)
    print("MACS", macs(model), flush=True)
    wait()

    def report(_: int, metrics: dict[str, float]) -> None:
        print("RATE", metrics["images_per_s"], *(f"{what}={value}" for what, value in used(model).items()), flush=True)
        wait()

    trainer_of(cell, data, on_epoch=report).fit(model, keep_best=False)


def used(model: Any) -> dict[str, str]:
    """What a training uses that is going on in this process."""
    from tensorflow.compat.v2 import nn
    from tensorflow.python.util import _pywrap_util_port

    from pipelines.training import convolutions, precision

    ours = nn.convolution.__module__ == convolutions.__name__
    return {
        "precision": precision.used(model),
        "onednn": "on" if _pywrap_util_port.IsMklEnabled() else "off",
        "convolutions": "opscore's" if ours else "TensorFlow's",
    }


def wait() -> None:
    """Wait for a line of standard input; end the process with it."""
    if not sys.stdin.readline():
        sys.exit()


if __name__ == "__main__":
    main()
