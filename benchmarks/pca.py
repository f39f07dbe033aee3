"""Measure PCA of larger images: its leading axes alone, as `pca` finds them, and the full decomposition.

    python benchmarks/pca.py --json pca.json

Images are noise whose amplitudes fall with the frequency, as those of photographs do. Each fit has a process and a
core of its own, as a trial has; the two ways take turns. Seconds are that core's: on a quiet machine those of a clock
too. Memory is what the fit adds to the process, with its copy of the images. The full decomposition is that of version
0.1: all singular vectors of the images where they are fewer than their pixels, else all eigenvectors of the covariance.
"""

import argparse
import importlib
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tabulate
import torch
from torch import Tensor

import aezoo
from aezoo.contract.architecture import ImageShape
from aezoo.machine import PeakMemory, configure
from aezoo.train.loop import fit

Figures = dict[str, Any]
FORMATS = ("", ".0f", ".2f", ".2f", ".3f", ".0f", ".0f", ".0e")


def photographs(count: int, shape: ImageShape) -> Tensor:
    """Return images (N, C, H, W), uint8, of noise whose amplitude is one over the frequency."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    frequency = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.rfftfreq(width))
    frequency[0, 0] = 1 / max(height, width)
    images = torch.empty(count, *shape, dtype=torch.uint8)
    for part in torch.split(images, 32):
        noise = torch.randn(len(part), channels, height, width, generator=generator)
        # Colours go together, though not wholly.
        noise = 0.6 * noise + 0.8 * noise.mean(1, keepdim=True)
        pixels = torch.fft.irfft2(torch.fft.rfft2(noise) / frequency, s=(height, width))
        part.copy_((128 + 50 * pixels / pixels.std()).round().clamp(0, 255))
    return images


class Whole(aezoo.Autoencoder):
    """PCA by all singular vectors, or all eigenvectors: what version 0.1 did."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(torch.nn.Identity(), torch.nn.Identity())
        self.latent_dim = latent_dim
        self.axes = torch.empty(0)

    def fit(self, images: Tensor) -> None:
        x = images.flatten(1).double() / 255
        x -= x.mean(0)
        if len(x) < x.shape[1]:
            vectors = torch.linalg.svd(x, full_matrices=False)[2]
        else:
            vectors = torch.linalg.eigh(x.T @ x)[1].T.flip(0)
        self.axes = vectors[: self.latent_dim].clone()


def measure(way: str, count: int, shape: ImageShape, latent_dim: int) -> Figures:
    """Fit PCA in this process, and return what that took, and its axes (latent_dim, C*H*W)."""
    configure(threads=1)
    images = photographs(count, shape)
    whole = Whole(latent_dim)
    module = whole if way == "whole" else aezoo.create(f"pca[latent_dim={latent_dim}]", image_shape=shape)
    # What the first fit of a process loads and sets up is no part of it.
    fit(module, images[: 2 * latent_dim], seed=0)
    memory, started = PeakMemory("cpu"), time.process_time()
    fit(module, images, seed=0)
    figures = {"seconds": time.process_time() - started, "peak_bytes": memory.host() or 0}
    # The network keeps its axes in float32: they are held against the others as they were found.
    pixels, principal = images.flatten(1), importlib.import_module("aezoo_plugins.principal")
    axes = whole.axes if way == "whole" else principal.principal_axes(pixels, principal.mean_of(pixels), latent_dim)
    return figures | {"axes": axes}


def compare(count: int, shape: ImageShape, latent_dim: int, rounds: int) -> Figures:
    """Measure both ways in turn, and say by how much their axes differ: the sine of the largest angle."""
    taken: dict[str, list[Figures]] = {"ours": [], "whole": []}
    for _ in range(rounds):
        for way, each in taken.items():
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                each.append(process.submit(measure, way, count, shape, latent_dim).result())
    ours, theirs = (each[-1]["axes"] for each in taken.values())
    found: Figures = {"images": count, "shape": shape, "latent_dim": latent_dim}
    found["sine"] = float(torch.linalg.matrix_norm(ours - ours @ theirs.T @ theirs, 2))
    for way, each in taken.items():
        found |= {f"{way}_{name}": [figures[name] for figures in each] for name in ("seconds", "peak_bytes")}
    return found


def row(found: Figures) -> dict[str, Any]:
    """Return a line of the table: medians, and of the ratios round by round."""
    ratios = [ours / whole for ours, whole in zip(found["ours_seconds"], found["whole_seconds"], strict=True)]
    return {
        "images": f"{found['images']:,} of {'x'.join(map(str, found['shape']))}",
        "axes": found["latent_dim"],
        "s": statistics.median(found["ours_seconds"]),
        "s, whole": statistics.median(found["whole_seconds"]),
        "ratio": statistics.median(ratios),
        "MB": max(found["ours_peak_bytes"]) / 1e6,
        "MB, whole": max(found["whole_peak_bytes"]) / 1e6,
        "sine of the angle": found["sine"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", default="5000x1x28x28,10000x3x32x32,4000x3x64x64", help="counts and shapes; by default %(default)s"
    )
    parser.add_argument("--latent-dims", default="3,64", help="by default %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    for text in given.images.split(","):
        count, channels, height, width = map(int, text.split("x"))
        for latent_dim in map(int, given.latent_dims.split(",")):
            found.append(compare(count, (channels, height, width), latent_dim, given.rounds))
    print(tabulate.tabulate(map(row, found), headers="keys", floatfmt=FORMATS, tablefmt="github"))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
