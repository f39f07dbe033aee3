"""What families of discrete codes share: a network whose map of vectors is rounded, and what rounds it.

Shapes: vectors (B, n, D), n the places of a map (D, h, w), row by row; codes (B, n, parts), int64.
"""

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import halved, spatial_body, spatial_strides


class Rounded(NamedTuple):
    """Vectors (B, n, D) after their rounding, their codes (B, n, parts), and the penalty, a scalar or None."""

    vectors: Tensor
    codes: Tensor
    penalty: Tensor | None = None


class Quantiser(Protocol):
    """A module that rounds vectors, and looks up what codes stand for.

    Each code is a number from 0 to `codebook_size` - 1, `parts` of them stand for a vector.
    """

    codebook_size: int
    parts: int

    def __call__(self, vectors: Tensor) -> Rounded:
        """Round vectors (B, n, D)."""

    def look_up(self, codes: Tensor) -> Tensor:
        """Map codes (B, n, parts) to the rounded vectors (B, n, D)."""


class Quantised(aezoo.Autoencoder):
    """The network of `conv_spatial`, whose map of vectors is rounded, vector by vector, to codes.

    Images of 28x28, 32x32 and 64x64 pixels have 16 places, if no strides are given. The latent is what the decoder
    gets: the rounded vectors, (B, D, h, w). They are rounded in float32, whatever the precision.

    The encoder ends in a batch normalisation, which is ours: most vectors else start at a few codes, and stay there
    (of what starves a codebook: Łańcucki et al. 2020, arXiv:2005.08520).

    Args:
        image_shape: (channels, height, width).
        code_dim: D, the numbers of a vector.
        quantiser: A module of the protocol `Quantiser`.
        width: Of the first convolution.
        strides: Of 2, from the image to the map; None for those of `conv_spatial`.
        objective: What is optimised.
        is_over_variance: Whether the penalty stands beside the squared error over the data's variance, as in the
            VQ-VAE's authors' example: it is multiplied by that of the batch's pixels.
    """

    def __init__(
        self,
        image_shape: aezoo.ImageShape,
        code_dim: int,
        quantiser: nn.Module,
        *,
        width: int,
        strides: int | None,
        objective: str = "mse",
        is_over_variance: bool = False,
    ) -> None:
        strides = spatial_strides(image_shape, strides)
        body = spatial_body(image_shape, code_dim, width, strides)
        super().__init__(body.encoder.append(nn.BatchNorm2d(code_dim)), body.decoder)
        self.quantiser = quantiser
        self.sides = halved(image_shape, strides)[-1]
        self.objective = objective
        self.is_over_variance = is_over_variance

    @property
    def codebook_size(self) -> int:
        """How many there are of each code."""
        return self.quantiser.codebook_size

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of images (B, C, H, W): (B, places · parts), int64."""
        return self.round(x).codes.flatten(1)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, D, h, w) that codes (B, places · parts) stand for."""
        return self.map_of(self.quantiser.look_up(codes.unflatten(1, (math.prod(self.sides), self.quantiser.parts))))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their rounded latents (B, D, h, w)."""
        return self.map_of(self.round(x).vectors)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from their rounded latents, with the quantiser's own penalty."""
        vectors, _, penalty = self.round(x)
        if self.is_over_variance:
            penalty = penalty * x.var(correction=0)
        return aezoo.TrainingOutput(self.decode(self.map_of(vectors)), penalty)

    def round(self, x: Tensor) -> Rounded:
        """Return the rounded vectors of images (B, C, H, W)."""
        vectors = self.encoder(x).flatten(2).transpose(1, 2).float()
        if not torch.amp.is_autocast_available(vectors.device.type):
            return self.quantiser(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            return self.quantiser(vectors)

    def map_of(self, vectors: Tensor) -> Tensor:
        """Lay vectors (B, n, D) out as a map (B, D, h, w)."""
        return vectors.transpose(1, 2).unflatten(2, self.sides)


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """Return what is rounded, with gradients that pass to x as if it had not been (Bengio et al. 2013)."""
    return x + (rounded - x).detach()


def one_hot(codes: Tensor, count: int) -> Tensor:
    """Return codes (...) as zeros with a 1 each, (..., count), float32; nothing is asked of a device."""
    return torch.zeros(*codes.shape, count, device=codes.device).scatter(-1, codes.unsqueeze(-1), 1.0)
