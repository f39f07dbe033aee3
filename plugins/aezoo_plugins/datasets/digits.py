"""digits: the small handwritten digits that scikit-learn carries. No download."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import aezoo

TEST_EVERY = 5


def load(data_dir: Path) -> aezoo.Images:  # noqa: ARG001 - nothing is kept in a folder
    """Load and split: within each digit, every fifth image tests."""
    from sklearn.datasets import load_digits  # slow to import, and every trial's process imports this file

    digits = load_digits()
    # 17 grey levels, 0 to 16, spread over 0 to 255.
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None]
    test = np.zeros(len(images), dtype=bool)
    for label in np.unique(digits.target):
        test[np.flatnonzero(digits.target == label)[::TEST_EVERY]] = True
    labels = digits.target
    return aezoo.Images(train=images[~test], test=images[test], train_labels=labels[~test], test_labels=labels[test])


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `digits`."""
    yield aezoo.Dataset(
        name="digits",
        load=load,
        bundled=True,
        summary="1,797 digits, 1x8x8, every fifth of each class to test, 17 grey levels rescaled to 0-255; no download",
        reference="Alpaydin & Kaynak 1998, UCI; scikit-learn's load_digits",
    )
