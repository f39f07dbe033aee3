"""Perceiver IO: a few learnt queries read an image by attention, and those of its places read pixels off them."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim
from aezoo_plugins.patches import FromPatches, Pad, ToPatches, patch_of
from aezoo_plugins.tokens import AttentionLayer


def fourier_features(sides: tuple[int, int], bands: int) -> Tensor:
    """Return the places of a map of so many rows and columns, (rows · columns, 2 + 4 bands), row by row.

    Row and column, from -1 to 1, and the sines and cosines of these, pi times frequencies that are evenly spaced from 1
    to half of the side: from a period of the whole map to one of two places, if there are as many.
    """
    places = torch.cartesian_prod(*(torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in sides))
    frequencies = torch.stack([torch.linspace(1, max(1, side / 2), bands) for side in sides])
    angles = math.pi * (places.unsqueeze(2) * frequencies).flatten(1)
    return torch.cat([places, angles.sin(), angles.cos()], dim=1)


class Reader(nn.Module):
    """Map images (B, C, H, W) to what learnt queries read of their patches, (B, queries, width), and then exchange.

    A patch is its pixels beside the Fourier features of where it is; no order is left but what these say.

    Args:
        image_shape: (channels, height, width).
        patch: Pixels of a patch's side.
        bands: Frequencies of each direction.
        queries: How many.
        width: Of the queries.
        depth: Layers of self-attention, after the queries have read.
        heads: Of each attention.
    """

    def __init__(
        self, image_shape: aezoo.ImageShape, *, patch: int, bands: int, queries: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.cut = ToPatches(image_shape, patch)
        self.register_buffer("places", fourier_features(sides_of(image_shape, patch), bands), persistent=False)
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.read = AttentionLayer(width, heads, self.cut.size + self.places.shape[1])
        self.layers = nn.ModuleList(AttentionLayer(width, heads) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Read."""
        patches = self.cut(x)
        context = torch.cat([patches, self.places.to(patches.dtype).expand(len(x), -1, -1)], dim=2)
        tokens = self.read(self.queries.to(patches.dtype).expand(len(x), -1, -1), context)
        for layer in self.layers:
            tokens = layer(tokens, tokens)
        return tokens


class Writer(nn.Module):
    """Map vectors (B, queries, width) to images (B, C, H, W).

    A query for each patch is made of the Fourier features of where it is, reads the vectors, and is painted by itself.

    Args:
        image_shape: (channels, height, width).
        patch: Pixels of a patch's side.
        bands: Frequencies of each direction.
        width: Of the vectors, and of the queries.
        heads: Of the attention.
    """

    def __init__(self, image_shape: aezoo.ImageShape, *, patch: int, bands: int, width: int, heads: int) -> None:
        super().__init__()
        self.register_buffer("places", fourier_features(sides_of(image_shape, patch), bands), persistent=False)
        self.query = nn.Linear(self.places.shape[1], width)
        self.read = AttentionLayer(width, heads, width)
        size = ToPatches(image_shape, patch).size
        self.paint = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, size), nn.Sigmoid(), FromPatches(image_shape, patch)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Write."""
        return self.paint(self.read(self.query(self.places).expand(len(tokens), -1, -1), tokens))


def sides_of(image_shape: aezoo.ImageShape, patch: int) -> tuple[int, int]:
    """Return how many rows and columns of patches an image has."""
    _, height, width = Pad(image_shape, patch).image_shape
    return height // patch, width // patch


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    queries: int = 8,
    patch: int | None = None,
    bands: int = 4,
    width: int = 32,
    depth: int = 1,
    heads: int = 4,
) -> aezoo.Autoencoder:
    """Build the network: eight queries, and a dense bottleneck between what they read and what is read of them.

    The paper has none: its latents are the queries themselves, 512 of width 1024 after 48 layers for ImageNet, whose
    layers read single pixels. Of it, too, are the Fourier features, and that a query's start is small; ours are an MLP
    four times as wide inside everywhere, where it is as wide at reading, and the shortcut past the last attention.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(queries=queries, bands=bands, width=width, depth=depth, heads=heads)
    patch = patch_of(image_shape, patch)
    shape = {"patch": patch, "bands": bands, "width": width, "heads": heads}
    return aezoo.Autoencoder(
        nn.Sequential(
            Reader(image_shape, queries=queries, depth=depth, **shape),
            nn.Flatten(),
            nn.Linear(queries * width, latent_dim),
        ),
        nn.Sequential(
            nn.Linear(latent_dim, queries * width), nn.Unflatten(1, (queries, width)), Writer(image_shape, **shape)
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `perceiver`."""
    yield aezoo.Architecture(
        name="perceiver",
        seed_spread="narrow",
        build=build,
        summary="Perceiver IO: learnt queries read patches, a dense bottleneck, queries of places read it off",
        reference="Jaegle et al. 2022, arXiv:2107.14795",
        variants=[],
    )
