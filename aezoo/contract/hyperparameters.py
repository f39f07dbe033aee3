"""What may be set of an architecture or a data set, and how it is written: ``conv[latent_dim=16]``.

Nothing here imports torch, so that variants can be parsed, listed and compared at once.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pydantic

from aezoo.errors import AezooError, ContractError, did_you_mean, no_hyperparameter

NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?", re.IGNORECASE)
_VARIANT = re.compile(
    r"\s*(?:(?P<distribution>[\w.-]+)\s*:\s*)?(?P<name>[\w.-]+)\s*(?:\[(?P<settings>.*)\])?\s*", re.DOTALL
)
_BARE_STRING = re.compile(r"[A-Za-z_][\w.+-]*")
_BARE_PATH = re.compile(r"[\w.+/~-]+")
_CONSTANTS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """A keyword argument of a build or load function: its name, its annotation and its default."""

    name: str
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """Whether a variant must give it."""
        return self.default is inspect.Parameter.empty

    @property
    def is_location(self) -> bool:
        """Whether it says where something lies, and not what it is: it is annotated as a ``Path``."""
        return Path in (self.annotation, *typing.get_args(self.annotation))

    @cached_property
    def accepted(self) -> str:
        """What it accepts, in words: ``int``, ``'mlp' or 'conv'``."""
        return _in_words(self.annotation)

    @cached_property
    def _adapter(self) -> pydantic.TypeAdapter[Any]:
        return pydantic.TypeAdapter(self.annotation)

    def check(self, value: Any, owner: str) -> Any:
        """Return `value` as the annotation has it (an int becomes a float, a text a path, where one is asked for).

        Args:
            value: What was given.
            owner: The architecture or data set whose hyperparameter it is.

        Raises:
            AezooError: it is of another type, not among the choices, or not finite.
        """
        if self.is_location and isinstance(value, str) and value and "\0" not in value:
            value = Path(os.path.normpath(Path(value).expanduser()))
        try:
            checked = self._adapter.validate_python(value, strict=True)
        except pydantic.ValidationError:
            checked = None
            wrong = not (value is None and type(None) in typing.get_args(self.annotation))
        else:
            wrong = isinstance(checked, float) and not math.isfinite(checked)
        if wrong:
            choices = [str(option) for option in typing.get_args(self.annotation)]
            raise AezooError(
                f"{owner}: hyperparameter {self.name!r} accepts {self.accepted}, but got {value!r}."
                + did_you_mean(str(value), choices)
            )
        return checked


def _in_words(annotation: Any) -> str:
    """Return what an annotation stands for, in words."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin in (types.UnionType, typing.Union):
        return " or ".join(map(_in_words, parts))
    if origin is tuple and ... not in parts:
        return f"({', '.join(map(_in_words, parts))})"
    if annotation in (type(None), Path):
        return "none" if annotation is not Path else "a path"
    return annotation.__name__ if isinstance(annotation, type) and not parts else str(annotation)


def declared_by(function: Callable[..., Any], owner: str, *, called: str, first: str) -> dict[str, Hyperparameter]:
    """Return the keyword arguments of a function after its first one, by name, in the order in which it declares them.

    Args:
        function: A build function of an architecture, or a load function of a data set.
        owner: Whose it is.
        called: What it is called in an error: ``build(image_shape, *, ...)``.
        first: What its first argument is, in words.

    Raises:
        ContractError: its signature cannot be read, or does not name what it takes.
    """
    name = called.partition("(")[0]
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function)
    except (TypeError, ValueError, NameError) as error:
        raise ContractError(f"{owner}: the signature of {name} cannot be read: {error}") from error
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise ContractError(f"{owner}: {name} must take {first} first: {called}")
    hyperparameters: dict[str, Hyperparameter] = {}
    for parameter in parameters[1:]:
        if parameter.kind in (
            inspect.Parameter.VAR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.POSITIONAL_ONLY,
        ):
            raise ContractError(f"{owner}: {name} must name its hyperparameters, but takes {parameter}")
        default_type = Any if parameter.default in (None, parameter.empty) else type(parameter.default)
        hyperparameters[parameter.name] = Hyperparameter(
            name=parameter.name,
            annotation=hints.get(parameter.name, default_type),
            default=parameter.default,
        )
    return hyperparameters


def check_defaults(declared: Mapping[str, Hyperparameter], owner: str) -> None:
    """Check that every default can be written in a variant's text and in a record.

    Raises:
        ContractError: one cannot.
    """
    for hyperparameter in declared.values():
        if hyperparameter.required or hyperparameter.is_location:
            continue
        infinite = isinstance(hyperparameter.default, float) and not math.isfinite(hyperparameter.default)
        if infinite or parse_value(format_value(hyperparameter.default)) != hyperparameter.default:
            raise ContractError(
                f"{owner}: the default of hyperparameter {hyperparameter.name!r} must be a finite number, "
                f"true, false, none, a string or a tuple of those, but is {hyperparameter.default!r}"
            )


def complete(declared: Mapping[str, Hyperparameter], settings: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Return all hyperparameters of a variant, the defaults filled in.

    Raises:
        AezooError: a name is unknown, a value is of the wrong type, or a required one is missing.
    """
    for name in settings:
        if name not in declared:
            raise no_hyperparameter(owner, name, list(declared))
    missing = [name for name, parameter in declared.items() if parameter.required and name not in settings]
    if missing:
        raise AezooError(
            f"{owner}: hyperparameter {missing[0]!r} has no default: "
            f"give {owner}[{missing[0]}=...], {declared[missing[0]].accepted}"
        )
    return {
        name: parameter.check(settings[name], owner) if name in settings else parameter.default
        for name, parameter in declared.items()
    }


def changed(declared: Mapping[str, Hyperparameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters that are not at their defaults, sorted by name."""
    return {
        name: value
        for name, value in sorted(values.items())
        if declared[name].required or value != declared[name].default
    }


def canonical(label: str, settings: Mapping[str, Any]) -> str:
    """Write a variant's text: ``conv[latent_dim=16]``."""
    return label + (f"[{format_settings(settings)}]" if settings else "")


def without_folders(text: str) -> str:
    """Return a variant's text with the last part of each path in it alone: what a title says, on any machine.

    What is no variant's text is returned as it is.
    """
    try:
        parsed = parse_variant(text)
    except AezooError:
        return text
    settings = {
        name: Path(value).name if isinstance(value, str) and "/" in value else value
        for name, value in (parsed.settings or {}).items()
    }
    label = f"{parsed.distribution}:{parsed.name}" if parsed.distribution else parsed.name
    return canonical(label, {name: Path(value) if name == "path" else value for name, value in settings.items()})


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
    settings = None if match["settings"] is None else parse_settings(match["settings"], text)
    return VariantText(name=match["name"], distribution=match["distribution"], settings=settings)


def parse_settings(settings: str, text: str) -> dict[str, Any]:
    """Read what stands between a variant's brackets; `text` is the whole of it, for the error.

    Raises:
        AezooError: it is not of the form ``key=value, ...``.
    """
    values: dict[str, Any] = {}
    for part in _split(settings):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier() or not value:
            raise AezooError(f"in {text!r}: write key=value, such as latent_dim=16, but got {part.strip()!r}")
        if key in values:
            raise AezooError(f"in {text!r}: hyperparameter {key!r} is given twice")
        values[key] = parse_value(value)
    return values


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
    """Write one value so that `parse_value` reads the same value back; a path reads back as its text."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):
        text = str(value)
        return text if _BARE_PATH.fullmatch(text) and parse_value(text) == text else repr(text)
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
