"""Write tables as text: for a terminal, for a file, for a program. It needs no torch."""

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tabulate

from aezoo.contract.columns import column
from aezoo.errors import AezooError, did_you_mean, plain
from aezoo.run.files import write_text
from aezoo.run.store import RunDirectory
from aezoo.table.rows import (
    UNSTEADY,
    WORST_FIRST,
    by_code,
    is_swept,
    pca_losses,
    rate_distortion,
    records_by_variant,
    starts_the_same,
    summarise,
    timings_by_machine,
)
from aezoo.table.statistics import spread

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("rich", "csv", "json", *sorted(set(tabulate.tabulate_formats) - {"rich", "colon_grid"}))


def write(run: RunDirectory) -> pd.DataFrame:
    """Write table.csv and table.md beside the records, and return the table.

    table.md also has the table in groups, where it has latents that are not compared by their size, and test_mse by
    latent_dim, where a variant was run with several.

    Raises:
        AezooError: there is no run, or it cannot be written.
    """
    run = run.load()
    table = summarise(run)
    write_text(run.path / "table.csv", render(table, "csv"))
    parts = [render(table, "github"), "\n".join(f"- {line}" for line in notes(run, table))]
    if table[["bits", "active_units"]].notna().any(axis=None):
        parts += ["By the size of the code:", render(by_code(run), "github")]
    if is_swept(run):
        parts += ["test_mse by latent_dim:", render(rate_distortion(run), "github")]
    write_text(run.path / "table.md", "\n\n".join(parts) + "\n")
    return table


def render(table: pd.DataFrame, fmt: str) -> str:
    """Write a table as text: csv and json with every digit, any of tabulate's formats with readable ones.

    Raises:
        AezooError: there is no such format.
    """
    check_format(fmt)
    if fmt == "json":
        values = table.to_dict(orient="records")
        content = [{str(name): _plain_value(value) for name, value in row.items()} for row in values]
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
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


