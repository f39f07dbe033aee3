"""What builds a network: which function or class of a module does, and the architecture that is made of it."""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from aezoo.contract.architecture import Architecture
from aezoo.contract.hyperparameters import NAME, format_value, parse_value, parse_variant
from aezoo.errors import AezooError, did_you_mean, reason_of


def find_factory(module: ModuleType, name: str | None, place: str) -> Any:
    """Return a function, class or Architecture of a module by its name; without one, what alone builds a network there.

    Raises:
        AezooError: there is none, or several, or one that is a network already.
    """
    name = name or _only_factory(module, place)
    factory = getattr(module, name, None)
    refuse_network(factory)
    if not callable(factory) and not isinstance(factory, Architecture):
        public = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        own = [each for each in public if _is_own(getattr(module, each), module)]
        # Of a package, what it offers is defined elsewhere.
        what = "" if hasattr(module, "__path__") else f"; it has {', '.join(own) or 'none'}"
        near = did_you_mean(name, public if hasattr(module, "__path__") else own)
        raise AezooError(f"{place} has no function or class {name!r}{what}{'.' if near else ''}{near}")
    return factory


def refuse_network(value: Any) -> None:
    """Raise AezooError where a network was given in place of what builds one."""
    from_torch = sys.modules.get("torch")
    if from_torch and isinstance(value, from_torch.nn.Module):
        kind = type(value).__name__
        raise AezooError(
            f"got a network that is built already, of class {kind}; give {kind} itself, or a function: each "
            "trial builds its own, from its own seed"
        )


def signature_of(factory: Callable[..., Any]) -> inspect.Signature:
    """Return which arguments a function or class takes.

    Raises:
        AezooError: nobody can tell.
    """
    try:
        return inspect.signature(factory)
    except (TypeError, ValueError) as error:
        raise AezooError(f"cannot read which arguments {factory!r:.60} takes: {reason_of(error)}") from error


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _only_factory(module: ModuleType, place: str) -> str:
    """Return the name of what builds a network: ``build``, or else the one network class that is defined there."""
    if callable(getattr(module, "build", None)):
        return "build"
    from torch import nn

    own = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and _is_own(value, module)
    ]
    if len(own) == 1:
        return own[0]
    built = [name for name, value in vars(module).items() if isinstance(value, nn.Module)]
    if built and not own:
        raise AezooError(
            f"{place} has a network that is built already, {built[0]}, and nothing that builds one; write a function "
            "`def build(image_shape): ...` that returns it: each trial builds its own, from its own seed"
        )
    what = f"but defines {', '.join(own)}: say which, {place}:{own[-1]}" if own else "and defines no nn.Module"
    raise AezooError(f"{place} has no hook and no function `build`, {what}")


def architecture_of(factory: Any, name: str, settings: Sequence[str], place: str) -> Architecture:
    """Make an architecture of a function or class; it is given the image shape where it has an argument for it.

    Raises:
        AezooError: it has no name for an architecture, or needs arguments that nobody gives.
    """
    if isinstance(factory, Architecture):
        return factory
    if not NAME.fullmatch(name):
        raise AezooError(f"{name!r} is no name for an architecture: letters, digits, '_', '-' and '.'; rename it")
    build = _builder(factory)
    required = [
        parameter.name
        for parameter in inspect.signature(build).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty
    ]
    # What was not asked for, but named for its variants to be found, declares none where it needs an argument.
    by_default: list[dict[str, Any]] = [] if required else [{}]
    variants = [parse_variant(name + text).settings or {} for text in settings] or by_default
    missing = [each for each in required if any(each not in declared for declared in variants)]
    if missing:
        raise AezooError(
            f"{place}: {name} needs {', '.join(missing)}: give {place}[{missing[0]}=...], or a default in the code; "
            "the image's shape comes in an argument that is called image_shape"
        )
    document = (factory.__doc__ or "").strip().partition("\n")[0]
    return Architecture(
        name=name,
        build=build,
        summary=document or f"{name}, as it was given",
        reference="not installed",
        variants=variants,
    )


def _builder(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return a build function: the image shape first, and a keyword for each argument that a text can give."""
    inner = factory.func if isinstance(factory, functools.partial) else factory
    try:
        hints = typing.get_type_hints(vars(inner).get("__init__", inner) if isinstance(inner, type) else inner)
    except Exception:  # noqa: BLE001 - an annotation may be anything; the default's type then says what is accepted
        hints = {}
    parameters = {
        parameter.name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in signature_of(factory).parameters.values()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    takes_shape = parameters.pop("image_shape", None) is not None
    hyperparameters = {name: parameter for name, parameter in parameters.items() if _can_be_written(parameter.default)}

    def build(image_shape: Any, **settings: Any) -> Any:
        return factory(image_shape=image_shape, **settings) if takes_shape else factory(**settings)

    first = inspect.Parameter("image_shape", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    build.__signature__ = inspect.Signature([first, *hyperparameters.values()])  # type: ignore[attr-defined]
    build.__annotations__ = {name: hints[name] for name in hyperparameters if name in hints}
    # So that a hint may call what was given; not what a partial holds that no text can give.
    build.factory = inner  # type: ignore[attr-defined]
    if isinstance(factory, functools.partial) and (factory.args or factory.keywords.keys() - hyperparameters.keys()):
        build.factory = None  # type: ignore[attr-defined]
    return build


def _can_be_written(default: Any) -> bool:
    """Tell whether a default can stand in a variant's text; what cannot, stays as it is."""
    return default is inspect.Parameter.empty or parse_value(format_value(default)) == default
