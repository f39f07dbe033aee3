"""Kolmogorov-Arnold networks: every edge between two units is a learnt function of its own, and the units only add."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim

SPAN = 2.0
"""The splines' grids go from -SPAN to SPAN: where most of what is normalised lies."""
SPREAD = 0.1
"""The standard deviation of a spline's coefficients at the start (section 2.2), here over the root of the inputs."""


class Edges(nn.Module):
    """Map (B, inputs) to (B, outputs), each a sum over the inputs of w silu(x) + spline(x), with w and spline its own.

    The splines are cubic, on a grid of equal intervals; outside of it they fade to 0 within three more of these, and
    silu is left. Inside, their bases sum to 1, so that a spline has its constant, and there is no bias.

    Args:
        inputs: Units before.
        outputs: Units after.
        grid: Intervals; there are three bases more.
    """

    def __init__(self, inputs: int, outputs: int, grid: int) -> None:
        super().__init__()
        step = 2 * SPAN / grid
        self.register_buffer("centres", torch.linspace(-SPAN - step, SPAN + step, grid + 3) / step, persistent=False)
        self.per_step = 1 / step
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.coefficients = nn.Parameter(torch.empty(outputs, inputs * (grid + 3)))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Linear's
        nn.init.normal_(self.coefficients, std=SPREAD / math.sqrt(inputs))

    def bases(self, x: Tensor) -> Tensor:
        """Return the cubic B-splines of numbers (B, inputs), (B, inputs, grid + 3).

        On equal intervals all are one function of the distance d from their centres, in intervals: the second
        difference, as it were, of the cubes, ((2 - d)³ - 4 (1 - d)³) / 6, negative ones cut off.
        """
        distance = (x.unsqueeze(2) * self.per_step - self.centres).abs()
        return ((2 - distance).relu() ** 3 - 4 * (1 - distance).relu() ** 3) / 6

    def forward(self, x: Tensor) -> Tensor:
        """Add up the edges."""
        return F.linear(F.silu(x), self.weight) + F.linear(self.bases(x).flatten(1), self.coefficients)


class Stretch(nn.Module):
    """Bring pixels from [0, 1] to the splines' grid."""

    def forward(self, x: Tensor) -> Tensor:
        """Stretch."""
        return SPAN * (2 * x - 1)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 64, grid: int = 5) -> aezoo.Autoencoder:
    """Build the network: pixels, `width` units, the latent, and back; cubic splines on `grid` intervals.

    In the form of efficient-kan: the bases of all inputs, and a matrix product. The paper moves its grids after the
    data that reach them; here they stay, and the units before the latent and after it are normalised image by image
    instead, with no scale or shift to learn (as FastKAN does). The latent itself is not. The scale that the paper
    learns for each spline is left out, as it has its coefficients, and so are the penalties that make it sparse.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width, grid=grid)
    pixels = math.prod(image_shape)
    return aezoo.Autoencoder(
        nn.Sequential(
            nn.Flatten(),
            Stretch(),
            Edges(pixels, width, grid),
            nn.LayerNorm(width, elementwise_affine=False),
            Edges(width, latent_dim, grid),
        ),
        nn.Sequential(
            Edges(latent_dim, width, grid),
            nn.LayerNorm(width, elementwise_affine=False),
            Edges(width, pixels, grid),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `kan`."""
    yield aezoo.Architecture(
        name="kan",
        seed_spread="narrow",
        build=build,
        summary="Kolmogorov-Arnold network: a spline and a SiLU on every edge, units that only add",
        reference="Liu et al. 2024, arXiv:2404.19756; normalised: Li 2024, arXiv:2405.06721 (FastKAN)",
        variants=[],
    )
