"""The hooks through which a plugin contributes. Mark an implementation with ``@aezoo.hookimpl``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from aezoo.contract.architecture import Architecture
from aezoo.contract.dataset import Dataset
from aezoo.contract.executor import Executor
from aezoo.contract.metric import Metric
from aezoo.contract.recipe import Recipe

if TYPE_CHECKING:
    from aezoo.run.records import TrialRecord

API_VERSION = 1
"""The plugin API of this aezoo. A plugin may declare the one that it is written for: ``AEZOO_API = 1``."""
OLDEST_API = 1
"""The oldest plugin API that this aezoo still reads."""

hookspec = pluggy.HookspecMarker("aezoo")
hookimpl = pluggy.HookimplMarker("aezoo")


@hookspec
def aezoo_architectures() -> Iterable[Architecture]:  # type: ignore[empty-body]
    """Yield the architectures that this plugin contributes. Runs at every discovery: build nothing here."""


@hookspec
def aezoo_datasets() -> Iterable[Dataset]:  # type: ignore[empty-body]
    """Yield the data sets that this plugin contributes. Runs at every discovery: load nothing here."""


@hookspec
def aezoo_metrics() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Yield the metrics that this plugin contributes. Runs at every discovery: compute nothing here."""


@hookspec
def aezoo_executors() -> Iterable[Executor]:  # type: ignore[empty-body]
    """Yield the executors that this plugin contributes. Runs at every discovery: start nothing here."""


@hookspec
def aezoo_run_started(run: Path, recipe: Recipe, variants: Sequence[str]) -> None:
    """A bench begins: the run's folder is there, and these variants were asked for, their baselines among them.

    The four events are called in the bench's own process. One that raises is told to the user, once, and not called
    again in this bench; the run goes on as if it were not there.
    """


@hookspec
def aezoo_trial_finished(run: Path, record: TrialRecord) -> None:
    """A trial ended, whatever became of it, and its record is written."""


@hookspec
def aezoo_trial_measured(run: Path, record: TrialRecord, metrics: Mapping[str, float]) -> None:
    """Metrics of a trial's network are computed and written, by name; those that could not be are not among them."""


@hookspec
def aezoo_run_finished(run: Path) -> None:
    """The bench ends, be it with Ctrl-C: table.csv is written. ``aezoo.Run(path=run)`` reads the rest."""
