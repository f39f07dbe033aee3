"""Derive the table of a run from its records, and write it out. It runs nothing, and needs no torch."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import pandas as pd
import tabulate

from aezoo.errors import AezooError, did_you_mean
from aezoo.records import Status, Timing, TrialRecord
from aezoo.statistics import Errors, paired_ratio, rank_intervals, spread
from aezoo.store import RunDirectory, write_text
from aezoo.text import plain

COLUMNS = (
    "rank", "variant", "objective", "latent_size", "num_params", "test_mse", "test_mse_low", "test_mse_high", "vs_pca",
    "train_images_per_s", "infer_images_per_s", "peak_memory_mb", "seeds", "status",
    "train_vs_reference", "infer_vs_reference", "matmul_share", "train_spread", "infer_spread", "flops_per_image",
    "train_flops_per_image", "infer_memory_mb", "device_memory_mb", "infer_device_memory_mb", "compile_seconds",
    "batch_size", "threads", "precision", "compiled", "device", "rank_low", "rank_high", "deterministic",
    "exceptions",
)  # fmt: skip
"""`vs_pca` is test_mse over PCA's at the same latent size; `vs_reference` a speed over that of the reference for speeds
in the same rounds; `matmul_share` the FLOPs a second of training over those of a product of two matrices. A spread is
an interquartile range over its median. `rank_low` to `rank_high` are the ranks that the evidence allows. It is
`deterministic` where the preflight came twice to one network from one seed. `exceptions` are the checks of the contract
that the plugin's author declared as not met; the notes have the reasons. After these come the metrics that were asked
for, a column each, their means over the seeds."""
_HIDDEN = COLUMNS[COLUMNS.index("matmul_share") :]
"""Columns for table.csv alone: a person reads them in the notes, as marks on a figure, or not at all."""
_INTEGERS = (
    "rank", "latent_size", "num_params", "seeds", "flops_per_image", "train_flops_per_image", "batch_size", "threads",
    "rank_low", "rank_high",
)  # fmt: skip
_TEXTS = ("variant", "objective", "status", "precision", "compiled", "device", "deterministic", "exceptions")

if TYPE_CHECKING:
    from rich.table import Table

_WORST_FIRST: tuple[Status, ...] = (
    "invalid", "error", "out_of_memory", "timeout", "diverged", "interrupted", "ok",
)  # fmt: skip
_RANKED = ("ok", "interrupted")
_MEMORY = {
    "peak_memory_mb": "peak_memory_bytes",
    "infer_memory_mb": "infer_peak_memory_bytes",
    "device_memory_mb": "peak_device_memory_bytes",
    "infer_device_memory_mb": "infer_peak_device_memory_bytes",
}
FORMATS = ("rich", "csv", "json", *sorted(set(tabulate.tabulate_formats) - {"rich", "colon_grid"}))
UNSTEADY = 0.10
"""A throughput whose rounds lie further apart than this says little; it is marked."""


def summarise(run: RunDirectory) -> pd.DataFrame:
    """Return the table of a run: a row for every variant that was asked for, best first, failed ones last.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    requested = run.info().requested
    by_variant = _by_variant(run)
    pca = {
        found[0].latent_size: _test_mse(found)
        for found in by_variant.values()
        if found and found[0].baseline == "pca" and any(record.status == "ok" for record in found)
    }
    errors = errors_by_variant(run)
    rows = [
        _row(variant, found, errors[variant], asked=len(requested[variant]), pca=pca, timing=_timing(run, found))
        for variant, found in by_variant.items()
    ]
    rows.sort(key=lambda row: (row["status"] not in _RANKED, row["test_mse"] is None, row["test_mse"] or 0.0))
    ranked = [row for row in rows if row["status"] in _RANKED and row["test_mse"] is not None]
    for place, row in enumerate(rows):
        row["rank"] = min(place, len(ranked)) + 1
    for row, (low, high) in zip(ranked, rank_intervals([errors[row["variant"]] for row in ranked]), strict=True):
        row |= {"rank_low": low, "rank_high": high}
    asked_for = {name: None for found in by_variant.values() for record in found for name in record.metric_plugins}
    table = pd.DataFrame(rows, columns=[*COLUMNS, *asked_for])
    return table.astype(dict.fromkeys(_INTEGERS, "Int64")).astype(
        {str(name): "Float64" for name in table if name not in (*_INTEGERS, *_TEXTS)}
    )


