"""What is kept of a trained network to be looked at: reconstructions, latents, and how its codes are used.

Which test images it is of is chosen once, by PCA, from the data alone. Shapes: images_NCHW is uint8, 0 to 255.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aezoo.contract.halves import halves, latent_parts
from aezoo.contract.network import Half, discrete, is_sparse, to_float
from aezoo.contract.pixels import Pixels
from aezoo.contract.recipe import Precision
from aezoo.contract.shared import some
from aezoo.errors import AezooError, reason_of
from aezoo.train.engine import arithmetic
from aezoo.train.score import EVALUATION_BATCH

IMAGES = 16
"""Test images whose reconstructions are kept."""
LABELS = 10
"""Of so many labels, at the most, there is an image each."""
LATENTS = 500
"""Test images whose latents are kept."""
FRAMES = 8
"""Images from one of a pair to the other, both among them."""
COMPONENTS = 16
"""Of the PCA that says how hard an image is."""
FITTED = 2000
"""Training images, evenly spaced, to which that PCA is fitted, at the most."""
FEWEST_FITTED = 64
NUMBERS = 2**25
"""Pixels of all images to which it is fitted, at the most: of larger images there are fewer."""


HALF_A_BYTE = 0.5 / 255


def spaced(count: int, total: int) -> list[int]:
    """Return so many places of a sequence, evenly spaced; all of them where there are no more."""
    return list(range(total)) if total <= count else [place * total // count for place in range(count)]


def choose(
    train_NCHW: Pixels, test_NCHW: Pixels, test_labels: NDArray[np.integer[Any]] | None
) -> tuple[list[tuple[int, str]], tuple[int, int]]:
    """Choose the test images that every trial shows, and the two between which it interpolates.

    By how well a PCA of 16 components, fitted to at most 2,000 training images (fewer, where they are large),
    reconstructs each. Of each label (the
    ten most frequent) the image in the middle; the rest are the easiest, the most typical and the hardest, a third
    each. The pair are the first two of those that stand for a label; without labels, the easiest and the hardest.

    Returns:
        Places in the test set, each with the reason; and the pair of places.
    """
    errors = _pca_errors(train_NCHW, test_NCHW)
    by_error = [int(place) for place in np.argsort(errors, kind="stable")]
    chosen: dict[int, str] = {}
    if test_labels is not None:
        labels, counts = np.unique(test_labels, return_counts=True)
        for label in sorted(labels[np.argsort(-counts, kind="stable")][:LABELS]):
            own = [place for place in by_error if test_labels[place] == label]
            chosen[own[len(own) // 2]] = f"label {label}"
    middle = len(by_error) // 2
    by_typicality = sorted(by_error, key=lambda place: (abs(errors[place] - errors[by_error[middle]]), place))
    left = min(IMAGES, len(by_error)) - len(chosen)
    thirds = {"easiest for PCA": by_error, "typical for PCA": by_typicality, "hardest for PCA": by_error[::-1]}
    for number, (reason, order) in enumerate(thirds.items()):
        count = (left + number) // len(thirds)
        for place in [place for place in order if place not in chosen][:count]:
            chosen[place] = reason
    labelled = [place for place, reason in chosen.items() if reason.startswith("label")]
    pair = (labelled[0], labelled[1]) if len(labelled) > 1 else (by_error[0], by_error[-1])
    return list(chosen.items()), pair


def _pca_errors(train_NCHW: Pixels, test_NCHW: Pixels) -> NDArray[np.float64]:
    """Return the mean squared error of each test image as a small PCA reconstructs it, (M,)."""
    pixels = math.prod(train_NCHW.shape[1:])
    fitted = train_NCHW[spaced(min(FITTED, max(FEWEST_FITTED, NUMBERS // pixels)), len(train_NCHW))]
    centred = fitted.reshape(len(fitted), -1).astype(np.float64)
    centred /= 255.0
    mean = centred.mean(axis=0)
    centred -= mean
    axes = _axes(centred)
    errors = []
    for start in range(0, len(test_NCHW), EVALUATION_BATCH):
        part = test_NCHW[start : start + EVALUATION_BATCH]
        left = part.reshape(len(part), -1) / 255.0 - mean
        errors.append(np.square(left - left @ axes.T @ axes).mean(axis=1))
    return np.concatenate(errors)


def _axes(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first principal axes of images, a row each, by the smaller of their two matrices of products."""
    from scipy.linalg import eigh

    by_images = len(centred) < centred.shape[1]
    products = centred @ centred.T if by_images else centred.T @ centred
    last = len(products) - 1
    values, vectors = eigh(products, subset_by_index=[max(0, last - COMPONENTS + 1), last])
    known = values > 1e-12 * max(float(values[-1]), 1e-300)
    vectors = vectors[:, known]
    return np.asarray((vectors / np.sqrt(values[known])).T @ centred if by_images else vectors.T)


