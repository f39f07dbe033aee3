"""The denoising autoencoder: it sees a corrupted image while it trains, and answers for the clean one."""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

import aezoo
from aezoo_plugins.blocks import Body, body_of

Corruption = Literal["gaussian", "masking", "salt_and_pepper"]


class Denoising(aezoo.Autoencoder):
    """A body whose input is corrupted in training, and clean in evaluation.

    Args:
        body: The autoencoder that is trained.
        corruption: What is done to a training image (Vincent et al. 2010, section 3.3).
        level: For gaussian the noise's standard deviation, added and not clipped; else the share of values (of
            pixels, where they are grey) that are hit: set to 0 (masking), or to 0 or 1 with equal chance
            (salt_and_pepper).
    """

    objective = "mse, corrupted input"

    def __init__(self, body: aezoo.Autoencoder, corruption: Corruption, level: float) -> None:
        super().__init__(body.encoder, body.decoder)
        self.corruption = corruption
        self.level = level

    def corrupt(self, x: Tensor) -> Tensor:
        """Return a corrupted copy of images (B, C, H, W)."""
        if self.corruption == "gaussian":
            return x + self.level * torch.randn_like(x)
        hit = torch.rand_like(x) < self.level
        if self.corruption == "masking":
            return x.masked_fill(hit, 0.0)
        return torch.where(hit, (torch.rand_like(x) < 0.5).to(x.dtype), x)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from corrupted ones."""
        return aezoo.TrainingOutput(self(self.corrupt(x)))


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 3,
    body: Body = "mlp",
    corruption: Corruption = "gaussian",
    level: float = 0.2,
    width: int | None = None,
) -> Denoising:
    """Build the network; with its defaults it is the tutorial's MLP under Gaussian noise of 0.2.

    A `width` of none is the body's own: 128 for `mlp`, 8 for `conv`.
    """
    largest = {"gaussian": float("inf"), "masking": 1.0, "salt_and_pepper": 1.0}[corruption]
    if not 0 < level <= largest:
        limits = "a standard deviation" if corruption == "gaussian" else "a share of the values, at most 1"
        raise aezoo.AezooError(
            f"level must be above 0, {limits}, but is {level}; for no corruption take the body alone"
        )
    return Denoising(body_of(body, image_shape, latent_dim, width), corruption, level)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `denoising`."""
    yield aezoo.Architecture(
        name="denoising",
        seed_spread="wide",
        build=build,
        summary="An MLP or convolutional body that learns to undo Gaussian, masking or salt-and-pepper corruption",
        reference="Vincent et al. 2008, ICML; Vincent et al. 2010, JMLR 11",
        # Every corruption on the quick body; on the convolutional one, which takes four times as long, by name.
        variants=[{"latent_dim": 16, "corruption": corruption} for corruption in get_args(Corruption)],
    )
