"""A residual convolutional autoencoder: blocks that add to what passes, between strides down and enlargements up."""

import itertools
from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import UpsampleConv, check_at_least_one, conv_strides, dense_bottleneck, halved, maps_after


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
    """Build the network: `width` channels at half of the resolution, twice that at a quarter, `depth` blocks each.

    It is halved, and the channels doubled, so often that an image's shorter side comes near to 8 pixels: twice for
    28x28 and 32x32, three times for 64x64.
    """
    check_at_least_one(width=width, depth=depth)
    strides = conv_strides(image_shape)
    whole, *sizes = halved(image_shape, strides)
    into, out_of = dense_bottleneck(maps_after(image_shape, width, strides), latent_dim)
    widths = [image_shape[0], *(width * 2**number for number in range(strides))]

    def blocks(width: int) -> list[nn.Module]:
        return [Block(width) for _ in range(depth)]

    encoder: list[nn.Module] = []
    for one, other in itertools.pairwise(widths):
        encoder += [nn.Conv2d(one, other, 3, stride=2, padding=1), *blocks(other)]
    encoder += [*before_convolution(widths[-1]), *into]
    decoder = [*out_of, *blocks(widths[-1])]
    for number in reversed(range(1, strides)):
        one, other = widths[number + 1], widths[number]
        decoder += [nn.Upsample(sizes[number - 1]), nn.Conv2d(one, other, 3, padding=1), *blocks(other)]
    decoder += [*before_convolution(width), UpsampleConv(width, image_shape[0], whole), nn.Sigmoid()]
    return aezoo.Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `resnet`."""
    yield aezoo.Architecture(
        name="resnet",
        seed_spread="narrow",
        build=build,
        summary="Pre-activation residual blocks at half, a quarter and so on of the resolution, a dense bottleneck",
        reference="He et al. 2016, arXiv:1603.05027; normalised image by image: Ba, Kiros & Hinton 2016, "
        "arXiv:1607.06450",
        variants=[],
    )
