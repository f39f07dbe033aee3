"""Write tables as text: for a terminal, for a file, for a program. It needs no torch."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tabulate
from rich.cells import cell_len

from aezoo.contract.columns import LEADERS, column, is_reserved
from aezoo.errors import AezooError, did_you_mean, plain
from aezoo.run.files import write_text
from aezoo.run.store import RunDirectory
from aezoo.table.notes import notes, verdicts
from aezoo.table.rows import UNSTEADY, WORST_FIRST, grouped, is_swept, rate_distortion, summarise

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("rich", "csv", "json", *sorted(set(tabulate.tabulate_formats) - {"rich", "colon_grid"}))


def write(run: RunDirectory) -> pd.DataFrame:
    """Write table.csv and table.md beside the records, and return the table.

    table.csv is one table, with groups and ranks in it. table.md has it in groups, what the evidence supports, and
    test_mse by latent_dim, where a variant was run with several.

    Raises:
        AezooError: there is no run, or it cannot be written.
    """
    run = run.load()
    table = summarise(run)
    write_text(run.path / "table.csv", render(table, "csv"))
    parts = [render(grouped(table), "github")]
    parts += ["\n".join(f"- {line}" for line in lines) for lines in (verdicts(run, table), notes(run, table)) if lines]
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
        content = [{name: plain_value(value) for name, value in row.items()} for row in records_of(table)]
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
    if fmt == "csv":
        safe = table.map(lambda value: _csv_safe(value) if isinstance(value, str) else value)
        return str(safe.to_csv(index=False, lineterminator="\n"))
    if "group" in table and table.columns[0] == "group":
        if fmt in ("plain", "simple"):
            return "\n".join(line for line, _ in group_lines(table))
        parts = {str(group): group_cells(rows) for group, rows in table.groupby("group", sort=False)}
        if fmt in ("github", "pipe"):
            return "\n\n".join(f"**{group}**\n\n{_tabulated(*part, fmt)}" for group, part in parts.items())
        columns = {"group": "group"} | dict(column for columns, _ in parts.values() for column in columns)
        whole = [
            [({"group": group} | dict(zip(dict(own), row, strict=True))).get(name, "") for name in columns]
            for group, (own, rows) in parts.items()
            for row in rows
        ]
        return _tabulated(list(columns.items()), whole, fmt)
    headers, rows = cells(table)
    left = [name for name in headers if _is_text(table, name)]
    return _tabulated([(name, name) for name in headers], rows, fmt, left)


def _tabulated(
    columns: Sequence[tuple[str, str]], rows: list[list[str]], fmt: str, left: Sequence[str] | None = None
) -> str:
    """Return a table of columns, each by its name and its header, in one of tabulate's formats."""
    headers = [header for _, header in columns]
    if fmt in ("github", "pipe"):
        headers, *rows = [[cell.replace("|", "\\|") for cell in row] for row in [headers, *rows]]
    left = _LEFT if left is None else left
    aligned = ["left" if name in left else "right" for name, _ in columns]
    return str(tabulate.tabulate(rows, headers, tablefmt=fmt, colalign=aligned, disable_numparse=True))


def check_format(fmt: str) -> None:
    """Raise AezooError where `fmt` is not among FORMATS."""
    if fmt not in FORMATS:
        raise AezooError(f"no format {fmt!r}; give one of {', '.join(FORMATS)}." + did_you_mean(fmt, FORMATS))


