"""The control: a U-Net, which is no autoencoder. Its skips carry the image around the bottleneck, and it is refused.

It reconstructs better than anything else here, from a latent of which it makes no use. That is why the suite of checks
decodes a latent by itself: with `aezoo bench unet mlp` its row says `invalid`, and why.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import CONV_WIDTH, check_at_least_one, halved


class UNet(nn.Module):
    """Two strides down and two enlargements up; each of the latter also sees what the former had at its resolution.

    `encode` and `decode` are what one would take for its halves: the path down, and the path up without the skips.
    """

    def __init__(self, image_shape: aezoo.ImageShape, width: int) -> None:
        super().__init__()
        channels = image_shape[0]
        whole, half, _ = halved(image_shape, 2)
        self.half, self.width, self.channels = half, width, channels
        self.first = nn.Sequential(nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())
        self.third = nn.Sequential(nn.Upsample(half), nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU())
        self.enlarge = nn.Upsample(whole)
        self.last = nn.Sequential(nn.Conv2d(2 * width + channels, channels, 3, padding=1), nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the narrowest of the maps (B, 2 width, h, w)."""
        return self.second(self.first(x))

    def decode(self, z: Tensor) -> Tensor:
        """Map such a map to images (B, C, H, W), with zeros where the skips would be."""
        whole = self.enlarge(z.new_zeros(len(z), 1, *self.half)).expand(-1, self.channels, -1, -1)
        return self._up(z, z.new_zeros(len(z), self.width, *self.half), whole)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W), which pass by the narrowest map."""
        half = self.first(x)
        return self._up(self.second(half), half, x)

    def _up(self, z: Tensor, half: Tensor, whole: Tensor) -> Tensor:
        up = self.enlarge(torch.cat([self.third(z), half], dim=1))
        return self.last(torch.cat([up, whole], dim=1))


def build(image_shape: aezoo.ImageShape, *, width: int = CONV_WIDTH) -> UNet:
    """Build the network; `width` is the number of channels at half of the resolution, doubled at a quarter."""
    check_at_least_one(width=width)
    return UNet(image_shape, width)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `unet`."""
    yield aezoo.Architecture(
        name="unet",
        seed_spread="wide",
        build=build,
        summary="The control: skips around the bottleneck, so that it is refused; benched only where it is named",
        reference="Ronneberger, Fischer & Brox 2015, arXiv:1505.04597",
        variants=[],
    )
