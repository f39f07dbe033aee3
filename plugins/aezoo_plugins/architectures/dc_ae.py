"""The deep-compression autoencoder: every change of resolution has a shortcut that moves pixels into channels."""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, halved, spatial_strides
from aezoo_plugins.patches import Crop, Pad

EPSILON = 1e-5
"""Added to a mean square, as torch's norms do, of which the authors' is one."""


class Norm(nn.Module):
    """Divide by the root mean square over the channels, (B, width, H, W), then scale and shift each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, 1, 1))
        self.shift = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPSILON) * self.scale + self.shift


class Down(nn.Module):
    """Halve the sides: a 3x3 convolution, and pixels moved into channels. Maps to (B, out_width, H/2, W/2).

    Beside it, where it has a shortcut, the input's own pixels are moved into channels, and those averaged in groups.
    """

    def __init__(self, width: int, out_width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, out_width // 4, 3, padding=1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Halve."""
        y = F.pixel_unshuffle(self.convolution(x), 2)
        return y + to_channels(F.pixel_unshuffle(x, 2), y.shape[1]) if self.shortcut else y


class Up(nn.Module):
    """Double the sides: a 3x3 convolution, and channels moved into pixels. Maps to (B, out_width, 2H, 2W).

    Beside it, where it has a shortcut, the input's own channels are repeated, and moved into pixels.
    """

    def __init__(self, width: int, out_width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, 4 * out_width, 3, padding=1)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Double."""
        y = self.convolution(x)
        return F.pixel_shuffle(y + to_channels(x, y.shape[1]) if self.shortcut else y, 2)


class Same(nn.Conv2d):
    """A 3x3 convolution, plus the input itself brought to its channels: to the latent, and from it."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__(width, out_width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and add."""
        return super().forward(x) + to_channels(x, self.out_channels)


class Block(nn.Module):
    """x + norm(conv(silu(conv(x)))). Maps (B, width, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            Norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to what passes."""
        return x + self.branch(x)


def to_channels(x: Tensor, count: int) -> Tensor:
    """Bring (B, C, H, W) to (B, count, H, W) without a parameter: averaged in groups, or repeated.

    Where neither number divides the other, each channel is the mean of those that its share covers in part.
    """
    have = x.shape[1]
    if count % have == 0:
        return x.repeat_interleave(count // have, dim=1)
    if have % count == 0:
        return x.unflatten(1, (count, -1)).mean(2)
    return F.adaptive_avg_pool1d(x.flatten(2).transpose(1, 2), count).transpose(1, 2).unflatten(2, x.shape[2:])


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_channels: int = 4,
    width: int = 8,
    strides: int | None = None,
    depth: int = 1,
) -> aezoo.Autoencoder:
    """Build the network: `width` channels at half of the resolution, doubled at each further halving, no dense layer.

    The structure is that of the authors' code: no shortcut from the image to the first channels, nor from the last to
    the image, where a norm and a ReLU come before. The blocks are those of their encoder, which their first models'
    decoder has with batch normalisation and ReLUs; the sigmoid is ours. How their autoencoders start is not published:
    here as torch's layers do. Then what passes has a root mean square of 0.25, and each block adds one of 1. The norms
    are needed: without them two of three seeds paint black for good within 300 steps of mnist-5k, the sigmoid saturated
    before the shortcuts carry anything to it; with them none does.

    The latent is (latent_channels, h, w), the sides halved `strides` times; by default so often that they come near to
    4, and at least three times: 4x4 for 28x28, 32x32 (three) and 64x64 pixels (four). An image whose sides 2**strides
    does not divide is padded with zeros, and its reconstruction cropped. The paper's smallest halves five times, to 256
    channels first, has 4 to 10 such blocks in its first two stages, and two of linear attention in each further one.
    """
    strides = spatial_strides(image_shape, strides)
    check_at_least_one(latent_channels=latent_channels, width=width, strides=strides, depth=depth)
    if width % 4:
        raise aezoo.AezooError(f"width must be a multiple of 4, which a pixel becomes, but is {width}")
    halved(image_shape, strides)  # refuses an image that there is nothing left of
    widths = [width * 2**number for number in range(strides)]
    channels = image_shape[0]
    encoder: list[nn.Module] = [
        Pad(image_shape, 2**strides),
        Down(channels, width, shortcut=False),
        *blocks(width, depth),
    ]
    decoder: list[nn.Module] = []
    for one, other in itertools.pairwise(widths):
        encoder += [Down(one, other, shortcut=True), *blocks(other, depth)]
        decoder = [Up(other, one, shortcut=True), *blocks(one, depth), *decoder]
    return aezoo.Autoencoder(
        nn.Sequential(*encoder, Same(widths[-1], latent_channels)),
        nn.Sequential(
            Same(latent_channels, widths[-1]), *blocks(widths[-1], depth), *decoder,
            Norm(width), nn.ReLU(), Up(width, channels, shortcut=False), nn.Sigmoid(), Crop(image_shape),
        ),
    )  # fmt: skip


def blocks(width: int, depth: int) -> list[nn.Module]:
    """Return so many blocks in a row."""
    return [Block(width) for _ in range(depth)]


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `dc_ae`."""
    yield aezoo.Architecture(
        name="dc_ae",
        seed_spread="narrow",
        build=build,
        summary="Space-to-channel shortcuts around every change of resolution; a small map as latent, no dense layer",
        reference="Chen et al. 2025, ICLR, arXiv:2410.10733",
        variants=[],
    )
