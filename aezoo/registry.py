"""Discovery: every plugin is loaded, registered and asked on its own; one that fails leaves the rest standing."""

import ast
import fnmatch
import gc
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from aezoo import hookspecs
from aezoo.architecture import Architecture, ImageShape, Variant, VariantText, parse_variant
from aezoo.dataset import Dataset
from aezoo.errors import AezooError, ContractError, did_you_mean, reason_of
from aezoo.records import PluginSource

if TYPE_CHECKING:
    from torch import nn

GROUP = "aezoo"
T = TypeVar("T")
_HOOKS: dict[str, type[Architecture] | type[Dataset]] = {"aezoo_architectures": Architecture, "aezoo_datasets": Dataset}


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A plugin that loaded, and what it contributes."""

    name: str
    distribution: str
    version: str
    module: ModuleType
    architectures: tuple[Architecture, ...] = ()
    datasets: tuple[Dataset, ...] = ()

    @property
    def contributions(self) -> list[str]:
        """The names of all that it contributes."""
        return [*(one.name for one in self.architectures), *(one.name for one in self.datasets)]

    @cached_property
    def source(self) -> PluginSource:
        """Where it came from, with the hash of its source."""
        return PluginSource(
            name=self.name,
            distribution=self.distribution,
            version=self.version,
            source_sha256=source_sha256(self.module),
        )


@dataclass(frozen=True, kw_only=True)
class BrokenPlugin:
    """A plugin that was left out whole, and why, in one line."""

    name: str
    distribution: str
    version: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.name} of {self.distribution} {self.version} was left out: {self.reason}"


class Registry:
    """What all plugins contribute, under the names by which it is asked for."""

    def __init__(self, plugins: Sequence[Plugin], broken: Sequence[BrokenPlugin]) -> None:
        self.plugins = tuple(plugins)
        self.broken = tuple(broken)

    @cached_property
    def architectures(self) -> dict[str, tuple[Architecture, Plugin]]:
        """Each architecture by its label: its name, with ``distribution:`` before it where several claim one."""
        claims = [(architecture, plugin) for plugin in self.plugins for architecture in plugin.architectures]
        names = [architecture.name for architecture, _ in claims]
        return {
            (f"{plugin.distribution}:" if names.count(architecture.name) > 1 else "") + architecture.name: (
                architecture,
                plugin,
            )
            for architecture, plugin in claims
        }

    def origin(self, variant: Variant) -> PluginSource:
        """Return the plugin that contributes a variant's architecture."""
        return self.architectures[variant.label][1].source

    def baseline(self, kind: str) -> str | None:
        """Return the label of the architecture that stands for a baseline, or None where its plugin is missing."""
        return next((label for label, (found, _) in self.architectures.items() if found.baseline == kind), None)

    def speed_reference(self) -> Variant | None:
        """Return the variant that speeds are given relative to, or None where its plugin is missing."""
        labels = (label for label, (found, _) in self.architectures.items() if found.speed_reference)
        return next((self._variant(label, {}) for label in labels), None)

    def dataset(self, name: str) -> Dataset:
        """Return a data set by name, or by ``distribution:name``.

        Raises:
            AezooError: there is none, or several plugins claim the name.
        """
        asked = parse_variant(name)
        claims = [
            (found, plugin)
            for plugin in self.plugins
            for found in plugin.datasets
            if found.name == asked.name and asked.distribution in (None, plugin.distribution)
        ]
        if not claims:
            names = sorted(found.name for plugin in self.plugins for found in plugin.datasets)
            raise AezooError(
                f"no data set {name!r}; `aezoo list --datasets` shows them all." + did_you_mean(name, names)
            )
        return _only(claims, "data set", name)[0]

    def resolve(self, text: str) -> Variant:
        """Return the one variant that a text names; a bare name is the architecture with its defaults.

        Raises:
            AezooError: no such architecture, an ambiguous one, or a wrong hyperparameter.
        """
        asked = parse_variant(text)
        label = self._label(asked, text)
        return self._variant(label, asked.settings or {})

    def select(self, texts: Iterable[str], *, latent_dims: Sequence[int] = ()) -> list[Variant]:
        """Return the variants that texts name, each once, in the order of the registry's architectures.

        A bare name or a pattern such as ``conv*`` stands for the declared variants of the architectures that match;
        brackets, also empty ones, name one variant. With `latent_dims`, each architecture that has the
        hyperparameter ``latent_dim`` takes those values in place of what was declared or given.

        Raises:
            AezooError: nothing matches a text, or a text is wrong.
        """
        found: dict[str, Variant] = {}
        for text in texts:
            for variant in self._matching(text):
                for swept in self._sweep(variant, latent_dims):
                    found.setdefault(swept.text, swept)
        order = list(self.architectures)
        return sorted(found.values(), key=lambda variant: order.index(variant.label))

    def _matching(self, text: str) -> Iterator[Variant]:
        if "[" not in text and any(character in text for character in "*?"):
            labels = fnmatch.filter(self.architectures, text)
            if not labels:
                raise AezooError(f"no architecture matches {text!r}; `aezoo list` shows them all")
            for label in labels:
                yield from self._declared(label)
            return
        asked = parse_variant(text)
        label = self._label(asked, text)
        if asked.settings is None:
            yield from self._declared(label)
        else:
            yield self._variant(label, asked.settings)

    def _declared(self, label: str) -> Iterator[Variant]:
        for settings in self.architectures[label][0].variants:
            yield self._variant(label, settings)

    def _sweep(self, variant: Variant, latent_dims: Sequence[int]) -> Iterator[Variant]:
        if not latent_dims or "latent_dim" not in variant.hyperparameters:
            yield variant
            return
        for latent_dim in latent_dims:
            yield self._variant(variant.label, {**variant.hyperparameters, "latent_dim": latent_dim})

    def _label(self, asked: VariantText, text: str) -> str:
        claims = [
            (label, plugin)
            for label, (architecture, plugin) in self.architectures.items()
            if architecture.name == asked.name and asked.distribution in (None, plugin.distribution)
        ]
        if not claims:
            given = f"{asked.distribution}:{asked.name}" if asked.distribution else asked.name
            raise AezooError(
                f"no architecture {given!r}; `aezoo list` shows them all." + did_you_mean(given, self.architectures)
            )
        return _only(claims, "architecture", text)[0]

    def _variant(self, label: str, settings: Mapping[str, Any]) -> Variant:
        architecture = self.architectures[label][0]
        return Variant(architecture=architecture, hyperparameters=architecture.check(settings), label=label)


