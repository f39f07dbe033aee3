"""The deep autoencoder of 2006, 784-1000-500-250-30: the network that made autoencoders famous."""

import math
from collections.abc import Iterator

from torch import nn

import aezoo
from aezoo_plugins.blocks import Activation, check_at_least_one, dense_stack, with_room


def build(
    image_shape: aezoo.ImageShape, *, latent_dim: int = 30, activation: Activation = "relu", width: int = 250
) -> aezoo.Autoencoder:
    """Build the network: a linear latent, a sigmoid at the output, as in the paper.

    `width` is the first hidden layer's; each next one is half as wide. 1000 is the paper's; a quarter of that trains on
    a laptop. There the third layer, of 62, is left out: less than four times as wide as the latent, it would be the
    bottleneck, for a quarter of its ReLUs are dead (mnist-5k, default recipe, two seeds: 0.028 with it, 0.021 without).
    The paper's units are sigmoids, which it had to train layer by layer first; ReLUs need no such help.
    """
    check_at_least_one(width=width)
    hidden = with_room([max(1, width // divisor) for divisor in (1, 2, 4)], latent_dim)
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
        summary="Fully connected, 784-1000-500-250-30 and back (a quarter as wide by default), linear latent",
        reference="Hinton & Salakhutdinov 2006, Science 313",
        variants=[{}, {"activation": "sigmoid"}],
    )
