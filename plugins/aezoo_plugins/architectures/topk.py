"""TopK sparse autoencoders: the k largest numbers of a code are kept; or, of a batch's codes, k for each on average."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Dictionary


class TopK(nn.Module):
    """Keep the k largest numbers of each row (B, width), set the others, and what is negative, to 0."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """Keep the largest."""
        values, places = x.topk(self.k, dim=1)
        return torch.zeros_like(x).scatter(1, places, values.relu())


class BatchTopK(Dictionary):
    """While it trains, the k·B largest numbers of a batch's codes are kept, wherever they are.

    Evaluation looks at one image at a time, and keeps what is above a threshold: the running mean of the smallest
    positive number that training kept.
    """

    objective = "mse, top-k of the batch"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, k: int) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.k = k
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width), each number above the threshold."""
        z = self.encoder(x)
        return z * (z > self.threshold)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from the batch's largest numbers."""
        z = self.encoder(x)
        largest = z.detach().flatten().topk(self.k * len(z)).values.to(self.threshold.dtype)
        positive = largest > 0
        smallest = largest.where(positive, math.inf).min().where(positive.any(), self.threshold)
        self.batches += 1
        # A mean of all at first, of about the last hundred later.
        self.threshold.lerp_(smallest, (1 / self.batches).clamp(min=0.01))
        return aezoo.TrainingOutput(self.decode(z * (z >= largest[-1])))


def build(image_shape: aezoo.ImageShape, *, width: int = 256, k: int = 16) -> Dictionary:
    """Build the network; the paper's extra loss that revives dead units is left out: these layers are narrow.

    256 entries are a third of an image's 784 pixels; 16 of them are as many numbers as most latents here have.
    """
    check_k(k, width)
    return Dictionary(image_shape, width, TopK(k))


def build_batch(image_shape: aezoo.ImageShape, *, width: int = 256, k: int = 16) -> BatchTopK:
    """Build the network; k is the mean number of active units, not each image's."""
    check_k(k, width)
    return BatchTopK(image_shape, width, k)


def check_k(k: int, width: int) -> None:
    """Raise AezooError where there are not so many units."""
    if not 1 <= k <= width:
        raise aezoo.AezooError(f"k must be 1 to {width}, the width, but is {k}")


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `topk` and `batch_topk`."""
    yield aezoo.Architecture(
        name="topk",
        seed_spread="narrow",
        build=build,
        summary="A wide layer of which each image keeps the k largest activations",
        reference="Makhzani & Frey 2014, arXiv:1312.5663 (k-sparse); Gao et al. 2024, arXiv:2406.04093 (TopK)",
        variants=[{"k": k} for k in (8, 16)],
    )
    yield aezoo.Architecture(
        name="batch_topk",
        seed_spread="narrow",
        build=build_batch,
        summary="A wide layer of which a batch keeps the largest activations, k for each image on average",
        reference="Bussmann, Leask & Nanda 2024, arXiv:2412.06410",
    )
