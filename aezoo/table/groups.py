"""Groups of variants whose codes are of one size, and what the evidence says of each, in words. It needs no torch."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aezoo.contract.columns import column
from aezoo.table.statistics import Errors

NO_LATENT, NOT_YET, FAILED = "no latent", "not run yet", "failed"
LAST = {NO_LATENT: 0.0, NOT_YET: 1.0, FAILED: 2.0}
UNFINISHED = ("interrupted", "running", "waiting")
"""Variants of which some trials have not ended: nothing is at them, or a bench is, or it is at others."""
_OPEN = "nothing is told apart"
_AGAINST_PCA = {"better": "ahead of PCA", "worse": "behind PCA", "not decided": "not told from PCA"}
_NAMED = 2
"""So many of the best are named in a sentence, where they are not told apart."""
_EXACT, _FACTOR = 1e6, 3.0
"""Ratios of losses: beyond the first one of them is rounding alone, beyond the second per cents read badly."""


def group_of(row: Mapping[str, Any], kind: str | None) -> str:
    """Return the group of a row of the table, by what the size of its latent is read in.

    Continuous latents go by their numbers, sparse ones by their active units, discrete ones by their bits, the latter
    two rounded to a power of 2.
    """
    failed = row["status"] not in ("ok", *UNFINISHED)
    if failed or row["test_mse"] is None:
        return FAILED if failed else NOT_YET
    if kind == "continuous" and row["latent_size"] is not None:
        return f"{row['latent_size']} number{'' if row['latent_size'] == 1 else 's'}"
    for name, what in (("active_units", "active units"), ("bits", "bits")):
        if row[name] is not None:
            near = 2 ** round(math.log2(max(1.0, float(row[name]))))
            return f"about {near} {what.removesuffix('s') if near == 1 else what}"
    return NO_LATENT


def order(table: pd.DataFrame) -> list[int]:
    """Return the places of a table's rows, group by group, and best first in each."""
    return sorted(range(len(table)), key=lambda place: (place_of(table["group"].iloc[place]), place))


def place_of(group: str) -> tuple[int, float]:
    """Return where a group stands among the others: numbers, then active units, then bits, then the rest."""
    size = re.search(r"\d+", group)
    if size is None:
        return 3, LAST[group]
    return ("number" not in group) + ("bit" in group), float(size[0])


def verdicts(table: pd.DataFrame, errors: Mapping[str, Errors | None]) -> list[str]:
    """Say in a sentence for each group with something to compare, in the table's order, what the evidence supports."""
    lines = []
    for group, rows in table.groupby("group", sort=False):
        ranked = rows[rows["group_rank"].notna()].sort_values("group_rank")
        if len(ranked) < 2 or str(group) in LAST:
            continue
        best = _best(ranked, errors) if _is_judged(ranked) else f"{ranked['variant'].iloc[0]} has the least mean"
        counts = {what: int((ranked["against_pca"] == verdict).sum()) for verdict, what in _AGAINST_PCA.items()}
        if best == _OPEN and any(counts[_AGAINST_PCA[verdict]] for verdict in ("better", "worse")):
            # There are fewer pairs with PCA, and the same evidence goes further.
            best = f"{_OPEN} among all, but against PCA alone"
        where = str(group) if str(group).startswith("about") else f"at {group}"
        lines.append("; ".join([f"{where}: {best}", *(f"{count} {what}" for what, count in counts.items() if count)]))
    return lines


