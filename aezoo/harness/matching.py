"""Give variants one number of parameters: solve each architecture's hyperparameter ``width`` for a budget."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from aezoo.check.suite import sample_images
from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.network import num_params
from aezoo.errors import AezooError, reason_of
from aezoo.train.build import build, is_lazy

WIDTH = "width"
"""The hyperparameter that makes a network of one architecture larger or smaller, by the zoo's convention."""
WIDEST = 2**20
TRIED = 256
"""Widths that are tried after one that is refused, at most: a width may have to be a multiple of something."""
NEAR = 0.1
"""How far from the budget, of it, a network may lie without a word."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """What was chosen for a variant, itself where there was nothing to choose; `reason` says what or why, in a line."""

    chosen: Variant
    reason: str


def match_params(variants: Sequence[Variant], budget: int, image_shape: ImageShape) -> list[Match]:
    """Choose the width of each variant that comes nearest to `budget` parameters."""
    return [_match(variant, budget, image_shape) for variant in variants]


def _match(variant: Variant, budget: int, image_shape: ImageShape) -> Match:
    width = variant.architecture.hyperparameters.get(WIDTH)
    if width is None or int not in (width.annotation, *typing.get_args(width.annotation)):
        count = _num_params(variant, image_shape)
        has = f"has {count:,}, and no hyperparameter {WIDTH!r} to choose" if isinstance(count, int) else count
        return Match(chosen=variant, reason=f"{variant.text} {has}")
    search = _Search(variant, image_shape)
    nearest = search.nearest(budget)
    if nearest is None:
        return Match(chosen=variant, reason=f"{variant.text} {search.refusal}, whatever its {WIDTH}")
    chosen, count = nearest
    far = "" if abs(count - budget) <= NEAR * budget else f": it comes no nearer, {count / budget - 1:+.0%}"
    return Match(
        chosen=_with_width(variant, chosen), reason=f"{variant.text} gets {WIDTH}={chosen}, and has {count:,}{far}"
    )


class _Search:
    """The widths of one variant that were tried, each once: a variant that no width makes, under 300 times."""

    def __init__(self, variant: Variant, image_shape: ImageShape) -> None:
        self.variant = variant
        self.image_shape = image_shape
        self.counts: dict[int, int | str] = {}
        self.refusal = ""

    def nearest(self, budget: int) -> tuple[int, int] | None:
        """Return the width nearest to the budget, and its parameters: doubled until it is passed, then bisected."""
        doubled = [2**power for power in range(WIDEST.bit_length())]
        if not any(self._builds(width) for width in (*doubled, *range(1, TRIED))):
            return None
        low, high = 0, 1
        while high < WIDEST and ((first := self._at_least(high)) is None or first[1] < budget):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            first = self._at_least(middle)
            low, high = (middle, high) if first is not None and first[1] < budget else (low, middle)
        built = [(width, count) for width, count in self.counts.items() if isinstance(count, int)]
        return min(built, key=lambda width_and_count: abs(width_and_count[1] - budget))

    def _builds(self, width: int) -> bool:
        """Say whether a width can be built; its parameters are kept, or why it cannot."""
        if width not in self.counts:
            self.counts[width] = _num_params(_with_width(self.variant, width), self.image_shape)
        count = self.counts[width]
        if isinstance(count, str):
            self.refusal = self.refusal or count
        return isinstance(count, int)

    def _at_least(self, width: int) -> tuple[int, int] | None:
        """Return the first width from this one on that can be built, and its parameters."""
        for candidate in range(width, width + TRIED):
            if self._builds(candidate):
                return candidate, int(self.counts[candidate])
        return None


def _with_width(variant: Variant, width: int) -> Variant:
    return replace(variant, hyperparameters={**variant.hyperparameters, WIDTH: width})


def _num_params(variant: Variant, image_shape: ImageShape) -> int | str:
    """Count a variant's parameters, if it can on a device without memory; or say why it cannot be built."""
    module = None
    try:
        with torch.device("meta"):
            module = variant.build(image_shape)
    except (AezooError, ValueError) as error:
        return f"cannot be built: {reason_of(error)}"
    except Exception:  # noqa: BLE001 - it may need numbers: then it is built in earnest
        pass
    try:
        if module is None or is_lazy(module):
            module = build(variant, sample_images(image_shape, count=2), seed=0)
        return num_params(module)
    except Exception as error:  # noqa: BLE001 - whatever a build raises, that width is not to be had
        return f"cannot be built: {reason_of(error)}"
