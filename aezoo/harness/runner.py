"""Run what a grid plans: claims, outcomes and records; then metrics.

Several processes, on several machines, may run one grid: whoever has a trial's claim runs it and writes its record.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from aezoo.contract.executor import Outcome, Progress, Task
from aezoo.errors import StorageError
from aezoo.harness.images import shown_images
from aezoo.harness.observer import Trackers
from aezoo.harness.plan import Failure, Grid, by_variant
from aezoo.harness.superseding import Earlier, earlier_rows
from aezoo.harness.tasks import measure_task, trial_task
from aezoo.harness.trial import Measure, TrainAndScore, TrialResult
from aezoo.run.checkpoint import drop_checkpoint, read_checkpoint, unpack_checkpoint, write_checkpoint
from aezoo.run.claim import Claim
from aezoo.run.records import Measurement, Preflight, TrialPlan, TrialRecord, now, record_of
from aezoo.run.repetition import repeated

TOLD_BYTES = 2**26
"""Weights that take more than this are told of before."""
_FINAL = ("ok", "diverged", "invalid")
"""How a trial ends that would end so again: there is nothing to go on from."""
WAIT_SECONDS = 1.0
"""Between looks at what other processes do with the same run."""


@dataclass(kw_only=True)
class Runner:
    """Runs a grid. `checkpoints` holds the step of the last checkpoint that is kept of a trial which has not ended;
    `earlier` what stays of other calls' rows."""

    grid: Grid
    trackers: Trackers
    claims: dict[str, Claim] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    checkpoints: dict[str, int] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=Earlier)

    def run_trials(self) -> None:
        """Write down what is asked for, and run the trials that are missing, until each has a record."""
        grid = self.grid
        before = grid.run.info().requested if grid.run.exists else {}
        if before:
            self.earlier = earlier_rows(
                grid.run.load(), by_variant(grid.plans), grid.environment, keep_old=grid.request.keep_old
            )
            grid.observer.chosen(self.earlier.told)
        if before and any(plan.variant not in before and grid.is_missing(plan) for plan in grid.plans):
            self._repeat_anchors([trial_id for trial_ids in before.values() for trial_id in trial_ids])
        self._request()
        if notice := grid.run.claims.notice:
            grid.observer.warn(notice)
        tries = grid.missing_tries()
        if tries:
            grid.observer.stage(f"trying {len(grid.info.recipe.rates)} learning rates of each variant")
            self._run_all(tries)
            # With the rates that were chosen, the trials have their names.
            grid.choose_rates()
            self._request()
        size = grid.weights_bytes()
        if size > TOLD_BYTES:
            grid.observer.chosen([f"the weights take about {size / 1e6:,.0f} MB (--weights {grid.request.weights})"])
        self._run_all(grid.missing())

    def _run_all(self, plans: list[TrialPlan]) -> None:
        """Run trials until each has a record, whoever runs it."""
        grid = self.grid
        grid.observer.planned(plans, {plan.trial_id: grid.estimate(plan) / grid.jobs for plan in plans})
        try:
            left = self._run(plans)
            if left:
                grid.observer.stage(f"waiting for {len(left)} trials that other processes run")
            while left:
                time.sleep(WAIT_SECONDS)
                left = self._run(left)
        finally:
            self._release()

    def measure_metrics(self) -> None:
        """Compute, from the weights that trials kept, each metric that was asked for and is not there yet."""
        measured: set[str] = set()
        while unmeasured := {name: some for name, some in self.grid.unmeasured().items() if name not in measured}:
            before = len(measured)
            if not before:
                metrics = ", ".join(self.grid.metrics)
                self.grid.observer.stage(f"computing {metrics} of {len(unmeasured)} trained networks")
            try:
                self._measure(unmeasured, measured)
            finally:
                self._release()
            if len(measured) == before:
                # Another process computes what is left.
                time.sleep(WAIT_SECONDS)

    def drop_weights(self) -> None:
        """Remove the weights that the call does not want kept."""
        for record in self.grid.superfluous_weights(self.ended):
            self.grid.run.drop_weights(record.trial_id)

    def rerun(self, record: TrialRecord, plan: TrialPlan) -> TrialRecord:
        """Run a recorded trial again by a plan of today, and return its new record; it is not written."""
        grid, started_at = self.grid, now()
        grid.observer.stage(f"training {plan.label} again")
        (outcome,) = grid.executor.outcomes([trial_task(grid, [plan], layout=record.layout)], 1)
        results = _results(outcome)
        return results[0].record if results else self._failed(plan, Failure.of(outcome), started_at)

    def _request(self) -> None:
        """Write into run.json what this call asks for."""
        grid = self.grid
        ids = {name: [plan.trial_id for plan in plans] for name, plans in by_variant(grid.plans).items()}
        grid.run.request(grid.info, ids | self.earlier.baselines, self.earlier.beside)
        if grid.run.read_images() is None:
            grid.run.write_images(shown_images(grid.shared, grid.choice, grid.choice.images))
        grid.observer.requested(grid.run.path, list(ids))
        self.trackers.run_started(grid.run.path, grid.info.recipe, list(ids))

    def _run(self, plans: Sequence[TrialPlan]) -> list[TrialPlan]:
        """Run those trials that no other process has; return those that one has, and has not ended."""
        grid = self.grid
        fit = []
        for plan in plans:
            failure = grid.failure(plan)
            if failure is None:
                fit.append(plan)
            elif self._claim(plan):
                self._fail(plan, failure, now())
        groups = self._groups(fit)
        started: dict[str, str] = {}
        steps_done: dict[str, int] = {}

        def on_start(task: Task) -> None:
            for plan in groups[task.id]:
                started[plan.trial_id] = now()
                grid.observer.started(plan)

        def on_report(task: Task, progress: Progress) -> None:
            if progress.checkpoint is not None:
                self._keep(task.id, progress.checkpoint, progress.steps)
            done = progress.steps // len(groups[task.id])
            for plan in groups[task.id]:
                if done > steps_done.get(plan.trial_id, 0):
                    steps_done[plan.trial_id] = done
                    grid.observer.stepped(plan, done)

        tasks = [trial_task(grid, group, self._output(group[0].trial_id)) for group in groups.values()]

        def may_start(task: Task) -> Task | None:
            return self._resumed(task) if self._claim(*groups[task.id]) else None

        outcomes = grid.executor.outcomes(tasks, grid.jobs, on_start, on_report, may_start)
        try:
            for outcome in outcomes:
                for result in _results(outcome):
                    self._end(result)
                for plan in groups[outcome.task.id]:
                    if plan.trial_id not in self.ended:
                        self._fail(plan, Failure.of(outcome), started[plan.trial_id])
        except KeyboardInterrupt:
            # It takes what still runs down with it.
            outcomes.close()
            for plan in plans:
                if plan.trial_id in started and plan.trial_id not in self.ended:
                    reason = f"stopped (Ctrl-C or SIGTERM) after {steps_done.get(plan.trial_id, 0)} steps or more"
                    if kept := self.checkpoints.get(plan.trial_id):
                        reason += f"; it goes on from step {kept}"
                    self._fail(plan, Failure(status="interrupted", reason=reason), started[plan.trial_id])
            raise
        return [plan for plan in plans if plan.trial_id not in self.ended]

    def _resumed(self, task: Task) -> Task:
        """Return a task of trials, with the checkpoint that it goes on from where one is kept."""
        work, trial_id = task.work, task.id
        content = self.grid.reading(lambda: read_checkpoint(self.grid.run, trial_id))
        if content is None or not isinstance(work, TrainAndScore) or len(work.plans) > 1:
            return task
        self.checkpoints[trial_id] = unpack_checkpoint(content, trial_id)[0].steps
        return replace(task, work=replace(work, checkpoint=content))

    def _keep(self, trial_id: str, content: bytes, steps: int) -> None:
        """Keep a checkpoint of a trial whose claim this process has; where that cannot be, the trial goes on."""
        if trial_id not in self.claims:
            return
        try:
            if not self._holds(trial_id, f"a checkpoint of {trial_id}"):
                return
            write_checkpoint(self.grid.run, trial_id, content)
            self.checkpoints[trial_id] = steps
        except StorageError as error:
            self.grid.observer.warn(f"no checkpoint of {trial_id}: {error}")

    def _groups(self, plans: Sequence[TrialPlan]) -> dict[str, list[TrialPlan]]:
        """Return the plans that one task takes, by the task's id, in the order of the plans."""
        groups: dict[str, list[TrialPlan]] = {}
        last: dict[str, list[TrialPlan]] = {}
        for plan in plans:
            group = last.get(plan.variant)
            if group is None or len(group) == self.grid.seeds_together(plan):
                group = last[plan.variant] = groups[plan.trial_id] = []
            group.append(plan)
        return groups

    def _claim(self, *plans: TrialPlan) -> bool:
        """Claim trials, unless another process has one of them, or has ended it since this one looked."""
        for plan in plans:
            if not self._claim_name(plan.trial_id):
                break
            record = self._record_since(plan.trial_id)
            if record is not None and record.status != "interrupted":
                self._hear(record)
                break
        else:
            return True
        for plan in plans:
            if claim := self.claims.pop(plan.trial_id, None):
                claim.release()
        return False

    def _claim_name(self, name: str) -> bool:
        claim = self.claims.get(name) or self.grid.run.claim(name)
        if claim is not None:
            self.claims[name] = claim
            self.lost.discard(name)
        return claim is not None

    def _release(self) -> None:
        for claim in self.claims.values():
            claim.release()
        self.claims.clear()

    def _record_since(self, trial_id: str) -> TrialRecord | None:
        """Return the record of a trial where it is not the one that this process read, or wrote, before."""
        record = self.grid.reading(lambda: self.grid.run.read_record(trial_id))
        return None if record == self.grid.records.get(trial_id) else record

    def _failed(self, plan: TrialPlan, failure: Failure, started_at: str) -> TrialRecord:
        """Return the record of a trial whose process, or the one that tried its variant, came to no result."""
        preflight = self.grid.preflights.get(plan.variant)
        if failure.status == "ok":
            reason = f"the executor {self.grid.executor.name} returned no trial's result"
            failure = replace(failure, status="error", reason=reason)
        tried = preflight if isinstance(preflight, Preflight) else None
        return record_of(plan, tried, self.grid.environment, started_at, **asdict(failure))

    def _fail(self, plan: TrialPlan, failure: Failure, started_at: str) -> None:
        """Write that a trial came to no result, and why."""
        self._end(TrialResult(record=self._failed(plan, failure, started_at)))

    def _end(self, result: TrialResult) -> None:
        """Write what became of a trial, if this process still has its claim."""
        if self._holds(result.record.trial_id, f"the result of {result.record.label}"):
            record = self.grid.run.write_trial(result.record, result.files)
            if record.status in _FINAL:
                drop_checkpoint(self.grid.run, record.trial_id)
            self._hear(record)

    def _holds(self, name: str, what: str) -> bool:
        """Say whether a claim is still this process's; where it was lost, what there is to write is left, aloud."""
        claim = self.claims.get(name)
        if claim is not None and not claim.holds():
            self.lost.add(name)
            del self.claims[name]
            self.grid.observer.warn(
                f"{what} is left: this process gave no sign of life for too long, and another one has taken its place"
            )
        return name not in self.lost

    def _hear(self, record: TrialRecord) -> None:
        """Take a record that is written into account, and let others hear of it."""
        self.grid.records[record.trial_id] = record
        self.ended.add(record.trial_id)
        if claim := self.claims.pop(record.trial_id, None):
            claim.release()
        self.grid.observer.ended(record)
        self.trackers.trial_finished(record)

    def _output(self, name: str) -> Path:
        return self.grid.run.artifacts(name) / "output.txt"

    def _repeat_anchors(self, trial_ids: Sequence[str]) -> None:
        """Repeat two recorded trials, before variants are added to them, and write down how they came out."""
        grid = self.grid
        anchors = grid.anchors(trial_ids)
        if not anchors:
            grid.observer.warn("no recorded trial can be repeated here: nothing says that what is added compares")
        for record in anchors:
            plan = grid.repetition(record, grid.registry.resolve(record.variant))
            repetition = repeated(record, self.rerun(record, plan))
            grid.run.write_anchor(repetition)
            if repetition.verdict != "bit-equal":
                grid.observer.warn(repetition.line)

    def _measure(self, unmeasured: Mapping[str, list[str]], measured: set[str]) -> None:
        """Compute those metrics that no other process does, and add the ids of their trials to `measured`."""
        plans = {trial_id: self.grid.records[trial_id] for trial_id in unmeasured}
        tasks = [
            measure_task(self.grid, plan, unmeasured[trial_id], self._output(f"{trial_id}--metrics"))
            for trial_id, plan in plans.items()
        ]

        def may_start(task: Task) -> Task | None:
            return self._with_weights(task) if self._claim_name(f"metrics-{task.id}") else None

        for outcome in self.grid.executor.outcomes(tasks, self.grid.jobs, may_start=may_start):
            plan = plans[outcome.task.id]
            if not self._holds(f"metrics-{plan.trial_id}", f"what was measured of {plan.label}"):
                continue
            self._keep_metrics(plan, unmeasured[outcome.task.id], outcome)
            measured.add(outcome.task.id)
            self.grid.observer.measured(len(measured), len(tasks))

    def _with_weights(self, task: Task) -> Task:
        """Return a task of metrics with what it reads, where no folder is shared: read when its turn has come."""
        if self.grid.executor.shares_files or not isinstance(task.work, Measure):
            return task
        try:
            weights = self.grid.run.read_weights(task.work.record)
        except StorageError:
            return task  # the work says what is wrong with it
        return replace(task, work=replace(task.work, weights=weights))

    def _keep_metrics(self, plan: TrialPlan, names: Sequence[str], outcome: Outcome) -> None:
        """Write the metrics of a trial, or why they are missing."""
        record = self.grid.records[plan.trial_id]
        values = outcome.value if isinstance(outcome.value, dict) else {}
        reason = record.weights_missing and f"its weights are not kept: {record.weights_missing}"
        for name in names:
            metric, plugin = self.grid.metrics[name]
            value = values.get(name, reason or outcome.reason or "its process ended before it was computed")
            self.grid.run.write_measurement(
                Measurement(
                    trial_id=plan.trial_id, metric=name, plugin=plugin.source, higher_is_better=metric.higher_is_better,
                    weights_sha256=record.weights_sha256, measured_at=now(),
                    **{"reason": value} if isinstance(value, str) else {"value": value},
                )
            )  # fmt: skip
        self.trackers.trial_measured(
            record, {name: value for name, value in values.items() if isinstance(value, float)}
        )


def _results(outcome: Outcome) -> list[TrialResult]:
    """Return the results of a task of trials; none where it has not come to any."""
    values = outcome.value if isinstance(outcome.value, tuple) else ()
    return [value for value in values if isinstance(value, TrialResult)]
