"""Transfer learning on features that are computed once, against fitting through the frozen backbone.

    python -m benchmarks.transfer --data cifar10.npz [--images 2000] [--epochs 5]

EfficientNet-Lite0 with its ImageNet weights at 64 px (extra `pretrained`), a part of the images for validation, equal
seeds. Each way runs in a process of its own, with TensorFlow's tracing in its time, as in a cell.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="an .npz file in the layout of the README")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--way", choices=["features", "through"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(_fit(arguments)))
        return
    results = {}
    for way in ("through", "features"):
        command = [sys.executable, "-m", "benchmarks.transfer", *sys.argv[1:], "--way", way]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        results[way] = json.loads(done.stdout.splitlines()[-1])
    print("| way | training | test accuracy |\n|---|---|---|")
    for way, result in results.items():
        print(f"| {way} | {result['seconds']:.1f} s | {result['accuracy']:.2%} |")
    print(f"\nfeatures are {results['through']['seconds'] / results['features']['seconds']:.1f} times faster")


def _fit(arguments: argparse.Namespace) -> dict[str, float]:
    from pipelines import runtime
    from pipelines.datasets.npz import Npz
    from pipelines.models.efficientnet_lite import EfficientNetLite0
    from pipelines.techniques.transfer import Transfer, _Trained
    from pipelines.training import Trainer, Training, plain_batches

    runtime.prepare(onednn=True, deterministic=False)
    runtime.seed_everything(0, deterministic=False)
    dataset = Npz(path=str(arguments.data.absolute()), limit_train=arguments.images, limit_test=arguments.images)
    data = dataset.load()
    model = EfficientNetLite0(weights="imagenet", input_size=64, dropout=0.2, onednn=True).build(
        data.image_shape, len(data.class_names)
    )
    training = Training(
        epochs=arguments.epochs,
        batch_size=64,
        optimizer="adam",
        learning_rate=3e-3,
        patience=arguments.epochs,
        mixed_precision=False,
    )
    trainer = Trainer(settings=training, data=data, dataset=dataset, seed=0, on_epoch=lambda *_: None)
    if arguments.way == "features":
        technique = Transfer(
            epochs=None, learning_rate=3e-3, unfreeze_blocks=0, unfreeze_epochs=None, unfreeze_learning_rate=1e-5
        )
        technique._fit_on_features(model, trainer)
    else:
        with _Trained(model, [layer for layer in model.layers if layer.name.startswith("head_")]):
            trainer.fit(model)
    answers = model.predict(plain_batches(data.test), verbose=0).argmax(axis=1)
    return {"seconds": trainer.seconds, "accuracy": float((answers == data.test.labels).mean())}


if __name__ == "__main__":
    main()
