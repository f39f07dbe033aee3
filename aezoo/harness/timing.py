"""The only clocks, and when they run. Nothing of a plugin runs in them but the network's own forward and backward.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from aezoo import machine
from aezoo.contract.executor import Progress, Report, Task, Work
from aezoo.contract.network import is_closed_form
from aezoo.contract.recipe import Layout, Precision, Recipe
from aezoo.harness.images import ImagesWork
from aezoo.harness.local import run_tasks
from aezoo.machine import Environment
from aezoo.registry.discovery import find
from aezoo.registry.plugin import Origin
from aezoo.run.records import Timing, TrialPlan, now
from aezoo.run.store import timing_name
from aezoo.train.build import build
from aezoo.train.engine import Trainer, arithmetic, whole_batch
from aezoo.train.graph import GRAPH_STEPS, GraphedSteps
from aezoo.train.layout import lay_out

ROUND_SECONDS = 0.2
"""How long one visit times training, and again inference, each after a warm-up of a quarter of it. How many rounds
there are, the recipe says (`timing_rounds`)."""
BLOCKS = 5
"""A visit of the clocks times so many blocks, and takes the median: a short disturbance spoils one of them."""
_REFERENCE = "the reference for speeds"
_MATMUL = "the matmul rate"
VISIBILITY = ("CUDA_VISIBLE_DEVICES",)
"""Variables that say which accelerators a process sees."""


def synchronise(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device != "cpu":
        torch.accelerator.synchronize()


def train_images_per_s(
    module: nn.Module,
    images_NCHW: Tensor,
    recipe: Recipe,
    seconds: float,
    device: str,
    *,
    compiled: bool = False,
    graphed: bool = False,
) -> float:
    """Time training steps, as the training loop takes them, for about `seconds` after a warm-up."""
    trainer = Trainer(module, recipe, compiled=compiled)
    if graphed:
        numbers = torch.arange(recipe.batch_size, device=images_NCHW.device)
        batches = [images_NCHW[numbers % len(images_NCHW)]] * GRAPH_STEPS
        steps = GraphedSteps(trainer)
        steps.take(batches)
        return recipe.batch_size * GRAPH_STEPS * calls_per_s(lambda: steps.take(batches), seconds, device)
    x_BCHW = whole_batch(images_NCHW, recipe)
    return recipe.batch_size * calls_per_s(lambda: trainer.step(x_BCHW), seconds, device)


def infer_images_per_s(
    module: nn.Module, images_NCHW: Tensor, recipe: Recipe, seconds: float, device: str, *, compiled: bool = False
) -> float:
    """Time reconstruction in evaluation mode, a batch of the recipe's size at a time."""
    module.eval()
    forward = torch.compile(module) if compiled else module
    x_BCHW = whole_batch(images_NCHW, recipe)
    with torch.no_grad(), arithmetic(recipe.precision, torch.device(device).type):
        return recipe.batch_size * calls_per_s(lambda: forward(x_BCHW), seconds, device)


def matmul_flops_per_s(precision: Precision, seconds: float, device: str) -> float:
    """Time the product of two square matrices, which no network's arithmetic can be faster than; FLOPs a second."""
    side = 1024 if device == "cpu" else 8192
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    if precision == "bfloat16":
        a, b = a.bfloat16(), b.bfloat16()
    with torch.no_grad(), arithmetic(precision, torch.device(device).type):
        return 2 * side**3 * calls_per_s(lambda: a @ b, seconds, device)


def calls_per_s(call: Callable[[], object], seconds: float, device: str) -> float:
    """Time a call over and over, for about `seconds` after a warm-up; what it left on the device is waited for."""
    call()  # Whatever a first call does beside its work, compiling perhaps, is over.
    synchronise(device)
    started = time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - started < seconds / 4:
        call()
        calls += 1
    synchronise(device)
    # The warm-up says how many calls fill a block, so that no clock is read between them.
    calls = max(1, round(calls * seconds / BLOCKS / (time.perf_counter() - started)))
    blocks = []
    for _ in range(BLOCKS):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        synchronise(device)
        blocks.append(time.perf_counter() - started)
    return calls / statistics.median(blocks)


def visits(num_variants: int) -> int:
    """Return how many processes a round starts."""
    return num_variants + 2 if num_variants else 0


