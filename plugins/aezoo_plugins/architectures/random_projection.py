"""A random projection, decoded as well as a linear map can: what training an encoder must at least be worth."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_latent_dim, float_chunks


class RandomProjection(aezoo.Autoencoder):
    """Project on random Gaussian directions, drawn from the trial's seed, and go back by least squares.

    The decoder is the linear map with the smallest squared error on the training images, given those directions.
    """

    objective = "mse, closed form"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        pixels = math.prod(image_shape)
        directions = torch.randn(latent_dim, pixels) / math.sqrt(latent_dim)
        self.directions = nn.Parameter(directions, requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.back = nn.Parameter(torch.zeros(latent_dim, pixels), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their projections (B, latent_dim)."""
        return (self.encoder(x) - self.mean) @ self.directions.T

    def decode(self, z: Tensor) -> Tensor:
        """Map projections (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder(z @ self.back + self.mean)

    def fit(self, images: Tensor) -> None:
        """Take the mean of images (N, C, H, W), uint8, and solve the normal equations for the way back."""
        mean = sum(chunk.sum(0) for chunk in float_chunks(images)) / len(images)
        self.mean.copy_(mean)
        directions = self.directions.double()
        latent_dim, pixels = directions.shape
        gram = directions.new_zeros(latent_dim, latent_dim)
        cross = directions.new_zeros(latent_dim, pixels)
        for chunk in float_chunks(images):
            centred = chunk - mean
            z = centred @ directions.T
            gram += z.T @ z
            cross += z.T @ centred
        # Pixels that are always the same leave fewer than latent_dim directions: hence the pseudo-inverse.
        self.back.copy_(torch.linalg.pinv(gram, hermitian=True) @ cross)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16) -> RandomProjection:
    """Build the projection with `latent_dim` directions, at most as many as an image has pixels."""
    check_latent_dim(latent_dim, at_most=math.prod(image_shape))
    return RandomProjection(image_shape, latent_dim)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `random_projection`."""
    yield aezoo.Architecture(
        name="random_projection",
        seed_spread="narrow",
        build=build,
        summary="Random Gaussian directions and the least-squares way back: an encoder that learnt nothing",
        reference="Johnson & Lindenstrauss 1984; Dasgupta 2000, UAI",
        variants=[{"latent_dim": k} for k in (3, 16)],
    )
