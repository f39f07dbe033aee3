"""A run as it is published: its table as csv and as a page of Markdown, its own page, and a picture of its variants.

What is published is never edited by hand. Beside a table at one learning rate, a tuned one also says how it stands to
it: whose order in its group is another, and who passed PCA.
"""

import io
import shlex
from pathlib import Path

import altair as alt
import pandas as pd
import tabulate

from aezoo.errors import AezooError
from aezoo.page import charts, page
from aezoo.page.contents import kind, made
from aezoo.run.again import again
from aezoo.run.files import write_bytes, write_text
from aezoo.run.store import RunDirectory
from aezoo.table.markdown import markdown, title
from aezoo.table.render import render
from aezoo.table.rows import records_by_variant, summarise
from aezoo.table.views import grouped

LEAST = 4
"""Variants of a group that is drawn, where some group has so many: fewer are hardly a comparison."""
MOVED = 3
"""Places in a group by which a variant's rank is another in a tuned table, and is named."""
ENDINGS = (".csv", ".md", ".html", ".png", ".toml")
"""Of the files that are written: who gives one of them means them all."""
KINDS = alt.Scale(domain=list(charts.KINDS), range=[colour for colour, _ in charts.KINDS.values()])


def publish(run: RunDirectory, target: Path, beside: Path | None = None) -> list[Path]:
    """Write a run's table, page and picture as files of one name, and return them.

    Args:
        run: The run.
        target: Where: of `docs/mine`, or of `docs/mine.md`, come `docs/mine.csv`, `.md`, `.html`, `.png`, and `.toml`
            of a recipe that is none of aezoo's own; of a folder that is there, files in it by the run's name.
        beside: A published table at one learning rate, by the name of its files, beside which this one is held.

    Raises:
        AezooError: there is no run, or no table to hold it beside; or a file cannot be written.
    """
    run = run.require().load()
    table = summarise(run)
    base = _base(target, run)
    name = base.name
    written = [_file(base, ending) for ending in (".csv", ".md", ".html")]
    write_text(written[0], render(table, "csv"))
    page.write(run, written[2])
    in_groups = grouped(table)
    picture = chart(in_groups, title(run))
    if picture is not None:
        written.append(_file(base, ".png"))
        write_bytes(written[-1], _png(picture))
    line, recipe = _again(run, in_groups, name)
    if recipe is not None:
        written.append(_file(base, ".toml"))
        write_text(written[-1], recipe)
    above = [
        *made(run),
        f"A row is made again by its name, for one: `{line}`; a name without brackets is written with `[]` behind it. "
        + (f"[Its recipe]({name}.toml) is to be saved first. " if recipe is not None else "")
        + f"[The page of this run]({name}.html): save it, and open it in a browser. "
        f"[All columns, and every digit]({name}.csv).",
        *([f"![Test MSE by variant, in groups of one code size, with 95 % intervals]({name}.png)"] if picture else []),
    ]
    text = markdown(run, table, above)
    if beside is not None:
        other = _without_ending(beside)
        fixed = _file(other, ".csv")
        if not fixed.is_file():
            raise AezooError(f"no published table at {fixed}: give the name of what `aezoo publish` wrote")
        text += f"\n{held_beside(pd.read_csv(fixed), pd.read_csv(written[0]), other.name)}\n"
    write_text(written[1], text)
    return written


def _file(base: Path, ending: str) -> Path:
    """Return one of the files of a name, which may have dots of its own."""
    return base.with_name(f"{base.name}{ending}")


def _base(target: Path, run: RunDirectory) -> Path:
    """Return the name of the files, without an ending, for what the user gave."""
    if target.is_dir() and not RunDirectory(target).exists:  # of a run's own folder: beside it, not among its records
        return target / run.path.resolve().name
    return _without_ending(target)


def _without_ending(target: Path) -> Path:
    return target.with_suffix("") if target.suffix in ENDINGS else target


