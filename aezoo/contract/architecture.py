"""The contract of an architecture: its name, its build function, and its variants.

Nothing here imports torch, so that variants can be parsed, listed and compared at once.
"""

from __future__ import annotations

import copy
import operator
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from aezoo.contract.hyperparameters import (
    NAME,
    Hyperparameter,
    canonical,
    changed,
    check_defaults,
    complete,
    declared_by,
)
from aezoo.errors import AezooError, ContractError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

ImageShape = tuple[int, int, int]
"""(channels, height, width)."""


def checked_shape(given: Any) -> ImageShape:
    """Return an image shape that was given from Python.

    Raises:
        AezooError: it is none.
    """
    try:
        channels, height, width = map(operator.index, given)
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise AezooError(f"image_shape is (channels, height, width), such as (1, 28, 28), but got {given!r:.60}")
    return channels, height, width


SeedSpread = Literal["none", "narrow", "wide", "erratic"]
EXCUSABLE = ("evaluation", "batch", "gradients", "learns", "seeds", "state_dict", "device")
"""The checks of `aezoo.check.suite` that an author may declare as not met. What makes a row comparable is not among
them: shape, input, latent, bottleneck, penalty, objective."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A named, buildable autoencoder family, as a plugin declares it.

    Args:
        name: Letters, digits, ``_``, ``-`` and ``.``; the first part of a variant's text.
        build: Takes the image shape (channels, height, width) and hyperparameters as keywords, and returns an
            ``nn.Module`` that maps (B, C, H, W) to (B, C, H, W), float32, pixels in [0, 1].
        summary: One line that says what it is.
        reference: Author and year, or a URL.
        variants: The hyperparameters of each variant that ``aezoo bench --all`` trains. None of them, ``[]``, for one
            that is benched only where it is named.
        exceptions: The checks of the contract that it is known not to meet, of EXCUSABLE, each with the reason that the
            table shows.
        baseline: ``"mean"`` or ``"pca"`` for the two that every table carries. Only aezoo's own plugin sets it.
        seed_spread: How far its seeds' losses lie apart, by what is known beforehand: ``"wide"`` for stacks of ReLU
            layers, whose units may die; ``"erratic"`` where a seed may fail altogether; ``"narrow"`` for the rest;
            ``"none"`` where there is no randomness at all.
            Intervals lean on what a calibration found in such architectures. Leave it out where you do not know: then
            the widest counts.
        speed_reference: Whether every speed is also given relative to this one's, with its defaults, so that tables
            from two machines can be read together. Only aezoo's own plugin sets it.

    Raises:
        ContractError: a field is of the wrong kind, or a variant does not fit the build function.
    """

    name: str
    build: Callable[..., nn.Module]
    summary: str
    reference: str
    variants: Sequence[Mapping[str, Any]] = field(default=({},))
    exceptions: Mapping[str, str] = field(default_factory=dict)
    baseline: Literal["mean", "pca"] | None = None
    seed_spread: SeedSpread | None = None
    speed_reference: bool = False

    def __post_init__(self) -> None:
        # A generator would be empty at its second reading.
        object.__setattr__(self, "variants", tuple(self.variants))
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(f"an architecture's name is letters, digits, '_', '-' and '.', but got {self.name!r}")
        if not callable(self.build):
            raise ContractError(f"{self.name}: build must be callable, but is {type(self.build).__name__}")
        for label in ("summary", "reference"):
            text = getattr(self, label)
            if not isinstance(text, str) or not text.strip():
                raise ContractError(f"{self.name}: {label} must be a line of text, but is {text!r}")
        if not isinstance(self.exceptions, Mapping):
            raise ContractError(
                f"{self.name}: exceptions are a dictionary, a reason for each check: {{'gradients': 'why'}}, but got "
                f"{self.exceptions!r:.60}"
            )
        if not all(isinstance(settings, Mapping) for settings in self.variants):
            raise ContractError(
                f"{self.name}: variants are a list of dictionaries, such as [{{'latent_dim': 8}}], but got "
                f"{self.variants!r:.60}"
            )
        for name, reason in self.exceptions.items():
            if name not in EXCUSABLE:
                accepted = f"may except {', '.join(EXCUSABLE)}"
                raise ContractError(
                    f"{self.name}: no exception {name!r}; it {accepted}." + did_you_mean(str(name), EXCUSABLE)
                )
            if not isinstance(reason, str) or not reason.strip():
                raise ContractError(f"{self.name}: the exception {name!r} must give a reason, but gives {reason!r}")
        if self.seed_spread not in (None, *typing.get_args(SeedSpread)):
            accepted = ", ".join(typing.get_args(SeedSpread))
            raise ContractError(f"{self.name}: seed_spread is one of {accepted}, but is {self.seed_spread!r}")
        for settings in self.variants:
            self.check(settings)

    @cached_property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """The keyword arguments of ``build``, by name, in the order in which it declares them."""
        return declared_by(self.build, self.name, called="build(image_shape, *, ...)", first="the image shape")

    def check_defaults(self) -> None:
        """Check that every default can be written in a variant's text and in a record.

        Raises:
            ContractError: one cannot, or the signature of build cannot be read.
        """
        check_defaults(self.hyperparameters, self.name)

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all hyperparameters of a variant, the defaults filled in.

        Raises:
            AezooError: a name is unknown, a value is of the wrong type, or a required one is missing.
        """
        return complete(self.hyperparameters, settings, self.name)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An architecture with all of its hyperparameters, from a known distribution."""

    architecture: Architecture
    hyperparameters: Mapping[str, Any]
    label: str
    """The architecture's name, with the distribution before it where two claim one name."""

    @property
    def text(self) -> str:
        """The canonical text: ``conv[latent_dim=16]``, sorted, with defaults left out."""
        return canonical(self.label, changed(self.architecture.hyperparameters, self.hyperparameters))

    def build(self, image_shape: ImageShape) -> nn.Module:
        """Build the network, as its plugin does, for images of shape (channels, height, width).

        The hyperparameters that it is given are its own: a list that it changes is no other network's.
        """
        return self.architecture.build(tuple(image_shape), **copy.deepcopy(dict(self.hyperparameters)))
