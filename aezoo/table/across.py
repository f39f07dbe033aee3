"""A leaderboard: how variants stand over data sets, a run of each. It needs no torch."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd

from aezoo.contract.columns import FIGURES, LEADERS
from aezoo.contract.hyperparameters import without_folders
from aezoo.errors import plain
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import groups, rows
from aezoo.table.compare import differing_settings, network_changes
from aezoo.table.notes import listed
from aezoo.table.pairs import Pairs


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Variants over data sets, each in its code group.

    Args:
        datasets: What each data set is called, in the order of the runs.
        runs: The run that stands for each: the first one that is of it.
        left_out: The other runs, each with why.
        table: A row for each variant and code group: `group`, `variant`, the columns of
            `aezoo.contract.columns.LEADERS`, and each of its FIGURES on each data set (`mse_on_digits`). In a group
            come first those that are on all of its data sets, the best mean rank first: they alone have one.
        lacking: What a data set lacks, and which variants are other networks on another one, a line each.
    """

    datasets: tuple[str, ...]
    runs: tuple[Snapshot, ...] = field(repr=False)
    left_out: dict[str, str]
    table: pd.DataFrame = field(repr=False)
    lacking: tuple[str, ...]

    def view(self, figure: str) -> pd.DataFrame:
        """Return the table with one of the FIGURES alone."""
        columns = ["group", "variant", *(column.name for column in LEADERS), "baseline"]
        return self.table[columns + [f"{figure}_on_{name}" for name in self.datasets]]

    @property
    def largest(self) -> str | None:
        """The code group with most ranked variants, of those that are on two data sets or more; None where none is."""
        counts = Counter(self._ranked["group"])
        return max(counts, key=lambda group: counts[group]) if counts else None

    def sentences(self) -> dict[str, str]:
        """Say of each code group with something to compare, over two data sets or more, who has the best mean rank."""
        said = {}
        for group, ranked in self._ranked.groupby("group", sort=False):
            best, *others = (row for _, row in ranked.iterrows())
            shares = sum(row["mean_rank"] == best["mean_rank"] for row in others)
            has = f"and {shares} more share" if shares else "has"
            said[str(group)] = plain(
                f"Over {best['datasets']} data sets, with codes of {group}, {best['variant']} {has} the best mean rank "
                f"of {len(ranked)} variants: {best['mean_rank']:.1f}, and by the evidence between "
                f"{best['mean_rank_low']:.1f} and {best['mean_rank_high']:.1f}."
            )
        return said

    def notes(self, figure: str) -> list[str]:
        """Say, a line each, what the reader of a view must know: settings, what was left out, and what is missing."""
        lines = [
            f"{figure}: {FIGURES[figure].meaning}",
            "rank: the mean over the data sets of a code group, of the variants that have a loss on all of them; in "
            "brackets the means of the best and of the worst ranks that the evidence of each data set allows: they "
            "speak of these data sets, and of no other one",
        ]
        for name, run in zip(self.datasets, self.runs, strict=True):
            info = run.info()
            lines.append(
                f"{name}: recipe {info.recipe.name} ({info.fingerprint}), {info.loss_settings['steps']:,} steps of "
                f"{info.recipe.batch_size}; run: {run.path}"
            )
        lines += [f"left out: {path}: {why}" for path, why in self.left_out.items()]
        return [plain(line) for line in [*lines, *self.lacking]]

    def profile(self, group: str) -> list[dict[str, Any]]:
        """Return a performance profile of a code group (Dolan & Moré, 2002): of each ranked variant, within which
        factor of the least test MSE it is in which share of the data sets."""
        ranked = self._ranked[self._ranked["group"] == group]
        by_variant = {
            row["variant"]: sorted(ratio for name in self.datasets if not pd.isna(ratio := row[f"ratio_on_{name}"]))
            for _, row in ranked.iterrows()
        }
        points = []
        most = max((ratios[-1] for ratios in by_variant.values()), default=1.0)
        for variant, ratios in by_variant.items():
            shares = {1.0: 0.0}
            for number, ratio in enumerate(ratios, start=1):
                shares[ratio] = number / len(ratios)
            shares[most * 1.05] = 1.0
            points += [{"name": variant, "x": ratio, "y": share} for ratio, share in shares.items()]
        return points

    @property
    def _ranked(self) -> pd.DataFrame:
        """The rows with a mean rank over two data sets or more, and another one in their group."""
        ranked = self.table[self.table["mean_rank"].notna() & (self.table["datasets"] > 1)]
        return ranked[ranked.groupby("group")["variant"].transform("size") > 1]


