"""What the programs of this folder share that train beside somebody else's: images, a network of ours, its training."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aezoo
from aezoo.registry.names import discover
from aezoo.train.build import Stream, seed_stream
from aezoo.train.loop import fit, train


def images_of(recipe: aezoo.Recipe, data_dir: Path | None) -> tuple[Tensor, Tensor]:
    """Return the images to train and to test of the recipe's data set, each (N, C, H, W), uint8."""
    images = discover().dataset(recipe.dataset).checked(data_dir or Path())
    return torch.from_numpy(images.train), torch.from_numpy(images.test)


def built(variant: str, images_NCHW: Tensor, seed: int) -> Any:
    """Return an untrained network for such images, with the weights that a trial of the seed starts from."""
    seed_stream(seed, Stream.INITIALISATION)
    _, channels, height, width = images_NCHW.shape
    return discover().resolve(variant).build((channels, height, width))


def learn(module: Any, images_NCHW: Tensor, recipe: aezoo.Recipe, seed: int) -> None:
    """Train a network as a trial does, or fit it where it is a closed form; then it is in evaluation mode."""
    if hasattr(module, "fit"):
        fit(module, images_NCHW, seed)
    else:
        train(module, images_NCHW, recipe, seed, lambda _: None)
    module.eval()
