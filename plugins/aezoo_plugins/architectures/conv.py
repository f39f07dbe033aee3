"""Convolutional autoencoders: strided down; back up transposed, or resized; with a dense bottleneck, or none."""

from collections.abc import Iterator

from torch import nn

import aezoo
from aezoo_plugins.blocks import (
    CONV_WIDTH,
    UpsampleConv,
    check_at_least_one,
    conv_body,
    conv_down,
    conv_strides,
    dense_bottleneck,
    halved,
    maps_after,
    spatial_body,
    spatial_strides,
)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = CONV_WIDTH) -> aezoo.Autoencoder:
    """Build the network; `width` is the number of channels after the first convolution, doubled by each further one.

    There are so many that an image's shorter side comes near to 8 pixels: two for 28x28 and 32x32, three for 64x64.
    """
    return conv_body(image_shape, latent_dim, width)


def build_resize(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = CONV_WIDTH) -> aezoo.Autoencoder:
    """Build the network of `conv`, but for its way back: enlarge by copying pixels, then convolve.

    A transposed convolution of stride 2 adds up a different number of terms in neighbouring pixels, and paints
    checkerboards with them; this does not.
    """
    check_at_least_one(width=width)
    strides = conv_strides(image_shape)
    whole, *sizes = halved(image_shape, strides)
    into, out_of = dense_bottleneck(maps_after(image_shape, width, strides), latent_dim)
    encoder = nn.Sequential(*conv_down(image_shape[0], width, strides), *into)
    decoder = out_of
    for number in reversed(range(1, strides)):
        one, other = width * 2**number, width * 2 ** (number - 1)
        decoder += [nn.Upsample(sizes[number - 1]), nn.Conv2d(one, other, 3, padding=1), nn.ReLU()]
    decoder += [UpsampleConv(width, image_shape[0], whole), nn.Sigmoid()]
    return aezoo.Autoencoder(encoder, nn.Sequential(*decoder))


def build_spatial(
    image_shape: aezoo.ImageShape, *, latent_channels: int = 4, width: int = CONV_WIDTH, strides: int | None = None
) -> aezoo.Autoencoder:
    """Build the network of `conv` without its dense layers: the latent is a small map, (latent_channels, h, w).

    Its sides are the image's, halved `strides` times; by default so often that they come near to 4, and at least three
    times: 4x4 for 28x28, 32x32 (three) and 64x64 pixels (four). Any size of image does.
    """
    return spatial_body(image_shape, latent_channels, width, spatial_strides(image_shape, strides))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `conv`, `conv_resize` and `conv_spatial`."""
    yield aezoo.Architecture(
        name="conv",
        seed_spread="wide",
        build=build,
        summary="3x3 convolutions of stride 2, two or more, a dense bottleneck, transposed back; ReLU, sigmoid output",
        reference="Masci et al. 2011, ICANN; strides for pooling: Springenberg et al. 2015, arXiv:1412.6806",
        variants=[{"latent_dim": k} for k in (2, 3, 8, 16, 32)],
    )
    yield aezoo.Architecture(
        name="conv_resize",
        seed_spread="wide",
        build=build_resize,
        summary="conv whose way back enlarges and convolves, instead of convolving transposed: no checkerboards",
        reference="Odena, Dumoulin & Olah 2016, Distill, doi:10.23915/distill.00003",
    )
    yield aezoo.Architecture(
        name="conv_spatial",
        seed_spread="erratic",
        build=build_spatial,
        summary="Convolutions alone, no dense layer: the latent is a small map of channels",
        reference="Long, Shelhamer & Darrell 2015, arXiv:1411.4038 (fully convolutional); Theis et al. 2017, "
        "arXiv:1703.00395 (as an autoencoder)",
    )