def leaderboard(runs: Sequence[RunDirectory]) -> Leaderboard:
    """Return how variants stand over the data sets of some runs.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    standing: dict[tuple[str, str], RunDirectory] = {}
    left_out: dict[str, str] = {}
    for run in runs:
        first = standing.setdefault(dataset_of(run), run)
        if first is not run:
            left_out[str(run.path)] = _why_left_out(first, run)
    names = _names(list(standing))
    by_name = {name: run.load() for name, run in zip(names, standing.values(), strict=True)}
    tables = {name: rows.summarise(run).set_index("variant", drop=False) for name, run in by_name.items()}
    cells = _cells(tables)
    return Leaderboard(
        datasets=names,
        runs=tuple(by_name.values()),
        left_out=left_out,
        table=_table(cells, names, _mean_ranks(cells, by_name)),
        lacking=(*_missing(cells, tables), *_other_networks(by_name)),
    )


def dataset_of(run: RunDirectory) -> tuple[str, str]:
    """Return what tells a run's data set from others: its text without folders, and the hash of its pixels."""
    data = run.info().dataset
    return without_folders(data.name), data.sha256


Cells = dict[str, dict[str, dict[str, "pd.Series[Any]"]]]
"""The rows with a loss, in the tables of the runs: by code group, by variant, by data set."""


def _why_left_out(first: RunDirectory, run: RunDirectory) -> str:
    """Say why a run does not stand for its data set."""
    if first.info().fingerprint == run.info().fingerprint:
        return (
            f"{first.path} stands for the data set, made under the same settings; `aezoo merge` makes one run of them"
        )
    differing = ", ".join(differing_settings(first.info(), run.info()))
    return f"{first.path} stands for the data set, and was made under other settings: they differ in {differing}"


