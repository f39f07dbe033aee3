"""A run as tidy tables and arrays: curves, errors of single images, reconstructions. It needs no torch."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aezoo.errors import AezooError, StorageError
from aezoo.run.records import TrialRecord
from aezoo.run.samples import Choice, Samples, TestImages
from aezoo.run.store import RunDirectory
from aezoo.table.rows import records_by_variant


def curves(run: RunDirectory) -> pd.DataFrame:
    """Return the learning curves: a row for each variant, seed and point.

    `train_mse` is the mean since the point before; `seconds` are the step's share of the trial's time in training.
    """
    run = run.load()
    batch_size = run.info().recipe.batch_size
    points = [
        {
            "variant": variant, "seed": record.seed, "step": step, "images": step * batch_size,
            "seconds": None if record.train_seconds is None else record.train_seconds * step / record.curve[-1][0],
            "train_mse": mse,
        }
        for variant, records in records_by_variant(run).items()
        for record in records
        for step, mse in record.curve
    ]  # fmt: skip
    return pd.DataFrame(points, columns=["variant", "seed", "step", "images", "seconds", "train_mse"])


def errors(run: RunDirectory) -> pd.DataFrame:
    """Return the test error of each image: a row for each variant, seed and image, by its place in the test set."""
    run = run.load()
    parts = []
    for variant, records in records_by_variant(run).items():
        for record in records:
            if record.test_errors_sha256 is not None:
                mse = run.read_test_errors(record)
                parts.append(
                    pd.DataFrame({"variant": variant, "seed": record.seed, "image": np.arange(len(mse)), "mse": mse})
                )
    empty = pd.DataFrame({"variant": [], "seed": [], "image": [], "mse": []})
    return pd.concat(parts, ignore_index=True) if parts else empty


def reconstructions(run: RunDirectory, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Return the reconstructions that a run keeps, (N, C, H, W), uint8, of each variant's trial from a seed.

    They are of the images of `kept_images`. A variant whose trial has none is left out; where it kept some that cannot
    be read there is a warning.

    Raises:
        AezooError: the run keeps no test images.
    """
    run = run.load()
    choice = _images(run).choice
    kept = {}
    for variant, records in records_by_variant(run).items():
        own = [record for record in records if record.seed == seed and record.samples_sha256 is not None]
        samples = first_samples(run, own, choice)
        if not isinstance(samples, str):
            kept[variant] = samples[1].reconstructions
        elif own:
            warnings.warn(f"no reconstructions of {variant}: {samples}", stacklevel=3)
    return kept


def first_samples(
    run: RunDirectory, records: Sequence[TrialRecord], choice: Choice
) -> tuple[TrialRecord, Samples] | str:
    """Return the first of some trials that kept samples of the images that were chosen, or why none has any."""
    why = "it has no trained network"
    for record in records:
        if record.status != "ok":
            continue
        if record.samples_sha256 is None:
            why = record.samples_missing or "its trial was run by an aezoo that kept none"
            continue
        try:
            samples = run.read_samples(record)
        except StorageError as error:
            why = str(error)
            continue
        if samples.choice == choice:
            return record, samples
        why = "what it kept is of other test images than the run's"
    return why


def kept_images(run: RunDirectory) -> NDArray[np.uint8]:
    """Return the test images whose reconstructions a run keeps, (N, C, H, W), uint8.

    Raises:
        AezooError: it keeps none.
    """
    images = _images(run)
    return np.stack([images.pixels[place] for place in images.choice.images])


def _images(run: RunDirectory) -> TestImages:
    images = run.read_images()
    if images is None:
        raise AezooError(f"{run.path} keeps no test images that can be read; bench it anew")
    return images
