"""The grid of trials of one bench: what is tried, planned, run and timed, and in which order.

How a trial runs is another module's business; so are the recipe and the data, which come in whole.
"""

import contextlib
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from aezoo.contract.architecture import Variant
from aezoo.contract.dataset import SharedImages
from aezoo.contract.executor import Executor, Outcome, Task
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError
from aezoo.harness.observer import Observer, Trackers
from aezoo.harness.plan import Preview, PreviewRow
from aezoo.harness.timing import ROUND_SECONDS, measure, visits
from aezoo.harness.trial import run_trial, try_variant
from aezoo.registry.names import Registry
from aezoo.registry.plugin import Origin, Plugin
from aezoo.run.records import Preflight, RunInfo, TrialPlan, TrialRecord, identity, now, record_of, repeated
from aezoo.run.store import Claim, RunDirectory, digest, slug

T = TypeVar("T")
WAIT_SECONDS = 1.0
"""Between looks at what other processes do with the same run."""
START_SECONDS = 0.3
"""What a trial costs beside its steps: a process, its evaluation, its record. For estimates only."""


@dataclass(kw_only=True)
class Grid:
    """The trials of one call, from their plan to their timings."""

    registry: Registry
    recipe: Recipe
    run: RunDirectory
    info: RunInfo
    images: SharedImages
    metrics: Mapping[str, Plugin]
    executor: Executor
    trackers: Trackers
    jobs: int
    threads: int
    compiled: bool
    timeout: float | None
    retry_failed: bool
    observer: Observer
    scratch: Path | None = None
    """Takes what tasks print, in place of the run, where nothing may be written into the run."""
    plans: list[TrialPlan] = field(default_factory=list)
    records: dict[str, TrialRecord] = field(default_factory=dict)
    known: dict[str, Preflight | Outcome] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def run_trials(self, selected: Sequence[Variant]) -> None:
        """Try each variant, plan the trials of those and of their baselines, and run what is missing."""
        self._read_records()
        before = self.run.info().requested if self.run.exists else {}
        self._plan_all(selected)
        if before and any(plan.variant not in before and self._is_missing(plan) for plan in self.plans):
            self._repeat_anchors([trial_id for trial_ids in before.values() for trial_id in trial_ids])
        self._request()
        waiting = [plan for plan in self.plans if self._is_missing(plan)]
        seconds = {plan.trial_id: self._estimate(plan) for plan in waiting}
        # Seed 0 of every variant first, so that a whole table stands early. In a seed the baselines first: they take no
        # time, so that there is something to read against; then the longest, so that no core idles at the end.
        waiting.sort(key=lambda plan: (plan.seed, plan.baseline is None, -seconds[plan.trial_id]))
        self.observer.planned(waiting, {trial_id: one / self.jobs for trial_id, one in seconds.items()})
        for plan in waiting:
            known = self.known[plan.variant]
            if isinstance(known, Outcome):
                self._fail(plan, known, now())
        waiting = [plan for plan in waiting if isinstance(self.known[plan.variant], Preflight)]
        try:
            left = self._run_claimed(waiting)
            if left:
                self.observer.stage(f"waiting for {len(left)} trials that other processes run")
            while left:
                time.sleep(WAIT_SECONDS)
                left = self._run_claimed(left)
        finally:
            for claim in self.claims.values():
                claim.release()

    def _run_claimed(self, waiting: Sequence[TrialPlan]) -> list[TrialPlan]:
        """Run those trials that no other process has; return those that one has, and has not ended."""
        by_id = {plan.trial_id: plan for plan in waiting}
        started: dict[str, str] = {}

        def on_start(task: Task) -> None:
            started[task.id] = now()
            self.observer.started(by_id[task.id])

        steps_taken = dict.fromkeys(by_id, 0)

        def on_step(task: Task, steps: int) -> None:
            steps_taken[task.id] = steps
            self.observer.stepped(by_id[task.id], steps)

        tasks = [self._trial_task(plan, self.known[plan.variant], self.run.path.absolute()) for plan in waiting]
        outcomes = self.executor.outcomes(tasks, self.jobs, on_start, on_step, self._claim)
        try:
            for outcome in outcomes:
                plan = by_id[outcome.task.id]
                written = outcome.value if isinstance(outcome.value, TrialRecord) else self._scored(plan)
                if written is not None:
                    self._end(written, written=True)
                else:
                    self._fail(plan, outcome, started[plan.trial_id])
        except KeyboardInterrupt:
            # It takes what still runs down with it.
            outcomes.close()
            for trial_id in started.keys() - self.ended:
                self._interrupt(by_id[trial_id], started[trial_id], steps_taken[trial_id])
            raise
        return [plan for plan in waiting if plan.trial_id not in self.ended]

    def _scored(self, plan: TrialPlan) -> TrialRecord | None:
        """Return the record that a trial wrote before a metric ended its process, if it did."""
        found = self._record_since(plan.trial_id) if plan.metric_plugins else None
        return found if found is not None and found.status == "ok" else None

    def _claim(self, task: Task) -> bool:
        """Claim the trial of a task, unless another process has it, or has ended it since this one looked."""
        claim = self.run.claim(task.id)
        if claim is None:
            return False
        now_there = self._record_since(task.id)
        if now_there is not None and now_there.status != "interrupted":
            claim.release()
            self._end(now_there, written=True)
            return False
        self.claims[task.id] = claim
        return True

    def _record_since(self, trial_id: str) -> TrialRecord | None:
        """Return the record of a trial where it is not the one that this process read, or wrote, before."""
        found = self._reading(lambda: self.run.read_record(trial_id))
        return None if found == self.records.get(trial_id) else found

    def _repeat_anchors(self, trial_ids: Sequence[str]) -> None:
        """Repeat two recorded trials, before variants are added to them, and write down how they came out."""
        anchors = self._choose_anchors(trial_ids)
        if not anchors:
            self.observer.warn("no recorded trial can be repeated here: nothing says that what is added compares")
        for record in anchors:
            with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
                found = repeated(record, self.rerun(self.registry.resolve(record.variant), record.seed, Path(folder)))
            self.run.write_anchor(found)
            if found.verdict != "bit-equal":
                self.observer.warn(found.told)

    def _choose_anchors(self, trial_ids: Sequence[str]) -> list[TrialRecord]:
        """Return two recorded trials that this call could have made: trained ones of two variants, if there are."""
        fit: list[TrialRecord] = []
        for record in (self.records[trial_id] for trial_id in trial_ids if trial_id in self.records):
            alike = (record.threads, record.compiled) == (self.threads, self.compiled)
            if record.status == "ok" and record.deterministic is not False and alike:
                with contextlib.suppress(AezooError):
                    source = self.registry.plugin(self.registry.resolve(record.variant)).source.source_sha256
                    fit += [record] if source == record.plugin.source_sha256 else []
        fit.sort(key=lambda record: (record.baseline is not None, record.seed, record.train_seconds or 0.0))
        return fit[:2]

    def rerun(self, variant: Variant, seed: int, folder: Path) -> TrialRecord:
        """Run one trial, whatever is in the run already, into a folder of its own, and return its record."""
        plan = self._plan_trial(variant, seed)
        environs, started_at = self.info.environment, now()
        self.observer.stage(f"training {plan.variant} seed {seed} again")
        (outcome,) = self.executor.outcomes([self._trial_task(plan, None, folder, output=folder)], 1)
        if isinstance(outcome.value, TrialRecord):
            return outcome.value
        found = {"status": outcome.status, "reason": outcome.reason, "traceback": outcome.traceback}
        return record_of(plan, None, environs, started_at, **found)

    def preview(self, selected: Sequence[Variant], *, timing: bool) -> "Preview":
        """Try each variant, and say what a bench of them would run and how long it would take. Nothing is written."""
        self._read_records()
        self._plan_all(selected)
        rows = []
        for variant in dict.fromkeys(plan.variant for plan in self.plans):
            missing = [plan for plan in self.plans if plan.variant == variant and self._is_missing(plan)]
            known = self.known.get(variant)
            seconds = sum(self._estimate(plan) for plan in missing)
            rows.append(PreviewRow(variant=variant, trials=len(missing), known=known, seconds=seconds))
        longest = max((self._estimate(plan) for plan in self.plans if self._is_missing(plan)), default=0.0)
        seconds = max(longest, sum(row.seconds for row in rows) / self.jobs)
        if timing:
            runs = [plan for plan in self.plans if not isinstance(self.known.get(plan.variant), Outcome)]
            untimed = [plan for plan in runs if plan.seed == 0 and not self._is_timed(plan)]
            count = visits(len(untimed)) * self.recipe.timing_rounds
            seconds += count * (START_SECONDS + 2.5 * ROUND_SECONDS)
        return Preview(rows=rows, seconds=seconds)

    def measure_throughput(self) -> None:
        """Time each variant that trained and has no timing yet, alone on the device: one process a machine."""
        name = f"timings-{slug(platform.node())}"
        alone = self.run.claim(name)
        if alone is None:
            self.observer.stage("waiting for another process that measures throughput")
        while alone is None:
            time.sleep(WAIT_SECONDS)
            alone = self.run.claim(name)
        try:
            self._measure_alone()
        finally:
            alone.release()

    def _measure_alone(self) -> None:
        first = {plan.variant: plan for plan in reversed(self.plans) if self._succeeded(plan)}
        waiting = [plan for plan in first.values() if not self._is_timed(plan)]
        if not waiting:
            return
        self.observer.stage("measuring throughput, one variant at a time")
        reference = self.registry.speed_reference()
        if reference is None:
            self.observer.warn("no plugin contributes the reference for speeds: the table has no relative ones")
        for plan, timing in measure(
            waiting,
            # Never compiled: it is the same reference for all.
            self._plan_trial(reference, seed=0).model_copy(update={"compiled": False}) if reference else None,
            self.images,
            self.info.environment,
            origin_of=self._origin,
            make_task=self._task,
            on_visit=self.observer.timed,
            warn=self.observer.warn,
        ):
            self.run.write_timing(plan, timing)

    def _read_records(self) -> None:
        self.records = self._reading(self.run.records)

    def _reading(self, read: Callable[[], T]) -> T:
        """Read something from the run, and pass on what is told of damaged files."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = read()
        for warning in caught:
            self.observer.warn(str(warning.message))
        return found

    def _plan_all(self, selected: Sequence[Variant]) -> None:
        self._plan(selected)
        self._plan(self._baselines())

    def _plan(self, variants: Iterable[Variant]) -> None:
        """Add the trials of these variants, and find out about those that are to run."""
        planned = {plan.variant for plan in self.plans}
        new = [variant for variant in variants if variant.text not in planned]
        plans = [self._plan_trial(variant, seed) for variant in new for seed in range(self.recipe.seeds)]
        self.plans += plans
        missing = {plan.variant for plan in plans if self._is_missing(plan)}
        tasks = [
            self._task(
                variant.text,
                try_variant,
                variant.text,
                self.registry.plugin(variant).origin,
                self.recipe,
                self.images,
                self.info.device,
                self.compiled,
            )
            for variant in new
            if variant.text in missing
        ]
        if tasks:
            self.observer.stage(f"trying {len(tasks)} variants before the bench")
        for outcome in self.executor.outcomes(tasks, self.jobs):
            self.known[outcome.task.id] = outcome.value if isinstance(outcome.value, Preflight) else outcome

    def _plan_trial(self, variant: Variant, seed: int) -> TrialPlan:
        plan = TrialPlan(
            trial_id="unnamed",
            architecture=variant.architecture.name,
            variant=variant.text,
            hyperparameters=dict(variant.hyperparameters),
            baseline=variant.architecture.baseline,
            plugin=self.registry.plugin(variant).source,
            metric_plugins={name: plugin.source for name, plugin in self.metrics.items()},
            executor=self.executor.name,
            recipe=self.recipe,
            fingerprint=self.info.fingerprint,
            dataset=self.info.dataset,
            seed=seed,
            device=self.info.device,
            threads=self.threads,
            compiled=self.compiled,
        )
        # A changed plugin or another torch never passes for the same trial.
        key = digest(*identity(plan, self.info.environment).values())
        return plan.model_copy(update={"trial_id": f"{slug(variant.text)}-s{seed}-{key}"})

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
        """Return the numbers of a continuous latent; a sparse or discrete one is not held against PCA."""
        known = self.known.get(plan.variant)
        found = known if isinstance(known, Preflight) else self.records.get(plan.trial_id)
        return found.latent_size if found and found.latent_kind == "continuous" else None

    def _request(self) -> None:
        """Write into run.json what this call asks for."""
        variants = dict.fromkeys(plan.variant for plan in self.plans)
        ids = {name: [plan.trial_id for plan in self.plans if plan.variant == name] for name in variants}
        self.run.request(self.info, ids)
        self.observer.requested(self.run.path, list(variants))
        self.trackers.run_started(self.run.path, self.recipe, list(variants))

    def _is_missing(self, plan: TrialPlan) -> bool:
        record = self.records.get(plan.trial_id)
        return record is None or record.status == "interrupted" or (self.retry_failed and record.status != "ok")

    def _is_timed(self, plan: TrialPlan) -> bool:
        return self.run.read_timing(plan, self.info.environment) is not None

    def _succeeded(self, plan: TrialPlan) -> bool:
        record = self.records.get(plan.trial_id)
        return record is not None and record.status == "ok"

    def _estimate(self, plan: TrialPlan) -> float:
        known = self.known[plan.variant]
        steps = self.recipe.num_steps(self.info.dataset.num_train)
        return START_SECONDS + known.step_seconds * steps if isinstance(known, Preflight) else 0.0

    def _task(self, task_id: str, function: Callable[..., object], *args: object, folder: Path | None = None) -> Task:
        # A trial is this process's own by its claim; what else is tried and timed may be so by another one just now.
        name = task_id if function is run_trial else f"{slug(task_id)}-{slug(platform.node())}-{os.getpid()}"
        folder = folder or (self.run.artifacts(name) if self.scratch is None else self.scratch / name)
        return Task(
            id=task_id, function=function, args=args, threads=self.threads,
            output=(folder / "output.txt").absolute(), timeout=self.timeout,
        )  # fmt: skip

    def _trial_task(
        self, plan: TrialPlan, known: Preflight | Outcome | None, folder: Path, *, output: Path | None = None
    ) -> Task:
        metrics = {name: plugin.origin for name, plugin in self.metrics.items()}
        environs = self.info.environment
        return self._task(
            plan.trial_id, run_trial, plan, self._origin(plan), metrics, known, self.images, folder, environs,
            folder=output,
        )  # fmt: skip

    def _origin(self, plan: TrialPlan) -> Origin:
        return self.registry.plugin(self.registry.resolve(plan.variant)).origin

    def _fail(self, plan: TrialPlan, outcome: Outcome, started_at: str) -> None:
        """Record a trial whose process, or the one that tried its variant, did not come to write a record."""
        known = self.known[plan.variant]
        found = {"status": outcome.status, "reason": outcome.reason, "traceback": outcome.traceback}
        preflight = known if isinstance(known, Preflight) else None
        self._end(record_of(plan, preflight, self.info.environment, started_at, **found))

    def _interrupt(self, plan: TrialPlan, started_at: str, steps: int) -> None:
        """Record a trial that was stopped, unless it came to write its record itself."""
        ended = self._record_since(plan.trial_id)
        if ended is not None:
            self._end(ended, written=True)
            return
        reason = f"stopped (Ctrl-C or SIGTERM) after {steps} steps or more"
        outcome = Outcome(task=self._task(plan.trial_id, run_trial), status="interrupted", reason=reason)
        self._fail(plan, outcome, started_at)

    def _end(self, record: TrialRecord, *, written: bool = False) -> None:
        if not written:
            self.run.write_record(record)
        self.records[record.trial_id] = record
        self.ended.add(record.trial_id)
        if claim := self.claims.pop(record.trial_id, None):
            claim.release()
        self.observer.ended(record)
        self.trackers.trial_finished(record)
