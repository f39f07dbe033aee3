"""What a trial keeps to be looked at, and the images that it is held against: their files. It needs no torch.

Shapes: images are uint8, (N, C, H, W); latents are float16, (N, 1) or (N, 2), and say more only with their scale.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from aezoo.run.files import DamagedFileError

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The test images of a run that every trial shows, chosen once: places in the test set.

    Args:
        images: Those whose reconstructions are kept.
        reasons: Why each of them was chosen.
        pair: The two between which each trial interpolates.
        latents: Those whose latents are kept.
    """

    images: tuple[int, ...]
    reasons: tuple[str, ...]
    pair: tuple[int, int]
    latents: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a trial keeps to be looked at.

    Args:
        choice: Which test images these are of.
        reconstructions: (N, C, H, W), clipped to what a pixel can be.
        clipped: The share of their pixels that were outside [0, 1].
        latents: (M, 1) or (M, 2) in units of `scale`: as they are up to two numbers, else their first two principal
            components. None where there are none.
        scale: The largest number of the latents before they were kept.
        explained: The share of the latents' variance in each component; None where they are kept as they are.
        interpolation: (K, C, H, W): what lies on the line between the latents of the pair, decoded.
        activity: Of a sparse latent, the share of images in which each unit is not 0; else None.
        usage: Of a discrete latent, how often each code was used; else None.
        missing: Why something of this is not there, by its name.
    """

    choice: Choice
    reconstructions: Bytes
    clipped: float = 0.0
    latents: NDArray[np.float16] | None = None
    scale: float = 1.0
    explained: tuple[float, ...] | None = None
    interpolation: Bytes | None = None
    activity: NDArray[np.float16] | None = None
    usage: Integers | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TestImages:
    """Test images that a run keeps, by their places in the test set, with the labels of all that it shows."""

    __test__ = False  # no test of pytest

    choice: Choice
    pixels: dict[int, Bytes]
    labels: dict[int, int]


_ARRAYS = ("reconstructions", "latents", "interpolation", "activity", "usage")


def visible(images_NCHW: Bytes) -> Bytes:
    """Return images as a person can see them, of 1 or 3 channels: of other ones their mean."""
    if images_NCHW.shape[1] in (1, 3):
        return images_NCHW
    return np.asarray(images_NCHW.mean(axis=1, keepdims=True).round(), np.uint8)


def pack_samples(samples: Samples) -> bytes:
    """Return the content of a safetensors file."""
    arrays = {name: array for name in _ARRAYS if (array := getattr(samples, name)) is not None}
    facts = {
        "choice": _facts(samples.choice), "clipped": samples.clipped, "scale": samples.scale,
        "explained": samples.explained, "missing": samples.missing,
    }  # fmt: skip
    return _pack(arrays, facts)


def unpack_samples(content: bytes) -> Samples:
    """Read what `pack_samples` wrote.

    Raises:
        DamagedFileError: it is not that.
    """
    arrays, facts = _unpack(content)
    try:
        explained = facts["explained"]
        samples = Samples(
            choice=_choice(facts["choice"]), clipped=float(facts["clipped"]), scale=float(facts["scale"]),
            explained=None if explained is None else tuple(map(float, explained)),
            missing={str(name): str(reason) for name, reason in facts["missing"].items()},
            **arrays,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFileError(f"it holds no samples of a trial: {error}") from error
    count = len(samples.choice.images)
    fits = samples.reconstructions.dtype == np.uint8 and samples.reconstructions.ndim == 4
    fits &= len(samples.reconstructions) == count == len(samples.choice.reasons)
    if samples.latents is not None:
        fits &= samples.latents.ndim == 2 and samples.latents.shape[1] in (1, 2)
        fits &= len(samples.latents) == len(samples.choice.latents)
    if samples.interpolation is not None:
        fits &= samples.interpolation.dtype == np.uint8 and len(samples.interpolation) > 0
        fits &= samples.interpolation.shape[1:] == samples.reconstructions.shape[1:]
    numbers = (samples.clipped, samples.scale, *(samples.explained or ()))
    fits &= all(map(math.isfinite, numbers)) and len(samples.explained or (0, 0)) == 2
    fits &= all(array is None or array.ndim == 1 for array in (samples.activity, samples.usage))
    if not fits:
        raise DamagedFileError("its arrays are not of the shapes of a trial's samples")
    return samples


def pack_images(images: TestImages) -> bytes:
    """Return the content of a safetensors file."""
    places = sorted(images.pixels)
    arrays: dict[str, NDArray[Any]] = {
        "places": np.array(places, np.int64),
        "pixels": np.stack([images.pixels[place] for place in places]),
        "labelled": np.array(sorted(images.labels), np.int64),
        "labels": np.array([images.labels[place] for place in sorted(images.labels)], np.int64),
    }
    return _pack(arrays, {"choice": _facts(images.choice)})


def unpack_images(content: bytes) -> TestImages:
    """Read what `pack_images` wrote.

    Raises:
        DamagedFileError: it is not that.
    """
    arrays, facts = _unpack(content)
    try:
        choice = _choice(facts["choice"])
        if arrays["pixels"].ndim != 4 or arrays["pixels"].dtype != np.uint8:
            raise ValueError("pixels")
        pixels = dict(zip(map(int, arrays["places"]), arrays["pixels"], strict=True))
        labels = dict(zip(map(int, arrays["labelled"]), map(int, arrays["labels"]), strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"it holds no test images: {error}") from error
    if not set(choice.images) <= pixels.keys():
        raise DamagedFileError("it lacks some of the images that every trial shows")
    return TestImages(choice=choice, pixels=pixels, labels=labels)


def _facts(choice: Choice) -> dict[str, Any]:
    return {name: list(getattr(choice, name)) for name in ("images", "reasons", "pair", "latents")}


def _choice(facts: Mapping[str, Any]) -> Choice:
    """Return a choice of images.

    Raises:
        ValueError: it is none: a reason for each image, and a pair of them.
    """
    first, second = map(int, facts["pair"])
    choice = Choice(
        images=tuple(map(int, facts["images"])), reasons=tuple(map(str, facts["reasons"])), pair=(first, second),
        latents=tuple(map(int, facts["latents"])),
    )  # fmt: skip
    if len(choice.images) != len(choice.reasons) or not {first, second} <= set(choice.images):
        raise ValueError("a choice has a reason for each image, and a pair of them")
    return choice


def _pack(arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> bytes:
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata={"facts": json.dumps(facts, sort_keys=True)})


def _unpack(content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    try:
        arrays = safetensors.numpy.load(content)
        # safetensors reads metadata from a file alone: its header is a length and so much JSON.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header["__metadata__"]["facts"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"it is no safetensors file of aezoo's: {error}") from error
    if not isinstance(facts, dict):
        raise DamagedFileError("it is no safetensors file of aezoo's")
    return arrays, facts
