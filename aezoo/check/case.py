"""What a check is, and the case that it examines: a variant, how it is built, what it is before any training."""

import inspect
import math
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.contract.adapted import what_came
from aezoo.contract.architecture import Variant
from aezoo.contract.halves import guessed_halves, halves, is_declared
from aezoo.contract.network import (
    TrainingOutput,
    bits_of,
    discrete,
    is_closed_form,
    own_module,
    to_float,
    training_forward,
)
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ContractError
from aezoo.machine import unwritten_memory_filled
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.engine import Trainer, arithmetic

BATCH = 8
"""Images of a case: enough to tell batches apart."""
RECIPE = Recipe(name="check", steps=1000, batch_size=BATCH)
DISTURBANCE = 0.2
"""The noise that is added to a tensor of weights, over its own standard deviation. To one that is constant it is added
as it stands: what starts at zero must move too."""
HALVINGS = 4
"""How often the disturbance of a network that it takes to NaN or infinity is halved."""


class SkipCheck(Exception):  # noqa: N818 - no error: there is nothing to check
    """A check that has nothing to check here, and why."""


class Case:
    """A variant and a few images, uint8, on the device; every module that it gives has the same weights."""

    def __init__(self, variant: Variant, images_NCHW: Tensor, recipe: Recipe = RECIPE) -> None:
        self.variant = variant
        self.images_NCHW = images_NCHW
        self.recipe = recipe
        self._x_BCHW = to_float(images_NCHW[:BATCH])

    @property
    def x_BCHW(self) -> Tensor:  # noqa: N802
        """The images, float32: a copy, so that what one check does to it is no other's business."""
        return self._x_BCHW.clone()

    @cached_property
    def _state(self) -> dict[str, Tensor]:
        return build(self.variant, self.images_NCHW, seed=0).state_dict()

    def module(self, *, disturbed: bool = False) -> nn.Module:
        """Build the network anew, in evaluation mode; where it is `disturbed`, with other weights than it starts from.

        Else what starts at zero, and opens as it trains, would not show.
        """
        state = self._state
        module = build(self.variant, self.images_NCHW, seed=0)
        module.load_state_dict(state)
        if not disturbed:
            return module.eval()
        for halvings in range(HALVINGS):
            module.load_state_dict(state)
            disturb(module, DISTURBANCE / 2**halvings)
            if bool(torch.isfinite(evaluated(module.eval())(self.x_BCHW)).all()):
                break
        return module

    def halves(self, module: nn.Module) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Return the module's encode and decode, without gradients; skip where there are none."""
        pair = halves(module, self.x_BCHW)
        if pair is None:
            raise SkipCheck(no_halves(module))
        encode, after = evaluated(pair[0]), evaluated(pair[1], seeded=False)
        if not isinstance(encode(self.x_BCHW), Tensor):
            raise SkipCheck("its latent is no tensor")
        random = torch.get_rng_state()

        def decode(latent: Tensor) -> Any:
            # It draws on where the encoder stopped, as in a forward pass.
            torch.set_rng_state(random)
            return after(latent)

        return encode, decode

    @cached_property
    def draws(self) -> bool:
        """Whether evaluation draws random numbers, and comes out otherwise for it."""
        evaluate = evaluated(self.module(), seeded=False)
        first, random = evaluate(self.x_BCHW), torch.get_rng_state()
        second = evaluate(self.x_BCHW)
        return not torch.equal(first, second) and not torch.equal(random, torch.get_rng_state())


CheckFunction = Callable[[Case], str | None]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of the suite.

    Args:
        name: What an author's `exceptions` call it.
        summary: What it holds an architecture to, in a line.
        function: Takes a case; returns what is worth knowing.
        needs: The checks without which this one would tell their faults again.
        quick: Whether the preflight of a bench runs it too.
        informative: Whether it says what is so, and never fails.
    """

    name: str
    summary: str
    function: CheckFunction
    needs: tuple[str, ...]
    quick: bool
    informative: bool


CHECKS: list[Check] = []
"""The suite, in the order in which it runs: `check` adds to it."""


def check(
    summary: str, *, needs: tuple[str, ...] = (), quick: bool = True, informative: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Make a function ``check_NAME`` the check NAME of the suite; the arguments are those of `Check`."""

    def add(function: CheckFunction) -> CheckFunction:
        name = function.__name__.removeprefix("check_")
        CHECKS.append(
            Check(name=name, summary=summary, function=function, needs=needs, quick=quick, informative=informative)
        )
        return function

    return add


