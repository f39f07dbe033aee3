"""python: images that were given from Python, and lie in the cache."""

from collections.abc import Iterator
from pathlib import Path

import aezoo


def load_python(data_dir: Path, *, key: Path) -> aezoo.Images:  # noqa: ARG001 - they are in the cache or nowhere
    """Images that were given from Python are had out of the cache alone; here they are not there.

    Raises:
        AezooError: always.
    """
    raise aezoo.AezooError(
        f"the images {str(key)[:12]} were given from Python, and are not in this cache: give them again"
    )


def sign_python(data_dir: Path, *, key: Path) -> str:  # noqa: ARG001 - as load_python is called
    """Return what tells images that were given from Python from others: the hash of all that was given."""
    return str(key)


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `python`."""
    yield aezoo.Dataset(
        name="python", load=load_python, signature=sign_python, reference="yours",
        summary="Images that were given from Python, by the hash of what was given, out of the cache",
    )  # fmt: skip
