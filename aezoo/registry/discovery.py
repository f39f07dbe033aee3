"""Discovery: every plugin is loaded, registered and asked on its own; one that fails leaves the rest standing."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from aezoo.contract.architecture import ImageShape, Variant, checked_shape
from aezoo.contract.metric import Metric
from aezoo.errors import AezooError, UnfitError, did_you_mean, reason_of
from aezoo.registry.catalogue import BLOCKING, matching, plugin_points, sources
from aezoo.registry.names import LeftOut, Registry, refuse_claims
from aezoo.registry.plugin import Origin, Plugin, load, owner
from aezoo.run.records import PluginSource

if TYPE_CHECKING:
    from torch import nn


@cache
def discover_data(*block: str) -> Registry:
    """Load the plugins alone that contribute data sets, metrics or executors, as far as their source says.

    aezoo's own of these import no torch, so that a name is checked in no time.

    Raises:
        AezooError: nothing is called as what is to be left out.
    """
    return _discover(block, ("aezoo_datasets", "aezoo_metrics", "aezoo_executors"))


@cache
def discover(*block: str) -> Registry:
    """Load every plugin that is installed, once in a process, but for those to be left out, by name or distribution.

    Raises:
        AezooError: nothing is called as what is to be left out.
    """
    with _without_garbage_collection():
        return _discover(block)


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


def _discover(block: Sequence[str], hooks: Sequence[str] = ()) -> Registry:
    points = plugin_points()
    # aezoo's own come first: nobody takes a baseline from it. The rest in an order that the path does not change.
    ordered = sorted(points, key=lambda point: (owner(point)[0] != "aezoo", *owner(point), point.name))
    blocked_by = {"--no-plugin": set(block), BLOCKING: set(os.environ.get(BLOCKING, "").replace(",", " ").split())}
    names = {name for point in points for name in (point.name, owner(point)[0])}
    for name in sorted(blocked_by["--no-plugin"] - names):
        raise AezooError(
            f"no plugin or distribution {name!r} to leave out; `aezoo plugins` shows what is installed."
            + did_you_mean(name, names)
        )
    notices = [f"{BLOCKING} names {name!r}, which is not installed" for name in sorted(blocked_by[BLOCKING] - names)]
    spelled = sources(points) if hooks else {}
    plugins: list[Plugin] = []
    broken: list[LeftOut] = []
    blocked: list[LeftOut] = []
    for point in ordered:
        distribution, version = owner(point)
        facts = {"name": point.name, "distribution": distribution, "version": version, "place": point.value}
        if hooks and not any(hook in spelled[point.value] for hook in hooks):
            continue
        blocker = next((by for by, listed in blocked_by.items() if {point.name, distribution} & listed), None)
        if blocker is not None:
            blocked.append(LeftOut(**facts, reason=f"blocked by {blocker}"))
            continue
        try:
            plugin = load(point)
            refuse_claims(plugin, plugins)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            broken.append(LeftOut(**facts, reason=reason_of(error)))
        else:
            plugins.append(plugin)
    return Registry(plugins, broken, blocked, notices)


def find(variant: str, origin: Origin, source: PluginSource | None = None) -> Variant:
    """Return a variant from the one plugin that contributes it, and load no other.

    So a trial's process starts soon, and what another plugin does while it is imported cannot touch the trial.

    Args:
        variant: Its text.
        origin: Where the plugin is had from.
        source: What the plugin must be.

    Raises:
        UnfitError: the plugin is not here, or another version or source of it.
        BaseException: whatever its import or its hooks raise.
    """
    return Registry([_same(origin, source)]).resolve(variant)


def find_metric(name: str, origin: Origin, source: PluginSource) -> Metric:
    """Return a metric from the one plugin that contributes it, and load no other.

    Raises:
        UnfitError: the plugin is not here, or another version or source of it.
        BaseException: whatever its import or its hooks raise.
    """
    return Registry([_same(origin, source)]).metric(name)[0]


def _same(origin: Origin, source: PluginSource | None) -> Plugin:
    """Load a plugin that must be what it was where the bench was called."""
    try:
        plugin = origin.load()
    except AezooError as error:
        raise UnfitError(str(error)) from error
    if source is None:
        return plugin
    if plugin.version != source.version:
        raise UnfitError(
            f"here is {plugin}, but the bench has {source.distribution} {source.version}; install the same everywhere"
        )
    if plugin.source.source_sha256 != source.source_sha256:
        raise UnfitError(
            f"the source of {plugin} is not what it was when the bench was called; the same command trains it as it is "
            "now, and all machines are to have the same"
        )
    return plugin


def list_architectures(pattern: str = "*") -> list[str]:
    """Return the names of the installed architectures that match a pattern such as ``conv*``."""
    return matching(discover().architectures, pattern)


def create(variant: str, *, image_shape: ImageShape) -> "nn.Module":
    """Build the untrained network of a variant for images of shape (channels, height, width).

    Raises:
        AezooError: no such architecture, a wrong hyperparameter, or no image shape.
    """
    return discover().resolve(variant).build(checked_shape(image_shape))
