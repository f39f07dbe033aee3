"""Turn a call into a run: `aezoo.bench`. Checks come first, and write nothing; then the grid runs, then the table."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aezoo import machine
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.data import share
from aezoo.contract.dataset import sha256
from aezoo.contract.recipe import Recipe, fingerprint, read_recipe
from aezoo.errors import AezooError
from aezoo.harness import matching
from aezoo.harness.grid import Grid
from aezoo.harness.local import LOCAL, default_jobs, start_server
from aezoo.harness.observer import Observer, Trackers, WarningObserver
from aezoo.harness.preview import Preview
from aezoo.harness.trial import now
from aezoo.registry.names import Registry, discover
from aezoo.registry.outside import check_list, extend
from aezoo.registry.plugin import Plugin
from aezoo.run.records import DatasetInfo, RunInfo, TrialRecord
from aezoo.run.store import RunDirectory
from aezoo.table import render, rows

Asked = str | Path | Callable[..., Any] | Architecture


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: one results directory, and what can be read from it."""

    path: Path

    def table(self) -> pd.DataFrame:
        """Return the table: a row a variant, best first; the columns are described in `aezoo.table.rows`."""
        return rows.summarise(RunDirectory(self.path))

    def records(self) -> list[TrialRecord]:
        """Return the records of all trials that ended."""
        return list(RunDirectory(self.path).records().values())

    @property
    def failed(self) -> bool:
        """Whether some trial that was asked for has no loss."""
        return bool((self.table()["status"] != "ok").any())


def bench(
    variants: Iterable[Asked] = (),
    *,
    every: bool = False,
    plugins: Sequence[str | Path] = (),
    block: Sequence[str] = (),
    recipe: Recipe | str | Path = "default",
    latent_dims: Sequence[int] = (),
    match_params: int | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    executor: str = LOCAL.name,
    threads: int = 1,
    compiled: bool = False,
    timeout: float | None = None,
    timing: bool = True,
    retry_failed: bool = False,
    strict: bool = False,
    observer: Observer | None = None,
) -> Run:
    """Train, score and time variants under identical settings, and write a run.

    Args:
        variants: Names, patterns and variants, such as ``"mlp"``, ``"conv*"``, ``"conv[latent_dim=16]"``; or what is
            not installed: ``"./my_model.py"``, ``"my_package.models:build"``, a function or a class.
        every: All declared variants of all architectures.
        plugins: Files or modules whose plugins take part too, though they are not installed.
        block: Plugins or distributions to be left out.
        recipe: A recipe, the name of a built-in one, or the path of a TOML file.
        latent_dims: Replaces ``latent_dim`` of each architecture that has it.
        match_params: Chooses ``width`` of each architecture that has it, for so many parameters; the observer is told
            what was chosen, and for what there was nothing to choose.
        out: The run's folder; by default one under ``results`` that the recipe's fingerprint names. Trials whose
            records it holds are not run again.
        data_dir: Where data sets are kept; by default the variable AEZOO_DATA_DIR, or a folder in the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        jobs: Trials side by side; by default as many as the cores hold on a CPU, one on an accelerator.
        executor: How trials are run; a plugin may contribute other ways than processes on this machine.
        threads: Threads of a trial on a CPU. Losses of runs with different ones differ in the last digits; so a trial
            with another number of threads is another trial.
        compiled: Whether steps and the timed inference go through ``torch.compile``; that makes another trial too. The
            time to compile is recorded apart.
        timeout: Seconds after which a trial is killed.
        timing: Whether to measure throughput at the end.
        retry_failed: Whether to run trials again whose records say that they failed.
        strict: Whether a plugin that cannot be loaded, or uses what is deprecated, is an error.
        observer: Told what happens; by default, what goes otherwise than asked is a Python warning.

    Raises:
        AezooError: the call was wrong; nothing was written.
        KeyboardInterrupt: after Ctrl-C; the run and its table are valid, and the same call goes on.
    """
    with open_grid(
        variants, every=every, plugins=plugins, block=block, recipe=recipe, latent_dims=latent_dims,
        match_params=match_params, out=out, data_dir=data_dir, device=device, jobs=jobs, executor=executor,
        threads=threads, compiled=compiled, timeout=timeout, retry_failed=retry_failed, strict=strict,
        observer=observer,
    ) as (grid, selected):  # fmt: skip
        try:
            grid.run_trials(selected)
            if timing:
                grid.measure_throughput()
        finally:
            if grid.run.exists:
                render.write(grid.run)
                grid.trackers.run_finished()
    return Run(path=grid.run.path)


def preview(variants: Iterable[Asked] = (), *, timing: bool = True, **settings: Any) -> Preview:
    """Say what `bench` would run with the same arguments, and how long it would take; write nothing.

    Each variant that is to run is built and stepped a few times, in a process of its own.

    Raises:
        AezooError: the call was wrong.
    """
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder, open_grid(variants, **settings) as (grid, selected):
        grid.scratch = Path(folder)
        return grid.preview(selected, timing=timing)


