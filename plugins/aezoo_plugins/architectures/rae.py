"""The regularised autoencoder (RAE): small codes and a smooth decoder, in place of a VAE's noise."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import aezoo
from aezoo_plugins.blocks import Body, body_of, check_weight

Smooth = Literal["l2", "gradient_penalty", "spectral_norm"]
BETAS = {"l2": 1e-4, "gradient_penalty": 1e-4, "spectral_norm": 9e-3}
WEIGHTS = {"l2": 1e-7, "gradient_penalty": 0.5e-7}


class Regularised(aezoo.Autoencoder):
    """A body whose codes are kept small, and whose decoder is kept smooth in one of three ways.

    What is minimised is what the authors' code computes: MSE + beta · (mean square of a code's numbers) + weight · R.
    R is the sum of the decoder's squared weights, its biases left out (`l2`); or the mean square of the derivatives of
    |x̂|² by the code's numbers (`gradient_penalty`; the paper writes the derivatives of x̂); or nothing, and the
    decoder's layers have spectral norm 1 (`spectral_norm`).

    The authors' code binds the encoder too; the paper, and ours, the decoder. There all layers but the last have norm 1
    here: theirs are convolutions with batch normalisation, which the norm of a kernel binds loosely, and in dense ones
    no contrast is left. With the last layer bound too, mnist-5k comes to 0.096, with batch normalisation beside it to
    0.066, and with the last one free to 0.026 (default recipe, a seed each).

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
            for layer in [one for one in self.decoder if isinstance(one, nn.Linear | nn.ConvTranspose2d)][:-1]:
                spectral_norm(layer)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the size of their codes and the decoder's roughness as penalty."""
        z = self.encode(x)
        roughness: Tensor | float = 0.0
        if self.smooth == "gradient_penalty":
            reconstruction, pull_back = torch.func.vjp(self.decode, z)
            (gradient,) = pull_back(2 * reconstruction)
            roughness = gradient.square().mean()
        else:
            reconstruction = self.decode(z)
            if self.smooth == "l2":
                roughness = sum(one.square().sum() for one in self.decoder.parameters() if one.ndim > 1)
        return aezoo.TrainingOutput(reconstruction, self.beta * z.square().mean() + self.weight * roughness)


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    smooth: Smooth = "l2",
    beta: float | None = None,
    weight: float | None = None,
    body: Body = "mlp",
    width: int | None = None,
) -> Regularised:
    """Build the network; weights that are left out are the authors' for MNIST, 16 numbers there too."""
    if smooth == "spectral_norm" and weight is not None:
        raise aezoo.AezooError(f"weight must be left out with smooth=spectral_norm, which has none, but is {weight}")
    beta = BETAS[smooth] if beta is None else beta
    weight = WEIGHTS.get(smooth, 1.0) if weight is None else weight
    check_weight(beta=beta, weight=weight)
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
