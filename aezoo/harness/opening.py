"""Open a call: check it, load its data, and make its grid. Nothing is written."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aezoo import machine
from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.dataset import DatasetVariant, find_data_dir
from aezoo.contract.executor import Site
from aezoo.contract.hyperparameters import without_folders
from aezoo.contract.metric import Metric
from aezoo.contract.recipe import Recipe, fingerprint
from aezoo.errors import AezooError, another_recipe, nothing_to_bench
from aezoo.harness import matching
from aezoo.harness.images import DatasetImages, ImageSource
from aezoo.harness.local import LOCAL, start_server
from aezoo.harness.observer import Observer
from aezoo.harness.plan import Grid
from aezoo.harness.preflight import Try
from aezoo.harness.prepare import PYTHON, Data, as_path, dataset_text, prepared
from aezoo.harness.request import Request
from aezoo.harness.tasks import try_variants
from aezoo.harness.timing import TimeVariant
from aezoo.harness.trial import TrainAndScore
from aezoo.registry.discovery import discover
from aezoo.registry.names import Registry, is_pattern
from aezoo.registry.outside import asked_with, extend
from aezoo.registry.places import carried, refuse_within_a_file
from aezoo.registry.plugin import Plugin
from aezoo.run.files import require_room
from aezoo.run.records import DatasetInfo, RunInfo, now
from aezoo.run.store import RunDirectory
from aezoo.table.notes import listed

_LATENT = "latent|bottleneck|z_dim|code"
"""What other people call the size of a latent."""


@contextmanager
def tried_grid(request: Request, observer: Observer, *, fits: bool = False) -> Iterator[Grid]:
    """Yield the grid of a call, its trials planned and its variants tried, or closed forms fitted. Nothing is written.

    Raises:
        AezooError: the call was wrong: among others, a variant was named that its own build function refuses.
    """
    with open_call(request, observer) as (grid, selected):
        try_variants(grid, selected, fits=fits)
        refusals = [f"{text}: {said}" for text, variants in grid.named.items() if (said := grid.refusal(variants))]
        if refusals:
            channels, height, width = grid.info.dataset.image_shape
            setting = "image_shape=(channels, height, width)"
            if grid.info.dataset.name.startswith(f"{PYTHON}["):
                setting = "x.reshape(-1, channels, height, width)"
            hint = f"; {setting} makes images of rows" if height == channels == 1 else ""
            raise AezooError(f"not for {channels}x{height}x{width} images: {'; '.join(refusals)}{hint}")
        yield grid


def _tell_undeclared(registry: Registry, request: Request, texts: Sequence[str], observer: Observer) -> None:
    """Tell what declares no variants: of a bench of all as what there is beside, of a pattern as what it left out."""
    if request.every:
        named = {registry.resolve(text).label for text in texts if not is_pattern(text)}
        labels = [label for label in registry.undeclared(["*"]) if label not in named]
        observer.chosen([f"benched by name only (slow, an extra or a control): {', '.join(labels)}"] if labels else [])
        return
    for label in registry.undeclared(texts):
        observer.warn(f"{label} declares no variants, and is left out: name one, {label}[] or {label}[...]")


def _tell_unreached(registry: Registry, selected: Sequence[Variant], request: Request, observer: Observer) -> None:
    """Tell whom the sizes of the latent that were asked for do not reach, and what may be meant."""
    without = [variant for variant in selected if "latent_dim" not in variant.hyperparameters]
    if not request.latent_dims or not without:
        return
    sizes, first = ",".join(map(str, request.latent_dims)), request.latent_dims[0]
    hints = []
    for variant in {variant.label: variant for variant in without}.values():
        meant = next((name for name in variant.hyperparameters if re.search(_LATENT, name)), None)
        if meant is not None:
            asked = asked_with(registry.plugin(variant), variant.label, meant, first)
            hints.append(f"{variant.label} has {meant}: call it latent_dim, or give {asked}")
    observer.warn(
        f"latent sizes {sizes} do not reach {listed(variant.text for variant in without)}: no hyperparameter "
        f"latent_dim{'; ' if hints else ''}{'; '.join(hints[:3])}"
    )


@contextmanager
def open_call(request: Request, observer: Observer) -> Iterator[tuple[Grid, list[Variant]]]:
    """Check a call, load its data, and yield its grid, empty yet, with the variants that it selects."""
    refuse_within_a_file()
    recipe = request.recipe
    require_room(request.out or Path("results"))
    start_server([Try, TrainAndScore, TimeVariant], _preloaded(request))
    registry, texts = extend(discover(*request.block), request.variants, request.plugins)
    for warning in registry.warnings:
        if request.strict:
            raise AezooError(f"{warning} (--strict)")
        observer.warn(warning)
    selected = registry.select(["*", *texts] if request.every else texts, latent_dims=request.latent_dims)
    _tell_undeclared(registry, request, texts, observer)
    _tell_unreached(registry, selected, request, observer)
    declared = LOCAL if request.executor == LOCAL.name else registry.executor(request.executor)
    metrics = _metrics(recipe.metrics, registry)
    if not selected:
        raise nothing_to_bench()
    data_dir = find_data_dir(request.data_dir)
    chosen = recipe.dataset if request.dataset is None else dataset_text(request.dataset, registry, data_dir)
    dataset = registry.dataset(chosen)
    if request.data_dir is not None and dataset.dataset.bundled:
        observer.warn(
            f"--data-dir {request.data_dir} is not used: {dataset.dataset.name} comes with a package, or is made; "
            f"--dataset {as_path(request.data_dir)} takes images of yours"
        )
    dataset = dataset.skipping() if request.skip_bad else dataset
    plugin = registry.dataset_plugin(dataset.text)
    recipe = recipe.change(dataset=dataset.text)
    site = Site(address=request.address, device=request.device, jobs=request.jobs, tell=observer.warn)
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(declared.connected(site))
        device = executor.device or machine.choose_device(request.device)
        if executor.device is None:
            machine.check_precision(recipe.precision, device)
        if executor.device is None and request.threads * request.processes > machine.cores():
            observer.warn(
                f"{request.threads * request.processes} threads a trial on {machine.cores()} cores: they wait for each "
                "other, and a trial takes far longer than on as many threads as cores"
            )
        if request.processes > 1:
            # It is slow to import, and seldom needed.
            from aezoo.harness.processes import check_processes

            check_processes(request, device, here=executor.device is None)
        observer.stage(f"loading {without_folders(dataset.text)}")
        data = stack.enter_context(
            prepared(dataset, data_dir, plugin.source, held_out=recipe.validation, tell=observer.chosen)
        )
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="aezoo-"))
        observer.chosen(data.lines)
        for line in data.facts.warnings:
            observer.warn(line)
        matches = _matched(request, selected, data.image_shape, observer)
        run, info = _run_of(request, _info(recipe, dataset, data, device))
        images: ImageSource = data.shared
        if not (executor.shares_files or executor.carries_files):
            images = DatasetImages(
                name=recipe.dataset, origin=carried(plugin.origin), source=plugin.source, data_dir=data_dir,
                sha256=info.dataset.sha256, held_out=recipe.validation,
            )  # fmt: skip
        named = {
            text: registry.select([text], latent_dims=request.latent_dims) for text in texts if not is_pattern(text)
        }
        grid = Grid(
            request=request, registry=registry, run=run, info=info, metrics=metrics, executor=executor,
            environment=machine.capture(device, request.threads), shared=data.shared, images=images,
            jobs=request.jobs or executor.jobs or machine.default_jobs(device, request.threads * request.processes),
            scratch=Path(scratch), observer=observer,
            named={text: [matches[variant.text].text for variant in some] for text, some in named.items()},
        )  # fmt: skip
        yield grid, list({variant.text: variant for variant in matches.values()}.values())


def _matched(
    request: Request, selected: Sequence[Variant], image_shape: ImageShape, observer: Observer
) -> dict[str, Variant]:
    """Return what is benched for each variant, by its text: itself, or one of as many parameters as were asked for."""
    if request.match_params is None:
        return {variant.text: variant for variant in selected}
    matches = matching.match_params(selected, request.match_params, image_shape)
    observer.chosen([f"{request.match_params:,} parameters wanted: {match.reason}" for match in matches])
    return {variant.text: match.chosen for variant, match in zip(selected, matches, strict=True)}


def _run_of(request: Request, info: RunInfo) -> tuple[RunDirectory, RunInfo]:
    """Return the run that a call goes into, and what it is: that which is there is gone on with.

    Raises:
        AezooError: there is a file, or a run of another recipe.
    """
    run = RunDirectory(request.out or Path("results") / _folder_name(info))
    if run.path.exists() and not run.path.is_dir():
        raise AezooError(f"{run.path} is a file; give a folder with --out")
    return run, _same_run(run, info) if run.exists else info


def _preloaded(request: Request) -> list[str]:
    """Return what the server of trials imports before there is one, for what is asked for."""
    compiled = ["torch._inductor.compile_fx"] if request.compiled else []
    return [*compiled, *(["aezoo.harness.processes"] if request.processes > 1 else [])]


def _info(recipe: Recipe, dataset: DatasetVariant, data: Data, device: str) -> RunInfo:
    """Return what a run is, before anything in it is asked for."""
    facts = DatasetInfo(
        name=recipe.dataset, sha256=data.facts.sha256, image_shape=data.image_shape,
        num_train=data.shared.train_shape[0], num_test=data.shared.test_shape[0], notes=data.facts.notes,
    )  # fmt: skip
    settings = recipe.loss_settings(num_train=facts.num_train, dataset_sha256=facts.sha256, dataset=dataset.identity)
    return RunInfo(
        recipe=recipe, fingerprint=fingerprint(settings), loss_settings=settings, dataset=facts, device=device,
        preprocessing=data.facts.preprocessing, label_names=data.facts.label_names, created_at=now(),
    )  # fmt: skip


def _folder_name(info: RunInfo) -> str:
    data = re.sub(r"[^A-Za-z0-9_.=-]+", "-", without_folders(info.recipe.dataset)).strip("-.")
    return f"{info.recipe.name}-{data[:60]}-{info.device}-{info.fingerprint}"


def _metrics(names: Sequence[str], registry: Registry) -> dict[str, tuple[Metric, Plugin]]:
    """Return each metric that was asked for, and its plugin.

    Raises:
        AezooError: there is no such metric, or it is asked for twice.
    """
    chosen = [(name, registry.metric(name)) for name in names]
    for number, (name, (metric, _)) in enumerate(chosen):
        if any(metric is other for _, (other, _) in chosen[:number]):
            raise AezooError(f"the metric {name!r} is asked for twice")
    return dict(chosen)


def _same_run(run: RunDirectory, new: RunInfo) -> RunInfo:
    """Return the run's own info, where it was made with the same settings.

    Raises:
        AezooError: it was made with others; they are named.
    """
    old = run.info()
    before, after = ({**info.loss_settings, "device": info.device} for info in (old, new))
    if error := another_recipe(run.path, before, after):
        raise error
    return new.model_copy(update={"created_at": old.created_at})
