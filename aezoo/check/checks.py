"""The checks of a network as it stands: what it returns, in training and in evaluation.

A check takes a `Case`. It returns what is worth knowing, or raises `ContractError` with what was expected, what came,
and where to look. Those of its latent are in `aezoo.check.checks_of_latent`, those of its training in
`aezoo.check.checks_of_training`.
"""

import torch
from torch import Tensor, nn

from aezoo.check.case import (
    Case,
    SkipCheck,
    check,
    close,
    difference,
    evaluated,
    look_at,
    objective,
    training_output,
)
from aezoo.check.hints import IMAGE, INSTEAD, LENT_CALL, READ, adaptation, in_build, others_wanted
from aezoo.contract.adapted import what_came
from aezoo.contract.network import (
    is_closed_form,
    num_params,
    training_forward,
)
from aezoo.errors import ConcernError, ContractError, reason_of
from aezoo.machine import is_out_of_memory
from aezoo.train.build import Stream, seed_stream


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
