"""Nested dropout: training cuts each code short at a random place, so that its first numbers must matter most."""

from collections.abc import Iterator

import torch
from torch import Tensor

import aezoo
from aezoo_plugins.blocks import Body, body_of


class NestedDropout(aezoo.Autoencoder):
    """A body that trains on codes of random length, and is evaluated on whole ones.

    Args:
        body: The autoencoder.
        rate: The chance that a code ends at each of its numbers, of those that come to it: the lengths are geometric.
    """

    objective = "mse, truncated latent; scored whole"

    def __init__(self, body: aezoo.Autoencoder, rate: float) -> None:
        super().__init__(body.encoder, body.decoder)
        self.rate = rate

    def truncate(self, z: Tensor) -> Tensor:
        """Set to 0 what comes after a random place of each code (B, latent_dim); the first number always stays."""
        ends = torch.rand_like(z) < self.rate
        kept = ends.cumsum(1) - ends.to(torch.int64) == 0
        return z * kept

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from codes cut short."""
        return aezoo.TrainingOutput(self.decode(self.truncate(self.encode(x))))


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    rate: float = 0.1,
    body: Body = "mlp",
    width: int | None = None,
) -> NestedDropout:
    """Build the network; with a rate of 0.1 a code of 16 numbers keeps eight on average."""
    if not 0 < rate < 1:
        raise aezoo.AezooError(f"rate must be between 0 and 1, but is {rate}; without dropout take the body alone")
    if latent_dim < 2:
        raise aezoo.AezooError(f"latent_dim must be at least 2, so that there is an order, but is {latent_dim}")
    return NestedDropout(body_of(body, image_shape, latent_dim, width), rate)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `nested_dropout`."""
    yield aezoo.Architecture(
        name="nested_dropout",
        seed_spread="wide",
        build=build,
        summary="Codes cut short at a random place in training: ordered by importance, as PCA's are",
        reference="Rippel, Gelbart & Adams 2014, arXiv:1402.0915",
    )