@contextmanager
def open_grid(
    variants: Iterable[Asked],
    *,
    every: bool = False,
    plugins: Sequence[str | Path] = (),
    block: Sequence[str] = (),
    recipe: Recipe | str | Path = "default",
    latent_dims: Sequence[int] = (),
    match_params: int | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    executor: str = LOCAL.name,
    threads: int = 1,
    compiled: bool = False,
    timeout: float | None = None,
    retry_failed: bool = False,
    strict: bool = False,
    observer: Observer | None = None,
) -> Iterator[tuple[Grid, list[Variant]]]:
    """Check a call, load its data, and yield its grid with the variants that it selects. Nothing is written."""
    observer = observer or WarningObserver()
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    sizes = {f"latent_dim {value}": value for value in latent_dims}
    _check_positive(jobs=jobs, threads=threads, timeout=timeout, match_params=match_params, **sizes)
    check_list(block, "plugins to be left out")
    start_server(["torch._inductor.compile_fx"] if compiled else [])
    device = machine.choose_device(device)
    machine.check_precision(recipe.precision, device)
    registry, texts = extend(discover(*block), variants, plugins)
    for told in registry.warnings:
        if strict:
            raise AezooError(f"{told} (--strict)")
        observer.warn(told)
    selected = registry.select(["*", *texts] if every else texts, latent_dims=latent_dims)
    runs_tasks = LOCAL if executor == LOCAL.name else registry.executor(executor)
    metrics = _metrics(recipe.metrics, registry)
    if not selected:
        raise AezooError("nothing to bench: name variants or patterns, or give --all; `aezoo list` shows what there is")
    dataset = registry.dataset(recipe.dataset)
    folder = find_data_dir(data_dir)
    observer.stage(f"loading {recipe.dataset}")
    images = dataset.checked(folder)
    data = DatasetInfo(
        name=recipe.dataset,
        sha256=sha256(images),
        image_shape=images.shape,
        num_train=len(images.train),
        num_test=len(images.test),
    )
    if match_params is not None:
        matches = matching.match_params(selected, match_params, data.image_shape)
        observer.chosen([f"{match_params:,} parameters wanted: {match.told}" for match in matches])
        selected = list({match.chosen.text: match.chosen for match in matches}.values())
    settings = recipe.loss_settings(num_train=data.num_train, dataset_sha256=data.sha256)
    mark = fingerprint(settings)
    run = RunDirectory(out if out is not None else Path("results") / f"{recipe.name}-{recipe.dataset}-{device}-{mark}")
    info = RunInfo(
        recipe=recipe,
        fingerprint=mark,
        loss_settings=settings,
        dataset=data,
        device=device,
        environment=machine.capture(device, threads),
        created_at=now(),
    )
    if run.path.exists() and not run.path.is_dir():
        raise AezooError(f"{run.path} is a file; give a folder with --out")
    if run.exists:
        info = _same_run(run, info)
    with share(images) as shared:
        # From here on the one copy is the shared one.
        del images
        grid = Grid(
            registry=registry, recipe=recipe, run=run, info=info, images=shared, metrics=metrics,
            executor=runs_tasks, trackers=Trackers(registry.plugins, observer),
            jobs=jobs or default_jobs(device, threads), threads=threads, compiled=compiled, timeout=timeout,
            retry_failed=retry_failed, observer=observer,
        )  # fmt: skip
        yield grid, selected


def _metrics(names: Sequence[str], registry: Registry) -> dict[str, Plugin]:
    """Return the plugin of each metric that was asked for.

    Raises:
        AezooError: there is no such metric, or it is asked for twice.
    """
    found = [(name, *registry.metric(name)) for name in names]
    for number, (name, metric, _) in enumerate(found):
        if any(metric is other for _, other, _ in found[:number]):
            raise AezooError(f"the metric {name!r} is asked for twice")
    return {name: plugin for name, _, plugin in found}


def find_data_dir(given: str | Path | None) -> Path:
    """Return the folder of the data sets.

    Raises:
        AezooError: a folder was given that is not there.
    """
    if given is None:
        return Path(os.environ.get("AEZOO_DATA_DIR") or Path.home() / ".cache" / "aezoo")
    path = Path(given)
    if not path.is_dir():
        raise AezooError(f"no folder {path} for data sets (--data-dir); make it, or give one that is there")
    return path


def _same_run(run: RunDirectory, new: RunInfo) -> RunInfo:
    """Return the run's own info, where it was made with the same settings.

    Raises:
        AezooError: it was made with others; they are named.
    """
    old = run.info()
    before, after = ({**info.loss_settings, "device": info.device} for info in (old, new))
    differing = [
        f"{name} {before.get(name)} there, {after.get(name)} asked"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if differing:
        raise AezooError(
            f"{run.path} holds a run of another recipe ({'; '.join(differing)}); give another folder with --out"
        )
    return new.model_copy(update={"created_at": old.created_at})


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value <= 0:
            raise AezooError(f"{name}: must be more than 0, but is {value:g}")
