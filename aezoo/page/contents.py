"""What is on the page of a run, read from its records: texts for its template, and data for its scripts. No torch."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aezoo.contract.columns import column
from aezoo.contract.hyperparameters import without_folders
from aezoo.errors import plain
from aezoo.page import charts, looks
from aezoo.run.again import again
from aezoo.run.records import RunInfo, TrialRecord
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import groups
from aezoo.table.cells import HALF_WIDTH, cell, cells, records_of
from aezoo.table.notes import headline, notes, verdicts
from aezoo.table.rows import RANKED, records_by_variant, summarise

LONGEST = 200
"""Characters of a plugin's text in a cell or a label; of what is longer the page says how long it is."""
LONG = 20_000
"""Characters of a reason or a traceback, likewise."""
LONG_LINE = 1_500
"""Characters of a sentence that names variants, likewise."""
POINTS = 120
"""Points of a learning curve, at the most."""
MOST = 500
"""Variants on a page, at the most: of more it shows the best of each group, and says so."""
FAILURES = 100
"""Trials that failed on a page, likewise."""
ALL = "all"
"""The choice of all groups at once."""
_EXTRA = (
    "latent_size", "bits", "coded_bits", "active_units", "support_bits", "latent_parts", "adapted", "adversary_params",
    "flops_per_image",    "train_flops_per_image", "layout", "precision",
)  # fmt: skip
"""Columns that the table of a page can show beside those that it shows."""
_HALF = "half the width of the 95 % interval of test_mse, in per cent of it"
_TEXTS = ("variant", "objective", "status", "layout", "precision")


Keep = Callable[[set[int]], None]
"""Sees to it that a run keeps test images, by their places in the test set."""


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


