"""Haar wavelets: averages and differences of neighbours, level by level, the same m kept of every image."""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

import aezoo
from aezoo_plugins.zonal import Zonal


class Haar(Zonal):
    """Transform each channel by Haar's wavelets, in Mallat's pyramid: of each level's averages the next level is made.

    Sides of any length: the last of an odd number of pixels goes to the next level as it is, and what stands for more
    pixels then counts for more (the unbalanced Haar basis), so that a plain image is a single coefficient.
    """

    def analyse(self, images: Tensor) -> Tensor:
        """Return the coefficients of images (N, C, H, W), float64: averages above on the left, at each level."""
        z = images.clone()
        for rows, columns in self.steps(images.device):
            part = z[..., : len(rows), : len(columns)]
            part.copy_(rows @ part @ columns.T)
        return z

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Return the images of coefficients (N, C, H, W), float64."""
        x = coefficients.clone()
        for rows, columns in reversed(self.steps(x.device)):
            part = x[..., : len(rows), : len(columns)]
            part.copy_(rows.T @ part @ columns)
        return x

    def steps(self, device: torch.device) -> list[tuple[Tensor, Tensor]]:
        """Return each level's matrices, for rows and for columns. A side that has come to one average stays it."""
        rows, columns = (levels(size) for size in self.image_shape[1:])
        pairs = itertools.zip_longest(rows, columns, fillvalue=torch.ones(1, 1, dtype=torch.float64))
        return [(above.to(device), beside.to(device)) for above, beside in pairs]


def levels(size: int) -> list[Tensor]:
    """Return an orthonormal matrix for each level of a side: (size, size), then of half of it, rounded up, and so on.

    Its first rows give averages, the others differences. An average stands for a number of pixels, its weight; that of
    two, whose weights are a and b, is (√a x + √b y) / √(a + b), their difference (√b x - √a y) / √(a + b).
    """
    matrices, weights = [], [1] * size
    while (count := len(weights)) > 1:
        matrix, half = torch.zeros(count, count, dtype=torch.float64), (count + 1) // 2
        for pair in range(count // 2):
            a, b = weights[2 * pair : 2 * pair + 2]
            first, second = math.sqrt(a / (a + b)), math.sqrt(b / (a + b))
            matrix[pair, 2 * pair : 2 * pair + 2] = torch.tensor([first, second])
            matrix[half + pair, 2 * pair : 2 * pair + 2] = torch.tensor([second, -first])
        if count % 2:
            matrix[half - 1, -1] = 1.0
        matrices.append(matrix)
        weights = [sum(weights[start : start + 2]) for start in range(0, count, 2)]
    return matrices


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16) -> Haar:
    """Build the transform with `latent_dim` coefficients, at most as many as an image has pixels."""
    return Haar(image_shape, latent_dim)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `haar`."""
    yield aezoo.Architecture(
        name="haar",
        seed_spread="none",
        build=build,
        summary="Haar wavelets, the coefficients of greatest variance in training kept: zonal coding, any image size",
        reference="Haar 1910; Mallat 1989, IEEE TPAMI 11(7); unbalanced: Girardi & Sweldens 1997, J. Fourier Anal. 3",
    )
