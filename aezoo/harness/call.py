"""A call's way in: `aezoo.bench`, `preview` and `reproduce`."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from aezoo.contract.architecture import Architecture
from aezoo.errors import AezooError, Interrupted, counted, did_you_mean, reason_of
from aezoo.harness import notebook
from aezoo.harness.observer import Observer, ScriptObserver, Trackers, WarningObserver
from aezoo.harness.opening import open_call, tried_grid
from aezoo.harness.plan import Grid
from aezoo.harness.preview import Preview
from aezoo.harness.report import keep_images
from aezoo.harness.request import Request, document
from aezoo.harness.run import Run
from aezoo.harness.runner import Runner
from aezoo.harness.throughput import measure_throughput
from aezoo.page import page
from aezoo.registry.outside import AskedPlugin, find_again, not_at_hand
from aezoo.registry.places import VERSION as NOT_INSTALLED
from aezoo.registry.places import FromMemory
from aezoo.run.records import TrialRecord
from aezoo.run.repetition import Repetition, repeated
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import render
from aezoo.table.notes import listed

Asked = str | Path | Callable[..., Any] | Architecture
"""How a variant is asked for."""


def bench(variants: Iterable[Asked] | Request = (), *, observer: Observer | None = None, **settings: Any) -> Run:
    """Train, score and time variants under identical settings, and write a run.

    Args:
        variants: What to bench, as `Request.variants` takes it; or a whole `Request`.
        observer: Hears what happens; by default a notebook's cell shows how far it is, or lines on standard error do,
            and what goes otherwise than asked is a Python warning. `Observer()` keeps quiet.
        settings: The other settings, those of `Request`, and those of a recipe to change, as below: ``quick=True``,
            ``steps=200``, ``seeds=1``.

    Raises:
        AezooError: the call was wrong; nothing was written.
        Interrupted: after Ctrl-C; the run and its table are valid, its `run` has them, and the same call goes on. Its
            `run` is None where no trial ran yet.
    """
    request = _request(variants, settings)
    observer = _checked(observer) or notebook.observer() or ScriptObserver()
    text = ""
    try:
        run = _bench(request, observer)
        text = f"done: {counted(run.trials, 'trial')} run, into {run.path}"
        return run
    except KeyboardInterrupt as stopped:
        if isinstance(stopped, Interrupted):
            text = f"stopped: {stopped}"
            raise
        text = "stopped before the first trial: nothing was written"
        raise Interrupted(text, None) from stopped
    finally:
        observer.finished(text)


def _checked(observer: Observer | None) -> Observer | None:
    """Return an observer that was given.

    Raises:
        AezooError: it is none.
    """
    if observer is not None and not isinstance(observer, Observer):
        raise AezooError(f"observer takes an aezoo.Observer, Observer() to keep quiet, but got {observer!r:.60}")
    return observer


def _bench(request: Request, observer: Observer) -> Run:
    with tried_grid(request, observer) as grid:
        runner = Runner(grid=grid, trackers=Trackers(grid.registry.plugins, observer))
        try:
            runner.run_trials()
            runner.measure_metrics()
            runner.drop_weights()
            if request.timing:
                measure_throughput(grid)
        except KeyboardInterrupt as stopped:
            if grid.run.exists:
                run = Run(path=grid.run.path, variants=_asked(grid))
                text = f"{grid.run.path} has what ended: aezoo.Run(path={str(run.path)!r}); the same call goes on"
                raise Interrupted(text, run) from stopped
            raise
        finally:
            if grid.run.exists:
                snapshot = grid.run.load()
                render.write(snapshot)
                if request.report:
                    _write_page(grid, snapshot)
                runner.trackers.run_finished()
    return Run(path=grid.run.path, snapshot=snapshot, trials=len(runner.ended), variants=_asked(grid))


def _asked(grid: Grid) -> tuple[str, ...]:
    """Return the variants of a call, the baselines among them."""
    return tuple(dict.fromkeys(plan.variant for plan in grid.plans))


def preview(variants: Iterable[Asked] | Request = (), *, observer: Observer | None = None, **settings: Any) -> Preview:
    """Say what `bench` would run with the same arguments, and how long it would take; write nothing.

    Each variant that is to run is built and stepped a few times, or fitted, in a process of its own.

    Raises:
        AezooError: the call was wrong.
    """
    with tried_grid(_request(variants, settings), _checked(observer) or WarningObserver(), fits=True) as grid:
        return grid.preview()


def reproduce(
    run: str | Path,
    trial: str,
    *,
    plugins: Sequence[AskedPlugin] = (),
    block: Sequence[str] = (),
    data_dir: str | Path | None = None,
    observer: Observer | None = None,
) -> Repetition:
    """Run a trial again from its record: the same variant, recipe, seed, device, threads. The run stays as it is.

    Args:
        run: The run's folder.
        trial: The trial's id, or its beginning where that is enough.
        plugins: Plugins that are not installed, as for `bench`; what the trial had is found where it is as it was.
        block: Plugins or distributions to be left out, as for `bench`.
        data_dir: Where data sets are kept, as for `bench`.
        observer: Hears what happens.

    Raises:
        AezooError: there is no such trial; its architecture, data or device are not here; or the data are others now.
    """
    record = _find(RunDirectory(run), trial)
    if record.plugin.version == NOT_INSTALLED and not plugins:
        found = find_again(record.plugin)
        if found is None:
            raise AezooError(f"{record.trial_id} is of what is not installed: {not_at_hand(record.plugin)}")
        plugins = [found.object.get() if isinstance(found, FromMemory) else str(found)]
    settings = {
        "recipe": record.recipe.change(metrics=[]), "device": record.device, "threads": record.threads,
        "processes": record.processes, "compiled": record.compiled, "plugins": plugins, "block": block,
        "data_dir": data_dir,
    }  # fmt: skip
    observer = _checked(observer) or WarningObserver()
    variant = record.variant if "[" in record.variant else f"{record.variant}[]"
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        request = _request([variant], {**settings, "out": Path(folder) / "run"})
        with open_call(request, observer) as (grid, (chosen,)):
            if grid.info.fingerprint != record.fingerprint:
                raise AezooError(
                    f"cannot repeat {record.trial_id}: the images of {record.dataset.name} are others than it was "
                    f"trained on, or this aezoo reads its recipe otherwise"
                )
            runner = Runner(grid=grid, trackers=Trackers([], observer))
            return repeated(record, runner.rerun(record, grid.repetition(record, chosen)))


def _request(variants: Iterable[Asked] | Request, settings: dict[str, Any]) -> Request:
    if not isinstance(variants, Request):
        return Request.of({"variants": variants, **settings})
    if settings:
        raise AezooError(f"give a Request alone, or its settings; but got one with {', '.join(settings)} beside it")
    return variants


def _write_page(grid: Grid, run: Snapshot) -> None:
    """Write the page of a run; where that cannot be, the run is as good without it."""
    grid.observer.stage("writing the page of the run")
    try:
        page.write(run, keep=lambda places: keep_images(run, places, lambda: grid.shared))
    except Exception as error:  # noqa: BLE001 - whatever it is, the bench has ended, and its records are written
        grid.observer.warn(f"no page of the run: {reason_of(error)}; `aezoo report {run.path}` tries again")


def _find(run: RunDirectory, trial: str) -> TrialRecord:
    records = run.require().records()
    if trial in records:
        return records[trial]
    matches = [name for name in records if name.startswith(trial)]
    if len(matches) == 1:
        return records[matches[0]]
    if matches:
        raise AezooError(f"{trial!r} is the beginning of {len(matches)} trials: {listed(sorted(matches))}; give one")
    raise AezooError(
        f"no trial {trial!r} in {run.path}; its trials are the names in {run.path / 'trials'}."
        + did_you_mean(trial, records)
    )


for _function in (bench, preview):
    document(_function)
