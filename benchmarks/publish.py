"""Publish a run: copy its table into results/, and draw its variants in groups whose codes are of one size.

    pip install -e '.[dev]'
    python benchmarks/publish.py results/<run> results/mnist-5k

writes results/mnist-5k.csv, .md and .png. What is in results/ is never edited by hand.
"""

import argparse
import shutil
from pathlib import Path

import altair as alt
import pandas as pd

from aezoo.run.store import RunDirectory
from aezoo.table import render
from aezoo.table.rows import by_group

LEAST = 4
"""Variants of a group that is drawn: fewer are no comparison."""
KINDS = alt.Scale(
    domain=["PCA", "closed form", "trained", "trained with a penalty, noise or a mask"],
    range=["#d62728", "#999999", "#1f77b4", "#ff7f0e"],
)


def kind(row: pd.Series) -> str:
    """Return the colour's name of a variant."""
    if row["variant"].startswith("pca"):
        return "PCA"
    if "closed form" in row["objective"] or "algorithm" in row["objective"]:
        return "closed form"
    return "trained" if row["objective"] == "mse" else "trained with a penalty, noise or a mask"


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
        title, subtitle=f"With 95 % intervals. Groups of {LEAST} and more; the others are in the table.", anchor="start"
    )
    drawing: alt.VConcatChart = (
        alt.vconcat(*panels, title=heading, spacing=6)
        .configure_legend(orient="top", symbolSize=80, labelLimit=400)
        .configure_axis(grid=True, gridColor="#eeeeee")
    )
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path, help="without a suffix")
    given = parser.parse_args()
    run = RunDirectory(given.run).require()
    render.write(run)
    for suffix in (".csv", ".md"):
        shutil.copyfile(run.path / f"table{suffix}", f"{given.target}{suffix}")
    info = run.info()
    title = f"{info.recipe.dataset}, {info.loss_settings['steps']:,} steps: variants whose codes are of one size"
    chart(by_group(run), title).save(f"{given.target}.png", scale_factor=2)


if __name__ == "__main__":
    main()
