"""Training throughput in PyTorch: the other side of `benchmarks.torch_training`, run by a Python that has it.

    python benchmarks/torch_fit.py MODEL IMAGES BATCH [--bfloat16] [--compile]

--bfloat16: under autocast, as PyTorch recommends for a CPU. --compile: by torch.compile. Images are channels last and
already float32, the optimizer is the fused Adam, nothing is augmented. ResNet50 halves the image in the same
convolutions as Keras's, which makes it 6% cheaper than torchvision's own. Prints the MACs of one image, then for each
line that it is sent the images/s of one more epoch and what it used, read from PyTorch.
"""

import argparse
import sys
import time
from typing import Any

import torch
import torchvision
from torch import nn

SIDE, CLASSES = 32, 10


def network(name: str) -> nn.Module:
    """The convolutions, average pooling, dropout and one dense layer, as `pipelines.models` has it."""
    if name == "vgg16":
        features = torchvision.models.vgg16().features
        return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(512, CLASSES))
    if name == "resnet50":
        model = torchvision.models.resnet50(num_classes=CLASSES)
        for part in model.modules():
            if isinstance(part, torchvision.models.resnet.Bottleneck):
                part.conv1.stride, part.conv2.stride = part.conv2.stride, part.conv1.stride
        return model
    return {"efficientnet_b0": torchvision.models.efficientnet_b0}[name](num_classes=CLASSES)


def macs(model: nn.Module) -> int:
    """Of convolutions and dense layers, for one image."""
    counted: list[int] = []

    def count(layer: Any, _: Any, output: Any) -> None:
        positions = output[0, 0].numel() if output.dim() == 4 else 1
        counted.append(positions * layer.weight.numel())

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, SIDE, SIDE))
    for layer in model.modules():
        layer._forward_hooks.clear()
    model.train()
    return sum(counted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    count = arguments.images
    torch.manual_seed(0)
    model = network(arguments.model)
    print("MACS", macs(model), flush=True)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss_of = nn.CrossEntropyLoss()
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE)).float().contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count) % CLASSES

    def loss(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bfloat16):
            logits = model(x / 255)
        return loss_of(logits.float(), y), logits

    step = torch.compile(loss) if arguments.compile else loss
    for _ in sys.stdin:
        started = time.perf_counter()
        total = 0.0
        for x, y in zip(images.split(arguments.batch), labels.split(arguments.batch), strict=True):
            optimizer.zero_grad()
            value, logits = step(x, y)
            value.backward()
            optimizer.step()
            total += value.item()
        rate = count / (time.perf_counter() - started)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] if arguments.compile else 0
        precision = str(logits.dtype).removeprefix("torch.")
        print("RATE", rate, f"precision={precision}", f"compiled_graphs={graphs}", flush=True)


if __name__ == "__main__":
    main()
