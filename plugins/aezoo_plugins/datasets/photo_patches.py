"""photo-patches: colour, 3x32x32, cut from five photographs that scikit-image and scikit-learn carry. No download.

| photograph | by | licence |
|---|---|---|
| astronaut.png | NASA | public domain |
| chelsea.png | Stefan van der Walt | CC0 |
| coffee.png | Rachel Michetti | CC0 |
| china.jpg | danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035 | CC BY 2.0 |
| flower.jpg | vultilion, https://www.flickr.com/photos/vultilion/6056698931 | CC BY 2.0 |

So say the docstrings of scikit-image's skimage.data, and scikit-learn's datasets/images/README.txt (which repeats the
first author for the last photograph, and links to its own). Who shows patches of these two names their authors; patches
are cut, and otherwise unchanged. Left out are the packages' other colour pictures: motorcycle and immunohistochemistry
come with no licence; rocket, retina and Hubble's deep field are mostly one plain ground.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import aezoo

Pixels = NDArray[np.uint8]
SIDE = 32
STRIPS = 2
"""Upright strips of a photograph that test; what is left of it, on the left, between them and on the right, trains."""
STRIP = 3 * SIDE
"""Columns of a strip."""
GAP = 16
"""Columns on either side of a strip that are in no patch: a whole block of a JPEG."""
FLAT = 6
"""Grey levels, of 255: a patch with a smaller standard deviation about its channels' means is sky or ground, and left
out."""
TRAIN_EACH = 800
TEST_EACH = 50


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """Where a photograph lies in an installed package, and the SHA-256 of its file."""

    distribution: str
    package: str
    path: str
    sha256: str


def of_skimage(name: str, sha256: str) -> Photograph:
    """Return a photograph of scikit-image."""
    return Photograph(distribution="scikit-image", package="skimage", path=f"data/{name}", sha256=sha256)


def of_sklearn(name: str, sha256: str) -> Photograph:
    """Return a photograph of scikit-learn."""
    return Photograph(distribution="scikit-learn", package="sklearn", path=f"datasets/images/{name}", sha256=sha256)


PHOTOGRAPHS = (
    of_skimage("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
    of_skimage("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
    of_skimage("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
    of_sklearn("china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),
    of_sklearn("flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"),
)


def load(data_dir: Path) -> aezoo.Images:  # noqa: ARG001 - nothing is kept in a folder
    """Cut as many patches of every photograph; labels are the photographs' numbers, in their order above."""
    train, test = zip(*(cut(read(photograph)) for photograph in PHOTOGRAPHS), strict=True)
    numbers = np.arange(len(PHOTOGRAPHS))
    return aezoo.Images(
        train=np.concatenate(train),
        test=np.concatenate(test),
        train_labels=numbers.repeat(TRAIN_EACH),
        test_labels=numbers.repeat(TEST_EACH),
    )


def read(photograph: Photograph) -> Pixels:
    """Read a photograph, (H, W, 3).

    Its package is not imported, which is slow. Three decoders of JPEG, libjpeg-turbo 3.0, 3.1 and 3.2, give the same
    pixels; one of another kind may differ by a grey level, and then the hash of the data does.

    Raises:
        AezooError: it is not there, or not what it was.
    """
    from PIL import Image

    spec = find_spec(photograph.package)
    folder = Path(next(iter(spec.submodule_search_locations or [""]))) if spec else Path()
    path = folder / photograph.path
    content = path.read_bytes() if spec and path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != photograph.sha256:
        what = "is not the photograph that it was" if content else "is not there"
        raise aezoo.AezooError(f"{path} {what}; install {photograph.distribution} anew, from its wheel")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def cut(pixels_HWC: Pixels) -> tuple[Pixels, Pixels]:
    """Cut a photograph into patches to train and to test, (800, 3, 32, 32) and (50, 3, 32, 32).

    No pixel is in both, and GAP columns lie between. In testing no two patches overlap, so that each counts as an image
    of its own. In training they do, and a pixel is in 5 to 14 of them, on average over a photograph: so what a recipe
    holds out of them for validation is less new to a network than the test patches are.
    """
    height, width, _ = pixels_HWC.shape
    between = (width - STRIPS * (STRIP + 2 * GAP)) // (STRIPS + 1)
    lefts = between + GAP + np.arange(STRIPS) * (between + STRIP + 2 * GAP)
    columns = (lefts[:, None] + np.arange(0, STRIP, SIDE)).ravel()
    rows = np.arange(0, height - SIDE + 1, SIDE)
    tests = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    trains = np.argwhere(np.ones((height - SIDE + 1, width - SIDE + 1), dtype=bool))
    for left in lefts:
        trains = trains[(trains[:, 1] + SIDE + GAP <= left) | (trains[:, 1] >= left + STRIP + GAP)]
    return _chosen(pixels_HWC, trains, TRAIN_EACH), _chosen(pixels_HWC, tests, TEST_EACH)


def _chosen(pixels_HWC: Pixels, places: NDArray[np.int64], count: int) -> Pixels:
    """Draw so many patches, (count, 3, 32, 32), at places (rows, columns), and pass over flat ones."""
    patches: list[Pixels] = []
    # RandomState's streams are frozen by NumPy's policy (NEP 19): the same places on every machine, for ever.
    for row, column in np.random.RandomState(0).permutation(places):
        patch = pixels_HWC[row : row + SIDE, column : column + SIDE]
        if not _is_flat(patch):
            patches.append(patch.transpose(2, 0, 1))
        if len(patches) == count:
            break
    return np.stack(patches)


def _is_flat(patch_HWC: Pixels) -> bool:
    """Say whether the mean over channels of a patch's variance is below FLAT squared, in whole numbers."""
    values = patch_HWC.reshape(-1, patch_HWC.shape[2]).astype(np.int64)
    count, channels = values.shape
    variances = count * np.square(values).sum(0) - np.square(values.sum(0))
    return bool(variances.sum() < channels * (count * FLAT) ** 2)


@aezoo.hookimpl
def aezoo_datasets() -> Iterator[aezoo.Dataset]:
    """Contribute `photo-patches`."""
    yield aezoo.Dataset(
        name="photo-patches",
        load=load,
        bundled=True,
        summary="Patches of five photographs, 3x32x32, 4,000 to train, 250 from strips apart to test; no download",
        reference="NASA; S. van der Walt, R. Michetti (CC0); danielbuechele, vultilion (CC BY 2.0); by scikit-image, "
        "scikit-learn",
    )
