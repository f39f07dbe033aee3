"""Which images test, where a data set does not say: by their pixels alone, so that no file's name or place decides."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pixel_hash(image: NDArray[np.uint8]) -> bytes:
    """Return 16 bytes that tell an image's pixels, (C, H, W), from others'."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def choose_test(
    hashes: Sequence[bytes], labels: NDArray[np.integer[Any]] | None, share: float, seed: int
) -> NDArray[np.bool_]:
    """Choose the images that test, (N,): a share of all, of each label where there are labels.

    The order in which they are chosen is that of a hash of their pixels and the seed: the same images are chosen
    wherever they lie, and whatever they are called. Equal images stay together, on one side.

    Args:
        hashes: What `pixel_hash` returns of each image.
        labels: (N,), or None.
        share: Of each label's images, rounded; a label with one image has none.
        seed: Another one, another choice.
    """
    groups = np.zeros(len(hashes), np.int64) if labels is None else np.asarray(labels)
    ranks = [hashlib.blake2b(each, digest_size=16, key=str(seed).encode()).digest() for each in hashes]
    places: dict[bytes, list[int]] = {}
    for place in sorted(range(len(hashes)), key=lambda place: ranks[place]):
        places.setdefault(hashes[place], []).append(place)
    names, counts = np.unique(groups, return_counts=True)
    left = {
        name: min(round(share * count), count - 1) for name, count in zip(names.tolist(), counts.tolist(), strict=True)
    }
    tests = np.zeros(len(hashes), bool)
    for together in places.values():
        wanted = [int(groups[place]) for place in together]
        if all(left[name] >= wanted.count(name) for name in wanted):
            tests[together] = True
            for name in wanted:
                left[name] -= 1
    return tests
