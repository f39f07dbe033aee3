"""What is on the page of a run, read from its records: texts for its template, and data for its scripts. No torch."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aezoo.contract.columns import column
from aezoo.contract.recipe import BUILT_IN, Recipe, read_recipe
from aezoo.errors import plain
from aezoo.page import charts, looks
from aezoo.run.records import TrialRecord
from aezoo.run.store import RunDirectory, Snapshot
from aezoo.table import groups, render
from aezoo.table.notes import headline, notes, verdicts
from aezoo.table.rows import records_by_variant, summarise

LONGEST = 200
"""Characters of a plugin's text in a cell or a label; of what is longer the page says how long it is."""
LONG = 20_000
"""Characters of a reason or a traceback, likewise."""
POINTS = 120
"""Points of a learning curve, at the most."""
ALL = "all"
"""The choice of all groups at once."""
_EXTRA = ("latent_size", "bits", "active_units", "flops_per_image", "train_flops_per_image", "layout", "precision")
"""Columns that the table of a page can show beside those that it shows."""
_TEXTS = ("variant", "objective", "status", "layout", "precision")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is on a page: `texts` by the names of the template, `data` for the scripts."""

    texts: dict[str, Any]
    data: dict[str, Any]


def short(text: str, limit: int = LONGEST) -> str:
    """Return a text as a page shows it: without control characters; where it is cut, it says how long it was."""
    cleaned = plain(text)
    return cleaned if len(cleaned) <= limit else f"{cleaned[:limit]}… ({len(cleaned):,} characters)"


def lines(text: str) -> str:
    """Return a text of several lines, such as a traceback, as a page shows it."""
    return "\n".join(short(line, LONG) for line in short_lines(text.splitlines()))


def short_lines(some: Sequence[str], limit: int = 400) -> list[str]:
    """Return so many lines, the last ones among them: of a traceback they say most."""
    if len(some) <= limit:
        return list(some)
    return [*some[: limit // 4], f"… {len(some) - limit:,} lines left out …", *some[-3 * limit // 4 :]]


def contents(run: RunDirectory) -> Contents:
    """Return what is on the page of a run.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    run = run.load()
    info = run.info()
    flat = summarise(run)
    table = flat.iloc[groups.order(flat)].reset_index(drop=True)
    ids = {variant: number for number, variant in enumerate(table["variant"])}
    records = records_by_variant(run)
    columns, cells, values = _cells(table)
    rows = [_row(row, records[row["variant"]], len(info.requested[row["variant"]])) for _, row in table.iterrows()]
    for number, row in enumerate(rows):
        row |= {"id": number, "values": values[number]}
    members = _members(rows)
    for row in rows:
        row["tie"] &= len(members.get(row["group"], [])) > 1
    pictures = looks.looks(run, ids)
    data = {
        "title": info.recipe.dataset,
        "columns": columns,
        "rows": rows,
        "largest": max(members, key=lambda group: len(members[group]), default=ALL),
        "groups": list(members),
        "fronts": {name: _fronts(rows, name, members) for name in charts.SCATTERS},
        "curves": _curves(table, records),
        "batch_size": info.recipe.batch_size,
        "looks": pictures,
        "atlas": looks.atlas(run.read_images(), _disagreements(run, rows, members), ids, pictures["size"]),
    }
    texts = {
        "title": f"{info.recipe.dataset}, {info.loss_settings['steps']:,} steps",
        "headline": [line.replace(" %", "\u00a0%").replace("± ", "±\u00a0") for line in headline(run, flat)],
        "made": made(run),
        "verdicts": verdicts(run, flat),
        "notes": [short(line, LONG) for line in notes(run, flat)],
        "headers": [{**each, "place": place} for place, each in enumerate(columns)],
        "groups": [
            {
                "name": group,
                "rows": [
                    {"id": ids[table["variant"][place]], "cells": cells[place], "row": rows[place]} for place in places
                ],
            }
            for group, places in _places(table).items()
        ],
        "failures": _failures(records),
        "recipe": info.recipe.to_toml(),
        "settings": {name: str(value) for name, value in info.loss_settings.items()},
        "environments": _environments(records),
        "exceptions": [
            {"variant": short(variant), "check": short(name), "reason": short(reason, LONG)}
            for variant, some in records.items()
            for name, reason in (some[0].exceptions if some else {}).items()
        ],
        "anchors": [short(anchor.line, LONG) for anchor in run.anchors()],
        "again": [
            {"variant": short(variant), "line": short(_line(variant, some, info.recipe), LONG)}
            for variant, some in ((name, records[name]) for name in table["variant"])
        ],
        "run": str(run.path),
    }
    return Contents(texts=texts, data=data)


