"""What a network that somebody else wrote takes and returns, found by trying, and the line that adapts it."""

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.check.case import Case, evaluated
from aezoo.contract.adapted import Adapted, image_places, parts_of, what_came
from aezoo.contract.form import ImageForm
from aezoo.contract.network import Flat

GREY = 3
"""The channels that grey images are repeated to."""
MULTIPLE = 32
"""What sides are padded to a multiple of, as most networks that ask for such have it."""
SIDES = (64, 128, 224, 256)
"""What sides are padded to, one after the other, for a network that takes images of one size."""
LENT_CALL = "call=torch.enable_grad()(lambda module, x: module(x))"
"""How a network that differentiates in its forward pass is called where that is not ours to change."""
IMAGE = "IMAGE"
"""What stands for what nobody but the author can say: where in an output the image is."""
INSTEAD = "; bench in its place: "
READ = f"reconstruct=lambda out: {IMAGE}"
IMAGES = 2
"""On so many it is tried: one would not tell whether images come out apart."""
PATIENCE = 5.0
"""Seconds after which no further form is tried: with attention over pixels a large one takes minutes, and gigabytes."""
AGREEMENT = 0.1
"""How far, over what distinguishes images, a decoder on its encoder's latent may be from the network and still be it: a
network may round its latent, say."""
_HALVES = (("encode", "decode"), ("encoder", "decoder"))


def adaptation(module: nn.Module, case: Case) -> str:
    """Return the line that makes a network meet the contract's form, behind a semicolon; nothing where none is known.

    Where it fails as it is called, and returns no image in another form, that form and what it returns are told.

    Tried are a wrapper for flat images, more channels, padded sides, a dictionary in the place of a tensor, where in
    the output there is an image, how it is laid out there, and whether there is an encoder whose latent a decoder makes
    it of.
    """
    inner, _ = _inside(module)
    channels, height, width = case.images_NCHW.shape[1:]
    shape = (channels, height, width)
    x_BCHW, started = case.x_BCHW[:IMAGES], time.perf_counter()
    try:
        # Who has a fit is fitted by it, and not trained; Adapted leaves it alone.
        is_trained = not callable(getattr(inner, "fit", None))
        if is_trained and evaluated(Flat(inner, shape))(x_BCHW).shape == x_BCHW.shape:
            return f"; it works on flat images{INSTEAD}{in_build(case, module, 'Flat', 'image_shape')}"
    except Exception:  # noqa: BLE001 - it was worth a try
        pass

    def line(*arguments: str) -> str:
        given = ", ".join(argument for argument in arguments if argument)
        return f"{INSTEAD}{in_build(case, module, 'Adapted', given)}"

    ran = ""
    for form, arguments in _forms(shape):
        if time.perf_counter() - started > PATIENCE:
            break
        taken = form.taking(x_BCHW)
        image = f"image=aezoo.ImageForm(shape=image_shape, {arguments})" if arguments else ""
        for call, call_argument in _calls(inner, taken):
            output = _tried(call, taken)
            if not ran and _keeps_batch(output, taken):
                came = f", {IMAGE} being made of what it returns then, {what_came(output, in_full=True)}"
                ran = f"{line(READ, call_argument, image)}{came}" if call_argument or image else "as it is"
            read = _image_in(output, taken, shape)
            if read is not None:
                seen, reconstruct = read
                again = _image_in(_tried(call, taken, seeded=False), taken, shape)
                draws = again is None or not torch.equal(seen, again[0])
                halves = _halves(inner, taken, seen, shape, compares=not draws)
                return f"{line(call_argument, reconstruct, halves, image)}{_scalars(output)}"
        halves = _halves(inner, taken, None, shape)
        if halves:
            return line(halves, image)
    return "" if ran == "as it is" else ran


def _inside(module: nn.Module) -> tuple[nn.Module, str]:
    """Return the network that `Adapted` or `Flat` reads, and what leads to it: ``.module``; else the module itself."""
    if not isinstance(module, Adapted | Flat):
        return module, ""
    inner, path = _inside(module.module)
    return inner, f".module{path}"


