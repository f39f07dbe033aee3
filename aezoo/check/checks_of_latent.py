"""The checks of what passes through a network's latent: its size, its halves, its bottleneck, its codes."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from aezoo.check.case import (
    Case,
    SkipCheck,
    check,
    close,
    difference,
    evaluated,
    latent_bits,
    latent_shape,
    look_at,
    no_halves,
)
from aezoo.check.hints import INSTEAD, in_build
from aezoo.contract.adapted import what_came
from aezoo.contract.halves import declared_halves, guessed_halves, halves, is_declared, latent_parts
from aezoo.contract.latent import Parts, named_parts
from aezoo.contract.network import discrete, own_module
from aezoo.errors import ConcernError, ContractError, reason_of
from aezoo.machine import is_out_of_memory

_WEIGHTS = {False: "", True: " with weights a little off those that it starts from"}


@check("the latent has the declared size")
def check_latent(case: Case) -> str:
    """The latent is a tensor (B, ...) of the size that is declared."""
    module = case.module()
    shape = latent_shape(module, case.x_BCHW)
    if shape is None:
        raise SkipCheck(no_halves(module))
    size, where = math.prod(shape), look_at(module, "encode", "encoder")
    declared = getattr(own_module(module), "latent_size", None)
    if type(declared) is int and declared != size and is_declared(module):
        raise ContractError(f"latent_size={declared}, but the encoder's latent has {size} numbers an image{where}")
    for name in ("latent_dim", "latent_size"):
        declared_size = case.variant.hyperparameters.get(name)
        # A latent with a shape may be called after its channels, or its tokens' width.
        if isinstance(declared_size, int) and declared_size != size and (len(shape) == 1 or declared_size not in shape):
            raise ContractError(f"{name}={declared_size}, but the encoder's latent has {size} numbers an image{where}")
    return f"{'x'.join(map(str, shape))}: {size} numbers an image"


@check("decode(encode(x)) is forward(x)", needs=("input", "evaluation"))
def check_halves(case: Case) -> None:
    """In evaluation, forward is the decoder on the encoder's latent."""
    for disturbed in (False, True):
        _check_guess(case.module(disturbed=disturbed), case, _WEIGHTS[disturbed])
    concern = None
    for disturbed in (False, True):
        module = case.module(disturbed=disturbed)
        encode, decode = case.halves(module)
        reconstruction, latent = evaluated(module)(case.x_BCHW), encode(case.x_BCHW)
        try:
            decoded = decode(latent)
        except TypeError as error:
            raise ContractError(
                f"{reason_of(error)}{_hint_of_parts(module, case)}{look_at(module, 'decode', 'decoder')}"
            ) from error
        if not close(decoded, reconstruction):
            seen = (
                f"expected forward(x) = decode(encode(x)), got pixels that differ by up to "
                f"{difference(decoded, reconstruction)}{_WEIGHTS[disturbed]}: forward is not its decoder on its "
                "encoder's latent, "
            )
            if not _sees_its_latent_alone(module, case):
                raise ContractError(f"{seen}something passes around the bottleneck{look_at(module, 'forward')}")
            concern = concern or ConcernError(
                f"{seen}though with another image's latent it reconstructs that image: what it does behind its "
                f"decoder, such as rounding or clipping, belongs into decode{look_at(module, 'forward')}"
            )
    if concern is not None:
        raise concern


def _hint_of_parts(module: nn.Module, case: Case) -> str:
    """Return what to do about a decoder that takes the parts of a latent one by one; nothing of a latent in one."""
    pair = declared_halves(module)
    latent = evaluated(pair[0])(case.x_BCHW) if pair else None
    if named_parts(latent) is None:
        return ""
    parts = "**z" if isinstance(latent, Mapping) else "*z"
    lent = f"encode='encode', decode=lambda module, z: module.decode({parts})"
    return (
        f"; it is given what encode returns, {what_came(latent, in_full=True)}, as one argument: take it apart in "
        f"decode, or where it is not yours{INSTEAD.replace(';', ',')}{in_build(case, module, 'Adapted', lent)}"
    )


def _sees_its_latent_alone(module: nn.Module, case: Case) -> bool:
    """Say whether forward, when its encoder gives it another image's latent, reconstructs that image.

    Its encoder is the method ``encode``, where forward calls that, or else its child ``encoder``. Where it calls
    neither, nothing is known, and the answer is no.
    """
    own = own_module(module)
    expected = evaluated(module)(case.x_BCHW.roll(1, 0))
    for name in ("encode", "encoder"):
        encoder = getattr(own, name, None)
        if not callable(encoder):
            continue
        recorder = _Recorder(encoder)
        with _replaced(own, name, recorder):
            evaluated(module)(case.x_BCHW.roll(1, 0))
            recorder.replays = True
            if recorder.latents:
                return close(evaluated(module)(case.x_BCHW), expected)
    return False


