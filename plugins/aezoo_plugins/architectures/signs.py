"""Lookup-free quantisation: each number of a vector is rounded to its sign; of any vector, or of one on a sphere."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import CONV_WIDTH, check_weight
from aezoo_plugins.quantisers import Quantised, Rounded, straight_through

MOST_BITS = 16
"""Of a code: the entropy of the mean looks at each of 2^16."""


class Signs(nn.Module):
    """Round each number of a vector to its sign, and ask that each vector be sure of its code, and all codes be used.

    A vector chooses a code with odds that fall with the squared distance; so each bit is chosen on its own, with odds
    of exp(4 s x / T), s the size of the rounded numbers. That spares a table of all vectors by all codes, which the
    authors' form of it has.

    Args:
        bits: Numbers of a vector.
        entropy: Weight of the mean vector's entropy less that of the mean code, in nats.
        temperature: T.
        commitment: Weight of the squared distance between a vector and its code, per number; 0 for none.
        is_spherical: Whether vectors are brought to length 1 first, and so their codes: s is then 1 / √bits, else 1.
    """

    parts = 1

    def __init__(
        self, bits: int, *, entropy: float, temperature: float, commitment: float = 0.0, is_spherical: bool = False
    ) -> None:
        super().__init__()
        if not 1 <= bits <= MOST_BITS:
            raise aezoo.AezooError(
                f"code_bits must be 1 to {MOST_BITS}, as each of 2**code_bits codes is looked at, but is {bits}"
            )
        check_weight(entropy=entropy, temperature=temperature)
        self.codebook_size = 2**bits
        self.entropy = entropy
        self.temperature = temperature
        self.commitment = commitment
        self.is_spherical = is_spherical
        self.size = 1 / math.sqrt(bits) if is_spherical else 1.0
        self.register_buffer("powers", 2 ** torch.arange(bits - 1, -1, -1), persistent=False)

    def forward(self, x: Tensor) -> Rounded:
        """Round vectors (B, n, bits)."""
        if self.is_spherical:
            x = F.normalize(x, dim=-1)
        is_up = x > 0
        signs = torch.where(is_up, 1.0, -1.0)
        logits = (4 * self.size / self.temperature) * x.flatten(0, 1)
        odds = -logits.abs()
        unsure = F.softplus(odds) - odds * odds.sigmoid()
        penalty = self.entropy * (unsure.sum(1).mean() - entropy_of_mean(logits.sigmoid()))
        if self.commitment:
            penalty = penalty + self.commitment * F.mse_loss(x, self.size * signs)
        codes = (is_up * self.powers).sum(-1, keepdim=True)
        return Rounded(self.size * straight_through(x, signs), codes, penalty)

    def look_up(self, codes: Tensor) -> Tensor:
        """Map codes (B, n, 1) to vectors (B, n, bits)."""
        return torch.where(codes & self.powers > 0, self.size, -self.size)


def entropy_of_mean(chances: Tensor) -> Tensor:
    """Return the entropy, in nats, of the mean over vectors of their distributions over codes, a scalar.

    `chances` (N, D) are those of each bit to be 1, which a vector chooses on their own.
    """
    halves = []
    for half in chances.tensor_split(2, 1):
        codes = half.new_ones(len(half), 1)
        for chance in half.split(1, 1):
            codes = torch.cat([codes * (1 - chance), codes * chance], 1)
        halves.append(codes)
    mean = halves[0].T @ halves[1] / len(chances)
    return -torch.special.xlogy(mean, mean.clamp(min=1e-30)).sum()


def build_lfq(
    image_shape: aezoo.ImageShape,
    *,
    code_bits: int = 8,
    entropy: float = 0.01,
    commitment: float = 0.1,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the LFQ: `code_bits` signs make a code of as many bits.

    The temperature of 0.01 is that of Open-MAGVIT2 (Luo et al. 2024, arXiv:2409.04410). Its weights, 0.1 and 0.25,
    stand beside a mean absolute error, a perceptual and an adversarial one; ours beside the squared error over the
    data's variance, where on mnist-5k, default recipe, seed 0, these come to 0.022, and theirs to 0.024.
    """
    check_weight(commitment=commitment)
    signs = Signs(code_bits, entropy=entropy, temperature=0.01, commitment=commitment)
    return Quantised(
        image_shape,
        code_bits,
        signs,
        width=width,
        strides=strides,
        objective="mse + entropy + commitment",
        is_over_variance=True,
    )


def build_bsq(
    image_shape: aezoo.ImageShape,
    *,
    code_bits: int = 8,
    entropy: float = 0.1,
    temperature: float = 1.0,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the BSQ: no commitment, as a sign is never far from a vector of length 1.

    Weight and temperature are the authors'. Theirs stands beside a mean absolute error, a perceptual and an adversarial
    one, here beside the squared error over the data's variance. They sum the entropies of groups of 9 of their 18 bits,
    or of single ones; a code of 8 is looked at whole.
    """
    signs = Signs(code_bits, entropy=entropy, temperature=temperature, is_spherical=True)
    return Quantised(
        image_shape,
        code_bits,
        signs,
        width=width,
        strides=strides,
        objective="mse + entropy",
        is_over_variance=True,
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `lfq` and `bsq`."""
    yield aezoo.Architecture(
        name="lfq",
        seed_spread="wide",
        build=build_lfq,
        summary="Lookup-free quantisation: each number of a vector is rounded to its sign",
        reference="Yu et al. 2024, arXiv:2310.05737",
    )
    yield aezoo.Architecture(
        name="bsq",
        seed_spread="wide",
        build=build_bsq,
        summary="Binary spherical quantisation: the signs of a vector of length 1, whose error is so bounded",
        reference="Zhao, Xiong & Krähenbühl 2024, arXiv:2406.07548",
    )
