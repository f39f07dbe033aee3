"""The data sets of torchvision, by name: read from the data folder, and fetched by torchvision only if absent."""

import contextlib
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import aezoo

Pixels = NDArray[np.uint8]
CELEBA_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Source:
    """How one data set of torchvision is read.

    `train` and `test` are the arguments that choose a part. `layout` says how an array of it lies; `folder` is where
    IDX files lie below the data folder, for those that come as such.
    """

    name: str
    class_name: str
    summary: str
    reference: str
    train: dict[str, Any]
    test: dict[str, Any]
    layout: str
    folder: str | None = None


def grey(name: str, class_name: str, summary: str, reference: str) -> Source:
    """Return a source of the MNIST family: 1x28x28, IDX files."""
    parts: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
    folder = f"{class_name}/raw"
    return Source(
        name=name, class_name=class_name, summary=summary, reference=reference,
        train=parts[0], test=parts[1], layout="NHW", folder=folder,
    )  # fmt: skip


def colour(name: str, class_name: str, layout: str, summary: str, reference: str, **parts: dict[str, Any]) -> Source:
    """Return a source of colour images."""
    return Source(
        name=name, class_name=class_name, summary=summary, reference=reference, layout=layout,
        train=parts.get("train", {"train": True}), test=parts.get("test", {"train": False}),
    )  # fmt: skip


SPLIT: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
SOURCES = (
    grey("mnist", "MNIST", "Handwritten digits, 1x28x28, 60,000 and 10,000", "LeCun et al. 1998"),
    grey("fashion-mnist", "FashionMNIST", "Clothing, 1x28x28, 60,000 and 10,000", "Xiao et al. 2017, arXiv:1708.07747"),
    grey("kmnist", "KMNIST", "Cursive Japanese, 1x28x28, 60,000 and 10,000", "Clanuwat et al. 2018, arXiv:1812.01718"),
    Source(
        name="emnist",
        class_name="EMNIST",
        summary="Letters and digits (split balanced), 1x28x28, turned upright, 112,800 and 18,800",
        reference="Cohen et al. 2017, arXiv:1702.05373",
        train={"split": "balanced", "train": True},
        test={"split": "balanced", "train": False},
        layout="NWH",
        folder="EMNIST/raw",
    ),
    grey("qmnist", "QMNIST", "MNIST rebuilt, 1x28x28, 60,000 and 60,000", "Yadav & Bottou 2019, arXiv:1905.10498"),
    colour("cifar10", "CIFAR10", "NHWC", "Objects, 3x32x32, 50,000 and 10,000", "Krizhevsky 2009"),
    colour("cifar100", "CIFAR100", "NHWC", "Objects, 3x32x32, 50,000 and 10,000", "Krizhevsky 2009"),
    colour("svhn", "SVHN", "NCHW", "House numbers, 3x32x32, 73,257 and 26,032", "Netzer et al. 2011", **SPLIT),
    colour("stl10", "STL10", "NCHW", "Objects, 3x96x96, 5,000 and 8,000 (labelled)", "Coates et al. 2011", **SPLIT),
    colour(
        "celeba",
        "CelebA",
        "files",
        f"Faces, cropped to the middle 178x178 and resized to 3x{CELEBA_SIDE}x{CELEBA_SIDE}, 162,770 and 19,962",
        "Liu et al. 2015, arXiv:1411.7766",
        **SPLIT,
    ),
)


def load(source: Source, data_dir: Path) -> aezoo.Images:
    """Load both parts of a data set from `data_dir`, and fetch what is absent.

    Raises:
        AezooError: torchvision does not fit torch, the data cannot be had, or a file of it is damaged.
    """
    dataset_class = getattr(_torchvision_datasets(), source.class_name)
    if source.folder and (data_dir / source.folder).is_dir():
        for path in sorted((data_dir / source.folder).glob("*-ubyte")):
            check_idx(path)
    train, test = (_open(dataset_class, data_dir, part, source) for part in (source.train, source.test))
    return aezoo.Images(
        train=_pixels(train, source),
        test=_pixels(test, source),
        train_labels=_labels(train),
        test_labels=_labels(test),
    )


