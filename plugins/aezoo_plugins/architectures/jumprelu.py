"""The JumpReLU sparse autoencoder: a unit is silent below a threshold of its own, which is learnt."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_weight
from aezoo_plugins.dictionaries import Dictionary, variance


class JumpReLU(Dictionary):
    """Codes z · 1[z > threshold], under a penalty on how far the mean number of active units (L0) is from a target.

    A step has no gradient for its threshold. Training takes an estimate: what a kernel density of the batch, a
    rectangle of the given bandwidth around the threshold, says of the mean's derivative (section 4).

    The first paper penalises L0 itself, and what L0 comes of a weight is the data's business. The quadratic penalty is
    Gemma Scope 2's (McDougall et al. 2025, equation 5), here of the batch's mean. The first paper learns a threshold's
    logarithm; Adam moves a parameter by about its learning rate a step, so that in 1,000 steps of 0.001 no threshold
    would change more than e-fold; with it L0 was 23, 17 and 20 on mnist-5k, digits and photo-patches (test images),
    where it is 18, 17 and 17 with the threshold itself, as here.

    Args:
        image_shape: (channels, height, width).
        width: Units.
        target: Active units of an image, on average.
        weight: Of the penalty, beside a squared error over the images' variance.
        threshold: Where all thresholds start.
        bandwidth: Of the estimate.
    """

    objective = "mse + distance to an l0"

    def __init__(
        self,
        image_shape: aezoo.ImageShape,
        width: int,
        *,
        target: float,
        weight: float,
        threshold: float,
        bandwidth: float,
    ) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.target = target
        self.weight = weight
        self.bandwidth = bandwidth
        self.threshold = nn.Parameter(torch.full((width,), threshold))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width)."""
        z = self.encoder(x)
        return z * (z > F.relu(self.threshold))

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the squared distance of their L0 from its target as penalty."""
        z = self.encoder(x)
        threshold = F.relu(self.threshold)
        active = (z > threshold).to(z.dtype)
        near = ((z - threshold).abs() < self.bandwidth / 2).to(z.dtype) / self.bandwidth
        # 0 in value; its gradient is -1 for each threshold.
        moved = threshold.detach() - threshold
        code = z * active + (threshold * near).detach() * moved
        count = (active + near.detach() * moved).sum(1).mean()
        penalty = 2 / self.target * (count - self.target).square() * variance(x)
        return aezoo.TrainingOutput(self.decode(code), self.weight * penalty)


def build(
    image_shape: aezoo.ImageShape,
    *,
    width: int = 256,
    target: float = 16.0,
    weight: float = 1.0,
    threshold: float = 0.3,
    bandwidth: float = 0.2,
) -> JumpReLU:
    """Build the network; threshold and bandwidth are of the size of an untrained unit's activations on images.

    The papers' 0.001 are for a language model's activations, scaled to a mean squared norm of 1.

    Of 256 units 16.3, 15.8 and 14.6 are active in the training images of mnist-5k, digits and photo-patches (seed 0),
    and in the test images 17.9, 17.2 and 16.9: what was not trained on takes more units.
    """
    check_weight(weight=weight)
    if not 0 < target <= width:
        raise aezoo.AezooError(f"target must be above 0 and at most {width}, the width, but is {target}")
    for name, value in (("threshold", threshold), ("bandwidth", bandwidth)):
        if value <= 0:
            raise aezoo.AezooError(f"{name} must be above 0, but is {value}")
    return JumpReLU(image_shape, width, target=target, weight=weight, threshold=threshold, bandwidth=bandwidth)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `jumprelu`."""
    yield aezoo.Architecture(
        name="jumprelu",
        seed_spread="narrow",
        build=build,
        summary="Sparse autoencoder with a learnt threshold a unit, and a penalty that leads L0 to a target",
        reference="Rajamanoharan et al. 2024, arXiv:2407.14435; the target: McDougall et al. 2025, Gemma Scope 2",
    )
