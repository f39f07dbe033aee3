"""The images of a run, written once and mapped, copy-on-write, into every trial's process: one copy in memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aezoo.dataset import Images

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SharedImages:
    """Where the images lie; it is what travels to a trial's process.

    A trial that writes into its images changes its own copy of a page, and nobody else's.
    """

    path: Path
    train_shape: Shape
    test_shape: Shape

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        sizes = [int(np.prod(shape)) for shape in (self.train_shape, self.test_shape)]
        pixels = torch.from_file(str(self.path), shared=False, size=sum(sizes), dtype=torch.uint8)
        train, test = pixels[: sizes[0]], pixels[sizes[0] :]
        return train.view(self.train_shape), test.view(self.test_shape)


@contextmanager
def share(images: Images) -> Iterator[SharedImages]:
    """Write the images where other processes can map them, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        path = Path(folder) / "images"
        with path.open("wb") as file:
            for pixels in (images.train, images.test):
                file.write(np.ascontiguousarray(pixels).data)
        shared = SharedImages(path=path, train_shape=images.train.shape, test_shape=images.test.shape)
        # The caller may let go of its copy, and then nobody holds a second one.
        del images, pixels
        yield shared
