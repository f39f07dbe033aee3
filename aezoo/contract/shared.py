"""The images of a data set as tensors that map one file, written once: one copy in memory, for all processes.

What is large is never in memory as a whole: whoever walks through it lets go of what was read.
"""

import itertools
import math
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from aezoo.contract.pixels import Shape, is_large, read_into

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_mappings: "WeakValueDictionary[int, _Mapping]" = WeakValueDictionary()
"""What tensors map, by the address of their first byte."""


class _Mapping(mmap.mmap):
    """A file that a tensor maps: what is written into it is this process's own."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class SharedImages:
    """Where the images lie; it is what travels to a trial's process.

    A trial that writes into its images changes its own copy of a page, and nobody else's. `sha256` is that of the
    pixels, as `write_pixels` returns it.
    """

    path: Path
    train_shape: Shape
    test_shape: Shape
    validation_shape: Shape = (0,)
    labelled: bool = False
    sha256: str = ""

    @property
    def streamed(self) -> bool:
        """Whether they are too large to be held in memory as a whole."""
        return is_large(sum(map(_size, (self.train_shape, self.test_shape, self.validation_shape))))

    def load(self) -> "tuple[Tensor, Tensor]":
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        train, test, *_ = self._parts()
        return train.view(self.train_shape), test.view(self.test_shape)

    def load_validation(self) -> "Tensor":
        """Return the validation images, uint8, (V, C, H, W), on the host; (0,) where there are none."""
        return self._parts()[2].view(self.validation_shape)

    def load_labels(self) -> "tuple[Tensor, Tensor] | None":
        """Return the labels of the train and the test images, int64, (N,), or None where there are none."""
        if not self.labelled:
            return None
        import torch

        # They follow the pixels, at any byte: a copy lies where int64 must.
        labels = self._parts()[3].clone().view(torch.int64)
        return labels[: self.train_shape[0]], labels[self.train_shape[0] :]

    def _sizes(self) -> list[int]:
        sizes = [_size(shape) for shape in (self.train_shape, self.test_shape, self.validation_shape)]
        return [*sizes, 8 * (self.train_shape[0] + self.test_shape[0]) if self.labelled else 0]

    def _parts(self) -> "list[Tensor]":
        sizes = self._sizes()
        ends = [0, *itertools.accumulate(sizes)]
        everything = map_file(self.path, sum(sizes), streamed=self.streamed)
        return [everything[start:end] for start, end in itertools.pairwise(ends)]


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def map_file(path: Path, size: int, *, streamed: bool) -> "Tensor":
    """Return the bytes of a file as a tensor, uint8: what is written into it stays in this process.

    Of one that is `streamed`, `let_go` lets go of what was read.
    """
    import torch

    with path.open("rb") as file:
        mapping = _Mapping(file.fileno(), size, access=mmap.ACCESS_COPY)
    mapping.path = path
    tensor = torch.frombuffer(mapping, dtype=torch.uint8)
    if streamed:
        _mappings[tensor.data_ptr()] = mapping
    return tensor


def _mapping_of(images: "Tensor") -> _Mapping | None:
    return _mappings.get(images.untyped_storage().data_ptr()) if images.device.type == "cpu" else None


def is_streamed(images: "Tensor") -> bool:
    """Say whether images map a file that is too large to be held in memory as a whole."""
    return _mapping_of(images) is not None


def let_go(images: "Tensor") -> None:
    """Let go of what was read of images that are streamed, and of what was written into them; others are left alone."""
    mapping = _mapping_of(images)
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)


def chunks(images: "Tensor", size: int, device: "torch.device | str | None" = None) -> "Iterator[Tensor]":
    """Yield images in parts of `size` that follow each other, as ``torch.split`` does, on a device.

    Of images that are streamed no more than a part is in memory, as long as nobody keeps one.
    """
    for start in range(0, len(images), size):
        part = images[start : start + size]
        yield part if device is None else part.to(device)
        let_go(images)


def some(images: "Tensor", places: "Sequence[int]", into: "Tensor | None" = None) -> "Tensor":
    """Return some images, (M, C, H, W), by their places: a copy, on the device of the others.

    Those that are streamed are read from their file, into a tensor that is given or a new one: through the mapping each
    would bring in, and keep, all that the system caches around it.
    """
    import torch

    mapping = _mapping_of(images)
    if mapping is None:
        return images[list(places)]
    into = torch.empty((len(places), *images.shape[1:]), dtype=images.dtype) if into is None else into
    array: NDArray[np.uint8] = into.numpy()
    whole, size, start = array.reshape(-1).data, math.prod(images.shape[1:]), int(images.storage_offset())
    with mapping.path.open("rb", buffering=0) as file:
        for number, place in enumerate(places):
            read_into(whole[number * size : (number + 1) * size], file, start + place * size)
    return into


def resident(images: "Tensor", device: "torch.device | str") -> "Tensor":
    """Return images on a device; those that are streamed stay where they are, and come to it a part at a time."""
    return images if is_streamed(images) else images.to(device)


class TensorPixels:
    """Images of a tensor on the host as arrays, copies: of those that are streamed nothing stays in memory."""

    dtype = np.dtype(np.uint8)

    def __init__(self, images: "Tensor") -> None:
        self._images = images
        self.shape: Shape = tuple(images.shape)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """Return some of them as an array."""
        if not isinstance(index, slice) and is_streamed(self._images):
            return np.asarray(some(self._images, np.arange(len(self))[index].tolist()).numpy())
        images = np.array(self._images[index].numpy())
        let_go(self._images)
        return images


def own_copy(images: "Tensor") -> "Tensor":
    """Return images that may be written into, and nobody else sees it: a copy, or another mapping of their file."""
    mapping = _mapping_of(images)
    if mapping is None:
        return images.clone()
    again = map_file(mapping.path, len(mapping), streamed=True)
    return again[images.storage_offset() :][: images.numel()].view(images.shape)
