"""Independent component analysis: PCA's subspace, in coordinates that are as independent as a rotation makes them."""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_latent_dim, float_chunks
from aezoo_plugins.principal import mean_of, principal_axes

VARIANCE = 1e-10
"""Of a principal axis, over the first one's: below it there is nothing to be rotated."""


class ICA(aezoo.Autoencoder):
    """Project on the principal axes, whiten, and rotate so that the coordinates are far from Gaussian (FastICA).

    A rotation loses nothing: its test MSE is PCA's at the same size, up to rounding, and no row of it can differ. What
    differs is the code: numbers of variance 1, each of which stands for a pattern by itself.
    """

    objective = "mse, closed form and rotation"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        pixels = math.prod(image_shape)
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.filters = nn.Parameter(torch.zeros(latent_dim, pixels), requires_grad=False)
        self.patterns = nn.Parameter(torch.zeros(latent_dim, pixels), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their independent components (B, latent_dim)."""
        return (self.encoder(x) - self.mean) @ self.filters.T

    def decode(self, z: Tensor) -> Tensor:
        """Map components (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder(z @ self.patterns + self.mean)

    def fit(self, images: Tensor) -> None:
        """Take the principal axes of images (N, C, H, W), uint8, and rotate the coordinates on them."""
        mean = mean_of(images.flatten(1))
        axes = principal_axes(images.flatten(1), mean, len(self.filters))
        z = torch.cat([(chunk - mean) @ axes.T for chunk in float_chunks(images)])
        spread = z.square().mean(0).sqrt()
        some = int((spread.square() > VARIANCE * spread[0].square()).sum())
        # What has no variance stays as it is.
        spread[some:] = 1.0
        turn = torch.eye(len(axes), dtype=torch.float64, device=images.device)
        if some > 1:
            turn[:some, :some] = rotation(z[:, :some] / spread[:some])
        self.mean.copy_(mean)
        self.filters.copy_(turn @ (axes / spread.unsqueeze(1)))
        self.patterns.copy_(turn @ (axes * spread.unsqueeze(1)))


def rotation(white: Tensor) -> Tensor:
    """Return the rotation (D, D) that takes whitened rows (N, D) to independent coordinates, as FastICA finds it."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        # Of Gaussian coordinates no rotation is better than another, and it never settles: any will do.
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = np.eye(white.shape[1])  # the principal axes: so nothing is drawn
        model = FastICA(whiten=False, max_iter=500, w_init=start).fit(white.cpu().numpy())
    left, _, right = torch.linalg.svd(torch.from_numpy(model.components_))
    return (left @ right).to(white.device)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16) -> ICA:
    """Build the analysis into `latent_dim` components, at most as many as an image has pixels."""
    check_latent_dim(latent_dim, at_most=math.prod(image_shape))
    return ICA(image_shape, latent_dim)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `ica`."""
    yield aezoo.Architecture(
        name="ica",
        seed_spread="none",
        build=build,
        summary="Independent component analysis: PCA's subspace and error, in independent coordinates",
        reference="Hyvärinen & Oja 2000, Neural Networks 13; FastICA: Hyvärinen 1999, IEEE Trans. Neural Networks 10",
    )
