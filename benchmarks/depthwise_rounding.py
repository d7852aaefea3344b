"""How finely 8 bits round the depthwise kernels of EfficientNet-Lite0: one scale for a kernel, or for each channel.

    python -m benchmarks.depthwise_rounding

tfmot trains with the first, opscore's `qat` with the second (`techniques.folding.equalize`). Nothing is trained: the
kernels are those with ImageNet weights, which the extra `pretrained` installs. Prints for each layer the channels, and
of them the median and the least of the values that a channel can take, and the noise of the rounding in dB below the
weights.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.cells.compatibility import choices
from pipelines.cells.compose import CONF
from pipelines.results.tables import aligned
from pipelines.system import runtime
from pipelines.techniques.folding import equalize

MAX_INT8 = 127


def main() -> None:
    """Print the table."""
    runtime.prepare(onednn=True, deterministic=False)
    model = choices(CONF, "model")["efficientnet_lite0"].build((96, 96, 3), 10)
    before = _kernels(model)
    equalize(model)
    after = _kernels(model)
    rows = [("layer", "channels", "values, median", "least", "noise", "equalized: values, median", "least", "noise")]
    rows += [(name, str(kernel.shape[2]), *_rounded(kernel), *_rounded(after[name])) for name, kernel in before.items()]
    print(aligned(rows))


def _kernels(model: object) -> dict[str, npt.NDArray[np.float32]]:
    """The depthwise kernels, (h, w, channels, 1), by layer."""
    layers = model.layers  # type: ignore[attr-defined]
    return {one.name: one.depthwise_kernel.numpy() for one in layers if type(one).__name__ == "DepthwiseConv2D"}


def _rounded(kernel: npt.NDArray[np.float32]) -> tuple[str, str, str]:
    """The median and the least number of magnitudes of a channel with one scale, and the median noise in dB."""
    kernel = kernel[:, :, kernel.any(axis=(0, 1, 3))]  # some channels are dead
    step = abs(kernel).max() / MAX_INT8
    magnitudes = np.rint(abs(kernel).max(axis=(0, 1, 3)) / step)
    noise = ((np.rint(kernel / step) * step - kernel) ** 2).mean(axis=(0, 1, 3))
    decibels = 10 * np.log10((kernel**2).mean(axis=(0, 1, 3)) / np.maximum(noise, 1e-30))
    return f"{np.median(magnitudes):.0f}", f"{magnitudes.min():.0f}", f"{np.median(decibels):.1f}"


if __name__ == "__main__":
    main()
