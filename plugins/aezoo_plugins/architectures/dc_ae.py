"""The deep-compression autoencoder: every change of resolution has a shortcut that moves pixels into channels."""

import itertools
from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Crop, Pad, check_at_least_one, halved


class Down(nn.Module):
    """Halve the sides: a convolution of stride 2, plus the input itself, its pixels moved into channels and averaged.

    Maps (B, width, 2H, 2W) to (B, out_width, H, W).
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, out_width, 3, stride=2, padding=1)
        self.out_width = out_width

    def forward(self, x: Tensor) -> Tensor:
        """Halve."""
        return self.convolution(x) + to_channels(F.pixel_unshuffle(x, 2), self.out_width)


class Up(nn.Module):
    """Double the sides: a convolution plus the input itself, repeated, whose channels are moved into pixels.

    Maps (B, width, H, W) to (B, out_width, 2H, 2W).
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, 4 * out_width, 3, padding=1)
        self.out_width = out_width

    def forward(self, x: Tensor) -> Tensor:
        """Double."""
        return F.pixel_shuffle(self.convolution(x) + to_channels(x, 4 * self.out_width), 2)


class Block(nn.Module):
    """x + conv(silu(conv(x))). Maps (B, width, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to what passes."""
        return x + self.branch(x)


class Project(nn.Module):
    """A convolution to or from the latent, with the same shortcut: (B, width, H, W) to (B, out_width, H, W)."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, out_width, 3, padding=1)
        self.out_width = out_width

    def forward(self, x: Tensor) -> Tensor:
        """Project."""
        return self.convolution(x) + to_channels(x, self.out_width)


def to_channels(x: Tensor, count: int) -> Tensor:
    """Bring (B, C, H, W) to `count` channels without a parameter: averaged in groups, or repeated.

    Where neither number divides the other, each channel is the mean of those that its share covers in part.
    """
    have = x.shape[1]
    if have % count == 0:
        return x.unflatten(1, (count, have // count)).mean(2)
    if count % have == 0:
        return x.repeat_interleave(count // have, dim=1)
    return F.adaptive_avg_pool1d(x.flatten(2).transpose(1, 2), count).transpose(1, 2).unflatten(2, x.shape[2:])


def build(
    image_shape: aezoo.ImageShape, *, latent_channels: int = 4, width: int = 4, strides: int = 3, depth: int = 1
) -> aezoo.Autoencoder:
    """Build the network: `width` channels at half of the resolution, doubled at each further halving, no dense layer.

    The latent is (latent_channels, h, w), the sides halved `strides` times: 4x4 for 28x28 pixels. An image whose sides
    2**strides does not divide is padded with zeros, and its reconstruction cropped. The paper's largest halves seven
    times, and takes more channels and blocks of attention too.
    """
    check_at_least_one(latent_channels=latent_channels, width=width, strides=strides, depth=depth)
    halved(image_shape, strides)  # refuses an image that there is nothing left of
    pad = Pad(image_shape, 2**strides)
    widths = [image_shape[0], *(width * 2**number for number in range(strides))]
    encoder: list[nn.Module] = [pad]
    decoder: list[nn.Module] = [Crop(image_shape), nn.Sigmoid()]
    for one, other in itertools.pairwise(widths):
        encoder += [Down(one, other), *(Block(other) for _ in range(depth))]
        decoder = [*(Block(other) for _ in range(depth)), Up(other, one), *decoder]
    return aezoo.Autoencoder(
        nn.Sequential(*encoder, Project(widths[-1], latent_channels)),
        nn.Sequential(Project(latent_channels, widths[-1]), *decoder),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `dc_ae`."""
    yield aezoo.Architecture(
        name="dc_ae",
        build=build,
        summary="Space-to-channel shortcuts around every change of resolution; a small map as latent, no dense layer",
        reference="Chen et al. 2025, ICLR, arXiv:2410.10733",
    )
