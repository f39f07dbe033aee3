"""aezoo: a plugin-based zoo of autoencoder architectures, and the harness that benchmarks them.

Everything public is here. Names are looked up when they are first used, so that ``import aezoo`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aezoo.contract.architecture import Architecture, ImageShape, Variant
    from aezoo.contract.dataset import Dataset, Images
    from aezoo.contract.executor import Executor, Outcome, Task, Work
    from aezoo.contract.hooks import API_VERSION, hookimpl
    from aezoo.contract.metric import Evaluation, Metric
    from aezoo.contract.network import Autoencoder, Flat, TrainingOutput
    from aezoo.contract.recipe import Recipe, read_recipe
    from aezoo.errors import AezooError
    from aezoo.harness.call import Run, bench
    from aezoo.harness.observer import Observer
    from aezoo.harness.request import Request
    from aezoo.harness.settle import settle
    from aezoo.registry.names import create, list_architectures
    from aezoo.run.records import TrialRecord

_HOME = {
    "API_VERSION": "contract.hooks",
    "AezooError": "errors",
    "Architecture": "contract.architecture",
    "Autoencoder": "contract.network",
    "Dataset": "contract.dataset",
    "Evaluation": "contract.metric",
    "Executor": "contract.executor",
    "Flat": "contract.network",
    "ImageShape": "contract.architecture",
    "Images": "contract.dataset",
    "Metric": "contract.metric",
    "Observer": "harness.observer",
    "Outcome": "contract.executor",
    "Recipe": "contract.recipe",
    "Request": "harness.request",
    "Run": "harness.call",
    "Task": "contract.executor",
    "Work": "contract.executor",
    "TrainingOutput": "contract.network",
    "TrialRecord": "run.records",
    "Variant": "contract.architecture",
    "bench": "harness.call",
    "create": "registry.names",
    "hookimpl": "contract.hooks",
    "list_architectures": "registry.names",
    "read_recipe": "contract.recipe",
    "settle": "harness.settle",
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
    "Request",
    "Run",
    "Task",
    "TrainingOutput",
    "TrialRecord",
    "Variant",
    "Work",
    "__version__",
    "bench",
    "create",
    "hookimpl",
    "list_architectures",
    "read_recipe",
    "settle",
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
