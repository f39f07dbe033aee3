"""One hidden layer with an activation, and a linear output: however nonlinear the code, it cannot beat PCA."""

import math
from collections.abc import Iterator

from torch import nn

import aezoo
from aezoo_plugins.blocks import Activation, activation_of, check_latent_dim


def build(
    image_shape: aezoo.ImageShape, *, latent_dim: int = 16, activation: Activation = "sigmoid"
) -> aezoo.Autoencoder:
    """Build the network.

    The sigmoid is the paper's. As the output is linear, images lie in the span of `latent_dim` vectors (and a bias),
    and no such span is nearer to the training images than PCA's: the activation can only cost. ReLUs cost the most: 10
    to 13 of 16 are dead (mnist-5k, default recipe, three seeds).
    """
    check_latent_dim(latent_dim)
    pixels = math.prod(image_shape)
    return aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim), activation_of(activation)),
        nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(1, image_shape)),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `one_hidden`."""
    yield aezoo.Architecture(
        name="one_hidden",
        seed_spread="wide",
        build=build,
        summary="One hidden layer, sigmoid or another activation, linear output: PCA bounds it in training",
        reference="Bourlard & Kamp 1988, Biological Cybernetics 59",
        variants=[{}, {"activation": "relu"}],
    )
