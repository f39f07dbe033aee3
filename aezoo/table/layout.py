"""Lay a table out on a screen: which columns there is room for, how wide each is, and the lines. It needs no torch."""

import re
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import pandas as pd
from rich.cells import cell_len

from aezoo.contract.columns import column
from aezoo.table.cells import cells, is_metric, label_of
from aezoo.table.formats import LEFT
from aezoo.table.groups import UNFINISHED

_IN_GROUPS = ("group_rank", "variant", "test_mse", "num_params", "train_images_per_s")
"""What groups show however narrow a screen is, beside the metrics; what else there is follows by importance."""
_EVEN_EMPTY = ("rank", "group_rank", "mean_rank", "variant", "test_mse", "training")
"""What is shown where no row has it, which says something; other such columns are left out."""
_GAP = 2
_SHORTEST = 16
"""What a row is about is not cut to less."""
_READABLE = 20
"""To so much it is cut for a column more."""
_TAIL = 20
"""A text at the end of a line needs so much room, and goes on below."""
_INDENT = " "
"""What a name that goes on below begins with there."""


@dataclass(frozen=True)
class Layout:
    """A table as a screen shows it.

    Args:
        lines: Each with its style: `bold`, `dim`, ...
        left_out: The headers of the columns for which there is no room.
    """

    lines: list[tuple[str, str]]
    left_out: list[str]


def lay_out(
    table: pd.DataFrame,
    width: int | None = None,
    *,
    names: Sequence[str] | None = None,
    asked: Collection[str] = (),
    curves: Mapping[str, str] | None = None,
) -> Layout:
    """Lay a table out in so many columns of a screen; whole where there is no width.

    A figure is never cut; what a row is about is in its middle, where there is no room for it, or goes on below, where
    two rows would show the same. Columns that no row has are left out, and where there is no room those that matter
    less; but those that were asked for go on in another block below the first.

    Args:
        table: A view of a run, in groups or not.
        width: Columns of the screen.
        names: The table's columns to show, all of which are asked for; by default what `cells.columns_of` says.
        asked: Columns that are shown in any case.
        curves: Sparklines of training losses, by variant.
    """
    columns, rows = cells(table, names, curves)
    extra = [name for name in asked if name not in dict(columns)]
    if extra:
        more, added = cells(table, extra)
        columns, rows = [*columns, *more], [[*row, *some] for row, some in zip(rows, added, strict=True)]
    if names is None:
        kept = [
            place
            for place, (name, _) in enumerate(columns)
            if name in (*_EVEN_EMPTY, *asked) or any(row[place] != "-" for row in rows)
        ]
        columns, rows = [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]
    sizes = {
        name: max(cell_len(text) for text in (header, *(row[place] for row in rows)))
        for place, (name, header) in enumerate(columns)
    }
    needed = [name for name in sizes if name in asked or (_is_needed(table, name) if names is None else name in names)]
    first = ["status"] if _any_failed(table) and names is None else []
    optional = [] if names is not None else [name for name in (*first, *sizes) if name in sizes]
    blocks = [sizes] if width is None else _blocks(sizes, needed, optional, label_of(table), width)
    lines: list[tuple[str, str]] = []
    for block in blocks:
        lines += [("", "")] if lines else []
        lines += _lines(table, [name for name, _ in columns], [header for _, header in columns], rows, block)
    left_out = [header for name, header in columns if not any(name in block for block in blocks)]
    return Layout(lines, left_out if _any_failed(table) else [header for header in left_out if header != "status"])


def _is_needed(table: pd.DataFrame, name: str) -> bool:
    """Say whether a column is shown however narrow a screen is."""
    if table.columns[0] == "group" and "mean_rank" not in table:
        return name in _IN_GROUPS or is_metric(name)
    if name == "status":
        return _any_failed(table)
    return name == "variant" or is_metric(name) or column(name).essential


def _any_failed(table: pd.DataFrame) -> bool:
    return "status" in table and bool((table["status"] != "ok").any())


