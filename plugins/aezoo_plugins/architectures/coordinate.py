"""Coordinate decoders: one small MLP paints each pixel from its place and the latent, for any resolution."""

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, dense_stack, mlp_sizes

Features = Literal["siren", "fourier"]
OMEGA = 30.0
"""SIREN's first frequency (section 3.2)."""
FOURIER_SCALE = 1.0
"""The standard deviation of the random frequencies, in cycles over half an image: higher ones learn slower here."""


class Painter(nn.Module):
    """Map latents (B, D) to images (B, C, H, W): an MLP over each pixel's place, shifted in every layer by the latent.

    Args:
        image_shape: (channels, height, width).
        latent_dim: D.
        width: Units of each hidden layer.
        depth: Hidden layers.
        features: `siren`, sines between all layers, with the paper's initialisation; or `fourier`, random sines and
            cosines of the place, and ReLUs.
    """

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int, width: int, depth: int, features: Features):
        super().__init__()
        channels, height, breadth = image_shape
        rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, breadth)
        places = torch.cartesian_prod(rows, columns).view(-1, 2)
        if features == "fourier":
            turns = 2 * math.pi * places @ (FOURIER_SCALE * torch.randn(2, width))
            places = torch.cat([turns.sin(), turns.cos()], dim=1)
        # Saved with the weights: the random frequencies are part of the network.
        self.register_buffer("places", places)
        widths = [places.shape[1], *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.shifts = nn.ModuleList(nn.Linear(latent_dim, width, bias=False) for _ in range(depth))
        self.last = nn.Linear(width, channels)
        self.is_siren = features == "siren"
        self.image = nn.Unflatten(2, (height, breadth))
        if self.is_siren:
            # Of n inputs, 1 / n in the first layer and sqrt(6 / n) / omega in the others, as in the paper.
            for number, layer in enumerate([*self.layers, self.last]):
                limit = 1 / 2 if number == 0 else math.sqrt(6 / width) / OMEGA
                nn.init.uniform_(layer.weight, -limit, limit)
            # A shift goes into a sine as what a hidden layer gives does, and so starts as one.
            for layer in self.shifts:
                limit = math.sqrt(6 / latent_dim) / OMEGA
                nn.init.uniform_(layer.weight, -limit, limit)

    def forward(self, z: Tensor) -> Tensor:
        """Paint."""
        paint = self._sines if self.is_siren else self._relus
        return self.image(torch.sigmoid(paint(z)).flatten(2))

    def _relus(self, z: Tensor) -> Tensor:
        """Return what the last layer says of each pixel, (B, C, P)."""
        y = self.places
        for layer, shift in zip(self.layers, self.shifts, strict=True):
            # (P, width) and then (B, P, width): the first layer's share of the places is the same for all images.
            y = torch.relu(layer(y) + shift(z).unsqueeze(1))
        return self.last(y).transpose(1, 2)

    def _sines(self, z: Tensor) -> Tensor:
        """Return the same with sines.

        The first layer's are never painted: sin(place + shift) is sin(place) cos(shift) + cos(place) sin(shift), so
        that the second layer takes a product of what is the same for all images with what is the same for all pixels.
        """
        rest = [*self.layers[1:], self.last]
        place, shift = OMEGA * self.layers[0](self.places), OMEGA * self.shifts[0](z)
        by_place = torch.cat([place.sin(), place.cos()], dim=1)
        by_image = torch.cat([shift.cos(), shift.sin()], dim=1).unsqueeze(2)
        for number, layer in enumerate(rest):
            scale = 1.0 if layer is self.last else OMEGA
            if number == 0:
                # (P, 2 width) times (2 width, B · width).
                weight = (by_image * (scale * layer.weight.T).repeat(2, 1)).transpose(0, 1).flatten(1)
                y = (by_place @ weight).unflatten(1, (len(z), -1))
            else:
                y = y @ (scale * layer.weight.T)
            y = y + scale * (layer.bias if layer is self.last else layer.bias + self.shifts[number + 1](z))
            y = y if layer is self.last else y.sin()
        return y.permute(1, 2, 0)


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    features: Features = "fourier",
    width: int = 16,
    depth: int = 2,
) -> aezoo.Autoencoder:
    """Build the network: `mlp`'s encoder, its first layer 8 times `width`, and a painter of `depth` layers of `width`.

    The papers fit one network to one image; here a latent tells them apart, by shifting each layer (as in Dupont et al.
    2022). They take widths of 256.
    """
    check_at_least_one(width=width, depth=depth)
    return aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), *dense_stack(mlp_sizes(math.prod(image_shape), latent_dim, 8 * width))),
        Painter(image_shape, latent_dim, width, depth, features),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `coordinate`."""
    yield aezoo.Architecture(
        name="coordinate",
        seed_spread="wide",
        build=build,
        summary="MLP encoder; an MLP over pixel coordinates paints the image, shifted in each layer by the latent",
        reference="Sitzmann et al. 2020, arXiv:2006.09661 (SIREN); Tancik et al. 2020, arXiv:2006.10739 (Fourier "
        "features); Dupont et al. 2022, arXiv:2201.12204 (shifts)",
        variants=[],
    )
