"""What the sparse families share: a wide layer whose code picks a few entries, and a loss that revives silent units.

Shapes: images (B, C, H, W), codes (B, width).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aezoo import AezooError, Autoencoder, ImageShape, TrainingOutput
from aezoo_plugins.blocks import check_at_least_one, check_weight

AUX_WEIGHT = 1 / 32
"""The weight of the loss that revives silent units (Gao et al. 2024, and Bussmann et al. 2024 and 2025)."""
PATIENCE = 20
"""Steps without an image that makes a unit active, after which it is taken for dead (Bussmann et al. 2025's code)."""


class Centre(nn.Module):
    """Flatten images (B, C, H, W), and subtract the mean image: while it trains, that of all batches so far."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Centre."""
        flat = x.flatten(1)
        if self.training:
            self.batches += 1
            self.mean.lerp_(flat.detach().mean(0).to(self.mean.dtype), 1 / self.batches)
        return flat - self.mean


class Dictionary(Autoencoder):
    """One wide hidden layer whose codes are mostly zeros: its decoder is a dictionary, and a code picks a few entries.

    The encoder starts as the decoder's transpose, whose entries start with norm 1 (Gao et al. 2024, who hold them there
    after each step, which is left out: the optimiser is the harness's). It sees an image less the mean image, to which
    the decoder's output is added. The papers subtract the decoder's bias, which starts as the data's median; a network
    is built before it sees data, so that here it is a running mean, as a batch normalisation has. Images as they are
    have pixels of one sign, so that units fall silent at once: of `topk`'s 256 units 91 were never active on the test
    images of mnist-5k and 217 on those of photo-patches; with the mean subtracted 3 and 70 (seed 0, none revived).

    Args:
        image_shape: (channels, height, width).
        width: Entries of the dictionary, and numbers of a code.
        activation: What makes a code of the linear layer's output.
    """

    sparse = True

    def __init__(self, image_shape: ImageShape, width: int, activation: nn.Module) -> None:
        check_at_least_one(width=width)
        pixels = math.prod(image_shape)
        super().__init__(
            nn.Sequential(Centre(pixels), nn.Linear(pixels, width), activation),
            nn.Sequential(nn.Linear(width, pixels), nn.Unflatten(1, image_shape)),
        )
        self.image_shape = image_shape
        with torch.no_grad():
            self.entries.copy_(F.normalize(self.entries, dim=0))
            self.encoder[1].weight.copy_(self.entries.T)

    def decode(self, z: Tensor) -> Tensor:
        """Map codes (B, width) to images (B, C, H, W)."""
        return self.decoder(z) + self.encoder[0].mean.view(self.image_shape)

    @property
    def entries(self) -> nn.Parameter:
        """The dictionary: (C·H·W, width), a column an entry."""
        return self.decoder[0].weight


def variance(x: Tensor) -> Tensor:
    """Return the variance of a pixel around the mean image, the mean over all of (B, ...): a number, never quite 0.

    Papers scale what they encode to a mean squared norm of 1, or divide their squared error by the variance, so that a
    weight means the same for any data. The harness does neither; so a penalty is multiplied by the variance. Ours is
    the batch's, and theirs a constant of the data.
    """
    flat = x.detach().flatten(1)
    return (flat - flat.mean(0)).square().mean().clamp(min=1e-12)


def l1_scale(x: Tensor) -> Tensor:
    """Return what brings a sum of activations, whose unit is a pixel's, beside the harness's MSE of images x.

    With pixels n, variance v and norm s = sqrt(n v): the papers' |x - y|²/s² + weight·sum/s, times v.
    """
    return (variance(x) / x[0].numel()).sqrt()


class TopK(nn.Module):
    """Keep the k largest numbers of each row (B, width), set the others, and what is negative, to 0."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """Keep the largest."""
        values, places = x.topk(self.k, dim=1)
        return torch.zeros_like(x).scatter(1, places, values.relu())


class AuxK(nn.Module):
    """Have dead units reconstruct what the others leave over (Gao et al. 2024, appendix A.2).

    A unit is dead once no image of `patience` steps has made it active: 20 steps, as in Bussmann et al. 2025's code, of
    a run of 1,000; Gao et al.'s 10 million tokens are 76 of their batches. Of an image's dead units the largest take
    part, half as many as it has pixels, which is the paper's rule, or all. They reconstruct the residual, whose own
    gradient is stopped, without a bias; the error is over the residual's variance.

    Args:
        image_shape: (channels, height, width).
        width: Units.
        weight: Of the error, beside the squared error over the images' variance.
        patience: Steps.
    """

    def __init__(self, image_shape: ImageShape, width: int, weight: float, patience: int) -> None:
        check_weight(aux_weight=weight)
        check_at_least_one(patience=patience)
        super().__init__()
        count = max(1, math.prod(image_shape) // 2)
        self.keep = TopK(count) if count < width else nn.ReLU()
        self.weight = weight
        self.patience = patience
        self.register_buffer("idle", torch.zeros(width))

    def forward(self, x: Tensor, z: Tensor, code: Tensor, reconstruction: Tensor, entries: Tensor) -> Tensor:
        """Count the steps in which no image of x made a unit active, and return the penalty.

        `z` is what the encoder's linear layer says of each unit, `code` what is kept of it, both (B, width).
        """
        self.idle.copy_((self.idle + 1) * (code.detach() <= 0).all(0))
        dead = self.idle > self.patience  # a mask, not a choice: no shape depends on how many are dead
        residual = (x - reconstruction.detach()).flatten(1)
        error = (F.linear(self.keep(z * dead), entries) - residual).square().mean() / variance(residual)
        return self.weight * variance(x) * error * dead.any()


class BatchTopK(Dictionary):
    """While it trains, the k·B largest numbers of a batch's codes are kept, wherever they are.

    Evaluation looks at one image at a time, and keeps what is above a threshold: the running mean of the smallest
    positive number that training kept.
    """

    objective = "mse + dead units' mse, top-k of the batch; scored by a threshold"

    def __init__(self, image_shape: ImageShape, width: int, k: int, aux: AuxK) -> None:
        super().__init__(image_shape, width, nn.ReLU())
        self.k = k
        self.aux = aux
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width), each number above the threshold."""
        z = self.encoder(x)
        return z * (z > self.threshold)

    def training_forward(self, x: Tensor) -> TrainingOutput:
        """Reconstruct images (B, C, H, W) from the batch's largest numbers, with what revives units as penalty."""
        z = self.encoder(x)
        code = self.keep_largest(z)
        reconstruction = self.decode(code)
        return TrainingOutput(reconstruction, self.aux(x, z, code, reconstruction, self.entries))

    def keep_largest(self, z: Tensor) -> Tensor:
        """Keep the largest numbers of a batch's (B, width), and take the smallest of them into the threshold."""
        largest = z.detach().flatten().topk(self.k * len(z)).values.to(self.threshold.dtype)
        positive = largest > 0
        smallest = largest.where(positive, math.inf).min().where(positive.any(), self.threshold)
        self.batches += 1
        # A mean of all at first, of about the last hundred later.
        self.threshold.lerp_(smallest, (1 / self.batches).clamp(min=0.01))
        return z * (z >= largest[-1])


def check_k(k: int, width: int) -> None:
    """Raise AezooError where there are not so many units."""
    if not 1 <= k <= width:
        raise AezooError(f"k must be 1 to {width}, the width, but is {k}")
