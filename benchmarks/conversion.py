"""opscore's conversion against TFLite's default one, `TFLiteConverter.from_keras_model`.

    python -m benchmarks.conversion [--models resnet50 efficientnet_b0] [--quantizations dynamic] [--repeats 2]

32x32 pixels, 10 classes, random weights. The default route is given the same network with a batch of one, and once as
users call it, with a batch of any size. Artifacts are compared three ways: their bytes; their programs, which are the
operators in order, each with its options, and every constant with type, shape, quantization and bytes; and the
answers to random images, to the bit.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images import image_data
from benchmarks.turns import compared_clocks, take_turns
from pipelines.execution.export import export
from pipelines.litert.exported_model import ExportedModel
from pipelines.models.base import Model
from pipelines.models.efficientnet import EfficientNet
from pipelines.models.resnet import ResNet
from pipelines.system import runtime
from pipelines.techniques.base import Candidate
from pipelines.techniques.quantize import Quantize

SHAPE, CLASSES, CALIBRATION = (32, 32, 3), 10, 100
MODELS: dict[str, Model] = {
    "resnet50": ResNet(depth=50, weights=None, input_size=32, dropout=0.2, onednn=True),
    "efficientnet_b0": EfficientNet(variant=0, weights=None, input_size=32, dropout=0.2, onednn=True),
}
QUANTIZATIONS = ("float32", "dynamic", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--quantizations", nargs="+", default=["dynamic"], choices=QUANTIZATIONS)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    runtime.prepare(onednn=True, deterministic=False)
    images = np.random.default_rng(0).integers(0, 256, (CALIBRATION, *SHAPE), np.uint8)
    for name in arguments.models:
        model = MODELS[name].build(SHAPE, CLASSES)
        for quantization in arguments.quantizations:
            _compare(name, model, quantization, images, arguments.repeats)


def _compare(name: str, model: Any, quantization: str, images: Any, repeats: int) -> None:
    import tf_keras

    single = tf_keras.models.clone_model(model, input_tensors=tf_keras.Input(SHAPE, batch_size=1, name="images"))
    single.set_weights(model.get_weights())
    rewriting = None
    if quantization != "float32":
        # The converter's own choice for depthwise kernels.
        more = {"depthwise": "int8"} if quantization == "dynamic" else {"calibration_images": CALIBRATION}
        rewriting = Quantize(scheme=quantization, **more)
    candidate = Candidate(model=model, rewriting=rewriting)
    data = image_data(images)
    with tempfile.TemporaryDirectory() as folder:
        ours, ones, any_size = (Path(folder, f"{way}.tflite") for way in ("opscore", "one", "any"))
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "opscore": lambda: _seconds(lambda: export(candidate, data, ours)),
            "default, batch of one": lambda: _seconds(lambda: _default(single, quantization, images, ones)),
            "default, any batch": lambda: _seconds(lambda: _default(model, quantization, images, any_size)),
        }
        given = take_turns(ways, repeats)
        print(f"\n{name}, {quantization}\n\n{compared_clocks(given, to='opscore')}\n")
        # What follows the flatbuffer in opscore's file is the class names, in a ZIP that interpreters do not read.
        flatbuffer = ones.read_bytes()
        same_bytes = ours.read_bytes()[: len(flatbuffer)] == flatbuffer
        print(f"bytes equal to the default's with a batch of one: {same_bytes}")
        print(f"programs equal: {program(ours) == program(ones)}")
        answers = [ExportedModel(path).logits(images) for path in (ours, ones, any_size)]
        print(
            f"answers to {len(images)} images equal to the bit: {[np.array_equal(answers[0], a) for a in answers[1:]]}"
        )
        print(f"operators: {[len(program(path)) for path in (ours, ones, any_size)]}", flush=True)


def _default(model: Any, quantization: str, images: Any, path: Path) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "int8":
        converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())


def program(path: Path) -> list[Any]:
    """What an artifact computes, without names and without the order in which its constants are stored."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    (graph,) = model.subgraphs
    made = {index: ("input", place) for place, index in enumerate(graph.inputs)}

    def described(index: int) -> Any:
        tensor = graph.tensors[index] if index >= 0 else None
        if tensor is None:
            return None
        data = model.buffers[tensor.buffer].data
        content = made[index] if data is None else bytes(data)
        return tensor.type, tuple(tensor.shape), _plain(tensor.quantization), content

    steps = []
    for number, operator in enumerate(graph.operators):
        made |= {index: (number, place) for place, index in enumerate(operator.outputs)}
        steps.append(
            (
                _plain(model.operatorCodes[operator.opcodeIndex]),
                _plain(operator.builtinOptions),
                [described(index) for index in operator.inputs],
                [described(index) for index in operator.outputs],
            )
        )
    return steps


def _plain(value: Any) -> Any:
    """A part of the flatbuffer as something that `==` compares."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return {key: _plain(part) for key, part in vars(value).items()} if hasattr(value, "__dict__") else value


def _seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Wall time, and CPU time of this process."""
    started, cpu_before = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - started, time.process_time() - cpu_before


if __name__ == "__main__":
    main()
