"""What a page shows of images: reconstructions, latents, the use of codes, and the images on which variants differ.

Pictures are PNG, the images of a variant side by side in one; numbers of latents are base64 of int16.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aezoo.errors import StorageError, plain
from aezoo.run.samples import Bytes, Samples, TestImages, visible
from aezoo.run.snapshot import Snapshot
from aezoo.table.frames import first_samples
from aezoo.table.rows import EXACT, records_by_variant
from aezoo.table.statistics import TINY

ATLAS = 12
"""Test images of a group on which its variants differ most."""
FEWEST = 3
"""Variants of a group in which some may be said to differ."""
NAMED = 3
"""So many that do worst, and best, on such an image."""
BUDGET = 12_000_000
"""Bytes of all pixels of a page, not pressed: where there are more, images are made smaller, and the page says so."""
BARS = 400
"""Units, or codes, whose shares are drawn, at the most."""
Places = dict[str, list[dict[str, Any]]]


def looks(run: Snapshot, ids: Mapping[str, int]) -> dict[str, Any]:
    """Return what a page shows of images; `ids` numbers the variants that it shows.

    Of several seeds, the first one with samples is shown; what cannot be read is told in its place.
    """
    images = run.read_images()
    shape = run.info().dataset.image_shape
    if images is None:
        why = "damaged" if run.has_images else "not there: the run was made by an aezoo that kept none"
        why = f"The file of the run's test images is {why}. Bench it anew to see them."
        return {"shape": shape, "size": shape[1:], "images": None, "why": why, "variants": {}}
    each = {
        ids[variant]: first_samples(run, records, images.choice)
        for variant, records in records_by_variant(run).items()
        if variant in ids
    }
    shown = [kept[1] for kept in each.values() if not isinstance(kept, str)]
    frames = [samples.interpolation for samples in shown if samples.interpolation is not None]
    size = _smaller(shape, sum(map(len, frames)) + len(shown) * len(images.choice.images))
    variants: dict[int, dict[str, Any]] = {}
    for number, kept in each.items():
        if isinstance(kept, str):
            variants[number] = {"absent": plain(kept)}
            continue
        record, samples = kept
        try:
            errors = run.read_test_errors(record)
        except StorageError as error:
            variants[number] = {"absent": plain(str(error))}
            continue
        variants[number] = _facts(samples, size) | {
            "seed": record.seed,
            "errors": [float(f"{errors[place]:.3g}") for place in images.choice.images],
        }
    return {"shape": shape, "size": size, "images": _originals(images, size), "variants": variants}


def _facts(samples: Samples, size: tuple[int, int]) -> dict[str, Any]:
    """Return what is shown of a variant's samples."""
    facts: dict[str, Any] = {
        "pixels": strip(samples.reconstructions, size),
        "clipped": samples.clipped,
        "missing": {name: plain(reason) for name, reason in samples.missing.items()},
    }
    if samples.interpolation is not None:
        facts |= {"between": strip(samples.interpolation, size), "frames": len(samples.interpolation)}
    if samples.latents is not None:
        units = np.nan_to_num(samples.latents.astype(np.float64), posinf=1, neginf=-1)
        facts["latents"] = {
            "numbers": samples.latents.shape[1],
            "scale": samples.scale,
            "explained": samples.explained,
            "units": _base64(np.clip(units * 32767, -32767, 32767).round().astype("<i2").tobytes()),
        }
    if samples.activity is not None:
        facts["activity"] = _activity(np.nan_to_num(samples.activity.astype(np.float64)))
    if samples.usage is not None:
        facts["usage"] = _usage(samples.usage)
    return facts


def _activity(shares: NDArray[np.float64]) -> dict[str, Any]:
    """Return in what shares of the images units are active, most first, how many there are, and how many never are."""
    return {"shares": _thinned(np.sort(shares)[::-1]), "units": len(shares), "dead": int((shares == 0).sum())}