def _cells(table: pd.DataFrame) -> tuple[list[dict[str, Any]], list[list[str]], list[list[Any]]]:
    """Return the table's columns, its cells as texts, and what they are sorted and copied by."""
    headers, cells = render.group_cells(table)
    if "status" not in headers:
        headers, cells = [*headers, "status"], [[*row, "ok"] for row in cells]
    extra = [name for name in _EXTRA if table[name].notna().any()]
    headers += extra
    names = {short_name: name for name, short_name in render.SHORT.items()}
    raw = [names.get(header, header) for header in headers]
    columns = []
    for header, name in zip(headers, raw, strict=True):
        meaning = "half the 95 % interval of test_mse, as a share of it" if header == "±95%" else column(name).meaning
        columns.append({
            "name": short(name if header != "±95%" else "half_width"),
            "header": short(header),
            "text": header in _TEXTS,
            "hidden": header in extra or header in ("MB", "objective"),
            "meaning": short(meaning),
        })  # fmt: skip
    values = []
    for place, (_, row) in enumerate(table.iterrows()):
        cells[place] = [short(text) for text in cells[place]] + [render.cell(name, row[name]) for name in extra]
        half = None
        if not pd.isna(row["test_mse_low"]) and row["test_mse_low"] > 0:
            half = math.sqrt(row["test_mse_high"] / row["test_mse_low"]) - 1
        values.append([
            half if name == "±95%" else short(str(row[name])) if isinstance(row[name], str) else _number(row[name])
            for name in raw
        ])  # fmt: skip
    return columns, cells, values


def _row(row: "pd.Series[Any]", records: Sequence[TrialRecord], requested: int) -> dict[str, Any]:
    """Return what the charts and the scripts know of a variant."""
    group = str(row["group"])
    what = next((name for name, word in _WORDS.items() if word in group), None)
    sizes = {"numbers": "latent_size", "units": "active_units", "bits": "bits"}
    size = row[sizes[what]] if what else None
    may_be_best = not pd.isna(row["group_rank_low"]) and row["group_rank_low"] == 1
    drawn = {
        "params": row["num_params"], "train": row["train_images_per_s"], "infer": row["infer_images_per_s"],
        **({what: size} if what else {}),
    }  # fmt: skip
    timed = (bool(records) and records[0].baseline is not None) or not pd.isna(row["infer_images_per_s"])
    return {
        "variant": plain(row["variant"])[:LONG],
        "name": short(row["variant"]),
        "group": group,
        "kind": _kind(row),
        "code": what,
        "x": {name: value for name, number in drawn.items() if (value := _number(number)) is not None and value > 0},
        "mse": _number(row["test_mse"]),
        "low": _number(row["test_mse_low"]),
        "high": _number(row["test_mse_high"]),
        "pca": row["baseline"] == "pca",
        "tie": may_be_best,
        "complete": row["status"] == "ok" and row["seeds"] == requested,
        "timed": timed,
    }


_WORDS = {"numbers": "number", "units": "active unit", "bits": " bit"}
"""What the name of a group holds, by what its codes are measured in."""


def _kind(row: "pd.Series[Any]") -> str:
    """Return the name of a point's colour."""
    objective = "" if pd.isna(row["objective"]) else str(row["objective"])
    if row["baseline"] == "pca":
        return "PCA"
    if pd.notna(row["baseline"]) or "closed form" in objective or "algorithm" in objective:
        return "closed form"
    return "trained" if objective in ("", "mse") else "trained with a penalty, noise or a mask"


