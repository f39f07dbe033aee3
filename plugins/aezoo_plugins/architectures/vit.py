"""The vision transformer as an autoencoder: patches attend to each other on both sides of a dense bottleneck."""

from collections.abc import Iterator

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import Transformer, patch_autoencoder


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    patch: int | None = None,
    width: int = 32,
    depth: int = 1,
    heads: int = 4,
) -> aezoo.Autoencoder:
    """Build the network: `depth` transformer layers on either side of the latent, a sigmoid at the output.

    The paper classifies with 16x16 patches, 12 layers of width 768. By default about 4x4 patches make an image, each of
    at least 7x7 pixels. An image whose sides `patch` does not divide is padded with zeros, and its reconstruction
    cropped.
    """
    check_at_least_one(width=width, depth=depth, heads=heads)
    return patch_autoencoder(
        image_shape, latent_dim, patch, width, lambda count: Transformer(count, width, depth, heads)
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `vit`."""
    yield aezoo.Architecture(
        name="vit",
        seed_spread="narrow",
        build=build,
        summary="Patches with learnt positions, self-attention on both sides of a dense bottleneck",
        reference="Dosovitskiy et al. 2021, arXiv:2010.11929",
    )
