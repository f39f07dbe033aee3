"""The linear autoencoder: one layer in, one layer out, nothing between. At its best it is PCA."""

import math
from collections.abc import Iterator

from torch import nn

import aezoo
from aezoo_plugins.blocks import Tied, check_latent_dim


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 3, tied: bool = False) -> aezoo.Autoencoder:
    """Build the network: two linear layers with biases, so that the optimum is centred PCA.

    Where it is `tied`, the second one's weights are the first one's, transposed; the optimum is the same.
    """
    check_latent_dim(latent_dim)
    pixels = math.prod(image_shape)
    if tied:
        return Tied(image_shape, [pixels, latent_dim], nn.Identity())
    return aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim)),
        nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(1, image_shape)),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `linear`."""
    yield aezoo.Architecture(
        name="linear",
        seed_spread="narrow",
        build=build,
        summary="One linear layer each way, no activation: on its training images it can reach PCA, not beat it",
        reference="Baldi & Hornik 1989, Neural Networks 2(1)",
        variants=[*({"latent_dim": k} for k in (2, 3, 8, 16, 32)), {"tied": True}],
    )
