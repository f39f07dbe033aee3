"""Publish a run: copy its table into results/, and draw its variants in groups whose codes are of one size.

    pip install -e '.[dev]'
    python benchmarks/publish.py results/<run> results/mnist-5k

writes results/mnist-5k.csv, .md, .html (the page of the run) and .png. What is in results/ is never edited by hand.
With `--beside results/mnist-5k` a tuned table also says how it stands to the fixed one: whose order in its group is
another, and who passed PCA.
"""

import argparse
import shutil
from pathlib import Path

import altair as alt
import pandas as pd
import tabulate

from aezoo.contract.hyperparameters import without_folders
from aezoo.page import charts, page
from aezoo.page.contents import kind
from aezoo.run.store import RunDirectory
from aezoo.table import render
from aezoo.table.rows import by_group

LEAST = 4
"""Variants of a group that is drawn: fewer are no comparison."""
MOVED = 3
"""Places in a group by which a variant's rank is another in a tuned table, and is named."""
KINDS = alt.Scale(domain=list(charts.KINDS), range=[colour for colour, _ in charts.KINDS.values()])


def chart(grouped: pd.DataFrame, title: str) -> alt.VConcatChart:
    """Draw a row a variant, best first, a panel a group; PCA at as many numbers as a line through its panel."""
    found = grouped[grouped["status"] == "ok"].copy()
    found["kind"] = found.apply(kind, axis=1)
    drawn = [(str(name), rows) for name, rows in found.groupby("group", sort=False) if len(rows) >= LEAST]
    if not drawn:
        raise SystemExit(f"no group has {LEAST} variants: there is nothing to draw")
    losses = pd.concat([rows["test_mse"] for _, rows in drawn])
    if not losses.min() > 0:
        raise SystemExit("a loss is 0, which a logarithmic axis cannot show")
    scale = alt.Scale(type="log", domain=[0.9 * losses.min(), 1.1 * losses.max()], nice=False, clamp=True)
    panels = []
    for number, (name, rows) in enumerate(drawn):
        last = number == len(drawn) - 1
        axis = alt.Axis(labels=last, title="test MSE a pixel (log scale; left is better)" if last else None)
        x = alt.X("test_mse:Q", scale=scale, axis=axis)
        y = alt.Y("variant:N", sort=None, title=None, axis=alt.Axis(labelLimit=340))
        base = alt.Chart(rows)
        points = base.mark_point(filled=True, size=45).encode(
            x=x, y=y, color=alt.Color("kind:N", scale=KINDS, title=None)
        )
        rule = base.transform_filter("datum.kind == 'PCA'").mark_rule(strokeDash=[3, 3], color="#d62728").encode(x=x)
        heading = alt.Title(name, anchor="start", frame="group", fontSize=11, offset=4)
        ends = base.mark_rule(opacity=0.6).encode(
            x=alt.X("test_mse_low:Q", scale=scale, axis=axis),
            x2="test_mse_high:Q", y=y, color=alt.Color("kind:N", scale=KINDS, title=None),
        )  # fmt: skip
        panels.append((rule + ends + points).properties(width=420, height=alt.Step(13), title=heading))
    heading = alt.Title(
        title,
        subtitle=[
            f"With 95 % intervals, cut where the axis ends. Groups of {LEAST} and more; the others are in the table."
        ],
        anchor="start",
    )
    drawing: alt.VConcatChart = (
        alt.vconcat(*panels, title=heading, spacing=6)
        .configure_legend(orient="top", symbolSize=80, labelLimit=400)
        .configure_axis(grid=True, gridColor="#eeeeee")
    )
    return drawing