def training_output(module: nn.Module, x_BCHW: Tensor) -> TrainingOutput:
    """Return what a pass as in training gives; skip where there is no training."""
    if is_closed_form(module):
        raise SkipCheck("it has a fit, and is not trained")
    seed_stream(0, Stream.TRAINING_NOISE)
    return training_forward(module.train(), x_BCHW)


def close(batch: Tensor, reference: Tensor) -> bool:
    """Say whether two batches are equal but for sums in another order.

    Held against how much the second one's images differ among themselves: an untrained network's hardly do.
    """
    if batch.shape != reference.shape:
        return False
    rounding = 1e-5 * max(1.0, float(reference.abs().max()))
    return float((batch - reference).abs().max()) <= rounding + 0.02 * float(
        (reference - reference.roll(1, 0)).abs().max()
    )


def difference(batch: Tensor, reference: Tensor) -> str:
    """Return by how much two batches differ, at most."""
    return f"{float((batch - reference).abs().max()):.2g}" if batch.shape == reference.shape else "their shape"


def disturb(module: nn.Module, share: float) -> None:
    """Add noise to every parameter, `share` of its standard deviation, or where it is constant of that size itself."""
    seed_stream(0, Stream.TRAINING_NOISE)
    with torch.no_grad():
        for parameter in module.parameters():
            size = float(parameter.std(correction=0)) if parameter.numel() else 0.0
            parameter.add_(share * (size or 1.0) * torch.randn_like(parameter))


def objective(module: nn.Module) -> str:
    """Return what the module says is optimised.

    Raises:
        ContractError: it is not a line of text.
    """
    text = getattr(module, "objective", "mse")
    if not isinstance(text, str):
        return "mse"
    if not text.strip():
        raise ContractError(f"objective must be a line of text such as 'mse + kl', but is {text!r}")
    return text if text.startswith("mse") or is_declared(module) else "mse"


def latent_shape(module: nn.Module, x_BCHW: Tensor) -> tuple[int, ...] | None:
    """Return the shape of one image's latent, or None where the module has no two halves.

    Raises:
        ContractError: the encoder returned something else than a tensor (B, ...).
    """
    pair = halves(module, x_BCHW)
    if pair is None:
        return None
    latent = evaluated(pair[0])(x_BCHW)
    if not isinstance(latent, Tensor) or latent.ndim < 2 or len(latent) != len(x_BCHW):
        codes = isinstance(latent, Tensor) and not latent.is_floating_point()
        hint = (
            "; codes are told by methods codes and from_codes and by codebook_size, and encode returns what from_codes "
            "makes of them"
        ) * codes
        raise ContractError(
            f"the encoder must return a latent of shape ({len(x_BCHW)}, ...), or a tuple or a dictionary of such, got "
            f"{what_came(latent, in_full=True)}{hint}{look_at(module, 'encode', 'encoder')}"
        )
    return tuple(latent.shape[1:])


def latent_bits(module: nn.Module, x_BCHW: Tensor) -> float | None:
    """Return the bits that the codes of an image take, count × log2 K, or None where the latent is not discrete.

    Of a codec, whose files are of no one length, it is their mean.

    Raises:
        ContractError: the codes are not int64 (B, count), from 0 to K - 1; or bits are no numbers, one for each image.
    """
    own = bits_of(module)
    if own is not None:
        bits = evaluated(own)(x_BCHW)
        if not isinstance(bits, Tensor) or bits.shape != (len(x_BCHW),) or not bool((bits >= 0).all()):
            got = f"{tuple(bits.shape)}" if isinstance(bits, Tensor) else type(bits).__name__
            raise ContractError(
                f"bits must return a number for each of {len(x_BCHW)} images, not below 0, but returned {got}"
                + look_at(module, "bits")
            )
        return float(bits.double().mean())
    codebook = discrete(module)
    if codebook is None:
        return None
    codes, where = evaluated(codebook.codes)(x_BCHW), look_at(module, "codes")
    if not isinstance(codes, Tensor) or codes.ndim != 2 or len(codes) != len(x_BCHW) or codes.dtype != torch.int64:
        got = f"{codes.dtype} {tuple(codes.shape)}" if isinstance(codes, Tensor) else type(codes).__name__
        raise ContractError(f"codes must return int64 of shape ({len(x_BCHW)}, count), but returned {got}{where}")
    sizes = codebook.sizes(codes.shape[1])
    for place, size in enumerate(sizes):
        low, high = (int(code) for code in codes[:, place].aminmax())
        if low < 0 or high >= size:
            raise ContractError(
                f"codebook_size={codebook.codebook_size}, so that codes are 0 to {size - 1}, but they go from {low} to "
                f"{high}{where}"
            )
    return sum(map(math.log2, sizes))


