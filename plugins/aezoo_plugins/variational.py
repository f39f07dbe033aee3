"""What variational families share: Gaussian posteriors, and what their nats weigh beside the harness's MSE.

A latent is (B, latent_dim); of a Gaussian posterior the encoder gives mean and log-variance, each of that shape.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Body, body_of, check_at_least_one

Variance = Literal["optimal", "unit"]
"""Of the Gaussian decoder: the one under which a batch is likeliest, its MSE, or 1."""


class Variational(aezoo.Autoencoder):
    """A body whose encoder gives a Gaussian, mean and log-variance; training draws from it, evaluation takes the mean.

    Args:
        body: The autoencoder whose encoder ends in 2 latent_dim numbers.
        variance: The decoder's.
    """

    objective = "mse + kl"

    def __init__(self, body: aezoo.Autoencoder, variance: Variance) -> None:
        super().__init__(body.encoder, body.decoder)
        self.variance = variance

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, C, H, W) to means and log-variances (B, latent_dim)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the means of their posteriors (B, latent_dim)."""
        return self.posterior(x)[0]

    def nats(self, z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:  # noqa: ARG002 - others need the draws
        """Return what is minimised beside the log-likelihood of an image, given draws z of the posteriors: a scalar."""
        return divergence(mean, log_variance)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from a draw each, with the nats as penalty."""
        mean, log_variance = self.posterior(x)
        z = draw(mean, log_variance)
        reconstruction = self.decode(z)
        nats = self.nats(z, mean, log_variance)
        return aezoo.TrainingOutput(reconstruction, beside_mse(nats, reconstruction, x, self.variance))


def beside_mse(nats: Tensor, reconstruction: Tensor, x: Tensor, variance: Variance) -> Tensor:
    """Return what nats, a scalar, weigh beside the MSE between a batch's reconstruction and x, (B, C, H, W).

    An image of d pixels costs d/2 log v + d MSE / (2v) + nats under a Gaussian decoder of variance v, which is the
    negative bound, less a constant. Of unit variance this is d/2 (MSE + 2 nats / d). The optimal variance is the MSE of
    the batch (Rybkin et al. 2021), which leaves d/2 log MSE + nats: its gradient is d / (2 MSE) times that of MSE +
    2 MSE nats / d, the second MSE taken for a number. To the factor in front Adam is blind, as long as it changes
    slowly.
    """
    weight: Tensor | float = F.mse_loss(reconstruction.detach(), x) if variance == "optimal" else 1.0
    return 2 * weight * nats / x[0].numel()


def draw(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return a draw of each Gaussian, with the gradients of its mean and of its variance."""
    return mean + torch.exp(log_variance / 2) * torch.randn_like(mean)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)), summed over the latent (B, latent_dim), mean over the batch, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def log_density(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log-densities of numbers z under Gaussians, each by itself; shapes are broadcast."""
    return -0.5 * ((z - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))


def gaussian_body(body: Body, image_shape: aezoo.ImageShape, latent_dim: int, width: int | None) -> aezoo.Autoencoder:
    """Return the network of `mlp` or `conv`, its last encoding layer twice as wide: for means and log-variances."""
    network = body_of(body, image_shape, latent_dim, width)
    network.encoder[-1] = nn.Linear(network.encoder[-1].in_features, 2 * latent_dim)
    return network


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distances (A, B) between two samples (A, D), (B, D)."""
    return (a.unsqueeze(1) - b.unsqueeze(0)).square().sum(2)


class Judge(nn.Module):
    """A discriminator of latents: maps (B, latent_dim) to logits (B,), the log-odds that they are of the first kind.

    At its best these are the log of the ratio of the two kinds' densities.

    Args:
        latent_dim: Numbers of a latent.
        width: Units of a layer.
        depth: Hidden layers, each with a leaky ReLU of slope 0.2.
    """

    def __init__(self, latent_dim: int, width: int, depth: int) -> None:
        super().__init__()
        check_at_least_one(adversary_width=width, adversary_depth=depth)
        layers: list[nn.Module] = []
        for wide in (latent_dim, *[width] * (depth - 1)):
            layers += [nn.Linear(wide, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, z: Tensor) -> Tensor:
        """Judge."""
        return self.layers(z).squeeze(1)


def judged_apart(first: Tensor, second: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B,) on samples of the first kind and of the second, mean of both."""
    return 0.5 * (F.softplus(-first).mean() + F.softplus(second).mean())
