"""Where a trial's process has the images from: a file of this machine, or the data set, loaded anew."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from aezoo.contract.dataset import Images, sha256
from aezoo.errors import AezooError
from aezoo.registry.names import Registry
from aezoo.registry.plugin import Origin


class ImageSource(Protocol):
    """Where a process has the images from: `SharedImages`, a file of this machine, or `DatasetImages`."""

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        ...

    def load_validation(self) -> Tensor:
        """Return the validation images, uint8, (V, C, H, W), on the host."""
        ...

    def load_labels(self) -> tuple[Tensor, Tensor] | None:
        """Return the labels of the train and the test images, int64, (N,), or None where there are none."""
        ...


@dataclass(frozen=True, kw_only=True)
class DatasetImages:
    """The images of a data set, loaded anew where they are needed: for a process that sees no file of this machine.

    `sha256` is that of the pixels that the bench saw; `held_out` is the recipe's share for validation.
    """

    name: str
    origin: Origin
    data_dir: Path
    sha256: str
    held_out: float = 0.0

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        images = self._images()
        return torch.from_numpy(images.train), torch.from_numpy(images.test)

    def load_validation(self) -> Tensor:
        """Return the validation images, uint8, (V, C, H, W), on the host; (0,) where there are none."""
        images = self._images()
        return torch.empty(0, dtype=torch.uint8) if images.validation is None else torch.from_numpy(images.validation)

    def load_labels(self) -> tuple[Tensor, Tensor] | None:
        """Return the labels of the train and the test images, int64, (N,), or None where there are none."""
        images = self._images()
        if images.train_labels is None or images.test_labels is None:
            return None
        return torch.from_numpy(images.train_labels).long(), torch.from_numpy(images.test_labels).long()

    def _images(self) -> Images:
        images = Registry([self.origin.load()]).dataset(self.name).checked(self.data_dir)
        if sha256(images) != self.sha256:
            raise AezooError(f"the images of {self.name} are others here than where the bench was called")
        return images.hold_out(self.held_out)