def cells(table: pd.DataFrame, *, essential: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the rows of a table as a person reads them, all of them or the essential ones.

    A spread becomes a mark on its speed, an interval of ranks stands behind the rank, and a status says where the
    variant is not deterministic. Columns for what no row has are left out: a kind of latent, a rate of its own.
    """
    shown = [
        str(name)
        for name in table
        if column(str(name)).shown and (column(str(name)).essential or not essential)
        if name not in (*_RATES, "lr") or table[name].notna().any()
    ]
    rows = []
    for row in records_of(table):
        texts = [cell(name, row[name]) for name in shown]
        for part in ("train", "infer"):
            name = f"{part}_images_per_s"
            if name in shown and not pd.isna(row.get(f"{part}_spread")) and row[f"{part}_spread"] > UNSTEADY:
                texts[shown.index(name)] = "~" + texts[shown.index(name)]
        if "rank" in shown and not pd.isna(row.get("rank_low")) and row["rank_low"] < row["rank_high"]:
            texts[shown.index("rank")] = f"{row['rank']} ({row['rank_low']}-{row['rank_high']})"
        if "status" in shown and "exceptions" in row:
            texts[shown.index("status")] = _status(row)
        rows.append(texts)
    return shown, rows


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, each by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict(orient="records")]


_RATES = ("bits", "coded_bits", "active_units", "support_bits")
_OF_LEADERS = ("group", "variant", "baseline", *(column.name for column in LEADERS))
_LEFT = ("group", "variant", "status", "objective", "training")
SHORT = {
    "group_rank": "rank",
    "mean_rank": "rank",
    "datasets": "sets",
    "half_width_percent": "±95%",
    "num_params": "params",
    "coded_bits": "coded",
    "active_units": "active",
    "support_bits": "support",
    "train_images_per_s": "train/s",
    "infer_images_per_s": "infer/s",
    "peak_memory_mb": "MB",
}
_ALWAYS = ("group_rank", "mean_rank", "variant", "test_mse", "num_params", "train_images_per_s")
"""What the groups show however narrow a terminal is; what else there is follows by importance."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_SHORTEST = 16
"""A variant's name is not cut to less."""
_READABLE = 20
"""To so much it is cut for a column more."""


def group_columns(table: pd.DataFrame, curves: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return the columns of groups, by importance: the name that a program calls each by, and its header.

    Of a leaderboard a data set's is its name.
    """
    if "mean_rank" in table:
        figures = [(str(name), str(name).partition("_on_")[2]) for name in table if str(name) not in _OF_LEADERS]
        return [*((name, SHORT.get(name, name)) for name in ("mean_rank", "variant", "datasets")), *figures]
    shown = [
        "group_rank", "variant", "test_mse", "half_width_percent", *(["training"] if curves is not None else []),
        "vs_pca", "num_params", "train_images_per_s", "infer_images_per_s", "seeds",
        *(name for name in _RATES[1:] if name in table and table[name].notna().any()), "peak_memory_mb", "objective",
        *(["lr"] if table["lr"].notna().any() else []),
        *(name for name in map(str, table) if not is_reserved(name)),
        *(["status"] if any(_status(row) != "ok" for row in records_of(table)) else []),
    ]  # fmt: skip
    return [(name, SHORT.get(name, name)) for name in shown]


def group_cells(
    table: pd.DataFrame, curves: Mapping[str, str] | None = None
) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """Return the columns and rows of groups as a person reads them, by importance: whatever is in every row's favour.

    The interval of a loss is given as its half width; an interval of ranks stands behind the rank; PCA is marked.
    `curves` are sparklines of training losses, by variant, for a table that grows.
    """
    columns = group_columns(table, curves)
    return columns, [[_group_cell(name, row, curves or {}) for name, _ in columns] for row in records_of(table)]


def _group_cell(name: str, row: Mapping[str, Any], curves: Mapping[str, str]) -> str:
    """Return a cell of a table in groups, with what its reader must know beside it."""
    made: dict[str, Callable[[], str]] = {
        "half_width_percent": lambda: half_width(row["test_mse_low"], row["test_mse_high"]),
        "training": lambda: curves.get(row["variant"], ""),
        "status": lambda: _status(row),
    }
    if name in made:
        return made[name]()
    text = cell(name, row[name])
    if name in ("train_images_per_s", "infer_images_per_s"):
        spread = row[f"{name.partition('_')[0]}_spread"]
        return f"~{text}" if not pd.isna(spread) and spread > UNSTEADY else text
    if name == "group_rank" and not pd.isna(row["group_rank_low"]) and row["group_rank_low"] < row["group_rank_high"]:
        return f"{text} ({row['group_rank_low']}-{row['group_rank_high']})"
    if name == "mean_rank" and not pd.isna(row[name]):
        return f"{text} ({cell('mean_rank_low', row['mean_rank_low'])}-{cell('mean_rank_high', row['mean_rank_high'])})"
    before = "> " if name == "variant" and row["baseline"] == "pca" else ""
    return f"{before}{text}{'*' if name == 'lr' and row['lr_at_edge'] == 'yes' else ''}"


def _status(row: Mapping[str, Any]) -> str:
    """Return a row's status, with what else its reader must know at once."""
    text = str(row["status"])
    text += ", not deterministic" if row["deterministic"] == "no" else ""
    text += ", same start" if row["same_start"] == "yes" else ""
    text += "" if pd.isna(row["adapted"]) else ", adapted"
    return text + ("" if pd.isna(row["exceptions"]) else f", except {plain(row['exceptions'])}")


def half_width(low: Any, high: Any) -> str:
    """Return half the width of an interval as a share of what it is about, or as a factor where it is wide."""
    if pd.isna(low) or pd.isna(high) or low <= 0:
        return "-"
    factor = math.sqrt(high / low)
    return f"{100 * (factor - 1):.1f}%" if factor < 1.5 else f"x/{factor:.2g}"


def group_lines(
    table: pd.DataFrame, width: int | None = None, curves: Mapping[str, str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the lines of a table in groups and the style of each, in so many columns; whole where there is no width.

    A figure is never cut; a variant's name is in its middle, where there is no room for it. What is less important is
    left out where there is none.
    """
    columns, rows = group_cells(table, curves)
    sizes = _fitted(columns, rows, width)

    def line(texts: Sequence[str]) -> str:
        parts = []
        for (name, _), text in zip(columns, texts, strict=True):
            if name in sizes:
                shown = _cut(text, sizes[name]) if name == "variant" else text
                blank = " " * (sizes[name] - cell_len(shown))
                parts.append(shown + blank if name in _LEFT else blank + shown)
        return "  ".join(parts).rstrip()

    yield line([header for _, header in columns]), "dim"
    place = 0
    for group, members in table.groupby("group", sort=False):
        yield "", ""
        yield str(group), "bold"
        # A leaderboard has no statuses.
        statuses = members["status"] if "status" in members else [None] * len(members)
        for status, texts in zip(statuses, rows[place : place + len(members)], strict=True):
            failed = status in WORST_FIRST[:-1]
            yield line(texts), "red" if failed else "cyan" if texts[1].startswith("> ") else ""
        place += len(members)


def left_out(table: pd.DataFrame, width: int | None) -> list[str]:
    """Return the headers of a table in groups for which so many columns of a terminal have no room."""
    columns, rows = group_cells(table)
    sizes = _fitted(columns, rows, width)
    return [header for name, header in columns if name not in sizes]


def _fitted(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], width: int | None) -> dict[str, int]:
    """Return how wide each column is, by its name, of those for which there is room; all where there is no width."""
    sizes = {
        name: max(cell_len(text) for text in (header, *(row[place] for row in rows)))
        for place, (name, header) in enumerate(columns)
    }
    if width is None:
        return sizes
    chosen = [name for name in _ALWAYS if name in sizes]
    room = width - sum(2 + sizes[name] for name in chosen if name != "variant") - min(_READABLE, sizes["variant"])
    for name in ("status", *sizes):
        if name in sizes and name not in chosen:
            if room < sizes[name] + 2:
                break
            chosen.append(name)
            room -= sizes[name] + 2
    sizes["variant"] = min(sizes["variant"], max(_SHORTEST, min(_READABLE, sizes["variant"]) + room))
    return {name: sizes[name] for name in chosen}


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Return a loss over time in so many characters, on a log scale from its least to its greatest."""
    logs = [math.log(value) for value in values if value > 0 and math.isfinite(value)]
    if not logs:
        return ""
    columns = min(width, len(logs))
    places = [round(number * (len(logs) - 1) / max(1, columns - 1)) for number in range(columns)]
    low, high = min(logs), max(logs)
    return "".join(_BLOCKS[round((logs[place] - low) / ((high - low) or 1) * (len(_BLOCKS) - 1))] for place in places)


def _cut(text: str, size: int) -> str:
    """Cut a text in its middle to so many columns of a terminal."""
    if cell_len(text) <= size:
        return text
    parts = ((text[: (keep + 1) // 2], text[len(text) - keep // 2 :]) for keep in range(size - 1, 0, -1))
    return next((f"{head}…{tail}" for head, tail in parts if cell_len(head + tail) < size), "…")


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


def plain_value(value: Any) -> Any:
    """Return a cell as JSON has it, with every digit; null where there is no number."""
    if isinstance(value, str | bool) or value is None:
        return value
    if pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)


def cell(name: str, value: Any) -> str:
    """Return a value of a column as a person reads it; - where there is none."""
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
