"""A run's table as a page of Markdown, as narrow as GitHub shows one. It needs no torch."""

from collections.abc import Sequence

import pandas as pd

from aezoo.contract.hyperparameters import without_folders
from aezoo.run.store import RunDirectory
from aezoo.table.cells import HALF_WIDTH, RATES, cells, is_metric
from aezoo.table.formats import tabulated
from aezoo.table.notes import notes, verdicts
from aezoo.table.views import grouped, is_swept, rate_distortion

_SHOWN = ("group_rank", "variant", "test_mse", HALF_WIDTH, "vs_pca", "num_params", "train_images_per_s", *RATES, "lr")
"""Columns that fit beside each other in 950 pixels; table.csv and the page have all."""


def title(run: RunDirectory) -> str:
    """Return what a run is about: its data set, its steps, and whose learning rates."""
    info = run.info()
    own = ", each at its own learning rate" if info.recipe.rates else ""
    return f"{without_folders(info.recipe.dataset)}, {info.loss_settings['steps']:,} steps{own}"


def markdown(run: RunDirectory, table: pd.DataFrame, above: Sequence[str] = ()) -> str:
    """Return a page: a title, what the evidence supports, the variants in groups of one code size, and the notes.

    Args:
        run: A run that is loaded.
        table: Its table.
        above: Paragraphs to stand below the title.
    """
    parts = [f"# {title(run)}", *above]
    sentences = verdicts(run, table)
    parts += ["\n".join(f"- {line}" for line in sentences)] if sentences else []
    for group, rows in grouped(table).groupby("group", sort=False):
        parts += [f"### {group}", _table(rows)]
    parts += ["### Notes", "\n".join(f"- {line}" for line in notes(run, table))]
    if is_swept(run):
        swept = rate_distortion(run)
        columns, losses = cells(swept[swept.notna().sum(axis=1) > 2])
        parts += ["### test_mse by latent_dim", tabulated(columns, losses, "pipe")]
    return "\n\n".join(parts) + "\n"


def _table(group: pd.DataFrame) -> str:
    """Return the table of a group, without the columns that say nothing of it."""
    names = [name for name in (*_SHOWN, *filter(is_metric, map(str, group))) if name == HALF_WIDTH or name in group]
    columns, rows = cells(group, [*names, "status"])
    empty = {"group_rank": None, "test_mse": None, "status": "ok"}
    kept = [place for place, (name, _) in enumerate(columns) if any(row[place] != empty.get(name, "-") for row in rows)]
    return tabulated([columns[place] for place in kept], [[row[place] for place in kept] for row in rows], "pipe")
