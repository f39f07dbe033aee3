"""Publish a run: copy its table into results/, and draw reconstruction error against bottleneck.

    pip install -e '.[dev]'
    python benchmarks/publish.py results/<run> results/mnist-5k

writes results/mnist-5k.csv, .md and .png. What is in results/ is never edited by hand.
"""

import argparse
import shutil
from pathlib import Path

import altair as alt
import pandas as pd


def chart(table: pd.DataFrame, title: str) -> alt.LayerChart:
    """Draw test_mse over latent_size, a line an architecture, its default objective alone; the mean image as a rule."""
    family = table["variant"].str.replace(r"\[.*", "", regex=True)
    swept = table.assign(architecture=family)[lambda rows: (rows["latent_size"] > 0) & (rows["status"] == "ok")]
    swept = swept[swept["architecture"] != "denoising"]
    mean = table[table["variant"] == "mean"]
    domain = [0.9 * swept["test_mse"].min(), 1.1 * mean["test_mse"].max()]
    scale = alt.Scale(type="log", domain=domain, nice=False)
    y = alt.Y("test_mse:Q", title="test MSE a pixel (lower is better)", scale=scale)
    lines = (
        alt.Chart(swept)
        .mark_line(point=True)
        .encode(
            x=alt.X("latent_size:Q", title="latent size", scale=alt.Scale(type="log", base=2)),
            y=y,
            color=alt.Color("architecture:N", title=None),
        )
    )
    rule = alt.Chart(mean).mark_rule(strokeDash=[4, 4], color="gray").encode(y=y)
    label = (
        alt.Chart(mean)
        .mark_text(align="right", dx=-4, dy=-6, color="gray")
        .encode(y=y, x=alt.value(560), text=alt.value("mean image"))
    )
    return (rule + label + lines).properties(width=560, height=320, title=title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path, help="without a suffix")
    given = parser.parse_args()
    for suffix in (".csv", ".md"):
        shutil.copyfile(given.run / f"table{suffix}", given.target.with_suffix(suffix))
    table = pd.read_csv(given.run / "table.csv")
    title = f"aezoo bench --all, {given.target.name}"
    chart(table, title).save(given.target.with_suffix(".png"), scale_factor=2)


if __name__ == "__main__":
    main()