def _row(
    variant: str,
    records: Sequence[TrialRecord],
    errors: Errors | None,
    *,
    asked: int,
    pca: Mapping[int | None, float],
    timing: Timing | None,
) -> dict[str, Any]:
    ok = [record for record in records if record.status == "ok"]
    statuses = [record.status for record in records] + ["interrupted"] * (asked - len(records))
    known = next((record for record in records if record.num_params is not None), None)
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"variant": variant, "seeds": len(ok), "status": next(one for one in _WORST_FIRST if one in statuses)}
    if records:
        one = records[0]
        row |= {"batch_size": one.recipe.batch_size, "precision": one.recipe.precision, "device": one.device}
        row |= {"threads": one.threads, "compiled": "yes" if one.compiled else "no"}
    if known:
        told = {record.deterministic for record in records}
        row["exceptions"] = ", ".join(known.exceptions) or None
        row["deterministic"] = "no" if False in told else "yes" if told == {True} else None
        names = ("objective", "latent_size", "num_params", "flops_per_image", "train_flops_per_image")
        row |= {name: getattr(known, name) for name in names}
    if ok:
        mse = row["test_mse"] = _test_mse(records)
        half = errors.estimate().half if errors else None
        if half is not None:
            row |= {"test_mse_low": max(0.0, mse - half), "test_mse_high": mse + half}
        against = pca.get(row["latent_size"])
        row["vs_pca"] = mse / against if against else None
        row |= {name: _largest(ok, field) for name, field in _MEMORY.items()}
        row |= {name: _mean(ok, name) for record in ok for name in record.metrics}
        row["compile_seconds"] = max(record.compile_seconds or 0.0 for record in ok) or None
    if timing:
        row |= _speeds(timing, row["train_flops_per_image"])
    return row


def _speeds(timing: Timing, train_flops_per_image: int | None) -> dict[str, float | None]:
    """Return the columns that come from a timing."""
    found: dict[str, float | None] = {}
    for part in ("train", "infer"):
        rounds = getattr(timing, f"{part}_images_per_s")
        if rounds:
            figure = spread(rounds)
            found |= {f"{part}_images_per_s": figure.median, f"{part}_spread": figure.iqr}
            against = getattr(timing, f"reference_{part}_images_per_s")
            found[f"{part}_vs_reference"] = paired_ratio(rounds, against)
    if timing.train_images_per_s and train_flops_per_image is not None:
        per_image = paired_ratio(timing.train_images_per_s, timing.matmul_flops_per_s)
        found["matmul_share"] = None if per_image is None else per_image * train_flops_per_image
    return found


def _mean(records: Sequence[TrialRecord], metric: str) -> float | None:
    """Return the mean of a metric over the seeds; None where one of them has none."""
    values = [record.metrics.get(metric) for record in records]
    return None if None in values else fmean(value for value in values if value is not None)


def _largest(records: Sequence[TrialRecord], field: str) -> float | None:
    peaks = [peak for record in records if (peak := getattr(record, field)) is not None]
    return max(peaks) / 1e6 if peaks else None


def _test_mse(records: Sequence[TrialRecord]) -> float:
    return fmean(record.test_mse for record in records if record.status == "ok" and record.test_mse is not None)


def errors_by_variant(run: RunDirectory) -> dict[str, Errors | None]:
    """Return, for each variant that was asked for, its errors on the test images; None where no trial has any."""
    found = {}
    for variant, records in _by_variant(run).items():
        known = [run.read_test_errors(record) for record in records if record.test_errors_sha256 is not None]
        found[variant] = Errors(known) if known else None
    return found


def _by_variant(run: RunDirectory) -> dict[str, list[TrialRecord]]:
    records = run.records()
    return {
        variant: [record for trial_id in trial_ids if (record := records.get(trial_id))]
        for variant, trial_ids in run.info().requested.items()
    }


def _timing(run: RunDirectory, records: Sequence[TrialRecord]) -> Timing | None:
    return run.read_timing(records[0], records[0].environment) if records else None


