"""Code photographs of a folder, DIR/kodak, each by itself, as who publishes figures of coders on Kodak's does."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import aezoo
from aezoo.registry.discovery import discover

AROUND = 2 + 18 + 2 * 69 + 19 + 2 * (33 + 183) + 14 + 2
"""Bytes of a colour JPEG that `bits` leaves out: SOI, JFIF's APP0, DQT, SOF0, DHT, SOS and EOI, of T.81's lengths."""


def compare(row: dict[str, Any], _: aezoo.Recipe, data_dir: Path | None) -> tuple[list[float], list[float]]:
    """Return what a row asks of a variant, mean over its photographs, and nothing else.

    That is the `psnr`, or the `bits` of a pixel in the whole file. Each of `photographs` has a file's name and its
    SHA-256.
    """
    values = []
    for name, sha256 in row["photographs"].items():
        path = (data_dir or Path()) / "kodak" / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            raise SystemExit(f"{path} is not there, or not the photograph that was published; nothing was written")
        pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)[None].copy())
        values.append(figure(row, pixels))
    return [sum(values) / len(values)], []


def figure(row: dict[str, Any], pixels: torch.Tensor) -> float:
    """Return the figure of a photograph, (1, 3, H, W), uint8."""
    _, channels, height, width = pixels.shape
    module: Any = discover().resolve(row["variant"]).build((channels, height, width))
    module.fit(pixels)
    x = pixels / 255
    if row["value"] == "bits":
        return (float(module.bits(x)) + 8 * AROUND) / x[0, 0].numel()
    return -10 * math.log10(float((module(x) - x).double().square().mean()))
