"""Derive the table of a run from its records. It runs nothing, writes nothing, and needs no torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

import pandas as pd

from aezoo.contract.columns import COLUMNS
from aezoo.contract.executor import Status
from aezoo.run.records import Timing, TrialRecord
from aezoo.run.store import RunDirectory, timing_name
from aezoo.table import groups
from aezoo.table.pairs import Pairs
from aezoo.table.priors import calibration_of
from aezoo.table.statistics import CONFIDENCE, Errors, holm, paired_ratio, spread

_DTYPES = {"text": "object", "integer": "Int64", "number": "Float64"}
WORST_FIRST: tuple[Status | Literal["running", "waiting"], ...] = (
    "invalid", "error", "out_of_memory", "timeout", "diverged", "interrupted", "running", "waiting", "ok",
)  # fmt: skip
RANKED = ("ok", *groups.UNFINISHED)
_RATES = ("coded_bits", "active_units", "support_bits")
"""What was measured of an image's code, by its name in a record and in a row."""
_MEMORY = {
    "peak_memory_mb": "peak_memory_bytes",
    "infer_memory_mb": "infer_peak_memory_bytes",
    "device_memory_mb": "peak_device_memory_bytes",
    "infer_device_memory_mb": "infer_peak_device_memory_bytes",
}
EXACT = 1e-9
"""A loss of PCA below this share of the images' variance is none but rounding: nothing is held against it."""
Machine = tuple[str, str, str]
"""What a speed depends on beside threads: the kind of device, its name, and torch."""
UNSTEADY = 0.10
"""A throughput whose rounds lie further apart than this says little; it is marked."""


