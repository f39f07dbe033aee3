"""The card of a variant of a run, for a terminal: its figures, its learning curve, and what it does to images."""

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from aezoo.errors import plain
from aezoo.run.model import find_variant
from aezoo.run.records import TrialRecord
from aezoo.run.samples import Bytes, visible
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import cells, rows
from aezoo.table.frames import first_samples

WIDEST = 28
"""Columns of an image on a terminal, at the most."""
NARROWEST = 12
"""And at the least: fewer images are shown rather than smaller ones."""
_SHOWN = {
    "test_mse": "test MSE",
    "vs_pca": "over PCA's",
    "num_params": "parameters",
    "train_images_per_s": "images/s in training",
    "infer_images_per_s": "images/s in reconstruction",
    "seeds": "seeds",
    "objective": "objective",
    "status": "status",
}


def print_card(console: Console, path: Path, variant: str) -> None:
    """Print the card of a variant of a run.

    Raises:
        AezooError: there is no run, or no such variant in it.
    """
    run = RunDirectory(path).require().load()
    table = rows.summarise(run)
    by_variant = rows.records_by_variant(run)
    variant = find_variant(path, variant, by_variant)
    row, records = table.iloc[list(table["variant"]).index(variant)], by_variant[variant]
    console.print(Text(plain(variant), "bold"), soft_wrap=True)
    for name, text in _facts(path, row, records):
        console.print(Text(f"  {name:<26}  {plain(text)}"), soft_wrap=True)
    _print_images(console, run, records)


def _facts(path: Path, row: "pd.Series[Any]", records: list[TrialRecord]) -> list[tuple[str, str]]:
    rank = "-"
    if not pd.isna(row["group_rank"]):
        rank = f"{row['group_rank']} of {row['group']}"
        if not pd.isna(row["group_rank_low"]) and row["group_rank_low"] < row["group_rank_high"]:
            rank += f", by the evidence {row['group_rank_low']} to {row['group_rank_high']}"
    facts = [("rank", rank)]
    for name, label in _SHOWN.items():
        text = cells.cell(name, row[name])
        if name == "test_mse":
            text = f"{text} ±{cells.half_width(row['test_mse_low'], row['test_mse_high'])}"
        facts.append((label, text))
    curve = next((record.curve for record in records if record.curve), [])
    if curve:
        losses = [loss for _, loss in curve]
        facts.append(("training MSE", f"{cells.sparkline(losses)}  {losses[0]:.4g} to {losses[-1]:.4g}"))
    facts += [(record.status, f"{record.label}: {record.reason}") for record in records if record.status != "ok"]
    trial = next((record.trial_id for record in records), None)
    return facts + ([("again", shlex.join(["aezoo", "reproduce", str(path), trial]))] if trial else [])


def _print_images(console: Console, run: Snapshot, records: list[TrialRecord]) -> None:
    """Print test images above their reconstructions, as many as the terminal is wide; or say why there are none."""
    images = run.read_images()
    kept = "the run keeps no test images" if images is None else first_samples(run, records, images.choice)
    if isinstance(kept, str) or images is None:
        console.print(Text(f"no reconstructions: {plain(str(kept))}"), soft_wrap=True)
        return
    if console.color_system is None:
        console.print("no reconstructions here: this terminal has no colours; report.html has them")
        return
    record, samples = kept
    count = len(samples.choice.images)
    width = max(NARROWEST, min(WIDEST, samples.reconstructions.shape[3]))
    while width > NARROWEST and (console.width + 1) // (width + 1) < min(count, 6):
        width -= 2
    shown = max(1, min(count, (console.width + 1) // (width + 1)))
    originals = np.stack([images.pixels[place] for place in samples.choice.images[:shown]])
    labels = [images.labels.get(place) for place in samples.choice.images[:shown]]
    if any(label is not None for label in labels):
        console.print(Text(" ".join(f"{'label ' + str(label):<{width}.{width}}" for label in labels)), soft_wrap=True)
    for pixels in (originals, samples.reconstructions[:shown]):
        console.print(half_blocks(pixels, width), soft_wrap=True)
    console.print(f"{shown} of {count} test images, and below them as seed {record.seed} reconstructs them")


def half_blocks(images_NCHW: Bytes, width: int) -> Text:
    """Return images side by side, each so many columns wide, a half block for every two pixels of a column."""
    from PIL import Image

    height = max(2, 2 * math.ceil(width * images_NCHW.shape[2] / images_NCHW.shape[3] / 2))
    pictures: list[NDArray[np.uint8]] = []
    for image_CHW in visible(images_NCHW):
        rgb = np.repeat(image_CHW, 3, axis=0) if len(image_CHW) == 1 else image_CHW
        whole = Image.fromarray(np.ascontiguousarray(rgb.transpose(1, 2, 0)))
        pictures.append(np.asarray(whole.resize((width, height), Image.Resampling.BOX)))
    text = Text()
    for top in range(0, height, 2):
        for number, picture in enumerate(pictures):
            text.append(" " if number else "")
            for upper, lower in zip(picture[top], picture[top + 1], strict=True):
                text.append("▀", Style(color=_colour(upper), bgcolor=_colour(lower)))
        text.append("\n" if top + 2 < height else "")
    return text


def _colour(pixel: NDArray[np.uint8]) -> Color:
    red, green, blue = (int(part) for part in pixel)
    return Color.from_rgb(red, green, blue)
