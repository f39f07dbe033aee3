"""The checks of a network as it stands: what it returns, and what passes through its latent.

A check takes a `Case`. It returns what is worth knowing, or raises `ContractError` with what was expected, what came,
and where to look. Those of its training are in `aezoo.check.checks_of_training`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
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
    objective,
    training_output,
)
from aezoo.check.hints import IMAGE, INSTEAD, LENT_CALL, READ, adaptation, in_build, others_wanted
from aezoo.contract.adapted import what_came
from aezoo.contract.latent import Parts, named_parts
from aezoo.contract.network import (
    declared_halves,
    discrete,
    guessed_halves,
    halves,
    is_closed_form,
    is_declared,
    latent_parts,
    num_params,
    own_module,
    training_forward,
)
from aezoo.errors import ConcernError, ContractError, reason_of
from aezoo.machine import is_out_of_memory
from aezoo.train.build import Stream, seed_stream

_WEIGHTS = {False: "", True: " with weights a little off those that it starts from"}


@check("builds, and names its objective")
def check_builds(case: Case) -> str:
    """It builds, and says what it optimises."""
    module = case.module()
    objective(module)
    return f"{num_params(module):,} parameters"


@check("(B, C, H, W) in and out, float32, finite, any batch size")
def check_output(case: Case) -> None:
    """Reconstructions have the shape and dtype of the images, and are finite, in batches of 1, 2 and more."""
    module = case.module()
    for size in (len(case.x_BCHW), 2, 1):
        x_BCHW = case.x_BCHW[:size]
        whole = size == len(case.x_BCHW)
        try:
            output = evaluated(module)(x_BCHW)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            hint = _hint(error, module, case) if whole else _hint_of_size(case, size)
            raise ContractError(f"{reason_of(error)}{hint}{look_at(module, 'forward')}") from error
        where = look_at(module, "forward", "decode", "decoder")
        if not isinstance(output, Tensor):
            hint = adaptation(module, case)
            advice = hint or (
                f"; bench in its place, with that which makes an image of out for {IMAGE}: "
                f"{in_build(case, module, 'Adapted', READ)}; what else training needs comes from training_forward, "
                "as an aezoo.TrainingOutput"
            )
            raise ContractError(
                f"forward must return the reconstruction alone, a tensor (B, C, H, W), but returned "
                f"{what_came(output, in_full=not hint)}{advice}{where}"
            )
        if output.shape != x_BCHW.shape:
            hint = (adaptation(module, case) or _hint_of_sides(output, x_BCHW)) if whole else _hint_of_size(case, size)
            raise ContractError(
                f"expected reconstructions of shape {tuple(x_BCHW.shape)}, got {tuple(output.shape)}{hint}{where}"
            )
        if output.dtype != x_BCHW.dtype:
            raise ContractError(
                f"expected reconstructions of dtype {x_BCHW.dtype}, got {output.dtype}: float32 is asked for{where}"
            )
        if not torch.isfinite(output).all():
            raise ContractError(f"the untrained network's reconstruction has NaN or infinite pixels{where}")


def _hint(error: BaseException, module: nn.Module, case: Case) -> str:
    """Return what to do about an error of a network, by its cause; the line that adapts it, where one does."""
    line = adaptation(module, case)
    if "does not require grad" in str(error):
        lent = in_build(case, module, "Adapted", LENT_CALL)
        return (
            "; it differentiates in its forward pass, and a network is scored under torch.no_grad(): do that in a "
            f"block of torch.enable_grad(), or where it is not yours, bench in its place: {lent}"
            f"{line and '; or score it by its halves: '}{line.removeprefix(INSTEAD)}"
        )
    if line or isinstance(error, ContractError):
        return line
    text = str(error)
    if "dtype" in text or "Double" in text or "Half" in text:
        return "; float32 is asked for: images are float32, and so must be all layers and constants: module.float()"
    others = others_wanted(module)
    if "missing" in text and "argument" in text and others:
        named, wanted = (", ".join(text.format(each, each.upper()) for each in others) for text in ("{1}", "{0}={1}"))
        lent = in_build(case, module, "Adapted", f"call=lambda module, x: module(x, {wanted})")
        return f"; it wants more than images; bench in its place, with what it takes for {named}: {lent}"
    if isinstance(error, TypeError | AttributeError | LookupError):
        lent = in_build(case, module, "Adapted", "call=lambda module, x: module(BATCH)")
        return (
            "; it may want something else than a batch of images, (B, C, H, W); bench in its place, with what it "
            f"takes, made of x, for BATCH: {lent}"
        )
    return "; take the sizes from image_shape, or let build refuse other ones: raise aezoo.AezooError"


def _hint_of_size(case: Case, size: int) -> str:
    """Return what may be wrong with a network that took a whole batch."""
    return (
        f"; it takes a batch of {len(case.x_BCHW)} as it is, and none of {size}: in evaluation it must use no "
        "statistics of the batch, and squeeze no dimension of it away"
    )


def _hint_of_sides(output: Tensor, x_BCHW: Tensor) -> str:
    """Return what may be wrong where images come out of other sides than they went in with."""
    if output.shape[:2] != x_BCHW.shape[:2] or output.ndim != x_BCHW.ndim:
        return ""
    return (
        "; its sides come out otherwise, as where a stride leaves a rest: pad them, and crop them again, as "
        "multiple and at_least of aezoo.ImageForm do for aezoo.Adapted"
    )


@check("a pass as in training gives reconstructions too")
def check_training(case: Case) -> None:
    """A pass as in training gives reconstructions of the images' shape, and forward does not fail then."""
    module = case.module()
    where = look_at(module, "training_forward", "forward")
    try:
        reconstruction = training_output(module, case.x_BCHW).reconstruction
    except (SkipCheck, ContractError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ContractError(f"expected a reconstruction in training, got {reason_of(error)}{where}") from error
    got = tuple(reconstruction.shape) if isinstance(reconstruction, Tensor) else type(reconstruction).__name__
    if got != tuple(case.x_BCHW.shape):
        raise ContractError(
            f"in training, expected reconstructions of shape {tuple(case.x_BCHW.shape)}, got {got}{where}"
        )
    if callable(getattr(module, "training_forward", None)):
        try:
            module(case.x_BCHW)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ConcernError(
                f"expected forward to work in training mode too, got {reason_of(error)}: training calls "
                "training_forward, and the score evaluates, but whoever builds the network and calls it meets this"
                + look_at(module, "forward", "encode", "decode")
            ) from error


@check("leaves its input untouched")
def check_input(case: Case) -> None:
    """The images that it is given stay as they are, in evaluation and in training."""
    module, batch = case.module(), case.x_BCHW
    evaluated(module)(batch)
    if not torch.equal(batch, case.x_BCHW):
        raise ContractError(
            f"forward changes its input in place; work on a copy: x.clone(){look_at(module, 'forward', 'encode')}"
        )
    if not is_closed_form(module):
        seed_stream(0, Stream.TRAINING_NOISE)
        training_forward(module.train(), batch)
        if not torch.equal(batch, case.x_BCHW):
            where = look_at(module, "training_forward", "forward", "encode")
            raise ContractError(f"the network changes its input in place while it trains; use x.clone(){where}")


@check("evaluation is repeatable", needs=("input",))
def check_evaluation(case: Case) -> None:
    """An evaluation comes out the same again, also after other images."""
    module = case.module()
    evaluate = evaluated(module, seeded=False)
    first, random = evaluate(case.x_BCHW), torch.get_rng_state()
    evaluate(1 - case.x_BCHW)
    if not torch.allclose(evaluate(case.x_BCHW), first, rtol=1e-5, atol=1e-6):
        where = look_at(module, "decode", "forward")
        if not torch.equal(random, torch.get_rng_state()):
            raise ConcernError(
                "expected one reconstruction of an image in evaluation mode, got two: it draws random numbers, as of a "
                "sampled latent, and its score is of one draw; take the mean where not self.training, give encode and "
                "decode where it is aezoo.Adapted, or declare aezoo.Architecture(..., exceptions={'evaluation': 'why'})"
                f"{where}"
            )
        raise ContractError(
            "expected one reconstruction of an image in evaluation mode, got two: something is kept from one call to "
            f"the next{where}"
        )


@check("an image's reconstruction does not depend on its batch", needs=("input", "evaluation"))
def check_batch(case: Case) -> None:
    """An image's reconstruction does not depend on the batch that it comes in."""
    module = case.module()
    if case.draws:
        raise SkipCheck("it draws random numbers in evaluation, others in each batch")
    evaluate = evaluated(module)
    together = evaluate(case.x_BCHW)
    alone = torch.cat([evaluate(x_1CHW) for x_1CHW in torch.split(case.x_BCHW, 1)])
    if not close(alone, together):
        if not close(evaluate(case.x_BCHW), together):
            raise ContractError(
                "expected the same reconstructions of the same images, got others after some calls in evaluation mode: "
                f"something is kept from one call to the next{look_at(module, 'forward', 'encode')}"
            )
        raise ContractError(
            f"expected the same reconstruction of an image alone and in a batch, got ones that differ by up to "
            f"{difference(alone, together)}: statistics of the batch in evaluation?"
            + look_at(module, "forward", "encode")
        )


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