class _Recorder(nn.Module):
    """An encoder that keeps what it made, and then gives that, whatever it gets."""

    def __init__(self, encoder: Callable[[Any], Any]) -> None:
        super().__init__()
        self.latents: list[Any] = []
        self.replays = False
        # In a tuple: it is none of its parts.
        self._encoder = (encoder,)

    def forward(self, x: Tensor) -> Any:
        if self.replays and self.latents:
            return self.latents.pop(0)
        latent = self._encoder[0](x)
        self.latents.append(deepcopy(latent))
        return latent


@contextmanager
def _replaced(module: nn.Module, name: str, other: nn.Module) -> Iterator[None]:
    """Let a module's method, or its child, be another one for a while."""
    home = module._modules if name in module._modules else vars(module)
    before = home.get(name)
    home[name] = other
    try:
        yield
    finally:
        if before is None:
            del home[name]
        else:
            home[name] = before


def _check_guess(module: nn.Module, case: Case, weights: str) -> None:
    """Hold a network whose children are called as halves, but do not make it up, to what passes through its encoder.

    With what its encoder made of another image, it must reconstruct that one: whatever it does before, between and
    behind its halves.
    """
    guess = guessed_halves(module)
    encoder = getattr(own_module(module), "encoder", None)
    if guess is None or halves(module, case.x_BCHW) is not None or not isinstance(encoder, nn.Module):
        return
    recorded: list[Any] = []
    x_BCHW, other_BCHW = case.x_BCHW, case.x_BCHW.roll(1, 0)
    with encoder.register_forward_hook(lambda _module, _given, latent: recorded.append(deepcopy(latent))):
        expected = evaluated(module)(other_BCHW)
    left = iter(recorded)
    with encoder.register_forward_hook(lambda _module, _given, latent: next(left, latent)):
        replayed = evaluated(module)(x_BCHW)
    if recorded and not close(replayed, expected):
        raise ContractError(
            f"expected forward(x) to see x through its encoder alone, got pixels that differ by up to "
            f"{difference(replayed, expected)}{weights} where its encoder's output was that of another image: "
            f"something passes around the bottleneck{look_at(module, 'forward')}"
        )


@check("the output depends on the input only through the latent", needs=("input", "evaluation", "halves"))
def check_bottleneck(case: Case) -> None:
    """The output depends on the input only through the latent."""
    for disturbed in (False, True):
        _check_bottleneck(case, disturbed=disturbed)


def _check_bottleneck(case: Case, *, disturbed: bool) -> None:
    module = case.module(disturbed=disturbed)
    encode, decode = case.halves(module)
    reconstruction = decode(encode(case.x_BCHW))
    # A plain copy of the numbers: nothing else travels with the latent.
    latent = encode(case.x_BCHW).detach().as_subclass(Tensor).clone()
    encode(1 - case.x_BCHW)
    _, elsewhere = case.halves(case.module(disturbed=disturbed))
    weights = _WEIGHTS[disturbed]
    for other, what in (
        (decode, f"after it encoded other images{weights}"),
        (elsewhere, f"by a network that encoded no image{weights}"),
    ):
        try:
            decoded = other(latent.clone())
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ContractError(
                f"expected a latent to be decoded {what}, got {reason_of(error)}: what the encoder leaves behind for "
                f"its decoder passes around the bottleneck{look_at(module, 'decode', 'decoder')}"
            ) from error
        if not close(decoded, reconstruction):
            raise ContractError(
                f"expected one image from a latent, got another one when it was decoded {what}: what the encoder "
                f"leaves behind for its decoder passes around the bottleneck{look_at(module, 'decode', 'decoder')}"
            )


@check("of a discrete latent, the codes tell all", needs=("input", "evaluation", "latent", "halves"))
def check_codes(case: Case) -> str:
    """Of a discrete latent: the output depends on the input only through the codes."""
    detail = ""
    for disturbed in (False, True):
        module = case.module(disturbed=disturbed)
        codebook = discrete(module)
        if codebook is None:
            bits = latent_bits(module, case.x_BCHW)
            if bits is None:
                raise SkipCheck("its latent is not discrete")
            return f"{bits:.4g} bits an image, as it says of these"
        bits = latent_bits(module, case.x_BCHW)
        encode, decode = case.halves(module)
        codes = evaluated(codebook.codes)(case.x_BCHW)
        latent, parts = evaluated(codebook.from_codes)(codes), latent_parts(module, case.x_BCHW)
        if parts is not None and Parts.of(latent) is None:
            raise ContractError(
                "the latent is of several parts, and from_codes must return them as encode does, but returned "
                f"{what_came(latent, in_full=True)}" + look_at(module, "from_codes")
            )
        decoded = decode(latent if parts is None else parts.pack(latent))
        reconstruction = decode(encode(case.x_BCHW))
        if not close(decoded, reconstruction):
            raise ContractError(
                f"expected decode(encode(x)) = decode(from_codes(codes(x))), got pixels that differ by up to "
                f"{difference(decoded, reconstruction)}{_WEIGHTS[disturbed]}: more than the codes passes through the "
                "latent" + look_at(module, "encode", "from_codes")
            )
        detail = f"{codes.shape[1]} codes of {codebook.codebook_size}: {bits:.4g} bits an image"
    return detail