def contents(run: RunDirectory, keep: Keep | None = None) -> Contents:
    """Return what is on the page of a run.

    `keep` is told which test images it shows, before it reads those that the run keeps.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    run = run.load()
    info = run.info()
    flat = summarise(run)
    whole = flat.iloc[groups.order(flat)]
    table = _shown(whole).reset_index(drop=True)
    ids = {variant: number for number, variant in enumerate(table["variant"])}
    everything = records_by_variant(run)
    records = {variant: everything[variant] for variant in everything if variant in ids}
    columns, written, values = _cells(table)
    rows = [_row(row, len(info.rows[row["variant"]])) for row in records_of(table)]
    for number, row in enumerate(rows):
        row |= {"id": number, "values": values[number]}
    members = _members(rows)
    tied = Counter(row["group"] for row in rows if row["tie"])
    names = Counter(row["name"] for row in rows)
    for row in rows:
        row["tie"] &= tied[row["group"]] > 1
        # Charts know a variant by its name: what is cut may not be taken for another one.
        row["name"] += f" #{row['id']}" if names[row["name"]] > 1 else ""
    comparable = [group for group in members if group not in groups.LAST]
    chosen = {group: [row["variant"] for row in some] for group, some in members.items()}
    everyone = [row["variant"] for row in rows if row["mse"] is not None]
    places = looks.disagreements(run, {**chosen, ALL: everyone})
    if keep is not None:
        keep({each["place"] for some in places.values() for each in some})
    pictures = looks.looks(run, ids)
    data = {
        "title": without_folders(info.recipe.dataset),
        "columns": columns,
        "rows": rows,
        "largest": max(comparable, key=lambda group: len(members[group]), default=ALL),
        "groups": list(members),
        "fronts": {name: _fronts(rows, name, members) for name in charts.SCATTERS},
        "curves": _curves(table, records),
        "batch_size": info.recipe.batch_size,
        "looks": pictures,
        "atlas": looks.atlas(run.read_images(), places, ids, pictures["size"]),
    }
    texts = {
        "title": f"{without_folders(info.recipe.dataset)}, {info.loss_settings['steps']:,} steps",
        "headline": [
            short(line, LONG_LINE).replace(" %", "\u00a0%").replace("± ", "±\u00a0") for line in headline(run, flat)
        ],
        "made": made(run),
        "verdicts": [short(line, LONG_LINE) for line in verdicts(run, flat)],
        "notes": [short(line, LONG) for line in notes(run, flat)],
        "headers": [{**each, "place": place} for place, each in enumerate(columns)],
        "groups": [
            {
                "name": group,
                "rows": [
                    {"id": ids[table["variant"][place]], "cells": written[place], "row": rows[place]}
                    for place in places
                ],
            }
            for group, places in _places(table).items()
        ],
        "left_out": _left_out(len(table), len(whole)),
        "failures": _failures(everything),
        "failed": sum(record.status != "ok" for some in everything.values() for record in some),
        "recipe": info.recipe.to_toml(),
        "settings": {name: str(value) for name, value in info.loss_settings.items()},
        "environments": _environments(everything),
        "exceptions": [
            {"variant": short(variant), "check": short(name), "reason": short(reason, LONG)}
            for variant, some in records.items()
            for name, reason in (some[0].exceptions if some else {}).items()
        ],
        "anchors": [short(anchor.line, LONG) for anchor in run.anchors()],
        "again": [
            {"variant": short(variant), "line": short(again(variant, info.recipe, next(iter(some), None)).line, LONG)}
            for variant, some in ((name, records[name]) for name in table["variant"])
        ],
        "run": plain(run.path.absolute().name),
    }
    return Contents(texts=texts, data=data)


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table in groups that a page shows: all, or the baselines and the best of each group."""
    if len(table) <= MOST:
        return table
    each = max(1, MOST // table["group"].nunique())
    return table[(table.groupby("group", sort=False).cumcount() < each) | table["baseline"].notna()]


def _left_out(shown: int, count: int) -> str:
    """Say how many variants a page leaves out, and where they are; nothing where it shows all."""
    if shown == count:
        return ""
    return (
        f"This page shows {shown:,} of {count:,} variants, in its charts and pictures too: the baselines, and the best "
        "of each code group by their means. Ranks and sentences are about all of them. The whole table is table.csv "
        "beside this page, or `aezoo table`."
    )


def _cells(table: pd.DataFrame) -> tuple[list[dict[str, Any]], list[list[str]], list[list[Any]]]:
    """Return the table's columns, its cells as texts, and what they are sorted and copied by."""
    named, written = cells(table[["group", *(name for name in table if name != "group")]])
    if ("status", "status") not in named:
        named, written = [*named, ("status", "status")], [[*row, "ok"] for row in written]
    extra = [name for name in _EXTRA if table[name].notna().any() and name not in dict(named)]
    named += [(name, name) for name in extra]
    columns = [
        {
            "name": short(name),
            "header": short(header),
            "text": name in _TEXTS,
            "hidden": name in (*extra, "peak_memory_mb", "objective"),
            "meaning": short(_HALF if name == HALF_WIDTH else column(name).meaning),
        }
        for name, header in named
    ]
    values = []
    for place, row in enumerate(records_of(table)):
        written[place] = [short(text) for text in written[place]] + [cell(name, row[name]) for name in extra]
        low, high = row["test_mse_low"], row["test_mse_high"]
        half = None if pd.isna(low) or low <= 0 else 100 * (math.sqrt(high / low) - 1)
        values.append([
            half if name == HALF_WIDTH else written[place][number] if name == "status"
            else short(row[name]) if isinstance(row[name], str) else _number(row[name])
            for number, (name, _) in enumerate(named)
        ])  # fmt: skip
    return columns, written, values


def _row(row: Mapping[str, Any], requested: int) -> dict[str, Any]:
    """Return what the charts and the scripts know of a variant."""
    group = str(row["group"])
    what = next((name for name, word in _WORDS.items() if word in group), None)
    sizes = {"numbers": "latent_size", "units": "active_units", "bits": "bits"}
    size = row[sizes[what]] if what else None
    if what == "bits" and not pd.isna(row["coded_bits"]):
        # What a code takes where it is coded well: so codecs and learnt codes stand on one axis.
        size = row["coded_bits"]
    may_be_best = not pd.isna(row["group_rank_low"]) and row["group_rank_low"] == 1
    drawn = {
        "params": row["num_params"], "train": row["train_images_per_s"], "infer": row["infer_images_per_s"],
        **({what: size} if what else {}),
    }  # fmt: skip
    # A variant of which a seed failed has failed, whatever its other seeds came to.
    ranked = row["status"] in RANKED
    fields = {"mse": "test_mse", "low": "test_mse_low", "high": "test_mse_high"}
    return {
        "variant": plain(row["variant"])[:LONG],
        "name": short(row["variant"]),
        "group": group,
        "kind": kind(row),
        "x": {name: value for name, number in drawn.items() if (value := _number(number)) is not None and value > 0},
        **{name: _number(row[field]) if ranked else None for name, field in fields.items()},
        "pca": row["baseline"] == "pca",
        "tie": may_be_best,
        "complete": row["status"] == "ok" and row["seeds"] == requested,
    }


_WORDS = {"numbers": "number", "units": "active unit", "bits": " bit"}
"""What the name of a group holds, by what its codes are measured in."""


def kind(row: Mapping[str, Any]) -> str:
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
    if name not in charts.CODES:
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
    for number, (variant, status) in enumerate(zip(table["variant"], table["status"], strict=True)):
        if status not in RANKED:
            continue
        ok = [record for record in records[variant] if record.status == "ok" and record.curve]
        steps = [[step for step, _ in record.curve] for record in ok]
        if not ok or any(other != steps[0] for other in steps):
            continue
        losses = np.array([[loss for _, loss in record.curve] for record in ok])
        every = math.ceil(len(steps[0]) / POINTS)
        places = sorted({*range(every - 1, len(steps[0]), every), len(steps[0]) - 1})
        # Of points that are left out, the mean goes into the next one: each is the mean since the one before.
        weights = np.diff(steps[0], prepend=0)
        starts = [0, *(place + 1 for place in places[:-1])]
        losses = np.add.reduceat(losses * weights, starts, axis=1) / np.add.reduceat(weights, starts)
        seconds = [record.train_seconds for record in ok if record.train_seconds]
        curves[number] = {
            "steps": [steps[0][place] for place in places],
            "seconds": sum(seconds) / len(seconds) / steps[0][-1] if seconds else None,
            **{
                name: [float(f"{value:.4g}") for value in over(losses, axis=0)]
                for name, over in (("mean", np.mean), ("low", np.min), ("high", np.max))
            },
        }
    return curves


def made(run: Snapshot) -> tuple[str, str]:
    """Say in two lines how a run was made."""
    info = run.info()
    recipe, data = info.recipe, info.dataset
    channels, height, width = data.image_shape
    first = (
        f"Every network: {info.loss_settings['steps']:,} steps of {recipe.batch_size} images of "
        f"{without_folders(data.name)} ({data.num_train:,} to train, {data.num_test:,} to test, "
        f"{channels}x{height}x{width}), {recipe.updates}, "
        f"{recipe.loss.upper()}, {recipe.precision}, {_seeds(info)}; recipe "
        f"{recipe.name}, fingerprint {info.fingerprint}."
    )
    records = run.records()
    wanted = [trial for trials in info.rows.values() for trial in trials]
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
    count = len(info.rows)
    return first, (
        f"{count} variant{'s' * (count != 1)}, {len(wanted)} trials: {trials or 'none ended'}"
        f"{f', {missing} not run yet' if missing else ''}; on {plain(where)}{others}{until}."
    )


def _seeds(info: RunInfo) -> str:
    counts = [len(trials) for trials in info.rows.values()] or [info.recipe.seeds]
    least, most = min(counts), max(counts)
    return f"{least} seed{'s' * (least != 1)}" if least == most else f"{least} to {most} seeds"


def _failures(records: dict[str, list[TrialRecord]]) -> list[dict[str, Any]]:
    return [
        {
            "label": short(record.label),
            "status": record.status,
            "reason": short(record.reason or "", LONG),
            "traceback": lines(record.traceback) if record.traceback else None,
        }
        for record in itertools.islice(
            (record for some in records.values() for record in some if record.status != "ok"), FAILURES
        )
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


def _number(value: Any) -> float | int | None:
    if value is None or pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)