def _only(claims: Sequence[tuple[T, Plugin]], kind: str, name: str) -> tuple[T, Plugin]:
    if len(claims) > 1:
        owners = [f"{plugin.distribution}:{name}" for _, plugin in claims]
        raise AezooError(f"{len(claims)} plugins claim the {kind} {name!r}: say which, {' or '.join(owners)}")
    return claims[0]


@cache
def discover() -> Registry:
    """Load every plugin that is installed, once in a process."""
    with _without_garbage_collection():
        return _discover()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Keep the collector from looking again and again at the many objects that importing torch makes, all of use."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _discover() -> Registry:
    points = metadata.entry_points(group=GROUP)
    # aezoo's own come first: nobody takes a baseline from it. The rest in an order that the path does not change.
    ordered = sorted(points, key=lambda point: (_owner(point)[0] != "aezoo", *_owner(point), point.name))
    plugins: list[Plugin] = []
    broken: list[BrokenPlugin] = []
    for point in ordered:
        distribution, version = _owner(point)
        try:
            plugin = load(point)
            _refuse_claims(plugin, plugins)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            broken.append(
                BrokenPlugin(name=point.name, distribution=distribution, version=version, reason=reason_of(error))
            )
        else:
            plugins.append(plugin)
    return Registry(plugins, broken)


def load(point: metadata.EntryPoint) -> Plugin:
    """Load one plugin and ask it for all that it contributes, in a plugin manager of its own.

    Raises:
        ContractError: a hook is misspelt, unmarked, of the wrong signature, or gives what is not asked for.
        BaseException: whatever its import or its hooks raise.
    """
    distribution, version = _owner(point)
    module = point.load()
    manager = pluggy.PluginManager("aezoo")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=point.name)
    manager.check_pending()
    marked = {caller.name for caller in manager.get_hookcallers(module) or ()}
    for name in _HOOKS:
        if hasattr(module, name) and name not in marked:
            raise ContractError(f"{name} is not marked; put @aezoo.hookimpl before it")
    if not marked:
        raise ContractError(f"{point.value} implements no hook; it accepts {', '.join(_HOOKS)}")
    found = {hook: tuple(_contributions(manager, hook, kind)) for hook, kind in _HOOKS.items()}
    return Plugin(
        name=point.name,
        distribution=distribution,
        version=version,
        module=module,
        architectures=found["aezoo_architectures"],
        datasets=found["aezoo_datasets"],
    )


