"""The page that compares several runs: a leaderboard over data sets, and verdicts where one data set has several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aezoo.contract.columns import COMPARED, column
from aezoo.errors import ComparisonRefusedError, counted, plain
from aezoo.page import charts
from aezoo.page.contents import LONG, made, short
from aezoo.page.page import rendered
from aezoo.run.files import write_text
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import cells, compare
from aezoo.table.across import Leaderboard, dataset_of, leaderboard

DRAWN = 10
"""Variants in the charts, those of the best mean ranks."""
_SCRIPTS = ("state.js", "vega.js", "theme.js", "compared.js")
_SHOWN = (
    "variant", "verdict", "test_mse_a", "test_mse_b", "change_percent", "change_percent_low", "change_percent_high",
    "train_speed_ratio", "infer_speed_ratio", "status_a", "status_b", "network",
)  # fmt: skip


def write(runs: Sequence[RunDirectory], path: Path) -> Path:
    """Write the page that compares runs; each is held against the first one of its data set.

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
    board = leaderboard(snapshots)
    bases = {dataset_of(run): run for run in board.runs}
    compared = [_compared(base, run) for run in snapshots if (base := bases[dataset_of(run)]) is not run]
    drawn, bundle = charts.compiled()
    several = len(board.datasets) > 1
    texts = {
        "title": f"{len(runs)} runs compared",
        "headline": _headline(compared, board),
        "runs": [{"path": plain(str(run.path)), "made": made(run)} for run in snapshots],
        "compared": compared,
        "over": _over(board) if several else None,
        "headers": [{"header": column.name, "meaning": column.meaning} for column in COMPARED if column.name in _SHOWN],
    }
    data: dict[str, Any] = {
        "title": texts["title"], "columns": [], "rows": [], "groups": [], "largest": "all", "fronts": {}, "curves": {},
        "charts": {name: drawn[name] for name in ("profile", "ranks")}, "titles": charts.TITLES, "axes": {},
    }  # fmt: skip
    if board.largest is not None:
        ranked = board.table[(board.table["group"] == board.largest) & board.table["mean_rank"].notna()]
        # Charts know a variant by its name: what is cut may not be taken for another one.
        names = {
            variant: f"{number}. {short(variant)}" for number, variant in enumerate(ranked["variant"][:DRAWN], start=1)
        }
        data["profile"] = [
            {**point, "name": names[point["name"]], "x": min(point["x"], 1e6)}
            for point in board.profile(board.largest)
            if point["name"] in names
        ]
        data["ranks"] = [
            {
                "name": names[row["variant"]], "mean": float(row["mean_rank"]),
                "low": float(row["mean_rank_low"]), "high": float(row["mean_rank_high"]),
            }
            for _, row in ranked[:DRAWN].iterrows()
        ]  # fmt: skip
    return rendered("compared.html.jinja", _SCRIPTS, bundle, texts, data, 0)


def _compared(base: Snapshot, other: Snapshot) -> dict[str, Any]:
    """Return how a run stands to the first one of its data set, as the page shows it: a table, or why there is none."""
    facts: dict[str, Any] = {
        "path": plain(str(other.path)), "base": plain(str(base.path)), "refused": None, "rows": [], "notes": [],
        "summary": "",
    }  # fmt: skip
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
                    {"text": short(cells.cell(name, row[name])), "is_text": isinstance(row[name], str)}
                    for name in _SHOWN
                ],
            }
            for _, row in shown.iterrows()
        ],
    }


def _over(board: Leaderboard) -> dict[str, Any]:
    """Return the leaderboard as the page shows it: a table of the test MSE for each code group."""
    table = board.view("mse")
    columns, texts = cells.cells(table)
    rows = list(zip(table["group"], texts, strict=True))
    drawn = 0 if board.largest is None else int(((table["group"] == board.largest) & table["mean_rank"].notna()).sum())
    return {
        "count": len(board.datasets),
        "largest": board.largest,
        "drawn": min(DRAWN, drawn),
        "headers": [{"header": short(header), "meaning": column(name).meaning} for name, header in columns],
        "sentences": [short(line, LONG) for line in board.sentences().values()],
        "groups": [
            {"name": group, "rows": [[short(text) for text in row] for name, row in rows if name == group]}
            for group in dict.fromkeys(table["group"])
        ],
        "notes": [short(line, LONG) for line in board.notes("mse")],
    }


def _headline(compared: Sequence[dict[str, Any]], board: Leaderboard) -> tuple[str, str]:
    """Say in two sentences what the comparison comes to."""
    refused = sum(each["refused"] is not None for each in compared)
    held = len(compared) - refused
    if board.largest is not None:
        first = board.sentences()[board.largest]
    elif held:
        first = f"{next(each['summary'] for each in compared if each['refused'] is None).capitalize()}."
    elif len(board.datasets) > 1:
        first = f"No two variants with codes of one size are on all of these {len(board.datasets)} data sets."
    else:
        first = "These runs cannot be held against each other, variant by variant."
    if not compared:
        return short(first, LONG), "Each of these runs is of a data set of its own."
    second = (
        f"Of {counted(len(compared), 'run')} held against the first of {'their' if len(compared) > 1 else 'its'} data "
        f"set, {held} {'was' if held == 1 else 'were'} made alike"
    )
    rest = f"; {refused} {'differs' if refused == 1 else 'differ'} in what a loss depends on" if refused else ""
    return short(first, LONG), f"{second}{rest}."
