"""A tracker for TensorBoard: each trial's curve, settings and results, the recipe and the table, in the run's folder.

It writes where the package tensorboard is installed, ``pip install 'aezoo[tensorboard]'``, and does nothing elsewhere.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aezoo

Written = Iterable[tuple[int, Any]]
"""Steps, and the summaries (protobuf) at them."""


@aezoo.hookimpl
def aezoo_run_started(run: Path, recipe: aezoo.Recipe, variants: Sequence[str]) -> None:
    """Write the recipe, and what was asked for."""
    told = f"    {recipe.to_toml()}".replace("\n", "\n    ") + "\n\n" + "\n".join(f"- `{one}`" for one in variants)
    _write(run, "run", lambda: _text("recipe", told))


@aezoo.hookimpl
def aezoo_trial_finished(run: Path, record: aezoo.TrialRecord) -> None:
    """Write what is known of a trial that ended."""

    def summaries() -> Written:
        from torch.utils.tensorboard.summary import hparams, scalar

        results = {"test_mse": record.test_mse, "train_mse": record.train_mse}
        numbers = {f"result/{name}": value for name, value in results.items() if value is not None}
        settings = {name: str(value) for name, value in record.hyperparameters.items()}
        about = {"architecture": record.architecture, "seed": record.seed, "status": record.status}
        yield from ((0, one) for one in hparams({**about, **settings}, numbers))
        yield from ((step, scalar("training_mse", mse)) for step, mse in record.curve)
        yield from ((0, scalar(name, value)) for name, value in numbers.items())

    _write(run, record.trial_id, summaries)


@aezoo.hookimpl
def aezoo_trial_measured(run: Path, record: aezoo.TrialRecord, metrics: Mapping[str, float]) -> None:
    """Write the metrics of a trial's network."""

    def summaries() -> Written:
        from torch.utils.tensorboard.summary import scalar

        yield from ((0, scalar(f"result/{name}", value)) for name, value in metrics.items())

    _write(run, f"{record.trial_id}/metrics", summaries)


@aezoo.hookimpl
def aezoo_run_finished(run: Path) -> None:
    """Write the table."""
    _write(run, "table", lambda: _text("table", (run / "table.md").read_text(encoding="utf-8")))


def _text(name: str, text: str) -> Written:
    from torch.utils.tensorboard.summary import text as summary

    return [(0, summary(name, text))]


def _write(run: Path, name: str, summaries: Callable[[], Written]) -> None:
    """Write an event file, in the place of what an earlier bench wrote there."""
    if find_spec("tensorboard") is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder = run / "tensorboard" / name
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard's own writer hands all to a thread of its own, where nobody would hear of a full disk.
    with (folder / "events.out.tfevents.0.aezoo").open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for step, summary in summaries():
            writer.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
