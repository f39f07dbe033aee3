"""The page of a data set: a contact sheet, statistics, and what is wrong with it. One file, and no script in it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.hyperparameters import without_folders
from aezoo.errors import plain
from aezoo.page.contents import LONG, short
from aezoo.page.looks import strip
from aezoo.page.page import rendered
from aezoo.run.files import write_text
from aezoo.run.survey import LEVELS, PartSurvey, Survey

ROW = 10
"""Images in a row of the contact sheet."""
LISTED = 50
"""Groups of duplicates that are listed, and labels that are counted, at the most."""
WIDTH, HEIGHT = 256, 80


def write(survey: Survey, path: Path) -> Path:
    """Write the page of a data set, and return where it is.

    Raises:
        StorageError: it cannot be written.
    """
    write_text(path, html(survey))
    return path


def html(survey: Survey) -> str:
    """Return the page of a data set."""
    channels, height, width = survey.images.shape
    texts = {
        "title": short(without_folders(survey.name), LONG),
        "headline": f"{sum(part.count for part in survey.parts):,} images of {channels}x{height}x{width}",
        "notes": [plain(note) for note in survey.images.notes],
        "warnings": [plain(warning) for warning in survey.warnings],
        "sha256": survey.sha256,
        "parts": [_part(part) for part in survey.parts],
        "labels": _labels(survey.parts),
        "rows": _sheet(survey),
        "size": (width, height),
        "zoom": max(1, round(64 / max(height, width))),
        "mean_image": strip(_bytes(survey.mean_image)),
        "deviation_image": strip(_bytes(survey.deviation_image / max(float(survey.deviation_image.max()), 1e-9))),
        "duplicates": [
            [f"{part} {plain(name)}" for part, name in group[:LISTED]] for group in _worst_first(survey)[:LISTED]
        ],
        "duplicate_groups": len(survey.duplicates),
        "across": len(survey.across),
    }
    return rendered("data.html.jinja", (), "", texts, {}, 0)


def _worst_first(survey: Survey) -> list[Any]:
    return sorted(survey.duplicates, key=lambda group: len({part for part, _ in group}), reverse=True)


def _part(part: PartSurvey) -> dict[str, Any]:
    return {
        "name": part.name,
        "count": f"{part.count:,}",
        "mean": ", ".join(f"{value:.4f}" for value in part.mean),
        "deviation": ", ".join(f"{value:.4f}" for value in part.deviation),
        "bars": _bars(part.histogram),
        "black": f"{part.histogram[0] / max(1, sum(part.histogram)):.1%}",
        "white": f"{part.histogram[-1] / max(1, sum(part.histogram)):.1%}",
    }


def _bars(counts: tuple[int, ...]) -> list[dict[str, float]]:
    """Return the bars of a histogram, on a square root's scale: black pixels alone would flatten the rest."""
    heights = np.sqrt(np.asarray(counts) / max(1, *counts)) * HEIGHT
    wide = WIDTH / LEVELS
    return [
        {"x": place * wide, "y": round(HEIGHT - height, 2), "height": round(height, 2), "width": wide}
        for place, height in enumerate(heights.tolist())
    ]


def _labels(parts: tuple[PartSurvey, ...]) -> list[list[str]]:
    names = list(dict.fromkeys(name for part in parts for name in part.labels))
    labelled = [part for part in parts if part.labels]
    return [[plain(name), *(f"{part.labels.get(name, 0):,}" for part in labelled)] for name in names[:LISTED]]


def _sheet(survey: Survey) -> list[dict[str, str]]:
    """Return the contact sheet, a row of images in one picture each, with what it is of."""
    rows = []
    labels = survey.sheet_labels
    starts = [0]
    for place in range(1, len(survey.sheet)):
        if place - starts[-1] == ROW or (labels and labels[place] != labels[place - 1]):
            starts.append(place)
    for start, end in zip(starts, [*starts[1:], len(survey.sheet)], strict=True):
        of = f"label {plain(labels[start])}" if labels else f"images {start + 1} to {end} of the sheet"
        rows.append({"pixels": strip(survey.sheet[start:end]), "count": str(end - start), "of": of})
    return rows


def _bytes(image_CHW: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(np.clip(image_CHW, 0, 1) * 255).astype(np.uint8)[None]
