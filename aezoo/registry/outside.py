"""What a call names that is not installed, and how a trial's is found again where it is."""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aezoo.contract.architecture import Architecture
from aezoo.contract.hyperparameters import NAME
from aezoo.errors import AezooError
from aezoo.registry.discovery import discover
from aezoo.registry.factory import refuse_network, signature_of
from aezoo.registry.names import Registry
from aezoo.registry.places import VERSION, FromFile, FromMemory, FromModule, place_text
from aezoo.registry.plugin import Plugin
from aezoo.registry.source import at_hand
from aezoo.registry.texts import FILE, MODULE, refuse_bare_file, refuse_no_variant
from aezoo.run.records import PluginSource

AskedPlugin = str | Path | Callable[..., Any] | Architecture
"""How a plugin that is not installed is named: a file or a module, or a function, a class or an Architecture."""


def load_registry(plugins: Sequence[AskedPlugin] = (), block: Sequence[str] = ()) -> Registry:
    """Return all that is installed, without what is blocked, and with plugins that are not installed.

    Raises:
        AezooError: one of those cannot be loaded, or nothing is called as what is blocked.
    """
    return extend(discover(*block), (), plugins)[0]


def extend(
    registry: Registry,
    variants: Iterable[str | Path | Callable[..., Any] | Architecture],
    plugins: Sequence[AskedPlugin] = (),
) -> tuple[Registry, list[str]]:
    """Add plugins that are not installed to a registry, and return it with the variants that were asked for, as texts.

    Args:
        registry: What is installed.
        asked: Variants and patterns as they are; ``FILE.py[:NAME][settings]``; ``module.path:NAME[settings]``, where no
            installed distribution has the module's name; a function or class that builds a network; an Architecture.
        plugins: Files and modules, all that each contributes; functions, classes and Architectures.

    Raises:
        AezooError: one cannot be loaded.
    """
    check_list(variants, "variants")
    check_list(plugins, "plugins")
    places = [_place(variant, registry) for variant in variants]
    # Each place is loaded once, with all settings in which it was asked for.
    together: dict[Any, tuple[str, ...]] = {_plain_place(plugin): () for plugin in plugins}
    for place, settings in places:
        if place is not None:
            together[place] = (*together.get(place, ()), settings)
    loaded: dict[Any, Plugin] = {}
    folders = _folders({place.path for place in together if isinstance(place, FromFile)})
    for place, texts_of_settings in together.items():
        loaded[place] = _load(place, tuple(dict.fromkeys(texts_of_settings)), folders)
        try:
            registry = registry.plus(loaded[place])
        except AezooError as error:
            raise AezooError(
                f"{loaded[place].place}: {error}; an architecture is called after its file, its NAME in FILE.py:NAME "
                "or its function: give one of them another name"
            ) from error
    texts = []
    for place, text in places:
        if place is None:
            refuse_bare_file(text, (architecture.name for architecture, _ in registry.architectures.values()))
        texts += [text] if place is None else _texts(loaded[place], text, registry)
    return registry, texts


def asked_with(plugin: Plugin, label: str, name: str, value: Any) -> str:
    """Return how an architecture of a plugin is asked for with a hyperparameter, in the way in which it was given."""
    origin, place = plugin.origin, label
    if isinstance(origin, FromMemory):
        return f"functools.partial({label}, {name}={value})"
    if isinstance(origin, FromFile) and len(plugin.architectures) == 1:
        path, here = Path(origin.path), Path.cwd()
        place = f"./{path.relative_to(here).as_posix()}" if path.is_relative_to(here) else str(path)
    if isinstance(origin, FromModule) and origin.factory:
        place = origin.module
    factory = f":{origin.factory}" if isinstance(origin, FromFile | FromModule) and origin.factory else ""
    return f"'{place}{factory}[{name}={value}]'"


def check_list(value: Any, what: str) -> None:
    """Raise AezooError where one thing was given in place of a list of them."""
    if isinstance(value, str | Path) or callable(value):
        text = repr(str(value)) if isinstance(value, str | Path) else str(getattr(value, "__name__", value))
        raise AezooError(f"give a list of {what}, such as [{text}], but got {text} itself")


def _place(variant: Any, registry: Registry) -> tuple[Any, str]:
    """Return where something that was asked for is had from, None where it is installed, and its text or settings."""
    if not isinstance(variant, str | Path):
        return _from_memory(variant), ""
    text = str(variant).strip()
    refuse_no_variant(text)
    if match := FILE.fullmatch(text):
        return _file(match), match["settings"] or ""
    match = MODULE.fullmatch(text)
    if match and match["place"] not in {plugin.distribution for plugin in registry.plugins}:
        return _module(match), match["settings"] or ""
    return None, text


def _file(match: re.Match[str]) -> FromFile:
    return FromFile(path=str(Path(match["place"]).absolute()), factory=match["factory"])


def _module(match: re.Match[str]) -> FromModule:
    return FromModule(module=match["place"], factory=match["factory"], folder=str(Path.cwd()))


def _plain_place(plugin: AskedPlugin) -> FromFile | FromModule | FromMemory:
    """Return where a plugin that is not installed is had from, as ``--plugin`` names it."""
    if not isinstance(plugin, str | Path):
        return _from_memory(plugin)
    text = str(plugin)
    if match := FILE.fullmatch(text):
        return _file(match)
    if match := MODULE.fullmatch(text):
        return _module(match)
    if os.sep in text:
        raise AezooError(f"not a plugin: {text!r}; give a file, ./FILE.py, or a module's name")
    return FromModule(module=text, folder=str(Path.cwd()))


