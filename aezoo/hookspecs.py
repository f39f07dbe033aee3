"""The hooks through which a plugin contributes. Mark an implementation with ``@aezoo.hookimpl``."""

from collections.abc import Iterable

import pluggy

from aezoo.architecture import Architecture
from aezoo.dataset import Dataset

hookspec = pluggy.HookspecMarker("aezoo")
hookimpl = pluggy.HookimplMarker("aezoo")


@hookspec
def aezoo_architectures() -> Iterable[Architecture]:  # type: ignore[empty-body]
    """Yield the architectures that this plugin contributes. Runs at every discovery: build nothing here."""


@hookspec
def aezoo_datasets() -> Iterable[Dataset]:  # type: ignore[empty-body]
    """Yield the data sets that this plugin contributes. Runs at every discovery: load nothing here."""
