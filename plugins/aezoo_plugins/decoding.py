"""Encoded images, in a folder or in a table's cells, as the images of a data set: decoded once, told what was done.

`aezoo.Preprocessing` has the rules.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

import aezoo


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An encoded image: where it is, what it is called, and its part and label where they are known."""

    source: Path | bytes
    name: str
    part: aezoo.Part | None = None
    label: str | None = None

    def open(self) -> Path | BytesIO:
        """Return what Pillow opens."""
        return BytesIO(self.source) if isinstance(self.source, bytes) else self.source


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """How encoded images become the images of a data set: the hyperparameters of `images`."""

    size: int | tuple[int, int] | None
    channels: Literal[1, 3] | None
    fit: aezoo.Fit
    background: aezoo.Background
    test: float
    seed: int
    skip_bad: bool

    def images(self, place: Path, files: Sequence[ImageFile], notes: Sequence[str] = ()) -> aezoo.Images:
        """Decode files, each once.

        Raises:
            DamagedDataError: some cannot be decoded, and are not to be left out.
            AezooError: none can, or there are too few.
        """
        arranged = aezoo.Arranged(test=self.test, seed=self.seed)
        heads, bad = _heads(files)
        good = [file for file in files if file.name in heads]
        if not good:
            raise _damaged(place, files, bad)
        sizes = Counter(heads[file.name].size for file in good)
        height, width = _sides(self.size) or max(sizes, key=lambda size: (sizes[size], size))
        grey = all(heads[file.name].grey for file in good)
        rules = aezoo.Preprocessing(
            image_shape=(self.channels or (1 if grey else 3), height, width), fit=self.fit, background=self.background
        )
        pixels = aezoo.GatheredPixels(rules.image_shape)
        hashes: list[bytes] = []
        kept: list[ImageFile] = []
        for file in good:
            try:
                image = rules.of_image(aezoo.open_image(file.open()))
            except aezoo.AezooError as error:
                bad.append((file.name, str(error)))
                continue
            pixels.extend(image[None])
            hashes.append(aezoo.pixel_hash(image))
            kept.append(file)
        if bad and (not self.skip_bad or not kept):
            raise _damaged(place, files, bad)
        told = [*self._notes([heads[file.name] for file in kept], rules), *notes]
        if bad:
            told.append(f"{len(bad):,} of {len(files):,} files left out, which cannot be decoded: {listed(bad)}")
        return self._parts(kept, pixels, hashes, rules, arranged, told)

    def _notes(self, heads: Sequence[aezoo.ImageHead], rules: aezoo.Preprocessing) -> Iterator[str]:
        """Yield what is done to the images, a line each."""
        channels, height, width = rules.image_shape
        total = f"{len(heads):,} images"
        resized = sum(head.size != (height, width) for head in heads)
        how = {"crop": "cut to the middle and resized", "stretch": "stretched", "pad": "resized and padded"}[self.fit]
        chosen = "as given" if self.size else "the most common size"
        yield f"{total} of {height}x{width}, {chosen}" + (f"; {resized:,} of them {how} (Lanczos)" if resized else "")
        grey = sum(head.grey for head in heads)
        if channels == 1:
            other = len(heads) - grey
            yield f"grey, as {'given' if self.channels else 'all are'}" + (
                f"; {other:,} in colour made grey" if other else ""
            )
        else:
            yield f"colour, as {'given' if self.channels else 'not all are grey'}" + (
                f"; {grey:,} grey ones have three equal channels" if grey else ""
            )
        counts = {
            f"laid on {self.background} where transparent": sum(head.transparent for head in heads),
            "turned as their orientation says": sum(head.turned for head in heads),
            "of 16 bits or more made 8": sum(head.mode[:1] in "IF" for head in heads),
            "with a palette": sum(head.mode in ("P", "PA") for head in heads),
            "with several frames, of which the first counts": sum(head.frames > 1 for head in heads),
        }
        some = [f"{count:,} {what}" for what, count in counts.items() if count]
        if some:
            yield "; ".join(some)

    def _parts(
        self, files: Sequence[ImageFile], pixels: aezoo.GatheredPixels, hashes: Sequence[bytes],
        rules: aezoo.Preprocessing, arranged: aezoo.Arranged, notes: list[str],
    ) -> aezoo.Images:  # fmt: skip
        names = sorted({file.label for file in files if file.label is not None}, key=_natural)
        labels = np.asarray([names.index(file.label) for file in files if file.label is not None], np.int64)
        labelled = len(labels) == len(files)
        if names:
            notes.append(f"{len(names):,} labels: {listed([(name, '') for name in names])}")
        if files[0].part is None:
            images = arranged.split(pixels, hashes, labels if labelled else None, notes)
            called = {part: [files[int(place)].name for place in places] for part, places in images.names.items()}
            return replace(images, names=called, label_names=tuple(names), preprocessing=rules)
        parts = {
            part: np.asarray([place for place, file in enumerate(files) if file.part == part], np.int64)
            for part in ("train", "test", "validation")
        }
        for part in ("train", "test"):
            if not len(parts[part]):
                raise aezoo.AezooError(f"no image of the part {part} can be decoded")
        return aezoo.Images(
            train=aezoo.Subset(pixels, parts["train"]),
            test=aezoo.Subset(pixels, parts["test"]),
            validation=aezoo.Subset(pixels, parts["validation"]) if len(parts["validation"]) else None,
            train_labels=labels[parts["train"]] if labelled else None,
            test_labels=labels[parts["test"]] if labelled else None,
            names={part: [files[place].name for place in places] for part, places in parts.items()},
            label_names=tuple(names), notes=tuple(notes), preprocessing=rules,
        )  # fmt: skip