def _folders(paths: Iterable[str]) -> dict[str, str]:
    """Return what tells files of one name apart, for those that have a namesake: the last parts of their folders."""
    folders: dict[str, str] = {}
    files = [Path(path) for path in sorted(paths)]
    for file in files:
        others = [other for other in files if other.stem == file.stem and other != file]
        parts = file.parent.parts[1:]
        for count in range(1, len(parts) + 1):
            if others and all(other.parent.parts[1:][-count:] != parts[-count:] for other in others):
                folders[str(file)] = re.sub(r"[^\w.-]", "_", ".".join(parts[-count:]))
                break
    return folders


def _load(place: Any, settings: tuple[str, ...], folders: Mapping[str, str]) -> Plugin:
    if isinstance(place, FromFile | FromModule):
        place = replace(place, settings=settings)
    if isinstance(place, FromFile):
        place = replace(place, folder=folders.get(place.path))
    plugin: Plugin = place.load()  # one of the three above
    if not isinstance(place, FromFile):
        # A file is asked for its hash before it is run again.
        _AT_HAND[plugin.source.source_sha256] = place
    return plugin


_AT_HAND: dict[str, FromModule | FromMemory] = {}
"""What is not installed and was loaded in this process, but for files, by the hashes of their sources."""


def find_again(source: PluginSource, *, any_source: bool = False) -> FromFile | FromModule | FromMemory | None:
    """Return where an architecture that is not installed is had from, if it still is where a trial had it from.

    A file must be as it was, unless `any_source`; it is not run to tell. A function or class of a program is there as
    long as its process lives.
    """
    match = FILE.fullmatch(source.place or "")
    if match is None:
        return _AT_HAND.get(source.source_sha256)
    file = _file(match)
    there = Path(file.path).is_file() and (any_source or file.sha256() == source.source_sha256)
    return file if there else None


def bring(registry: Registry, source: PluginSource, architecture: str, *, any_source: bool = False) -> Registry:
    """Return a registry that has what a trial was made of: where that is not installed, it is looked for.

    Raises:
        AezooError: it is not there, or has changed.
    """
    given = [plugin for plugin in registry.plugins if plugin.version == VERSION]
    if source.version != VERSION or any(each.name == architecture for some in given for each in some.architectures):
        return registry
    place = find_again(source, any_source=any_source)
    if place is None:
        raise AezooError(f"{architecture} is not installed: {not_at_hand(source)}")
    # One of two files of a name is told apart by its folder.
    return registry.plus(replace(_load(place, (), {}), distribution=source.distribution))


def is_same(plugin: Plugin, architecture: Architecture, source: PluginSource) -> bool:
    """Tell whether a plugin is what a trial was made of: also a class of a program where that is given as a file."""
    if plugin.source.source_sha256 == source.source_sha256:
        return True
    factory = getattr(architecture.build, "factory", None)
    if factory is None or not plugin.version == source.version == VERSION:
        return False
    file = getattr(sys.modules.get(factory.__module__), "__file__", None)
    known = [at_hand(factory, factory, architecture.name).sha256]
    known += [FromFile(path=file).sha256()] if file and Path(file).is_file() else []
    return source.source_sha256 in known


def not_at_hand(source: PluginSource) -> str:
    """Say where what is not installed was had from, and how it is given."""
    place = source.place or f"{source.name}.py"
    file = FILE.fullmatch(place)
    if place == f"{source.distribution}.{source.name}":
        written = "FILE" if source.distribution == "notebook" else source.distribution
        return (
            f"it is {source.name} of {source.distribution}, a program that has ended: give it with "
            f"plugins=[{source.name}], or its file with --plugin ./{written}.py:{source.name}"
        )
    if file is None:
        return f"give it with --plugin {place} (in Python plugins=[{place!r}])"
    text = f"./{place_text(Path(file['place']).name, file['factory'])}"
    why = f"{file['place']} {'has changed' if Path(file['place']).is_file() else 'is not there'}; "
    return f"{why if source.place else ''}give it with --plugin {text} (in Python plugins=[{text!r}])"


def _texts(plugin: Plugin, settings: str, registry: Registry) -> list[str]:
    """Return the variants that a place and its settings stand for."""
    labels = [label for label, (_, owner) in registry.architectures.items() if owner is plugin]
    if not labels:
        raise AezooError(f"{plugin.place} contributes no architecture; use it with --plugin")
    if settings and len(labels) > 1:
        raise AezooError(f"{plugin.place} contributes {', '.join(labels)}: give it with --plugin, and name the one")
    return [f"{label}{settings}" for label in labels]


def _from_memory(thing: Any) -> FromMemory:
    refuse_network(thing)
    if not isinstance(thing, Architecture) and not callable(thing):
        raise AezooError(f"give variants as texts, or functions or classes that build one, but got {thing!r:.60}")
    build = thing.build if isinstance(thing, Architecture) else thing
    inner = build.func if isinstance(build, functools.partial) else build
    name = thing.name if isinstance(thing, Architecture) else str(getattr(inner, "__name__", type(inner).__name__))
    if not NAME.fullmatch(name):
        raise AezooError(f"{name} is no name for an architecture; give a function with a name: `def my_net(): ...`")
    signature_of(build)  # read before anything is pickled
    return FromMemory(object=at_hand(thing, inner, name))
