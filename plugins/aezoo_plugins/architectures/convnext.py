"""ConvNeXt blocks around a dense bottleneck: depthwise 7x7 convolutions, and an MLP in each pixel."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, dense_bottleneck
from aezoo_plugins.patches import Crop, Pad


class Block(nn.Module):
    """x + scale · W2 gelu(W1 norm(depthwise(x))), four times as wide inside. Maps (B, width, H, W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        # The paper starts the scale at 1e-6, for networks of dozens of blocks; a shallow one would stand still.
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to what passes."""
        y = self.scale * self.mlp(self.depthwise(x).permute(0, 2, 3, 1))
        return x + y.permute(0, 3, 1, 2)


class Paint(nn.ConvTranspose2d):
    """A transposed convolution whose patches do not overlap: a linear layer in each pixel, and a shuffle."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to (B, C, 4H, 4W), for a stride of 4."""
        each = math.prod(self.kernel_size)
        weight = self.weight.flatten(1).T[:, :, None, None]
        return F.pixel_shuffle(F.conv2d(x, weight, self.bias.repeat_interleave(each)), self.stride[0])


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 16, depth: int = 1) -> aezoo.Autoencoder:
    """Build the network: patches of 4x4 pixels to `width` channels, `depth` blocks, the latent, and the same back.

    Of larger images than 32x32 the patches are larger, so that there are about 8x8 of them: 8x8 pixels of 64x64. An
    image whose sides a patch's does not divide is padded with zeros, and its reconstruction cropped.
    """
    check_at_least_one(width=width, depth=depth)
    patch = max(4, math.ceil(math.sqrt(image_shape[1] * image_shape[2]) / 8))
    pad = Pad(image_shape, patch)
    channels, height, breadth = pad.image_shape
    into, out_of = dense_bottleneck((width, height // patch, breadth // patch), latent_dim)
    return aezoo.Autoencoder(
        nn.Sequential(
            pad,
            nn.Conv2d(channels, width, patch, stride=patch),
            *(Block(width) for _ in range(depth)),
            nn.GroupNorm(1, width),
            *into,
        ),
        nn.Sequential(
            *out_of,
            *(Block(width) for _ in range(depth)),
            nn.GroupNorm(1, width),
            Paint(width, channels, patch, stride=patch),
            Crop(image_shape),
            nn.Sigmoid(),
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `convnext`."""
    yield aezoo.Architecture(
        name="convnext",
        seed_spread="narrow",
        build=build,
        summary="Small patches, depthwise 7x7 convolutions with an MLP in each pixel, on both sides of the latent",
        reference="Liu et al. 2022, arXiv:2201.03545",
        variants=[],
    )
