"""The other side of `benchmarks.post_training`: NNCF's int8 on OpenVINO, in an environment without opscore.

    python nncf_quantize.py MODEL.tflite IMAGES.npz

IMAGES.npz has the arrays `calibration` and `test`, uint8 (n, h, w, 3). Prints a line of JSON with the seconds to
quantize, the runtime's precision and the classes that it gives the test images; then, for each line that it reads, the
median milliseconds of a call with one image on one thread.
"""

import json
import sys
import time
from statistics import median
from typing import Any

import numpy as np

ROUND_S = 1.0


def main() -> None:
    import nncf
    import openvino

    path, images = sys.argv[1:]
    with np.load(images) as arrays:
        calibration, test = (arrays[name].astype(np.float32) for name in ("calibration", "test"))
    core = openvino.Core()
    started = time.perf_counter()
    dataset = nncf.Dataset([image[None] for image in calibration])
    quantized = nncf.quantize(core.read_model(path), dataset, subset_size=len(calibration))
    seconds = time.perf_counter() - started
    settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(quantized, "CPU", settings)
    request = compiled.create_infer_request()

    def answer(image: Any) -> Any:
        return request.infer({0: image[None]})[0]

    told = {
        "seconds": seconds,
        "classes": [int(answer(image).argmax()) for image in test],
        "precision": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
        "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
        "version": f"NNCF {nncf.__version__}, OpenVINO {openvino.__version__.split('-')[0]}",
    }
    print(json.dumps(told), flush=True)
    for _ in sys.stdin:
        taken: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < ROUND_S:
            image = test[len(taken) % len(test)]
            before = time.perf_counter()
            answer(image)
            taken.append(time.perf_counter() - before)
        print(median(taken) * 1e3, flush=True)


if __name__ == "__main__":
    main()