def list_images(folder: Path) -> tuple[list[ImageFile], list[str]]:
    """Return the files of a folder that are images by their names, in natural order, and the names of the others.

    Raises:
        AezooError: there is no such folder, no image in it, or images lie both in it and in folders of it.
    """
    if not folder.is_dir():
        raise aezoo.AezooError(f"no folder {folder}" + (": it is a file" if folder.exists() else ""))
    images, others = aezoo.list_image_files(folder)
    places = [path.parts for path in images]
    parts = _check_parts(folder, places)
    files = []
    for names in places:
        rest = names[1:] if parts else names
        files.append(
            ImageFile(
                source=folder.joinpath(*names), name=str(Path(*names)),
                part=aezoo.part_of(names[0]) if parts else None, label=rest[0] if len(rest) > 1 else None,
            )
        )  # fmt: skip
    bare = [file for file in files if file.label is None]
    if bare and len(bare) < len(files):
        raise aezoo.AezooError(
            f"{folder}: images lie beside folders of images, such as {bare[0].name}: put all of them into folders, one "
            "for each label, or none"
        )
    # By the file's own name first: so files that are numbered through keep their order, whatever their label is.
    return sorted(files, key=lambda file: (_natural(Path(file.name).name), _natural(file.name))), list(map(str, others))


def _check_parts(folder: Path, places: Sequence[tuple[str, ...]]) -> bool:
    """Say whether the folders of a folder are the parts of the data.

    Raises:
        AezooError: some are, and others are not, or one is missing.
    """
    tops = {place[0] for place in places if len(place) > 1}
    parts = {top for top in tops if aezoo.part_of(top)}
    known = {aezoo.part_of(part) for part in parts}
    if not {"train", "test"} & known:
        return False
    listed = " and ".join(sorted(parts))
    beside = sorted((tops - parts) | {place[0] for place in places if len(place) == 1})
    if beside:
        raise aezoo.AezooError(f"{folder}: beside {listed} lies {beside[0]}: move it into one of them, or away")
    if not known >= {"train", "test"}:
        raise aezoo.AezooError(f"{folder}: there is {listed}, but not both train and test: add the other, or rename it")
    return True


def _heads(files: Sequence[ImageFile]) -> tuple[dict[str, aezoo.ImageHead], list[tuple[str, str]]]:
    """Return what the heads of files say, by name, and which files have none, each with the reason."""
    heads: dict[str, aezoo.ImageHead] = {}
    bad: list[tuple[str, str]] = []
    for file in files:
        try:
            heads[file.name] = aezoo.read_head(file.open())
        except aezoo.AezooError as error:
            bad.append((file.name, str(error)))
    return heads, bad


def _damaged(place: Path, files: Sequence[ImageFile], bad: Sequence[tuple[str, str]]) -> aezoo.DamagedDataError:
    name, reason = bad[0]
    return aezoo.DamagedDataError(
        f"{place}: {len(bad):,} of {len(files):,} files cannot be decoded, {name} among them ({reason}); `aezoo data "
        f"check {shlex.quote(_as_path(place))}` names them all, and skip_bad=true (--skip-bad) leaves them out",
        bad,
    )


def _as_path(place: Path) -> str:
    """Return a path as a text that no data set's name is."""
    return str(place) if "/" in str(place) else f"./{place}"


def _sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1 or max(height, width) > 2**14:
        raise aezoo.AezooError(f"size is a height and a width from 1 to {2**14}, or one number for both, but is {size}")
    return height, width


def listed(items: Sequence[tuple[Any, str]], count: int = 3) -> str:
    names = ", ".join(str(name) for name, _ in items[:count])
    return names + (f" and {len(items) - count:,} more" if len(items) > count else "")


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part]


def sign_file(data_dir: Path, *, path: Path, **_: Any) -> str:  # noqa: ARG001 - as the loaders are called
    """Return the size and the time of a file: what changes when it does.

    Raises:
        AezooError: it cannot be looked at.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise aezoo.AezooError(f"{path} cannot be looked at: {error.strerror}") from error
    return f"{path.absolute()} {facts.st_size} {facts.st_mtime_ns}"
