"""Data of one's own: folders, arrays, rows and Python; the rules by which they become images, and what is refused."""

import io
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import aezoo
from aezoo import machine
from aezoo.contract.arrays import roles_of
from aezoo.contract.dataset import find_data_dir
from aezoo.contract.images import read, sha256
from aezoo.contract.levels import as_pixels, range_of, with_channels
from aezoo.contract.objects import images_of
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.split import choose_test, pixel_hash
from aezoo.errors import AezooError, DamagedDataError
from aezoo.harness.prepare import dataset_text, keep, prepared
from aezoo.registry.discovery import discover

RNG = np.random.RandomState(0)
PIXELS = RNG.randint(0, 256, (60, 1, 6, 6), dtype=np.uint8)
HERE = Path()


def load(text: str) -> aezoo.Images:
    return discover().dataset(text).checked(find_data_dir(None))


def folder_of(pixels: np.ndarray, folder: Path, labels: list[str] | None = None) -> Path:
    for place, image in enumerate(pixels):
        path = folder / (labels[place] if labels else "") / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)
    return folder


@pytest.fixture
def places(tmp_path: Path) -> dict[str, object]:
    """The same images in every form."""
    import pandas as pd

    folder_of(PIXELS, tmp_path / "photos")
    np.save(tmp_path / "x.npy", PIXELS)
    np.savez_compressed(tmp_path / "x.npz", images=PIXELS)
    forms = {
        "folder": f"{tmp_path}/photos", "npy": f"{tmp_path}/x.npy", "npz": f"{tmp_path}/x.npz", "python": PIXELS,
        "tensor": torch.from_numpy(PIXELS), "floats": PIXELS.astype(np.float32) / 255,
        "torch": torch.utils.data.TensorDataset(torch.from_numpy(PIXELS)),
    }  # fmt: skip
    pd.DataFrame(PIXELS.reshape(60, 36)).to_csv(tmp_path / "x.csv", index=False)
    forms["csv"] = f"{tmp_path}/x.csv[image_shape=(1,6,6)]"
    try:
        pd.DataFrame({"image": list(PIXELS.tolist())}).to_parquet(tmp_path / "x.parquet")
        forms["parquet"] = f"{tmp_path}/x.parquet"
        encoded = [(tmp_path / "photos" / f"{place}.png").read_bytes() for place in range(60)]
        pd.DataFrame({"image": [{"bytes": each, "path": None} for each in encoded]}).to_parquet(tmp_path / "e.parquet")
        forms["encoded parquet"] = f"{tmp_path}/e.parquet"
    except ImportError:
        pass
    return forms


def test_the_same_images_give_bit_equal_losses_in_whatever_form_they_come(places, tmp_path):
    recipe = aezoo.Recipe(name="t", steps=10, batch_size=16)
    losses = {}
    for name, images in places.items():
        run = aezoo.bench(
            ["linear[latent_dim=2]"], recipe=recipe, dataset=images, out=tmp_path / name, timing=False, device="cpu",
            report=False, observer=aezoo.Observer(),
        )  # fmt: skip
        records = run.records()
        assert {record.status for record in records} == {"ok"}, name
        losses[name] = {
            (record.variant, record.seed): (record.test_mse, record.test_errors_sha256) for record in records
        }
    assert len(losses) >= 8
    assert all(each == losses["folder"] for each in losses.values()), losses


def test_a_data_set_has_hyperparameters_and_a_path_alone_is_short_for_it(tmp_path):
    folder_of(PIXELS, tmp_path / "photos")
    registry = discover()
    variant = registry.dataset(f"images[ size=4 , path='{tmp_path}/photos' ]")
    assert variant.text == f"images[path={tmp_path}/photos,size=4]"
    assert variant.identity == "images[size=4]"
    assert registry.dataset(f"{tmp_path}/photos[size=4]").text == variant.text
    assert variant.checked(HERE).shape == (1, 4, 4)
    for text, told in (
        (f"images[path={tmp_path}/photos,sise=4]", "images: no hyperparameter 'sise'.*Did you mean 'size'"),
        (f"images[path={tmp_path}/photos,channels=2]", "'channels' accepts .*, but got 2"),
        ("images", r"'path' has no default: give images\[path=...\], a path"),
        (f"{tmp_path}/nothing", "no file or folder"),
        (f"{tmp_path}/photos[path=x]", "the path is given twice"),
        (f"images[path={tmp_path}/photos,size=0]", "size is a height and a width from 1"),
        (f"images[path={tmp_path}/photos,test=1.5]", "test is the share"),
    ):
        with pytest.raises(AezooError, match=told):
            registry.dataset(text).checked(HERE)
    (tmp_path / "x.doc").write_text("x")
    with pytest.raises(AezooError, match="no data set takes .*x.doc: give a folder or a file .csv"):
        registry.dataset(f"{tmp_path}/x.doc")


