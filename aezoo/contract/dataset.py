"""The contract of a data set: its images, how it is loaded, its hyperparameters, and the check that all pass."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aezoo import machine
from aezoo.contract.hyperparameters import (
    NAME,
    Hyperparameter,
    canonical,
    changed,
    check_defaults,
    complete,
    declared_by,
)
from aezoo.contract.images import Images, check_images
from aezoo.errors import AezooError, ContractError, reason_of

SKIP = "skip_bad"
"""The hyperparameter by which a data set leaves out what cannot be read."""
FOLDER = "folder"
"""What a data set takes that is read from a folder."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named data set, as a plugin declares it.

    Args:
        name: Letters, digits, ``_``, ``-`` and ``.``.
        load: Takes the data folder, and hyperparameters as keywords, and returns the images. It may download into that
            folder what is not there, and raises `aezoo.AezooError` with one line that names the file where something
            is missing or wrong. A hyperparameter that says where something lies is annotated as a ``pathlib.Path``: it
            stands in the record, and not in the fingerprint, where the hash of the pixels stands for it.
        summary: One line that says what the images are, and what was done to them.
        reference: Author and year, or a URL.
        takes: The endings of files, such as ``.npz``, or `"folder"`: a path of that kind alone, ``./x.npz``, is short
            for this data set with it as the hyperparameter ``path``.
        signature: Takes what `load` takes, and returns a text that is another one when the images would be, without
            reading them: what they come from, sizes and times. Then they are prepared once, and kept in the cache.
            None for what is loaded anew each time.
        bundled: Whether its images come with a package, or are made: the data folder is not used.

    Raises:
        ContractError: a field is of the wrong kind.
    """

    name: str
    load: Callable[..., Images]
    summary: str
    reference: str
    takes: Sequence[str] = ()
    signature: Callable[..., str] | None = None
    bundled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes", tuple(self.takes))
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(f"a data set's name is letters, digits, '_', '-' and '.', but got {self.name!r}")
        if not callable(self.load):
            raise ContractError(f"{self.name}: load must be callable, but is {type(self.load).__name__}")
        check_defaults(self.hyperparameters, self.name)
        if self.takes and "path" not in self.hyperparameters:
            raise ContractError(f"{self.name}: it takes {', '.join(self.takes)}, but load has no hyperparameter path")

    @cached_property
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """The keyword arguments of ``load``, by name, in the order in which it declares them."""
        return declared_by(self.load, self.name, called="load(data_dir, *, ...)", first="the data folder")


@dataclass(frozen=True, kw_only=True)
class DatasetVariant:
    """A data set with all of its hyperparameters, from a known distribution."""

    dataset: Dataset
    hyperparameters: Mapping[str, Any]
    label: str
    """The data set's name, with the distribution before it where it was asked for so."""

    @classmethod
    def of(cls, dataset: Dataset, settings: Mapping[str, Any], label: str) -> "DatasetVariant":
        """Return a data set with these hyperparameters, and the defaults of the rest.

        Raises:
            AezooError: a name is unknown, a value is of the wrong type, or a required one is missing.
        """
        values = complete(dataset.hyperparameters, settings, dataset.name)
        return cls(dataset=dataset, hyperparameters=values, label=label)

    @property
    def text(self) -> str:
        """The canonical text: ``images[path=photos,size=64]``, sorted, with defaults left out."""
        return canonical(self.label, self._changed())

    @property
    def identity(self) -> str:
        """The canonical text without where things lie: what the fingerprint holds beside the hash of the pixels."""
        declared = self.dataset.hyperparameters
        return canonical(
            self.label, {name: value for name, value in self._changed().items() if not declared[name].is_location}
        )

    def skipping(self) -> "DatasetVariant":
        """Return the same with files that cannot be read left out.

        Raises:
            AezooError: it has no such files.
        """
        if SKIP not in self.dataset.hyperparameters:
            raise AezooError(f"data set {self.label} has no files to leave out (--skip-bad): it has no {SKIP}")
        return replace(self, hyperparameters={**self.hyperparameters, SKIP: True})

    def _changed(self) -> dict[str, Any]:
        return changed(self.dataset.hyperparameters, self.hyperparameters)

    def signature(self, data_dir: Path) -> str | None:
        """Return a text that is another one when the images would be, or None where nobody knows without reading them.

        Raises:
            AezooError: something is missing; one line that names it.
        """
        if self.dataset.signature is None:
            return None
        return str(self._call(self.dataset.signature, data_dir, "could not be looked at"))

    def checked(self, data_dir: Path) -> Images:
        """Load the images and check them.

        Raises:
            AezooError: something is missing or wrong; one line that names it.
        """
        images = self._call(self.dataset.load, data_dir, "could not be loaded")
        if not isinstance(images, Images):
            raise AezooError(f"data set {self.label}: load must return aezoo.Images, but returned {images!r:.60}")
        check_images(images, self.label)
        return images

    def _call(self, function: Callable[..., Any], data_dir: Path, failure: str) -> Any:
        try:
            return function(data_dir, **self.hyperparameters)
        except AezooError as error:
            error.args = (f"data set {self.label}: {error}",)
            raise
        except Exception as error:
            raise AezooError(f"data set {self.label} {failure}: {reason_of(error)}") from error


def find_data_dir(path: str | Path | None) -> Path:
    """Return the folder of the data sets.

    Raises:
        AezooError: the folder is not there.
    """
    if path is None:
        return Path(os.environ.get("AEZOO_DATA_DIR") or machine.cache_folder())
    path = Path(path)
    if not path.is_dir():
        raise AezooError(f"no folder {path} for data sets (--data-dir); make it, or give one that is there")
    return path
