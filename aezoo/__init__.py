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
    from aezoo.hookspecs import API_VERSION, hookimpl
    from aezoo.metric import Evaluation, Metric
    from aezoo.modules import Autoencoder, Flat, TrainingOutput
    from aezoo.observer import Observer
    from aezoo.recipe import Recipe, read_recipe
    from aezoo.records import TrialRecord
    from aezoo.registry import create, list_architectures
    from aezoo.task import Executor, Outcome, Task

_HOME = {
    "API_VERSION": "hookspecs",
    "AezooError": "errors",
    "Architecture": "architecture",
    "Autoencoder": "modules",
    "Dataset": "dataset",
    "Evaluation": "metric",
    "Executor": "task",
    "Flat": "modules",
    "ImageShape": "architecture",
    "Images": "dataset",
    "Metric": "metric",
    "Observer": "observer",
    "Outcome": "task",
    "Recipe": "recipe",
    "Run": "benchmark",
    "Task": "task",
    "TrainingOutput": "modules",
    "TrialRecord": "records",
    "Variant": "architecture",
    "bench": "benchmark",
    "create": "registry",
    "hookimpl": "hookspecs",
    "list_architectures": "registry",
    "read_recipe": "recipe",
}

__all__ = [
    "API_VERSION",
    "AezooError",
    "Architecture",
    "Autoencoder",
    "Dataset",
    "Evaluation",
    "Executor",
    "Flat",
    "ImageShape",
    "Images",
    "Metric",
    "Observer",
    "Outcome",
    "Recipe",
    "Run",
    "Task",
    "TrainingOutput",
    "TrialRecord",
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
