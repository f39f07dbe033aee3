"""The convolutional autoencoder: strided convolutions down to a dense bottleneck, transposed ones back."""

from collections.abc import Iterator

import aezoo
from aezoo_plugins.blocks import conv_body


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 8) -> aezoo.Autoencoder:
    """Build the network; `width` is the number of channels after the first convolution, doubled by the second."""
    return conv_body(image_shape, latent_dim, width)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `conv`."""
    yield aezoo.Architecture(
        name="conv",
        build=build,
        summary="Two 3x3 convolutions of stride 2, a dense bottleneck, transposed back; ReLU, sigmoid output",
        reference="Masci et al. 2011, ICANN; strides for pooling: Springenberg et al. 2015, arXiv:1412.6806",
        variants=[{"latent_dim": k} for k in (2, 3, 8, 16, 32)],
    )
