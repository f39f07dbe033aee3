"""The checks of a network in training: its objective, gradients and seeds, its weights, and other devices."""

from typing import Any

import torch
from torch import Tensor, nn

from aezoo.check.capture import CaptureError, draws_when_captured
from aezoo.check.case import (
    DISTURBANCE,
    Case,
    SkipCheck,
    check,
    close,
    difference,
    disturb,
    evaluated,
    is_deterministic,
    look_at,
    objective,
    training_output,
)
from aezoo.check.hints import in_build
from aezoo.check.notes import notes_of
from aezoo.contract.network import adversary_of, is_closed_form, num_adversary_params, num_params, training_forward
from aezoo.errors import ConcernError, ContractError, reason_of
from aezoo.machine import is_out_of_memory
from aezoo.run.weights import pack, unpack
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.engine import Trainer
from aezoo.train.loop import fit

GRADIENT_STEPS = 5
GRADIENT_SEEDS = 5
LISTED = 4
"""Parameters without a gradient that are named; how many more there are is said."""
SOUND = ("input", "penalty", "adversary", "gradients", "evaluation")
"""Checks without which a training would tell their faults again."""
LEARNING_STEPS = (20, 60, 200)
"""After how many steps the loss is looked at: the first time that it is lower will do."""


@check("the penalty is a finite scalar with a gradient")
def check_penalty(case: Case) -> str:
    """A penalty is a finite scalar that training can lower."""
    module = case.module()
    penalty = training_output(module, case.x_BCHW).penalty
    where = look_at(module, "training_forward")
    if penalty is None:
        return "none"
    if not isinstance(penalty, Tensor) or penalty.ndim != 0:
        got = tuple(penalty.shape) if isinstance(penalty, Tensor) else type(penalty).__name__
        mean = ": take its mean, penalty.mean()" * isinstance(penalty, Tensor)
        raise ContractError(f"penalty must be a scalar tensor or None, got {got}{mean}{where}")
    if not torch.isfinite(penalty):
        raise ContractError(
            f"expected a finite penalty, but the untrained network's is {float(penalty.detach())}{where}"
        )
    if not penalty.requires_grad:
        raise ContractError(f"expected a penalty that depends on parameters, got one without a gradient{where}")
    return f"{float(penalty.detach()):.3g} untrained"


@check("objective says what is optimised", needs=("input",))
def check_objective(case: Case) -> str:
    """`objective` says what is optimised: a penalty, another input in training, a fit."""
    module = case.module()
    text = objective(module)
    where = look_at(module, "training_forward", "fit")
    if not text.startswith("mse"):
        raise ContractError(f"objective must begin with 'mse', as the harness adds it, but is {text!r}{where}")
    if is_closed_form(module):
        if "," not in text or "+" in text:
            raise ContractError(
                f"a method fit(images) is taken for a closed form, but objective says {text!r}: say how it is found, "
                "as in 'mse, closed form', or, where it is a training loop, leave it alone, and bench in its place: "
                f"{in_build(case, module, 'Adapted', '')}{where}"
            )
        return text
    output = training_output(module, case.x_BCHW)
    penalised, named = output.penalty is not None, "+" in text
    if penalised and not named:
        raise ContractError(
            f"training_forward adds a penalty, but objective says {text!r}; name it, as in 'mse + kl'{where}"
        )
    if named and not penalised:
        raise ContractError(f"objective says {text!r}, but training_forward adds no penalty{where}")
    # One seed after another, until one tells; of what is named nothing is to be told.
    noises = (_noise_in_training(case, seed) for seed in range(4))
    if text == "mse" and any(noise > 1e-6 for noise in noises):
        raise ContractError(
            f"objective says 'mse', but training_forward reconstructs otherwise than forward; say how, as in 'mse, "
            f"corrupted input' or 'mse, sampled latent'{where}"
        )
    corrupted = "corrupted" in text
    if corrupted and not (any(noise != 0 for noise in noises) or _draws_in_training(case) or _is_constant(case)):
        raise ContractError(f"objective says {text!r}, but training reconstructs as evaluation does{where}")
    if "closed form" in text:
        raise ContractError(f"objective says {text!r}, but there is no fit: it is trained{where}")
    return text


