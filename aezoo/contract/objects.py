"""Objects of Python as the images of a data set: arrays, data sets of torch, and what other libraries hand out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aezoo.contract.arrays import Arranged, Array, as_array, as_labels, roles_of
from aezoo.contract.images import Images
from aezoo.errors import AezooError, reason_of


def images_of(given: Any) -> Images:
    """Return what is given from Python as the images of a data set.

    Args:
        given: `Images`; an array or a tensor of images; arrays by name, as an npz holds them; a data set of torch,
            each item an image, with a label or without; or two of these, those to train on and those that test.

    Raises:
        AezooError: it is none of these, or it is unclear what it means.
    """
    try:
        return _images_of(given)
    except AezooError as error:
        setting = next((name for name in _SAID if f"say {name}=" in str(error)), None)
        if setting is None:
            raise
        how = f"dataset=aezoo.Arranged({setting}={_SAID[setting]!r}).images({{'images': x}})"
        how += ", or dataset=(x - x.min()) / (x.max() - x.min())" if setting == "values" else ""
        raise AezooError(f"{error}; in Python {how}") from error


_SAID: dict[str, Any] = {"values": "signed", "layout": "NHWC", "test": 0.5}
"""What an error may ask for, and an example of it."""


def _images_of(given: Any) -> Images:
    if isinstance(given, Images):
        return given
    if isinstance(given, Mapping):
        return Arranged().images(given)
    if (named := _four(given)) is not None:
        return Arranged().images(named)
    if isinstance(given, tuple) and len(given) == 2:
        if getattr(given[1], "ndim", None) == 1:
            raise AezooError(
                "of two data sets the second one tests, but this one has one number for each image; give labels by "
                "name: {'images': x, 'labels': y}"
            )
        parts = {part: _gathered(each) for part, each in zip(("train", "test"), given, strict=True)}
        named = {f"{role}_{part}": array for part, (arrays, _) in parts.items() for role, array in arrays.items()}
        return Arranged().images(named, dict.fromkeys(note for _, notes in parts.values() for note in notes))
    return Arranged().images(*_gathered(given))


def _four(given: Any) -> dict[str, Any] | None:
    """Return images and labels by name where they are given as keras and scikit-learn do; None where they are not.

    ``((x_train, y_train), (x_test, y_test))``, or flat, in that order or as ``(x_train, x_test, y_train, y_test)``.
    """
    if isinstance(given, tuple | list) and len(given) == 2 and all(isinstance(each, tuple) for each in given):
        given = [each for pair in given for each in pair]
    if not isinstance(given, tuple | list) or len(given) != 4 or not all(hasattr(each, "ndim") for each in given):
        return None
    are_rows = max(each.ndim for each in given) == 2
    labels = [each for each in given if each.ndim == 1 or (each.ndim == 2 and (each.shape[1] == 1 or not are_rows))]
    images = [each for each in given if not any(each is label for label in labels)]
    if len(images) != 2 or len(labels) != 2:
        return None
    return dict(zip(("x_train", "x_test", "y_train", "y_test"), (*images, *labels), strict=True))


def _gathered(given: Any) -> tuple[dict[str, Array], list[str]]:
    """Return the images, the labels where there are some, of an array or of a data set of torch; and what to note."""
    if hasattr(given, "dataset") and hasattr(given, "batch_size"):
        raise AezooError("a DataLoader gives batches of a data set: give the data set itself, loader.dataset")
    if isinstance(given, list) or hasattr(given, "shape") or not hasattr(given, "__getitem__"):
        return {"images": as_array(given, "the data set")}, []
    try:
        items = [given[place] for place in range(len(given))]
    except Exception as error:
        raise AezooError(f"the data set cannot be read item by item: {reason_of(error)}") from error
    if not items:
        raise AezooError("the data set is empty")
    if isinstance(items[0], Mapping):
        keys = roles_of(items[0])
        names = [keys[None, role] for role in ("pixels", "labels") if (None, role) in keys]
        items = [tuple(item[name] for name in names) for item in items]
    pairs = [tuple(item) if isinstance(item, tuple | list) else (item,) for item in items]
    images = [as_array(pair[0], "an image of the data set") for pair in pairs]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise AezooError(
            f"the images of the data set must be of one shape, but are {', '.join(map(str, shapes[:3]))}; resize them, "
            "or give them as a folder of files"
        )
    gathered = {"images": np.stack(images)}
    notes: list[str] = []
    if len(pairs[0]) > 1:
        try:
            labels = np.asarray([as_array(pair[1], "a label") for pair in pairs])
            as_labels({"train": labels})
        except (AezooError, ValueError):
            notes.append(
                "what stands beside each image is no label, a whole number or a text: left out; no network sees it"
            )
        else:
            gathered["labels"] = labels
    return gathered, notes
