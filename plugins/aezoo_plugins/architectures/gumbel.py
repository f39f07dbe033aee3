"""The discrete VAE: codes are drawn by the Gumbel-softmax, whose temperature falls while it trains."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import CONV_WIDTH, check_at_least_one, check_weight, halved, spatial_body, spatial_strides
from aezoo_plugins.quantisers import one_hot

START, END = 1.0, 1 / 16
"""The temperature at the first step, and after the last: those of DALL-E (Ramesh et al. 2021, appendix A.2)."""


class GumbelSoftmax(aezoo.Autoencoder):
    """The encoder gives a distribution over K codes for each place; training decodes a draw, evaluation the likeliest.

    A draw is relaxed to a mixture of codes, the closer to one code the lower the temperature, so that it has a
    gradient. The temperature falls along a cosine from `START` to `END`. The latent is (K, h, w), at each place zeros
    and a 1: the decoder's first layer is the codebook.

    The bound of a Gaussian decoder whose variance is the best one, the MSE itself, is minimised with a penalty of
    2 MSE beta KL / d, of an image of d pixels (Rybkin et al. 2021, arXiv:2006.13202); KL is the divergence from even
    odds.

    Args:
        body: The autoencoder; its latent is (K, h, w).
        codebook_size: K.
        sides: (h, w).
        beta: Weight of the divergence.
    """

    objective = "mse + kl"

    def __init__(self, body: aezoo.Autoencoder, codebook_size: int, sides: tuple[int, int], beta: float) -> None:
        super().__init__(body.encoder, body.decoder)
        self.codebook_size = codebook_size
        self.sides = sides
        self.beta = beta
        self.register_buffer("progress", torch.zeros(()))

    def codes(self, x: Tensor) -> Tensor:
        """Return the likeliest codes of images (B, C, H, W): (B, places), int64."""
        return self.encoder(x).argmax(1).flatten(1)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, K, h, w) that codes (B, places) stand for."""
        return one_hot(codes, self.codebook_size).transpose(1, 2).unflatten(2, self.sides)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to latents (B, K, h, w)."""
        return self.from_codes(self.codes(x))

    def temperature(self) -> Tensor:
        """Return the temperature of this step, a scalar."""
        return END + (START - END) * (1 + torch.cos(math.pi * self.progress)) / 2

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from relaxed draws, with the divergence from even odds as penalty."""
        logits = self.encoder(x).float()
        # Of even numbers, not of exponential ones, which take a CPU six times as long.
        noise = -torch.rand_like(logits).clamp(min=1e-30).log().neg().log()
        draws = ((logits + noise) / self.temperature()).softmax(1)
        reconstruction = self.decode(draws)
        variance = F.mse_loss(reconstruction.detach(), x)
        penalty = 2 * variance * self.beta * divergence(logits) / x[0].numel()
        return aezoo.TrainingOutput(reconstruction, penalty)


def divergence(logits: Tensor) -> Tensor:
    """Return KL(q || even odds) of distributions (B, K, h, w), summed over places, mean over the batch, in nats."""
    log_chances = logits.log_softmax(1)
    return (log_chances.exp() * (log_chances + math.log(logits.shape[1]))).sum((1, 2, 3)).mean()


def build(
    image_shape: aezoo.ImageShape,
    *,
    codebook_size: int = 256,
    beta: float = 1.0,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> GumbelSoftmax:
    """Build the network; a beta of 1 is the bound itself.

    DALL-E's is 6.6, as fewer codes are used with less; here too: on mnist-5k, default recipe, seed 0, 73 of 256 codes
    come to 0.024, with a beta of 0.1 13 to 0.031, with 4 117 to 0.026. Its temperature falls over the first 150,000
    updates; here it takes all that there are.
    """
    check_at_least_one(codebook_size=codebook_size)
    check_weight(beta=beta)
    strides = spatial_strides(image_shape, strides)
    body = spatial_body(image_shape, codebook_size, width, strides)
    # Of a layer whose input has but a 1; by default it would start as small as if all K numbers were as large.
    nn.init.uniform_(body.decoder[0].weight, -1, 1)
    return GumbelSoftmax(body, codebook_size, halved(image_shape, strides)[-1], beta)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `gumbel_softmax`."""
    yield aezoo.Architecture(
        name="gumbel_softmax",
        seed_spread="wide",
        build=build,
        summary="A discrete VAE: codes are draws, relaxed so that they have a gradient, ever less while it trains",
        reference="Jang, Gu & Poole 2017, arXiv:1611.01144; images: Ramesh et al. 2021, arXiv:2102.12092",
        variants=[],
    )
