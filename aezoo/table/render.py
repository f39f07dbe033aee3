"""Write tables as text: for a file, for a program, for a paper. It needs no torch."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from aezoo.errors import plain
from aezoo.run.files import write_text
from aezoo.run.store import RunDirectory
from aezoo.table.cells import cells, records_of
from aezoo.table.formats import PROGRAMS, check_format, tabulated
from aezoo.table.layout import lay_out
from aezoo.table.markdown import markdown
from aezoo.table.rows import summarise


def write(run: RunDirectory) -> pd.DataFrame:
    """Write table.csv and table.md beside the records, and return the table.

    table.csv is one table, with groups and ranks in it; table.md a page of it in groups.

    Raises:
        AezooError: there is no run, or it cannot be written.
    """
    run = run.load()
    table = summarise(run)
    write_text(run.path / "table.csv", render(table, "csv"))
    write_text(run.path / "table.md", markdown(run, table))
    return table


def render(table: pd.DataFrame, fmt: str, names: Sequence[str] | None = None) -> str:
    """Write a table as text: csv and json with every digit, any of tabulate's formats with readable ones.

    Args:
        table: A view of a run, in groups or not.
        fmt: One of FORMATS.
        names: The columns to write; by default all of them for programs, and for people what `cells.columns_of` says.

    Raises:
        AezooError: there is no such format.
    """
    check_format(fmt)
    if fmt in PROGRAMS and names is not None:
        table = table[list(names)]
    if fmt == "json":
        content = [{name: plain_value(value) for name, value in row.items()} for row in records_of(table)]
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
    if fmt == "csv":
        safe = table.map(lambda value: _csv_safe(value) if isinstance(value, str) else value)
        return str(safe.to_csv(index=False, lineterminator="\n"))
    if table.columns[0] == "group":
        if fmt in ("plain", "simple"):
            return "\n".join(line for line, _ in lay_out(table, names=names).lines)
        parts = {str(group): cells(rows, names) for group, rows in table.groupby("group", sort=False)}
        if fmt in ("github", "pipe"):
            return "\n\n".join(f"**{group}**\n\n{tabulated(*part, fmt)}" for group, part in parts.items())
        columns = {"group": "group"} | dict(column for columns, _ in parts.values() for column in columns)
        whole = [
            [({"group": group} | dict(zip(dict(own), row, strict=True))).get(name, "") for name in columns]
            for group, (own, rows) in parts.items()
            for row in rows
        ]
        return tabulated(list(columns.items()), whole, fmt)
    columns_of_rows, rows = cells(table, names)
    left = [name for name, _ in columns_of_rows if name in table and not pd.api.types.is_numeric_dtype(table[name])]
    return tabulated(columns_of_rows, rows, fmt, left)


def plain_value(value: Any) -> Any:
    """Return a cell as JSON has it, with every digit; null where there is no number."""
    if isinstance(value, str | bool) or value is None:
        return value
    if pd.isna(value) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _csv_safe(text: str) -> str:
    """Keep a spreadsheet from reading a text as a formula."""
    text = plain(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