def beside(fixed: pd.DataFrame, tuned: pd.DataFrame, name: str) -> str:
    """Say in Markdown how the variants of one table stand in another, which has each at a learning rate of its own.

    An order has changed where the intervals of two ranks lie apart in both tables, and the other way round.
    """
    both = fixed.merge(tuned, on=["group", "variant"], suffixes=("_fixed", ""), sort=False)
    both = both[both["lr"].notna() & both["test_mse"].notna() & both["test_mse_fixed"].notna()]
    turned = []
    for _, rows in both.groupby("group", sort=False):
        for _, one in rows.iterrows():
            behind = rows[
                (one["group_rank_high_fixed"] < rows["group_rank_low_fixed"])
                & (one["group_rank_low"] > rows["group_rank_high"])
            ]
            if len(behind):
                turned.append(f"- `{one['variant']}`, ahead in {name}, is now behind {_listed(behind)}")
    words = {"better": "ahead of PCA", "worse": "behind PCA", "not decided": "not told from PCA"}
    passed = [
        f"- from {words[str(before)]} to {words[str(now)]}: {_listed(rows)}"
        for (before, now), rows in both.groupby(["against_pca_fixed", "against_pca"])
        if before != now
    ]
    in_means = [
        f"`{row['variant']}` passes PCA" if row["vs_pca"] < 1 else f"`{row['variant']}` falls behind PCA"
        for _, row in both.iterrows()
        if pd.notna(row["vs_pca"]) and (row["vs_pca"] < 1) != (row["vs_pca_fixed"] < 1)
    ] + [
        f"`{row['variant']}` goes from place {row['group_rank_fixed']:.0f} to {row['group_rank']:.0f} among those of "
        f"{row['group']}"
        for _, row in both.iterrows()
        if abs(row["group_rank_fixed"] - row["group_rank"]) >= MOVED
    ]
    cells = [
        [
            row["group"],
            row["variant"],
            f"{row['lr']:g}{'*' if row['lr_at_edge'] == 'yes' else ''}",
            f"{row['test_mse_fixed']:.5f}",
            f"{row['test_mse']:.5f}",
            f"{row['test_mse'] / row['test_mse_fixed'] - 1:+.0%}",
            _rank(row, "_fixed"),
            _rank(row, ""),
        ]
        for _, row in both.iterrows()
    ]
    headers = ["group", "variant", "lr", "fixed", "tuned", "change", "rank, fixed", "rank, tuned"]
    return "\n\n".join([
        f"## Beside [{name}]({name}.md), at one learning rate for all",
        f"Whose order changed, in {len(both)} variants with a rate of their own (`*`: at the edge of the list):",
        "\n".join(turned) or "- nobody's, as far as both tables' intervals of ranks tell",
        "By the mean losses, which so few seeds may not settle:",
        "\n".join(f"- {line}" for line in in_means) or "- nothing changed",
        "Against PCA, as far as the evidence tells:",
        "\n".join(passed) or "- nothing changed",
        tabulate.tabulate(cells, headers, tablefmt="github", disable_numparse=True),
    ])  # fmt: skip


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(f"`{variant}`" for variant in rows["variant"])


def _rank(row: pd.Series, suffix: str) -> str:
    rank, low, high = (row[f"group_rank{part}{suffix}"] for part in ("", "_low", "_high"))
    if pd.isna(rank):
        return "-"
    return f"{rank:.0f}" if low == high or pd.isna(low) else f"{rank:.0f} ({low:.0f}-{high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path, help="without a suffix")
    parser.add_argument("--beside", type=Path, help="a published table at one learning rate, without a suffix")
    given = parser.parse_args()
    run = RunDirectory(given.run).require()
    render.write(run)
    page.write(run, Path(f"{given.target}.html"))
    for suffix in (".csv", ".md"):
        shutil.copyfile(run.path / f"table{suffix}", f"{given.target}{suffix}")
    if given.beside is not None:
        section = beside(pd.read_csv(f"{given.beside}.csv"), pd.read_csv(f"{given.target}.csv"), given.beside.name)
        text = given.target.with_name(f"{given.target.name}.md")
        text.write_text(f"{text.read_text()}\n{section}\n")
    info = run.info()
    tuned = ", each at its own learning rate" if info.recipe.rates else ""
    name, steps = without_folders(info.recipe.dataset), info.loss_settings["steps"]
    title = f"{name}, {steps:,} steps{tuned}: variants whose codes are of one size"
    chart(by_group(run), title).save(f"{given.target}.png", scale_factor=2)


if __name__ == "__main__":
    main()
