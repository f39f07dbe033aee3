"""Give variants one number of parameters: solve each architecture's hyperparameter ``width`` for a budget."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.network import num_params
from aezoo.train.build import on_meta

WIDTH = "width"
"""The hyperparameter that makes a network of one architecture larger or smaller, by the zoo's convention."""
WIDEST = 2**20
TRIED = 1024
"""Widths that are tried after one that is refused, at most: a width may have to be a multiple of something."""
NEAR = 0.1
"""How far from the budget, of it, a network may lie without a word."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """What was chosen for a variant, itself where there was nothing to choose; `told` says what or why, in a line."""

    chosen: Variant
    told: str


def match_params(variants: Sequence[Variant], budget: int, image_shape: ImageShape) -> list[Match]:
    """Choose the width of each variant that comes nearest to `budget` parameters."""
    return [_match(variant, budget, image_shape) for variant in variants]


def _match(variant: Variant, budget: int, image_shape: ImageShape) -> Match:
    width = variant.architecture.hyperparameters.get(WIDTH)
    if width is None or int not in (width.annotation, *typing.get_args(width.annotation)):
        count = _num_params(variant, image_shape)
        has = "cannot be built" if count is None else f"has {count:,}, and no hyperparameter {WIDTH!r} to choose"
        return Match(chosen=variant, told=f"{variant.text} {has}")
    found = _solve(variant, budget, image_shape)
    if found is None:
        return Match(chosen=variant, told=f"{variant.text} can be built with no width")
    chosen, count = found
    far = "" if abs(count - budget) <= NEAR * budget else f": it comes no nearer, {count / budget - 1:+.0%}"
    return Match(
        chosen=_with_width(variant, chosen), told=f"{variant.text} gets {WIDTH}={chosen}, and has {count:,}{far}"
    )


def _solve(variant: Variant, budget: int, image_shape: ImageShape) -> tuple[int, int] | None:
    """Return the width nearest to the budget, and its parameters: doubled until it is passed, then bisected."""
    tried: dict[int, tuple[int, int] | None] = {}

    def at_least(width: int) -> tuple[int, int] | None:
        """Return the first width from this one on that can be built, and its parameters."""
        if width not in tried:
            several = range(width, width + min(max(width, 64), TRIED))
            built = ((one, _num_params(_with_width(variant, one), image_shape)) for one in several)
            tried[width] = next(((one, count) for one, count in built if count is not None), None)
        return tried[width]

    low, high = 0, 1
    while high < WIDEST and ((found := at_least(high)) is None or found[1] < budget):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        found = at_least(middle)
        low, high = (middle, high) if found is not None and found[1] < budget else (low, middle)
    known = [one for one in tried.values() if one is not None]
    return min(known, key=lambda one: abs(one[1] - budget), default=None)


def _with_width(variant: Variant, width: int) -> Variant:
    return replace(variant, hyperparameters={**variant.hyperparameters, WIDTH: width})


def _num_params(variant: Variant, image_shape: ImageShape) -> int | None:
    """Count a variant's parameters, if it can on a device without memory; None where the variant is refused."""

    def build_and_count() -> int | None:
        try:
            return num_params(variant.build(image_shape))
        except Exception:  # noqa: BLE001 - whatever a build raises, that width is not to be had
            return None

    skeleton = on_meta(lambda: variant.build(image_shape))
    return build_and_count() if skeleton is None else num_params(skeleton)
