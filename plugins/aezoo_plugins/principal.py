"""Principal axes of images that may be very many or very large, exact to rounding, in bounded memory."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

import aezoo

MATRIX = 2**25
"""Entries of a matrix that is held, float64, at the most: 256 MiB, the products of 5,792 images or pixels."""
PART = 2**21
"""Pixels turned to floats at a time: 16 MiB in float64."""
EXACT = 1024
"""Products of two bytes, 128 less each, whose sum float32 holds to the last digit in any order: 2^24 / 128^2."""
STRIP = 512
"""Rows of a symmetric matrix that are summed at a time, from the diagonal on; what is left of it is a copy."""
TOLERANCE = 1e-14
"""What may be left of an eigenvector, over the largest eigenvalue: as much as rounding leaves of a whole one."""
PASSES = 1000
"""Products of the matrix and a block after which no more is hoped for; images of real things take 10 to 20."""


def parts_of(rows: Tensor) -> Iterator[Tensor]:
    """Split rows (N, M) so that each part has at most `PART` entries, or one row."""
    return aezoo.chunks(rows, max(1, PART // rows.shape[1]))


def mean_of(pixels_NP: Tensor) -> Tensor:
    """Return the mean of pixels (N, P), uint8, in [0, 1]: (P,), float64."""
    return sum(part.sum(0, dtype=torch.int32).double() for part in parts_of(pixels_NP)) / (255 * len(pixels_NP))


def principal_axes(pixels_NP: Tensor, mean_P: Tensor, count: int) -> Tensor:
    """Return the first principal axes of pixels (N, P), uint8: (count, P), float64, orthonormal.

    They are the leading eigenvectors of the smaller of two matrices: the products of pixels (P, P), or those of images
    (N, N), which the images then take back to pixels. One of more than `MATRIX` entries is never made: its products
    with vectors are, in walks over the images. So beside some ten times the axes at most 0.4 GB are held, however many
    images there are. Axes of no variance complete the others; the sign is that the largest entry is positive.
    """
    by_image = len(pixels_NP) < len(mean_P)
    rows, means = pixels_NP, mean_P.expand(pixels_NP.shape)
    if by_image:
        rows, means = rows.T, means.T
    size = rows.shape[1]

    def centred() -> Iterator[Tensor]:
        for part, its_means in zip(parts_of(rows), parts_of(means), strict=True):
            yield part.double().div_(255).sub_(its_means)

    matrix = centred_products(rows, by_image) if size**2 <= MATRIX else None

    def product(block: Tensor) -> Tensor:
        return sum((block @ x.T) @ x for x in centred()) if matrix is None else block @ matrix

    axes = leading_eigenvectors(product, size, min(count, size), mean_P.device)
    if by_image:
        axes = torch.cat([axes @ x.T for x in centred()], dim=1)
        axes, _ = orthonormal(torch.cat([axes, axes.new_zeros(count - len(axes), len(mean_P))]))
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return axes * torch.sign(largest)


def centred_products(rows: Tensor, by_image: bool) -> Tensor:
    """Return the products of the columns of rows (N, M), uint8, with one another, centred: (M, M), float64.

    Centred over the rows, or, where the columns are images, over the columns. Products and sums of bytes are whole
    numbers, which float32 multiplies at twice the speed of float64 without rounding any.
    """
    size = rows.shape[1]
    matrix = torch.zeros(size, size, dtype=torch.float64, device=rows.device)
    sums = matrix.new_zeros(size)
    for part in aezoo.chunks(rows, EXACT):
        x = part.float().sub_(128)
        sums += x.sum(0)
        for start in range(0, size, STRIP):
            matrix[start : start + STRIP, start:] += x[:, start : start + STRIP].T @ x[:, start:]
    for start in range(0, size, STRIP):
        matrix[start + STRIP :, start : start + STRIP] = matrix[start : start + STRIP, start + STRIP :].T
    if by_image:
        matrix -= matrix.mean(0)
        matrix -= matrix.mean(1, keepdim=True)
    else:
        matrix -= torch.outer(sums, sums / len(rows))
    return matrix


def leading_eigenvectors(product: Callable[[Tensor], Tensor], size: int, count: int, device: torch.device) -> Tensor:
    """Return the eigenvectors of the largest eigenvalues, largest first: (count, size), float64, orthonormal.

    Block Lanczos with full orthogonalisation and thick restarts (Golub & Underwood 1977; Wu & Simon 2000). The block is
    wider than what is asked for, so that no repeated eigenvalue is missed, as ARPACK misses some. It starts from the
    same random vectors each time.

    Args:
        product: Takes vectors (B, size) to their products with the matrix, which is symmetric and has no negative
            eigenvalue.
        size: Rows of the matrix.
        count: How many are asked for.
        device: Where the vectors lie.
    """
    width = 8 * math.ceil((count + 8) / 8)
    room = min(max(4 * width, min(max(6 * width, 128), MATRIX // size)), size - width)
    generator = torch.Generator().manual_seed(0)

    def random() -> Tensor:
        return torch.randn(width, size, dtype=torch.float64, generator=generator).to(device)

    block, _ = orthonormal(random())
    basis, projected = block[:0], block.new_zeros(0, 0)
    for _ in range(PASSES if 4 * width <= size else 0):
        image = product(block)
        basis = torch.cat([basis, block])
        overlap = basis @ image.T
        old, new = overlap.split([len(projected), width])
        projected = torch.cat([torch.cat([projected, old], 1), torch.cat([old.T, new], 1)])
        block, left = orthonormal(image - overlap.T @ basis)
        again = False
        while float((overlap := basis @ block.T).abs().max()) > 1e-13:
            # A random vector takes the place of one of which the first time has left nothing.
            spare = 1e-30 * random() if again else 0.0
            block, factor = orthonormal(block - overlap.T @ basis + spare)
            left, again = factor @ left, True
        values, vectors = torch.linalg.eigh(projected)
        if (left @ vectors[-width:, -count:]).norm(dim=0).max() <= TOLERANCE * values[-1]:
            return vectors[:, -count:].flip(1).T @ basis
        if len(basis) + width > room:
            kept = vectors[:, -(room // 2) :]
            basis, projected = kept.T @ basis, torch.diag(values[-(room // 2) :])
    if 4 * width <= size and size**2 > MATRIX:
        raise aezoo.AezooError(f"PCA has not come to its {count} axes in {PASSES} walks over the images")
    _, vectors = torch.linalg.eigh(product(torch.eye(size, dtype=torch.float64, device=device)))
    return vectors[:, -count:].flip(1).T


def orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthonormal rows like these (B, M), and the triangle (B, B) whose transpose takes them back."""
    q, triangle = torch.linalg.qr(rows.T)
    return q.T, triangle