def _names_with_gradient(module: nn.Module, case: Case) -> set[str]:
    """Take a few steps, and return the names of the parameters that got a gradient in one of them."""
    trainer = Trainer(module, case.recipe)
    seed_stream(0, Stream.TRAINING_NOISE)
    names: set[str] = set()
    for _ in range(GRADIENT_STEPS):
        trainer.step(case.x_BCHW)
        names |= {
            name
            for name, parameter in module.named_parameters()
            if parameter.grad is not None and bool(parameter.grad.any())
        }
    return names


def _noise_in_training(case: Case, seed: int) -> float:
    """Return by how much ``training_forward`` reconstructs otherwise than ``forward`` does, in training both.

    A forward that gives no reconstruction in training mode is taken in evaluation mode: nothing hides behind that.
    """
    module, other = case.module().train(), case.module().train()
    seed_stream(seed, Stream.TRAINING_NOISE)
    reconstruction = training_forward(module, case.x_BCHW).reconstruction.detach()
    seed_stream(seed, Stream.TRAINING_NOISE)
    try:
        difference = reconstruction - other(case.x_BCHW).detach()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        difference = reconstruction - evaluated(other.eval())(case.x_BCHW)
    return float(difference.abs().max())


def _draws_in_training(case: Case) -> bool:
    """Say whether training reconstructs otherwise under other noise, as a layer of noise does that evaluation skips."""
    passes = []
    for seed in range(2):
        module = case.module().train()
        seed_stream(seed, Stream.TRAINING_NOISE)
        with torch.no_grad():
            passes.append(training_forward(module, case.x_BCHW).reconstruction)
    return not torch.equal(*passes)


def _is_constant(case: Case) -> bool:
    """Say whether all images are reconstructed alike, as where all units are dead: then no corruption can be seen."""
    with torch.no_grad():
        reconstruction = case.module()(case.x_BCHW)
    return torch.equal(reconstruction, reconstruction[:1].expand_as(reconstruction))


@check("the adversary judges, and takes no part in a reconstruction", needs=("input", "penalty"))
def check_adversary(case: Case) -> str:
    """An adversary has a loss of its own, and whatever its weights, images are encoded and reconstructed alike."""
    module = case.module()
    adversary = adversary_of(module)
    if adversary is None:
        raise SkipCheck("it has no adversary_loss")
    where = look_at(module, "adversary_loss")
    seed_stream(0, Stream.TRAINING_NOISE)
    loss = adversary.loss(case.x_BCHW)
    if not isinstance(loss, Tensor) or loss.ndim != 0 or not bool(torch.isfinite(loss)):
        got = f"{tuple(loss.shape)}: take its .mean()" if isinstance(loss, Tensor) and loss.ndim else f"{loss!r}"
        raise ContractError(f"adversary_loss must return a finite scalar tensor, but returned {got}{where}")
    gradients = torch.autograd.grad(loss, adversary.parameters, allow_unused=True) if loss.requires_grad else ()
    if not any(gradient is not None for gradient in gradients):
        raise ContractError(f"expected an adversary_loss that depends on the adversary, got one that does not{where}")
    outcomes = [_seen_of(module, case)]
    disturb(nn.ParameterList(adversary.parameters), DISTURBANCE)
    outcomes.append(_seen_of(module, case))
    for name, before in outcomes[0].items():
        if not torch.equal(before, outcomes[1][name]):
            raise ContractError(
                f"expected {name} to be the same whatever the adversary's weights, got pixels that differ by up to "
                f"{difference(outcomes[1][name], before)}: it may judge, and add to the penalty, and no more"
                + look_at(module, "training_forward", "forward")
            )
    return f"{num_adversary_params(module):,} parameters"


def _seen_of(module: nn.Module, case: Case) -> dict[str, Tensor]:
    """Return reconstructions in evaluation and in training, which draws the same random numbers each time."""
    evaluation = evaluated(module.eval())(case.x_BCHW)
    return {
        "a reconstruction": evaluation,
        "a reconstruction in training": training_output(module, case.x_BCHW).reconstruction.detach(),
    }


