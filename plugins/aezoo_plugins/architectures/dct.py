"""The cosine transform that keeps m coefficients: what an image coder does, with no network at all."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_latent_dim, float_chunks


class CosineTransform(aezoo.Autoencoder):
    """Transform each channel by the orthonormal DCT-II, and keep the coefficients of most energy in training.

    Orthonormal, so that the error is the energy of what is discarded (Parseval).
    """

    objective = "mse, closed form"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        self.image_shape = image_shape
        self.components = nn.Parameter(torch.zeros(latent_dim, math.prod(image_shape)), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their kept coefficients (B, latent_dim)."""
        return self.encoder(x) @ self.components.T

    def decode(self, z: Tensor) -> Tensor:
        """Map coefficients (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder(z @ self.components)

    def fit(self, images: Tensor) -> None:
        """Choose the coefficients with the largest mean square over images (N, C, H, W), uint8."""
        channels, height, width = self.image_shape
        rows, columns = cosines(height, device=images.device), cosines(width, device=images.device)
        energy = sum(
            (rows @ chunk.view(-1, channels, height, width) @ columns.T).square().sum(0)
            for chunk in float_chunks(images)
        )
        # A stable order, so that coefficients of no energy at all do not depend on the machine.
        kept = energy.flatten().argsort(descending=True, stable=True)[: len(self.components)]
        # Tensors already, whatever torch's annotations say.
        channel, u, v = (torch.as_tensor(index) for index in torch.unravel_index(kept, self.image_shape))
        basis = torch.zeros(len(kept), *self.image_shape, dtype=torch.float64, device=images.device)
        basis[torch.arange(len(kept)), channel] = rows[u].unsqueeze(2) * columns[v].unsqueeze(1)
        self.components.copy_(basis.flatten(1))


def cosines(size: int, device: torch.device | None = None) -> Tensor:
    """Return the orthonormal DCT-II matrix (size, size), float64: a row a frequency."""
    position = torch.arange(size, dtype=torch.float64, device=device)
    matrix = torch.cos(math.pi / size * position.unsqueeze(1) * (position + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16) -> CosineTransform:
    """Build the transform with `latent_dim` coefficients, at most as many as an image has pixels."""
    check_latent_dim(latent_dim, at_most=math.prod(image_shape))
    return CosineTransform(image_shape, latent_dim)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `dct`."""
    yield aezoo.Architecture(
        name="dct",
        seed_spread="none",
        build=build,
        summary="Discrete cosine transform that keeps the coefficients of most energy in training: zonal coding",
        reference="Ahmed, Natarajan & Rao 1974, IEEE Trans. Computers C-23; zonal sampling: Jain 1989, chapter 5",
        variants=[{"latent_dim": k} for k in (3, 16)],
    )
