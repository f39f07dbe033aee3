"""MLP-Mixer: an image is a table of patches and channels, and MLPs mix its columns and its rows in turn."""

from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import patch_autoencoder


class Mixer(nn.Module):
    """Mix over patches, then over channels; each an MLP with a residual path. Maps (B, patches, width) to the same."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.over_patches = nn.Sequential(nn.Linear(patches, width), nn.GELU(), nn.Linear(width, patches))
        self.over_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Tensor) -> Tensor:
        """Mix the columns, then the rows."""
        x = x + self.over_patches(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_channels(self.norms[1](x))


def build(
    image_shape: aezoo.ImageShape, *, latent_dim: int = 16, patch: int | None = None, width: int = 32, depth: int = 2
) -> aezoo.Autoencoder:
    """Build the network: `depth` mixers on either side of the latent, a sigmoid at the output.

    By default about 4x4 patches make an image, each of at least 7x7 pixels. An image whose sides `patch` does not
    divide is padded with zeros, and its reconstruction cropped.
    """
    check_at_least_one(width=width, depth=depth)

    def body(patches: int) -> nn.Sequential:
        return nn.Sequential(*(Mixer(patches, width) for _ in range(depth)), nn.LayerNorm(width))

    return patch_autoencoder(image_shape, latent_dim, patch, width, body)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `mlp_mixer`."""
    yield aezoo.Architecture(
        name="mlp_mixer",
        seed_spread="narrow",
        build=build,
        summary="Patches mixed by MLPs, over patches and over channels in turn, on both sides of the latent",
        reference="Tolstikhin et al. 2021, arXiv:2105.01601",
        variants=[{}],
    )
