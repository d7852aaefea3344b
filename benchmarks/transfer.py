"""Transfer learning on features that are computed once, against fitting through the frozen backbone.

    python -m benchmarks.transfer --data cifar10.npz [--images 2000] [--epochs 5] [--dropout 0.2]

EfficientNet-Lite0 with its ImageNet weights at 64 px (extra `pretrained`), a tenth of the images for validation, equal
seeds. Each way runs in a process of its own, with TensorFlow's tracing in its time, as in a cell; CPU seconds are
given with wall time, as other programs on the machine change them less. Fitting through is done twice: as it is, where
freezing leaves the backbone's stochastic depth at work, and with that off. Only the latter trains on the features'
numbers; without the head's dropout, which draws anew in each way, its head is the features' head.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "through": "through the frozen backbone",
    "inference": "the same, no stochastic depth",
    "features": "features computed once",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=lambda path: Path(path).absolute(), required=True, help="see dataset=npz")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.2, help="of the head")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(_fit(arguments)))
        return
    results = {}
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.transfer", *sys.argv[1:], "--data", str(arguments.data)]
        done = subprocess.run([*command, "--way", way], cwd=ROOT, check=True, capture_output=True, text=True)
        results[way] = json.loads(done.stdout.splitlines()[-1])
    features = results["features"]
    print("| way | training | to features | CPU | to features | validation accuracy | test accuracy |")
    print("|---|---|---|---|---|---|---|")
    for way, result in results.items():
        wall, cpu = result["seconds"] / features["seconds"], result["cpu_seconds"] / features["cpu_seconds"]
        print(
            f"| {WAYS[way]} | {result['seconds']:.1f} s | x {wall:.1f} | {result['cpu_seconds']:.1f} s | x {cpu:.1f} "
            f"| {result['validation_accuracy']:.2%} | {result['test_accuracy']:.2%} |"
        )


def _fit(arguments: argparse.Namespace) -> dict[str, float]:
    from pipelines.datasets.npz import Npz
    from pipelines.models.efficientnet_lite import EfficientNetLite
    from pipelines.system import runtime
    from pipelines.techniques.base import Candidate, Context
    from pipelines.techniques.transfer import Transfer
    from pipelines.training.batches import plain_batches
    from pipelines.training.trainer import Trainer, Training

    runtime.prepare(onednn=True, deterministic=False)
    runtime.seed_everything(0, deterministic=False)
    dataset = Npz(path=str(arguments.data), limit_train=arguments.images)
    data = dataset.load()
    model = EfficientNetLite(
        variant=0, weights="imagenet", input_size=64, dropout=arguments.dropout, onednn=True
    ).build(data.image_shape, len(data.class_names))
    training = Training(
        epochs=arguments.epochs,
        batch_size=64,
        optimizer="adam",
        learning_rate=3e-3,
        warmup_fraction=0.0,
        patience=arguments.epochs,
        mixed_precision=False,
    )
    trainer = Trainer(settings=training, data=data, dataset=dataset, seed=0, on_epoch=lambda *_: None)
    cpu_before = time.process_time()
    if arguments.way == "features":
        technique = Transfer(
            epochs=None, learning_rate=3e-3, unfreeze_blocks=0, unfreeze_epochs=None, unfreeze_learning_rate=1e-5
        )
        technique.apply(Candidate(model=model), Context(trainer=trainer))
    else:
        for layer in model.layers:
            layer.trainable = layer.name.startswith("head_")
            if arguments.way == "inference" and not layer.trainable and type(layer).__name__ == "Dropout":
                layer.rate = 0.0
        trainer.fit(model)
    cpu_seconds = time.process_time() - cpu_before
    answers = model.predict(plain_batches(data.test, 256), verbose=0).argmax(axis=1)
    return {
        "seconds": trainer.seconds,
        "cpu_seconds": cpu_seconds,
        "validation_accuracy": max(epoch["val_accuracy"] for epoch in trainer.epochs),
        "test_accuracy": float((answers == data.test.labels).mean()),
    }


if __name__ == "__main__":
    main()
