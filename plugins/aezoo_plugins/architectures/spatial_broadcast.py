"""The spatial broadcast decoder: the latent is tiled over the image beside each pixel's place, and convolved."""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import (
    CONV_WIDTH,
    check_at_least_one,
    check_latent_dim,
    conv_down,
    conv_strides,
    dense_bottleneck,
    maps_after,
)


class Broadcast(nn.Module):
    """Tile latents over an image's sides beside two channels that say where, and convolve: (B, D) to (B, width, H, W).

    Rows and columns go from -1 to 1. A convolution is linear: so it is done once for each number of the latent, and not
    for each image.
    """

    def __init__(self, latent_dim: int, width: int, sides: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (torch.linspace(-1, 1, side) for side in sides)
        self.register_buffer("places", torch.stack(torch.meshgrid(rows, columns, indexing="ij")), persistent=False)
        self.convolution = nn.Conv2d(latent_dim + 2, width, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Tile and convolve."""
        count, sides = z.shape[1], self.places.shape[1:]
        tiles = torch.eye(count, device=z.device, dtype=z.dtype)[:, :, None, None].expand(-1, -1, *sides)
        by_number, by_place = self.convolution.weight.split([count, 2], dim=1)
        maps = F.conv2d(tiles, by_number, padding=1)
        where = F.conv2d(self.places.unsqueeze(0), by_place, self.convolution.bias, padding=1)
        # Channels last, in memory: convolutions are quickest with that.
        maps = maps.permute(0, 2, 3, 1)
        return (z @ maps.flatten(1)).unflatten(1, maps.shape[1:]).permute(0, 3, 1, 2) + where


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 8, depth: int = 2) -> aezoo.Autoencoder:
    """Build the network: `conv`'s encoder, and `depth` convolutions of `width` channels at full resolution back.

    The paper has four of 64 channels. Without strides nothing in the decoder prefers a place, so that what an image
    shows and where it shows it come apart in the latent. Where `width` is below the latent's numbers, the first
    convolution has as many channels as these: away from the borders its sums are the same at all places, and of fewer
    channels it would leave no more numbers than it has channels (mnist-5k, default recipe, seed 0: 0.056 with 8
    channels there, 0.040 with 16).
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width, depth=depth)
    channels, *sides = image_shape
    strides = conv_strides(image_shape)
    into, _ = dense_bottleneck(maps_after(image_shape, CONV_WIDTH, strides), latent_dim)
    widths = [max(width, latent_dim), *[width] * (depth - 1)]
    layers = [Broadcast(latent_dim, widths[0], (sides[0], sides[1])), nn.ReLU()]
    for one, other in itertools.pairwise(widths):
        layers += [nn.Conv2d(one, other, 3, padding=1), nn.ReLU()]
    return aezoo.Autoencoder(
        nn.Sequential(*conv_down(channels, CONV_WIDTH, strides), *into),
        # No sigmoid: one that all pixels share is soon saturated where most of them are black.
        nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1)),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `spatial_broadcast`."""
    yield aezoo.Architecture(
        name="spatial_broadcast",
        seed_spread="erratic",
        build=build,
        summary="Convolutional encoder; the decoder convolves the latent, tiled beside coordinates; linear output",
        reference="Watters et al. 2019, arXiv:1901.07017",
        variants=[],
    )