def files_of(dataset_class: Any, source: Source, data_dir: Path) -> list[Path]:
    """Return where torchvision looks for the files of a data set, as they come from whoever publishes them."""
    if source.class_name == "EMNIST":
        names = ["gzip.zip"]
    elif source.class_name == "CelebA":
        names = [name for _, _, name in dataset_class.file_list]
    elif hasattr(dataset_class, "resources"):
        listed = dataset_class.resources
        pairs = [*listed["train"], *listed["test"]] if isinstance(listed, dict) else listed
        names = [url.rpartition("/")[2] for url, _ in pairs]
    elif hasattr(dataset_class, "split_list"):
        names = [dataset_class.split_list[part["split"]][1] for part in (source.train, source.test)]
    else:
        names = [dataset_class.filename]
    folder = data_dir / (source.folder or {"CelebA": "celeba"}.get(source.class_name, ""))
    return [folder / name for name in names]


def check_idx(path: Path) -> None:
    """Check an IDX file's magic number, and that it is as long as its header says.

    Raises:
        AezooError: one line that names the file, and what is wrong with it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or head[3] == 0:
            raise aezoo.AezooError(
                f"{path} is no IDX file of bytes: it starts with {head!r}; remove it to fetch it anew"
            )
        sides = file.read(4 * head[3])
    if len(sides) < 4 * head[3]:
        raise aezoo.AezooError(f"{path} is truncated in its header: {size} bytes; remove it to fetch it anew")
    shape = struct.unpack(f">{head[3]}I", sides)
    if 0 in shape:
        raise aezoo.AezooError(
            f"{path} is empty: its header says {' x '.join(map(str, shape))}; remove it to fetch it anew"
        )
    expected = 4 + 4 * head[3] + int(np.prod(shape, dtype=np.int64))
    if size != expected:
        what = "truncated" if size < expected else "too long"
        raise aezoo.AezooError(
            f"{path} is {what}: its header says {' x '.join(map(str, shape))}, {expected} bytes, but it has {size}; "
            "remove it to fetch it anew"
        )


def _torchvision_datasets() -> Any:
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, AttributeError) as error:
        raise aezoo.AezooError(
            f"torchvision does not fit the installed torch ({' '.join(str(error).split())}); install the two together: "
            "pip install --upgrade torch torchvision"
        ) from error
    return datasets


def _open(dataset_class: Callable[..., Any], data_dir: Path, part: dict[str, Any], source: Source) -> Any:
    try:
        return dataset_class(root=data_dir, download=False, **part)
    except RuntimeError:
        pass  # torchvision's word for: not there
    except Exception as error:
        raise aezoo.AezooError(
            f"its files in {data_dir} cannot be read: {_said(error)}; remove them to fetch them anew"
        ) from error
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # torchvision prints what it fetches; standard output is for tables.
        with contextlib.redirect_stdout(sys.stderr):
            return dataset_class(root=data_dir, download=True, **part)
    except Exception as error:
        files = files_of(dataset_class, source, data_dir)
        names = ", ".join(path.name for path in files)
        raise aezoo.AezooError(
            f"it is not in {data_dir} (--data-dir), and torchvision could not fetch it: {_said(error)}; without a "
            f"network, put {names} into {files[0].parent}"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _pixels(dataset: Any, source: Source) -> Pixels:
    """Return a part as (N, C, H, W) uint8."""
    if source.layout == "files":
        return np.stack([_face(dataset[index][0]) for index in range(len(dataset))])
    pixels = np.asarray(dataset.data)
    if source.layout == "NHWC":
        pixels = pixels.transpose(0, 3, 1, 2)
    elif source.layout == "NHW":
        pixels = pixels[:, None]
    elif source.layout == "NWH":
        pixels = pixels.transpose(0, 2, 1)[:, None]
    return np.ascontiguousarray(pixels)


def _labels(dataset: Any) -> "np.ndarray[Any, np.dtype[np.int64]] | None":
    """Return a part's labels, (N,), or None where it has none of one number an image."""
    found = next((getattr(dataset, name) for name in ("targets", "labels") if hasattr(dataset, name)), None)
    if found is None:
        return None
    labels = np.asarray(found, dtype=np.int64)
    # QMNIST has eight numbers an image, the digit first.
    return labels if labels.ndim == 1 else labels[:, 0]


def _face(image: Any) -> Pixels:
    """Crop a PIL image to its middle square and resize it; (3, side, side)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((CELEBA_SIDE, CELEBA_SIDE))
    return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)


def _loader(source: Source) -> Callable[[Path], aezoo.Images]:
    return lambda data_dir: load(source, data_dir)


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute each of SOURCES."""
    for source in SOURCES:
        yield aezoo.Dataset(name=source.name, load=_loader(source), summary=source.summary, reference=source.reference)
