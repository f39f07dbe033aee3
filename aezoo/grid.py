"""The grid of trials of one bench: what is tried, planned, run and timed, and in which order.

How a trial runs is another module's business; so are the recipe and the data, which come in whole.
"""

import random
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aezoo import environment
from aezoo.architecture import Variant
from aezoo.data import SharedImages
from aezoo.execution import Outcome, Task, run_tasks
from aezoo.recipe import Recipe
from aezoo.records import Preflight, RunInfo, Timing, TrialPlan, TrialRecord
from aezoo.registry import Registry
from aezoo.store import RunDirectory, digest, slug
from aezoo.trial import now, record_of, run_trial, time_variant, try_variant

THREADS = 1
"""Threads of a trial on a CPU: so that a loss does not depend on how many trials run beside it."""
ROUND_SECONDS = 0.1
"""How long one round times training, and again inference, after a warm-up of a quarter of it."""


class Observer:
    """Told what a bench does, as it does it; it does nothing about it. Subclass it to show or log."""

    def warn(self, text: str) -> None:
        """Something that the user should know went otherwise than asked."""

    def stage(self, text: str) -> None:
        """A part of the bench begins."""

    def requested(self, run: Path, variants: Sequence[str]) -> None:
        """The run's folder is there; these variants were asked for, their baselines among them."""

    def planned(self, plans: Sequence[TrialPlan], seconds: dict[str, float]) -> None:
        """These trials will run, in this order; `seconds` estimates each, by trial id."""

    def started(self, plan: TrialPlan) -> None:
        """A trial starts."""

    def stepped(self, plan: TrialPlan, steps: int) -> None:
        """A trial has taken so many steps."""

    def ended(self, record: TrialRecord) -> None:
        """A trial ended, and its record is written."""

    def timed(self, done: int, total: int) -> None:
        """So many measurements of throughput are done."""


