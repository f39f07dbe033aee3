"""What a grid hands to its executor: tries, trials, metrics and clocks, each as a task that says what it takes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aezoo.contract.architecture import Variant
from aezoo.contract.executor import Needs, Task, Work
from aezoo.contract.recipe import Layout
from aezoo.harness.images import ImagesWork
from aezoo.harness.plan import Grid
from aezoo.harness.preflight import Try
from aezoo.harness.timing import TimeVariant
from aezoo.harness.trial import Measure, TrainAndScore
from aezoo.registry.places import carried
from aezoo.registry.plugin import Origin, Plugin
from aezoo.run.files import digest, slug
from aezoo.run.records import Preflight, TrialPlan


def try_variants(grid: Grid, variants: Sequence[Variant], *, fits: bool = False) -> None:
    """Plan the trials of variants and of their baselines, and try each variant that has some to run.

    Args:
        grid: It has no plans yet.
        variants: What was asked for.
        fits: Whether trying a closed form fits it.
    """
    grid.records = grid.reading(grid.run.records)
    _try(grid, grid.add(variants), fits)
    # At which latent sizes PCA is to stand beside them, the tries have told.
    _try(grid, grid.add(grid.baselines()), fits)


def _try(grid: Grid, variants: Sequence[Variant], fits: bool) -> None:
    """Try variants, and plan a trial of each learning rate that those of them choose from which are trained."""
    if variants:
        grid.observer.stage(f"trying {len(variants)} variant{'s' * (len(variants) > 1)} before the bench")
    for outcome in grid.executor.outcomes([_try_task(grid, variant, fits) for variant in variants], grid.jobs):
        grid.preflights[outcome.task.id] = outcome.value if isinstance(outcome.value, Preflight) else outcome
    for variant in variants:
        preflight = grid.preflights.get(variant.text)
        if isinstance(preflight, Preflight) and not preflight.closed_form:
            grid.tries += grid.plan_tries(variant)


def _try_task(grid: Grid, variant: Variant, fits: bool) -> Task:
    plugin, request = grid.registry.plugin(variant), grid.request
    work = Try(
        variant=variant.text, origin=_origin(grid, plugin), source=plugin.source, versions=versions(grid),
        recipe=grid.info.recipe, images=grid.images, device=grid.info.device, compiled=request.compiled, fits=fits,
        resumes=request.checkpoint_minutes is not None, processes=request.processes, graphed=request.graphs,
    )  # fmt: skip
    return task(grid, variant.text, work, software=str(plugin))


def trial_task(
    grid: Grid, plans: Sequence[TrialPlan], output: Path | None = None, layout: Layout | None = None
) -> Task:
    """Return the task that trains and scores one variant, from the seed of each plan.

    Its network lies in memory as the preflight found, where there was one, or as `layout` says.
    """
    plan = plans[0]
    preflight = grid.preflights.get(plan.variant)
    plugin = _plugin(grid, plan)
    work = TrainAndScore(
        plans=tuple(plans),
        origin=_origin(grid, plugin),
        preflight=preflight if isinstance(preflight, Preflight) else None,
        layout=layout or grid.layout(plan),
        images=grid.images,
        choice=grid.choice,
        environment=grid.environment if grid.executor.shares_files else None,
        versions=versions(grid),
        # Metrics are computed from them: what is not wanted is dropped when that is done.
        keeps_weights=grid.request.weights != "none" or bool(grid.metrics),
        checkpoint_seconds=_checkpoint_seconds(grid, plans),
    )
    trial = task(
        grid, plan.trial_id, work, output, processes=work.processes, software=str(plugin),
        needs=_needs(grid, plan, len(plans)),
    )  # fmt: skip
    return replace(trial, timeout=trial.timeout and len(plans) * trial.timeout)


def measure_task(grid: Grid, plan: TrialPlan, names: Sequence[str], output: Path) -> Task:
    """Return the task that computes metrics, by their names, from the weights that a trial kept."""
    record = grid.records[plan.trial_id]
    plugins = {name: grid.metrics[name][1] for name in names}
    work = Measure(
        record=record, origin=_origin(grid, _plugin(grid, plan)), weights=grid.run.weights_path(plan.trial_id),
        images=grid.images, versions=versions(grid),
        metrics={name: (_origin(grid, plugin), plugin.source) for name, plugin in plugins.items()},
    )  # fmt: skip
    software = ", ".join(dict.fromkeys([record.plugin.distribution, *map(str, plugins.values())]))
    return task(grid, plan.trial_id, work, output, software=software, needs=_needs(grid, plan))


def clock(grid: Grid, plan: TrialPlan) -> TimeVariant:
    """Return the work that times the variant of a plan."""
    facts = grid.facts(plan)
    return TimeVariant(
        plan=plan, layout=grid.layout(plan), origin=_origin(grid, _plugin(grid, plan)), images=grid.images,
        graphed=plan.graphs and facts is not None and facts.graph_steps is not None,
    )  # fmt: skip


def task(
    grid: Grid,
    task_id: str,
    work: Work,
    output: Path | None = None,
    *,
    processes: int = 1,
    software: str = "",
    needs: Needs | None = None,
) -> Task:
    """Return a task of a call; what it prints goes into the scratch folder, or into `output`."""
    output = output or grid.scratch / f"{slug(task_id)}-{digest(task_id)}" / "output.txt"
    return Task(
        id=task_id, work=work, threads=grid.request.threads, processes=processes, output=output.absolute(),
        timeout=grid.request.timeout, files=work.files if isinstance(work, ImagesWork) else (), software=software,
        needs=needs or Needs(device=grid.info.device),
    )  # fmt: skip


def versions(grid: Grid) -> tuple[str, str]:
    """Return the versions of aezoo and torch that a call is made with."""
    return grid.environment.aezoo, grid.environment.torch


def _needs(grid: Grid, plan: TrialPlan, trials: int = 1) -> Needs:
    """Return what so many trials side by side take of a machine, by what their preflight measured."""
    preflight = grid.preflights.get(plan.variant)
    if not isinstance(preflight, Preflight):
        return Needs(device=grid.info.device)
    return Needs(
        device=grid.info.device, memory_bytes=preflight.peak_memory_bytes,
        device_memory_bytes=preflight.peak_device_memory_bytes and trials * preflight.peak_device_memory_bytes,
    )  # fmt: skip


def _checkpoint_seconds(grid: Grid, plans: Sequence[TrialPlan]) -> float | None:
    """Return how often a task of trials makes checkpoints; None where it has several, or cannot be resumed."""
    preflight = grid.preflights.get(plans[0].variant)
    if not isinstance(preflight, Preflight) or preflight.resumable is not True or len(plans) > 1:
        return None
    return grid.request.checkpoint_minutes and 60 * grid.request.checkpoint_minutes


def _plugin(grid: Grid, plan: TrialPlan) -> Plugin:
    return grid.registry.plugin(grid.registry.resolve(plan.variant))


def _origin(grid: Grid, plugin: Plugin) -> Origin:
    """Return where a task has a plugin from, wherever it runs."""
    return plugin.origin if grid.executor.shares_files else carried(plugin.origin)