def samples_of(
    module: nn.Module,
    test_NCHW: Tensor,
    *,
    images: Sequence[int],
    pair: tuple[int, int],
    latents: Sequence[int],
    precision: Precision,
    device: torch.device | str | None = None,
) -> dict[str, Any]:
    """Return what is kept of a trained network to be looked at, by the names of `aezoo.run.samples.Samples`.

    What cannot be had is told in `missing`, by its name: a trial does not fail for it. Evaluation mode, clean input.
    """
    module.eval()
    where = torch.device(device or test_NCHW.device)
    kept: dict[str, Any] = {"missing": {}}
    shown, encoded, ends, first = (
        some(test_NCHW, places).to(where) for places in (images, latents, pair, range(min(2, len(test_NCHW))))
    )
    with torch.no_grad(), arithmetic(precision, where.type):
        reconstructions = module(to_float(shown)).float().cpu()
        kept["reconstructions"] = _to_bytes(reconstructions)
        # By more than what is lost in rounding to a byte.
        outside = (reconstructions < -HALF_A_BYTE) | (reconstructions > 1 + HALF_A_BYTE)
        kept["clipped"] = float(outside.double().mean())
        pair_of_halves = halves(module, to_float(first))
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "latents": lambda: _latents(pair_of_halves, encoded),
            "interpolation": lambda: _interpolation(module, pair_of_halves, ends),
            "activity": lambda: _activity(module, pair_of_halves, encoded),
            "usage": lambda: _usage(module, encoded),
        }
        for name, part in parts.items():
            try:
                kept |= part()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
                kept["missing"][name] = reason_of(error)
    return kept


class _NoLatentError(AezooError):
    """There is nothing of this kind to be kept, and why."""


def _to_bytes(images_NCHW: Tensor) -> NDArray[np.uint8]:
    pixels = images_NCHW.detach().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.asarray(pixels.cpu().numpy())


def _encoded(encode: Half, images_NCHW: Tensor) -> Tensor:
    return torch.cat(
        [encode(to_float(pixels)).flatten(1).cpu().double() for pixels in torch.split(images_NCHW, EVALUATION_BATCH)]
    )


def _latents(pair: tuple[Half, Half] | None, images_NCHW: Tensor) -> dict[str, Any]:
    """Return up to two numbers of each image: the latent's own, or its first two principal components."""
    if pair is None:
        raise _NoLatentError("it has no two halves, and so no latent")
    z_NL = _encoded(pair[0], images_NCHW)
    if not torch.isfinite(z_NL).all():
        raise _NoLatentError("its latents are not finite")
    explained = None
    if z_NL.shape[1] > 2:
        centred = z_NL - z_NL.mean(dim=0)
        # Of the (N, N) matrix of products: a latent may have more numbers than there are images.
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        values = values.flip(0).clamp(min=0)
        z_NL = vectors.flip(1)[:, :2] * values[:2].sqrt()
        # A component's sign is chance; that of its largest number is plus.
        z_NL = z_NL * torch.sign(z_NL.gather(0, z_NL.abs().argmax(dim=0, keepdim=True)))
        total = float(values.sum())
        explained = tuple(float(value) / total if total else 0.0 for value in values[:2])
        if len(explained) < 2:  # there is one image
            z_NL, explained = torch.cat([z_NL, torch.zeros_like(z_NL)], dim=1), (*explained, 0.0)
    scale = float(z_NL.abs().max()) or 1.0
    return {"latents": (z_NL / scale).to(torch.float16).numpy(), "scale": scale, "explained": explained}


def _interpolation(module: nn.Module, pair: tuple[Half, Half] | None, images_NCHW: Tensor) -> dict[str, Any]:
    """Return what lies between two images: their latents, mixed evenly in steps, decoded."""
    if pair is None:
        raise _NoLatentError("it has no two halves, and so no latent")
    encode, decode = pair
    z_2L = encode(to_float(images_NCHW))
    parts = latent_parts(module, to_float(images_NCHW))
    if not z_2L.is_floating_point() or (parts is not None and parts.whole):
        raise _NoLatentError("its latent is of whole numbers: nothing lies between two of them")
    shares = torch.linspace(0, 1, FRAMES, device=z_2L.device).reshape(-1, *[1] * (z_2L.ndim - 1))
    frames = decode(torch.lerp(z_2L[:1].float(), z_2L[1:].float(), shares).to(z_2L.dtype)).float()
    if not torch.isfinite(frames).all():
        raise _NoLatentError("what its decoder makes of them is not finite")
    return {"interpolation": _to_bytes(frames)}


def _activity(module: nn.Module, pair: tuple[Half, Half] | None, images_NCHW: Tensor) -> dict[str, Any]:
    """Return in what share of images each unit of a sparse latent is not 0; nothing of another latent."""
    if pair is None or not is_sparse(module):
        return {}
    return {"activity": (_encoded(pair[0], images_NCHW) != 0).double().mean(dim=0).to(torch.float16).numpy()}


def _usage(module: nn.Module, images_NCHW: Tensor) -> dict[str, Any]:
    """Return how often each code of a discrete latent is used; nothing of another latent."""
    codebook = discrete(module)
    if codebook is None:
        return {}
    codes = [codebook.codes(to_float(pixels)).flatten().cpu() for pixels in torch.split(images_NCHW, EVALUATION_BATCH)]
    sizes = codebook.codebook_size
    most = sizes if isinstance(sizes, int) else max(sizes)
    return {"usage": torch.bincount(torch.cat(codes), minlength=most).numpy()}
