"""The precision in which a network computes while it is trained. Its weights are float32 in any case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipelines.system import machine, runtime

if TYPE_CHECKING:
    import tf_keras

# Names of Keras's dtype policies.
FLOAT32, FLOAT16, BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"


def chosen(mixed_precision: str | bool, *, gains: bool) -> str:
    """The policy for a setting of `training.mixed_precision` on this machine.

    gains: whether the network trains faster in bfloat16 on a CPU that has instructions for it.
    """
    if mixed_precision is False:
        return FLOAT32
    if runtime.has_gpu():
        return FLOAT16
    # CPUs have no fast float16; bfloat16 is their half precision.
    return BFLOAT16 if mixed_precision is True or (gains and machine.has_bfloat16()) else FLOAT32


@contextmanager
def policy(name: str) -> Iterator[None]:
    """A context in which networks are built to compute so."""
    import tf_keras

    tf_keras.mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(FLOAT32)


def used(network: tf_keras.Model) -> str:
    """The policy that a network's layers really have; layers that stay in float32 in any case do not count."""
    half = sorted({layer.compute_dtype for layer in network.layers} - {FLOAT32})
    assert len(half) <= 1, f"one precision beside float32, got {half}"
    return f"mixed_{half[0]}" if half else FLOAT32
