"""Arrays of images, with or without names, as the images of a data set: what people have in memory, or in a file."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.architecture import checked_shape
from aezoo.contract.images import Images, Part, part_of
from aezoo.contract.levels import AxisOrder, Range, as_numbers, as_pixels, not_finite, range_of, with_channels
from aezoo.contract.pixels import FilePixels, GatheredPixels, Pixels, Subset, array_chunks, is_large
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.split import choose_test, pixel_hash
from aezoo.errors import AezooError, counted, reason_of

Array = NDArray[Any]
Labels = NDArray[np.int64]
TEST = 0.2
"""The share of the images that test, where a data set does not say which."""
_LABELS = {"y", "label", "labels", "target", "targets", "class", "classes"}
_IMAGES = {"x", "image", "images", "img", "imgs", "data", "pixels", "arr"}
Role = Literal["pixels", "labels"]


@dataclass(frozen=True, kw_only=True)
class Arranged:
    """How arrays become the images of a data set.

    Args:
        test: The share of the images that test, where no array is called so.
        seed: Chooses them, beside their pixels.
        values: What floats mean; None to tell it by their range.
        layout: Where the channels are; None to tell it by the shape.
        image_shape: (channels, height, width) of what is written in a row each; None for rows of numbers.

    Raises:
        AezooError: there is no such share.
    """

    test: float = TEST
    seed: int = 0
    values: Range | None = None
    layout: AxisOrder | None = None
    image_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.test < 1:
            raise AezooError(f"test is the share of the images that test, above 0 and below 1, but is {self.test}")
        for name, kind in (("values", Range), ("layout", AxisOrder)):
            given, accepted = getattr(self, name), get_args(kind)
            if given is not None and given not in accepted:
                raise AezooError(
                    f"{name} is {', '.join(accepted)} or none, to be told by the numbers, but is {given!r}"
                )
        if self.image_shape is not None:
            checked_shape(self.image_shape)

    def images(self, arrays: Mapping[str, Any], notes: Iterable[str] = ()) -> Images:
        """Return the images of arrays that are named as people do: ``x_train``, ``y_test``, ``images``, ``labels``.

        One array of images, by whatever name, is split; two are the parts that their names say. `notes` say what was
        done to them so far.

        Raises:
            AezooError: it is unclear which array is what, or what its numbers mean, or they do not fit one another.
        """
        roles = roles_of(arrays)
        parts: dict[Part, Array] = {}
        labels: dict[Part, Any] = {}
        notes = [*notes]
        for (part, role), name in roles.items():
            (parts if role == "pixels" else labels)[part or "train"] = as_array(arrays[name], name)
        left = sorted(set(arrays) - set(roles.values()))
        if left:
            notes.append(f"left out: {', '.join(left)}")
        if "test" not in parts and "validation" in parts:
            raise AezooError("there are validation images and no test images: call those that test x_test")
        if "train" not in parts:
            raise AezooError("there are test images and none to train on: call those x_train")
        labels.pop("validation", None)
        if any(len(labels[part]) != len(parts[part]) for part in labels if part in parts):
            counts = ", ".join(f"{len(parts[part])} and {len(labels[part])}" for part in labels if part in parts)
            raise AezooError(f"there must be a label for each image, but there are {counts}")
        if labels and "test" in parts and set(labels) != {"train", "test"}:
            notes.append("labels for one part alone were left out")
            labels = {}
        numbers, names = as_labels(labels)
        return self.arrange(parts, numbers, names, notes)

    def arrange(
        self, parts: Mapping[Part, Array], labels: Mapping[Part, Labels], label_names: Sequence[str], notes: list[str]
    ) -> Images:
        """Return images from the arrays of each part; where there are none that test, some of the others do.

        Raises:
            AezooError: it is unclear what an array's numbers mean, or the parts do not fit one another.
        """
        if self.image_shape is not None:
            parts = {part: _as_shaped(array, self.image_shape) for part, array in parts.items()}
        if any(len(array.shape) == 2 and array.dtype != np.uint8 for array in parts.values()):
            return self._rows(parts, labels, label_names, notes)
        pixels = self._pixels(parts, notes)
        if "test" in pixels:
            return Images(
                train=pixels["train"], test=pixels["test"], validation=pixels.get("validation"),
                train_labels=labels.get("train"), test_labels=labels.get("test"),
                notes=tuple(notes), label_names=label_names,
            )  # fmt: skip
        whole = pixels["train"]
        hashes = [pixel_hash(image) for chunk in array_chunks(whole) for image in chunk]
        images = self.split(whole, hashes, labels.get("train"), notes)
        return replace(images, label_names=label_names)

    def split(
        self, pixels: Pixels, hashes: Sequence[bytes], labels: Labels | None, notes: Iterable[str] = ()
    ) -> Images:
        """Return images of which a share tests, chosen by their pixels and the seed, of each label alike.

        Args:
            pixels: All of them, (N, C, H, W); an array, or what can be indexed by one.
            hashes: What tells each from the others.
            labels: (N,), or None.
            notes: What was done to them so far.

        Raises:
            AezooError: they are too few.
        """
        tests = choose_test(hashes, labels, self.test, self.seed)
        # Labels of which hardly any is there twice say which image it is, and leave none to test.
        guided = labels is not None and bool(tests.any())
        tests = tests if guided else choose_test(hashes, None, self.test, self.seed)
        if not tests.any():
            different = len(set(hashes))
            raise AezooError(
                f"{counted(len(pixels), 'image')}, {different} of them different, cannot be split: a share of "
                f"{self.test:g} leaves none to test, as equal ones stay together; give more, or say test=0.5"
            )
        chosen = np.flatnonzero(~tests), np.flatnonzero(tests)
        shape = "x".join(map(str, pixels.shape[1:]))
        of_each = ", of each label alike" if guided else "" if labels is None else ", whatever their labels"
        note = (
            f"{counted(int(tests.sum()), 'image', len(tests))} ({shape}) test{of_each}: no split is given, so that "
            f"their pixels and the seed {self.seed} choose; equal images stay together"
        )
        train, test = (
            pixels[indices] if isinstance(pixels, np.ndarray) and not is_large(pixels.nbytes)
            else Subset(pixels, indices) for indices in chosen
        )  # fmt: skip
        return Images(
            train=train, test=test, notes=(*notes, note),
            train_labels=None if labels is None else labels[chosen[0]],
            test_labels=None if labels is None else labels[chosen[1]],
            names={"train": [str(place) for place in chosen[0]], "test": [str(place) for place in chosen[1]]},
        )  # fmt: skip

    def _pixels(self, parts: Mapping[Part, Any], notes: list[str]) -> dict[Part, Pixels]:
        """Return the arrays of all parts as (N, C, H, W), uint8; what they mean is told by the training part."""
        done: dict[Part, Pixels] = {}
        values = self.values
        if values is None and all(map(_is_float, parts.values())):
            # One rule for all of them: a part of dark images alone would be told for another range.
            ends = [
                end for array in parts.values() for chunk in array_chunks(array) for end in (chunk.min(), chunk.max())
            ]
            if not np.isfinite(ends).all():
                bad = sum(
                    int(np.count_nonzero(~np.isfinite(c))) for array in parts.values() for c in array_chunks(array)
                )
                raise AezooError(not_finite(bad, sum(math.prod(array.shape) for array in parts.values())))
            values = range_of(np.asarray(ends, np.float64))
        # Likewise of whole numbers: a dark part of 16 bits has no number above 255.
        whole = [array for array in parts.values() if array.shape and _is_whole(array)]
        greatest = max((int(chunk.max()) for array in whole for chunk in array_chunks(array)), default=None)
        for part, array in parts.items():
            done[part], lines = _converted(array, values if _is_float(array) else None, greatest, self.layout)
            notes += [line for line in lines if line not in notes]
        shapes = {tuple(array.shape[1:]) for array in done.values()}
        if len(shapes) > 1:
            raise AezooError(f"the images of all parts must be of one shape, but are {', '.join(map(str, shapes))}")
        return done

    def _rows(
        self, parts: Mapping[Part, Array], labels: Mapping[Part, Labels], label_names: Sequence[str], notes: list[str]
    ) -> Images:
        """Return rows of numbers as images of 1x1xD, scaled by the training part's range alone, a column each."""
        columns = {array.shape[1:] for array in parts.values()}
        if len(columns) > 1 or any(len(array.shape) != 2 for array in parts.values()):
            raise AezooError(f"all rows must have as many columns, but there are {', '.join(map(str, columns))}")
        numbers = {part: as_numbers(array[0:]) for part, array in parts.items()}
        whole = numbers["train"]
        if "test" in numbers:
            train, test = whole, numbers["test"]
            images = Images(train=_as_images(train), test=_as_images(test))
        else:
            images = self.split(_as_images(whole), [row.tobytes() for row in whole], labels.get("train"))
            train, test = (np.asarray(part)[:, 0, 0] for part in (images.train, images.test))
            labels = {"train": images.train_labels, "test": images.test_labels} if labels else {}  # type: ignore[dict-item]
        low, high = train.min(axis=0), train.max(axis=0)
        preprocessing = Preprocessing(image_shape=(1, 1, train.shape[1]), low=low.tolist(), high=high.tolist())
        outside = int(np.count_nonzero((test < low) | (test > high)))
        constant = int(np.count_nonzero(low == high))
        notes.append(
            f"{counted(train.shape[1], 'column')} scaled to 0 to 255, 8 bits, each by its range in the training rows"
            + (f"; {counted(outside, 'number', test.size)} of the test rows clipped to it" if outside else "")
            + (f"; {counted(constant, 'column')} the same in all training rows" if constant else "")
        )
        return replace(
            images, train=preprocessing.of_rows(train), test=preprocessing.of_rows(test),
            validation=preprocessing.of_rows(numbers["validation"]) if "validation" in numbers else None,
            train_labels=labels.get("train"), test_labels=labels.get("test"), label_names=label_names,
            notes=(*notes, *images.notes), preprocessing=preprocessing,
        )  # fmt: skip


