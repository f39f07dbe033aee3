"""Sparse autoencoders by a penalty: the sum of a code's numbers (L1), or how far each unit is from resting (KL)."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Dictionary, check_weight


class SparseL1(Dictionary):
    """Codes of ReLUs, each number penalised by its size times its entry's norm: a longer entry gains it nothing."""

    objective = "mse + l1"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, weight: float) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.weight = weight

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with their codes' weighted sum, over an image's pixels, as penalty."""
        z = self.encode(x)
        penalty = (z @ self.entries.norm(dim=0)).mean() / x[0].numel()
        return aezoo.TrainingOutput(self.decode(z), self.weight * penalty)


class SparseKL(Dictionary):
    """Codes of sigmoids, each unit's mean over the batch held near a low rate by the divergence of two coins.

    Its units are near 0 and never at it, so that the table counts all of them as active: it is how strongly they are
    that is sparse.
    """

    objective = "mse + kl of rates"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, weight: float, rate: float) -> None:
        super().__init__(image_shape, width, nn.Sigmoid())
        self.weight = weight
        self.rate = rate
        # Units start near their rate: from one half, all would first have to fall silent.
        nn.init.constant_(self.encoder[1].bias, math.log(rate / (1 - rate)))

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the divergence of the units' rates, over the pixels, as penalty."""
        logits = self.encoder[:-1](x)
        z = torch.sigmoid(logits)
        mean, rate = z.float().mean(0).clamp(1e-6, 1 - 1e-6), self.rate
        # KL(rate || mean), up to the entropy of the rate, which no weight changes.
        divergence = -(rate * mean.log() + (1 - rate) * (1 - mean).log()).sum()
        return aezoo.TrainingOutput(self.decode(z), self.weight * divergence / x[0].numel())


def build_l1(image_shape: aezoo.ImageShape, *, width: int = 256, weight: float = 1.0) -> SparseL1:
    """Build the network; at a weight of 1, beside the squared error of an image, about 20 of 256 units are active.

    That is of digits; of photographs fewer are: 3 on photo-patches, where a weight of 0.25 gives 25.
    """
    check_weight(weight=weight)
    return SparseL1(image_shape, width, weight)


def build_kl(image_shape: aezoo.ImageShape, *, width: int = 256, weight: float = 1.0, rate: float = 0.05) -> SparseKL:
    """Build the network; the rate of 0.05 is the lecture notes'."""
    check_weight(weight=weight)
    if not 0 < rate < 1:
        raise aezoo.AezooError(f"rate must be between 0 and 1, but is {rate}")
    return SparseKL(image_shape, width, weight, rate)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `sparse_l1` and `sparse_kl`."""
    yield aezoo.Architecture(
        name="sparse_l1",
        seed_spread="narrow",
        build=build_l1,
        summary="A wide layer of ReLUs under an L1 penalty, weighted by each dictionary entry's norm",
        reference="Cunningham et al. 2023, arXiv:2309.08600; the weights: Conerly et al. 2024, Transformer Circuits",
    )
    yield aezoo.Architecture(
        name="sparse_kl",
        seed_spread="narrow",
        build=build_kl,
        summary="A wide layer of sigmoids whose mean activations are held at a low rate by a KL penalty",
        reference="Ng 2011, CS294A lecture notes; before it, with squares: Lee, Ekanadham & Ng 2007, NIPS",
    )
