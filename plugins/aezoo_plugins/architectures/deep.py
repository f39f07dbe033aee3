"""The deep autoencoder of 2006, 784-1000-500-250-30: the network that made autoencoders famous."""

import math
from collections.abc import Iterator

from torch import nn

import aezoo
from aezoo_plugins.blocks import ROOM, SPARE, Activation, check_at_least_one, check_latent_dim, dense_stack


def build(
    image_shape: aezoo.ImageShape, *, latent_dim: int = 30, activation: Activation = "relu", width: int = 250
) -> aezoo.Autoencoder:
    """Build the network: a linear latent, a sigmoid at the output, as in the paper.

    `width` is the first hidden layer's; each next one is half as wide. 1000 is the paper's; a quarter of that trains on
    a laptop. There the third layer, of 62, is left out, as is any that is less than four times as wide as the latent: a
    quarter of its ReLUs are dead, and it is the bottleneck (mnist-5k, default recipe, two seeds: 0.028 with it, 0.021
    without). The paper's units are sigmoids, which it had to train layer by layer first; ReLUs need no such help.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width)
    hidden = [one for one in (width, width // 2, width // 4) if one >= ROOM * latent_dim]
    hidden = hidden or [max(width, SPARE * latent_dim)]
    sizes = [math.prod(image_shape), *hidden, latent_dim]
    return aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), *dense_stack(sizes, activation)),
        nn.Sequential(*dense_stack(sizes[::-1], activation), nn.Sigmoid(), nn.Unflatten(1, image_shape)),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `deep`."""
    yield aezoo.Architecture(
        name="deep",
        seed_spread="wide",
        build=build,
        summary="Fully connected, 784-1000-500-250-30 and back (784-250-125-30 by default), linear latent",
        reference="Hinton & Salakhutdinov 2006, Science 313",
        variants=[{}, {"activation": "sigmoid"}],
    )
