"""An MLP of residual blocks: each adds to what passes, so that depth costs no gradient."""

import math
from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim


class Block(nn.Module):
    """x + W2 gelu(W1 norm(x)), with a hidden layer twice as wide. Maps (B, width) to (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch to what passes."""
        return x + self.branch(x)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 64, depth: int = 2) -> aezoo.Autoencoder:
    """Build the network: `depth` blocks of `width` on either side of the latent, a sigmoid at the output.

    A width narrower than the latent is widened to it: else it would be the bottleneck.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width, depth=depth)
    width = max(width, latent_dim)
    pixels = math.prod(image_shape)
    return aezoo.Autoencoder(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, width),
            *(Block(width) for _ in range(depth)),
            nn.LayerNorm(width),
            nn.Linear(width, latent_dim),
        ),
        nn.Sequential(
            nn.Linear(latent_dim, width),
            *(Block(width) for _ in range(depth)),
            nn.LayerNorm(width),
            nn.Linear(width, pixels),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `residual_mlp`."""
    yield aezoo.Architecture(
        name="residual_mlp",
        seed_spread="narrow",
        build=build,
        summary="Fully connected residual blocks, normalised before, GELU, on both sides of the latent",
        reference="He et al. 2016, arXiv:1512.03385; normalised before: Xiong et al. 2020, arXiv:2002.04745",
        variants=[{}],
    )
