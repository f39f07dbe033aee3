"""A recurrent autoencoder: one network reads an image row by row, another one writes it."""

from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim


class Recurrent(aezoo.Autoencoder):
    """A GRU over the rows, whose last state makes the latent; another, which starts from the latent, gives them back.

    It writes from the last row up, which the state knows best, as in the paper. The writer is given nothing at each row
    but its own state, so that all it knows comes from the latent: with the true row before as its input, as a
    translator has, it could copy.

    Args:
        image_shape: (channels, height, width).
        latent_dim: Numbers of the latent.
        width: Units of either GRU.
    """

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int, width: int) -> None:
        channels, _, breadth = image_shape
        super().__init__(
            nn.ModuleDict(
                {"read": nn.GRU(channels * breadth, width, batch_first=True), "narrow": nn.Linear(width, latent_dim)}
            ),
            nn.ModuleDict(
                {
                    "widen": nn.Sequential(nn.Linear(latent_dim, width), nn.Tanh()),
                    "write": nn.GRU(1, width, batch_first=True),
                    "paint": nn.Sequential(nn.Linear(width, channels * breadth), nn.Sigmoid()),
                }
            ),
        )
        self.image_shape = image_shape

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to latents (B, latent_dim)."""
        _, last = self.encoder["read"](x.transpose(1, 2).flatten(2))
        return self.encoder["narrow"](last[0])

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, latent_dim) to images (B, C, H, W)."""
        channels, height, breadth = self.image_shape
        state = self.decoder["widen"](z)
        rows, _ = self.decoder["write"](state.new_ones(len(z), height, 1), state.unsqueeze(0))
        return self.decoder["paint"](rows.flip(1)).view(len(z), height, channels, breadth).transpose(1, 2)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 64) -> Recurrent:
    """Build the network: rows of all channels together, from the top.

    A width narrower than the latent is widened to it: else it would be the bottleneck.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width)
    return Recurrent(image_shape, latent_dim, max(width, latent_dim))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `recurrent`."""
    yield aezoo.Architecture(
        name="recurrent",
        build=build,
        summary="A GRU reads the rows into the latent, another writes them back from it",
        reference="Srivastava, Mansimov & Salakhutdinov 2015, arXiv:1502.04681; GRU: Cho et al. 2014, arXiv:1406.1078",
    )