def headline(table: pd.DataFrame, errors: Mapping[str, Errors | None]) -> tuple[str, str]:
    """Say in two sentences what the evidence supports in the largest group, for who reads nothing else."""
    ranked = table[table["group_rank"].notna() & ~table["group"].isin(list(LAST))]
    # Baselines alone are no comparison: who asked for a network that failed is not told of the mean image.
    tried = ranked.loc[ranked["baseline"].isna(), "group"]
    if not len(tried):
        failed = int((table["group"] == FAILED).sum())
        waiting = int((table["group"] == NOT_YET).sum())
        alone = len(ranked)
        counts_of = (
            (failed, "failed"),
            (waiting, "has not run yet" if waiting == 1 else "have not run yet"),
            (alone, "is a baseline" if alone == 1 else "are baselines"),
        )
        parts = [f"{count} {what}" for count, what in counts_of if count]
        left = len(table) - failed - waiting - alone
        if left:
            parts.append(f"{left} {'has' if left == 1 else 'have'} a loss, but no latent whose size is known")
        return f"Nothing can be compared: of {len(table)} variants {', '.join(parts)}.", (
            "What became of each stands below."
        )
    sizes = ranked["group"].value_counts()
    most = max(sizes[group] for group in tried)
    largest = next(group for group in tried if sizes[group] == most)
    rows = ranked[ranked["group"] == largest].sort_values("group_rank")
    best = rows.iloc[0]
    name = best["variant"]
    loss = f"test MSE {column('test_mse').format(float(best['test_mse']))}{_half(best)}"
    size = f"codes of {largest}"
    may_be = rows[rows["group_rank_low"] == 1]
    if len(rows) == 1:
        first = f"With {size} there is one variant, {name}: {loss}."
    elif not _is_judged(rows):
        first = f"With {size}, {name} has the least mean of {len(rows)} variants ({loss}); so many are not judged."
    elif len(may_be) == len(rows):
        first = f"With {size} nothing is told apart among {len(rows)} variants; {name} has the least mean ({loss})."
    elif len(may_be) > 1:
        named = [f"{row['variant']}{_why_tied(row, best)}" for _, row in may_be.iloc[1 : _NAMED + 1].iterrows()]
        unnamed = len(may_be) - 1 - len(named)
        tied = ", ".join(named) + (f" and {unnamed} more" if unnamed else "")
        rest = len(rows) - len(may_be)
        others = f"the other {rest}" if rest > 1 else "the other one"
        first = (
            f"With {size}, {name} has the least error of {len(rows)} variants ({loss}); by the evidence {tied} may be "
            f"best too, and {others} may not."
        )
    else:
        ahead = _best(rows, errors).removeprefix(f"{name} is best,")
        first = f"With {size}, {name} is the best of {len(rows)} variants ({loss}),{ahead}."
    pca = rows[rows["baseline"] == "pca"]
    if not len(pca):
        return first, "No PCA with codes of that size is here to read it against."
    counts = rows["against_pca"].value_counts()
    verdicts = (("better", "are better than it"), ("worse", "worse"), ("not decided", "not decided"))
    parts = [f"{counts[verdict]} {what}" for verdict, what in verdicts if counts.get(verdict)]
    at_all = f", and of the others {', '.join(parts)}" if parts else ""
    reference = column("test_mse").format(float(pca.iloc[0]["test_mse"]))
    return first, f"PCA with codes of that size has {reference}{at_all}."


def _is_judged(ranked: pd.DataFrame) -> bool:
    """Say whether the ranks of a group have intervals: of very many variants they have none."""
    return bool(ranked["group_rank_low"].notna().all())


def _why_tied(row: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Say why a variant with a far greater mean is not told apart from the best: its few seeds spread too widely."""
    ratio = row["test_mse"] / best["test_mse"] if best["test_mse"] else 1.0
    return f" (its mean is {ratio:.1f} times that, but {row['seeds']} seeds of it say little)" if ratio >= 1.5 else ""


def _half(row: Mapping[str, Any]) -> str:
    """Return half the width of a loss's interval, in words, or nothing."""
    low, high = row["test_mse_low"], row["test_mse_high"]
    if pd.isna(low) or pd.isna(high) or low <= 0:
        return ""
    factor = math.sqrt(high / low)
    return f" ± {100 * (factor - 1):.1f} %" if factor < 1.5 else f", within a factor of {factor:.2g}"


def _best(ranked: pd.DataFrame, errors: Mapping[str, Errors | None]) -> str:
    """Say which variants may be the best of a group, and how far the first that may not is behind the best loss."""
    names: Sequence[str] = list(ranked["variant"])
    may_be = [name for name, low in zip(names, ranked["group_rank_low"], strict=True) if low == 1]
    if len(may_be) == len(names):
        return _OPEN
    behind = next(name for name in names if name not in may_be)
    if len(may_be) > 1:
        named, rest = may_be[1 : _NAMED + 1], len(may_be) - 1 - _NAMED
        others = ", ".join(named) + (f" and {rest} more" if rest > 0 else "")
        # What is behind another one is not always behind the leader, whose own seeds may tell little.
        return f"{may_be[0]} leads, but {others} may be best too; {len(names) - len(may_be)} may not"
    better, worse = errors[names[0]], errors[behind]
    ratios = worse.over(better).ratios() if better and worse else None
    if ratios is not None and ratios[0] > _EXACT:
        return f"{may_be[0]} is best, exact but for rounding, ahead of {behind}"
    return f"{may_be[0]} is best, ahead of {behind}{'' if ratios is None else by(*ratios)}"


def by(low: float, high: float) -> str:
    """Say by how much a loss is ahead, whose ratio to another one lies between these: in per cent, or as a factor."""
    if high <= _FACTOR:
        return f" by {100 * (low - 1):.0f} to {100 * (high - 1):.0f} %"
    least, most = (f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}" for ratio in (low, high))
    return f" by a factor of {least} to {most}"
