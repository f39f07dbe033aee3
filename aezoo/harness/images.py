"""Where images come from, a file of this machine or the data set, loaded anew; and which of them are shown."""

import atexit
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol, Self

from torch import Tensor

from aezoo.contract.shared import SharedImages, TensorPixels
from aezoo.errors import AezooError
from aezoo.harness.prepare import prepared
from aezoo.registry.names import Registry
from aezoo.registry.plugin import Origin
from aezoo.run.records import PluginSource
from aezoo.run.samples import Choice, TestImages
from aezoo.train.samples import LATENTS, choose, spaced


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

    `source` is that of the plugin, and `sha256` that of the pixels, that the bench saw; `held_out` is the recipe's
    share for validation.
    """

    name: str
    origin: Origin
    source: PluginSource
    data_dir: Path
    sha256: str
    held_out: float = 0.0

    def load(self) -> tuple[Tensor, Tensor]:
        """Return the train and the test images, uint8, (N, C, H, W), on the host."""
        return self._shared.load()

    def load_validation(self) -> Tensor:
        """Return the validation images, uint8, (V, C, H, W), on the host; (0,) where there are none."""
        return self._shared.load_validation()

    def load_labels(self) -> tuple[Tensor, Tensor] | None:
        """Return the labels of the train and the test images, int64, (N,), or None where there are none."""
        return self._shared.load_labels()

    @property
    def _shared(self) -> SharedImages:
        return _shared(self)


@dataclass(frozen=True, kw_only=True)
class ImagesWork:
    """What works on the images of a call have in common."""

    images: ImageSource

    @property
    def files(self) -> tuple[Path, ...]:
        """What they read of the disk of the machine on which the bench was called."""
        return (self.images.path,) if isinstance(self.images, SharedImages) else ()

    def moved(self, places: Mapping[Path, Path]) -> Self:
        """Return the same work, with its files in other places."""
        if not isinstance(self.images, SharedImages):
            return self
        return replace(self, images=replace(self.images, path=places[self.images.path]))


_as_long_as_the_process = ExitStack()
atexit.register(_as_long_as_the_process.close)


@cache
def _shared(images: DatasetImages) -> SharedImages:
    """Return where the images lie on this machine, for as long as the process lives."""
    variant = Registry([images.origin.load()]).dataset(images.name)
    data = _as_long_as_the_process.enter_context(
        prepared(variant, images.data_dir, images.source, held_out=images.held_out)
    )
    if data.facts.sha256 != images.sha256:
        raise AezooError(f"the images of {images.name} are others here than where the bench was called")
    return data.shared


def choose_images(source: ImageSource) -> Choice:
    """Choose the test images that every trial of a run shows, by the rule of `aezoo.train.samples.choose`."""
    train_NCHW, test_NCHW = map(TensorPixels, source.load())
    labels = source.load_labels()
    chosen, pair = choose(train_NCHW, test_NCHW, labels[1].numpy() if labels else None)
    return Choice(
        images=tuple(place for place, _ in chosen), reasons=tuple(reason for _, reason in chosen), pair=pair,
        latents=tuple(spaced(LATENTS, len(test_NCHW))),
    )  # fmt: skip


def shown_images(source: ImageSource, choice: Choice, places: Iterable[int]) -> TestImages:
    """Return test images by their places, to be kept in a run, with the labels of all that the run shows."""
    _, test_NCHW = source.load()
    labels = source.load_labels()
    pixels = {place: test_NCHW[place].numpy().copy() for place in places}
    labelled = sorted({*pixels, *choice.images, *choice.latents}) if labels else []
    return TestImages(
        choice=choice, pixels=pixels, labels={place: int(labels[1][place]) for place in labelled} if labels else {}
    )
