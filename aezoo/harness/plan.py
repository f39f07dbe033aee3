"""What is missing, what is stale, and how long it takes: the trials of a call before any of them runs."""

import contextlib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from aezoo.contract.architecture import Variant
from aezoo.contract.executor import Executor, Outcome, Status
from aezoo.contract.metric import Metric
from aezoo.contract.recipe import Layout
from aezoo.contract.shared import SharedImages
from aezoo.errors import AezooError
from aezoo.harness.images import ImageSource, choose_images
from aezoo.harness.observer import Observer
from aezoo.harness.preview import Preview, PreviewRow
from aezoo.harness.request import Request
from aezoo.harness.timing import ROUND_SECONDS, visits
from aezoo.machine import Environment
from aezoo.registry.names import Registry
from aezoo.registry.plugin import Plugin
from aezoo.run.files import digest, slug
from aezoo.run.records import Measurement, Preflight, RunInfo, TrialPlan, TrialRecord, identity
from aezoo.run.samples import Choice
from aezoo.run.store import RunDirectory, timing_name

T = TypeVar("T")
TUNING_SEED = 2**31 - 1
"""The seed on which learning rates are tried: one that nobody scores."""
START_SECONDS = 0.3
"""What a trial costs beside its steps: a process, its evaluation, its record. For estimates only."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a trial has no result: how it ended, and what was said of it."""

    status: Status
    reason: str | None
    traceback: str | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> "Failure":
        """Return what an outcome says, of a task that came to no result."""
        return cls(status=outcome.status, reason=outcome.reason, traceback=outcome.traceback)