def _names(keys: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return what data sets are called, by their texts and the hashes of their pixels: none as another one."""
    texts = [plain(text) for text, _ in keys]
    return tuple(
        text if texts.count(text) == 1 else f"{text} #{place} ({sha256[:6]})"
        for place, (text, (_, sha256)) in enumerate(zip(texts, keys, strict=True), start=1)
    )


def _cells(tables: Mapping[str, pd.DataFrame]) -> Cells:
    """Return the rows with a loss. A variant that has none anywhere is in the group that says so, without a row."""
    cells: Cells = defaultdict(lambda: defaultdict(dict))
    for dataset, table in tables.items():
        for variant, row in table[_has_a_loss(table)].iterrows():
            cells[row["group"]][str(variant)][dataset] = row
    scored = {variant for members in cells.values() for variant in members}
    for table in tables.values():
        for variant, group in table["group"].items():
            if variant not in scored:
                scored.add(str(variant))
                cells[group if group in groups.LAST else groups.FAILED][str(variant)] = {}
    return cells


def _has_a_loss(table: pd.DataFrame) -> "pd.Series[bool]":
    return table["test_mse"].notna() & (table["status"] == "ok")


def _mean_ranks(cells: Cells, by_name: Mapping[str, Snapshot]) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the mean rank, and the means of the best and of the worst ranks, by code group and variant.

    Those of a group are of the variants that are on each of its data sets, ranked among themselves.
    """
    complete: dict[str, list[str]] = {}
    for group, members in cells.items():
        everywhere = {dataset for own in members.values() for dataset in own}
        complete[group] = [variant for variant, own in members.items() if own and len(own) == len(everywhere)]
    places: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for dataset, run in by_name.items():
        errors = rows.ErrorsByVariant(run)
        records = rows.records_by_variant(run)
        for group, variants in complete.items():
            own = [variant for variant in variants if dataset in cells[group][variant]]
            order = sorted(own, key=lambda variant: float(cells[group][variant][dataset]["test_mse"]))
            # Where nothing is known of another seed, nothing separates.
            judged = [
                each if each and each.knows_seeds and not rows.starts_the_same(records[variant]) else None
                for variant in order
                for each in [errors[variant]]
            ]
            ranks = Pairs(judged).ranks(range(len(order)))
            for rank, (variant, (low, high)) in enumerate(zip(order, ranks, strict=True), start=1):
                # Of very many nothing is judged: each may have any rank.
                places[group, variant].append((rank, low or 1, high or len(order)))
    return {key: _means(some) for key, some in places.items()}


def _means(places: Sequence[tuple[int, int, int]]) -> tuple[float, float, float]:
    ranks, lows, highs = zip(*places, strict=True)
    return fmean(ranks), fmean(lows), fmean(highs)


def _table(
    cells: Cells, datasets: Sequence[str], ranks: Mapping[tuple[str, str], tuple[float, float, float]]
) -> pd.DataFrame:
    made = []
    for group in sorted(cells, key=groups.place_of):
        least = {
            dataset: min(
                (float(own[dataset]["test_mse"]) for own in cells[group].values() if dataset in own), default=0
            )
            for dataset in datasets
        }
        members = [_row(group, variant, own, least, ranks) for variant, own in cells[group].items()]
        made += sorted(members, key=_place)
    figures = [f"{figure}_on_{name}" for name in datasets for figure in FIGURES]
    dtypes = {"group": "object", "variant": "object"}
    dtypes |= {column.name: "Int64" if column.kind == "integer" else "Float64" for column in LEADERS}
    dtypes |= {"baseline": "object"} | dict.fromkeys(figures, "Float64")
    return pd.DataFrame(made, columns=list(dtypes)).astype(dtypes)


def _row(
    group: str,
    variant: str,
    own: Mapping[str, "pd.Series[Any]"],
    least: Mapping[str, float],
    ranks: Mapping[tuple[str, str], tuple[float, float, float]],
) -> dict[str, Any]:
    mean, low, high = ranks.get((group, variant), (None, None, None))
    baselines = [row["baseline"] for row in own.values()]
    row: dict[str, Any] = {
        "group": group, "variant": variant, "mean_rank": mean, "mean_rank_low": low, "mean_rank_high": high,
        "datasets": len(own), "baseline": baselines[0] if baselines else None,
    }  # fmt: skip
    for dataset, cell in own.items():
        mse = float(cell["test_mse"])
        ratio = mse / least[dataset] if least[dataset] else math.inf if mse else 1.0
        row |= {f"mse_on_{dataset}": mse, f"ratio_on_{dataset}": ratio, f"vs_pca_on_{dataset}": cell["vs_pca"]}
    return row


def _place(row: Mapping[str, Any]) -> tuple[bool, float, int, float, str]:
    """Return where a row stands in its group: by mean rank; without one by its data sets, then by its mean ratio."""
    ratios = [math.log(value) for name, value in row.items() if name.startswith("ratio_on_")]
    mean = row["mean_rank"]
    return mean is None, mean or 0.0, -row["datasets"], fmean(ratios) if ratios else 0.0, row["variant"]


def _missing(cells: Cells, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say of each data set which variants have no loss on it in a code group that is there, and why."""
    lines = []
    for dataset, table in tables.items():
        # Each once, whatever the number of its groups.
        why: dict[str, dict[str, None]] = defaultdict(dict)
        for group, members in cells.items():
            is_there = group in groups.LAST or any(dataset in own for own in members.values())
            for variant in members:
                if is_there and dataset not in members[variant]:
                    why[_why_missing(table, variant)][variant] = None
        lines += [f"{dataset}: {reason}: {listed(variants)}" for reason, variants in why.items()]
    return lines


def _why_missing(table: pd.DataFrame, variant: str) -> str:
    if variant not in table.index:
        return "not in its run"
    status = str(table.loc[variant]["status"])
    return "in another code group there" if status == "ok" else status


def _other_networks(by_name: Mapping[str, Snapshot]) -> list[str]:
    """Say which variants are another network on one data set than on the first that has them."""
    first: dict[str, tuple[str, Any]] = {}
    changed: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for dataset, run in by_name.items():
        for variant, records in rows.records_by_variant(run).items():
            for record in records[:1]:
                before, earlier = first.setdefault(variant, (dataset, record))
                if changes := network_changes(earlier, record):
                    changed[dataset, before, "; ".join(changes)].append(variant)
    return [
        f"another network on {dataset} than on {before}: {what}: {listed(variants)}"
        for (dataset, before, what), variants in changed.items()
    ]
