"""The regularised autoencoder (RAE): small codes and a smooth decoder, in place of a VAE's noise."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import aezoo
from aezoo_plugins.blocks import Body, body_of, check_weight

WEIGHT = 1e-2
Smooth = Literal["l2", "gradient_penalty", "spectral_norm"]


class Regularised(aezoo.Autoencoder):
    """A body whose codes are kept small, and whose decoder is kept smooth in one of three ways.

    The paper minimises |x - x̂|² + ½ beta |z|² + weight · R of an image of d pixels. The harness's MSE is |x - x̂|² /
    d: so all is over d here. R is the decoder's squared parameters (`l2`), half the squared Frobenius norm of its
    Jacobian at z (`gradient_penalty`), or nothing, and each layer's weights, as a matrix, have spectral norm 1
    (`spectral_norm`).

    Args:
        body: The autoencoder.
        smooth: How the decoder is kept smooth.
        beta: The weight of the codes' size.
        weight: The weight of R.
    """

    def __init__(self, body: aezoo.Autoencoder, smooth: Smooth, beta: float, weight: float) -> None:
        super().__init__(body.encoder, body.decoder)
        self.smooth = smooth
        self.beta = beta
        self.weight = weight
        self.objective = "mse + code size" + {"l2": " + l2", "gradient_penalty": " + gradient"}.get(smooth, "")
        if smooth == "spectral_norm":
            for layer in self.decoder:
                if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                    spectral_norm(layer)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the size of their codes and the decoder's roughness as penalty."""
        z = self.encode(x)
        roughness: Tensor | float = 0.0
        if self.smooth == "gradient_penalty":
            # A random image v has E |vᵀJ|² = |J|², for one pass back in place of as many as an image has pixels.
            reconstruction, pull_back = torch.func.vjp(self.decode, z)
            (gradient,) = pull_back(torch.randn_like(reconstruction))
            roughness = 0.5 * gradient.square().sum(1).mean()
        else:
            reconstruction = self.decode(z)
            if self.smooth == "l2":
                roughness = sum(one.square().sum() for one in self.decoder.parameters())
        penalty = 0.5 * self.beta * z.square().sum(1).mean() + self.weight * roughness
        return aezoo.TrainingOutput(reconstruction, penalty / x[0].numel())


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    smooth: Smooth = "l2",
    beta: float = 1e-3,
    weight: float = WEIGHT,
    body: Body = "mlp",
    width: int | None = None,
) -> Regularised:
    """Build the network; the weights are small, as reconstruction leads in the paper too."""
    check_weight(beta=beta, weight=weight)
    if smooth == "spectral_norm" and weight != WEIGHT:
        raise aezoo.AezooError(f"weight must be left out with smooth=spectral_norm, which has none, but is {weight}")
    return Regularised(body_of(body, image_shape, latent_dim, width), smooth, beta, weight)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `rae`."""
    yield aezoo.Architecture(
        name="rae",
        seed_spread="wide",
        build=build,
        summary="RAE: small codes, and a decoder kept smooth by its weights, its gradient or its spectral norm",
        reference="Ghosh et al. 2020, arXiv:1903.12436",
        variants=[{"smooth": smooth} for smooth in ("l2", "gradient_penalty", "spectral_norm")],
    )
