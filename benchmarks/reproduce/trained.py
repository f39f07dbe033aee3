"""What the programs of this folder share that train beside somebody else's: images, a network of ours, its training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import aezoo
from aezoo.contract.network import to_float
from aezoo.registry.discovery import discover
from aezoo.train.build import Stream, seed_stream
from aezoo.train.loop import batch_indices, fit, train


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


def learn_theirs(
    loss_of: Callable[[Tensor], Any],
    optimizer: torch.optim.Optimizer,
    images_NCHW: Tensor,
    recipe: aezoo.Recipe,
    seed: int,
) -> None:
    """Lower somebody else's loss of a batch (B, C, H, W), float32 in [0, 1], on the batches that a trial has."""
    batches = batch_indices(len(images_NCHW), recipe.batch_size, seed)
    seed_stream(seed, Stream.TRAINING_NOISE)
    for _ in range(recipe.num_steps(len(images_NCHW))):
        optimizer.zero_grad()
        loss_of(to_float(images_NCHW[next(batches)])).backward()
        optimizer.step()
