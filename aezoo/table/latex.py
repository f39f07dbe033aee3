"""A run's table for a paper: a LaTeX table in groups of one code size, with a caption. It needs no torch."""

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
_RULES = {"latex": ("\\hline",) * 3, "latex_booktabs": ("\\toprule", "\\midrule", "\\bottomrule")}
_ESCAPED = str.maketrans({
    **{character: f"\\{character}" for character in "&%$#_{}"}, "\\": "\\textbackslash{}",
    "~": "$\\sim$", "^": "\\textasciicircum{}", "±": "$\\pm$", "<": "$<$", ">": "$>$", "…": "\\ldots{}",
})  # fmt: skip


def latex(run: RunDirectory, grouped: pd.DataFrame, fmt: str, names: Sequence[str] | None = None) -> str:
    """Return a run's table in groups as a table of LaTeX.

    The best loss of a group is bold where the evidence puts no other variant of it first.

    Args:
        run: The run.
        grouped: Its table in groups.
        fmt: One of FORMATS.
        names: Its columns; by default those that a paper has room for.
    """
    names = list(_COLUMNS if names is None else names)
    columns, rows = cells(grouped, names)
    label = label_of(grouped)
    top, middle, bottom = _RULES[fmt]
    places = ["l" if name in (*LEFT, label) else "r" for name in names]
    lines = [" & ".join(header.translate(_ESCAPED) for _, header in columns) + " \\\\"]
    place = 0
    for group, members in grouped.groupby("group", sort=False):
        lines += [middle, f"\\multicolumn{{{len(names)}}}{{l}}{{\\textit{{{str(group).translate(_ESCAPED)}}}}} \\\\"]
        best = _best(members)
        for number, texts in enumerate(rows[place : place + len(members)]):
            cells_of = [text.translate(_ESCAPED) for text in texts]
            if number == best and "test_mse" in names:
                at = names.index("test_mse")
                cells_of[at] = f"\\textbf{{{cells_of[at]}}}"
            lines.append(" & ".join(cells_of) + " \\\\")
        place += len(members)
    body = "\n".join([f"\\begin{{tabular}}{{{''.join(places)}}}", top, *lines, bottom, "\\end{tabular}"])
    return f"\\begin{{table}}\n\\centering\n\\caption{{{_caption(run).translate(_ESCAPED)}}}\n{body}\n\\end{{table}}\n"


def _best(members: pd.DataFrame) -> int | None:
    """Return the place of the variant that no other one of its group may be ahead of by the evidence."""
    ranked = members["group_rank_high"].notna()
    first = [number for number, high in enumerate(members["group_rank_high"]) if not pd.isna(high) and high == 1]
    return first[0] if first and ranked.sum() > 1 else None


def _caption(run: RunDirectory) -> str:
    info = run.info()
    return (
        f"Test MSE a pixel on {title(run)} of {info.recipe.batch_size} ({counts(info.dataset)}), variants in groups "
        f"whose codes are of one size; ±95% is half the interval over seeds and test images. Bold: the best of its "
        f"group by the evidence, Holm-corrected at 5 %. Recipe {info.recipe.name}, fingerprint {info.fingerprint}; "
        "made with aezoo."
    )