def _usage(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return how often codes are used: the shares of those that are, the number of all, and their perplexity."""
    used = np.sort(counts[counts > 0])[::-1]
    shares = used / max(1, used.sum())
    perplexity = math.exp(-float((shares * np.log(shares)).sum())) if len(shares) else 0.0
    return {"shares": _thinned(shares), "used": len(used), "codes": len(counts), "perplexity": perplexity}


def _thinned(shares: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return shares by their places, from 1 on: at most so many as a chart is wide."""
    places = np.unique(np.linspace(0, len(shares) - 1, min(len(shares), BARS)).round().astype(int))
    return [(int(place) + 1, float(f"{shares[place]:.4g}")) for place in places]


def _originals(images: TestImages, size: tuple[int, int]) -> dict[str, Any]:
    """Return the chosen test images as they are, with why each was chosen."""
    choice = images.choice
    pixels = np.stack([images.pixels[place] for place in choice.images])
    return {
        "pixels": strip(pixels, size),
        "places": list(choice.images),
        "reasons": [plain(reason) for reason in choice.reasons],
        "labels": [images.labels.get(place) for place in choice.images],
        "pair": [choice.images.index(place) for place in choice.pair],
        "latent_places": list(choice.latents),
        "latent_labels": [images.labels.get(place) for place in choice.latents],
    }


def disagreements(run: Snapshot, members: Mapping[str, Sequence[str]]) -> Places:
    """Return, for each group of variants, the test images on which they differ most.

    An image's errors are told on their log, less what the image and the variant lead to expect (their means): how far
    what is left spreads over the variants says how much they differ on it. With each image stand those that do worst
    and best on it, by how many times worse than expected, and their own errors: means over the seeds.
    """
    wanted = {variant for some in members.values() for variant in some}
    tables = {
        variant: means.by_image
        for variant, records in records_by_variant(run).items()
        if variant in wanted and (means := run.means(variant, records)) is not None
    }
    found: Places = {}
    for group, variants in members.items():
        names = [variant for variant in variants if variant in tables]
        if len(names) < FEWEST:
            continue
        errors = np.stack([tables[name] for name in names])
        # What is below this share of the greatest error is none but rounding.
        logs = np.log(np.maximum(errors, max(EXACT * errors.max(), TINY)))
        left = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
        spread = left.std(axis=0)
        found[group] = [
            {
                "place": int(place),
                "worst": _named(names, errors[:, place], left[:, place], worst=True),
                "best": _named(names, errors[:, place], left[:, place], worst=False),
            }
            for place in np.argsort(-spread, kind="stable")[:ATLAS]
            if spread[place] > 0
        ]
    return found


def _named(
    names: Sequence[str], errors: NDArray[np.float64], left: NDArray[np.float64], *, worst: bool
) -> list[dict[str, Any]]:
    order = np.argsort(-left if worst else left, kind="stable")[: min(NAMED, len(names) // 2)]
    return [
        {"variant": names[place], "times": math.exp(min(float(left[place]), 700.0)), "error": float(errors[place])}
        for place in order
    ]


def atlas(images: TestImages | None, places: Places, ids: Mapping[str, int], size: tuple[int, int]) -> dict[str, Any]:
    """Return the images on which variants differ, as a page shows them; those that the run does not keep are told."""
    kept = images.pixels if images else {}
    shown = sorted({each["place"] for some in places.values() for each in some if each["place"] in kept})
    labels = images.labels if images else {}
    groups = {
        group: [
            {
                "place": each["place"],
                "label": labels.get(each["place"]),
                **{
                    end: [
                        {
                            "id": ids[name["variant"]],
                            "times": float(f"{name['times']:.3g}"),
                            "error": float(f"{name['error']:.3g}"),
                        }
                        for name in each[end]
                    ]
                    for end in ("worst", "best")
                },
            }
            for each in some
        ]
        for group, some in places.items()
    }
    return {
        "groups": groups,
        "places": shown,
        "pixels": strip(np.stack([kept[place] for place in shown]), size) if shown else None,
    }


def _smaller(shape: Sequence[int], count: int) -> tuple[int, int]:
    """Return the height and the width in which images are shown: their own, or halved until all fit into a page."""
    channels, height, width = shape
    while channels * height * width * count > BUDGET and min(height, width) > 16:
        height, width = max(1, height // 2), max(1, width // 2)
    return height, width


def strip(images_NCHW: Bytes, size: tuple[int, int] | None = None) -> str:
    """Return images side by side as the PNG of one, base64; of other channels than 1 or 3 their mean is shown."""
    pixels = visible(images_NCHW)
    count, channels, height, width = pixels.shape
    joined = pixels.transpose(2, 0, 3, 1).reshape(height, count * width, channels)
    picture = Image.fromarray(joined[:, :, 0] if channels == 1 else joined)
    if size is not None and size != (height, width):
        picture = picture.resize((count * size[1], size[0]), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return _base64(file.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