def summarise(run: RunDirectory) -> pd.DataFrame:
    """Return the table of a run: a row for every variant that was asked for, best first, failed ones last.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    run = run.load()
    requested = run.info().rows
    by_variant = records_by_variant(run)
    losses, exact = pca_losses(run)
    pca = {size: loss for size, loss in losses.items() if size not in exact}
    errors = ErrorsByVariant(run)
    (_, timings), *_ = [*timings_by_machine(run).items(), (None, {})]
    metrics: dict[str, dict[str, float | None]] = {name: {} for name in run.info().recipe.metrics}
    for measurement in run.measurements():
        metrics.setdefault(measurement.metric, {})[measurement.trial_id] = measurement.value
    rows = [
        _row(
            variant,
            records,
            errors[variant],
            missing=_missing(run, requested[variant]),
            pca=pca,
            timing=timings.get(variant),
            metrics=metrics,
        )
        for variant, records in by_variant.items()
    ]
    rows.sort(key=lambda row: (row["status"] not in RANKED, row["test_mse"] is None, row["test_mse"] or 0.0))
    ranked = [row for row in rows if row["status"] in RANKED and row["test_mse"] is not None]
    reasons = untimed(run)
    for place, row in enumerate(rows):
        row["no_speed"] = reasons.get(row["variant"])
        row["rank"] = min(place, len(ranked)) + 1
        records = by_variant[row["variant"]]
        row["group"] = groups.group_of(row, records[0].latent_kind if records else None)
    judged = [errors[row["variant"]] for row in ranked]
    # Where nothing is known of another seed, nothing separates.
    known = [each if each and each.knows_seeds else None for each in judged]
    _judge(ranked, [None if row["same_start"] else each for row, each in zip(ranked, known, strict=True)])
    dtypes = {column.name: _DTYPES[column.kind] for column in COLUMNS} | dict.fromkeys(metrics, "Float64")
    return pd.DataFrame(rows, columns=list(dtypes)).astype(dtypes)


def _judge(ranked: Sequence[dict[str, Any]], errors: Sequence[Errors | None]) -> None:
    """Write into rows, best first, what the evidence allows: ranks over all and in their group, and against PCA."""
    pairs = Pairs(errors)
    for row, (low, high) in zip(ranked, pairs.ranks(range(len(ranked))), strict=True):
        row |= {"rank_low": low, "rank_high": high}
    by_group: dict[str, list[int]] = {}
    for place, row in enumerate(ranked):
        by_group.setdefault(row["group"], []).append(place)
    for places in by_group.values():
        for rank, (place, (low, high)) in enumerate(zip(places, pairs.ranks(places), strict=True), start=1):
            ranked[place] |= {"group_rank": rank, "group_rank_low": low, "group_rank_high": high}
        pca = next((place for place in places if ranked[place]["baseline"] == "pca"), None)
        if pca is None:
            continue
        held = [place for place in places if place != pca]
        for place, p_value in zip(held, holm(pairs.p_values(held, pca)), strict=True):
            told = "better" if pairs.logs[place] < pairs.logs[pca] else "worse"
            ranked[place]["against_pca"] = told if p_value < 1 - CONFIDENCE else "not decided"


def _row(
    variant: str,
    records: Sequence[TrialRecord],
    errors: Errors | None,
    *,
    missing: Sequence[str],
    pca: Mapping[int, float],
    timing: Timing | None,
    metrics: Mapping[str, Mapping[str, float | None]],
) -> dict[str, Any]:
    ok = [record for record in records if record.status == "ok"]
    statuses = [*(record.status for record in records), *missing]
    built = next((record for record in records if record.num_params is not None), None)
    row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS)
    row |= {
        "variant": variant,
        "seeds": len(ok),
        "status": next(status for status in WORST_FIRST if status in statuses),
    }
    row["reason"] = next((each.reason for each in records if each.status == row["status"] and each.reason), None)
    if records:
        first = records[0]
        row["baseline"] = first.baseline
        if first.lr is not None:
            edges = (first.recipe.rates[0], first.recipe.rates[-1])
            row |= {"lr": first.lr, "lr_at_edge": "yes" if first.lr in edges else None}
        row |= {"batch_size": first.recipe.batch_size, "precision": first.recipe.precision, "device": first.device}
        row |= {"threads": first.threads, "compiled": "yes" if first.compiled else "no"}
    if built:
        deterministic = {record.deterministic for record in records}
        row["exceptions"] = ", ".join(built.exceptions) or None
        row["adapted"] = "; ".join(built.adaptations) or None
        row["same_start"] = "yes" if starts_the_same(records) else None
        row["deterministic"] = "no" if False in deterministic else "yes" if deterministic == {True} else None
        names = (
            "objective", "layout", "latent_size", "num_params", "adversary_params", "flops_per_image",
            "train_flops_per_image",
        )  # fmt: skip
        row |= {name: getattr(built, name) for name in names} | {"bits": built.latent_bits}
        parts = (f"{name} {'x'.join(map(str, shape)) or 1}" for name, shape in built.latent_parts.items())
        row["latent_parts"] = ", ".join(parts) or None
        row |= {"steps_by": _steps_by(built), "no_graph": built.graph_missing, "side_by_side": built.side_by_side}
    if ok:
        mse = row["test_mse"] = mean_test_mse(records)
        # A single image tells nothing of another one, however far its seeds agree.
        known = errors is not None and len(errors.by_image) > 1 and not row["same_start"]
        half = errors.estimate().half if errors and known else None
        if half is not None:
            row |= {"test_mse_low": mse * math.exp(-half), "test_mse_high": mse * math.exp(half)}
        against = pca.get(row["latent_size"]) if ok[0].latent_kind == "continuous" else None
        row["vs_pca"] = mse / against if against else None
        row |= {name: _mean([getattr(record, name) for record in ok]) for name in _RATES}
        row["bits"] = _mean([record.latent_bits for record in ok])
        row |= {name: _largest(ok, field) for name, field in _MEMORY.items()}
        row |= {name: _mean([values.get(record.trial_id) for record in ok]) for name, values in metrics.items()}
        row["compile_seconds"] = max(record.compile_seconds or 0.0 for record in ok) or None
    if timing:
        row |= _speeds(timing, row["train_flops_per_image"])
    return row


def _missing(run: RunDirectory, trial_ids: Sequence[str]) -> list[str]:
    """Return what each trial without a record is up to."""
    records, running = run.records(), run.running()
    left = [trial_id for trial_id in trial_ids if trial_id not in records]
    return ["running" if trial_id in running else "waiting" if running else "interrupted" for trial_id in left]


def _speeds(timing: Timing, train_flops_per_image: int | None) -> dict[str, float | None]:
    """Return the columns that come from a timing."""
    figures: dict[str, float | None] = {}
    for part in ("train", "infer"):
        rounds = getattr(timing, f"{part}_images_per_s")
        if rounds:
            figure = spread(rounds)
            figures |= {f"{part}_images_per_s": figure.median, f"{part}_spread": figure.iqr}
            against = getattr(timing, f"reference_{part}_images_per_s")
            figures[f"{part}_vs_reference"] = paired_ratio(rounds, against)
    if timing.train_images_per_s and train_flops_per_image is not None:
        per_image = paired_ratio(timing.train_images_per_s, timing.matmul_flops_per_s)
        figures["matmul_share"] = None if per_image is None else per_image * train_flops_per_image
    return figures


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of a metric over the seeds; None where one of them has none."""
    return None if None in values else fmean(value for value in values if value is not None)


