"""The page of a run, when its bench ends and whenever it is asked for: with the test images that it shows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aezoo.contract.dataset import find_data_dir
from aezoo.errors import AezooError
from aezoo.page import compared, page
from aezoo.run.records import RunInfo
from aezoo.run.samples import TestImages
from aezoo.run.store import RunDirectory

if TYPE_CHECKING:
    from aezoo.harness.images import ImageSource
    from aezoo.registry.names import Registry


def keep_images(run: RunDirectory, places: set[int], source: Callable[[], "ImageSource"]) -> None:
    """Keep test images in a run, beside those that were chosen when it began.

    `source`, which is asked only where some are missing, says where they are.

    Raises:
        AezooError: they cannot be read, or not written.
    """
    kept = run.read_images()
    missing = places - kept.pixels.keys() if kept else set()
    if kept is None or not missing:
        return
    # What needs torch is imported where images are missing.
    from aezoo.harness.images import shown_images

    more = shown_images(source(), kept.choice, sorted(missing))
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
    run = RunDirectory(runs[0]).require()
    reasons = []

    def keep(places: set[int]) -> None:
        if registry is None:
            return
        try:
            keep_images(run, places, lambda: _of_dataset(run.info(), registry(), data_dir))
        except AezooError as error:
            reasons.append(f"some images are not on the page: {error}")

    return page.write(run, Path(out) if out else None, keep), next(iter(reasons), None)


def _of_dataset(info: RunInfo, registry: "Registry", data_dir: Path | None) -> "ImageSource":
    from aezoo.harness.images import DatasetImages

    name = info.dataset.name
    plugin = registry.dataset_plugin(name)
    return DatasetImages(
        name=name, origin=plugin.origin, source=plugin.source, data_dir=find_data_dir(data_dir),
        sha256=info.dataset.sha256,
    )  # fmt: skip
