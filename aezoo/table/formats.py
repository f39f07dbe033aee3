"""The formats in which a table is written. It is quick to import: a format is checked before a bench begins."""

from collections.abc import Sequence

import tabulate

from aezoo.errors import none_of

PROGRAMS = ("csv", "json")
"""The formats that programs read."""
LEFT = ("group", "variant", "status", "objective", "training", "verdict", "network", "why", "state")
"""Columns of texts."""
FORMATS = ("rich", *PROGRAMS, *sorted(set(tabulate.tabulate_formats) - {"rich", "colon_grid"}))


def check_format(fmt: str) -> None:
    """Raise AezooError where `fmt` is not among FORMATS."""
    if fmt not in FORMATS:
        raise none_of("format", fmt, FORMATS)


def tabulated(
    columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], fmt: str, left: Sequence[str] = LEFT
) -> str:
    """Return a table in one of tabulate's formats.

    Args:
        columns: Each by its name and its header.
        rows: Their cells.
        fmt: One of tabulate's.
        left: The names of columns that begin at the left.
    """
    headers = [header for _, header in columns]
    if fmt in ("github", "pipe"):
        headers, *rows = [[cell.replace("|", "\\|") for cell in row] for row in [headers, *rows]]
    aligned = ["left" if name in left else "right" for name, _ in columns]
    # Of these two, which are one in all else, only the latter writes down how a column is aligned.
    fmt = "pipe" if fmt == "github" else fmt
    return str(tabulate.tabulate(rows, headers, tablefmt=fmt, colalign=aligned, disable_numparse=True))
