"""Hold variants against each other over several data sets: a run of each. It needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from aezoo.run.store import RunDirectory, Snapshot
from aezoo.table import groups, rows
from aezoo.table.statistics import Pairs


@dataclass(frozen=True, kw_only=True)
class Across:
    """A code group over data sets: the variants of it that have a loss on each.

    Args:
        group: The code group with most such variants.
        datasets: The data sets, in the order of the runs.
        runs: The run that stands for each: the first one that is of it.
        ratios: Of each variant, its test MSE over the least on each data set; best mean rank first.
        ranks: Of each variant, its mean rank over the data sets, and the means of the best and of the worst ranks that
            the evidence of each allows. They speak of these data sets, and of no other one.
    """

    group: str
    datasets: tuple[str, ...]
    runs: tuple[str, ...]
    ratios: dict[str, tuple[float, ...]]
    ranks: dict[str, tuple[float, float, float]]

    def profile(self) -> list[dict[str, Any]]:
        """Return a performance profile (Dolan & Moré, 2002): of each variant, within which factor of the best test MSE
        it is in which share of the data sets."""
        points = []
        most = max((ratio for ratios in self.ratios.values() for ratio in ratios), default=1.0)
        for variant, ratios in self.ratios.items():
            shares = {1.0: 0.0}
            for number, ratio in enumerate(sorted(ratios), start=1):
                shares[ratio] = number / len(ratios)
            shares[most * 1.05] = 1.0
            points += [{"name": variant, "x": ratio, "y": share} for ratio, share in shares.items()]
        return points


def across(runs: Sequence[RunDirectory]) -> Across | None:
    """Return how variants stand over the data sets of some runs, the first run of each; None where there is only one.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    by_dataset: dict[str, Snapshot] = {}
    for run in runs:
        snapshot = run.load()
        by_dataset.setdefault(snapshot.info().dataset.name, snapshot)
    if len(by_dataset) < 2:
        return None
    losses = {name: _losses(run) for name, run in by_dataset.items()}
    common = set.intersection(*(set(each) for each in losses.values()))
    names = sorted({group for group, _ in common}, key=groups.place_of)
    if not names:
        return None
    group = max(names, key=lambda name: sum(other == name for other, _ in common))
    variants = sorted(variant for name, variant in common if name == group)
    if len(variants) < 2:
        return None
    ratios: dict[str, list[float]] = {variant: [] for variant in variants}
    places: dict[str, list[tuple[int, int, int]]] = {variant: [] for variant in variants}
    for dataset, run in by_dataset.items():
        own = {variant: losses[dataset][group, variant] for variant in variants}
        order = sorted(variants, key=lambda variant: own[variant])
        errors = rows.errors_by_variant(run)
        records = rows.records_by_variant(run)
        known = [errors[variant] for variant in order]
        # Where nothing is known of another seed, nothing separates.
        judged = [
            each if each and each.knows_seeds and not rows.starts_the_same(records[variant]) else None
            for variant, each in zip(order, known, strict=True)
        ]
        for rank, (variant, (low, high)) in enumerate(
            zip(order, Pairs(judged).ranks(range(len(order))), strict=True), start=1
        ):
            least = own[order[0]]
            ratios[variant].append(own[variant] / least if least else math.inf if own[variant] else 1.0)
            places[variant].append((rank, low, high))
    ranks = {variant: _means(some) for variant, some in places.items()}
    best_first = sorted(variants, key=lambda variant: ranks[variant])
    return Across(
        group=group,
        datasets=tuple(by_dataset),
        runs=tuple(str(run.path) for run in by_dataset.values()),
        ratios={variant: tuple(ratios[variant]) for variant in best_first},
        ranks={variant: ranks[variant] for variant in best_first},
    )


def _losses(run: Snapshot) -> dict[tuple[str, str], float]:
    """Return test_mse of each variant that has one, by its group and its name."""
    table = rows.summarise(run)
    table = table[table["test_mse"].notna() & (table["status"] == "ok")]
    return {
        (str(group), str(variant)): float(mse)
        for group, variant, mse in zip(table["group"], table["variant"], table["test_mse"], strict=True)
    }


def _means(places: Sequence[tuple[int, int, int]]) -> tuple[float, float, float]:
    ranks, lows, highs = zip(*places, strict=True)
    return fmean(ranks), fmean(lows), fmean(highs)
