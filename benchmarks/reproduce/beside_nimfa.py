"""Factorise the same images by nimfa and by our `nmf`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from trained import built, images_of, learn

import aezoo
from aezoo.train.score import image_errors

# nimfa 1.4.0 is older than NumPy 2, which has it by its longer name alone.
np.mat = np.asmatrix  # type: ignore[attr-defined]
import nimfa  # noqa: E402 - it looks for that name


def compare(row: dict[str, Any], recipe: aezoo.Recipe, data_dir: Path | None) -> tuple[list[float], list[float]]:
    """Return the MSE of ours and of nimfa's, seed by seed: of the images to train, or by `part` of those to test.

    A row's `theirs` is a class of nimfa, with a number of `rounds`. It factorises the images to train. Those to test
    are coded by its parts with SciPy's non-negative least squares, which is exact.
    """
    torch.set_num_threads(1)
    images = dict(zip(("train", "test"), images_of(recipe, data_dir), strict=True))
    part = row.get("part", "train")
    ours, others = [], []
    for seed in range(recipe.seeds):
        module = built(row["variant"], images["train"], seed)
        learn(module, images["train"], recipe, seed)
        ours.append(float(image_errors(module, images[part]).mean()))
        others.append(theirs(row, {name: of.flatten(1).numpy() / 255 for name, of in images.items()}, part, seed))
        print(f"{row['theirs']} seed {seed}, {part}: ours {ours[-1]:.5f}, theirs {others[-1]:.5f}", flush=True)
    return ours, others


def theirs(row: dict[str, Any], images: dict[str, Any], part: str, seed: int) -> float:
    """Return the MSE of nimfa's factorisation, of images (N, pixels)."""
    rank = len(built(row["variant"], torch.zeros(1, 1, 1, images["train"].shape[1]), seed).parts)
    # Its own random start draws from a generator that nobody can seed.
    generator = np.random.RandomState(seed)
    count, pixels = images["train"].shape
    start = {"W": generator.rand(pixels, rank), "H": generator.rand(rank, count)}
    made = getattr(nimfa, row["theirs"])(images["train"].T, **start, rank=rank, max_iter=row["rounds"])()
    parts = np.asarray(made.basis())
    if part == "train":
        return float(np.square(images["train"].T - parts @ np.asarray(made.coef())).mean())
    return float(np.mean([nnls(parts, image)[1] ** 2 for image in images["test"]]) / len(parts))
