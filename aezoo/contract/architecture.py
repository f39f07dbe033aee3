"""The contract of an architecture: its name, its build function, its hyperparameters, and the text of a variant.

Nothing here imports torch, so that variants can be parsed, listed and compared at once.
"""

from __future__ import annotations

import ast
import copy
import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from aezoo.errors import AezooError, ContractError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

ImageShape = tuple[int, int, int]
"""(channels, height, width)."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?", re.IGNORECASE)
_VARIANT = re.compile(
    r"\s*(?:(?P<distribution>[\w.-]+)\s*:\s*)?(?P<name>[\w.-]+)\s*(?:\[(?P<settings>.*)\])?\s*", re.DOTALL
)
_BARE_STRING = re.compile(r"[A-Za-z_][\w.+-]*")
SeedSpread = Literal["none", "narrow", "wide", "erratic"]
EXCUSABLE = ("evaluation", "batch", "gradients", "learns", "seeds", "state_dict", "device")
"""The checks of `aezoo.check.suite` that an author may declare as not met. What makes a row comparable is not among
them: shape, input, latent, bottleneck, penalty, objective."""
_CONSTANTS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """A keyword argument of a build function: its name, its annotation and its default."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether a variant must give it."""
        return self.default is inspect.Parameter.empty

    @cached_property
    def accepted(self) -> str:
        """What it accepts, in words: ``int``, ``'mlp' or 'conv'``."""
        options = typing.get_args(self.annotation)
        if typing.get_origin(self.annotation) is Literal:
            return " or ".join(map(repr, options))
        return self.annotation.__name__ if isinstance(self.annotation, type) else str(self.annotation)

    def check(self, value: Any, architecture: str) -> Any:
        """Return `value` as the annotation has it (an int becomes a float where one is asked for).

        Raises:
            AezooError: it is of another type, not among the choices, or not finite.
        """
        try:
            checked = pydantic.TypeAdapter(self.annotation).validate_python(value, strict=True)
        except pydantic.ValidationError:
            checked = None
            wrong = not (value is None and type(None) in typing.get_args(self.annotation))
        else:
            wrong = isinstance(checked, float) and not math.isfinite(checked)
        if wrong:
            choices = [str(option) for option in typing.get_args(self.annotation)]
            raise AezooError(
                f"{architecture}: hyperparameter {self.name!r} accepts {self.accepted}, but got {value!r}."
                + did_you_mean(str(value), choices)
            )
        return checked


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
        for name, reason in dict(self.exceptions).items():
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
        try:
            signature = inspect.signature(self.build)
            hints = typing.get_type_hints(self.build)
        except (TypeError, ValueError, NameError) as error:
            raise ContractError(f"{self.name}: the signature of build cannot be read: {error}") from error
        parameters = list(signature.parameters.values())
        if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise ContractError(f"{self.name}: build must take the image shape first: build(image_shape, *, ...)")
        hyperparameters: dict[str, Hyperparameter] = {}
        for parameter in parameters[1:]:
            if parameter.kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.POSITIONAL_ONLY,
            ):
                raise ContractError(f"{self.name}: build must name its hyperparameters, but takes {parameter}")
            default_type = Any if parameter.default in (None, parameter.empty) else type(parameter.default)
            hyperparameters[parameter.name] = Hyperparameter(
                name=parameter.name,
                annotation=hints.get(parameter.name, default_type),
                default=parameter.default,
            )
        return hyperparameters

    def check_defaults(self) -> None:
        """Check that every default can be written in a variant's text and in a record.

        Raises:
            ContractError: one cannot, or the signature of build cannot be read.
        """
        for hyperparameter in self.hyperparameters.values():
            infinite = isinstance(hyperparameter.default, float) and not math.isfinite(hyperparameter.default)
            if not hyperparameter.required and (
                infinite or parse_value(format_value(hyperparameter.default)) != hyperparameter.default
            ):
                raise ContractError(
                    f"{self.name}: the default of hyperparameter {hyperparameter.name!r} must be a finite number, "
                    f"true, false, none, a string or a tuple of those, but is {hyperparameter.default!r}"
                )

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all hyperparameters of a variant, the defaults filled in.

        Raises:
            AezooError: a name is unknown, a value is of the wrong type, or a required one is missing.
        """
        declared = self.hyperparameters
        for name in settings:
            if name not in declared:
                accepted = ", ".join(declared) or "no hyperparameters"
                raise AezooError(
                    f"{self.name}: no hyperparameter {name!r}; it accepts {accepted}." + did_you_mean(name, declared)
                )
        missing = [name for name, parameter in declared.items() if parameter.required and name not in settings]
        if missing:
            raise AezooError(
                f"{self.name}: hyperparameter {missing[0]!r} has no default: "
                f"give {self.name}[{missing[0]}=...], {declared[missing[0]].accepted}"
            )
        return {
            name: parameter.check(settings[name], self.name) if name in settings else parameter.default
            for name, parameter in declared.items()
        }


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
        declared = self.architecture.hyperparameters
        changed = {
            name: value
            for name, value in sorted(self.hyperparameters.items())
            if declared[name].required or value != declared[name].default
        }
        return self.label + (f"[{format_settings(changed)}]" if changed else "")

    def build(self, image_shape: ImageShape) -> nn.Module:
        """Build the network, as its plugin does, for images of shape (channels, height, width).

        The hyperparameters that it is given are its own: a list that it changes is no other network's.
        """
        return self.architecture.build(tuple(image_shape), **copy.deepcopy(dict(self.hyperparameters)))


@dataclass(frozen=True, kw_only=True)
class VariantText:
    """The parts of ``distribution:name[key=value, ...]``; `settings` is None where no brackets were given."""

    name: str
    distribution: str | None
    settings: dict[str, Any] | None


def parse_variant(text: str) -> VariantText:
    """Take a variant's text apart. Order and spacing do not matter.

    Raises:
        AezooError: the text is not of the form ``name[key=value, ...]``.
    """
    match = _VARIANT.fullmatch(text)
    if not match:
        raise AezooError(f"not a variant: {text!r}; write name or name[key=value, ...], such as conv[latent_dim=16]")
    settings: dict[str, Any] | None = None
    if match["settings"] is not None:
        settings = {}
        for part in _split(match["settings"]):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not key.isidentifier() or not value:
                raise AezooError(f"in {text!r}: write key=value, such as latent_dim=16, but got {part.strip()!r}")
            if key in settings:
                raise AezooError(f"in {text!r}: hyperparameter {key!r} is given twice")
            settings[key] = parse_value(value)
    return VariantText(name=match["name"], distribution=match["distribution"], settings=settings)


def parse_value(text: str) -> Any:
    """Read a hyperparameter's value: a number, true, false, none, a (tuple), or else a string."""
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def format_settings(settings: Mapping[str, Any]) -> str:
    """Write hyperparameters as they stand in a variant's text: ``body=conv,latent_dim=16``."""
    return ",".join(f"{name}={format_value(value)}" for name, value in settings.items())


def format_value(value: Any) -> str:
    """Write one value so that `parse_value` reads the same value back."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if _BARE_STRING.fullmatch(value) and parse_value(value) == value else repr(value)
    return repr(value).replace(" ", "")


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside quotes and brackets."""
    parts, depth, quote, escaped = [""], 0, "", False
    for character in text:
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and not escaped
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts if any(part.strip() for part in parts) else []
