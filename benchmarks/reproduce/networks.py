"""Networks of published protocols that are not in the zoo; `run.py` benches them from this file."""

import math
from collections.abc import Iterator

from torch import nn

import aezoo


def build_sweep(image_shape: aezoo.ImageShape, *, latent_dim: int = 3) -> aezoo.Autoencoder:
    """Build 784-64-32-k and back: ReLU between layers, none at the latent, a sigmoid at the output."""
    pixels = math.prod(image_shape)
    return aezoo.Autoencoder(
        nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, latent_dim)
        ),
        nn.Sequential(
            nn.Linear(latent_dim, 32),
            nn.ReLU(),
            nn.Linear(32, 64),
            nn.ReLU(),
            nn.Linear(64, pixels),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `sweep`."""
    yield aezoo.Architecture(
        name="sweep",
        build=build_sweep,
        summary="784-64-32-k and back, ReLU, sigmoid output",
        reference="a public notebook's sweep over k on MNIST",
    )