def _as_images(rows: Array) -> Array:
    return rows[:, None, None, :]


def _is_whole(array: Pixels) -> bool:
    return bool(np.issubdtype(array.dtype, np.integer)) and array.dtype != np.uint8


def _is_float(array: Pixels) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating))


def _converted(
    array: Any, values: Range | None, greatest: int | None, layout: AxisOrder | None
) -> tuple[Pixels, list[str]]:
    """Return images as uint8, (N, C, H, W), and what was done to them; large ones go to a file, a part at a time."""

    def convert(some: Array) -> tuple[NDArray[np.uint8], list[str]]:
        pixels, note = as_pixels(some, values, greatest=greatest)
        placed, moved = with_channels(pixels, layout)
        return placed, [line for line in (note, moved) if line]

    if isinstance(array, np.ndarray) and not is_large(array.nbytes):
        return convert(array)
    gathered, notes = None, []
    for chunk in array_chunks(array):
        images, lines = convert(chunk)
        gathered = gathered or GatheredPixels(images.shape[1:])
        gathered.extend(images)
        notes += [line for line in lines if line not in notes]
    if gathered is None:
        raise AezooError(f"there are no images: {array.shape}")
    return gathered, notes


def _as_shaped(array: Array, image_shape: tuple[int, int, int]) -> Array:
    if len(array.shape) < 2 or math.prod(array.shape[1:]) != math.prod(image_shape):
        wanted = "x".join(map(str, image_shape))
        raise AezooError(f"images of {wanted} are asked for, but there is an array of {array.shape}")
    if not isinstance(array, np.ndarray):
        raise AezooError("image_shape is for arrays that are held in memory")
    return array.reshape(-1, *image_shape)


