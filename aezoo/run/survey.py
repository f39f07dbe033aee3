"""What is in a data set, and what is wrong with it: counts, statistics, duplicates, files that cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.images import Images, Part
from aezoo.contract.pixels import Pixels, array_chunks
from aezoo.contract.split import pixel_hash

LEVELS = 64
"""Bins of a histogram of grey levels."""
SHOWN = 100
"""Images of a contact sheet, at the most."""


@dataclass(frozen=True, kw_only=True)
class PartSurvey:
    """What is in a part of the data.

    `mean` and `deviation` are those of each channel, pixels in [0, 1]; `histogram` counts the grey levels of all
    channels, from dark to bright; `labels` counts the images of each label, by its name or number.
    """

    name: Part
    count: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    histogram: tuple[int, ...]
    labels: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is in a data set: its text, its images, the hash of their pixels, what looks hardly meant, and more.

    `duplicates` holds the images that are equal pixel by pixel, each group with the part and the name of each of them;
    `across` those of them that lie on both sides of the split. `sheet` are some images of the training part,
    (N, C, H, W), with `sheet_labels`, what each is labelled, where there are labels.
    """

    name: str
    images: Images = field(repr=False)
    sha256: str
    warnings: tuple[str, ...]
    parts: tuple[PartSurvey, ...]
    duplicates: tuple[tuple[tuple[Part, str], ...], ...] = ()
    sheet: NDArray[np.uint8] = field(repr=False)
    sheet_labels: tuple[str, ...] = ()
    mean_image: NDArray[np.float64] = field(repr=False)
    deviation_image: NDArray[np.float64] = field(repr=False)

    @property
    def across(self) -> list[tuple[tuple[Part, str], ...]]:
        """The duplicates that lie in several parts."""
        return [group for group in self.duplicates if len({part for part, _ in group}) > 1]


def survey(name: str, images: Images, sha256: str, warnings: Sequence[str]) -> Survey:
    """Look at all images of a data set, a part of them at a time."""
    named: list[tuple[Part, Pixels, NDArray[np.integer[Any]] | None]] = [
        ("train", images.train, images.train_labels), ("test", images.test, images.test_labels),
    ]  # fmt: skip
    if images.validation is not None:
        named.append(("validation", images.validation, None))
    places: dict[bytes, list[tuple[Part, str]]] = {}
    parts = []
    total = np.zeros(images.shape)
    squares = np.zeros(images.shape)
    for part, pixels, labels in named:
        names = images.names.get(part) or [str(place) for place in range(len(pixels))]
        place = 0
        histogram = np.zeros(LEVELS, np.int64)
        sums, own_squares = np.zeros(images.shape[0]), np.zeros(images.shape[0])
        for chunk in array_chunks(pixels):
            for image in chunk:
                places.setdefault(pixel_hash(image), []).append((part, names[place]))
                place += 1
            histogram += np.bincount(chunk.reshape(-1) // (256 // LEVELS), minlength=LEVELS)
            floats = chunk / 255
            sums += floats.sum(axis=(0, 2, 3))
            own_squares += np.square(floats).sum(axis=(0, 2, 3))
            if part == "train":
                total += floats.sum(axis=0)
                squares += np.square(floats).sum(axis=0)
        count = len(pixels) * images.shape[1] * images.shape[2]
        mean = sums / count
        parts.append(
            PartSurvey(
                name=part, count=len(pixels), mean=tuple(mean.tolist()), histogram=tuple(histogram.tolist()),
                deviation=tuple(np.sqrt(np.maximum(own_squares / count - mean**2, 0)).tolist()),
                labels=_counts(labels, images.label_names),
            )
        )  # fmt: skip
    chosen = _chosen(images.train_labels, len(images.train))
    mean_image = total / len(images.train)
    return Survey(
        name=name, images=images, sha256=sha256, warnings=tuple(warnings), parts=tuple(parts),
        duplicates=tuple(tuple(group) for group in places.values() if len(group) > 1),
        sheet=np.concatenate([images.train[place : place + 1] for place in chosen]),
        sheet_labels=_called(images.train_labels, chosen, images.label_names),
        mean_image=mean_image,
        deviation_image=np.sqrt(np.maximum(squares / len(images.train) - mean_image**2, 0)),
    )  # fmt: skip


def _counts(labels: NDArray[np.integer[Any]] | None, names: Sequence[str]) -> dict[str, int]:
    if labels is None:
        return {}
    values, counts = np.unique(labels, return_counts=True)
    return {_name(value, names): count for value, count in zip(values.tolist(), counts.tolist(), strict=True)}


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if 0 <= label < len(names) else str(label)


def _chosen(labels: NDArray[np.integer[Any]] | None, count: int) -> list[int]:
    """Return the places of a contact sheet's images: evenly spaced, of each of up to ten labels alike."""
    if labels is None:
        return list(np.unique(np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)).tolist())
    values, counts = np.unique(labels, return_counts=True)
    largest = sorted(values[np.argsort(-counts, kind="stable")][:10].tolist())
    each = SHOWN // len(largest)
    places = []
    for label in largest:
        own = np.flatnonzero(labels == label)
        places += own[np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(int))].tolist()
    return places


def _called(labels: NDArray[np.integer[Any]] | None, places: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    return () if labels is None else tuple(_name(int(labels[place]), names) for place in places)
