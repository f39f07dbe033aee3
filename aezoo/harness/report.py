"""The page of a run, when its bench ends and whenever it is asked for: with the test images that it shows."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aezoo.contract.dataset import find_data_dir, sha256
from aezoo.errors import AezooError
from aezoo.page import compared, page
from aezoo.page.contents import shown_places
from aezoo.run.records import RunInfo
from aezoo.run.samples import Choice, TestImages
from aezoo.run.store import RunDirectory

if TYPE_CHECKING:
    from aezoo.registry.names import Registry

ReadImages = Callable[[Iterable[int], Choice], TestImages]
"""Reads test images by their places in the test set, for a run that shows a choice of them."""


def keep_images(run: RunDirectory, read: ReadImages) -> None:
    """Keep in a run the test images that its page shows beside those that were chosen when it began.

    Raises:
        AezooError: there is no run; they cannot be read, or not written.
    """
    kept = run.read_images()
    places = shown_places(run) - (kept.pixels.keys() if kept else set())
    if kept is None or not places:
        return
    more = read(sorted(places), kept.choice)
    run.write_images(TestImages(choice=kept.choice, pixels=kept.pixels | more.pixels, labels=kept.labels | more.labels))


def report(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    registry: Callable[[], "Registry"] | None = None,
    data_dir: Path | None = None,
) -> tuple[Path, str | None]:
    """Write the page of a run, or one that compares several, and return where it is, and why it lacks some images.

    Images that a run does not keep are read from its data set, where `registry`, which is asked only then, has it. The
    page of a run stands in its folder, and one that compares several where one is called, unless `out` says where.

    Raises:
        AezooError: there is no run, or the page cannot be written.
    """
    if len(runs) > 1:
        directories = [RunDirectory(run).require() for run in runs]
        return compared.write(directories, Path(out or "compared.html")), None
    directory = RunDirectory(runs[0]).require()
    reason = None
    if registry is not None:
        info = directory.info()
        try:
            keep_images(directory, lambda places, choice: _from_dataset(info, registry(), data_dir, places, choice))
        except AezooError as error:
            reason = f"some images are not on the page: {error}"
    return page.write(directory, Path(out) if out else None), reason


def _from_dataset(
    info: RunInfo, registry: "Registry", data_dir: Path | None, places: Iterable[int], choice: Choice
) -> TestImages:
    images = registry.dataset(info.dataset.name).checked(find_data_dir(data_dir))
    if sha256(images) != info.dataset.sha256:
        raise AezooError(f"the images of {info.dataset.name} are others here than those that the run was made with")
    labels = images.test_labels
    return TestImages(
        choice=choice,
        pixels={place: np.ascontiguousarray(images.test[place]) for place in places},
        labels={} if labels is None else {place: int(labels[place]) for place in places},
    )