@check("every trained parameter gets a gradient", needs=("input", "penalty", "adversary"))
def check_gradients(case: Case) -> str:
    """Every parameter that is trained gets a gradient; those that are not are named."""
    module = case.module()
    names = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    kept = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    if is_closed_form(module):
        raise SkipCheck("it has a fit, and is not trained")
    idle = set(names)
    try:
        # A narrow layer may be dead from the start, by chance: another seed tells chance from fault.
        for seed in range(GRADIENT_SEEDS):
            if idle:
                idle -= _names_with_gradient(build(case.variant, case.images_NCHW, seed), case)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        where = look_at(module, "training_forward", "forward")
        raise ContractError(f"the reconstruction does not depend on a parameter: {reason_of(error)}{where}") from error
    if idle:
        listed = [f"{name} {tuple(names[name].shape)}" for name in names if name in idle]
        more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
        raise (ContractError if len(idle) == len(names) else ConcernError)(
            f"expected a gradient for each of {len(names)} trained parameters, got none in {GRADIENT_STEPS} steps for "
            f"{', '.join(listed[:LISTED])}{more}: a part that is not used, as a conditioning branch, that is learnt "
            "otherwise, as a codebook by running means, or that a rounding cuts off; use it, set requires_grad=False, "
            "or declare aezoo.Architecture(..., exceptions={'gradients': 'why'})"
            f"{look_at(module, 'training_forward', 'forward')}"
        )
    return f"not trained, as declared: {', '.join(kept)}" if kept else ""


@check("a few steps lower the loss", needs=SOUND, quick=False)
def check_learns(case: Case) -> str:
    """A few steps lower the loss, the penalty included."""
    module = case.module()
    if is_closed_form(module):
        before = _loss(module, case.x_BCHW)
        fit(module, case.images_NCHW, seed=0)
        after, steps, how = _loss(module.eval(), case.x_BCHW), 1, "its fit"
    else:
        trainer = Trainer(module, case.recipe)
        before, steps = _loss(module, case.x_BCHW), 0
        seed_stream(0, Stream.TRAINING_NOISE)
        for until in LEARNING_STEPS:
            for _ in range(until - steps):
                trainer.step(case.x_BCHW)
            after, steps = _loss(module, case.x_BCHW), until
            if after < before:
                break
        how = f"{steps} steps"
    if is_closed_form(module) and after == before and not num_params(module):
        return f"{after:.4g}, before its fit and after it: it has no parameters"
    if not after < before:
        raise ContractError(
            f"expected {how} on {len(case.x_BCHW)} images to lower the loss, but it went from {before:.4g} to "
            f"{after:.4g}{look_at(module, 'training_forward', 'fit', 'forward')}"
        )
    return f"{before:.4g} to {after:.4g} in {how}"


def _loss(module: nn.Module, x_BCHW: Tensor) -> float:
    """Return what training lowers, under noise of its own that is the same at each call.

    A penalty that an adversary gives rises as it learns, and says nothing of the network: then it is the MSE alone.
    """
    against = adversary_of(module) is not None
    state = torch.get_rng_state()
    seed_stream(1, Stream.TRAINING_NOISE)
    total = 0.0
    for _ in range(4):
        # With gradients: a penalty may need some itself.
        output = training_forward(module, x_BCHW.clone())
        total += float((output.reconstruction.detach() - x_BCHW).square().mean())
        total += float(output.penalty.detach()) if output.penalty is not None and not against else 0.0
    torch.set_rng_state(state)
    return total / 4


@check("equal seeds give equal weights", needs=SOUND, quick=False)
def check_seeds(case: Case) -> None:
    """Equal seeds give equal weights, before and after a step."""
    if not is_deterministic(case.variant, case.images_NCHW, case.recipe):
        raise ContractError(
            "expected one network from one seed, got two: draw random numbers from torch, numpy or random, which the "
            "harness seeds, and from nothing else" + look_at(case.module(), "__init__", "training_forward")
        )


