"""A residual convolutional autoencoder: blocks that add to what passes, between strides down and enlargements up."""

from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import UpsampleConv, check_at_least_one, dense_bottleneck, halved


class Block(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))). Maps (B, width, H, W) to the same.

    The order is He et al.'s second; their batch normalisation is one over each image here, so that training does not
    mix the images of a batch.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *before_convolution(width),
            nn.Conv2d(width, width, 3, padding=1),
            *before_convolution(width),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to what passes."""
        return x + self.branch(x)


def before_convolution(width: int) -> list[nn.Module]:
    """Return a normalisation over all of an image's channels and pixels, and a ReLU."""
    return [nn.GroupNorm(1, width), nn.ReLU()]


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 8, depth: int = 1) -> aezoo.Autoencoder:
    """Build the network: `width` channels at half of the resolution, twice that at a quarter, `depth` blocks each."""
    check_at_least_one(width=width, depth=depth)
    whole, half, quarter = halved(image_shape, 2)
    channels = image_shape[0]
    into, out_of = dense_bottleneck((2 * width, *quarter), latent_dim)

    def blocks(width: int) -> list[nn.Module]:
        return [Block(width) for _ in range(depth)]

    return aezoo.Autoencoder(
        nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            *blocks(width),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            *blocks(2 * width),
            *before_convolution(2 * width),
            *into,
        ),
        nn.Sequential(
            *out_of,
            *blocks(2 * width),
            nn.Upsample(half),
            nn.Conv2d(2 * width, width, 3, padding=1),
            *blocks(width),
            *before_convolution(width),
            UpsampleConv(width, channels, whole),
            nn.Sigmoid(),
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `resnet`."""
    yield aezoo.Architecture(
        name="resnet",
        seed_spread="narrow",
        build=build,
        summary="Pre-activation residual blocks at half and at a quarter of the resolution, a dense bottleneck",
        reference="He et al. 2016, arXiv:1603.05027; normalised image by image: Ba, Kiros & Hinton 2016, "
        "arXiv:1607.06450",
    )