def in_build(case: Case, module: nn.Module, taker: str, arguments: str) -> str:
    """Return a build function that reads what was built by `aezoo.Adapted` or `aezoo.Flat`, as it can be pasted.

    It stands below the code of the class or function that was given, which it calls as we did. It has another name than
    a function; for what has no name, such as a lambda, it is described.
    """
    build = case.variant.architecture.build
    given = getattr(build, "factory", build)
    name, is_class = getattr(given, "__name__", ""), isinstance(given, type)
    after = f"{_inside(module)[1]}, {arguments}".removesuffix(", ")
    if not name.isidentifier():
        return f"a function that returns aezoo.{taker}(module{after}), module being what it builds"
    hyperparameters = case.variant.architecture.hyperparameters
    taken = [each if how.required else f"{each}={how.default!r}" for each, how in hyperparameters.items()]
    passed = [f"{each}={each}" for each in hyperparameters]
    if given is build:
        passed = ["image_shape", *passed]
    elif "image_shape" in inspect.signature(given).parameters:
        passed = ["image_shape=image_shape", *passed]
    value = f"aezoo.{taker}({name}({', '.join(passed)}){after})"
    around = vars(sys.modules.get(given.__module__, object())) if is_class else getattr(given, "__globals__", {})
    missing = [package for package in ("aezoo", "torch") if f"{package}." in value and package not in around]
    imports = f"import {', '.join(missing)}; " if missing else ""
    called = "build" if is_class else f"{name}_adapted"
    return f"def {called}({', '.join(['image_shape', *(['*', *taken] if taken else [])])}): {imports}return {value}"


def _forms(shape: tuple[int, int, int]) -> Iterator[tuple[ImageForm, str]]:
    """Yield forms of images to try, each with its arguments, the plainest first."""
    widths: list[int | None] = [None, *([GREY] if shape[0] == 1 else [])]
    # A pixel more, for odd sides where a stride leaves none over.
    sides = (max(shape[1:]) + 1, *(side for side in SIDES if side >= max(shape[1:])))
    sizes = [{}, {"multiple": MULTIPLE}, *({"at_least": side} for side in sides)]
    for size in sizes:
        for count in widths:
            given: dict[str, Any] = ({"channels": count} if count else {}) | size
            yield ImageForm(shape=shape, **given), ", ".join(f"{name}={value}" for name, value in given.items())
    yield ImageForm(shape=shape, flat=True), "flat=True"