def _steps_by(record: TrialRecord) -> str | None:
    """Say what gave the device the steps of a trial; None where there are none."""
    if not record.curve:
        return None
    return "python" if record.graph_steps is None else f"graph of {record.graph_steps}"


def _largest(records: Sequence[TrialRecord], field: str) -> float | None:
    peaks = [peak for record in records if (peak := getattr(record, field)) is not None]
    return max(peaks) / 1e6 if peaks else None


def mean_test_mse(records: Sequence[TrialRecord]) -> float:
    """Return the mean test MSE of those trials that ended well."""
    return fmean(record.test_mse for record in records if record.status == "ok" and record.test_mse is not None)


class ErrorsByVariant(Mapping[str, Errors | None]):
    """The errors on the test images of each variant that was asked for, taken when one is looked at.

    None where no trial of one has any. Their seeds' spread is moderated by what a calibration found, where there is
    one for the run's recipe and data set.

    Args:
        run: The run.
        seeds: Below which seeds count; None for all.
    """

    def __init__(self, run: RunDirectory, seeds: int | None = None) -> None:
        self._run = run.load()
        self._seeds = seeds
        calibration = calibration_of(self._run)
        self._priors = calibration.priors if calibration else {}
        self._taken: dict[str, Errors | None] = {}

    def __getitem__(self, variant: str) -> Errors | None:
        if variant not in self._taken:
            records = records_by_variant(self._run)[variant]
            counted = [record for record in records if self._seeds is None or record.seed < self._seeds]
            means = self._run.means(variant, counted)
            declared = records[0].seed_spread if records else None
            priors = [self._priors[declared]] if declared in self._priors else list(self._priors.values())
            self._taken[variant] = Errors(means, priors, fixed=declared == "none") if means else None
        return self._taken[variant]

    def __iter__(self) -> Iterator[str]:
        return iter(self._run.info().rows)

    def __len__(self) -> int:
        return len(self._run.info().rows)


def starts_the_same(records: Sequence[TrialRecord]) -> bool:
    """Say whether a variant has several seeds, and all of them start from the same weights: they tell no chance."""
    return len(records) > 1 and any(record.same_start for record in records)


def records_by_variant(run: RunDirectory) -> dict[str, list[TrialRecord]]:
    """Return the records of each variant that was asked for, in the order of their seeds; those that there are."""
    return run.load().by_variant()


def pca_losses(run: RunDirectory) -> tuple[dict[int, float], set[int]]:
    """Return test_mse of PCA by latent size, and the sizes at which it is exact but for rounding.

    It is with as many numbers as pixels, and with as many as the images' rank.
    """
    run = run.load()
    baselines: dict[str, dict[int, float]] = {"mean": {}, "pca": {}}
    pixels = math.prod(run.info().dataset.image_shape)
    for records in records_by_variant(run).values():
        ok = [record for record in records if record.status == "ok"]
        if ok and ok[0].baseline and ok[0].latent_size is not None:
            baselines[ok[0].baseline][ok[0].latent_size] = mean_test_mse(ok)
    variance = min(baselines["mean"].values(), default=1.0)
    losses = baselines["pca"]
    return losses, {size for size, loss in losses.items() if size >= pixels or loss <= EXACT * variance}


def timings_by_machine(run: RunDirectory) -> dict[Machine, dict[str, Timing]]:
    """Return the timings of the trials that were asked for, by variant, of each machine.

    First comes the machine that timed most variants, of several the latest: the columns of speeds are its.
    """
    run = run.load()
    timed = run.timings()
    environments = {env: None for timing in timed.values() if (env := timing.environment)}
    machines: dict[Machine, dict[str, Timing]] = {}
    for variant, records in records_by_variant(run).items():
        for env in environments if records else ():
            timing = timed.get(timing_name(records[0], env))
            if timing is not None and timing.reason is None and env.threads == records[0].threads:
                machines.setdefault((env.device, env.device_name, env.torch), {})[variant] = timing
    rank = {
        machine: (len(timings), max(timing.measured_at for timing in timings.values()))
        for machine, timings in machines.items()
    }
    return {machine: machines[machine] for machine in sorted(machines, key=lambda machine: rank[machine], reverse=True)}


def untimed(run: RunDirectory) -> dict[str, str]:
    """Return why a variant has no throughput, of those that were to have one and have none on any machine."""
    run = run.load()
    timed = {variant for timings in timings_by_machine(run).values() for variant in timings}
    reasons = {each.variant: each.reason for each in run.timings().values() if each.reason is not None}
    return {variant: reason for variant, reason in reasons.items() if variant not in timed}