def _again(run: RunDirectory, rows: pd.DataFrame, name: str) -> tuple[str, str | None]:
    """Return a line that makes a variant of a table again, and the recipe that it reads as NAME.toml, if any.

    It is one that is trained, where the table has such a one: others are quickly made, and say little of a recipe.
    """
    trained = rows[(rows["status"] == "ok") & rows.apply(lambda row: kind(row).startswith("trained"), axis=1)]
    variant = str((trained if len(trained) else rows)["variant"].iloc[0])
    record = next(iter(records_by_variant(run)[variant]), None)
    line = again(variant, run.info().recipe, record, out=name)
    if line.recipe_file is None:
        return line.line, None
    parts = [f"{name}.toml" if part == "recipe.toml" else part for part in shlex.split(line.line)]
    return shlex.join(parts), line.recipe_file


def _png(picture: alt.VConcatChart) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="png", scale_factor=2)
    return file.getvalue()


def chart(rows: pd.DataFrame, heading: str) -> alt.VConcatChart | None:
    """Draw a row a variant, best first, a panel a group; PCA at as many numbers as a line through its panel.

    Args:
        rows: A run's table in groups.
        heading: What stands above it.
    """
    found = rows[(rows["status"] == "ok") & (rows["test_mse"] > 0)].copy()
    if found.empty:
        return None
    found["kind"] = found.apply(kind, axis=1)
    sizes = found["group"].value_counts()
    least = min(LEAST, sizes.max())
    drawn = [(str(name), members) for name, members in found.groupby("group", sort=False) if len(members) >= least]
    losses = pd.concat([members["test_mse"] for _, members in drawn])
    scale = alt.Scale(type="log", domain=[0.9 * losses.min(), 1.1 * losses.max()], nice=False, clamp=True)
    panels = []
    for number, (name, members) in enumerate(drawn):
        last = number == len(drawn) - 1
        axis = alt.Axis(labels=last, title="test MSE a pixel (log scale; left is better)" if last else None)
        x = alt.X("test_mse:Q", scale=scale, axis=axis)
        y = alt.Y("variant:N", sort=None, title=None, axis=alt.Axis(labelLimit=340))
        base = alt.Chart(members)
        points = base.mark_point(filled=True, size=45).encode(
            x=x, y=y, color=alt.Color("kind:N", scale=KINDS, title=None)
        )
        rule = base.transform_filter("datum.kind == 'PCA'").mark_rule(strokeDash=[3, 3], color="#d62728").encode(x=x)
        above = alt.Title(name, anchor="start", frame="group", fontSize=11, offset=4)
        ends = base.mark_rule(opacity=0.6).encode(
            x=alt.X("test_mse_low:Q", scale=scale, axis=axis),
            x2="test_mse_high:Q", y=y, color=alt.Color("kind:N", scale=KINDS, title=None),
        )  # fmt: skip
        panels.append((rule + ends + points).properties(width=420, height=alt.Step(13), title=above))
    left = f" Groups of {least} and more; the others are in the table." if len(drawn) < len(sizes) else ""
    whole = alt.Title(
        f"{heading}: variants whose codes are of one size",
        subtitle=[f"With 95 % intervals, cut where the axis ends.{left}"], anchor="start",
    )  # fmt: skip
    drawing: alt.VConcatChart = (
        alt.vconcat(*panels, title=whole, spacing=6)
        .configure_legend(orient="top", symbolSize=80, labelLimit=400)
        .configure_axis(grid=True, gridColor="#eeeeee")
    )
    return drawing


def held_beside(fixed: pd.DataFrame, tuned: pd.DataFrame, name: str) -> str:
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
        tabulate.tabulate(
            cells, headers, tablefmt="pipe", disable_numparse=True, colalign=["left"] * 2 + ["right"] * 6
        ),
    ])  # fmt: skip


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(f"`{variant}`" for variant in rows["variant"])


def _rank(row: pd.Series, suffix: str) -> str:
    rank, low, high = (row[f"group_rank{part}{suffix}"] for part in ("", "_low", "_high"))
    if pd.isna(rank):
        return "-"
    return f"{rank:.0f}" if low == high or pd.isna(low) else f"{rank:.0f} ({low:.0f}-{high:.0f})"
