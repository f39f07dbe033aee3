"""Finite scalar quantisation: each of a few numbers is rounded to one of a few levels; at once, in groups, in steps."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import CONV_WIDTH, check_at_least_one
from aezoo_plugins.quantisers import Quantised, Rounded, straight_through

MOST_CODES = 2**16
"""What a code's levels may multiply to."""


class Levels(nn.Module):
    """Bound each number of a vector, and round it to one of its levels; as many numbers as `levels` has make a code.

    Args:
        levels: Of the numbers of a code.
        groups: Codes of a vector.
    """

    def __init__(self, levels: tuple[int, ...], groups: int) -> None:
        from vector_quantize_pytorch import FSQ

        super().__init__()
        check_levels(levels, at_least=3)
        check_at_least_one(groups=groups)
        self.codebook_size = math.prod(levels)
        self.parts = groups
        # Its table of all codes is not needed, and made of what it asks a device for.
        self.rounding = FSQ(levels, num_codebooks=groups, keep_num_codebooks_dim=True, return_indices=False)

    def forward(self, x: Tensor) -> Rounded:
        """Round vectors (B, n, groups · numbers)."""
        rounded, _ = self.rounding(x)
        codes = self.rounding.codes_to_indices(rounded.detach().unflatten(2, (self.parts, -1)))
        return Rounded(rounded, codes.long())

    def look_up(self, codes: Tensor) -> Tensor:
        """Map codes (B, n, groups) to vectors (B, n, groups · numbers)."""
        return self.rounding.indices_to_codes(codes)


class ResidualLevels(nn.Module):
    """Bound each number of a vector, round it to one of its levels, and what is left to as many finer ones, and so on.

    Together, levels L in P steps are an even grid of L^P: each step is a digit of a number's place on it. Gradients
    pass all steps as one (the library's pass each, and so count from none to P times).

    Args:
        levels: Of a vector's numbers, at each step.
        parts: Steps, each a code.
    """

    def __init__(self, levels: tuple[int, ...], parts: int) -> None:
        from vector_quantize_pytorch import ResidualFSQ

        super().__init__()
        check_levels(levels, at_least=2)
        check_at_least_one(parts=parts)
        self.codebook_size = math.prod(levels)
        self.parts = parts
        self.rounding = ResidualFSQ(levels=list(levels), num_quantizers=parts)

    def forward(self, x: Tensor) -> Rounded:
        """Round vectors (B, n, numbers)."""
        with torch.no_grad():
            rounded, codes = self.rounding(x)
        bound = self.rounding.soft_clamp_input_value
        return Rounded(straight_through(bound * (x / bound).tanh(), rounded), codes.long())

    def look_up(self, codes: Tensor) -> Tensor:
        """Map codes (B, n, parts) to vectors (B, n, numbers)."""
        return self.rounding.get_output_from_indices(codes)


def check_levels(levels: tuple[int, ...], at_least: int) -> None:
    """Raise AezooError where a code would have no numbers, a number no levels, or a code too many values."""
    if not levels or min(levels) < at_least:
        raise aezoo.AezooError(f"levels must be one number or more, each at least {at_least}, but are {levels}")
    if math.prod(levels) > MOST_CODES:
        raise aezoo.AezooError(f"levels must be such that they multiply to at most {MOST_CODES}, but are {levels}")


def build(
    image_shape: aezoo.ImageShape,
    *,
    levels: tuple[int, ...] = (8, 6, 5),
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the FSQ; no codebook, no penalty. K is the product of the levels.

    (8, 6, 5) are what the paper recommends for about 256, 7.9 bits.
    """
    return Quantised(image_shape, len(levels), Levels(levels, 1), width=width, strides=strides)


def build_grouped(
    image_shape: aezoo.ImageShape,
    *,
    levels: tuple[int, ...] = (4, 4),
    groups: int = 2,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the grouped FSQ: each of `groups` shares of a vector's numbers has a code of its own.

    It rounds as the FSQ of all the groups' levels does; what differs is that K stays small, as a model of the codes
    wants it. The paper projects each share of the encoder's channels by itself; here the encoder's last layer makes all
    numbers of all channels. Two codes of 16 are 8 bits.
    """
    return Quantised(image_shape, groups * len(levels), Levels(levels, groups), width=width, strides=strides)


def build_residual(
    image_shape: aezoo.ImageShape,
    *,
    levels: tuple[int, ...] = (2, 2, 2, 2),
    parts: int = 2,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the residual FSQ: two codes of 16 are 8 bits, an even grid of 4 levels for each of four numbers.

    The scales of the steps are the library's, and fixed, where Zhu et al. learn them, or normalise what is left. Four
    numbers of 2 levels a step are ours: on mnist-5k, default recipe, seed 0, they came to 0.017, two of 4 to 0.022.
    """
    return Quantised(image_shape, len(levels), ResidualLevels(levels, parts), width=width, strides=strides)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `fsq`, `grouped_fsq` and `residual_fsq`."""
    yield aezoo.Architecture(
        name="fsq",
        seed_spread="wide",
        build=build,
        summary="Finite scalar quantisation: each of a few numbers is rounded to one of a few levels",
        reference="Mentzer et al. 2024, arXiv:2309.15505",
    )
    yield aezoo.Architecture(
        name="grouped_fsq",
        seed_spread="wide",
        build=build_grouped,
        summary="FSQ whose numbers are shared out to several small codes for each place",
        reference="Liao et al. 2024, arXiv:2411.01156 (GFSQ)",
    )
    yield aezoo.Architecture(
        name="residual_fsq",
        seed_spread="wide",
        build=build_residual,
        summary="FSQ in several steps: finer levels round what the coarser ones left",
        reference="Zhu et al. 2025, arXiv:2508.15860; scales: vector-quantize-pytorch, ResidualFSQ",
    )
