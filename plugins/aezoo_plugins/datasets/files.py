"""Data sets of one's own: a folder of images, arrays in a file, rows of numbers; and images that came from Python.

`aezoo.Preprocessing` and `aezoo.Arranged` hold the rules by which files and arrays become images.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from shutil import disk_usage
from typing import Any, Literal
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

import aezoo
from aezoo_plugins.decoding import PARTS, Background, Decoder, Fit, ImageFile, Part, list_images, listed

LABELS = ("label", "labels", "target", "class", "y")
"""The columns that are taken for labels where none is named."""
LARGE = 2**28
"""Bytes of an array above which it is read in parts."""
BOMB = 200
"""A large array is not unfolded from less than a so-manieth of its size."""
Values = Literal["unit", "signed", "bytes"]


def load_images(
    data_dir: Path,  # noqa: ARG001 - the path says where they are
    *,
    path: Path,
    size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    fit: Fit = "crop",
    background: Background = "white",
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
    _check_share(test)
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


def sign_folder(data_dir: Path, *, path: Path, **_: Any) -> str:  # noqa: ARG001 - as load_images is called
    """Return the names, sizes and times of a folder's images: what changes when they do."""
    files, ignored = list_images(path)
    facts = [str(path.absolute()), *ignored]
    for file in files:
        try:
            facts.append(f"{file.name} {_stat(path / file.name)}")
        except aezoo.AezooError as error:
            facts.append(str(error))  # a link that leads nowhere, which decoding finds to be a bad file
    return "\n".join(facts)


def sign_file(data_dir: Path, *, path: Path, **_: Any) -> str:  # noqa: ARG001 - as the loaders are called
    """Return the size and the time of a file: what changes when it does."""
    return f"{path.absolute()} {_stat(path)}"


