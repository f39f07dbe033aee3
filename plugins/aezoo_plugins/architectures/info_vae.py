"""InfoVAE: a VAE that pays less for what its latent says of an image, more for all latents' distance from the prior."""

from collections.abc import Iterator

import torch
from torch import Tensor

import aezoo
from aezoo_plugins.blocks import Body
from aezoo_plugins.variational import Variance, Variational, divergence, gaussian_body, squared_distances


class Informative(Variational):
    """A VAE that minimises (1 - alpha) KL(q(z|x) || p(z)) + (alpha + lambda - 1) MMD(q(z), p(z)) beside its likelihood.

    That is the paper's family with the maximum mean discrepancy for its divergence of q(z), the latents of all images,
    from the prior. With alpha = 0 and lambda = 1 it is the VAE; with alpha = 1 nothing keeps the draws' noise up.

    Args:
        body: The autoencoder whose encoder ends in 2 latent_dim numbers.
        alpha: What is left unpaid of the divergence.
        weight: The paper's lambda.
        variance: The decoder's.
    """

    objective = "mse + kl + mmd"

    def __init__(self, body: aezoo.Autoencoder, alpha: float, weight: float, variance: Variance) -> None:
        super().__init__(body, variance)
        self.alpha = alpha
        self.weight = weight

    def nats(self, z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return the two divergences, weighted, a scalar."""
        distance = discrepancy(z, torch.randn_like(z))
        return (1 - self.alpha) * divergence(mean, log_variance) + (self.alpha + self.weight - 1) * distance


def discrepancy(z: Tensor, prior: Tensor) -> Tensor:
    """Return the squared MMD between two samples (B, latent_dim), pairs of a point with itself among them.

    The kernel is exp(-|a - b|² / latent_dim²), as the authors' code has it.
    """

    def likeness(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-squared_distances(a, b) / z.shape[1] ** 2).mean()

    return likeness(z, z) + likeness(prior, prior) - 2 * likeness(z, prior)


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    alpha: float = 0.5,
    weight: float = 313.0,
    variance: Variance = "optimal",
    body: Body = "mlp",
    width: int | None = None,
) -> Informative:
    """Build the network.

    The weights are those of the example of the authors' code (ermongroup/lagvae), halved: 2 log-likelihoods, 1
    divergence, 10,000 discrepancies, of 64 numbers. A mean that is off by δ costs about 2 |δ|² / latent_dim² of
    discrepancy, as the kernel is near 1 - |a - b|² / latent_dim²: 5,000 of 64 numbers weigh as much as 313 of 16.

    With 313 mnist-5k, default recipe, three seeds, comes to an MSE of 0.020, as `vae` does, with 1,000 to 0.021, and
    with 5,000 to 0.028; on 256 images of 8x8 pixels that are mixtures of three, 400 steps leave 5,000 with the mean
    image.
    """
    if not 0 <= alpha <= 1:
        raise aezoo.AezooError(f"alpha must be 0 to 1, a share of the divergence, but is {alpha}")
    if not 1 - alpha < weight < float("inf"):
        raise aezoo.AezooError(f"weight must be above 1 - alpha, {1 - alpha:g}, but is {weight}: at it there is no MMD")
    return Informative(gaussian_body(body, image_shape, latent_dim, width), alpha, weight, variance)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `info_vae`."""
    yield aezoo.Architecture(
        name="info_vae",
        seed_spread="narrow",
        build=build,
        summary="VAE with less weight on each posterior's divergence, and more on the distance of all from the prior",
        reference="Zhao, Song & Ermon 2019, arXiv:1706.02262",
    )