def cells(table: pd.DataFrame, *, essential: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of a table as a person reads them, all of them or the essential ones.

    A spread becomes a mark on its speed, an interval of ranks stands behind the rank, and a status says where the
    variant is not deterministic. Columns for latents that no row has are left out.
    """
    shown = [
        str(name)
        for name in table
        if column(str(name)).shown and (column(str(name)).essential or not essential)
        if name not in ("bits", "active_units") or table[name].notna().any()
    ]
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
        if "status" in shown and row.get("same_start") == "yes":
            texts[shown.index("status")] += ", same start"
        if "status" in shown and not pd.isna(row.get("exceptions")):
            texts[shown.index("status")] += f", except {plain(row['exceptions'])}"
        rows.append(texts)
    return shown, rows


def rich_table(table: pd.DataFrame, *, essential: bool = False) -> "Table":
    """Return a table, or its essential columns, for a terminal."""
    from rich.table import Table
    from rich.text import Text

    headers, rows = cells(table, essential=essential)
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name in headers:
        drawn.add_column(name, justify="left" if _is_text(table, name) else "right", no_wrap=True)
    statuses = table["status"] if "status" in table else ["ok"] * len(rows)
    for texts, status in zip(rows, statuses, strict=True):
        drawn.add_row(*(Text(text) for text in texts), style="red" if status in WORST_FIRST[:-1] else "")
    return drawn


def _plain_value(value: Any) -> Any:
    """Return a cell as JSON has it, with every digit; null where there is no number."""
    if isinstance(value, str | bool) or value is None:
        return value
    if pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _cell(name: str, value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "-"
    if isinstance(value, str):
        return plain(value)
    if not math.isfinite(value):
        return "-"
    return column(name).format(float(value))


def _is_text(table: pd.DataFrame, name: str) -> bool:
    return not pd.api.types.is_numeric_dtype(table[name])


def _csv_safe(text: str) -> str:
    """Keep a spreadsheet from reading a text as a formula."""
    text = plain(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def notes(run: RunDirectory, table: pd.DataFrame) -> list[str]:
    """Say, a line each, what the reader of the table must know: settings, intervals, failures, unsteady clocks."""
    run = run.load()
    info = run.info()
    recipe = info.recipe
    lines = [
        f"recipe {recipe.name} ({info.fingerprint}): {recipe.dataset}, {info.loss_settings['steps']} steps of "
        f"{recipe.batch_size}, {recipe.optimizer} {recipe.lr:g}, {recipe.loss}, {recipe.precision}",
        *_environment_notes(run),
        "rank: by test_mse; in brackets from the best to the worst that the evidence allows, Holm-corrected over all "
        "pairs at 5 %; few seeds separate little",
        "test_mse: mean squared error a pixel over the test set, pixels in [0, 1]; low, high: its 95 % interval over "
        "seeds and test images",
        "vs_pca: test_mse over PCA's at the same latent size; below 1 is better than PCA",
    ]
    if table[["bits", "active_units"]].notna().any(axis=None):
        lines.append(
            "bits, active_units: what an image's code takes where it is discrete, codes times log2 K, and how many of "
            "its numbers are not 0 where it is sparse; such latents are not comparable by their size, nor with PCA"
        )
    single = int((table["seeds"] == 1).sum())
    if single:
        lines.append(
            f"{_count(single, 'variant')} with one seed: interval and ranks say nothing of how another seed would do"
        )
    exact = sorted(pca_losses(run)[1])
    if exact:
        sizes = ", ".join(map(str, exact))
        lines.append(f"no vs_pca at latent size {sizes}: PCA is exact there but for rounding")
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
    requested = [trial_id for trial_ids in info.requested.values() for trial_id in trial_ids]
    left = sum(trial_id not in records or records[trial_id].status == "interrupted" for trial_id in requested)
    if left:
        lines.append(f"interrupted: {left} trials have not ended; the same command goes on with them")
    return [plain(line) for line in lines]


def _environment_notes(run: RunDirectory) -> list[str]:
    """Say with what, and on which machines, the trials ran."""
    records = [record for some in records_by_variant(run).values() for record in some]
    counts = Counter(
        f"aezoo {env.aezoo}, torch {env.torch}, {env.device_name}, {_count(env.threads, 'thread')} a trial"
        for env in (record.environment for record in records)
    )
    if len(counts) < 2:
        return list(counts)
    return [f"{_count(number, 'trial')}: {circumstances}" for circumstances, number in counts.most_common()]


def _speed_notes(run: RunDirectory) -> list[str]:
    """Say on which machine the speeds were measured, and how, what they are relative to, and what others measured."""
    machines = timings_by_machine(run)
    if not machines:
        return []
    ((device, name, version), timings), *others = machines.items()
    some = list(timings.values())
    threads = sorted({timing.environment.threads for timing in some})
    compiled = sorted({"compiled" if timing.compiled else "not compiled" for timing in some}, reverse=True)
    speeds = (
        f"images_per_s: batches of {some[0].batch_size}, {' or '.join(map(str, threads))} "
        f"{'thread' if threads == [1] else 'threads'}, {some[0].precision}, {' or '.join(compiled)}, "
        f"{device}: {name}, torch {version}"
    )
    rate = [rate for timing in some for rate in timing.matmul_flops_per_s]
    if rate:
        speeds += f"; a product of two matrices ran at {spread(rate).median / 1e9:,.0f} GFLOP/s"
    references = sorted({timing.reference for timing in some if timing.reference})
    lines = [speeds, *(f"vs_reference: the speed over that of {name}, timed in the same rounds" for name in references)]
    return lines + [
        f"timed elsewhere, and not in these columns: {_count(len(timings), 'variant')} on {device}: {name}, "
        f"torch {version}"
        for (device, name, version), timings in others
    ]


def _anchor_notes(run: RunDirectory) -> list[str]:
    """Say how recorded trials came out again, which were repeated before variants were added to the run."""
    anchors = run.anchors()
    same = sum(anchor.verdict == "bit-equal" for anchor in anchors)
    lines = [f"before variants were added, {_count(same, 'recorded trial')} came out bit-equal again"] if same else []
    return lines + [f"warning: {anchor.line}" for anchor in anchors if anchor.verdict != "bit-equal"]


def _plugin_notes(run: RunDirectory) -> list[str]:
    """Give the reasons of the exceptions that authors declared, and why a metric is missing."""
    lines: list[str] = []
    missing: dict[str, list[tuple[str, str]]] = {}
    for measurement in run.measurements():
        if measurement.reason is not None:
            missing.setdefault(measurement.trial_id, []).append((measurement.metric, measurement.reason))
    for variant, records in records_by_variant(run).items():
        for record in records:
            lines += [
                f"exception: {variant}: {name!r} is not met, by its author's declaration: {reason}"
                for name, reason in record.exceptions.items()
            ]
            lines += [f"note: {variant}: {note}" for note in record.notes]
            if starts_the_same(records):
                lines.append(f"note: {variant}: every seed starts from the same weights, so that its interval is none")
            lines += [f"no {name} of {variant}: {reason}" for name, reason in missing.get(record.trial_id, [])]
    return list(dict.fromkeys(lines))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
