"""The deep-compression autoencoder: every change of resolution has a shortcut that moves pixels into channels."""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, halved, spatial_strides
from aezoo_plugins.patches import Crop, Pad


class ShortcutConv(nn.Conv2d):
    """A 3x3 convolution plus the input itself, brought to its channels without a parameter.

    Maps (B, width, H, W) to (B, out_width, H, W); or, with a stride of 2, to half of the sides, the input's pixels
    moved into channels first. The shortcut is linear: it is added to the weights, and costs no step of its own.
    """

    def __init__(self, width: int, out_width: int, stride: int = 1) -> None:
        super().__init__(width, out_width, 3, stride=stride, padding=1)
        # What the input's channels, of all pixels that a stride joins, give to each channel that comes out.
        shares = to_channels(torch.eye(width * stride**2), out_width).T.unflatten(1, (width, stride, stride))
        shortcut = torch.zeros(out_width, width, 3, 3)
        shortcut[:, :, 1 : 1 + stride, 1 : 1 + stride] = shares
        self.register_buffer("shortcut", shortcut, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and add."""
        return F.conv2d(x, self.weight + self.shortcut, self.bias, self.stride, self.padding)


class Up(nn.Module):
    """Double the sides: a convolution with its shortcut, whose channels are moved into pixels.

    Maps (B, width, H, W) to (B, out_width, 2H, 2W).
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.convolution = ShortcutConv(width, 4 * out_width)

    def forward(self, x: Tensor) -> Tensor:
        """Double."""
        return F.pixel_shuffle(self.convolution(x), 2)


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


def to_channels(x: Tensor, count: int) -> Tensor:
    """Bring (N, C) to (N, count) without a parameter: averaged in groups, or repeated.

    Where neither number divides the other, each channel is the mean of those that its share covers in part.
    """
    have = x.shape[1]
    return x.repeat_interleave(count // have, dim=1) if count % have == 0 else F.adaptive_avg_pool1d(x, count)


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_channels: int = 4,
    width: int = 4,
    strides: int | None = None,
    depth: int = 1,
) -> aezoo.Autoencoder:
    """Build the network: `width` channels at half of the resolution, doubled at each further halving, no dense layer.

    The latent is (latent_channels, h, w), the sides halved `strides` times; by default so often that they come near to
    4, and at least three times: 4x4 for 28x28, 32x32 (three) and 64x64 pixels (four). An image whose sides 2**strides
    does not divide is padded with zeros, and its reconstruction cropped. The paper's largest halves seven times, and
    takes more channels and blocks of attention too.
    """
    strides = spatial_strides(image_shape, strides)
    check_at_least_one(latent_channels=latent_channels, width=width, strides=strides, depth=depth)
    halved(image_shape, strides)  # refuses an image that there is nothing left of
    pad = Pad(image_shape, 2**strides)
    widths = [image_shape[0], *(width * 2**number for number in range(strides))]
    encoder: list[nn.Module] = [pad]
    decoder: list[nn.Module] = [Crop(image_shape), nn.Sigmoid()]
    for one, other in itertools.pairwise(widths):
        encoder += [ShortcutConv(one, other, stride=2), *(Block(other) for _ in range(depth))]
        decoder = [*(Block(other) for _ in range(depth)), Up(other, one), *decoder]
    return aezoo.Autoencoder(
        nn.Sequential(*encoder, ShortcutConv(widths[-1], latent_channels)),
        nn.Sequential(ShortcutConv(latent_channels, widths[-1]), *decoder),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `dc_ae`."""
    yield aezoo.Architecture(
        name="dc_ae",
        seed_spread="narrow",
        build=build,
        summary="Space-to-channel shortcuts around every change of resolution; a small map as latent, no dense layer",
        reference="Chen et al. 2025, ICLR, arXiv:2410.10733",
    )
