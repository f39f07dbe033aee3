"""Measure throughput when all is quiet: every variant alone on the device, in rounds of random order.

Each round also times the variant that speeds are given relative to, and the product of two matrices: what the device
could do at most.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from aezoo.contract.data import SharedImages
from aezoo.contract.executor import Task
from aezoo.harness.local import run_tasks
from aezoo.harness.trial import now, time_matmul, time_variant
from aezoo.registry.plugin import Origin
from aezoo.run.records import Environment, Timing, TrialPlan

ROUND_SECONDS = 0.2
"""How long one visit times training, and again inference, each after a warm-up of a quarter of it."""
_REFERENCE = "the reference for speeds"
_MATMUL = "the matmul rate"


def visits(num_variants: int) -> int:
    """Return how many processes a round starts."""
    return num_variants + 2 if num_variants else 0


def measure(
    plans: Sequence[TrialPlan],
    reference: TrialPlan | None,
    images: SharedImages,
    environment: Environment,
    *,
    origin_of: Callable[[TrialPlan], Origin],
    make_task: Callable[..., Task],
    on_visit: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> list[tuple[TrialPlan, Timing]]:
    """Time one trial's variant after the other; return the timing of each that could be timed in every round.

    Args:
        plans: One trial of each variant; at least one.
        reference: Timed apart even where its variant is among them, whose row then shows how far two such figures of
            one network lie apart.
        images: The batch comes from the training images.
        environment: Written into each timing.
        origin_of: Returns where the plugin of a plan is had from.
        make_task: Takes an id, a function of `aezoo.harness.trial` and its arguments.
        on_visit: Told how many visits are done, of how many.
        warn: Told what could not be timed.
    """
    recipe, device = plans[0].recipe, plans[0].device
    asked: dict[str, tuple[Any, ...]] = {
        plan.variant: (time_variant, plan, origin_of(plan), images, ROUND_SECONDS) for plan in plans
    }
    asked[_MATMUL] = (time_matmul, recipe.precision, device, ROUND_SECONDS)
    if reference is not None:
        asked[_REFERENCE] = (time_variant, reference, origin_of(reference), images, ROUND_SECONDS)
    names = {
        f"timing-{number}-{name}": name
        for number in range(recipe.timing_rounds)
        for name in random.Random(number).sample(list(asked), len(asked))
    }
    rounds: dict[str, list[Any]] = {name: [] for name in asked}
    tasks = [make_task(task_id, *asked[name]) for task_id, name in names.items()]
    for done, outcome in enumerate(run_tasks(tasks, 1), start=1):
        name = names[outcome.task.id]
        if outcome.status == "ok":
            rounds[name].append(outcome.value)
        else:
            warn(f"{name} could not be timed: {outcome.status}: {outcome.reason}")
        on_visit(done, len(tasks))
    whole = {name: values for name, values in rounds.items() if len(values) == recipe.timing_rounds}
    against = whole.get(_REFERENCE, [])
    return [
        (
            plan,
            Timing(
                variant=plan.variant,
                environment=environment,
                batch_size=recipe.batch_size,
                precision=recipe.precision,
                compiled=plan.compiled,
                train_images_per_s=[train for train, _ in whole[plan.variant] if train is not None],
                infer_images_per_s=[infer for _, infer in whole[plan.variant]],
                reference=reference.variant if reference is not None and against else None,
                reference_train_images_per_s=[train for train, _ in against],
                reference_infer_images_per_s=[infer for _, infer in against],
                matmul_flops_per_s=whole.get(_MATMUL, []),
                measured_at=now(),
            ),
        )
        for plan in plans
        if plan.variant in whole
    ]