def test_a_data_sets_hyperparameters_stand_in_the_record_and_change_the_fingerprint_and_a_path_does_not(tmp_path):
    marks = {}
    for place, size in (("a", 4), ("b", 4), ("b", 5)):
        if not (tmp_path / place).exists():
            folder_of(PIXELS, tmp_path / place)
        run = aezoo.bench(
            ["mean"], recipe=aezoo.Recipe(name="t", steps=1), dataset=f"{tmp_path}/{place}[size={size}]",
            out=tmp_path / f"run-{place}{size}", timing=False, device="cpu", report=False,
            observer=aezoo.Observer(),
        )  # fmt: skip
        record = run.records()[0]
        assert record.dataset.name == f"images[path={tmp_path}/{place},size={size}]"
        assert any("60 of them cut to the middle and resized" in note for note in record.dataset.notes)
        marks[place, size] = record.fingerprint
    assert marks["a", 4] == marks["b", 4] != marks["b", 5]


def test_a_plugins_data_set_takes_hyperparameters_too(distribute):
    distribute(
        """
        import numpy as np, aezoo

        def load(data_dir, *, level: int = 3, name: str = "x"):
            return aezoo.Images(train=np.full((4, 1, 2, 2), level, np.uint8), test=np.zeros((2, 1, 2, 2), np.uint8))

        @aezoo.hookimpl
        def aezoo_datasets():
            yield aezoo.Dataset(name="flat", load=load, summary="s", reference="r")
        """,
        name="flat-dist",
    )
    assert int(load("flat[level=7]").train[0:].max()) == 7
    assert discover().dataset("flat[level=3]").text == "flat"
    with pytest.raises(AezooError, match="flat: hyperparameter 'level' accepts int, but got 'high'"):
        load("flat[level=high]")


def image(mode: str, size: tuple[int, int] = (8, 8)) -> Image.Image:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, size[0]).astype(np.uint8), (size[1], 1)))
    if mode == "I;16":
        return Image.fromarray(np.asarray(ramp).astype(np.uint16) * 257)
    if mode == "RGBA":
        picture = ramp.convert("RGBA")
        picture.putalpha(0)
        return picture
    return ramp.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix", "grey"),
    [("L", "png", True), ("1", "png", True), ("P", "png", True), ("I;16", "png", True), ("RGB", "jpg", False),
     ("CMYK", "jpg", False), ("RGBA", "png", False)],
)  # fmt: skip
def test_every_mode_becomes_8_bits_by_its_rule(mode, suffix, grey, tmp_path):
    path = tmp_path / f"x.{suffix}"
    image(mode).save(path)
    head = aezoo.read_head(path)
    assert (head.size, head.grey) == ((8, 8), grey)
    pixels = Preprocessing(image_shape=(1, 8, 8)).of_file(path)
    assert pixels.shape == (1, 8, 8)
    expected = np.linspace(0, 255, 8)
    if mode == "RGBA":  # all of it is transparent: the background shows
        assert (pixels == 255).all()
        black = Preprocessing(image_shape=(3, 8, 8), background="black").of_file(path)
        assert (black == 0).all()
    elif mode == "1":
        assert set(np.unique(pixels)) == {0, 255}
    else:
        assert np.abs(pixels[0].astype(int) - expected).max() <= (12 if suffix == "jpg" else 2)


def test_an_image_is_turned_as_its_orientation_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.zeros((4, 8), np.uint8)
    upright[:, :4] = 255
    Image.fromarray(upright).save(tmp_path / "x.png", exif=exif)
    assert aezoo.read_head(tmp_path / "x.png").size == (8, 4)
    pixels = Preprocessing(image_shape=(1, 8, 4)).of_file(tmp_path / "x.png")[0]
    assert pixels[:4].min() == 255
    assert pixels[4:].max() == 0


@pytest.mark.parametrize(("fit", "corner"), [("crop", 200), ("stretch", 0), ("pad", 255)])
def test_another_size_is_cut_stretched_or_padded(fit, corner):
    wide = np.zeros((4, 12), np.uint8)
    wide[:, 4:8] = 200
    pixels = Preprocessing(image_shape=(1, 4, 4), fit=fit).of_image(Image.fromarray(wide))
    assert pixels.shape == (1, 4, 4)
    assert abs(int(pixels[0, 0, 0]) - corner) < 12