def _contributions(manager: pluggy.PluginManager, hook: str, kind: type[Architecture] | type[Dataset]) -> Iterator[Any]:
    names: set[str] = set()
    for given in getattr(manager.hook, hook)():
        try:
            contributions = list(given)
        except TypeError:
            raise ContractError(f"{hook} must yield aezoo.{kind.__name__}, but returned {given!r}") from None
        for one in contributions:
            if not isinstance(one, kind):
                raise ContractError(f"{hook} must yield aezoo.{kind.__name__}, but yielded {one!r}")
            if one.name in names:
                raise ContractError(f"{hook} yields {one.name!r} twice")
            names.add(one.name)
            if isinstance(one, Architecture):
                one.check_defaults()
            yield one


def _refuse_claims(plugin: Plugin, earlier: Sequence[Plugin]) -> None:
    """Refuse a name that the same distribution gave already, and a part in every table that is taken."""
    for other in earlier:
        mine, theirs = plugin.architectures, other.architectures
        names = {one.name for one in mine} & {one.name for one in theirs}
        if names and other.distribution == plugin.distribution:
            raise ContractError(f"plugin {other.name} of the same distribution has {min(names)!r} already")
        baselines = {one.baseline for one in mine if one.baseline} & {one.baseline for one in theirs}
        if baselines:
            raise ContractError(f"the baseline {min(map(str, baselines))!r} belongs to {other.distribution}")
        if all(any(one.speed_reference for one in some) for some in (mine, theirs)):
            raise ContractError(f"the reference for speeds belongs to {other.distribution}")


def _owner(point: metadata.EntryPoint) -> tuple[str, str]:
    try:
        return (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
    except Exception:  # noqa: BLE001 - broken metadata must not hide the plugin's name
        return "unknown", "unknown"


def find(variant: str, source: PluginSource) -> Variant:
    """Return a variant from the one plugin that contributes it, and load no other.

    So a trial's process starts soon, and what another plugin does while it is imported cannot touch the trial.

    Raises:
        AezooError: the plugin is not installed any more.
        BaseException: whatever its import or its hooks raise.
    """
    for point in metadata.entry_points(group=GROUP):
        if point.name == source.name and _owner(point)[0] == source.distribution:
            return Registry([load(point)], []).resolve(variant)
    raise AezooError(f"plugin {source.name} of {source.distribution} is not installed any more")


def list_architectures(pattern: str = "*") -> list[str]:
    """Return the names of the installed architectures that match a pattern such as ``conv*``."""
    return fnmatch.filter(discover().architectures, pattern)


def create(variant: str, *, image_shape: ImageShape) -> "nn.Module":
    """Build the untrained network of a variant for images of shape (channels, height, width).

    Raises:
        AezooError: no such architecture, or a wrong hyperparameter.
    """
    return discover().resolve(variant).build(image_shape)


def source_sha256(module: ModuleType) -> str:
    """Hash a module's source, with the source of what it imports from its own top-level package."""
    package = module.__name__.partition(".")[0]
    digest = hashlib.sha256()
    pending, seen = [module.__name__], set()
    while pending:
        name = pending.pop()
        path = getattr(sys.modules.get(name), "__file__", None)
        if name in seen or not path or not Path(path).is_file():
            continue
        seen.add(name)
        source = Path(path).read_bytes()
        digest.update(name.encode() + b"\0" + source)
        if path.endswith(".py"):
            package_of_name = name if Path(path).name == "__init__.py" else name.rpartition(".")[0]
            found = _imports(source, package_of_name)
            pending += sorted(imported for imported in found if imported.partition(".")[0] == package)
    return digest.hexdigest()


def _imports(source: bytes, package: str) -> set[str]:
    """Return the names of the modules that a source in `package` imports, and of what it may import from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # One dot is the package itself, each further one its parent.
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(filter(None, [*parents, node.module]))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names
