"""Real photographs as people keep them: crops of scikit-learn's two, of many sizes, formats and habits."""

import random
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images

KINDS = ("jpg", "turned", "png", "webp", "palette", "transparent", "gif", "tif")


def classes() -> dict[str, Image.Image]:
    """A photograph for each class, from which its images are cut."""
    china, flower = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    return {"temple": china, "flower": flower}


def write(folder: Path, count: int, *, seed: int) -> None:
    """`count` images of each class in `folder`/<class>, in turns of every kind."""
    rng = random.Random(seed)
    for name, photograph in classes().items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            save(_crop(photograph, rng), folder / name / f"IMG {number:03d}", KINDS[number % len(KINDS)])


def save(image: Image.Image, stem: Path, kind: str) -> Path:
    """Save an RGB image in one of KINDS; gives the file's path."""
    path = stem.with_suffix({"turned": ".JPG", "palette": ".bmp", "transparent": ".png"}.get(kind, f".{kind}"))
    if kind == "turned":
        exif = Image.Exif()
        exif[0x112] = 6  # shown turned by 90 degrees clockwise
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)
    elif kind == "palette":
        image.quantize(64).save(path)
    elif kind == "transparent":
        # The hidden half has colours of its own.
        hidden = Image.new("RGBA", image.size, (255, 0, 255, 0))
        hidden.paste(image.crop((0, 0, image.width // 2, image.height)), (0, 0))
        hidden.save(path)
    else:
        image.save(path)
    return path


def _crop(photograph: Image.Image, rng: random.Random) -> Image.Image:
    width, height = rng.randint(120, 400), rng.randint(120, 400)
    left, top = rng.randint(0, photograph.width - width), rng.randint(0, photograph.height - height)
    return photograph.crop((left, top, left + width, top + height))
