"""Print tables and rows on standard output, and what is said beside them on standard error."""

import json
import shutil
import sys

import pandas as pd
import tabulate
from rich.console import Console

from aezoo.errors import AezooError, did_you_mean
from aezoo.run.store import RunDirectory
from aezoo.table import render, rows
from aezoo.table.notes import notes
from aezoo.text import plain


def print_run(run: RunDirectory, fmt: str, *, sort: str | None = None, view: str = "rank") -> pd.DataFrame:
    """Print the table of a run in one of its views, its notes beside it, and return the table.

    Raises:
        AezooError: no such format, view or column; or there is no run.
    """
    render.check_format(fmt)
    if view not in rows.VIEWS:
        raise AezooError(f"no view {view!r}; give one of {', '.join(rows.VIEWS)}." + did_you_mean(view, rows.VIEWS))
    found = rows.summarise(run)
    shown = rows.VIEWS[view](run)
    print_table(rows.sort(shown, sort) if sort else shown, fmt)
    # What is beside a table of losses by latent_dim is its recipe; the rest is told of columns that it has not.
    told = notes(run, found)[: 1 if view == "rate" else None]
    for line in [*told, f"run: {run.path}"]:
        print(line, file=sys.stderr)
    return found


def print_table(found: pd.DataFrame, fmt: str) -> None:
    """Print a table: with colours where it is read on a terminal, and the essential columns where that is narrow."""
    console = console_on(stderr=False)
    if fmt == "rich" and console.is_terminal:
        whole = render.rich_table(found)
        narrow = console.measure(whole, options=console.options.update(max_width=10_000)).maximum > console.width
        console.print(render.rich_table(found, render.ESSENTIAL) if narrow else whole)
        if narrow:
            print(
                "this terminal is too narrow for all columns: see table.csv, or give --format simple", file=sys.stderr
            )
    else:
        text = render.render(found, "simple" if fmt == "rich" else fmt)
        print(text, end="" if text.endswith("\n") else "\n")


def print_rows(rows: list[dict[str, object]], *, as_json: bool) -> None:
    """Print rows of the same columns, as text or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    texts = [[plain(str(value)) for value in row.values()] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    limits = None if width is None else [max(8, width // len(rows[0]))] * len(rows[0])
    print(tabulate.tabulate(texts, list(rows[0]), tablefmt="simple", disable_numparse=True, maxcolwidths=limits))


def console_on(*, stderr: bool) -> Console:
    """Return a console on standard error, or on standard output."""
    return Console(stderr=stderr)
