"""The gated sparse autoencoder: one half of the encoder says which units are active, the other half how strongly."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_weight
from aezoo_plugins.dictionaries import Dictionary, l1_scale


class Gated(Dictionary):
    """The L1 penalty rests on the gates alone, so that it does not shrink what passes through them.

    The gates are steps, and have no gradient; they learn from the penalty, and from a second reconstruction that is
    made of what they see, with the dictionary held still (section 3.2). Gates and magnitudes share their directions, up
    to a scale for each unit. The paper holds the entries at norm 1; here a gate counts by its entry's norm, which gets
    no gradient from that.

    Args:
        image_shape: (channels, height, width).
        width: Units.
        weight: Of the penalty, beside the squared error of an image.
    """

    objective = "mse + l1 + mse of the gates"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, weight: float) -> None:
        super().__init__(image_shape, width, nn.Identity())
        self.weight = weight
        self.log_scale = nn.Parameter(torch.zeros(width))
        self.magnitude_bias = nn.Parameter(torch.zeros(width))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width)."""
        return self.code(self.encoder(x))

    def code(self, gates: Tensor) -> Tensor:
        """Return the codes of what the gates see, both (B, width)."""
        directions = gates - self.encoder[1].bias
        return F.relu(self.log_scale.exp() * directions + self.magnitude_bias) * (gates > 0)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the gates' L1 and their own reconstruction's error as penalty."""
        gates = self.encoder(x)
        seen = F.relu(gates)
        l1 = l1_scale(x) * (seen @ self.entries.detach().norm(dim=0)).mean()
        bias = self.decoder[0].bias.detach() + self.encoder[0].mean
        error = (F.linear(seen, self.entries.detach(), bias) - x.flatten(1)).square().mean()
        return aezoo.TrainingOutput(self.decode(self.code(gates)), self.weight * l1 + error)


def build(image_shape: aezoo.ImageShape, *, width: int = 256, weight: float = 0.4) -> Gated:
    """Build the network; the weight is of images scaled to a mean squared norm of 1 around their mean, and ours.

    How many units are active is an outcome: 20 of 256 on mnist-5k, 21 on digits, 10 on photo-patches (seed 0).
    """
    check_weight(weight=weight)
    return Gated(image_shape, width, weight)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `gated`."""
    yield aezoo.Architecture(
        name="gated",
        seed_spread="narrow",
        build=build,
        summary="Sparse autoencoder whose gates carry the L1 penalty, and whose magnitudes do not shrink",
        reference="Rajamanoharan et al. 2024, arXiv:2404.16014",
    )
