"""Train a variant of ours, and pythae's model of the same name from the same weights, on the same batches."""

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from pythae.models import (
    AE,
    VAE,
    VQVAE,
    WAE_MMD,
    AEConfig,
    BetaTCVAE,
    BetaTCVAEConfig,
    BetaVAE,
    BetaVAEConfig,
    RAE_L2_Config,
    VAEConfig,
    VQVAEConfig,
    WAE_MMD_Config,
)
from pythae.models import RAE_L2 as RAEL2
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Tensor, nn
from torch.distributions import Normal
from trained import built, images_of, learn, learn_theirs

import aezoo
from aezoo.contract.network import to_float
from aezoo.train.score import image_errors

SHAPE = (1, 28, 28)
PIXELS = 784
GAUSSIAN = ("VAE", "BetaVAE", "BetaTCVAE")
VARIANCE = 0.0954
"""Of the pixels that mnist-5k is trained on: our VQ-VAE's commitment stands beside the error over it."""


class Encoder(BaseEncoder):
    """Our encoder as pythae wants it: latents, or means and log-variances where there are twice as many numbers."""

    def __init__(self, encoder: nn.Module, *, gaussian: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.gaussian = gaussian

    def forward(self, x: Tensor) -> ModelOutput:
        z = self.encoder(x)
        if not self.gaussian:
            return ModelOutput(embedding=z)
        mean, log_variance = z.chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Our decoder as pythae wants it."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.decoder(z))


class AtTheMean(nn.Module):
    """A model of pythae's as an autoencoder: decoded without a draw."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        model: Any = self.model
        z = model.encoder(x).embedding
        if isinstance(model, VQVAE):
            z = model.quantizer(z.permute(0, 2, 3, 1)).quantized_vector
        reconstruction: Tensor = model.decoder(z)["reconstruction"]
        return reconstruction


def models(module: Any) -> dict[str, tuple[Callable[[Any, Any], nn.Module], float, float]]:
    """Return for each name how pythae's model is made, what its loss is divided by, and its decoder's weight decay.

    Theirs sum over an image where ours is a mean over its pixels; half of that sum in VAE, BetaVAE and
    BetaTCVAE.
    """
    small = {"input_dim": SHAPE, "latent_dim": 16}
    return {
        "AE": (lambda e, d: AE(AEConfig(**small), e, d), PIXELS, 0.0),
        "VAE": (lambda e, d: VAE(VAEConfig(**small), e, d), PIXELS / 2, 0.0),
        "BetaVAE": (
            lambda e, d: BetaVAE(BetaVAEConfig(**small, beta=module.beta), e, d),
            PIXELS / 2,
            0.0,
        ),
        # By batches alone, as ours: of their other estimate the weights lean on the size of the data set.
        "BetaTCVAE": (
            lambda e, d: BetaTCVAE(BetaTCVAEConfig(**small, beta=module.beta, use_mss=False), e, d),
            PIXELS / 2,
            0.0,
        ),
        "WAE_MMD": (
            lambda e, d: WAE_MMD(WAE_MMD_Config(**small, kernel_choice="imq", reg_weight=module.weight), e, d),
            PIXELS,
            0.0,
        ),
        # Theirs: |x - x'|² + v ½|z|², and weight decay, v/2 |W|²; ours: means over pixels and the code, and v |W|².
        "RAE_L2": (
            lambda e, d: RAEL2(
                RAE_L2_Config(**small, embedding_weight=2 * PIXELS / 16 * getattr(module, "beta", 0.0)), e, d
            ),
            PIXELS,
            2 * PIXELS * getattr(module, "weight", 0.0),
        ),
        "VQVAE": (
            lambda e, d: VQVAE(
                VQVAEConfig(
                    input_dim=SHAPE,
                    latent_dim=16,
                    num_embeddings=module.codebook_size,
                    use_ema=True,
                    decay=0.99,
                    commitment_loss_factor=0.25 * VARIANCE * PIXELS,
                ),
                e,
                d,
            ),
            PIXELS,
            0.0,
        ),
    }


def compare(row: dict[str, Any], recipe: aezoo.Recipe, data_dir: Path | None) -> tuple[list[float], list[float]]:
    """Return what a row asks of ours and of theirs, seed by seed: the test MSE, or the `total_correlation`."""
    torch.set_num_threads(1)
    theirs = row["theirs"]
    train_NCHW, test_NCHW = images_of(recipe, data_dir)
    ours, others = [], []
    for seed in range(recipe.seeds):
        module = built(row["variant"], train_NCHW, seed)
        encoder = Encoder(deepcopy(module.encoder), gaussian=theirs in GAUSSIAN)
        decoder = Decoder(deepcopy(module.decoder))
        make, scale, decay = models(module)[theirs]
        model = make(encoder, decoder)
        learn(module, train_NCHW, recipe, seed)
        is_optimal = getattr(module, "variance", None) == "optimal"
        train_theirs(model, train_NCHW, recipe, seed, scale, decay, is_optimal=is_optimal)
        if row.get("value") == "total_correlation":
            ours.append(total_correlation(module.encoder, test_NCHW))
            others.append(total_correlation(encoder.encoder.eval(), test_NCHW))
        else:
            ours.append(float(image_errors(module, test_NCHW).mean()))
            others.append(float(image_errors(AtTheMean(model), test_NCHW).mean()))
        print(f"{theirs} seed {seed}: ours {ours[-1]:.5f}, theirs {others[-1]:.5f}", flush=True)
    return ours, others


@torch.no_grad()
def total_correlation(encoder: nn.Module, images_NCHW: Tensor) -> float:
    """Return KL(q(z) || Π q(z_j)) in nats, q the mixture of all images' posteriors, by a draw of each.

    By neither's code, and of all the images at once where training sees a batch.
    """
    mean_ND, log_variance_ND = encoder(to_float(images_NCHW)).double().chunk(2, dim=1)
    deviation_ND = (log_variance_ND / 2).exp()
    draws_ND = mean_ND + deviation_ND * torch.randn(mean_ND.shape, generator=torch.Generator().manual_seed(0)).double()
    posteriors: Any = Normal(mean_ND, deviation_ND)
    log_NND = posteriors.log_prob(draws_ND.unsqueeze(1))
    count = math.log(len(images_NCHW))
    joint_N = log_NND.sum(2).logsumexp(1) - count
    alone_N = (log_NND.logsumexp(1) - count).sum(1)
    return float((joint_N - alone_N).mean())


def train_theirs(
    model: Any,
    images_NCHW: Tensor,
    recipe: aezoo.Recipe,
    seed: int,
    scale: float,
    decay: float,
    *,
    is_optimal: bool = False,
) -> None:
    """Train a model of pythae's on its own loss, over `scale`, with weight decay on its decoder's weights.

    Where the variance `is_optimal`, what it adds to its reconstruction loss has the batch's MSE as a weight, as a
    number. pythae has a unit variance.
    """
    model.train()
    optimizer = torch.optim.Adam(
        [
            {"params": model.encoder.parameters()},
            {"params": [each for each in model.decoder.parameters() if each.ndim > 1], "weight_decay": decay / scale},
            {"params": [each for each in model.decoder.parameters() if each.ndim == 1]},
        ],
        lr=recipe.rate,
    )

    def loss_of(x_BCHW: Tensor) -> Any:
        output = model({"data": x_BCHW})
        if not is_optimal:
            return output.loss / scale
        mse = output.recon_loss / scale
        return mse + mse.detach() * output.reg_loss / scale

    learn_theirs(loss_of, optimizer, images_NCHW, recipe, seed)
