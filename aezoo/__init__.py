"""aezoo: a plugin-based zoo of autoencoder architectures, and the harness that benchmarks them.

Everything public is here. Names are looked up when they are first used, so that ``import aezoo`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aezoo.contract.adapted import Adapted
    from aezoo.contract.architecture import Architecture, ImageShape, Variant
    from aezoo.contract.arrays import Arranged
    from aezoo.contract.dataset import Dataset
    from aezoo.contract.encoded import Background, ImageHead, list_image_files, open_image, read_head
    from aezoo.contract.executor import Executor, Needs, Outcome, Progress, Site, Task, Work
    from aezoo.contract.form import ImageForm
    from aezoo.contract.hooks import API_VERSION, hookimpl
    from aezoo.contract.images import Images, Part, part_of
    from aezoo.contract.levels import AxisOrder, Range
    from aezoo.contract.metric import Evaluation, Metric
    from aezoo.contract.network import Autoencoder, Flat, TrainingOutput
    from aezoo.contract.pixels import FilePixels, GatheredPixels, Subset, scratch_folder
    from aezoo.contract.preprocessing import Fit, Preprocessing
    from aezoo.contract.recipe import Recipe, read_recipe
    from aezoo.contract.shared import chunks
    from aezoo.contract.split import pixel_hash
    from aezoo.errors import AezooError, DamagedDataError, Interrupted
    from aezoo.harness.call import bench
    from aezoo.harness.local import TaskProcess
    from aezoo.harness.model import Model, load
    from aezoo.harness.observer import Observer
    from aezoo.harness.request import Request
    from aezoo.harness.run import Run
    from aezoo.harness.settle import settle
    from aezoo.registry.discovery import create, list_architectures
    from aezoo.run.records import TrialRecord

_HOME = {
    "API_VERSION": "contract.hooks",
    "Adapted": "contract.adapted",
    "AezooError": "errors",
    "Architecture": "contract.architecture",
    "Arranged": "contract.arrays",
    "Autoencoder": "contract.network",
    "AxisOrder": "contract.levels",
    "Background": "contract.encoded",
    "DamagedDataError": "errors",
    "Dataset": "contract.dataset",
    "Evaluation": "contract.metric",
    "Executor": "contract.executor",
    "FilePixels": "contract.pixels",
    "Fit": "contract.preprocessing",
    "Flat": "contract.network",
    "GatheredPixels": "contract.pixels",
    "ImageForm": "contract.form",
    "ImageHead": "contract.encoded",
    "ImageShape": "contract.architecture",
    "Images": "contract.images",
    "Interrupted": "errors",
    "Metric": "contract.metric",
    "Model": "harness.model",
    "Needs": "contract.executor",
    "Observer": "harness.observer",
    "Outcome": "contract.executor",
    "Part": "contract.images",
    "Preprocessing": "contract.preprocessing",
    "Progress": "contract.executor",
    "Range": "contract.levels",
    "Recipe": "contract.recipe",
    "Request": "harness.request",
    "Run": "harness.run",
    "Site": "contract.executor",
    "Subset": "contract.pixels",
    "Task": "contract.executor",
    "TaskProcess": "harness.local",
    "TrainingOutput": "contract.network",
    "TrialRecord": "run.records",
    "Variant": "contract.architecture",
    "Work": "contract.executor",
    "bench": "harness.call",
    "chunks": "contract.shared",
    "create": "registry.discovery",
    "hookimpl": "contract.hooks",
    "list_architectures": "registry.discovery",
    "list_image_files": "contract.encoded",
    "load": "harness.model",
    "open_image": "contract.encoded",
    "part_of": "contract.images",
    "pixel_hash": "contract.split",
    "read_head": "contract.encoded",
    "read_recipe": "contract.recipe",
    "scratch_folder": "contract.pixels",
    "settle": "harness.settle",
}

__all__ = [
    "API_VERSION",
    "Adapted",
    "AezooError",
    "Architecture",
    "Arranged",
    "Autoencoder",
    "AxisOrder",
    "Background",
    "DamagedDataError",
    "Dataset",
    "Evaluation",
    "Executor",
    "FilePixels",
    "Fit",
    "Flat",
    "GatheredPixels",
    "ImageForm",
    "ImageHead",
    "ImageShape",
    "Images",
    "Interrupted",
    "Metric",
    "Model",
    "Needs",
    "Observer",
    "Outcome",
    "Part",
    "Preprocessing",
    "Progress",
    "Range",
    "Recipe",
    "Request",
    "Run",
    "Site",
    "Subset",
    "Task",
    "TaskProcess",
    "TrainingOutput",
    "TrialRecord",
    "Variant",
    "Work",
    "__version__",
    "bench",
    "chunks",
    "create",
    "hookimpl",
    "list_architectures",
    "list_image_files",
    "load",
    "open_image",
    "part_of",
    "pixel_hash",
    "read_head",
    "read_recipe",
    "scratch_folder",
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