def _members(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows with a loss of each group, in the table's order."""
    members: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["mse"] is not None:
            members.setdefault(row["group"], []).append(row)
    return members


def _places(table: pd.DataFrame) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, group in enumerate(table["group"]):
        places.setdefault(str(group), []).append(place)
    return places


def _fronts(
    rows: Sequence[dict[str, Any]], name: str, members: dict[str, list[dict[str, Any]]]
) -> dict[str, list[int]]:
    """Return the ids of those that nobody beats in both, the loss and what it is drawn against: of each group, of all.

    Codes are compared over all groups of their kind: their size is what the chart is about.
    """
    groups_of = {ALL: list(rows)}
    if name not in ("numbers", "units", "bits"):
        groups_of |= members
    return {group: pareto(some, name) for group, some in groups_of.items()}


def pareto(rows: Sequence[dict[str, Any]], name: str) -> list[int]:
    """Return the ids of the rows on the Pareto front, from the cheapest on."""
    sign = -1 if name in charts.FASTER else 1
    drawn = [row for row in rows if row["mse"] and name in row["x"]]
    best, front = math.inf, []
    for row in sorted(drawn, key=lambda row: (sign * row["x"][name], row["mse"])):
        if row["mse"] < best:
            best = row["mse"]
            front.append(row["id"])
    return front


def _curves(table: pd.DataFrame, records: dict[str, list[TrialRecord]]) -> dict[int, dict[str, Any]]:
    """Return the learning curve of each variant that has one: means, least and greatest over the seeds."""
    curves = {}
    for number, variant in enumerate(table["variant"]):
        ok = [record for record in records[variant] if record.status == "ok" and record.curve]
        steps = [[step for step, _ in record.curve] for record in ok]
        if not ok or any(other != steps[0] for other in steps):
            continue
        losses = np.array([[loss for _, loss in record.curve] for record in ok])
        every = math.ceil(len(steps[0]) / POINTS)
        places = sorted({*range(0, len(steps[0]), every), len(steps[0]) - 1})
        seconds = [record.train_seconds for record in ok if record.train_seconds]
        curves[number] = {
            "steps": [steps[0][place] for place in places],
            "seconds": sum(seconds) / len(seconds) / steps[0][-1] if seconds else None,
            **{
                name: [float(f"{value:.4g}") for value in over(losses, axis=0)[places]]
                for name, over in (("mean", np.mean), ("low", np.min), ("high", np.max))
            },
        }
    return curves


def _disagreements(
    run: Snapshot, rows: Sequence[dict[str, Any]], members: dict[str, list[dict[str, Any]]]
) -> looks.Places:
    chosen = {group: [row["variant"] for row in some] for group, some in members.items()}
    return looks.disagreements(run, {**chosen, ALL: [row["variant"] for row in rows if row["mse"] is not None]})


def shown_places(run: RunDirectory) -> set[int]:
    """Return the places of the test images that a page shows beside those that were chosen: the atlas's."""
    run = run.load()
    flat = summarise(run)
    table = flat[flat["test_mse"].notna()]
    members = {str(group): list(some["variant"]) for group, some in table.groupby("group", sort=False)}
    found = looks.disagreements(run, {**members, ALL: list(table["variant"])})
    return {each["place"] for some in found.values() for each in some}


def made(run: Snapshot) -> tuple[str, str]:
    """Say in two lines how a run was made."""
    info = run.info()
    recipe, data = info.recipe, info.dataset
    channels, height, width = data.image_shape
    rate = (
        f"each at its own best of {len(recipe.rates)} learning rates"
        if recipe.rates
        else f"learning rate {recipe.rate:g}"
    )
    first = (
        f"Every network: {info.loss_settings['steps']:,} steps of {recipe.batch_size} images of {data.name} "
        f"({data.num_train:,} to train, {data.num_test:,} to test, {channels}x{height}x{width}), {recipe.optimizer}, "
        f"{rate}, {recipe.loss.upper()}, {recipe.precision}, {recipe.seeds} seed{'s' * (recipe.seeds != 1)}; recipe "
        f"{recipe.name}, fingerprint {info.fingerprint}."
    )
    records = run.records()
    wanted = [trial for trials in info.requested.values() for trial in trials]
    ended = [records[trial] for trial in wanted if trial in records]
    counts = Counter(record.status for record in ended)
    trials = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    missing = len(wanted) - len(ended)
    machines = Counter(
        f"aezoo {env.aezoo}, torch {env.torch}, {env.device_name}" for env in (record.environment for record in ended)
    )
    where = machines.most_common(1)[0][0] if machines else "nowhere yet"
    others = f" and {len(machines) - 1} more" if len(machines) > 1 else ""
    until = f", {max(record.finished_at for record in ended)[:10]}" if ended else ""
    count = len(info.requested)
    return first, (
        f"{count} variant{'s' * (count != 1)}, {len(wanted)} trials: {trials or 'none ended'}"
        f"{f', {missing} not run yet' if missing else ''}; on {plain(where)}{others}{until}."
    )


def _failures(records: dict[str, list[TrialRecord]]) -> list[dict[str, Any]]:
    return [
        {
            "label": short(record.label),
            "status": record.status,
            "reason": short(record.reason or "", LONG),
            "traceback": lines(record.traceback) if record.traceback else None,
        }
        for some in records.values()
        for record in some
        if record.status != "ok"
    ]


def _environments(records: dict[str, list[TrialRecord]]) -> list[dict[str, Any]]:
    """Return each environment in which trials ran, and how many did."""
    counts = Counter(record.environment for some in records.values() for record in some)
    return [
        {
            "trials": count,
            "facts": {name: short(str(value)) for name, value in environment.model_dump().items() if value is not None},
        }
        for environment, count in counts.most_common()
    ]


def _line(variant: str, records: Sequence[TrialRecord], recipe: Recipe) -> str:
    """Return the line that makes a variant's trials again: with the recipe by its name where it is a built-in one."""
    text = variant if "[" in variant else f"{variant}[]"
    named = recipe.name in BUILT_IN and read_recipe(recipe.name) == recipe
    parts = ["aezoo", "bench", text, "--recipe", recipe.name if named else "recipe.toml"]
    if records:
        parts += ["--device", records[0].device]
        parts += ["--threads", str(records[0].threads)] if records[0].threads != 1 else []
        parts += ["--compile"] if records[0].compiled else []
    return shlex.join(parts)


def _number(value: Any) -> float | int | None:
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)
