"""The winner-take-all autoencoder: a unit is active only in the images that excite it most."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.dictionaries import Dictionary


class WinnerTakeAll(Dictionary):
    """Of a batch, each unit keeps its largest activations: sparse over its life, and none starves beside others.

    Evaluation looks at one image at a time: a unit is active above a threshold of its own, the running mean of its
    smallest winner, so that it wins about as often as in training: batch top-k's way (Bussmann et al. 2024), a unit at
    a time. The paper drops the rule there, as it wants features and not reconstructions. Of one training (mnist-5k,
    seed 0) the thresholds score 0.0156 with 16 active units, the 16 largest of each image 0.0161, and all that the
    ReLUs give 0.0152 with 84; on photo-patches 0.0161, 0.0197 and 0.0521.

    Args:
        image_shape: (channels, height, width).
        width: Units.
        rate: The share of a batch's images that a unit keeps, at least one.
    """

    objective = "mse, each unit's winners of the batch; scored by thresholds"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, rate: float) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.rate = rate
        self.register_buffer("threshold", torch.zeros(width))
        self.register_buffer("batches", torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width), each unit's numbers above its threshold."""
        z = self.encoder(x)
        return z * (z > self.threshold)

    def winners(self, z: Tensor) -> Tensor:
        """Keep each unit's largest activations over the batch (B, width), the smallest into its threshold."""
        smallest = z.detach().topk(max(1, round(self.rate * len(z))), dim=0).values[-1]
        self.batches += 1
        # A mean of all at first, of about the last hundred later.
        self.threshold.lerp_(smallest.to(self.threshold.dtype), (1 / self.batches).clamp(min=0.01))
        return z * (z >= smallest)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from the winners."""
        return aezoo.TrainingOutput(self.decode(self.winners(self.encoder(x))))


def build(image_shape: aezoo.ImageShape, *, width: int = 256, rate: float = 0.0625) -> WinnerTakeAll:
    """Build the network; the rate is 16 of 256 units, near the paper's 5 % for MNIST."""
    if not 0 < rate < 1:
        raise aezoo.AezooError(f"rate must be between 0 and 1, but is {rate}")
    return WinnerTakeAll(image_shape, width, rate)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `winner_take_all`."""
    yield aezoo.Architecture(
        name="winner_take_all",
        seed_spread="wide",
        build=build,
        summary="Each unit is active in the images that excite it most: of a batch in training, by a threshold after",
        reference="Makhzani & Frey 2015, arXiv:1409.2752 (fully connected)",
    )