@dataclass(kw_only=True)
class Grid:
    """The trials of one call: which there are, which are missing, and what is known of them.

    `images` is where a trial has its images from, `shared` where a process of this machine has them from. `scratch` is
    a folder for what is printed before there is a run, and by the clocks. `named` holds the variants of each text of
    the call that names some, and is no pattern.
    """

    request: Request
    registry: Registry
    run: RunDirectory
    info: RunInfo
    environment: Environment
    images: ImageSource
    shared: SharedImages
    metrics: Mapping[str, tuple[Metric, Plugin]]
    executor: Executor
    jobs: int
    scratch: Path
    observer: Observer
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plans: list[TrialPlan] = field(default_factory=list)
    tries: list[TrialPlan] = field(default_factory=list)
    records: dict[str, TrialRecord] = field(default_factory=dict)
    preflights: dict[str, Preflight | Outcome] = field(default_factory=dict)

    def add(self, variants: Iterable[Variant]) -> list[Variant]:
        """Plan the trials of variants, unless they are planned; return those of them that have a trial to run."""
        planned = {plan.variant for plan in self.plans}
        new = [variant for variant in variants if variant.text not in planned]
        plans = [self.plan(variant, seed) for variant in new for seed in range(self.info.recipe.seeds)]
        self.plans += plans
        missing = {plan.variant for plan in plans if self.is_missing(plan)}
        return [variant for variant in new if variant.text in missing]

    def baselines(self) -> list[Variant]:
        """Return the mean image, and PCA at each latent size of the variants: every table carries them."""
        sizes = {size for plan in self.plans if (size := self._latent_size(plan))}
        channels, height, width = self.info.dataset.image_shape
        possible = {size for size in sizes if size <= channels * height * width}
        for size in sorted(sizes - possible):
            self.observer.warn(f"no PCA at latent size {size}: an image has only {channels * height * width} pixels")
        baselines = []
        for kind, settings in (("mean", [""]), ("pca", [f"[latent_dim={size}]" for size in sorted(possible)])):
            label = self.registry.baseline(kind)
            if label is None:
                self.observer.warn(f"no plugin contributes the baseline {kind!r}: the table goes without it")
            else:
                baselines += [self.registry.resolve(label + text) for text in settings]
        return baselines

    def refusal(self, variants: Iterable[str]) -> str:
        """Return what the build functions of variants said, each line once, where all of them refused; else nothing."""
        outcomes = [self.preflights.get(variant) for variant in variants]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Outcome) and outcome.refused]
        reasons = dict.fromkeys(outcome.reason or outcome.status for outcome in refusals)
        return "; ".join(reasons) if len(refusals) == len(outcomes) else ""

    def missing(self) -> list[TrialPlan]:
        """Return the trials that are to run, in the order in which they are to start."""
        plans = [plan for plan in self.plans if self.is_missing(plan)]
        seconds = {plan.trial_id: self.estimate(plan) for plan in plans}
        # Seed 0 of every variant first, so that a whole table stands early. In a seed the baselines first: they take no
        # time, so that there is something to read against; then the longest, so that no core idles at the end.
        return sorted(plans, key=lambda plan: (plan.seed, plan.baseline is None, -seconds[plan.trial_id]))

    def missing_tries(self) -> list[TrialPlan]:
        """Return the trials of learning rates that are to run, the longest first."""
        plans = [plan for plan in self.tries if self.is_missing(plan)]
        return sorted(plans, key=self.estimate, reverse=True)

    def choose_rates(self) -> None:
        """Plan anew, each variant at the learning rate that the trials of all of them chose."""
        variants = {plan.variant: self.registry.resolve(plan.variant) for plan in self.plans}
        self.plans = [self.plan(variants[plan.variant], plan.seed) for plan in self.plans]

    def failure(self, plan: TrialPlan) -> Failure | None:
        """Return why a trial cannot run: its preflight failed, or no learning rate came to a loss; else None."""
        preflight = self.preflights[plan.variant]
        if isinstance(preflight, Outcome):
            return Failure.of(preflight)
        if not self.info.recipe.rates or plan.lr is not None or preflight.closed_form:
            return None
        tries = ", ".join(f"{rate:g}" for rate in self.info.recipe.rates)
        reason = f"none of the learning rates {tries} came to a loss on the validation images"
        return Failure(status="diverged", reason=reason)

    def is_missing(self, plan: TrialPlan) -> bool:
        """Say whether a trial is to run: it has no record, or one that the call wants anew."""
        record = self.records.get(plan.trial_id)
        retry = self.request.retry_failed
        return record is None or record.status == "interrupted" or (retry and record.status != "ok")

    def succeeded(self, plan: TrialPlan) -> bool:
        """Say whether a trial has a loss."""
        record = self.records.get(plan.trial_id)
        return record is not None and record.status == "ok"

    def estimate(self, plan: TrialPlan) -> float:
        """Return the seconds that a trial will take, by what the preflight measured."""
        preflight = self.preflights[plan.variant]
        if isinstance(preflight, Outcome):
            return 0.0
        steps = self.info.recipe.num_steps(self.info.dataset.num_train)
        return START_SECONDS + preflight.step_seconds * steps + (preflight.fit_seconds or 0.0)

    def untimed(self) -> list[TrialPlan]:
        """Return a trial of each variant that has a loss, and no timing on this machine."""
        return self._untimed(self.trained())

    def trained(self) -> list[TrialPlan]:
        """Return a trial of each variant that has a loss."""
        return list({plan.variant: plan for plan in reversed(self.plans) if self.succeeded(plan)}.values())

    def unmeasured(self) -> dict[str, list[str]]:
        """Return the metrics of each trial with a loss that are not computed yet, by trial id.

        A row may have more seeds than this call asks for: its metrics are means over as many as its loss.
        """
        if not self.metrics:
            return {}
        measured = {(each.trial_id, each.metric): each for each in self.reading(self.run.measurements)}
        rows = self.reading(self.run.info).requested
        ids = [trial_id for variant in by_variant(self.plans) for trial_id in rows[variant]]
        names = {
            record.trial_id: [
                name
                for name, (_, plugin) in self.metrics.items()
                if not is_current(measured.get((record.trial_id, name)), plugin, record)
            ]
            for record in map(self.records.get, ids)
            if record is not None and record.status == "ok"
        }
        return {trial_id: some for trial_id, some in names.items() if some}

    def anchors(self, trial_ids: Iterable[str]) -> list[TrialRecord]:
        """Return two recorded trials that this call could have made: trained ones of two variants, if there are."""
        fit: list[TrialRecord] = []
        for record in (self.records[trial_id] for trial_id in trial_ids if trial_id in self.records):
            request = self.request
            mine = (request.threads, request.processes, request.compiled)
            alike = (record.threads, record.processes, record.compiled) == mine
            if record.status == "ok" and record.deterministic is not False and alike:
                with contextlib.suppress(AezooError):
                    source = self.registry.plugin(self.registry.resolve(record.variant)).source.source_sha256
                    fit += [record] if source == record.plugin.source_sha256 else []
        fit.sort(key=lambda record: (record.baseline is not None, record.seed, record.train_seconds or 0.0))
        return fit[:2]

    def preview(self) -> "Preview":
        """Say what a bench would run, and how long it would take."""
        rows, trials = [], [*self.tries, *self.plans]
        own = by_variant(trials)
        for variant in by_variant(self.plans):
            missing = [plan for plan in own[variant] if self.is_missing(plan)]
            seconds = sum(self.estimate(plan) for plan in missing)
            preflight = self.preflights.get(variant)
            rows.append(PreviewRow(variant=variant, trials=len(missing), preflight=preflight, seconds=seconds))
        longest = max((self.estimate(plan) for plan in trials if self.is_missing(plan)), default=0.0)
        seconds = max(longest, sum(row.seconds for row in rows) / self.jobs)
        if self.request.timing:
            runs = [plan for plan in self.plans if not isinstance(self.preflights.get(plan.variant), Outcome)]
            untimed = self._untimed(plan for plan in runs if plan.seed == 0)
            seconds += visits(len(untimed)) * self.info.recipe.timing_rounds * (START_SECONDS + 2.5 * ROUND_SECONDS)
        return Preview(rows=rows, seconds=seconds)

    def plan(self, variant: Variant, seed: int, *, lr: float | None = None, tuning: bool = False) -> TrialPlan:
        """Plan one trial. A changed plugin or another torch never passes for the same one.

        Its learning rate, of a recipe that has several, is the one given, or the one that the variant's tries chose;
        None as long as they have not all ended.
        """
        plan = TrialPlan(
            trial_id="unnamed",
            architecture=variant.architecture.name,
            variant=variant.text,
            hyperparameters=dict(variant.hyperparameters),
            baseline=variant.architecture.baseline,
            seed_spread=variant.architecture.seed_spread,
            plugin=self.registry.plugin(variant).source,
            executor=self.executor.name,
            recipe=self.info.recipe,
            fingerprint=self.info.fingerprint,
            dataset=self.info.dataset,
            seed=seed,
            lr=self._chosen_rate(variant) if lr is None else lr,
            tuning=tuning,
            device=self.info.device,
            threads=self.request.threads,
            processes=self.request.processes,
            compiled=self.request.compiled,
            graphs=self.request.graphs,
        )
        key = digest(*identity(plan, self.environment).values())
        name = slug(f"try-{lr:g}") if tuning else f"s{seed}"
        return plan.model_copy(update={"trial_id": f"{slug(plan.variant)}-{name}-{key}"})

    def repetition(self, record: TrialRecord, variant: Variant) -> TrialPlan:
        """Plan a recorded trial again, as it would be made today."""
        return self.plan(variant, record.seed, lr=record.lr, tuning=record.tuning)

    def plan_tries(self, variant: Variant) -> list[TrialPlan]:
        """Plan a trial of each learning rate that a variant chooses from."""
        return [self.plan(variant, TUNING_SEED, lr=rate, tuning=True) for rate in self.info.recipe.rates]

    def _chosen_rate(self, variant: Variant) -> float | None:
        """Return the rate with the least validation MSE; None where some have not ended, or none has a loss."""
        records = [self.records.get(plan.trial_id) for plan in self.plan_tries(variant)]
        losses = {
            record.lr: record.validation_mse
            for record in records
            if record is not None and record.validation_mse is not None
        }
        ended = all(record is not None and record.status != "interrupted" for record in records)
        return min(losses, key=lambda rate: losses[rate] or 0.0) if losses and ended else None

    def seeds_together(self, plan: TrialPlan) -> int:
        """Return how many seeds of a plan's variant one task trains side by side."""
        preflight = self.preflights.get(plan.variant)
        if plan.tuning or not isinstance(preflight, Preflight) or preflight.graph_steps is None:
            return 1
        return min(self.request.seeds_together, preflight.room)

    def weights_bytes(self) -> int:
        """Return about how many bytes the weights take that this call adds to the run, by the preflights."""
        if self.request.weights == "none":
            return 0
        sizes: dict[str, list[int]] = {}
        for plan in self.plans:
            preflight = self.preflights.get(plan.variant)
            if isinstance(preflight, Preflight) and self.is_missing(plan):
                sizes.setdefault(plan.variant, []).append(4 * preflight.num_params)
        return sum(each[0] if self.request.weights == "best" else sum(each) for each in sizes.values())

    def superfluous_weights(self, ended: Collection[str]) -> list[TrialRecord]:
        """Return those of the trials that this call ended, by their ids, whose weights are not to be kept.

        What an earlier call kept stays, and with it the best of a variant may be an earlier trial's.
        """
        if self.request.weights == "all":
            return []
        records = [self.records[plan.trial_id] for plan in self.plans if self.succeeded(plan)]
        kept = [record for record in records if self.run.keeps_weights(record)]
        best: dict[str, TrialRecord] = {}
        if self.request.weights == "best":
            for record in sorted(kept, key=lambda record: record.test_mse or 0.0, reverse=True):
                best[record.variant] = record
        return [record for record in kept if record.trial_id in ended and best.get(record.variant) is not record]

    def layout(self, plan: TrialPlan) -> Layout:
        """Return how a network lies in memory, by its preflight, or as it lay when its trial was recorded."""
        facts = self.facts(plan)
        return (facts and facts.layout) or "contiguous"

    def facts(self, plan: TrialPlan) -> Preflight | TrialRecord | None:
        """Return what is known of a plan's variant, by its preflight or by its record."""
        preflight = self.preflights.get(plan.variant)
        return preflight if isinstance(preflight, Preflight) else self.records.get(plan.trial_id)

    @cached_property
    def choice(self) -> Choice:
        """The test images that every trial of the run shows: those that the run has, or else those of the rule."""
        kept = self.reading(self.run.read_images) if self.run.exists else None
        if kept is None:
            self.observer.stage("choosing the test images that every trial shows")
        return kept.choice if kept else choose_images(self.shared)

    def reading(self, read: Callable[[], T]) -> T:
        """Read something from the run, and pass on what is said of damaged files."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            content = read()
        for warning in caught:
            self.observer.warn(str(warning.message))
        return content

    def _latent_size(self, plan: TrialPlan) -> int | None:
        """Return the numbers of a continuous latent; a sparse or discrete one is not held against PCA."""
        facts = self.facts(plan)
        return facts.latent_size if facts and facts.latent_kind == "continuous" else None

    def _untimed(self, plans: Iterable[TrialPlan]) -> list[TrialPlan]:
        timings = self.reading(self.run.timings)
        timed = {name for name, timing in timings.items() if timing.reason is None}
        return [plan for plan in plans if timing_name(plan, self.environment) not in timed]


def by_variant(plans: Iterable[TrialPlan]) -> dict[str, list[TrialPlan]]:
    """Return the trials of each variant, in their order."""
    groups: dict[str, list[TrialPlan]] = {}
    for plan in plans:
        groups.setdefault(plan.variant, []).append(plan)
    return groups


def is_current(measurement: Measurement | None, plugin: Plugin, record: TrialRecord) -> bool:
    """Say whether a metric need not be computed again: it is there, of this plugin's source and of these weights."""
    return measurement is not None and (measurement.plugin.source_sha256, measurement.weights_sha256) == (
        plugin.source.source_sha256,
        record.weights_sha256,
    )
