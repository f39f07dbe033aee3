"""The page that compares several runs: verdicts against the first one, and how variants stand over data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aezoo.contract.columns import COMPARED
from aezoo.errors import ComparisonRefusedError, plain
from aezoo.page import charts
from aezoo.page.contents import LONG, made, short
from aezoo.page.page import rendered
from aezoo.run.files import write_text
from aezoo.run.store import RunDirectory, Snapshot
from aezoo.table import compare, render
from aezoo.table.across import Across, across

DRAWN = 10
"""Variants in the charts, those of the best mean ranks."""
_SCRIPTS = ("state.js", "vega.js", "theme.js", "compared.js")
_SHOWN = (
    "variant", "verdict", "test_mse_a", "test_mse_b", "change_percent", "change_percent_low", "change_percent_high",
    "train_speed_ratio", "infer_speed_ratio", "status_a", "status_b", "network",
)  # fmt: skip


def write(runs: Sequence[RunDirectory], path: Path) -> Path:
    """Write the page that compares runs; the others are held against the first one.

    Raises:
        AezooError: there is no run, or the page cannot be written.
    """
    write_text(path, html(runs))
    return path


def html(runs: Sequence[RunDirectory]) -> str:
    """Return the page that compares runs.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    snapshots = [run.load() for run in runs]
    base, *others = snapshots
    compared = [_compared(base, other) for other in others]
    over = across(snapshots)
    drawn, bundle = charts.compiled()
    texts = {
        "title": f"{len(runs)} runs compared",
        "headline": _headline(compared, over),
        "runs": [{"path": plain(str(run.path)), "made": made(run)} for run in snapshots],
        "compared": compared,
        "over": None if over is None else _over(over),
        "headers": [{"header": column.name, "meaning": column.meaning} for column in COMPARED if column.name in _SHOWN],
    }
    data: dict[str, Any] = {
        "title": texts["title"], "columns": [], "rows": [], "groups": [], "largest": "all", "fronts": {}, "curves": {},
        "charts": {name: drawn[name] for name in ("profile", "ranks")}, "titles": charts.TITLES, "axes": {},
    }  # fmt: skip
    if over is not None:
        best = list(over.ratios)[:DRAWN]
        # Charts know a variant by its name: what is cut may not be taken for another one.
        names = {variant: f"{number}. {short(variant)}" for number, variant in enumerate(best, start=1)}
        data["profile"] = [
            {**point, "name": names[point["name"]], "x": min(point["x"], 1e6)}
            for point in over.profile()
            if point["name"] in best
        ]
        data["ranks"] = [
            {"name": names[variant], "mean": mean, "low": low, "high": high}
            for variant, (mean, low, high) in over.ranks.items()
            if variant in names
        ]
    return rendered("compared.html.jinja", _SCRIPTS, bundle, texts, data, 0)


def _compared(base: Snapshot, other: Snapshot) -> dict[str, Any]:
    """Return how a run stands to the first one, as the page shows it: a table, or why there is none."""
    facts: dict[str, Any] = {"path": plain(str(other.path)), "refused": None, "rows": [], "notes": [], "summary": ""}
    try:
        table = compare.compare(base, other)
    except ComparisonRefusedError as error:
        return facts | {"refused": short(str(error), LONG)}
    shown = table[list(_SHOWN)]
    return facts | {
        "summary": compare.summary(table),
        "notes": [short(line, LONG) for line in compare.notes(base, other)],
        "rows": [
            {
                "verdict": "" if pd.isna(row["verdict"]) else str(row["verdict"]),
                "cells": [
                    {"text": short(render.cell(name, row[name])), "is_text": isinstance(row[name], str)}
                    for name in _SHOWN
                ],
            }
            for _, row in shown.iterrows()
        ],
    }


def _over(over: Across) -> dict[str, Any]:
    return {
        "group": over.group,
        "datasets": [short(name) for name in over.datasets],
        "runs": [plain(path) for path in over.runs],
        "drawn": min(DRAWN, len(over.ratios)),
        "rows": [
            {
                "variant": short(variant),
                "rank": f"{over.ranks[variant][0]:.2f} ({over.ranks[variant][1]:.1f}-{over.ranks[variant][2]:.1f})",
                "ratios": [f"{ratio:.3f}" for ratio in ratios],
            }
            for variant, ratios in over.ratios.items()
        ],
    }


def _headline(compared: Sequence[dict[str, Any]], over: Across | None) -> tuple[str, str]:
    """Say in two sentences what the comparison comes to."""
    refused = sum(each["refused"] is not None for each in compared)
    held = len(compared) - refused
    if over is not None:
        (best, (mean, low, high)), *others = over.ranks.items()
        shares = sum(rank[0] == mean for _, rank in others)
        has = f"and {shares} more share" if shares else "has"
        first = (
            f"Over {len(over.datasets)} data sets, with codes of {over.group}, {best} {has} the best mean rank of "
            f"{len(over.ranks)} variants: {mean:.1f}, and by the evidence between {low:.1f} and {high:.1f}."
        )
    elif held:
        first = f"{next(each['summary'] for each in compared if each['refused'] is None).capitalize()}."
    else:
        first = "These runs cannot be held against each other, variant by variant."
    second = f"Of {len(compared)} held against the first run, {held} {'was' if held == 1 else 'were'} made alike"
    rest = f"; the other {refused} differ in what a loss depends on" if refused else ""
    return short(first, LONG), f"{second}{rest}."
