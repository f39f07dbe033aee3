"""How many bits an image's code takes: after ideal coding, in a codec's file, and for which numbers are not 0.

Evaluation mode, clean input. Shapes: images_NCHW is uint8, 0 to 255.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from aezoo.contract.network import Discrete, Half, to_float
from aezoo.contract.recipe import Precision
from aezoo.contract.shared import chunks
from aezoo.train.engine import arithmetic
from aezoo.train.score import EVALUATION_BATCH

PRIOR = 0.5
"""Added to the count of each code, so that one that training never used has a length too (Krichevsky & Trofimov
1981)."""
MOST_COUNTS = 2**26
"""Counts of a model, at the most: with larger codebooks there is none."""
_ROWS = 2**22


def coded_bits(
    codebook: Discrete,
    train_NCHW: Tensor,
    test_NCHW: Tensor,
    precision: Precision = "float32",
    device: torch.device | str | None = None,
) -> float | None:
    """Return the bits that a test image's codes take, on average, in an ideal code for those of the training images.

    Each code has its length by how often training used it: at its own place of the image, or at any, whichever of both
    makes the training images shorter, each coded by the counts of the others. What is coded is one code after another;
    that they depend on each other no such code sees. None where the codebook is too large to be counted.

    Args:
        codebook: Of the trained network.
        train_NCHW: What the code is fitted to.
        test_NCHW: What is coded.
        precision: The recipe's.
        device: The network's, else that of the images.
    """
    train_NP = torch.cat(list(_codes(codebook, train_NCHW, precision, device)))
    places = train_NP.shape[1]
    sizes = codebook.sizes(places)
    most = max(sizes)
    if places * most > MOST_COUNTS:
        return None
    by_place = torch.zeros(places, most, dtype=torch.float64)
    for rows in torch.split(train_NP, max(1, _ROWS // places)):
        flat = rows + most * torch.arange(places)
        by_place += torch.bincount(flat.flatten(), minlength=places * most).view(places, most)
    models = [(by_place, torch.tensor(sizes))]
    if len(set(sizes)) == 1:
        models.append((by_place.sum(0, keepdim=True), torch.tensor(sizes[:1])))
    lengths = [_leave_one_out(counts, size) for counts, size in models]
    counts, size = models[lengths.index(min(lengths))]
    probabilities = (counts + PRIOR) / (counts.sum(1, keepdim=True) + PRIOR * size[:, None])
    bits_PK = -probabilities.log2().expand(places, most)
    total = sum(
        float(bits_PK.gather(1, codes_BP.T).sum()) for codes_BP in _codes(codebook, test_NCHW, precision, device)
    )
    return total / len(test_NCHW)


def _codes(
    codebook: Discrete, images_NCHW: Tensor, precision: Precision, device: torch.device | str | None
) -> Iterator[Tensor]:
    for pixels in chunks(images_NCHW, EVALUATION_BATCH, device):
        with torch.no_grad(), arithmetic(precision, pixels.device.type):
            yield codebook.codes(to_float(pixels)).cpu()


def _leave_one_out(counts: Tensor, sizes: Tensor) -> float:
    """Return the bits of all codes that were counted, each by the counts of the others."""
    others = (counts - 1 + PRIOR) / (counts.sum(1, keepdim=True) - 1 + PRIOR * sizes[:, None])
    return float(torch.where(counts > 0, -counts * others.clamp(min=1e-300).log2(), 0.0).sum())


def file_bits(bits: Half, images_NCHW: Tensor, device: torch.device | str | None = None) -> float:
    """Return the bits that an image takes, on average, as a network says of each: `bits` maps (B, C, H, W) to (B,)."""
    with torch.no_grad():
        return sum(
            float(bits(to_float(pixels)).double().sum()) for pixels in chunks(images_NCHW, EVALUATION_BATCH, device)
        ) / len(images_NCHW)


def active_units(
    encode: Half, images_NCHW: Tensor, precision: Precision = "float32", device: torch.device | str | None = None
) -> tuple[float, float]:
    """Return how many numbers of an image's latent are not 0, and the bits that tell which, both on average.

    Of n numbers k can be chosen in n! / (k! (n - k)!) ways; the numbers themselves are not counted.
    """
    active, bits = 0, 0.0
    with torch.no_grad():
        for pixels in chunks(images_NCHW, EVALUATION_BATCH, device):
            with arithmetic(precision, pixels.device.type):
                z_BL = encode(to_float(pixels)).flatten(1)
            counts = (z_BL != 0).sum(1).tolist()
            active += sum(counts)
            bits += sum(support_bits(z_BL.shape[1], count) for count in counts)
    return active / len(images_NCHW), bits / len(images_NCHW)


def support_bits(numbers: int, active: int) -> float:
    """Return log2 of the ways to choose so many of the numbers."""
    ways = math.lgamma(numbers + 1) - math.lgamma(active + 1) - math.lgamma(numbers - active + 1)
    return ways / math.log(2)