class _Asked(dict[str, Tensor]):
    """A dictionary that has a batch by whatever name it is asked for."""

    def __init__(self, batch: Tensor) -> None:
        super().__init__()
        self._batch = batch

    def __missing__(self, name: str) -> Tensor:
        return self.setdefault(name, self._batch)

    def get(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 - it has whatever it is asked for
        return self[name]


def _calls(module: nn.Module, taken: Tensor) -> Iterator[tuple[Callable[[Tensor], Any], str]]:
    """Yield ways to call a network on a batch, each with its argument: as it is, by keyword, or in a dictionary."""
    yield module, ""
    keyword = _only_keyword(module)
    if keyword is not None:
        yield lambda x: module(**{keyword: x}), f"call=lambda module, x: module({keyword}=x)"
    others = others_wanted(module)
    if others:
        # A label or a time, as most that a network is conditioned on.
        zeros = ", ".join(f"{name}=x.new_zeros(len(x), dtype=int)" for name in others)
        yield (
            lambda x: module(x, **{name: x.new_zeros(len(x), dtype=torch.int64) for name in others}),
            f"call=lambda module, x: module(x, {zeros})",
        )
    asked = _Asked(taken)
    _tried(lambda _: module(asked), taken)
    if len(asked) == 1:
        (name,) = asked
        yield lambda x: module({name: x}), f"call=lambda module, x: module({{{name!r}: x}})"


def others_wanted(module: nn.Module) -> list[str]:
    """Return the arguments that a network must be given beside a batch, which comes first."""
    wanted = _wanted(module)
    by_place = wanted and wanted[0].kind is not inspect.Parameter.KEYWORD_ONLY
    return [each.name for each in wanted[1:]] if by_place else []


def _only_keyword(module: nn.Module) -> str | None:
    """Return the one argument that a network must be given by name, where it takes nothing by place; or None."""
    wanted = _wanted(module)
    return wanted[0].name if len(wanted) == 1 and wanted[0].kind is inspect.Parameter.KEYWORD_ONLY else None


def _wanted(module: nn.Module) -> list[inspect.Parameter]:
    """Return the arguments that a network's forward must be given; none where nobody can tell."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a built-in whose signature nobody can read
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each for each in parameters if each.default is each.empty and each.kind not in variable]


def _tried(call: Callable[[Tensor], Any], batch: Tensor, *, seeded: bool = True, graded: bool = False) -> Any:
    """Return what a call comes to, without gradients unless it is `graded`; None where it fails."""
    try:
        return call(batch.clone()) if graded else evaluated(call, seeded=seeded)(batch.clone())
    except Exception:  # noqa: BLE001 - it was worth a try
        return None


def _image_in(output: Any, taken: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor, str] | None:
    """Return the reconstruction in a network's output, and the argument that reads it, none where it is the output."""
    if isinstance(output, Tensor):
        image, text = _laid_out(output, taken, shape)
        return None if image is None else (image, text and f"reconstruct=lambda out: out{text}")
    # What gives the images back beside their reconstructions has them at a place of their own.
    places = image_places(output, tuple(taken.shape))
    place = next((place for place in places if not torch.equal(_part(output, place), taken)), None)
    if place is not None:
        return _part(output, place), f"reconstruct={place!r}"
    for place, part in parts_of(output).items():
        image, text = _laid_out(part, taken, shape) if isinstance(part, Tensor) else (None, "")
        if image is not None and not torch.equal(image, taken):
            read = f"[{place!r}]" if isinstance(place, int) or isinstance(output, Mapping) else f".{place}"
            return image, f"reconstruct=lambda out: out{read}{text}"
    return None


def _keeps_batch(output: Any, taken: Tensor) -> bool:
    """Say whether something came back, a row of it for each image: sizes may fit by chance, of images in pieces."""
    tensors = [output] if isinstance(output, Tensor) else [*parts_of(output).values()]
    counts = {len(part) for part in tensors if isinstance(part, Tensor) and part.ndim > 1}
    return output is not None and counts <= {len(taken)}


def _laid_out(image: Tensor, taken: Tensor, shape: tuple[int, int, int]) -> tuple[Tensor | None, str]:
    """Return a batch as images, and the text that makes it such.

    Channels may stand last, dimensions be missing, and grey come out where it was repeated.
    """
    if image.shape == taken.shape:
        return image, ""
    if taken.ndim == 4:
        count, *form = taken.shape
        channels, height, width = form
        if image.shape == (count, height, width, channels):
            return image.movedim(-1, 1), ".movedim(-1, 1)"
        if (
            image.shape in ((count, channels * height * width), (count, height, width))
            and image.numel() == taken.numel()
        ):
            sizes = "*image_shape" if tuple(form) == shape else ", ".join(map(str, form))
            return image.reshape(taken.shape), f".reshape(-1, {sizes})"
        if shape[0] == 1 and image.shape == (count, 1, height, width):
            return image.expand(taken.shape), f".expand(-1, {channels}, -1, -1)"
    return None, ""


def _part(output: Any, place: str | int) -> Tensor:
    return parts_of(output)[place]  # type: ignore[no-any-return]  # a place of an image


def _halves(
    module: nn.Module, taken: Tensor, seen: Tensor | None, shape: tuple[int, int, int], *, compares: bool = True
) -> str:
    """Return the arguments of two halves that make a reconstruction of these images, or nothing.

    They must use every parameter, or come near the network's own reconstruction, where that is `seen`: methods that are
    called so may be parts of the halves. Where it draws random numbers nothing is told by comparing.
    """
    # Where its forward takes images in this form, its encoder may take them flat.
    for (encoder, decoder), flat in product(_HALVES, ("",) if seen is None else ("", ".flatten(1)")):
        if not callable(getattr(module, encoder, None)) or not callable(getattr(module, decoder, None)):
            continue
        encoded = _tried(getattr(module, encoder), taken.flatten(1) if flat else taken, graded=True)
        for latent, latent_text in _readings(encoded):
            decoded = _tried(getattr(module, decoder), latent, graded=True)
            for part, part_text in _readings(decoded):
                image, layout = _laid_out(part, taken, shape)
                if image is None:
                    continue
                image_text = part_text + layout
                if not compares or _uses_all(image, module) or (seen is not None and _agree(image, seen)):
                    is_named = not flat and not latent_text
                    encode = repr(encoder) if is_named else f"lambda module, x: module.{encoder}(x{flat}){latent_text}"
                    decode = f"lambda module, z: module.{decoder}(z){image_text}" if image_text else repr(decoder)
                    return f"encode={encode}, decode={decode}".replace("'", '"')
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
