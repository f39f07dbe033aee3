"""The winner-take-all autoencoder: while it trains, a unit is active only in the images that excite it most."""

from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Dictionary


class WinnerTakeAll(Dictionary):
    """Of a batch, each unit keeps its largest activations: sparse over its life, and none starves beside others.

    Evaluation drops the rule, as the paper does: its codes are all that the ReLUs give. The paper wants features
    of them, not reconstructions, and no decoder was trained on so many at once: the score may be worse than the mean
    image's.

    Args:
        image_shape: (channels, height, width).
        width: Units.
        rate: The share of a batch's images that a unit keeps, at least one.
    """

    objective = "mse, winners of the batch"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, rate: float) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.rate = rate

    def winners(self, z: Tensor) -> Tensor:
        """Set all but each unit's largest activations over the batch (B, width) to 0."""
        keep = max(1, round(self.rate * len(z)))
        return z * (z >= z.detach().topk(keep, dim=0).values[-1])

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from the winners."""
        return aezoo.TrainingOutput(self.decode(self.winners(self.encode(x))))


def build(image_shape: aezoo.ImageShape, *, width: int = 256, rate: float = 0.05) -> WinnerTakeAll:
    """Build the network; the rate of 5 % is the paper's for MNIST."""
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
        summary="A wide layer of ReLUs; in training each unit is active only in the images that excite it most",
        reference="Makhzani & Frey 2015, arXiv:1409.2752 (fully connected)",
    )