@dataclass(frozen=True, kw_only=True)
class TimeVariant(ImagesWork):
    """Measure one round of a variant's throughput.

    `graphed` says whether a CUDA graph takes the steps.
    """

    plan: TrialPlan
    layout: Layout
    origin: Origin
    graphed: bool = False

    def run(self, report: Report) -> tuple[float | None, float]:  # noqa: ARG002 - its steps are none of a trial
        """Return the speeds of training (None where it has none) and of inference, images/s."""
        plan = self.plan
        train_NCHW, _ = self.images.load()
        pixels = train_NCHW[: plan.recipe.batch_size].to(plan.device)
        module = lay_out(build(find(plan.variant, self.origin, plan.plugin), pixels, plan.seed), self.layout)
        clocked = (module, pixels, plan.recipe, ROUND_SECONDS, plan.device)
        if is_closed_form(module):
            return None, infer_images_per_s(*clocked, compiled=plan.compiled)
        training = train_images_per_s(*clocked, compiled=plan.compiled, graphed=self.graphed)
        return training, infer_images_per_s(*clocked, compiled=plan.compiled)


@dataclass(frozen=True, kw_only=True)
class TimeMatmul:
    """Measure one round of what the device can do at most."""

    precision: Precision
    device: str

    def run(self, report: Report) -> float:  # noqa: ARG002 - it takes no steps
        """Return FLOPs a second."""
        return matmul_flops_per_s(self.precision, ROUND_SECONDS, self.device)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was timed on a machine, in which environment, and a line on each thing that could not be."""

    environment: Environment
    timings: tuple[tuple[TrialPlan, Timing], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TimeAlone:
    """Time variants on another machine than the bench's, where nothing else runs meanwhile.

    `timed` are the names of the timings that the run has, of which none is made again; the other arguments are those of
    `measure`.
    """

    works: Mapping[str, TimeVariant]
    reference: TimeVariant | None
    timed: frozenset[str]
    threads: int
    versions: tuple[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """What they read of the disk of the machine on which the bench was called."""
        return tuple(dict.fromkeys(path for work in self.works.values() for path in work.files))

    def moved(self, places: Mapping[Path, Path]) -> Self:
        """Return the same work, with its files in other places."""
        works = {name: work.moved(places) for name, work in self.works.items()}
        return replace(self, works=works, reference=self.reference and self.reference.moved(places))

    def run(self, report: Report) -> Timed:
        """Return what was timed; what is reported is the number of visits.

        Raises:
            UnfitError: this machine has other software, or no such device.
        """
        machine.require_versions(self.versions)
        device = next(iter(self.works.values())).plan.device
        machine.require_device(device, next(iter(self.works.values())).plan.recipe.precision)
        environment = machine.capture(device, self.threads)
        waiting = {
            name: work for name, work in self.works.items() if timing_name(work.plan, environment) not in self.timed
        }
        warnings: list[str] = []
        # Their processes come from a server that may have been started under another visibility of devices.
        variables = {name: os.environ.get(name) for name in VISIBILITY}
        timings = measure(
            waiting, self.reference, environment,
            task=lambda task_id, work: Task(id=task_id, work=work, threads=self.threads, environment=variables),
            on_visit=lambda done, _: report(Progress(steps=done)), warn=warnings.append,
        ) if waiting else []  # fmt: skip
        return Timed(environment=environment, timings=tuple(timings), warnings=tuple(warnings))


def measure(
    works: Mapping[str, TimeVariant],
    reference: TimeVariant | None,
    environment: Environment,
    *,
    task: Callable[[str, Work], Task],
    on_visit: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> list[tuple[TrialPlan, Timing]]:
    """Time one variant after the other; return the timing of each that could be timed in every round.

    Args:
        works: What times each variant, by its text; at least one.
        reference: Timed apart even where its variant is among them, whose row then shows how far two such figures of
            one network lie apart.
        environment: Written into each timing.
        task: Makes a task of an id and a work.
        on_visit: Takes how many visits are done, of how many.
        warn: Takes a line on what could not be timed.
    """
    plans = [work.plan for work in works.values()]
    recipe, device = plans[0].recipe, plans[0].device
    clocked: dict[str, Work] = {**works, _MATMUL: TimeMatmul(precision=recipe.precision, device=device)}
    if reference is not None:
        clocked[_REFERENCE] = reference
    names = {
        f"timing-{number}-{name}": name
        for number in range(recipe.timing_rounds)
        for name in random.Random(number).sample(list(clocked), len(clocked))
    }
    rounds: dict[str, list[Any]] = {name: [] for name in clocked}
    tasks = [task(task_id, clocked[name]) for task_id, name in names.items()]
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
                graph_steps=GRAPH_STEPS if works[plan.variant].graphed else None,
                train_images_per_s=[train for train, _ in whole[plan.variant] if train is not None],
                infer_images_per_s=[infer for _, infer in whole[plan.variant]],
                reference=reference.plan.variant if reference is not None and against else None,
                reference_train_images_per_s=[train for train, _ in against],
                reference_infer_images_per_s=[infer for _, infer in against],
                matmul_flops_per_s=whole.get(_MATMUL, []),
                measured_at=now(),
            ),
        )
        for plan in plans
        if plan.variant in whole
    ]
