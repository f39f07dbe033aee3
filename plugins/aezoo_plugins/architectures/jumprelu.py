"""The JumpReLU sparse autoencoder: a unit is silent below a threshold of its own, which is learnt."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Dictionary, check_weight


class JumpReLU(Dictionary):
    """Codes z · 1[z > threshold], under a penalty on the number of active units itself (L0).

    A step has no gradient for its threshold. Training takes an estimate: what a kernel density of the batch, a
    rectangle of the given bandwidth around the threshold, says of the mean's derivative (section 4).

    Args:
        image_shape: (channels, height, width).
        width: Units.
        weight: Of an active unit, beside the squared error of an image.
        threshold: Where all thresholds start.
        bandwidth: Of the estimate.
    """

    objective = "mse + l0"

    def __init__(
        self, image_shape: aezoo.ImageShape, width: int, weight: float, threshold: float, bandwidth: float
    ) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.weight = weight
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((width,), math.log(threshold)))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width)."""
        z = self.encoder(x)
        return z * (z > self.log_threshold.exp())

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the number of their active units, over the pixels, as penalty."""
        z = self.encoder(x)
        threshold = self.log_threshold.exp()
        active = (z > threshold).to(z.dtype)
        near = ((z - threshold).abs() < self.bandwidth / 2).to(z.dtype) / self.bandwidth
        # 0 in value; its gradient is -1 for each threshold.
        moved = threshold.detach() - threshold
        code = z * active + (threshold * near).detach() * moved
        count = (active + near.detach() * moved).sum(1).mean()
        return aezoo.TrainingOutput(self.decode(code), self.weight * count / x[0].numel())


def build(
    image_shape: aezoo.ImageShape,
    *,
    width: int = 256,
    weight: float = 0.5,
    threshold: float = 0.3,
    bandwidth: float = 0.2,
) -> JumpReLU:
    """Build the network; threshold and bandwidth are of the size of an untrained unit's activations on images.

    The paper's 0.001 are for a language model's activations, normalised.
    """
    check_weight(weight=weight)
    for name, value in (("threshold", threshold), ("bandwidth", bandwidth)):
        if value <= 0:
            raise aezoo.AezooError(f"{name} must be above 0, but is {value}")
    return JumpReLU(image_shape, width, weight, threshold, bandwidth)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `jumprelu`."""
    yield aezoo.Architecture(
        name="jumprelu",
        seed_spread="narrow",
        build=build,
        summary="Sparse autoencoder with a learnt threshold a unit, and a penalty on the number of active units",
        reference="Rajamanoharan et al. 2024, arXiv:2407.14435",
    )
