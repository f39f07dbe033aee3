"""arrays: images of one's own in an npz or an npy file. `aezoo.Arranged` holds the rules."""

import math
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from shutil import disk_usage
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

import aezoo
from aezoo_plugins.decoding import sign_file

LARGE = 2**28
"""Bytes of an array above which it is read in parts."""


BOMB = 200
"""A large array is not unfolded from less than a so-manieth of its size."""


def load_arrays(
    data_dir: Path,  # noqa: ARG001 - the path says where they are
    *,
    path: Path,
    values: aezoo.Range | None = None,
    layout: aezoo.AxisOrder | None = None,
    image_shape: tuple[int, int, int] | None = None,
    test: float = 0.2,
    seed: int = 0,
) -> aezoo.Images:
    """Load the arrays of an npz or an npy file.

    Args:
        data_dir: Unused.
        path: The file. Of an npz, `x_train`, `y_train`, `x_test`, `y_test` and the like, or `images` and `labels`.
        values: What floats mean: in [0, 1], in [-1, 1], or in [0, 255]; None to tell it by their range.
        layout: Where the channels are; None to tell it by the shape.
        image_shape: (channels, height, width) of images that lie in a row each.
        test: The share that tests, where no array is called so.
        seed: Chooses them, beside their pixels.

    Raises:
        AezooError: the file is damaged, or it is unclear what is in it.
    """
    arranged = aezoo.Arranged(test=test, seed=seed, values=values, layout=layout, image_shape=image_shape)
    with aezoo.scratch_folder() as scratch:
        try:
            if path.suffix.lower() == ".npz":
                return arranged.images(*_of_npz(path, scratch))
            return arranged.images({"images": _of_npy(path)})
        except aezoo.AezooError as error:
            raise aezoo.AezooError(f"{path}: {error}") from error


def _of_npz(path: Path, scratch: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the arrays of an npz file, by name, laid down in a folder, and what was left out.

    Raises:
        AezooError: it is damaged, or larger than the disk.
    """
    arrays = {}
    left_out = []
    try:
        with ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                with archive.open(member) as file:
                    shape, _, dtype = _head_of_npy(file)
                    _check_length(shape, dtype, member.file_size, member.filename)
                    head = file.tell()
                name = member.filename.removesuffix(".npy")
                if dtype.hasobject:
                    left_out.append(f"left out: {name}, which holds Python objects: nothing is unpickled")
                    continue
                if member.file_size != head + math.prod(shape) * dtype.itemsize:
                    raise aezoo.AezooError(f"{member.filename} has {member.file_size:,} bytes, its head says others")
                free = disk_usage(scratch).free
                if member.file_size > free:
                    raise aezoo.AezooError(f"{member.filename} takes {member.file_size:,} bytes, and {free:,} are free")
                if member.file_size > LARGE and member.file_size > BOMB * member.compress_size:
                    raise aezoo.AezooError(
                        f"{member.filename} unfolds from {member.compress_size:,} to {member.file_size:,} bytes, as a "
                        "zip bomb does; save it as npy if it is none"
                    )
                # Members are compressed: a large one is laid down before it can be read in parts.
                inside = scratch / f"{len(arrays)}.npy"
                with archive.open(member) as file, inside.open("wb") as out:
                    while chunk := file.read(2**20):
                        out.write(chunk)
                arrays[name] = _of_npy(inside)
    except (BadZipFile, OSError, EOFError, RuntimeError, zlib.error) as error:
        raise aezoo.AezooError(f"it is no whole npz file: {error}") from error
    if not arrays:
        raise aezoo.AezooError("; ".join(["there is no array of numbers in it", *left_out]))
    return arrays, left_out


def _of_npy(path: Path) -> Any:
    """Return the array of an npy file; a large one is read in parts."""
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = _head_of_npy(file)
            offset = file.tell()
        _check_length(shape, dtype, path.stat().st_size, path.name)
        if dtype.hasobject:
            raise aezoo.AezooError("it holds Python objects: nothing is unpickled, give an array of numbers")
        if path.stat().st_size > LARGE and not fortran and len(shape) > 1:
            return aezoo.FilePixels(FileIO(path), shape, offset, dtype)
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise aezoo.AezooError(f"it is no whole npy file: {error}") from error


def _head_of_npy(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether columns come first, and dtype, as an npy file's head says, without anything of its size.

    Raises:
        AezooError: it has no such head.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:
        raise aezoo.AezooError(f"it is no npy file: {' '.join(str(error).split())[:200]}") from error
    return shape, fortran, dtype


def _check_length(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, name: str) -> None:
    expected = dtype.itemsize
    for side in shape:
        expected *= side
    if not dtype.hasobject and size < expected:
        raise aezoo.AezooError(f"{name} is truncated: its head says {shape} of {dtype}, but it has {size:,} bytes")


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `arrays`."""
    yield aezoo.Dataset(
        name="arrays", load=load_arrays, takes=[".npz", ".npy"], signature=sign_file, reference="yours",
        summary="Images as arrays of numbers: images and labels, or x_train, y_train, x_test, y_test",
    )  # fmt: skip