@check(
    "weights survive safetensors",
    needs=(*SOUND, "seeds"),
    quick=False,
)
def check_state_dict(case: Case) -> None:
    """The weights, written to safetensors and read into another network, make it the same one."""
    module = case.module()
    if is_closed_form(module):
        fit(module, case.images_NCHW, seed=0)
    else:
        seed_stream(0, Stream.TRAINING_NOISE)
        Trainer(module, case.recipe).step(case.x_BCHW)
    expected = evaluated(module.eval())(case.x_BCHW)
    other = build(case.variant, case.images_NCHW, seed=1)
    unpack(pack(module), other)
    restored = evaluated(other.eval())(case.x_BCHW)
    if not torch.allclose(restored, expected, rtol=1e-5, atol=1e-6):
        raise ContractError(
            f"expected the same reconstructions from saved weights, got pixels that differ by up to "
            f"{difference(restored, expected)}: something that it needs is no parameter and no buffer; use "
            "register_buffer" + look_at(module, "__init__")
        )


@check("moves to another device whole", needs=("penalty",), quick=False)
def check_device(case: Case) -> str | None:
    """All that it computes with moves with ``.to(device)``. Tried on the meta device, and on an accelerator if any."""
    try:
        _run_on(case, "meta")
    except RuntimeError as error:
        if "same device" not in str(error) and "expected device meta" not in str(error):
            return f"not seen on the meta device: {reason_of(error)}"
        raise ContractError(
            f"expected all tensors on the device of the images, got {reason_of(error)}: make constants with "
            f"register_buffer, and new tensors with device=x.device{look_at(case.module(), 'forward')}"
        ) from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        _run_on(case, accelerator)
    return f"on meta{f' and {accelerator}' if accelerator else ''}"


def _run_on(case: Case, device: torch.device | str) -> None:
    """Evaluate, and take a forward pass as in training, on a device; `meta` is one that has shapes and no values."""
    module, x_BCHW = case.module().to(device), case.x_BCHW.to(device)
    with torch.no_grad():
        module(x_BCHW)
    if not is_closed_form(module):
        training_output(module, x_BCHW)


@check("can be captured in a CUDA graph", needs=("device", "adversary"), quick=False, informative=True)
def check_cuda_graph(case: Case) -> str:
    """Whether a training step can be captured in a CUDA graph."""
    module = case.module()
    if is_closed_form(module):
        raise SkipCheck("it has a fit, and is not trained")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        _run_on(case, "meta")
    images_NCHW = case.images_NCHW[: case.recipe.batch_size].to(device)
    try:
        draws = draws_when_captured(case.variant, images_NCHW, case.recipe, "contiguous")
    except CaptureError as error:
        raise ContractError(str(error)) from error
    if device == "cpu":
        return "likely: nothing in a step is decided on the host; not captured, as there is no CUDA device"
    return f"yes: bit-equal to steps on their own{', with random numbers of the device' if draws else ''}"


@check("several seeds can run stacked", quick=False, informative=True)
def check_stacked_seeds(case: Case) -> str:
    """Whether networks of several seeds can be evaluated as one, stacked."""
    modules = [build(case.variant, case.images_NCHW, seed=seed).eval() for seed in (0, 1)]
    parameters, buffers = torch.func.stack_module_state(modules)

    def one(parameters: dict[str, Any], buffers: dict[str, Any], x_BCHW: Tensor) -> Tensor:
        return torch.func.functional_call(modules[0], (parameters, buffers), (x_BCHW,))  # type: ignore[no-any-return]

    with torch.no_grad():
        stacked = torch.vmap(one, in_dims=(0, 0, None), randomness="different")(parameters, buffers, case.x_BCHW)
    apart = torch.stack([evaluated(module)(case.x_BCHW) for module in modules])
    if not close(stacked, apart):
        raise ContractError(f"stacked networks differ from single ones by up to {difference(stacked, apart)}")
    return "yes"


@check("what is called as in the contract is what it means by that", quick=False, informative=True)
def check_names(case: Case) -> str:
    """What has a name of the contract and is not what the contract means by it, and pixels of another range."""
    return "; ".join(notes_of(case.module(), case.x_BCHW)) or "yes"
