"""The two baselines that every table carries: the mean image, and PCA. Both are computed, not trained."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_latent_dim
from aezoo_plugins.principal import mean_of, principal_axes


class Affine(aezoo.Autoencoder):
    """Centre, project on orthonormal rows, and go back: PCA, and with no rows the mean image.

    The training images set its `mean` (C·H·W,) and `components` (latent_dim, C·H·W), in float64; the network itself
    works in float32, as all others do.
    """

    objective = "mse, closed form"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        pixels = math.prod(image_shape)
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.components = nn.Parameter(torch.zeros(latent_dim, pixels), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their coordinates (B, latent_dim)."""
        return (self.encoder(x) - self.mean) @ self.components.T

    def decode(self, z: Tensor) -> Tensor:
        """Map coordinates (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder(z @ self.components + self.mean)

    def fit(self, images: Tensor) -> None:
        """Take mean and leading eigenvectors of the covariance of images (N, C, H, W), uint8."""
        pixels_NP = images.flatten(1)
        mean = mean_of(pixels_NP)
        self.mean.copy_(mean)
        if len(self.components):
            self.components.copy_(principal_axes(pixels_NP, mean, len(self.components)))


def build_mean(image_shape: aezoo.ImageShape) -> Affine:
    """Build the predictor of the mean image: a latent of no numbers."""
    return Affine(image_shape, 0)


def build_pca(image_shape: aezoo.ImageShape, *, latent_dim: int = 3) -> Affine:
    """Build PCA with `latent_dim` components, at most as many as an image has pixels."""
    check_latent_dim(latent_dim, at_most=math.prod(image_shape))
    return Affine(image_shape, latent_dim)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `mean` and `pca`."""
    yield aezoo.Architecture(
        name="mean",
        seed_spread="none",
        build=build_mean,
        summary="The mean training image, whatever it is shown: the floor that every autoencoder must leave",
        reference="the model of explained variance 0: Wright 1921, Journal of Agricultural Research 20",
        baseline="mean",
    )
    yield aezoo.Architecture(
        name="pca",
        seed_spread="none",
        build=build_pca,
        summary="Principal component analysis: the best that a linear autoencoder can do",
        reference="Pearson 1901; Eckart & Young 1936",
        variants=[{"latent_dim": k} for k in (2, 3, 8, 16, 32, 64)],
        baseline="pca",
    )
