"""The throughput of a grid's variants, once its trials have ended: on this machine, or on one of the executor's own.

Nothing else of the run runs meanwhile where something is timed. Where that cannot be had there is no figure, and the
run says why.
"""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from aezoo.harness import timing
from aezoo.harness.plan import Grid
from aezoo.harness.tasks import clock, task, versions
from aezoo.run.claim import Claim
from aezoo.run.files import slug
from aezoo.run.records import Timing, TrialPlan, now
from aezoo.run.store import timing_name

WAIT_SECONDS = 1.0
"""Between looks at whether another process has ended to measure."""


def measure_throughput(grid: Grid) -> None:
    """Time each variant that trained and has no timing yet, alone on the device: one process a machine."""
    elsewhere = not grid.executor.shares_files
    name = f"timings-{slug(grid.executor.name if elsewhere else platform.node())}"
    claim = grid.run.claim(name)
    if claim is None:
        grid.observer.stage("waiting for another process that measures throughput")
    while claim is None:
        time.sleep(WAIT_SECONDS)
        claim = grid.run.claim(name)
    try:
        (_measure_elsewhere if elsewhere else _measure_here)(grid, claim)
    finally:
        claim.release()


def _measure_here(grid: Grid, claim: Claim) -> None:
    waiting = grid.untimed()
    if not waiting:
        return
    grid.observer.stage("measuring throughput, one variant at a time")
    for plan, measured in timing.measure(
        {plan.variant: clock(grid, plan) for plan in waiting},
        _reference(grid),
        grid.environment,
        task=partial(task, grid),
        on_visit=grid.observer.timed,
        warn=grid.observer.warn,
    ):
        if not _keep(grid, claim, plan, measured):
            break


def _measure_elsewhere(grid: Grid, claim: Claim) -> None:
    """Have variants timed where the executor runs them, on a machine that does nothing else; or say why not."""
    trained = grid.trained()
    timed = {name: each for name, each in grid.run.timings().items() if each.reason is None}
    environments = dict.fromkeys(each.environment for each in timed.values())
    if any(all(timing_name(plan, env) in timed for plan in trained) for env in environments) or not trained:
        return
    reason = f"the executor {grid.executor.name} has no machine that does nothing else meanwhile"
    if grid.executor.alone is not None:
        grid.observer.stage("measuring throughput, on a machine that does nothing else")
        work = timing.TimeAlone(
            works={plan.variant: clock(grid, plan) for plan in trained}, reference=_reference(grid),
            timed=frozenset(timed), threads=grid.request.threads, versions=versions(grid),
        )  # fmt: skip
        outcome = grid.executor.alone(replace(task(grid, "throughput", work), timeout=None, files=work.files))
        if isinstance(outcome.value, timing.Timed):
            for line in outcome.value.warnings:
                grid.observer.warn(line)
            for plan, measured in outcome.value.timings:
                if not _keep(grid, claim, plan, measured):
                    break
            return
        reason = outcome.reason or outcome.status
    grid.observer.warn(f"no throughput: {reason}")
    _say_why(grid, claim, trained, reason)


def _say_why(grid: Grid, claim: Claim, plans: Sequence[TrialPlan], reason: str) -> None:
    """Write for each variant why it has no throughput."""
    for plan in plans:
        nothing = Timing(
            variant=plan.variant, environment=grid.environment, batch_size=plan.recipe.batch_size,
            precision=plan.recipe.precision, compiled=plan.compiled, train_images_per_s=[], infer_images_per_s=[],
            reason=reason, measured_at=now(),
        )  # fmt: skip
        if not _keep(grid, claim, plan, nothing):
            break


def _keep(grid: Grid, claim: Claim, plan: TrialPlan, measured: Timing) -> bool:
    """Write a timing, if this process still has the claim; say whether it has."""
    if not claim.holds():
        grid.observer.warn("throughput is left: another process measures it")
        return False
    grid.run.write_timing(plan, measured)
    return True


def _reference(grid: Grid) -> timing.TimeVariant | None:
    """Return what times the reference for speeds."""
    reference = grid.registry.speed_reference()
    if reference is None:
        grid.observer.warn("no plugin contributes the reference for speeds: the table has no relative ones")
        return None
    # Never compiled, and by no graph: it is the same reference for all.
    return clock(grid, grid.plan(reference, seed=0).model_copy(update={"compiled": False, "graphs": False}))
