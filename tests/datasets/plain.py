"""Folders of images of one colour each."""

from pathlib import Path

from PIL import Image

from pipelines.datasets import layout

TWO = {"ant": 8, "bee": 8}


def images(folder: Path, count: int = 8, first: int = 0, ending: str = "png") -> None:
    """Images of one colour each, whose red is its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        Image.new("RGB", (8, 8), (number, 0, 255)).save(folder / f"{number}.{ending}")


def found(root: Path) -> dict[str, dict[str, int]]:
    """How many images of which class in which split."""
    return {
        split: {name: len(files) for name, files in by_class.items()}
        for split, by_class in layout.find(root).files.items()
    }
