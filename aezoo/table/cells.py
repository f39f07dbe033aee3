"""What a person reads in a table: which columns, and each cell as a text. It needs no torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from aezoo.contract.columns import COLUMNS, LEADERS, column, is_reserved
from aezoo.errors import AezooError, none_of, plain, spelled
from aezoo.table.rows import UNSTEADY

Named = list[tuple[str, str]]
"""Columns, each by the name that a program calls it by, and its header."""
RATES = ("coded_bits", "active_units", "support_bits")
"""Columns that are left out where no row has them, as are `bits` and `lr`."""
HALF_WIDTH = "half_width_percent"
"""The interval of a loss as a person reads it; programs have its ends."""
_HEADERS = {HALF_WIDTH: "±95%", "training": "training"}
_OF_LEADERS = ("group", "variant", "baseline", *(column.name for column in LEADERS))
_BLOCKS = "▁▂▃▄▅▆▇█"


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, each by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict(orient="records")]


def header(name: str) -> str:
    """Return what a person reads above a column: of a figure on a data set the latter's name."""
    if "_on_" in name and not is_metric(name):
        return name.partition("_on_")[2]
    return _HEADERS.get(name) or column(name).header or name


def is_metric(name: str) -> bool:
    """Say whether a column is a metric that was asked for."""
    return name not in _HEADERS and not is_reserved(name)


def columns_of(table: pd.DataFrame, curves: Mapping[str, str] | None = None) -> Named:
    """Return the columns of a table that a person sees; of one in groups by importance, else in their order.

    Those for what no row has are left out: a kind of latent, a rate of its own.
    """
    names = [str(name) for name in table]
    if "mean_rank" in names:
        return _named(["mean_rank", "variant", "datasets", *(name for name in names if name not in _OF_LEADERS)])
    some = [name for name in (*RATES, "bits", "lr") if name in names and table[name].notna().any()]
    if names[0] != "group":
        shown = [name for name in names if column(name).shown and (name in some or name not in (*RATES, "bits", "lr"))]
        if "test_mse_low" in names:
            shown.insert(shown.index("test_mse") + 1, HALF_WIDTH)
        return _named(shown)
    return _named([
        "group_rank", "variant", "test_mse", HALF_WIDTH, *(["training"] if curves is not None else []),
        *filter(is_metric, names), "vs_pca", "num_params", "train_images_per_s", "infer_images_per_s", "seeds",
        *(name for name in RATES if name in some), "peak_memory_mb", "objective", *(["lr"] if "lr" in some else []),
        *(["status"] if any(_status(row) != "ok" for row in records_of(table)) else []),
    ])  # fmt: skip


def _named(names: Iterable[str]) -> Named:
    return [(name, header(name)) for name in names]


def chosen(table: pd.DataFrame, names: Sequence[str], *, for_people: bool = True) -> list[str]:
    """Return the columns that a user names, by their names or headers; the variant first, where it is not named.

    ``all`` alone stands for all of them.

    Raises:
        AezooError: there is no such column.
    """
    there = [str(name) for name in table]
    if for_people and "test_mse_low" in there:
        there.append(HALF_WIDTH)
    if not names:
        raise AezooError(f"no column is named; give all, or some of {', '.join(there)}")
    if [name.lower() for name in names] == ["all"] and "all" not in there:
        names = there
    by_name = {header(name): name for name in reversed(there)} | {name: name for name in there}
    picked = [by_name.get(spelled(name, by_name), "") for name in names]
    for name, known in zip(names, picked, strict=True):
        if not known:
            raise none_of("column", name, there, "this table has", by_name)
    label = label_of(table)
    return list(dict.fromkeys(picked if label in picked else [label, *picked]))


def check_columns(names: Sequence[str], metrics: Sequence[str]) -> None:
    """Check columns that a run's table is to show, before there is one.

    Raises:
        AezooError: it will have no such column.
    """
    chosen(pd.DataFrame(columns=[*(column.name for column in COLUMNS), *metrics]), names)


def label_of(table: pd.DataFrame) -> str:
    """Return the column that says what each row is about."""
    names = [str(name) for name in table]
    return "variant" if "variant" in names else names[0]


def cells(
    table: pd.DataFrame, names: Sequence[str] | None = None, curves: Mapping[str, str] | None = None
) -> tuple[Named, list[list[str]]]:
    """Return the columns and the rows of a table as a person reads them, or some of its columns.

    A spread becomes a mark on its speed, an interval of ranks stands behind the rank, a status says where the variant
    is not deterministic, and PCA is marked in its group. `curves` are sparklines of training losses, by variant, for a
    table that grows.
    """
    columns = columns_of(table, curves) if names is None else _named(names)
    return columns, [[_cell(name, row, curves or {}) for name, _ in columns] for row in records_of(table)]


def _cell(name: str, row: Mapping[str, Any], curves: Mapping[str, str]) -> str:
    """Return a cell of a table with what its reader must know beside it."""
    if name == HALF_WIDTH:
        return half_width(row["test_mse_low"], row["test_mse_high"])
    if name == "training":
        return curves.get(row["variant"], "")
    if name == "status" and "exceptions" in row:
        return _status(row)
    text = cell(name, row[name])
    if name in ("train_images_per_s", "infer_images_per_s"):
        spread = row.get(f"{name.partition('_')[0]}_spread")
        return f"~{text}" if not pd.isna(spread) and spread > UNSTEADY else text
    if name == "variant" and "group" in row and row.get("baseline") == "pca":
        return f"> {text}"
    return text + _behind(name, row)


def _behind(name: str, row: Mapping[str, Any]) -> str:
    """Return what stands behind a figure: its interval, or a mark."""
    if name == "lr":
        return "*" if row.get("lr_at_edge") == "yes" else ""
    if name not in ("rank", "group_rank", "mean_rank", "change_percent"):
        return ""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    if pd.isna(low) or (name in ("rank", "group_rank") and low == high):
        return ""
    ends = [cell(f"{name}_low", low), cell(f"{name}_high", high)]
    return f" ({' to '.join(ends)})" if name == "change_percent" else f" ({'-'.join(ends)})"


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


def cell(name: str, value: Any) -> str:
    """Return a value of a column as a person reads it; - where there is none."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "-"
    if isinstance(value, str):
        return plain(value)
    if not math.isfinite(value):
        return "-"
    return column(name).format(float(value))


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Return a loss over time in so many characters, on a log scale from its least to its greatest."""
    logs = [math.log(value) for value in values if value > 0 and math.isfinite(value)]
    if not logs:
        return ""
    columns = min(width, len(logs))
    places = [round(number * (len(logs) - 1) / max(1, columns - 1)) for number in range(columns)]
    low, high = min(logs), max(logs)
    return "".join(_BLOCKS[round((logs[place] - low) / ((high - low) or 1) * (len(_BLOCKS) - 1))] for place in places)
