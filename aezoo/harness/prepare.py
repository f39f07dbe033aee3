"""The data of a call: loaded, checked and hashed once, and written where every process maps it; kept where they may be.

What a data set's signature tells from others is prepared once and kept in the cache, and held against the hash of its
pixels before it is used.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from aezoo.contract import arrays, encoded, levels, preprocessing, split
from aezoo.contract.architecture import ImageShape
from aezoo.contract.dataset import Dataset, DatasetVariant
from aezoo.contract.hyperparameters import canonical
from aezoo.contract.images import Images, Part, check_images, read, sha256, share, warnings_of, write
from aezoo.contract.objects import images_of
from aezoo.contract.pixels import Shape, no_room, scratch_file
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.shared import SharedImages
from aezoo.errors import AezooError, StorageError
from aezoo.machine import FrozenModel, cache_folder
from aezoo.registry.names import Registry
from aezoo.run.files import read as read_json
from aezoo.run.files import write_json
from aezoo.run.records import SCHEMA, PluginSource, SchemaVersion, Sha256

Tell = Callable[[Sequence[str]], None]
PYTHON = "python"
"""The data set of images that were given from Python: by the hash of what was given, out of the cache."""


class Kept(FrozenModel):
    """What is known of images that lie in the cache, beside their pixels."""

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    sha256: Sha256
    file: str
    train_shape: Shape
    test_shape: Shape
    validation_shape: Shape
    labelled: bool
    notes: list[str]
    warnings: list[str]
    names: dict[Part, list[str]]
    label_names: list[str]
    preprocessing: Preprocessing

    def shared(self, folder: Path) -> SharedImages:
        """Return where the images lie."""
        return SharedImages(
            path=folder / self.file, train_shape=self.train_shape, test_shape=self.test_shape,
            validation_shape=self.validation_shape, labelled=self.labelled, sha256=self.sha256,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a call: where its images lie, what is known of them, and whether they stay there."""

    shared: SharedImages
    facts: Kept
    kept: bool

    @property
    def image_shape(self) -> ImageShape:
        """(channels, height, width)."""
        channels, height, width = self.shared.train_shape[1:]
        return channels, height, width

    def images(self, file: FileIO) -> Images:
        """Return the images, read from their open file when they are asked for, with what is known of them."""
        return replace(
            read(self.shared, file), notes=self.facts.notes, names=self.facts.names,
            label_names=self.facts.label_names, preprocessing=self.facts.preprocessing,
        )  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """How many images there are, what was done to them, and how they are held, a line each."""
        shape = "x".join(map(str, self.image_shape))
        count = f"{self.shared.train_shape[0]:,} images of {shape} to train on, {self.shared.test_shape[0]:,} that test"
        size = self.shared.path.stat().st_size
        streamed = f"{size / 1e9:.2g} GB of images are streamed from {self.shared.path.parent}, not held in memory"
        return [count, *self.facts.notes, *([streamed] if self.shared.streamed else [])]


@contextmanager
def prepared(
    variant: DatasetVariant, data_dir: Path, source: PluginSource, *, held_out: float = 0.0, tell: Tell = lambda _: None
) -> Iterator[Data]:
    """Yield the data of a data set, written where other processes can map it, for as long as the context lasts.

    Args:
        variant: The data set.
        data_dir: Where data sets are kept.
        source: The plugin that contributes it: another code may give other images.
        held_out: The share of the training images that is held out for validation.
        tell: Hears, a line each, what else should be known.

    Raises:
        AezooError: the data are missing, wrong, or have no room.
    """
    with ExitStack() as stack:
        facts, path = _kept(variant, data_dir, source, tell)
        folder = cache()
        if facts is None:
            images = variant.checked(data_dir)
            if path is not None:
                try:
                    facts = keep(images, variant.label, path)
                except (StorageError, OSError) as error:
                    tell([f"the prepared images of {variant.label} are not kept for the next time: {error}"])
            if facts is None:
                file = stack.enter_context(scratch_file())
                folder, path = Path(file.name).parent, None
                facts = _write(images, variant.label, file)
            # The caller may let go of its copy, and then nobody holds a second one.
            del images
        shared = facts.shared(folder)
        if held_out:
            held = read(shared, stack.enter_context(shared.path.open("rb", buffering=0))).hold_out(held_out)
            if held.validation is not None and facts.validation_shape == (0,):
                shared = stack.enter_context(share(held, None if path is None else folder))
        yield Data(shared=shared, facts=facts, kept=path is not None)


def cache() -> Path:
    """Return the folder of prepared images."""
    return cache_folder() / "images"


def _kept(variant: DatasetVariant, data_dir: Path, source: PluginSource, tell: Tell) -> tuple[Kept | None, Path | None]:
    """Return what the cache has of a data set, and where that is to be kept; None where it has none, or may not."""
    signature = variant.signature(data_dir)
    if signature is None:
        return None, None
    path = _path(variant, signature, source)
    return _read(path, variant.label, tell), path


