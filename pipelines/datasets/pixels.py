"""Image arrays of usual shapes and dtypes as uint8 RGB, where their meaning is unambiguous."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.system import mapped

Array = npt.NDArray[Any]
# Floats between 1 and this are not in 0..1, and may not be in 0..255 either.
DARK = 64


def as_rgb(parts: Mapping[str, Array]) -> tuple[dict[str, npt.NDArray[np.uint8]], list[str]]:
    """Images by their array's name, uint8 (n, h, w, 3), and the conversions, in words.

    All parts are scaled alike. Raises ValueError, with a mend, for arrays whose meaning is ambiguous.
    """
    done: list[str] = []
    for name, images in parts.items():
        if images.dtype.kind not in "buif":
            raise ValueError(f"{name} must hold numbers, got {images.dtype}: save the pixels as uint8")
        if images.size == 0:
            raise ValueError(f"{name} must hold images, got shape {images.shape}: add some")
    shaped = {name: _channels_last(name, images, done) for name, images in parts.items()}
    scaled = _scaled(shaped, done)
    rgb = {}
    for name, images in scaled.items():
        if images.shape[3] == 1:
            done.append("grey images were repeated over three channels")
        rgb[name] = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
    return rgb, list(dict.fromkeys(done))


def _channels_last(name: str, images: Array, done: list[str]) -> Array:
    """The images as (n, h, w, 1 or 3)."""
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4:
        if images.shape[3] in (1, 3):
            return images
        if images.shape[1] in (1, 3) and images.shape[3] not in (2, 4):
            done.append("channels were put last")
            return images.transpose(0, 2, 3, 1)
    raise ValueError(f"{name} must have shape (n, height, width, 3), got {images.shape}: {_shape_mend(name, images)}")


def _shape_mend(name: str, images: Array) -> str:
    if images.ndim == 2:
        return _flat_mend(name, images.shape[1])
    if images.ndim != 4:
        return f"choose one picture of each, as {name}[:, 0]" if images.ndim == 5 else "save one array of all images"
    if images.shape[2] in (1, 3):
        return f"put the images first by {name}.transpose(3, 0, 1, 2)"
    if images.shape[3] == 4:
        if (images[..., 3] == images[..., 3].max()).all():
            return f"leave out the opaque alpha channel with {name}[..., :3]"
        white = 1 if images.dtype.kind == "f" and images.max() <= 1 else 255
        return f"blend it with white by {name}[..., :3] * ({name}[..., 3:] / {white}) + {white} - {name}[..., 3:]"
    channel = ":1" if images.shape[3] == 2 else "[0, 1, 2]"
    return (
        f"put the channels last by {name}[:, :3].transpose(0, 2, 3, 1)"
        if images.shape[1] == 4
        else f"choose among the channels, as {name}[..., {channel}]"
    )


def _flat_mend(name: str, pixels: int) -> str:
    """For images that are flat rows of `pixels` values."""
    side = math.isqrt(pixels)
    if side * side == pixels:
        return f"use {name}.reshape(-1, {side}, {side})"
    side = math.isqrt(pixels // 3)
    if 3 * side * side == pixels:
        return f"use {name}.reshape(-1, {side}, {side}, 3), or {name}.reshape(-1, 3, {side}, {side}) for planes"
    return f"use {name}.reshape(-1, height, width) with the images' own size"


def _check_finite(parts: Mapping[str, Array]) -> None:
    for name, images in parts.items():
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            count = int((~np.isfinite(images)).sum())
            raise ValueError(
                f"{name} must hold finite numbers, got {count:,} that are not: leave those images out, or make them "
                f"black with np.nan_to_num({name}, nan=0, posinf=0, neginf=0)"
            )


def _scaled(parts: Mapping[str, Array], done: list[str]) -> dict[str, npt.NDArray[np.uint8]]:
    """The values as integers in 0..255."""
    _check_finite(parts)
    if all(images.dtype.kind == "b" for images in parts.values()):
        done.append("True became 255, False 0")
        return {name: images.astype(np.uint8) * np.uint8(255) for name, images in parts.items()}
    floats = any(images.dtype.kind == "f" for images in parts.values())
    low = {name: float(images.min()) for name, images in parts.items()}
    high = {name: float(images.max()) for name, images in parts.items()}
    unit = floats and all(np.rint(value * 255) <= 255 for value in high.values())
    factor = 255 if unit else 1
    for name, images in parts.items():
        if np.rint(low[name] * factor) < 0 or np.rint(high[name] * factor) > 255:
            raise ValueError(
                f"{name} must be in 0..255, or in 0..1 for floats, got {images.dtype} from {low[name]:g} to "
                f"{high[name]:g}: {_range_mend(name, images, low[name], high[name])}"
            )
    if not unit:
        _check_one_scale(high)
    _check_bright(parts, high, floats=floats, unit=unit)
    if unit:
        done.append("floats 0..1 were multiplied by 255 and rounded")
    return {name: _as_uint8(images, factor, done) for name, images in parts.items()}


def _check_one_scale(high: Mapping[str, float]) -> None:
    """Raise ValueError where one part is in 0..1 and another in 0..255."""
    dark, bright = min(high, key=lambda name: high[name]), max(high, key=lambda name: high[name])
    if high[dark] <= 1 < high[bright]:
        raise ValueError(
            f"{dark} must have the scale of {bright}, got up to {high[dark]:g} and {high[bright]:g}: "
            f"use np.rint({dark} * 255).astype('uint8') if 1 is white in {dark} and 255 in {bright}"
        )


def _check_bright(parts: Mapping[str, Array], high: Mapping[str, float], *, floats: bool, unit: bool) -> None:
    name, brightest = max(high.items(), key=lambda item: item[1])
    if brightest <= 1 and not floats:
        raise ValueError(
            f"{name} must be in 0..255, got {parts[name].dtype} of 0 and 1 only: use {name} * 255 if they are black "
            "and white, or save the floats as they were before they were cast"
        )
    if floats and not unit and brightest < DARK:
        raise ValueError(
            f"{name} must be in 0..1 or 0..255, got {parts[name].dtype} up to {brightest:g} only, which may be "
            f"either: use np.rint({name}).astype('uint8') for 0..255, or {name} / {brightest:g} if that is white, "
            "in all parts alike"
        )


def _range_mend(name: str, images: Array, low: float, high: float) -> str:
    kind = images.dtype.kind
    if kind == "f" and low >= -1 and high <= 1:
        return f"use ({name} + 1) / 2 if -1 is black and 1 white, in all parts alike"
    if kind == "f" and low < 0 and max(-low, high) <= 10:
        return f"undo the normalization with {name} * std + mean, in all parts alike, or save the images before it"
    if images.dtype == np.int8:
        return f"use ({name}.astype(int) + 128).astype('uint8') if -128 is black"
    if low >= 0:
        # The bits that cameras and scanners write into 16.
        bits = (10, 12, 14, 16) if images.dtype == np.uint16 else ()
        white = next((float(2**each - 1) for each in bits if high < 2**each), high)
        return f"use np.rint({name} * (255 / {white:g})).astype('uint8') if {white:g} is white, in all parts alike"
    return f"use np.clip({name}, 0, 255) if values outside are noise"


def _as_uint8(images: Array, factor: int, done: list[str]) -> npt.NDArray[np.uint8]:
    if images.dtype == np.uint8 and factor == 1:
        return images
    result = np.empty(images.shape, np.uint8)
    at, whole = 0, True
    # A block at a time: floats of many images take four or eight times as much memory.
    for block in mapped.blocks(images):
        values = np.rint(block * factor) if images.dtype.kind == "f" else block.astype(np.uint8) * np.uint8(factor)
        whole = whole and bool((values == block).all())
        result[at : at + len(block)] = values
        at += len(block)
    if factor == 1:
        done.append(f"{images.dtype} of 0..255 {'became' if whole else 'were rounded to'} uint8")
    return result