def _stat(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError as error:
        raise aezoo.AezooError(f"{path} cannot be looked at: {error.strerror}") from error
    return f"{facts.st_size} {facts.st_mtime_ns}"


def load_arrays(
    data_dir: Path,  # noqa: ARG001 - the path says where they are
    *,
    path: Path,
    values: Values | None = None,
    layout: Literal["NCHW", "NHWC"] | None = None,
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
    _check_share(test)
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
    except (BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
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


def load_rows(
    data_dir: Path,  # noqa: ARG001 - the path says where they are
    *,
    path: Path,
    label: str | None = None,
    values: Values | None = None,
    image_shape: tuple[int, int, int] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    fit: Fit = "crop",
    background: Background = "white",
    test: float = 0.2,
    seed: int = 0,
    skip_bad: bool = False,
) -> aezoo.Images:
    """Load a csv or a parquet file: a row of numbers each, or, in a parquet file, an image each.

    Args:
        data_dir: Unused.
        path: The file. A column `split` says which rows are to train and which to test.
        label: The column of the labels; None for one that is called label, labels, target, class or y.
        values: Of images, what floats mean; None to tell it by their range.
        image_shape: (channels, height, width), where the columns are the pixels of images; None for rows of numbers.
        size: Of images that are files within, as of `images`.
        channels: Likewise.
        fit: Likewise.
        background: Likewise.
        test: The share that tests, where no column says which.
        seed: Chooses them, beside their numbers.
        skip_bad: Likewise.

    Raises:
        AezooError: the file is damaged, or something in it is no number.
    """
    _check_share(test)
    frame = _read_frame(path)
    labels = label or next((name for name in frame.columns if str(name).lower() in LABELS), None)
    if labels is not None and labels not in frame.columns:
        raise aezoo.AezooError(f"{path}: no column {labels!r}; there are {listed([(c, '') for c in frame.columns])}")
    split = next((name for name in frame.columns if str(name).lower() == "split"), None)
    parts = _parts_of(path, frame, split)
    notes = []
    index = [name for name in frame.columns[:1] if _counts_rows(name, frame[name])]
    if index:
        notes.append("the first column is left out: it has no name, and counts the rows")
    columns = [name for name in frame.columns if name not in (labels, split, *index)]
    encoded = [name for name in columns if _is_encoded(frame[name])]
    try:
        if encoded:
            called = None if labels is None else _label_values(frame[labels])
            files = [
                ImageFile(
                    source=_bytes_of(cell), name=f"row {place}", part=parts[place] if parts else None,
                    label=None if called is None else str(called[place]),
                )
                for place, cell in enumerate(frame[encoded[0]])
            ]  # fmt: skip
            others = [str(name) for name in columns if name != encoded[0]]
            return Decoder(
                size=size, channels=channels, fit=fit, background=background, test=test, seed=seed, skip_bad=skip_bad
            ).images(path, files, [*notes, *([f"columns left out: {', '.join(others)}"] if others else [])])
        named: dict[str, Any] = {}
        whole = _numbers(frame, columns)
        for part in dict.fromkeys(parts or ["images"]):
            rows = np.asarray([each == part for each in parts]) if parts else np.ones(len(frame), bool)
            named[f"x_{part}" if parts else "images"] = whole[rows]
            if labels is not None:
                named[f"y_{part}" if parts else "labels"] = _label_values(frame[labels])[rows]
        arranged = aezoo.Arranged(test=test, seed=seed, values=values, image_shape=image_shape)
        if all(isinstance(name, int) for name in frame.columns):
            notes.append("the first line is a row: it holds numbers alone")
        return arranged.images(named, notes)
    except aezoo.DamagedDataError:
        raise
    except aezoo.AezooError as error:
        raise aezoo.AezooError(f"{path}: {error}") from error


def _read_frame(path: Path) -> Any:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            with path.open(encoding="utf-8-sig") as file:
                first = file.readline()
            separator = max(",;\t", key=first.count)
            head = pd.read_csv(path, nrows=1, header=None, dtype=str, sep=separator)
            # A first line of numbers alone is no line of names, unless it counts the columns.
            numbers = pd.to_numeric(head.iloc[0].dropna(), errors="coerce").tolist()
            counts = [list(range(first, first + len(numbers))) for first in (0, 1)]
            bare = not any(map(math.isnan, numbers)) and numbers not in counts
            frame = pd.read_csv(path, header=None if bare else 0, sep=separator, low_memory=False)
    except ImportError as error:
        raise aezoo.AezooError(
            f"{path}: pyarrow reads parquet files, and is not installed: pip install 'aezoo[parquet]'"
        ) from error
    except UnicodeDecodeError as error:
        raise aezoo.AezooError(f"{path} is no text in UTF-8: save it as that") from error
    except Exception as error:
        raise aezoo.AezooError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if not len(frame):
        raise aezoo.AezooError(f"{path} has no rows")
    return frame


def _parts_of(path: Path, frame: Any, split: Any) -> list[Part]:
    if split is None:
        return []
    unknown = sorted({str(value) for value in frame[split]} - set(PARTS))
    if unknown:
        raise aezoo.AezooError(f"{path}: the column split says {', '.join(PARTS)}, but got {unknown[0]!r}")
    return [PARTS[str(value)] for value in frame[split]]


def _counts_rows(name: Any, column: Any) -> bool:
    """Say whether a column is the index that pandas writes: without a name, 0, 1, 2 and so on."""
    return str(name) == "Unnamed: 0" and column.dtype.kind == "i" and bool((column == np.arange(len(column))).all())


def _is_encoded(column: Any) -> bool:
    first = column.iloc[0]
    return isinstance(first, bytes) or (isinstance(first, dict) and isinstance(first.get("bytes"), bytes))


def _bytes_of(cell: Any) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else b""


def _numbers(frame: Any, columns: Sequence[Any]) -> NDArray[Any]:
    """Return the numbers of columns, (N, D), or of one column that holds an array a row, (N, ...).

    Raises:
        AezooError: some are no numbers, or missing.
    """
    if not columns:
        raise aezoo.AezooError("there is no column of numbers")
    if len(columns) == 1 and not np.isscalar(frame[columns[0]].iloc[0]):
        with suppress(ValueError):
            return np.stack([np.asarray(_nested(cell)) for cell in frame[columns[0]]])
        raise aezoo.AezooError(f"the arrays of column {columns[0]!r} are not of one shape")
    texts = [name for name in columns if frame[name].dtype.kind not in "biuf"]
    if texts:
        raise aezoo.AezooError(
            f"{len(texts)} of {len(columns)} columns hold no numbers: {listed([(name, '') for name in texts])}; leave "
            "them out, or say label=NAME"
        )
    missing = [name for name in columns if frame[name].isna().any()]
    if missing:
        rows = int(frame[columns].isna().any(axis=1).sum())
        first = int(frame[columns].isna().any(axis=1).to_numpy().argmax()) + 1
        raise aezoo.AezooError(
            f"{rows} rows, the first of them row {first}, have no number in "
            f"{listed([(name, '') for name in missing])}: fill them, or take them out"
        )
    numbers = frame[columns].to_numpy()
    # True and false beside numbers come as objects.
    return np.asarray(numbers if numbers.dtype != object else frame[columns].astype(np.float64).to_numpy())


def _nested(cell: Any) -> Any:
    """Return what parquet gives of nested lists, arrays of arrays, as lists."""
    return [_nested(part) for part in cell] if isinstance(cell, np.ndarray) and cell.dtype == object else cell


def _label_values(column: Any) -> NDArray[Any]:
    if column.isna().any():
        raise aezoo.AezooError(f"{int(column.isna().sum())} rows have no label")
    return np.asarray(column.to_numpy() if column.dtype.kind in "iub" else column.astype(str).to_numpy(str))


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


def _check_share(test: float) -> None:
    if not 0 < test < 1:
        raise aezoo.AezooError(f"test is the share of the images that test, above 0 and below 1, but is {test}")


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `images`, `arrays`, `rows` and `python`."""
    yield aezoo.Dataset(
        name="images", load=load_images, takes=["folder"], signature=sign_folder, reference="yours",
        summary="A folder of images, or of a folder for each label, or of train and test",
    )  # fmt: skip
    yield aezoo.Dataset(
        name="arrays", load=load_arrays, takes=[".npz", ".npy"], signature=sign_file, reference="yours",
        summary="Images as arrays of numbers: images and labels, or x_train, y_train, x_test, y_test",
    )  # fmt: skip
    yield aezoo.Dataset(
        name="rows", load=load_rows, takes=[".csv", ".parquet"], signature=sign_file, reference="yours",
        summary="Rows of numbers, 1x1xD, scaled by the training rows' range; or images, where a parquet file has some",
    )  # fmt: skip
    yield aezoo.Dataset(
        name="python", load=load_python, signature=sign_python, reference="yours",
        summary="Images that were given from Python, by the hash of what was given, out of the cache",
    )  # fmt: skip