def is_deterministic(variant: Variant, images_NCHW: Tensor, recipe: Recipe) -> bool:
    """Build the variant and take a step twice, from one seed, and say whether both came to the same, bit by bit.

    A closed form is built twice, not fitted. Memory that was not written holds what was there the first time, and NaN
    the second: a network that reads it comes to two things.
    """
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])
    outcomes = []
    for filled in (False, True):
        with unwritten_memory_filled(filled):
            module = build(variant, images_NCHW, seed=0)
            seed_stream(0, Stream.TRAINING_NOISE)
            if not is_closed_form(module):
                Trainer(module, recipe).step(x_BCHW.clone())
            seed_stream(0, Stream.EVALUATION)
            with torch.no_grad(), arithmetic(recipe.precision, x_BCHW.device.type):
                outcomes.append([module.eval()(x_BCHW[:2].clone()), *module.state_dict().values()])
    # Compared as bytes: a NaN that comes twice is the same.
    return all(torch.equal(_bytes(first), _bytes(second)) for first, second in zip(*outcomes, strict=True))


def starts_the_same(variant: Variant, images_NCHW: Tensor) -> bool:
    """Say whether two seeds come to the same weights before training, as where a seed is set in the constructor."""
    first, second = (build(variant, images_NCHW, seed) for seed in (0, 1))
    if is_closed_form(first):
        return False
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    return bool(pairs) and all(torch.equal(_bytes(first), _bytes(second)) for first, second in pairs)


def no_halves(module: nn.Module) -> str:
    """Return why a network has no halves, and how they are declared."""
    if guessed_halves(module) is None:
        return "it has no encoder and decoder, so that its table row has no latent size"
    return (
        "decoder(encoder(x)) is not forward(x), so that its table row has no latent size: declare its halves by "
        "methods encode and decode, by aezoo.Autoencoder, or as encode and decode of aezoo.Adapted"
    )


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def evaluated(call: Callable[[Tensor], Any], *, seeded: bool = True) -> Callable[[Tensor], Any]:
    """Return a network or a half that is called without gradients, from one random state where it is `seeded`."""

    def evaluate(batch: Tensor) -> Any:
        if seeded:
            seed_stream(0, Stream.EVALUATION)
        with torch.no_grad():
            output = call(batch)
        # A network that differentiates in its forward pass may leave its gradients on.
        return output.detach() if isinstance(output, Tensor) and output.requires_grad else output

    return evaluate


def raised_at(error: BaseException) -> str:
    """Return where a network raised an error: the last line that is not torch's or ours; nothing of our own errors."""
    if isinstance(error, AezooError):
        return ""
    folders = Path(inspect.getfile(torch)).parent, Path(__file__).parents[1]
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(tuple(f"{folder}{os.sep}" for folder in folders))
    ]
    if not frames:
        return ""
    code, line = frames[-1]
    return f"; raised in {code.co_qualname}, {Path(code.co_filename).name}:{line}"


def look_at(module: nn.Module, *names: str) -> str:
    """Return where to look: the first of these methods that the module's own class, not torch's, defines."""
    inner = own_module(module)
    for owner in (inner, *inner.children()):
        for name in names:
            method = getattr(type(owner), name, None)
            if inspect.isfunction(method) and not (method.__module__ or "").startswith(("torch.", "aezoo.")):
                path = Path(inspect.getfile(method)).name
                return f"; look at {method.__qualname__}, {path}:{method.__code__.co_firstlineno}"
    return f"; look at {type(inner).__qualname__}"
