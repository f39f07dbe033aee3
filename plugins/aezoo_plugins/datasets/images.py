"""images: a folder of images of one's own. `aezoo.Preprocessing` holds the rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import aezoo
from aezoo_plugins.decoding import Decoder, list_images, listed, sign_file


def load_images(
    data_dir: Path,  # noqa: ARG001 - the path says where they are
    *,
    path: Path,
    size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    fit: aezoo.Fit = "crop",
    background: aezoo.Background = "white",
    test: float = 0.2,
    seed: int = 0,
    skip_bad: bool = False,
) -> aezoo.Images:
    """Load a folder of images.

    Args:
        data_dir: Unused.
        path: The folder: images in it, or in a folder for each label; or all of that in `train` and in `test`.
        size: Height and width of the images, or one number for both; None for the most common size.
        channels: 1 for grey, 3 for colour; None for grey where all of them are.
        fit: How an image of another size becomes one of this: `aezoo.Preprocessing`.
        background: What lies behind what is transparent.
        test: The share that tests, where no folder says which.
        seed: Chooses them, beside their pixels.
        skip_bad: Whether files that cannot be decoded are left out; else they are an error.

    Raises:
        DamagedDataError: some files cannot be decoded.
        AezooError: there are no images, or they are laid out in no way that is known.
    """
    files, ignored = list_images(path)
    decoder = Decoder(
        size=size, channels=channels, fit=fit, background=background, test=test, seed=seed, skip_bad=skip_bad
    )
    notes = []
    if ignored:
        notes.append(
            f"{len(ignored):,} of {len(files) + len(ignored):,} files left out, whose names end as no image's: "
            + listed([(name, "") for name in ignored])
        )
    return decoder.images(path, files, notes)


def sign_folder(data_dir: Path, *, path: Path, **_: Any) -> str:
    """Return the names, sizes and times of a folder's images: what changes when they do."""
    files, ignored = list_images(path)
    facts = [str(path.absolute()), *ignored]
    for file in files:
        try:
            facts.append(sign_file(data_dir, path=path / file.name))
        except aezoo.AezooError as error:
            facts.append(str(error))  # a link that leads nowhere, which decoding finds to be a bad file
    return "\n".join(facts)


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `images`."""
    yield aezoo.Dataset(
        name="images", load=load_images, takes=["folder"], signature=sign_folder, reference="yours",
        summary="A folder of images, or of a folder for each label, or of train and test",
    )  # fmt: skip