def notes(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say, a line each, what the reader of the table must know: settings, intervals, failures, unsteady clocks."""
    info = run.info()
    recipe, env = info.recipe, info.environment
    lines = [
        f"recipe {recipe.name} ({info.fingerprint}): {recipe.dataset}, {info.loss_settings['steps']} steps of "
        f"{recipe.batch_size}, {recipe.optimizer} {recipe.lr:g}, {recipe.loss}, {recipe.precision}; "
        f"aezoo {env.aezoo}, torch {env.torch}, {env.device_name}, {_count(env.threads, 'thread')} a trial",
        "rank: by test_mse; in brackets from the best to the worst that the evidence allows, Holm-corrected over all "
        "pairs at 5 %; few seeds separate little",
        "test_mse: mean squared error a pixel over the test set, pixels in [0, 1]; low, high: its 95 % interval over "
        "seeds and test images",
        "vs_pca: test_mse over PCA's at the same latent size; below 1 is better than PCA",
    ]
    single = int((table["seeds"] == 1).sum())
    if single:
        lines.append(
            f"{_count(single, 'variant')} with one seed: interval and ranks say nothing of how another seed would do"
        )
    lines += _speed_notes(run)
    lines += _anchor_notes(run)
    lines += [
        f"not deterministic: {variant}: one seed came to two networks in the preflight; its figures will not repeat"
        for variant in table.loc[table["deterministic"] == "no", "variant"]
    ]
    lines += _plugin_notes(run)
    unsteady = table[(table["train_spread"] > UNSTEADY) | (table["infer_spread"] > UNSTEADY)]
    if len(unsteady):
        lines.append(f"~ the rounds of this speed spread over more than {UNSTEADY:.0%} of it: do not lean on it")
    records = run.records()
    for trial_ids in info.requested.values():
        for trial_id in trial_ids:
            record = records.get(trial_id)
            if record and record.status not in ("ok", "interrupted"):
                lines.append(f"{record.status}: {record.variant} seed {record.seed}: {record.reason}")
    asked = [trial_id for trial_ids in info.requested.values() for trial_id in trial_ids]
    left = sum(trial_id not in records or records[trial_id].status == "interrupted" for trial_id in asked)
    if left:
        lines.append(f"interrupted: {left} trials have not ended; the same command goes on with them")
    return [plain(line) for line in lines]


def _speed_notes(run: RunDirectory) -> list[str]:
    """Say under which circumstances the speeds were measured, and what they are relative to."""
    records = run.records()
    asked = [records[trial_id] for ids in run.info().requested.values() for trial_id in ids if trial_id in records]
    timings = [timing for record in asked if (timing := _timing(run, [record]))]
    if not timings:
        return []
    one = timings[0]
    env = one.environment
    told = (
        f"images_per_s: batches of {one.batch_size}, {_count(env.threads, 'thread')}, {one.precision}, "
        f"{'compiled' if one.compiled else 'not compiled'}, {env.device}: {env.device_name}"
    )
    rate = [rate for timing in timings for rate in timing.matmul_flops_per_s]
    if rate:
        told += f"; a product of two matrices ran at {spread(rate).median / 1e9:,.0f} GFLOP/s"
    references = sorted({timing.reference for timing in timings if timing.reference})
    return [told] + [f"vs_reference: the speed over that of {name}, timed in the same rounds" for name in references]


def _anchor_notes(run: RunDirectory) -> list[str]:
    """Say how recorded trials came out again, which were repeated before variants were added to the run."""
    anchors = run.anchors()
    same = sum(one.verdict == "bit-equal" for one in anchors)
    lines = [f"before variants were added, {_count(same, 'recorded trial')} came out bit-equal again"] if same else []
    return lines + [f"warning: {one.told}" for one in anchors if one.verdict != "bit-equal"]


def _plugin_notes(run: RunDirectory) -> list[str]:
    """Give the reasons of the exceptions that authors declared, and why a metric is missing."""
    lines: list[str] = []
    for variant, records in _by_variant(run).items():
        for record in records:
            lines += [
                f"exception: {variant}: {name!r} is not met, by its author's declaration: {reason}"
                for name, reason in record.exceptions.items()
            ]
            lines += [f"no {name} of {variant}: {reason}" for name, reason in record.metric_errors.items()]
    return list(dict.fromkeys(lines))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def write(run: RunDirectory) -> pd.DataFrame:
    """Write table.csv and table.md beside the records, and return the table.

    Raises:
        AezooError: there is no run, or it cannot be written.
    """
    table = summarise(run)
    write_text(run.path / "table.csv", render(table, "csv"))
    text = render(table, "github") + "\n\n" + "\n".join(f"- {line}" for line in notes(run, table)) + "\n"
    write_text(run.path / "table.md", text)
    return table


def sort(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the table sorted by a column; rows without a value last.

    Raises:
        AezooError: there is no such column.
    """
    if column not in table:
        raise AezooError(
            f"no column {column!r} to sort by; it accepts {', '.join(map(str, table))}."
            + did_you_mean(column, map(str, table))
        )
    return table.sort_values(column, kind="stable", na_position="last", ignore_index=True)


def render(table: pd.DataFrame, fmt: str) -> str:
    """Write a table as text: csv and json with every digit, any of tabulate's formats with readable ones.

    Raises:
        AezooError: there is no such format.
    """
    check_format(fmt)
    if fmt == "json":
        rows = json.loads(table.to_json(orient="records", double_precision=15))
        return json.dumps(rows, indent=1) + "\n"
    if fmt == "csv":
        safe = table.map(lambda value: _csv_safe(value) if isinstance(value, str) else value)
        return str(safe.to_csv(index=False, lineterminator="\n"))
    headers, rows = cells(table)
    if fmt in ("github", "pipe"):
        rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    aligned = ["left" if _is_text(table, name) else "right" for name in headers]
    return str(tabulate.tabulate(rows, headers, tablefmt=fmt, colalign=aligned, disable_numparse=True))


def check_format(fmt: str) -> None:
    """Raise AezooError where `fmt` is not among FORMATS."""
    if fmt not in FORMATS:
        raise AezooError(f"no format {fmt!r}; give one of {', '.join(FORMATS)}." + did_you_mean(fmt, FORMATS))


def cells(table: pd.DataFrame, columns: Sequence[str] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of some of a table's columns as a person reads them.

    A spread becomes a mark on its speed, an interval of ranks stands behind the rank, and a status says where the
    variant is not deterministic.
    """
    shown = [str(name) for name in table if name not in _HIDDEN and (columns is None or name in columns)]
    rows = []
    for _, row in table.iterrows():
        texts = [_cell(name, row[name]) for name in shown]
        for part in ("train", "infer"):
            name = f"{part}_images_per_s"
            if name in shown and not pd.isna(row.get(f"{part}_spread")) and row[f"{part}_spread"] > UNSTEADY:
                texts[shown.index(name)] = "~" + texts[shown.index(name)]
        if "rank" in shown and not pd.isna(row.get("rank_low")) and row["rank_low"] < row["rank_high"]:
            texts[shown.index("rank")] = f"{row['rank']} ({row['rank_low']}-{row['rank_high']})"
        if "status" in shown and row.get("deterministic") == "no":
            texts[shown.index("status")] += ", not deterministic"
        if "status" in shown and not pd.isna(row.get("exceptions")):
            texts[shown.index("status")] += f", except {plain(row['exceptions'])}"
        rows.append(texts)
    return shown, rows


def rich_table(table: pd.DataFrame, shown: Sequence[str] | None = None) -> "Table":
    """Return a table, or some of its columns, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    headers, rows = cells(table, shown)
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name in headers:
        drawn.add_column(name, justify="left" if _is_text(table, name) else "right", no_wrap=True)
    statuses = table["status"] if "status" in table else ["ok"] * len(rows)
    for texts, status in zip(rows, statuses, strict=True):
        drawn.add_row(*(Text(text) for text in texts), style="red" if status in _WORST_FIRST[:-1] else "")
    return drawn


ESSENTIAL = (
    "rank", "variant", "latent_size", "num_params", "test_mse", "vs_pca", "seeds", "status",
    "verdict", "test_mse_a", "test_mse_b", "change_percent", "seed", "state", "why",
)  # fmt: skip
"""The columns for a narrow terminal, of a table, a comparison and a status."""

_STYLES: tuple[tuple[str, Callable[[float], str]], ...] = (
    ("mse", lambda value: f"{value:.5f}"),
    ("vs_pca", lambda value: f"{value:.3f}"),
    ("seconds", lambda value: f"{value:.1f}"),
    ("percent", lambda value: f"{value:+z.1f}"),
    ("ratio", lambda value: f"{value:.2f}"),
    ("vs_reference", lambda value: f"{value:.3g}"),
    ("", lambda value: f"{value:,.0f}"),
)


def _cell(name: str, value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "-"
    if isinstance(value, str):
        return plain(value)
    if not math.isfinite(value):
        return "-"
    if name not in COLUMNS and isinstance(value, float) and not any(part in name for part, _ in _STYLES if part):
        return f"{value:#.4g}"  # a metric's number, of any size
    return next(style for part, style in _STYLES if part in name)(float(value))


def _is_text(table: pd.DataFrame, name: str) -> bool:
    return not pd.api.types.is_numeric_dtype(table[name])


def _csv_safe(text: str) -> str:
    """Keep a spreadsheet from reading a text as a formula."""
    text = plain(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