def broken_folder(folder: Path) -> dict[str, str]:
    """A folder with files that cannot be decoded; each with what is said of it."""
    folder_of(PIXELS[:20], folder)
    whole = (folder / "0.png").read_bytes()
    noise = io.BytesIO()
    Image.fromarray(RNG.randint(0, 256, (32, 32, 3), dtype=np.uint8)).save(noise, "JPEG")
    files = {
        "cut.png": (whole[: len(whole) // 2], "damaged"),
        "cut.jpg": (noise.getvalue()[:400], "damaged"),
        "text.png": (b"hello", "no image: none of"),
        "empty.gif": (b"", "no image: none of"),
        "bomb.png": (bomb(), "more than 89,478,485 pixels"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"x")
    return {name: told for name, (_, told) in files.items()}


def bomb() -> bytes:
    """A PNG of a few kilobytes that says it is of 60,000 x 60,000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )


def test_every_bad_file_is_named_and_can_be_left_out(tmp_path):
    bad = broken_folder(tmp_path / "photos")
    with pytest.raises(DamagedDataError, match=r"5 of 25 files cannot be decoded") as caught:
        load(f"{tmp_path}/photos")
    problems = dict(caught.value.problems)
    assert problems.keys() == bad.keys()
    assert all(told in problems[name] for name, told in bad.items()), problems
    images = load(f"{tmp_path}/photos[skip_bad=true]")
    assert len(images.train) + len(images.test) == 20
    notes = " | ".join(images.notes)
    assert "5 of 25 files left out, which cannot be decoded" in notes
    assert "1 of 26 files left out, whose names end as no image's: notes.txt" in notes


def test_what_was_left_out_stands_in_the_table(tmp_path, page):
    broken_folder(tmp_path / "photos")
    run = aezoo.bench(
        ["mean"], recipe=aezoo.Recipe(name="t", steps=1), dataset=tmp_path / "photos", skip_bad=True,
        out=tmp_path / "run", timing=False, device="cpu", observer=aezoo.Observer(),
    )  # fmt: skip
    assert "5 of 25 files left out" in (run.path / "table.md").read_text()
    assert "5 of 25 files left out" in (run.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], "no images in .*, nor in the folders in it; give a folder of files whose names end in \\."),
        (["a.png", "cats/b.png"], "images lie beside folders of images, such as a.png"),
        (["train/a.png", "cats/b.png"], "beside train lies cats"),
        (["train/a.png"], "there is train, but not both train and test"),
        (["train/a.png", "train/b/c.png", "test/a.png"], "images lie beside folders"),
    ],
)
def test_a_folder_that_is_laid_out_in_no_known_way_is_one_line(files, told, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in files:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        image("L").save(tmp_path / "photos" / name)
    with pytest.raises(AezooError, match=told):
        load(f"{tmp_path}/photos")


def test_a_folder_of_train_and_test_with_labels_keeps_its_split(tmp_path):
    names = [("cat", "dog")[place % 2] for place in range(20)]
    folder_of(PIXELS[:20], tmp_path / "photos" / "train", names)
    folder_of(PIXELS[20:26], tmp_path / "photos" / "Test", names[:6])
    images = load(f"{tmp_path}/photos")
    assert np.array_equal(images.train[0:20], PIXELS[:20])
    assert np.array_equal(images.test[0:6], PIXELS[20:26])
    assert (list(images.label_names), images.train_labels.tolist()) == (["cat", "dog"], [0, 1] * 10)
    assert images.names["test"][2] == "Test/cat/2.png"


def test_a_split_is_by_the_pixels_of_each_label_alike_and_keeps_equal_images_together():
    pixels = np.repeat(RNG.randint(0, 256, (50, 1, 3, 3), dtype=np.uint8), 2, axis=0)
    labels = np.repeat(np.arange(50) % 5, 2)
    hashes = [pixel_hash(each) for each in pixels]
    tests = choose_test(hashes, labels, 0.2, 0)
    assert np.bincount(labels[tests]).tolist() == [4] * 5
    assert (tests[::2] == tests[1::2]).all()
    order = RNG.permutation(100)
    assert (choose_test([hashes[place] for place in order], labels[order], 0.2, 0) == tests[order]).all()
    assert (choose_test(hashes, labels, 0.2, 1) != tests).any()


@settings(max_examples=60, deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=2, max_size=60),
    share=st.floats(0.05, 0.95),
)
def test_a_split_never_puts_an_image_on_both_sides_nor_takes_all_of_a_label(groups, share):
    hashes = [bytes([number] * 16) for number, _ in groups]
    labels = np.asarray([label for _, label in groups])
    tests = choose_test(hashes, labels, share, 0)
    sides = {}
    for each, side in zip(hashes, tests.tolist(), strict=True):
        assert sides.setdefault(each, side) == side
    for label in np.unique(labels):
        own = tests[labels == label]
        assert own.sum() <= min(round(share * len(own)), len(own) - 1)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([0.0, 1.0]), "unit"), (np.array([0.0, 0.2]), "unit"), (np.array([0.0, 200.0]), "bytes"),
        (np.array([-1.0, 1.0]), "signed"), (np.array([-0.5, 0.3]), "signed"),
    ],
)  # fmt: skip
def test_floats_are_told_by_their_range(array, kind):
    assert range_of(array) == kind


@pytest.mark.parametrize(
    "array",
    [[0.0, 1.01], [0.0, 30.0], [-0.01, 1.0], [-1.0, 0.1], [-2.0, 2.0], [0.0, 256.0], [-1.0, 255.0]],
)
def test_floats_of_an_unclear_range_are_refused(array):
    with pytest.raises(AezooError, match="it is unclear what floats from"):
        as_pixels(np.array(array))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=30))
def test_every_form_of_the_same_levels_gives_the_same_pixels(levels):
    pixels = np.array(levels, np.uint8)
    assert as_pixels(pixels.astype(np.int64))[0].tolist() == levels
    assert as_pixels(pixels / 255, "unit")[0].tolist() == levels
    assert as_pixels((pixels / 255).astype(np.float32), "unit")[0].tolist() == levels
    assert as_pixels(pixels / 127.5 - 1, "signed")[0].tolist() == levels
    assert as_pixels(pixels.astype(np.float32), "bytes")[0].tolist() == levels
    if max(levels) > 0:
        assert as_pixels(pixels.astype(np.uint16) * 257)[0].tolist() == levels


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((5, 8, 8), None, (5, 1, 8, 8)), ((5, 8, 8, 3), None, (5, 3, 8, 8)), ((5, 3, 8, 8), None, (5, 3, 8, 8)),
        ((5, 8, 8, 1), None, (5, 1, 8, 8)), ((5, 36), None, (5, 1, 1, 36)), ((5, 3, 8, 1), "NHWC", (5, 1, 3, 8)),
        ((5, 2, 8, 8), None, (5, 2, 8, 8)),
    ],
)  # fmt: skip
def test_channels_are_told_by_the_shape(shape, layout, expected):
    assert with_channels(np.zeros(shape, np.uint8), layout)[0].shape == expected


def test_channels_that_may_be_on_either_side_are_refused():
    with pytest.raises(AezooError, match="unclear where the channels"):
        with_channels(np.zeros((5, 3, 8, 1), np.uint8))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x_train", "y_train", "x_test", "y_test"],
         {("train", "pixels"): "x_train", ("train", "labels"): "y_train", ("test", "pixels"): "x_test",
          ("test", "labels"): "y_test"}),
        (["train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"],
         {("train", "pixels"): "train_images", ("train", "labels"): "train_labels",
          ("validation", "pixels"): "val_images", ("validation", "labels"): "val_labels",
          ("test", "pixels"): "test_images", ("test", "labels"): "test_labels"}),
        (["imgs", "latents_values", "metadata"], {(None, "pixels"): "imgs"}),
        (["anything"], {(None, "pixels"): "anything"}),
        (["X", "y"], {(None, "pixels"): "X", (None, "labels"): "y"}),
    ],
)  # fmt: skip
def test_arrays_are_known_by_the_names_that_people_give_them(names, expected):
    assert roles_of(dict.fromkeys(names)) == expected


@pytest.mark.parametrize("names", [["a", "b"], [], ["labels"], ["images", "pixels"]])
def test_arrays_that_may_be_either_are_refused(names):
    with pytest.raises(AezooError, match="unclear which array|no array of images"):
        roles_of(dict.fromkeys(names))


def test_rows_are_scaled_by_the_training_part_alone_and_what_is_clipped_is_told(tmp_path):
    train, test = np.array([[0.0, 10.0], [2.0, 10.0]]), np.array([[1.0, 11.0], [4.0, 9.0]])
    images = images_of({"x_train": train, "x_test": test})
    assert np.asarray(images.train).reshape(2, 2).tolist() == [[0, 0], [255, 0]]
    assert np.asarray(images.test).reshape(2, 2).tolist() == [[128, 255], [255, 0]]
    assert "3 of 4 numbers of the test rows clipped" in images.notes[0]
    assert "1 column the same in all training rows" in images.notes[0]
    assert (images.preprocessing.low, images.preprocessing.high) == ([0.0, 10.0], [2.0, 10.0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a,b\n1,x\n2,y\n", "1 of 2 columns hold no numbers: b"),
        ("a,b\n1,2\n,4\n", "1 rows, the first of them row 2, have no number in a"),
        ("", "cannot be read"),
        ("a,b\n", "has no rows"),
        ("a,split\n1,train\n2,tset\n", "the column split says"),
    ],
)
def test_a_csv_that_cannot_be_rows_is_one_line(content, told, tmp_path):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(AezooError, match=told):
        load(f"{tmp_path}/x.csv")


def test_a_csv_has_labels_and_a_split_by_their_columns_names(tmp_path):
    lines = [f"{place},{place * 2},{'ab'[place % 2]},{'test' if place < 4 else 'train'}" for place in range(12)]
    (tmp_path / "x.csv").write_text("u,v,label,split\n" + "\n".join(lines))
    images = load(f"{tmp_path}/x.csv")
    assert (images.train.shape, images.test.shape) == ((8, 1, 1, 2), (4, 1, 1, 2))
    assert (images.train_labels.tolist(), list(images.label_names)) == ([0, 1] * 4, ["a", "b"])


def hostile(path: Path) -> None:
    """Write each kind of file that no good faith made."""
    np.save(path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 28, 28)})
    (path / "huge.npy").write_bytes(header.getvalue() + bytes(100))
    (path / "cut.npy").write_bytes((path / "good.npy").read_bytes()[:200])
    (path / "text.npy").write_text("not an array")
    (path / "pickle.npy").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    with zipfile.ZipFile(path / "huge.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(10**6))
    with zipfile.ZipFile(path / "long.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", (path / "good.npy").read_bytes() + bytes(10**7))
    with zipfile.ZipFile(path / "path.npz", "w") as archive:
        archive.writestr("../../pwned.npy", (path / "good.npy").read_bytes())
    with zipfile.ZipFile(path / "pickle.npz", "w") as archive:
        archive.writestr("images.npy", (path / "object.npy").read_bytes())
    (path / "cut.npz").write_bytes((path / "path.npz").read_bytes()[:300])
    (path / "text.npz").write_text("no zip")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("object.npy", "Python objects"), ("huge.npy", "truncated"), ("cut.npy", "truncated"),
        ("text.npy", "no npy file"), ("pickle.npy", "no npy file"), ("huge.npz", "truncated"),
        ("pickle.npz", "no array of numbers"), ("long.npz", "its head says others"),
        ("cut.npz", "no whole npz file"), ("text.npz", "no whole npz file"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_one_line_and_leaves_nothing_behind(name, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for variable in ("XDG_CACHE_HOME", "TMPDIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(tempfile, "tempdir", None)
    np.save("good.npy", PIXELS)
    hostile(tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(AezooError, match=told) as caught:
        load(f"./{name}")
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == before


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_path_within_an_npz_leads_nowhere(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    np.save(tmp_path / "good.npy", PIXELS)
    hostile(tmp_path)
    before = files_in(tmp_path)
    images = load(f"{tmp_path}/path.npz")
    assert len(images.train) + len(images.test) == 60
    assert files_in(tmp_path) == before


def test_objects_beside_images_are_left_out_and_told(tmp_path):
    np.savez(tmp_path / "x.npz", images=PIXELS, meta=np.array([{"a": 1}], dtype=object))
    assert "left out: meta, which holds Python objects: nothing is unpickled" in load(f"{tmp_path}/x.npz").notes


def test_a_file_that_is_no_image_by_its_content_starts_no_program(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(AezooError, match="it is no image: none of AVIF"):
        aezoo.open_image(tmp_path / "x.png")


def test_a_file_of_floats_is_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(AezooError, match="its pixels are floats"):
        aezoo.Preprocessing(image_shape=(1, 8, 8)).of_file(tmp_path / "x.tif")


def test_links_to_folders_are_followed_once(tmp_path):
    folder_of(PIXELS[:30], tmp_path / "photos" / "cat")
    folder_of(PIXELS[30:], tmp_path / "elsewhere")
    (tmp_path / "photos" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
    images = load(f"{tmp_path}/photos")
    assert (list(images.label_names), len(images.train) + len(images.test)) == (["cat", "dog"], 60)


def test_whole_numbers_mean_in_every_part_what_the_greatest_of_all_says(tmp_path):
    dark, bright = PIXELS.astype(np.uint16), PIXELS.astype(np.uint16) * 257
    np.savez(tmp_path / "x.npz", x_train=dark, x_test=bright)
    images = load(f"{tmp_path}/x.npz")
    assert np.array_equal(images.test[0:], PIXELS)
    assert int(images.train[0:].max()) <= 1


@pytest.mark.parametrize("text", ["photos[size=4", "photos[size=4]x9"])
def test_a_bracket_that_is_not_closed_is_refused(text, tmp_path):
    folder_of(PIXELS, tmp_path / "photos")
    with pytest.raises(AezooError, match="has a bracket that does not end it"):
        discover().dataset(f"{tmp_path}/{text}")


def test_images_from_python_with_other_labels_are_another_data_set(tmp_path):
    """Of the same pixels: the second ones must not get the labels of the first, nor another scaling of their rows."""
    registry = discover()
    first, again = ({"images": PIXELS, "labels": np.full(60, label)} for label in (1, 2))
    texts = [dataset_text(given, registry, tmp_path) for given in (first, first, again, PIXELS)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    rows = np.random.RandomState(0).rand(40, 3)
    scaled = [registry.dataset(dataset_text(given, registry, tmp_path)) for given in (rows, 8 * rows)]
    source = registry.dataset_plugin(scaled[0].text).source
    highs = []
    for variant in scaled:
        with prepared(variant, HERE, source) as data:
            highs.append(data.facts.preprocessing.high)
    assert max(highs[0]) < 1 < min(highs[1])


def test_what_another_process_keeps_at_once_changes_nothing(tmp_path):
    """Both prepare one folder, which changed between: each has the pixels that its hash says."""
    both = [keep(images_of(pixels), "photos", tmp_path / "key.json") for pixels in (PIXELS, PIXELS[::-1] // 2)]
    for facts in both:
        with (tmp_path / facts.file).open("rb", buffering=0) as file:
            assert sha256(read(facts.shared(tmp_path), file)) == facts.sha256


def test_a_link_that_leads_nowhere_is_a_bad_file_like_others(tmp_path):
    folder_of(PIXELS, tmp_path / "photos")
    (tmp_path / "photos" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    text = f"images[path={tmp_path}/photos"
    assert "lost.png cannot be looked at" in str(discover().dataset(f"{text}]").signature(HERE))
    with pytest.raises(DamagedDataError) as caught:
        load(f"{text}]")
    assert dict(caught.value.problems) == {"lost.png": "there is no such file"}
    assert "1 of 61 files left out" in " ".join(load(f"{text},skip_bad=true]").notes)


def test_an_npz_that_unfolds_from_nothing_is_taken_for_a_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr("aezoo_plugins.datasets.arrays.LARGE", 10**6)
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((4000, 28, 28), np.uint8))
    with pytest.raises(AezooError, match="as a zip bomb does"):
        load(f"{tmp_path}/x.npz")


@pytest.mark.parametrize(
    ("content", "shape", "note"),
    [
        (";a;b\n0;1;2\n1;3;5\n2;4;8\n", 2, "the first column is left out"),
        ("7,2\n3,5\n4,8\n", 2, "the first line is a row"),
        ("a,b\n1,true\n2,false\n3,true\n", 2, None),
    ],
)
def test_a_csv_is_read_as_it_is_written(content, shape, note, tmp_path):
    (tmp_path / "x.csv").write_text(content)
    images = load(f"{tmp_path}/x.csv[test=0.4]")
    assert (images.shape, len(images.train) + len(images.test)) == ((1, 1, shape), 3)
    assert note is None or any(note in line for line in images.notes)


def test_numbers_that_are_none_are_counted_among_all():
    floats = PIXELS / 255
    floats[0, 0, 0, :3] = np.nan
    with pytest.raises(AezooError, match="3 of 2,160 numbers are NaN or infinite"):
        images_of(floats)


class Pairs(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 30

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(PIXELS[place].astype(np.float32) / 255), place % 3


def test_a_data_set_of_torch_gives_images_and_labels_and_two_of_them_the_split():
    images = images_of(Pairs())
    assert np.bincount(images.test_labels).tolist() == [2, 2, 2]
    split = images_of((Pairs(), Pairs()))
    assert (split.train.shape, split.test.shape) == ((30, 1, 6, 6), (30, 1, 6, 6))
    assert np.array_equal(np.asarray(split.train), PIXELS[:30])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.array(["a", "b"]), "images are of shape|pixels are numbers"), (7, "images are of shape"),
        ({"a": PIXELS, "b": PIXELS}, "unclear which array"), ({"x_train": PIXELS}, None),
        ({"images": PIXELS, "labels": np.arange(3)}, "a label for each image"),
        ({"images": PIXELS, "labels": np.full(60, 0.5)}, "labels are whole numbers or texts"),
        (object(), "images are of shape|Python objects"), ([], "the array is empty"),
        ((PIXELS, np.arange(60)), "give labels by name"), (torch.ones(3, 1, 6, 6, device="meta"), "is no array"),
        (np.repeat(PIXELS[:1], 20, 0), "20 images, 1 of them different, cannot be split"),
        (np.ones((4, 3, 5, 3), np.uint8), "say layout=NCHW or NHWC"),
    ],
)  # fmt: skip
def test_what_is_given_from_python_is_images_or_one_line(given, told):
    if told is None:
        assert len(images_of(given).test) == 12
        return
    with pytest.raises(AezooError, match=told):
        images_of(given)


def test_images_are_prepared_once_and_held_against_their_hash(tmp_path, monkeypatch):
    folder_of(PIXELS, tmp_path / "photos")
    registry = discover()
    variant = registry.dataset(f"{tmp_path}/photos")
    source = registry.dataset_plugin(variant.text).source
    told: list[str] = []

    def ready() -> str:
        with (
            prepared(variant, HERE, source, tell=told.extend) as data,
            data.shared.path.open("rb", buffering=0) as file,
        ):
            assert data.kept
            assert sha256(read(data.shared, file)) == data.facts.sha256
            return str(data.shared.path)

    path = Path(ready())
    written = path.stat().st_mtime_ns
    assert path.is_relative_to(machine.cache_folder())
    with monkeypatch.context() as patch:
        patch.setattr(aezoo.contract.encoded, "open_image", None)  # nothing is decoded a second time
        assert ready() == str(path)
    assert (path.stat().st_mtime_ns, told) == (written, [])
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    ready()
    assert "are prepared anew" in told[0]
    # Another file in the folder, and it is another data set.
    image("L", (6, 6)).save(tmp_path / "photos" / "new.png")
    assert ready() != str(path)


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_next_time(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    folder_of(PIXELS, tmp_path / "photos")
    registry = discover()
    variant = registry.dataset(f"{tmp_path}/photos")
    told: list[str] = []
    with prepared(variant, HERE, registry.dataset_plugin(variant.text).source, tell=told.extend) as data:
        assert (data.kept, data.shared.train_shape) == (False, (48, 1, 6, 6))
    assert "are not kept for the next time" in told[-1]


def test_images_that_are_streamed_train_and_score_to_the_bit_as_those_that_are_held(tmp_path, monkeypatch):
    from aezoo.contract import pixels as room
    from aezoo.train import loop

    reads = []
    real = loop._read_ahead
    monkeypatch.setattr(loop, "_read_ahead", lambda *given, **settings: reads.append(given) or real(*given, **settings))
    path = tmp_path / "x.npy"
    np.save(path, PIXELS.astype(np.uint16) * 257)
    losses = {}
    for streamed in (False, True):
        with monkeypatch.context() as patch:
            if streamed:
                patch.setattr(room, "STREAMED_ABOVE", 100)
                patch.setattr("aezoo_plugins.datasets.arrays.LARGE", 100)
                patch.setattr(loop, "AHEAD", 3 * 16 * 36)
            run = aezoo.bench(
                ["linear[latent_dim=2]", "topk[width=8,k=2]"], dataset=path, executor="inline", device="cpu",
                recipe=aezoo.Recipe(name="t", steps=60, batch_size=16, metrics=["psnr"]), timing=False,
                out=tmp_path / str(streamed), observer=aezoo.Observer(),
            )  # fmt: skip
            records = sorted(run.records(), key=lambda record: record.trial_id)
            assert {record.status for record in records} == {"ok"}
            losses[streamed] = [
                (record.variant, record.test_mse, record.train_mse, record.curve, record.weights_sha256)
                for record in records
            ]
        assert bool(reads) is streamed
    assert losses[False] == losses[True]


def test_data_check_says_what_is_there_and_names_all_that_is_wrong(tmp_path, call):
    folder_of(PIXELS[:20], tmp_path / "photos" / "train")
    folder_of(np.concatenate([PIXELS[:2], PIXELS[30:34]]), tmp_path / "photos" / "test")
    code, out, err = call("data", "check", f"{tmp_path}/photos")
    assert code == 1
    assert "train: 20 images of 1x6x6" in out
    assert "equal: train train/0.png = test test/0.png" in out
    assert "2 images on both sides of the split" in err


def test_data_show_is_a_page_without_scripts_or_requests(tmp_path, call):
    folder_of(
        PIXELS, tmp_path / "photos", [("cat", "<script>alert(1)")[place % 2].replace("/", "") for place in range(60)]
    )
    code, out, _ = call("data", "show", f"{tmp_path}/photos", "-o", f"{tmp_path}/page.html")
    page = (tmp_path / "page.html").read_text()
    assert (code, out.strip()) == (0, f"{tmp_path}/page.html")
    assert "<script>alert" not in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "60 images of 1x6x6" in page


def test_data_prepare_says_where_the_images_are(tmp_path, call):
    folder_of(PIXELS, tmp_path / "photos")
    code, out, _ = call("data", "prepare", f"{tmp_path}/photos")
    assert code == 0
    assert str(machine.cache_folder()) in out


def test_images_and_labels_come_as_keras_and_scikit_learn_give_them():
    x, y = PIXELS[:40], np.arange(40) % 4
    u, v = PIXELS[40:], np.arange(20) % 4
    for form in (
        ((x, y), (u, v)),
        ((x, y[:, None]), (u, v[:, None])),
        ((x, np.eye(4)[y]), (u, np.eye(4)[v])),
        (x, y, u, v),
        (x, u, y, v),
        [torch.from_numpy(each) for each in (x, u, y, v)],
    ):
        images = images_of(form)
        assert (len(images.train), len(images.test)) == (40, 20)
        assert np.array_equal(images.train_labels, y)
        assert np.array_equal(images.test_labels, v)


@pytest.mark.parametrize("targets", [torch.rand(60), torch.from_numpy(PIXELS), torch.rand(60, 2)])
def test_targets_that_are_no_labels_are_left_out_aloud(targets):
    images = images_of(torch.utils.data.TensorDataset(torch.from_numpy(PIXELS), targets))
    assert (len(images.test), images.test_labels) == (12, None)
    assert "what stands beside each image is no label" in images.notes[0]


def test_labels_that_are_each_there_once_do_not_guide_the_split():
    images = images_of(torch.utils.data.TensorDataset(torch.from_numpy(PIXELS), torch.arange(60)))
    assert len(images.test) == len(images.test_labels) == 12
    assert np.array_equal(np.asarray(images.test), PIXELS[images.test_labels])
    assert "12 of 60 images (1x6x6) test, whatever their labels" in images.notes[-1]


def test_what_python_is_told_to_say_python_takes():
    loader = torch.utils.data.DataLoader(Pairs())
    with pytest.raises(AezooError, match=r"give the data set itself, loader\.dataset"):
        images_of(loader)
    dim, square = np.linspace(-0.01, 1, 2160).reshape(60, 1, 6, 6), np.ones((60, 3, 5, 3), np.uint8)
    for form, setting in ((dim, "values='signed'"), (square, "layout='NHWC'"), (square[:, :, :, 0], "test=0.5")):
        with pytest.raises(AezooError, match=re.escape(f"in Python dataset=aezoo.Arranged({setting}).images(")):
            images_of(form)
    signed = aezoo.Arranged(values="signed").images({"images": dim})
    assert np.asarray(signed.train).min() == 126
    for wrong, told in (
        ({"values": "sign"}, "values is unit, signed, bytes or none"),
        ({"layout": "NWHC"}, "layout is NCHW, NHWC or none"),
        ({"image_shape": 28}, r"image_shape is \(channels, height, width\)"),
    ):  # fmt: skip
        with pytest.raises(AezooError, match=told):
            aezoo.Arranged(**wrong)


def test_an_architecture_that_cannot_take_rows_of_python_says_how_they_become_images(tmp_path):
    rows = np.random.default_rng(0).random((60, 256))
    with pytest.raises(AezooError, match=r"x\.reshape\(-1, channels, height, width\) makes images of rows"):
        aezoo.bench(["conv[]"], dataset=rows, steps=2, out=tmp_path / "run", observer=aezoo.Observer())