def roles_of(arrays: Mapping[str, Any]) -> dict[tuple[Part | None, Role], str]:
    """Return which array holds the images, and which the labels, of each part; None stands for all of them.

    Raises:
        AezooError: it is unclear.
    """
    roles: dict[tuple[Part | None, Role], list[str]] = {}
    for name in arrays:
        words = _words(name)
        part = next((found for found in map(part_of, sorted(words)) if found), None)
        role: Role = "labels" if words & _LABELS else "pixels"
        roles.setdefault((part, role), []).append(name)
    known: dict[tuple[Part | None, Role], str] = {}
    named = {part for part, _ in roles if part is not None}
    for (part, role), names in roles.items():
        if named and part is None:
            continue
        chosen = names if len(names) == 1 else [name for name in names if _words(name) & (_IMAGES | {"y", "labels"})]
        if len(chosen) != 1:
            raise AezooError(
                f"it is unclear which array holds the {'images' if role == 'pixels' else role}: {', '.join(names)}; "
                "call it images or labels, or x_train, y_train, x_test and y_test"
            )
        known[part, role] = chosen[0]
    if not any(role == "pixels" for _, role in known):
        raise AezooError(
            f"no array of images among {', '.join(arrays) or 'none'}: call it images, or x_train and x_test"
        )
    return known


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def as_array(value: Any, name: str = "array") -> Array:
    """Return an array of whatever is one: numpy's, torch's, a list of numbers.

    Raises:
        AezooError: it is none, or holds objects.
    """
    if isinstance(value, FilePixels):
        return cast("Array", value)
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            # numpy has no bfloat16.
            value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
        array = np.asarray(value)
    except Exception as error:
        raise AezooError(f"{name} is no array: {reason_of(error)}") from error
    if array.dtype == object:
        raise AezooError(f"{name} holds Python objects, or images of several shapes: give an array of numbers")
    return array


def as_labels(labels: Mapping[Part, Array]) -> tuple[dict[Part, Labels], tuple[str, ...]]:
    """Return labels as whole numbers, and what each is called where they came as text.

    Raises:
        AezooError: they are no labels: neither whole numbers nor texts, nor one-hot.
    """
    flat = {part: _one_each(array) for part, array in labels.items()}
    if not any(array.dtype.kind in "US" for array in flat.values()):
        return {part: array.astype(np.int64) for part, array in flat.items()}, ()
    texts = {part: array.astype(str) for part, array in flat.items()}
    names = sorted({name for array in texts.values() for name in array.tolist()})
    return {part: np.searchsorted(names, array).astype(np.int64) for part, array in texts.items()}, tuple(names)


def _one_each(array: Array) -> Array:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and ((array == 0) | (array == 1)).all() and (array.sum(axis=1) == 1).all():
        array = array.argmax(axis=1)
    whole = array.dtype.kind in "iubUS" or (array.dtype.kind == "f" and bool((array == np.floor(array)).all()))
    if array.ndim != 1 or not whole:
        raise AezooError(f"labels are whole numbers or texts, one for each image, but are {array.dtype} {array.shape}")
    return array