def _path(variant: DatasetVariant, signature: str, source: PluginSource) -> Path:
    """Return where a data set is kept: by what its images come from, and by whatever makes pixels of them."""
    rooms = (preprocessing, encoded, levels, arrays, split)
    rules = [hashlib.sha256(Path(str(room.__file__)).read_bytes()).hexdigest() for room in rooms]
    key = json.dumps([variant.identity, signature, source.source_sha256, version("pillow"), rules])
    return cache() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _read(path: Path, label: str, tell: Tell) -> Kept | None:
    """Return what is kept at a place of the cache, held against the hash of its pixels; None where nothing good is."""
    try:
        facts = read_json(path, Kept)
        shared = facts.shared(path.parent)
        with shared.path.open("rb", buffering=0) as file:
            if sha256(read(shared, file)) == facts.sha256:
                return facts
        reason = f"{shared.path} is damaged: its pixels are others"
    except FileNotFoundError:
        return None
    except (StorageError, OSError, ValueError) as error:
        reason = str(error)
    tell([f"the prepared images of {label} are prepared anew: {reason}"])
    return None


def as_path(path: Path) -> str:
    """Return a path as the text of a data set, which is no name then."""
    return str(path) if "/" in str(path) else f"./{path}"


def dataset_text(given: Any, registry: Registry, data_dir: Path) -> str:
    """Return the text of a data set that is given from Python: a text, a path, a `Dataset`, or images.

    Images are kept in the cache, those of a `Dataset` that no plugin contributes among them.

    Raises:
        AezooError: it is nothing of that kind, or the images have no room.
    """
    if isinstance(given, str):
        return given
    if isinstance(given, Path):
        return as_path(given)
    if isinstance(given, Dataset):
        if any(given is contributed for contributed, _ in registry.contributed("aezoo_datasets")):
            return given.name
        given = DatasetVariant.of(given, {}, given.name).checked(data_dir)
    return keep_array(images_of(given), registry)


def keep_array(images: Images, registry: Registry) -> str:
    """Keep images that were given from Python, and return the text of the data set by which they are had again.

    It names them by the hash of all that was given: other labels, or another scaling of rows, are another data set.

    Raises:
        AezooError: they are not well-formed, or there is no room for them.
    """
    check_images(images, PYTHON)
    labels = [b"" if part is None else part.tobytes() for part in (images.train_labels, images.test_labels)]
    rules = images.preprocessing.model_dump_json() if images.preprocessing else ""
    known = json.dumps([sha256(images), rules, list(images.label_names), dict(images.names)], default=list)
    key = hashlib.sha256(b"\0".join([known.encode(), *labels])).hexdigest()[:32]
    variant = registry.dataset(canonical(PYTHON, {"key": Path(key)}))
    facts, path = _kept(variant, Path(), registry.dataset_plugin(variant.text).source, lambda _: None)
    if path is None:
        raise AezooError(f"images from Python are had again by the data set {PYTHON}, which keeps none")
    if facts is None:
        keep(images, PYTHON, path)
    return variant.text


def keep(images: Images, label: str, path: Path) -> Kept:
    """Keep images in the cache, whole or not at all.

    Raises:
        StorageError: there is no room for them.
        OSError: likewise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_file(path.parent) as file:
        facts = _write(images, label, file)
        # By its content: another process, which prepares the same at once, or what has changed since, overwrites
        # nothing but the same bytes.
        digest = hashlib.sha256(facts.sha256.encode())
        for part in (images.train_labels, images.test_labels):
            digest.update(b"" if part is None else part.astype(np.int64).tobytes())
        facts = facts.model_copy(update={"file": f"{digest.hexdigest()[:32]}.images"})
        target = path.parent / facts.file
        known = target.exists()
        Path(file.name).rename(target)
    try:
        write_json(path, facts)
    except StorageError:
        if not known:
            target.unlink(missing_ok=True)
        raise
    return facts


def _write(images: Images, label: str, file: FileIO) -> Kept:
    """Write images to a file, and return what is known of them."""
    try:
        shared = write(images, file)
    except OSError as error:
        raise no_room(Path(file.name).parent, error) from error
    return Kept(
        sha256=shared.sha256, file=Path(file.name).name, train_shape=shared.train_shape, test_shape=shared.test_shape,
        validation_shape=shared.validation_shape, labelled=shared.labelled, notes=list(images.notes),
        warnings=warnings_of(read(shared, file), label),
        names={part: list(names) for part, names in images.names.items()}, label_names=list(images.label_names),
        preprocessing=images.preprocessing or Preprocessing(image_shape=images.shape),
    )  # fmt: skip
