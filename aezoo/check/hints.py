"""What a network that somebody else wrote takes and returns, found by trying, and the line that adapts it."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.check.case import Case, evaluated
from aezoo.contract.adapted import GREY, ImageForm, image_places
from aezoo.contract.network import Flat

MULTIPLE = 32
"""What sides are padded to a multiple of, as most networks that ask for such have it."""


def adaptation(module: nn.Module, case: Case) -> str:
    """Return the line that makes a network meet the contract's form, behind a semicolon; nothing where none is known.

    Tried are a wrapper for flat images, more channels, padded sides, a dictionary in the place of a tensor, and where
    in the output there is an image.
    """
    channels, height, width = case.images_NCHW.shape[1:]
    shape = (channels, height, width)
    try:
        if evaluated(Flat(module, shape))(case.x_BCHW).shape == case.x_BCHW.shape:
            return "; it works on flat images: return aezoo.Flat(module, image_shape)"
    except Exception:  # noqa: BLE001 - it was worth a try
        pass
    for form, arguments in _forms(channels, shape):
        for call, call_argument in _CALLS:
            place = _place(module, form, call, case.x_BCHW)
            if place is None:
                continue
            reconstruct = "" if place == "" else f"reconstruct={place!r}"
            image = f"image=aezoo.ImageForm(shape=image_shape, {arguments})" if arguments else ""
            given = ", ".join(part for part in (call_argument, reconstruct, image) if part)
            return f"; return aezoo.Adapted(module, {given})"
    return ""


def _forms(channels: int, shape: tuple[int, int, int]) -> Iterator[tuple[ImageForm, str]]:
    """Yield forms of images to try, each with its arguments, the plainest first."""
    widths: list[int | None] = [None, *([GREY] if channels == 1 else [])]
    for multiple in (1, MULTIPLE):
        for count in widths:
            arguments = ([f"channels={count}"] if count else []) + ([f"multiple={multiple}"] if multiple > 1 else [])
            yield ImageForm(shape=shape, channels=count, multiple=multiple), ", ".join(arguments)


_CALLS: tuple[tuple[Callable[[nn.Module, Tensor], Any], str], ...] = (
    (lambda module, x: module(x), ""),
    (lambda module, x: module({"data": x}), "call=lambda module, x: module({'data': x})"),
)


def _place(
    module: nn.Module, form: ImageForm, call: Callable[[nn.Module, Tensor], Any], x_BCHW: Tensor
) -> str | int | None:
    """Return where in its output a reconstruction is, an empty text where it is one; None where nothing is."""
    taken = form.taking(x_BCHW)
    try:
        output = evaluated(lambda batch: call(module, batch))(taken.clone())
    except Exception:  # noqa: BLE001 - it was worth a try
        return None
    if isinstance(output, Tensor):
        return "" if output.shape == taken.shape else None
    places = image_places(output, tuple(taken.shape))
    # What gives the images back beside their reconstructions has them at a place of their own.
    return next((place for place in places if not torch.equal(_part(output, place), taken)), None)


def _part(output: Any, place: str | int) -> Tensor:
    part = output[place] if isinstance(place, int) or isinstance(output, dict) else getattr(output, place)
    assert isinstance(part, Tensor)
    return part
