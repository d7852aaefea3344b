"""What a cell computes, written down without opscore: the other side of `benchmarks.overhead` and `.first_batch`.

    python -m benchmarks.bare_cell MODEL IMAGES.npz VALIDATION EPOCHS ARTIFACT

The same network, convolutions, batches, augmentation, optimizer, number of steps, conversion and number of timed calls
as a cell of technique `baseline`, and the size of the file and of the compressed file, by Python's `zlib`; in one
process and with nothing else: no checks, store, figures or checkpoint. EPOCHS 0 prints the time at the end of the first
training batch and stops there.
"""

import os
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from pipelines.models import checkpoint
from pipelines.models.base import Model
from pipelines.models.resnet import ResNet
from pipelines.models.small_cnn import SmallCNN
from pipelines.training import precision
from pipelines.training.convolutions import quick_convolutions

BATCH, SHIFT, RATE = 128, 4, 1e-3
MODELS: dict[str, Model] = {
    "resnet50": ResNet(depth=50, weights=None, input_size=32, dropout=0.2, onednn=True),
    "small_cnn": SmallCNN(width=32, weights=None, input_size=None, dropout=0.0, onednn=True),
}


def main() -> None:
    name, path, validation, epochs, exported_model = (
        sys.argv[1],
        sys.argv[2],
        *map(int, sys.argv[3:5]),
        Path(sys.argv[5]),
    )
    with np.load(path) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
        test_images, test_labels = arrays["x_test"], arrays["y_test"]
    with precision.policy(precision.chosen("auto", gains=MODELS[name].gains_by_bfloat16)):
        model = MODELS[name].build(images.shape[1:], int(labels.max()) + 1)
    print("training in", precision.used(model))
    fit(model, images[validation:], labels[validation:], (images[:validation], labels[:validation]), epochs)
    convert(checkpoint.as_float32(model), exported_model)
    accuracy, p50_ms = measure(exported_model, test_images, test_labels)
    began = time.perf_counter()
    compressed = len(zlib.compress(exported_model.read_bytes()))
    print(f"accuracy {accuracy:.2%}, p50 {p50_ms:.3f} ms")
    print(f"{exported_model.stat().st_size:,} bytes, {compressed:,} compressed, in {time.perf_counter() - began:.2f} s")


def fit(model: Any, images: Any, labels: Any, validation: tuple[Any, Any], epochs: int) -> None:
    def augment(image: Any, label: Any) -> tuple[Any, Any]:
        padded = tf.pad(image, [[SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]], mode="REFLECT")
        shifted = tf.image.random_crop(padded, image.shape)
        return tf.cast(tf.image.random_flip_left_right(shifted), tf.float32), label

    # As in opscore, or every epoch would wait for the autotuner at its end (docs/lab-notes/training-speed.md).
    options = tf.data.Options()
    options.autotune.enabled = False
    training = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images))
    training = training.map(augment, num_parallel_calls=2).batch(BATCH).prefetch(2).with_options(options)
    held_out = tf.data.Dataset.from_tensor_slices((validation[0].astype(np.float32), validation[1]))
    steps = -(-len(images) // BATCH) * max(epochs, 1)
    model.compile(
        tf_keras.optimizers.legacy.Adam(tf_keras.optimizers.schedules.CosineDecay(RATE, steps)),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ["accuracy"],
    )
    stop = [] if epochs else [tf_keras.callbacks.LambdaCallback(on_batch_end=lambda *_, **__: _tell_and_stop())]
    with quick_convolutions():
        model.fit(
            training,
            validation_data=held_out.batch(256).with_options(options),
            epochs=max(epochs, 1),
            verbose=2,
            callbacks=stop,
        )


def _tell_and_stop() -> None:
    print(f"FIRST_BATCH {time.time()}", flush=True)
    os._exit(0)


def convert(model: Any, exported_model: Path) -> None:
    signature = tf.TensorSpec([1, *model.input_shape[1:]], tf.float32)
    forward = tf.function(lambda image: model(image, training=False), autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([forward.get_concrete_function(signature)], model)
    converter.experimental_lower_to_saved_model = False  # the fast route, as in opscore
    exported_model.write_bytes(converter.convert())


def measure(exported_model: Path, images: Any, labels: Any) -> tuple[float, float]:
    """Accuracy, and the median latency of single images in ms, over eight loads as `measurement=default` asks for."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        parts = np.array_split(images, cores)
        answers = pool.map(_answers, [_loaded(exported_model) for _ in range(cores)], parts)
        accuracy = float((np.concatenate(list(answers)) == labels).mean())
    taken_s: list[float] = []
    for _ in range(8):
        interpreter = _loaded(exported_model)
        for image in images[:10]:
            _answer(interpreter, image)
        began, calls = time.perf_counter(), 0
        while calls < 25 or time.perf_counter() - began < 0.25:
            before = time.perf_counter()
            _answer(interpreter, images[calls % len(images)])
            taken_s.append(time.perf_counter() - before)
            calls += 1
    return accuracy, float(np.median(taken_s)) * 1e3


def _loaded(exported_model: Path) -> Any:
    interpreter = Interpreter(str(exported_model), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _answer(interpreter: Any, image: Any) -> Any:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None].astype(np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def _answers(interpreter: Any, images: Any) -> list[int]:
    return [int(_answer(interpreter, image).argmax()) for image in images]


if __name__ == "__main__":
    main()
