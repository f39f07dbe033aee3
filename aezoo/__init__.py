"""aezoo: a plugin-based zoo of autoencoder architectures, and the harness that benchmarks them.

Everything public is here. Names are looked up when they are first used, so that ``import aezoo`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aezoo.architecture import Architecture, ImageShape, Variant
    from aezoo.benchmark import Run, bench
    from aezoo.dataset import Dataset, Images
    from aezoo.errors import AezooError
    from aezoo.hookspecs import hookimpl
    from aezoo.modules import Autoencoder, Flat, TrainingOutput
    from aezoo.recipe import Recipe, read_recipe
    from aezoo.registry import create, list_architectures

_HOME = {
    "AezooError": "errors",
    "Architecture": "architecture",
    "Autoencoder": "modules",
    "Dataset": "dataset",
    "Flat": "modules",
    "ImageShape": "architecture",
    "Images": "dataset",
    "Recipe": "recipe",
    "Run": "benchmark",
    "TrainingOutput": "modules",
    "Variant": "architecture",
    "bench": "benchmark",
    "create": "registry",
    "hookimpl": "hookspecs",
    "list_architectures": "registry",
    "read_recipe": "recipe",
}

__all__ = [
    "AezooError",
    "Architecture",
    "Autoencoder",
    "Dataset",
    "Flat",
    "ImageShape",
    "Images",
    "Recipe",
    "Run",
    "TrainingOutput",
    "Variant",
    "__version__",
    "bench",
    "create",
    "hookimpl",
    "list_architectures",
    "read_recipe",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("aezoo")
    if name not in _HOME:
        raise AttributeError(f"module 'aezoo' has no attribute {name!r}")
    return getattr(import_module(f"aezoo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
