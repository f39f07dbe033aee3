"""The variational autoencoder, and with a weight on its divergence the beta-VAE; scored at the posterior's mean."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Body, body_of, check_weight


class Variational(aezoo.Autoencoder):
    """A body whose encoder gives a Gaussian, mean and log-variance; training draws from it, evaluation takes the mean.

    The paper minimises, of an image of d pixels and a decoder of unit variance, half its squared error plus the
    divergence from the prior, KL. The harness's MSE is the squared error over d: so the penalty is 2 beta KL / d.

    Args:
        body: The autoencoder whose encoder ends in 2 latent_dim numbers.
        beta: The weight of the divergence; 1 is the bound itself.
    """

    objective = "mse + kl"

    def __init__(self, body: aezoo.Autoencoder, beta: float) -> None:
        super().__init__(body.encoder, body.decoder)
        self.beta = beta

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the means of their posteriors (B, latent_dim)."""
        mean, _ = self.encoder(x).chunk(2, dim=1)
        return mean

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from a draw each, with the divergence as penalty."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        penalty = 2 * self.beta * divergence(mean, log_variance) / x[0].numel()
        return aezoo.TrainingOutput(self.decode(z), penalty)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)), summed over the latent (B, latent_dim), mean over the batch, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    beta: float = 1.0,
    body: Body = "mlp",
    width: int | None = None,
) -> Variational:
    """Build the network; the body is that of `mlp` or `conv`, its last encoding layer twice as wide."""
    check_weight(beta=beta)
    network = body_of(body, image_shape, latent_dim, width)
    network.encoder[-1] = nn.Linear(network.encoder[-1].in_features, 2 * latent_dim)
    return Variational(network, beta)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `vae`."""
    yield aezoo.Architecture(
        name="vae",
        seed_spread="narrow",
        build=build,
        summary="Variational autoencoder, beta-VAE with beta > 1; unit-variance decoder; scored at the posterior mean",
        reference="Kingma & Welling 2014, arXiv:1312.6114; beta: Higgins et al. 2017, ICLR",
        # Below 1 reconstruction counts for more than the bound would have it, as in most published pictures.
        variants=[{"beta": beta} for beta in (0.1, 1.0, 4.0)],
    )
