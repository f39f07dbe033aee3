"""What a network that somebody else wrote takes and returns, found by trying, and the line that adapts it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.check.case import Case, evaluated
from aezoo.contract.adapted import Adapted, image_places, parts_of
from aezoo.contract.form import ImageForm
from aezoo.contract.network import Flat

GREY = 3
"""The channels that grey images are repeated to."""
MULTIPLE = 32
"""What sides are padded to a multiple of, as most networks that ask for such have it."""
SIDES = (64, 128, 224, 256)
"""What sides are padded to, one after the other, for a network that takes images of one size."""
AGREEMENT = 0.1
"""How far, over what distinguishes images, a decoder on its encoder's latent may be from the network and still be it: a
network may round its latent, say."""
_HALVES = (("encode", "decode"), ("encoder", "decoder"))


def adaptation(module: nn.Module, case: Case) -> str:
    """Return the line that makes a network meet the contract's form, behind a semicolon; nothing where none is known.

    Tried are a wrapper for flat images, more channels, padded sides, a dictionary in the place of a tensor, where in
    the output there is an image, and whether there is an encoder whose latent a decoder makes it of.
    """
    module = module.module if isinstance(module, Adapted) else module
    channels, height, width = case.images_NCHW.shape[1:]
    shape = (channels, height, width)
    try:
        # Who has a fit is fitted by it, and not trained; Adapted leaves it alone.
        is_trained = not callable(getattr(module, "fit", None))
        if is_trained and evaluated(Flat(module, shape))(case.x_BCHW).shape == case.x_BCHW.shape:
            return f"; it works on flat images: {_in_build(case, 'aezoo.Flat(', ', image_shape)')}"
    except Exception:  # noqa: BLE001 - it was worth a try
        pass
    for form, arguments in _forms(shape):
        taken = form.taking(case.x_BCHW)
        image = f"image=aezoo.ImageForm(shape=image_shape, {arguments})" if arguments else ""
        for call, call_argument in _CALLS:
            output = _tried(partial(call, module), taken)
            place = _place(output, taken)
            if place is not None:
                seen = output if place == "" else _part(output, place)
                again = _tried(partial(call, module), taken, seeded=False)
                draws = again is None or not torch.equal(seen, again if place == "" else _part(again, place))
                halves = _halves(module, taken, seen, compares=not draws)
                reconstruct = "" if place == "" else f"reconstruct={place!r}"
                given = ", ".join(part for part in (call_argument, reconstruct, halves, image) if part)
                return f"; {_in_build(case, 'aezoo.Adapted(', f', {given})')}{_scalars(output)}"
        halves = _halves(module, taken, None)
        if halves:
            given = ", ".join(part for part in (halves, image) if part)
            return f"; {_in_build(case, 'aezoo.Adapted(', f', {given})')}"
    return ""


def _in_build(case: Case, before: str, after: str) -> str:
    """Return the line as it stands in a build function; with that where a class was given in its place."""
    factory = getattr(case.variant.architecture.build, "factory", None)
    if isinstance(factory, type):
        return f"def build(image_shape): return {before}{factory.__name__}(...){after}"
    return f"return {before}module{after}"


def _forms(shape: tuple[int, int, int]) -> Iterator[tuple[ImageForm, str]]:
    """Yield forms of images to try, each with its arguments, the plainest first."""
    widths: list[int | None] = [None, *([GREY] if shape[0] == 1 else [])]
    sizes = [{}, {"multiple": MULTIPLE}, *({"at_least": side} for side in SIDES if side >= max(shape[1:]))]
    for size in sizes:
        for count in widths:
            given: dict[str, Any] = ({"channels": count} if count else {}) | size
            yield ImageForm(shape=shape, **given), ", ".join(f"{name}={value}" for name, value in given.items())
    yield ImageForm(shape=shape, flat=True), "flat=True"


_CALLS: tuple[tuple[Callable[[nn.Module, Tensor], Any], str], ...] = (
    (lambda module, x: module(x), ""),
    (lambda module, x: module({"data": x}), "call=lambda module, x: module({'data': x})"),
)


def _tried(call: Callable[[Tensor], Any], batch: Tensor, *, seeded: bool = True, graded: bool = False) -> Any:
    """Return what a call comes to, without gradients unless it is `graded`; None where it fails."""
    try:
        return call(batch.clone()) if graded else evaluated(call, seeded=seeded)(batch.clone())
    except Exception:  # noqa: BLE001 - it was worth a try
        return None


def _place(output: Any, taken: Tensor) -> str | int | None:
    """Return where in its output a reconstruction is, an empty text where it is one; None where nothing is."""
    if isinstance(output, Tensor):
        return "" if output.shape == taken.shape else None
    # What gives the images back beside their reconstructions has them at a place of their own.
    places = image_places(output, tuple(taken.shape))
    return next((place for place in places if not torch.equal(_part(output, place), taken)), None)


def _part(output: Any, place: str | int) -> Tensor:
    part = output[place] if isinstance(place, int) or isinstance(output, Mapping) else getattr(output, place)
    assert isinstance(part, Tensor)
    return part


def _halves(module: nn.Module, taken: Tensor, seen: Tensor | None, *, compares: bool = True) -> str:
    """Return the arguments of two halves that make a reconstruction of these images, or nothing.

    They must use every parameter, or come near the network's own reconstruction, where that is `seen`: methods that are
    called so may be parts of the halves. Where it draws random numbers nothing is told by comparing.
    """
    for encoder, decoder in _HALVES:
        if not callable(getattr(module, encoder, None)) or not callable(getattr(module, decoder, None)):
            continue
        encoded = _tried(getattr(module, encoder), taken, graded=True)
        for latent, latent_text in _readings(encoded):
            decoded = _tried(getattr(module, decoder), latent, graded=True)
            for image, image_text in _readings(decoded):
                meant = not compares or _uses_all(image, module) or (seen is not None and _agree(image, seen))
                if image.shape == taken.shape and meant:
                    encode = f"lambda module, x: module.{encoder}(x){latent_text}" if latent_text else f"{encoder!r}"
                    decode = f"lambda module, z: module.{decoder}(z){image_text}" if image_text else f"{decoder!r}"
                    encode, decode = encode.replace("'", '"'), decode.replace("'", '"')
                    return f"encode={encode}, decode={decode}"
    return ""


def _readings(output: Any) -> Iterator[tuple[Tensor, str]]:
    """Yield what a half may mean by its output, each with the text that reads it: ``.latents``, ``[0]``."""
    if isinstance(output, Tensor):
        yield output, ""
        return
    for name, part in parts_of(output).items():
        text = f"[{name}]" if isinstance(name, int) else f".{name}"
        if isinstance(part, Tensor) and part.ndim > 1:
            yield part, text
        elif callable(getattr(part, "mode", None)):
            mode = _tried(partial(_mode_of, part), torch.empty(0))
            if isinstance(mode, Tensor):
                yield mode, f"{text}.mode()"


def _mode_of(distribution: Any, _: Tensor) -> Any:
    return distribution.mode()


def _agree(image: Tensor, seen: Tensor) -> bool:
    apart = (seen - seen.roll(1, 0)).abs().mean()
    return bool((image - seen).abs().mean() <= AGREEMENT * apart)


def _uses_all(image: Tensor, module: nn.Module) -> bool:
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not image.requires_grad:
        return False
    gradients = torch.autograd.grad(image.sum(), parameters, retain_graph=True, allow_unused=True)
    return all(gradient is not None for gradient in gradients)


def _scalars(output: Any) -> str:
    """Say which numbers a network returns beside a reconstruction: a penalty may be one of them."""
    names = [
        repr(name)
        for name, part in parts_of(output).items()
        if isinstance(part, Tensor) and part.numel() == 1 and part.is_floating_point()
    ]
    if not names:
        return ""
    return f" (it also returns the {'scalars' if len(names) > 1 else 'scalar'} {', '.join(names)}: see penalty and per)"
