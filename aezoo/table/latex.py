"""A run's table for a paper: a LaTeX table, in groups of one code size or flat, with a caption. It needs no torch."""

from collections.abc import Sequence

import pandas as pd

from aezoo.run.store import RunDirectory
from aezoo.table.cells import HALF_WIDTH, cells, label_of
from aezoo.table.formats import LEFT
from aezoo.table.markdown import title
from aezoo.table.notes import counts

FORMATS = ("latex", "latex_booktabs")
"""The formats that are written so; booktabs is a package, which the preamble must load."""
_COLUMNS = ("variant", "test_mse", HALF_WIDTH, "vs_pca", "num_params")
_FLAT = ("rank", "variant", "group", *_COLUMNS[1:])
_RULES = {"latex": ("\\hline",) * 3, "latex_booktabs": ("\\toprule", "\\midrule", "\\bottomrule")}
_ESCAPED = str.maketrans({
    **{character: f"\\{character}" for character in "&%$#_{}"}, "\\": "\\textbackslash{}",
    "~": "$\\sim$", "^": "\\textasciicircum{}", "±": "$\\pm$", "<": "$<$", ">": "$>$", "…": "\\ldots{}",
})  # fmt: skip


def latex(run: RunDirectory, table: pd.DataFrame, fmt: str, names: Sequence[str] | None = None) -> str:
    """Return a run's table, in groups or flat, as a table of LaTeX whose caption explains what is in it and no more.

    The best loss of a group is bold where the evidence puts no other variant of it first, and the group is shown.

    Args:
        run: The run.
        table: Its table, which has a column `group`: in groups where that is the first one.
        fmt: One of FORMATS.
        names: Its columns; by default those that a paper has room for.
    """
    in_groups = table.columns[0] == "group"
    names = list((_COLUMNS if in_groups else _FLAT) if names is None else names)
    columns, rows = cells(table, names)
    label = label_of(table)
    top, middle, bottom = _RULES[fmt]
    places = ["l" if name in (*LEFT, label) else "r" for name in names]
    best = _best(table) if "test_mse" in names and (in_groups or "group" in names) else set()
    lines = [" & ".join(header.translate(_ESCAPED) for _, header in columns) + " \\\\"]
    lines += [] if in_groups else [middle]
    before = None
    for place, (group, texts) in enumerate(zip(table["group"], rows, strict=True)):
        if in_groups and group != before:
            named = str(group).translate(_ESCAPED)
            lines += [middle, f"\\multicolumn{{{len(names)}}}{{l}}{{\\textit{{{named}}}}} \\\\"]
            before = group
        cells_of = [text.translate(_ESCAPED) for text in texts]
        if place in best:
            at = names.index("test_mse")
            cells_of[at] = f"\\textbf{{{cells_of[at]}}}"
        lines.append(" & ".join(cells_of) + " \\\\")
    body = "\n".join([f"\\begin{{tabular}}{{{''.join(places)}}}", top, *lines, bottom, "\\end{tabular}"])
    caption = _caption(run, names, in_groups=in_groups, bold=bool(best)).translate(_ESCAPED)
    return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}\n"


def _best(table: pd.DataFrame) -> set[int]:
    """Return the places of the variants that no other one of their group may be ahead of by the evidence."""
    best = set()
    places = pd.Series(range(len(table)), index=table.index)
    for _, members in table.groupby("group", sort=False):
        ranked = members[members["group_rank_high"].notna()]
        first = ranked[ranked["group_rank_high"] == 1]
        if len(ranked) > 1 and len(first):
            best.add(int(places[first.index[0]]))
    return best


def _caption(run: RunDirectory, names: Sequence[str], *, in_groups: bool, bold: bool) -> str:
    info = run.info()
    what = "Test MSE a pixel" if "test_mse" in names else "Variants"
    parts = [f"{what} on {title(run)} of {info.recipe.batch_size} ({counts(info.dataset)})"]
    parts += ["variants in groups whose codes are of one size"] if in_groups else []
    sentences = [", ".join(parts)]
    if HALF_WIDTH in names:
        sentences.append("±95%: half the interval of test_mse over seeds and test images, in per cent of it")
    if bold:
        sentences.append("Bold: the best of its group by the evidence, Holm-corrected at 5 %")
    sentences.append(f"Recipe {info.recipe.name}, fingerprint {info.fingerprint}; made with aezoo")
    return ". ".join(sentences) + "."
