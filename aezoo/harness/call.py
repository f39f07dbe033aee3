"""`aezoo check`: run the conformance suite, a process for each variant and image shape, and make a card of it."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aezoo import machine
from aezoo.check.card import Card
from aezoo.check.suite import IMAGE_SHAPES, Finding, variants_of
from aezoo.contract.architecture import Architecture, ImageShape, Variant
from aezoo.contract.dataset import sha256, share
from aezoo.contract.executor import Task
from aezoo.contract.recipe import Recipe, fingerprint, read_recipe
from aezoo.errors import AezooError, did_you_mean
from aezoo.harness import matching
from aezoo.harness.local import LOCAL, run_tasks, start_server
from aezoo.harness.observer import Observer, Trackers, WarningObserver
from aezoo.harness.plan import Preview
from aezoo.harness.runner import Grid
from aezoo.harness.trial import check_variant
from aezoo.machine import default_jobs
from aezoo.registry.names import Registry, discover
from aezoo.registry.outside import check_list, extend
from aezoo.registry.plugin import Plugin
from aezoo.run.records import DatasetInfo, Repetition, RunInfo, TrialRecord, now, repeated
from aezoo.run.store import RunDirectory
from aezoo.table import render, rows

TIMEOUT = 300.0
"""Seconds for the suite on one variant and image shape."""


def check(texts: Iterable[str], registry: Registry, *, image_shapes: Sequence[ImageShape] = IMAGE_SHAPES) -> list[Card]:
    """Check architectures, patterns, variants, or all that a distribution contributes; a card an architecture.

    Raises:
        AezooError: nothing is called so.
    """
    chosen = {variant.text: variant for text in texts for variant in _chosen(text, registry)}
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        tasks = {
            f"{number}": (variant, shape)
            for number, (variant, shape) in enumerate(
                (variant, shape) for variant in chosen.values() for shape in image_shapes
            )
        }
        outcomes = run_tasks(
            [
                Task(
                    id=task_id, function=check_variant, args=(variant.text, registry.plugin(variant).origin, shape),
                    threads=1, output=Path(folder) / task_id / "output.txt", timeout=TIMEOUT,
                )
                for task_id, (variant, shape) in tasks.items()
            ],
            default_jobs("cpu"),
        )  # fmt: skip
        found = {outcome.task.id: outcome for outcome in outcomes}
    findings: dict[str, list[Finding]] = {}
    for task_id, (variant, shape) in tasks.items():
        outcome = found[task_id]
        dead = Finding(
            check="process", variant=variant.text, image_shape=shape, status="failed",
            told=f"{outcome.status}: {outcome.reason}",
        )  # fmt: skip
        findings.setdefault(variant.label, []).extend(outcome.value if outcome.status == "ok" else [dead])
    return [
        Card(
            architecture=label,
            summary=registry.architectures[label][0].summary,
            plugin=registry.architectures[label][1].source,
            findings=some,
        )
        for label, some in findings.items()
    ]


def _chosen(text: str, registry: Registry) -> list[Variant]:
    """Return the variants that a text stands for: also the defaults, and all of a distribution's."""
    of_distribution = [label for label, (_, plugin) in registry.architectures.items() if plugin.distribution == text]
    named = [label for label in registry.architectures if label == text]
    if labels := named or of_distribution:
        return [variant for label in labels for variant in variants_of(registry.architectures[label][0], label)]
    found = registry.select([text])
    if "[" in text:
        return found
    labels = list(dict.fromkeys(variant.label for variant in found))
    return [variant for label in labels for variant in variants_of(registry.architectures[label][0], label)]


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


def reproduce(
    run: str | Path,
    trial: str,
    *,
    plugins: Sequence[str | Path] = (),
    block: Sequence[str] = (),
    data_dir: str | Path | None = None,
    observer: Observer | None = None,
) -> Repetition:
    """Run a trial again from its record: the same variant, recipe, seed, device, threads. The run stays as it is.

    Args:
        run: The run's folder.
        trial: The trial's id, or its beginning where that is enough.
        plugins: Files or modules of plugins that are not installed, as for `bench`.
        block: Plugins or distributions to be left out, as for `bench`.
        data_dir: Where data sets are kept, as for `bench`.
        observer: Told what happens.

    Raises:
        AezooError: there is no such trial; its architecture, data or device are not here; or the data are others now.
    """
    record = _find(RunDirectory(run), trial)
    with (
        tempfile.TemporaryDirectory(prefix="aezoo-") as folder,
        open_grid(
            [record.variant if "[" in record.variant else f"{record.variant}[]"], plugins=plugins, block=block,
            recipe=record.recipe.change(metrics=[]), out=Path(folder) / "run", data_dir=data_dir,
            device=record.device, threads=record.threads, compiled=record.compiled, observer=observer,
        ) as (grid, (variant,)),
    ):  # fmt: skip
        if grid.info.fingerprint != record.fingerprint:
            raise AezooError(
                f"cannot repeat {record.trial_id}: the images of {record.dataset.name} are others than it was trained "
                f"on, or this aezoo reads its recipe otherwise"
            )
        after = grid.rerun(variant, record.seed, grid.run.path)
    return repeated(record, after)


def _find(run: RunDirectory, trial: str) -> TrialRecord:
    records = run.require().records()
    if trial in records:
        return records[trial]
    found = [one for one in records if one.startswith(trial)]
    if len(found) == 1:
        return records[found[0]]
    if found:
        raise AezooError(f"{trial!r} is the beginning of {len(found)} trials: {', '.join(sorted(found))}; give one")
    raise AezooError(
        f"no trial {trial!r} in {run.path}; its trials are the names in {run.path / 'trials'}."
        + did_you_mean(trial, records)
    )
