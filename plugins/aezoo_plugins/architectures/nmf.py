"""Non-negative matrix factorisation: an image is a sum of parts, none of which takes anything away."""

import math
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_latent_dim
from aezoo_plugins.fitting import in_float32, spaced

PIXELS = 2**23
"""Of all images to which it is fitted, at the most, as float32: 10,699 of 28x28 pixels, 682 of 3x64x64."""
SWEEPS = 20
"""Through the numbers of a code. On mnist-5k they are by then within 2e-6 of the exact solution."""


class NMF(aezoo.Autoencoder):
    """Decode by a sum of non-negative parts; encode by non-negative least squares, given those parts.

    A code's numbers are set in turn, each to the best that it can be beside the others, or to 0.
    """

    objective = "mse, non-negative factorisation"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        self.parts = nn.Parameter(torch.rand(latent_dim, math.prod(image_shape)), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, latent_dim), none of whose numbers is negative."""
        with in_float32(x.device):
            products, likeness = self.encoder(x) @ self.parts.T, self.parts @ self.parts.T
            # Of parts that are 0 everywhere the code's number is 0.
            scale = likeness.diagonal().clamp(min=1e-12)
            z = torch.zeros_like(products)
            for _ in range(SWEEPS):
                for place in range(z.shape[1]):
                    left = products[:, place] - z @ likeness[place]
                    z[:, place] = (z[:, place] + left / scale[place]).clamp(min=0)
            return z

    def decode(self, z: Tensor) -> Tensor:
        """Map codes (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder(z @ self.parts)

    def fit(self, images: Tensor) -> None:
        """Factorise images (N, C, H, W), uint8, evenly spaced where they are very many, by coordinate descent."""
        from sklearn import decomposition
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        x = spaced(images, max(len(self.parts), PIXELS // self.parts.shape[1])).flatten(1).cpu() / 255
        seed = int(torch.randint(2**31, ()))
        with threadpool_limits(1), warnings.catch_warnings():
            # It tells where 200 rounds were not enough for its tolerance.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = decomposition.NMF(len(self.parts), init="random", tol=1e-3, random_state=seed).fit(x.numpy())
        self.parts.copy_(torch.from_numpy(model.components_))


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16) -> NMF:
    """Build the factorisation into `latent_dim` parts, at most as many as an image has pixels."""
    check_latent_dim(latent_dim, at_most=math.prod(image_shape))
    return NMF(image_shape, latent_dim)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `nmf`."""
    yield aezoo.Architecture(
        name="nmf",
        seed_spread="narrow",
        build=build,
        summary="Non-negative matrix factorisation: images as sums of parts, codes by non-negative least squares",
        reference="Lee & Seung 1999, Nature 401; Paatero & Tapper 1994; descent: Cichocki & Phan 2009, IEICE E92-A",
    )
