"""Binary codes: the numbers of a dense latent, each rounded to a bit."""

from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Body, body_of
from aezoo_plugins.quantisers import straight_through


class Binary(aezoo.Autoencoder):
    """A body whose latent numbers pass a logistic function, and are rounded to 0 or 1, though not for gradients.

    Salakhutdinov & Hinton add noise before the logistic, which drives it to its ends, and round once it is trained.
    Rounding from the start, as Krizhevsky & Hinton do for images, trains what is scored.

    Args:
        body: The autoencoder.
    """

    codebook_size = 2

    def __init__(self, body: aezoo.Autoencoder) -> None:
        super().__init__(body.encoder, body.decoder)

    def codes(self, x: Tensor) -> Tensor:
        """Return the bits of images (B, C, H, W): (B, bits), int64."""
        return (self.encoder(x) > 0).long()

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, bits) that the bits stand for."""
        return codes.float()

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to zeros and ones, (B, bits)."""
        activity = self.encoder(x).float()
        return straight_through(activity.sigmoid(), (activity > 0).float())


def build(image_shape: aezoo.ImageShape, *, bits: int = 128, body: Body = "conv", width: int | None = None) -> Binary:
    """Build the network; the body is that of `mlp` or `conv`. 128 bits are as many as the other discrete codes have.

    The batch normalisation at the encoder's end is ours: each bit is then about as often 0 as 1. On mnist-5k, default
    recipe, seed 0, the test MSE is 0.014 with it, and 0.037 without, where the bits could be coded in 35.
    """
    network = body_of(body, image_shape, bits, width)
    network.encoder.append(nn.BatchNorm1d(bits))
    return Binary(network)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `binary`."""
    yield aezoo.Architecture(
        name="binary",
        seed_spread="wide",
        build=build,
        summary="Semantic hashing: each number of a dense latent is rounded to a bit",
        reference="Salakhutdinov & Hinton 2009, IJAR 50; rounding: Krizhevsky & Hinton 2011, ESANN",
    )
