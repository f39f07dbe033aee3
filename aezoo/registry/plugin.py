"""A plugin: where it comes from, how it is loaded and asked for all that it contributes, and the hash of its source."""

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pluggy

from aezoo.contract import hooks
from aezoo.contract.architecture import Architecture
from aezoo.contract.dataset import Dataset
from aezoo.contract.executor import Executor
from aezoo.contract.hooks import API_VERSION, OLDEST_API
from aezoo.contract.metric import Metric
from aezoo.errors import AezooError, ContractError, did_you_mean
from aezoo.registry.catalogue import name_and_version, plugin_points
from aezoo.registry.hashing import source_files, source_sha256
from aezoo.run.records import PluginSource

CONTRIBUTIONS: dict[str, type] = {
    "aezoo_architectures": Architecture,
    "aezoo_datasets": Dataset,
    "aezoo_metrics": Metric,
    "aezoo_executors": Executor,
}
EVENTS = ("aezoo_run_started", "aezoo_trial_finished", "aezoo_trial_measured", "aezoo_run_finished")
HOOKS = (*CONTRIBUTIONS, *EVENTS)


class Origin(Protocol):
    """Where a plugin is had from. It is what travels to another process, which loads the plugin for itself."""

    def load(self) -> "Plugin":
        """Load the plugin; raises whatever its import or its hooks raise."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin that loaded, and what it contributes. `origin` is where another process can have it from.

    `api` is the version of the plugin API that it declares, None where it declares none; `warnings` are what is
    deprecated in it; `place` is its module's name or path, for people.
    """

    name: str
    distribution: str
    version: str
    place: str
    origin: Origin
    source: PluginSource
    contributed: Mapping[str, tuple[Any, ...]]
    api: int | None = None
    warnings: tuple[str, ...] = ()
    events: Mapping[str, pluggy.HookCaller] = field(default_factory=dict)

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """Its architectures."""
        return self.contributed.get("aezoo_architectures", ())

    @property
    def contributions(self) -> list[str]:
        """All that it contributes, in words: ``architecture conv``."""
        named = [
            f"{hook.removeprefix('aezoo_').removesuffix('s')} {contribution.name}"
            for hook, some in self.contributed.items()
            for contribution in some
        ]
        return [*named, *(["tracker"] if self.events else [])]

    def __str__(self) -> str:
        return f"plugin {self.name} of {self.distribution} {self.version}"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An entry point of an installed distribution."""

    name: str
    distribution: str

    def load(self) -> Plugin:
        """Load this plugin and no other.

        Raises:
            AezooError: it is not installed any more.
            BaseException: whatever its import or its hooks raise.
        """
        for point in plugin_points():
            if (point.name, owner(point)[0]) == (self.name, self.distribution):
                return load(point)
        raise AezooError(f"plugin {self.name} of {self.distribution} is not installed any more")


def owner(point: metadata.EntryPoint) -> tuple[str, str]:
    """Return the name and the version of the distribution that an entry point belongs to."""
    try:
        return name_and_version(point.dist) if point.dist else ("unknown", "unknown")
    except Exception:  # noqa: BLE001 - broken metadata must not hide the plugin's name
        return "unknown", "unknown"


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Send what a plugin prints to standard error: standard output is for tables."""
    return contextlib.redirect_stdout(sys.stderr)


def load(point: metadata.EntryPoint) -> Plugin:
    """Load the plugin of an entry point.

    Raises:
        ContractError: a hook is misspelt, unmarked, of the wrong signature, or gives what is not asked for.
        BaseException: whatever its import or its hooks raise.
    """
    distribution, version = owner(point)
    with quiet():
        module = point.load()
    source = PluginSource(
        name=point.name, distribution=distribution, version=version, source_sha256=source_sha256(module_files(module))
    )
    return ask(module, source, Installed(name=point.name, distribution=distribution), point.value)


def ask(module: ModuleType, source: PluginSource, origin: Origin, place: str) -> Plugin:
    """Ask a module for all that it contributes, in a plugin manager of its own.

    Raises:
        ContractError: a hook is misspelt, unmarked, of the wrong signature, or gives what is not asked for; or it was
            written for another plugin API.
        BaseException: whatever its hooks raise.
    """
    api = _api_of(module)
    named = hook_names(module)
    for name in named:
        if name not in HOOKS:
            raise ContractError(f"there is no hook {name}; it accepts {', '.join(HOOKS)}." + did_you_mean(name, HOOKS))
    manager = pluggy.PluginManager("aezoo")
    manager.add_hookspecs(hooks)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        manager.register(module, name=source.name)
    manager.check_pending()
    marked = {caller.name: caller for caller in manager.get_hookcallers(module) or ()}
    for name in named:
        if name not in marked:
            raise ContractError(f"{name} is not marked; put @aezoo.hookimpl before it")
    if not marked:
        raise ContractError(f"{place} implements no hook; it accepts {', '.join(HOOKS)}")
    with quiet():
        contributed = {
            hook: tuple(_contributions(marked[hook], kind)) for hook, kind in CONTRIBUTIONS.items() if hook in marked
        }
    return Plugin(
        name=source.name,
        distribution=source.distribution,
        version=source.version,
        place=place,
        origin=origin,
        source=source,
        contributed=contributed,
        api=api,
        warnings=tuple(dict.fromkeys(str(warning.message) for warning in caught)),
        events={name: marked[name] for name in EVENTS if name in marked},
    )


def hook_names(module: ModuleType) -> list[str]:
    """Return the names of the functions in a module that are hooks by their name, misspelt ones among them."""
    return [name for name, value in vars(module).items() if name.startswith("aezoo_") and callable(value)]


def _api_of(module: ModuleType) -> int | None:
    """Return the version of the plugin API that a module declares, checked."""
    api = getattr(module, "AEZOO_API", None)
    if api is None:
        return None
    if type(api) is not int:
        raise ContractError(f"AEZOO_API must be a whole number, such as {API_VERSION}, but is {api!r}")
    if api > API_VERSION:
        raise ContractError(f"it is written for plugin API {api}, and this aezoo has {API_VERSION}: update aezoo")
    if api < OLDEST_API:
        raise ContractError(
            f"it is written for plugin API {api}, and this aezoo reads {OLDEST_API} to {API_VERSION}: update the plugin"
        )
    return api


def _contributions(hook: pluggy.HookCaller, kind: type) -> Iterator[Any]:
    names: set[str] = set()
    for contributed in hook():
        try:
            contributions = list(contributed)
        except TypeError:
            raise ContractError(f"{hook.name} must yield aezoo.{kind.__name__}, but returned {contributed!r}") from None
        for contribution in contributions:
            if not isinstance(contribution, kind):
                raise ContractError(f"{hook.name} must yield aezoo.{kind.__name__}, but yielded {contribution!r}")
            name = contribution.name  # type: ignore[attr-defined]  # every kind has one
            if name in names:
                raise ContractError(f"{hook.name} yields {name!r} twice")
            names.add(name)
            if isinstance(contribution, Architecture):
                contribution.check_defaults()
            yield contribution


def module_files(module: ModuleType, *, beside: Path | None = None) -> dict[str, Path]:
    """Return the source files of an imported module, and of what it imports of its own package.

    Args:
        module: An imported module.
        beside: Where given, what it imports from this folder counts too.
    """
    package = sys.modules.get(module.__name__.partition(".")[0])
    roots = [Path(place).parent for place in getattr(package, "__path__", ())]
    path = Path(module.__file__ or "")
    return source_files(module.__name__, path, package_roots=roots, beside=beside) if path.is_file() else {}