def _blocks(
    sizes: Mapping[str, int], needed: Sequence[str], optional: Sequence[str], label: str, width: int
) -> list[dict[str, int]]:
    """Return the columns of each block, and how wide they are: all that are needed, and by importance what fits."""
    whole = sizes[label]

    def room(chosen: Collection[str], least: int) -> int:
        """Return what is left of the width beside some columns, the label cut to its least."""
        last = list(chosen)[-1]
        taken = [
            min(whole, least) if name == label else min(sizes[name], _TAIL) if name in LEFT[2:] and name == last
            else sizes[name]
            for name in chosen
        ]  # fmt: skip
        return width - sum(taken) - _GAP * (len(taken) - 1)

    def block(chosen: Collection[str]) -> dict[str, int]:
        wide = max(min(whole, _SHORTEST), min(whole, _READABLE) + room(chosen, _READABLE))
        widths = {name: min(whole, wide) if name == label else sizes[name] for name in sizes if name in chosen}
        *before, last = widths
        if last in LEFT[2:]:
            left = width - sum(widths[name] + _GAP for name in before)
            widths[last] = min(widths[last], max(left, _TAIL))
        return widths

    if room(needed, _SHORTEST) >= 0:
        chosen = list(needed)
        for name in optional:
            if name not in chosen:
                more = [each for each in sizes if each in chosen or each == name]
                if room(more, _READABLE) < 0:
                    break
                chosen = more
        return [block(chosen)]
    parts: list[list[str]] = [[]]
    for name in needed:
        before = parts[-1] if label in parts[-1] or name == label else [*parts[-1], label]
        if parts[-1] and set(parts[-1]) != {label} and room([*before, name], _READABLE) < 0:
            parts.append([label])
        if name not in parts[-1]:
            parts[-1].append(name)
    return [block(dict.fromkeys([label, *part])) for part in parts]


def _lines(
    table: pd.DataFrame, names: Sequence[str], headers: Sequence[str], rows: Sequence[Sequence[str]],
    sizes: Mapping[str, int],
) -> Iterator[tuple[str, str]]:  # fmt: skip
    label = label_of(table)
    place_of_label = names.index(label)
    labels = _labels((row[place_of_label] for row in rows), sizes[label])

    def lines(texts: Sequence[str]) -> Iterator[str]:
        """Yield the line of a row, and below it what of its texts has no room there."""
        shown = {
            name: labels.get(text, [text]) if name == label else _wrapped(text, sizes[name]) if name in LEFT else [text]
            for name, text in zip(names, texts, strict=True)
            if name in sizes
        }
        for parts in zip_longest(*shown.values(), fillvalue=""):
            padded = []
            for name, part in zip(shown, parts, strict=True):
                blank = " " * (sizes[name] - cell_len(part))
                padded.append(part + blank if name in (*LEFT, label) else blank + part)
            yield (" " * _GAP).join(padded).rstrip()

    yield from ((line, "dim") for line in lines(headers))
    place = 0
    grouped = table.columns[0] == "group"
    for group, members in table.groupby("group", sort=False) if grouped else [("", table)]:
        if grouped:
            yield from (("", ""), (str(group), "bold"))
        # A leaderboard has no statuses.
        statuses = members["status"] if "status" in members else [None] * len(members)
        for status, texts in zip(statuses, rows[place : place + len(members)], strict=True):
            style = "" if status in (None, "ok") else "yellow" if status in UNFINISHED else "red"
            pca = any(name == label and text.startswith("> ") for name, text in zip(names, texts, strict=True))
            yield from ((line, style or ("cyan" if pca else "")) for line in lines(texts))
        place += len(members)


def _labels(texts: Iterable[str], size: int) -> dict[str, list[str]]:
    """Return what rows are about in lines of so many columns: cut, or whole in several where it would be another's."""
    cut = {text: _cut(text, size) for text in texts}
    times = Counter(cut.values())
    return {text: [short] if times[short] == 1 else _in_pieces(text, size) for text, short in cut.items()}


def _in_pieces(text: str, size: int) -> list[str]:
    """Break a variant's text into lines, after a bracket or a comma where it can; all but the first are indented."""
    lines = [""]
    for part in re.findall(r"[^\[,]+[\[,]?|[\[,]", text):
        if cell_len(lines[-1] + part) > size and lines[-1].strip():
            lines.append(_INDENT)
        for character in part:
            if cell_len(lines[-1] + character) > size:
                lines.append(_INDENT)
            lines[-1] += character
    return lines


def _wrapped(text: str, size: int) -> list[str]:
    """Wrap a text between words to so many columns."""
    return textwrap.wrap(text, size, break_on_hyphens=False) if cell_len(text) > size else [text]


def _cut(text: str, size: int) -> str:
    """Cut a text in its middle to so many columns of a terminal."""
    if cell_len(text) <= size:
        return text
    parts = ((text[: (keep + 1) // 2], text[len(text) - keep // 2 :]) for keep in range(size - 1, 0, -1))
    return next((f"{head}…{tail}" for head, tail in parts if cell_len(head + tail) < size), "…")