@dataclass(kw_only=True)
class Grid:
    """The trials of one call, from their plan to their timings."""

    registry: Registry
    recipe: Recipe
    run: RunDirectory
    info: RunInfo
    images: SharedImages
    jobs: int
    timeout: float | None
    retry_failed: bool
    observer: Observer
    plans: list[TrialPlan] = field(default_factory=list)
    records: dict[str, TrialRecord] = field(default_factory=dict)
    known: dict[str, Preflight | Outcome] = field(default_factory=dict)

    def run_trials(self, selected: Sequence[Variant]) -> None:
        """Try each variant, plan the trials of those and of their baselines, and run what is missing."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.records = self.run.records()
        for warning in caught:
            self.observer.warn(str(warning.message))
        self._plan(selected)
        self._plan(self._baselines())
        self._request()
        waiting = [plan for plan in self.plans if self._is_missing(plan)]
        seconds = {plan.trial_id: self._estimate(plan) for plan in waiting}
        # Seed 0 of every variant first, so that a whole table stands early. In a seed the baselines first: they take no
        # time, so that there is something to read against; then the longest, so that no core idles at the end.
        waiting.sort(key=lambda plan: (plan.seed, plan.baseline is None, -seconds[plan.trial_id]))
        self.observer.planned(waiting, seconds)
        for plan in waiting:
            known = self.known[plan.variant]
            if isinstance(known, Outcome):
                self._end(_record_of_a_failure(plan, None, known, now()))
        waiting = [plan for plan in waiting if isinstance(self.known[plan.variant], Preflight)]
        by_id = {plan.trial_id: plan for plan in waiting}
        started: dict[str, str] = {}

        def on_start(task: Task) -> None:
            started[task.id] = now()
            self.observer.started(by_id[task.id])

        def on_step(task: Task, steps: int) -> None:
            self.observer.stepped(by_id[task.id], steps)

        tasks = [
            self._task(plan.trial_id, run_trial, plan, self.known[plan.variant], self.images, self.run.path.absolute())
            for plan in waiting
        ]
        for outcome in run_tasks(tasks, self.jobs, on_start, on_step):
            plan = by_id[outcome.task.id]
            if isinstance(outcome.value, TrialRecord):
                self._end(outcome.value, written=True)
            else:
                known = self.known[plan.variant]
                preflight = known if isinstance(known, Preflight) else None
                self._end(_record_of_a_failure(plan, preflight, outcome, started[plan.trial_id]))

    def measure_throughput(self) -> None:
        """Time each variant that trained, alone on the device, in rounds of random order."""
        first = {plan.variant: plan for plan in reversed(self.plans) if self._succeeded(plan)}
        waiting = [plan for plan in first.values() if self.run.read_timing(plan, self.info.environment) is None]
        total = len(waiting) * self.recipe.timing_rounds
        if not total:
            return
        self.observer.stage("measuring throughput, one variant at a time")
        rounds: dict[str, list[tuple[float | None, float]]] = {plan.variant: [] for plan in waiting}
        by_task = {}
        tasks = []
        for number in range(self.recipe.timing_rounds):
            for plan in random.Random(number).sample(waiting, len(waiting)):
                task = self._task(f"timing-{number}-{plan.trial_id}", time_variant, plan, self.images, ROUND_SECONDS)
                tasks.append(task)
                by_task[task.id] = plan
        for done, outcome in enumerate(run_tasks(tasks, 1, lambda _: None, lambda *_: None), start=1):
            plan = by_task[outcome.task.id]
            if outcome.status == "ok":
                rounds[plan.variant].append(outcome.value)
            else:
                self.observer.warn(f"{plan.variant} could not be timed: {outcome.status}: {outcome.reason}")
            self.observer.timed(done, total)
        for plan in waiting:
            measured = rounds[plan.variant]
            if len(measured) == self.recipe.timing_rounds:
                timing = Timing(
                    variant=plan.variant,
                    environment=environment.capture(plan.device, plan.threads),
                    batch_size=plan.recipe.batch_size,
                    precision=plan.recipe.precision,
                    train_images_per_s=[train for train, _ in measured if train is not None],
                    infer_images_per_s=[infer for _, infer in measured],
                    measured_at=now(),
                )
                self.run.write_timing(plan, timing)

    def _plan(self, variants: Iterable[Variant]) -> None:
        """Add the trials of these variants, and find out about those that are to run."""
        planned = {plan.variant for plan in self.plans}
        new = [variant for variant in variants if variant.text not in planned]
        plans = [self._plan_trial(variant, seed) for variant in new for seed in range(self.recipe.seeds)]
        self.plans += plans
        missing = {plan.variant for plan in plans if self._is_missing(plan)}
        tasks = [
            self._task(variant.text, try_variant, variant.text, self.recipe, self.images, self.info.device)
            for variant in new
            if variant.text in missing
        ]
        if tasks:
            self.observer.stage(f"trying {len(tasks)} variants before the bench")
        for outcome in run_tasks(tasks, self.jobs, lambda _: None, lambda *_: None):
            self.known[outcome.task.id] = outcome.value if isinstance(outcome.value, Preflight) else outcome

    def _plan_trial(self, variant: Variant, seed: int) -> TrialPlan:
        source = self.registry.origin(variant)
        environs = self.info.environment
        # Whatever can change a loss is in the name: a changed plugin or another torch never passes for the same trial.
        key = digest(
            variant.text,
            self.info.fingerprint,
            seed,
            source.source_sha256,
            environs.aezoo,
            environs.torch,
            self.info.device,
            THREADS,
        )
        return TrialPlan(
            trial_id=f"{slug(variant.text)}-s{seed}-{key}",
            architecture=variant.architecture.name,
            variant=variant.text,
            hyperparameters=dict(variant.hyperparameters),
            baseline=variant.architecture.baseline,
            plugin=source,
            recipe=self.recipe,
            fingerprint=self.info.fingerprint,
            dataset=self.info.dataset,
            seed=seed,
            device=self.info.device,
            threads=THREADS,
        )

    def _baselines(self) -> list[Variant]:
        """Return the mean image, and PCA at each latent size of the variants: every table carries them."""
        sizes = {size for plan in self.plans if (size := self._latent_size(plan))}
        channels, height, width = self.info.dataset.image_shape
        possible = {size for size in sizes if size <= channels * height * width}
        for size in sorted(sizes - possible):
            self.observer.warn(f"no PCA at latent size {size}: an image has only {channels * height * width} pixels")
        found = []
        for kind, settings in (("mean", [""]), ("pca", [f"[latent_dim={size}]" for size in sorted(possible)])):
            label = self.registry.baseline(kind)
            if label is None:
                self.observer.warn(f"no plugin contributes the baseline {kind!r}: the table goes without it")
            else:
                found += [self.registry.resolve(label + text) for text in settings]
        return found

    def _latent_size(self, plan: TrialPlan) -> int | None:
        known = self.known.get(plan.variant)
        if isinstance(known, Preflight):
            return known.latent_size
        record = self.records.get(plan.trial_id)
        return record.latent_size if record else None

    def _request(self) -> None:
        """Write into run.json what this call asks for."""
        variants = dict.fromkeys(plan.variant for plan in self.plans)
        ids = {name: [plan.trial_id for plan in self.plans if plan.variant == name] for name in variants}
        self.run.request(self.info, ids)
        self.observer.requested(self.run.path, list(variants))

    def _is_missing(self, plan: TrialPlan) -> bool:
        record = self.records.get(plan.trial_id)
        return record is None or (self.retry_failed and record.status != "ok")

    def _succeeded(self, plan: TrialPlan) -> bool:
        record = self.records.get(plan.trial_id)
        return record is not None and record.status == "ok"

    def _estimate(self, plan: TrialPlan) -> float:
        known = self.known[plan.variant]
        steps = self.recipe.num_steps(self.info.dataset.num_train)
        return 0.5 + (known.step_seconds * steps if isinstance(known, Preflight) else 0.0)

    def _task(self, task_id: str, function: Callable[..., object], *args: object) -> Task:
        output = self.run.artifacts(slug(task_id) if function is not run_trial else task_id) / "output.txt"
        return Task(
            id=task_id, function=function, args=args, threads=THREADS, output=output.absolute(), timeout=self.timeout
        )

    def _end(self, record: TrialRecord, *, written: bool = False) -> None:
        if not written:
            self.run.write_record(record)
        self.records[record.trial_id] = record
        self.observer.ended(record)


def _record_of_a_failure(plan: TrialPlan, known: Preflight | None, outcome: Outcome, started_at: str) -> TrialRecord:
    """Return the record of a trial whose process, or the one that tried its variant, did not come to write one."""
    return record_of(plan, known, started_at, status=outcome.status, reason=outcome.reason, traceback=outcome.traceback)
