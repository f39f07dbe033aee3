"""Zonal coding: a fixed orthonormal transform of which the same few coefficients are kept of every image."""

import math

import torch
from torch import Tensor, nn

from aezoo import Autoencoder, ImageShape
from aezoo_plugins.blocks import check_latent_dim, float_chunks


class Zonal(Autoencoder):
    """Subtract the mean training image, transform, and keep the coefficients of greatest variance in training.

    The transform is orthonormal, so that the error is what the discarded coefficients hold (Parseval). A subclass says
    which one it is. The network keeps its rows for those coefficients alone, `components` (latent_dim, C·H·W).
    """

    objective = "mse, closed form"

    def __init__(self, image_shape: ImageShape, latent_dim: int) -> None:
        check_latent_dim(latent_dim, at_most=math.prod(image_shape))
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        self.image_shape = image_shape
        pixels = math.prod(image_shape)
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.components = nn.Parameter(torch.zeros(latent_dim, pixels), requires_grad=False)

    def analyse(self, images: Tensor) -> Tensor:
        """Return the coefficients of images (N, C, H, W), laid out alike."""
        raise NotImplementedError

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Return the images of coefficients (N, C, H, W): the inverse, and so the transpose, of `analyse`."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their kept coefficients (B, latent_dim)."""
        return (self.encoder(x) - self.mean) @ self.components.T

    def decode(self, z: Tensor) -> Tensor:
        """Map coefficients (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder(z @ self.components + self.mean)

    def fit(self, images: Tensor) -> None:
        """Choose the coefficients of greatest variance over images (N, C, H, W), uint8."""
        mean = sum(chunk.sum(0) for chunk in float_chunks(images)) / len(images)
        variance = sum(
            self.analyse((chunk - mean).view(-1, *self.image_shape)).square().sum(0) for chunk in float_chunks(images)
        )
        # A stable order, so that coefficients of no variance at all do not depend on the machine.
        kept = variance.flatten().argsort(descending=True, stable=True)[: len(self.components)]
        single = torch.zeros(len(kept), mean.numel(), dtype=torch.float64, device=images.device)
        single[torch.arange(len(kept)), kept] = 1.0
        self.mean.copy_(mean)
        self.components.copy_(self.synthesise(single.view(-1, *self.image_shape)).flatten(1))
