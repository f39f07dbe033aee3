"""rows: numbers of one's own in a csv or a parquet file, a row each; or, in a parquet file, encoded images."""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import aezoo
from aezoo_plugins.decoding import Decoder, ImageFile, listed, sign_file

LABELS = ("label", "labels", "target", "class", "y")
"""The columns that are taken for labels where none is named."""


def load_rows(
    data_dir: Path,  # noqa: ARG001 - the path says where they are
    *,
    path: Path,
    label: str | None = None,
    values: aezoo.Range | None = None,
    image_shape: tuple[int, int, int] | None = None,
    size: int | tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    fit: aezoo.Fit = "crop",
    background: aezoo.Background = "white",
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
    arranged = aezoo.Arranged(test=test, seed=seed, values=values, image_shape=image_shape)
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


def _parts_of(path: Path, frame: Any, split: Any) -> list[aezoo.Part]:
    if split is None:
        return []
    parts = [aezoo.part_of(str(value)) for value in frame[split]]
    if None in parts:
        unknown = str(frame[split].iloc[parts.index(None)])
        raise aezoo.AezooError(f"{path}: the column split says train, test or validation, but got {unknown!r}")
    return [part for part in parts if part is not None]


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


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `rows`."""
    yield aezoo.Dataset(
        name="rows", load=load_rows, takes=[".csv", ".parquet"], signature=sign_file, reference="yours",
        summary="Rows of numbers, 1x1xD, scaled by the training rows' range; or images, where a parquet file has some",
    )  # fmt: skip
