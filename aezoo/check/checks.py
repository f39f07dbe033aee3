"""The checks of the contract of an architecture, one function each; `aezoo.check.suite` makes a suite of them.

A check takes a `Case`. It returns what is worth knowing, or raises `ContractError` with what was expected, what came,
and where to look.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.check.case import (
    Case,
    SkipCheck,
    evaluated,
    is_deterministic,
    latent_bits,
    latent_shape,
    look_at,
    no_halves,
    objective,
)
from aezoo.contract.network import Flat, TrainingOutput, discrete, halves, is_closed_form, num_params, training_forward
from aezoo.errors import ContractError, reason_of
from aezoo.run.weights import pack, unpack
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.engine import Trainer
from aezoo.train.loop import fit

GRADIENT_STEPS = 5
GRADIENT_SEEDS = 5
LEARNING_STEPS = (20, 60, 200)
"""After how many steps the loss is looked at: the first time that it is lower will do."""
_WEIGHTS = {False: "", True: " with weights a little off those that it starts from"}


def check_builds(case: Case) -> str:
    """It builds, and says what it optimises."""
    module = case.module()
    objective(module)
    return f"{num_params(module):,} parameters"


def check_output(case: Case) -> None:
    """Reconstructions have the shape and dtype of the images, and are finite, in batches of 1, 2 and more."""
    module = case.module()
    for size in (len(case.x_BCHW), 2, 1):
        x_BCHW = case.x_BCHW[:size]
        try:
            output = evaluated(module)(x_BCHW)
        except RuntimeError as error:
            hint = _flat_hint(module, case) or _hint(error)
            raise ContractError(f"{reason_of(error)}{hint}{look_at(module, 'forward')}") from error
        where = look_at(module, "forward", "decode", "decoder")
        if not isinstance(output, Tensor):
            raise ContractError(
                f"forward must return the reconstruction alone, a tensor (B, C, H, W), but returned {_what(output)}; "
                f"what else training needs comes from training_forward, as aezoo.TrainingOutput(...){where}"
            )
        if output.shape != x_BCHW.shape:
            hint = _flat_hint(module, case)
            raise ContractError(
                f"expected reconstructions of shape {tuple(x_BCHW.shape)}, got {tuple(output.shape)}{hint}{where}"
            )
        if output.dtype != x_BCHW.dtype:
            raise ContractError(
                f"expected reconstructions of dtype {x_BCHW.dtype}, got {output.dtype}: float32 is asked for{where}"
            )
        if not torch.isfinite(output).all():
            raise ContractError(f"the untrained network's reconstruction has NaN or infinite pixels{where}")


def _hint(error: BaseException) -> str:
    """Return what to do about an error of a network, by its cause."""
    if "dtype" in str(error) or "Double" in str(error) or "Half" in str(error):
        return "; float32 is asked for: images are float32, and so must be all layers and constants"
    return "; take the sizes from image_shape, or let build refuse other ones: raise aezoo.AezooError"


def _what(value: Any) -> str:
    """Return what came in the place of a tensor: ``a list of 4``."""
    sized = isinstance(value, list | tuple | dict)
    return f"a {type(value).__name__} of {len(value)}" if sized else f"a {type(value).__name__}"


def _flat_hint(module: nn.Module, case: Case) -> str:
    """Say so where the module works on flat images, as tutorials' classes do."""
    flat = Flat(module, tuple(case.images_NCHW.shape[1:]))  # type: ignore[arg-type]
    try:
        evaluated(flat)(case.x_BCHW)
    except Exception:  # noqa: BLE001 - it was worth a try
        return ""
    return "; it works on flat images: return aezoo.Flat(module, image_shape)"


def check_training(case: Case) -> None:
    """A pass as in training gives reconstructions of the images' shape."""
    module = case.module()
    where = look_at(module, "training_forward", "forward")
    try:
        reconstruction = _training_output(module, case.x_BCHW).reconstruction
    except (SkipCheck, ContractError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ContractError(f"expected a reconstruction in training, got {reason_of(error)}{where}") from error
    given = tuple(reconstruction.shape) if isinstance(reconstruction, Tensor) else type(reconstruction).__name__
    if given != tuple(case.x_BCHW.shape):
        raise ContractError(
            f"in training, expected reconstructions of shape {tuple(case.x_BCHW.shape)}, got {given}{where}"
        )


def check_input(case: Case) -> None:
    """The images that it is given stay as they are, in evaluation and in training."""
    module, given = case.module(), case.x_BCHW
    evaluated(module)(given)
    if not torch.equal(given, case.x_BCHW):
        raise ContractError(
            f"forward changes its input in place; work on a copy: x.clone(){look_at(module, 'forward', 'encode')}"
        )
    if not is_closed_form(module):
        seed_stream(0, Stream.TRAINING_NOISE)
        training_forward(module.train(), given)
        if not torch.equal(given, case.x_BCHW):
            where = look_at(module, "training_forward", "forward", "encode")
            raise ContractError(f"the network changes its input in place while it trains; use x.clone(){where}")


def check_evaluation(case: Case) -> None:
    """An evaluation comes out the same again, also after other images."""
    module = case.module()
    evaluate = evaluated(module, seeded=False)
    first, random = evaluate(case.x_BCHW), torch.get_rng_state()
    evaluate(1 - case.x_BCHW)
    if not torch.allclose(evaluate(case.x_BCHW), first, rtol=1e-5, atol=1e-6):
        drew = not torch.equal(random, torch.get_rng_state())
        fault = "it draws random numbers" if drew else "something is kept from one call to the next"
        raise ContractError(
            f"expected one reconstruction of an image in evaluation mode, got two: {fault}"
            + look_at(module, "decode", "forward")
        )


def check_batch(case: Case) -> None:
    """An image's reconstruction does not depend on the batch that it comes in."""
    module = case.module()
    evaluate = evaluated(module)
    together = evaluate(case.x_BCHW)
    alone = torch.cat([evaluate(x_1CHW) for x_1CHW in torch.split(case.x_BCHW, 1)])
    if not _close(alone, together):
        raise ContractError(
            f"expected the same reconstruction of an image alone and in a batch, got ones that differ by up to "
            f"{_largest(alone, together)}: statistics of the batch in evaluation?{look_at(module, 'forward', 'encode')}"
        )


def check_latent(case: Case) -> str:
    """The latent is a tensor (B, ...) of the size that is declared."""
    module = case.module()
    if halves(module, case.x_BCHW) is None:
        raise SkipCheck(no_halves(module))
    shape = latent_shape(module, case.x_BCHW)
    assert shape is not None
    size, where = math.prod(shape), look_at(module, "encode", "encoder")
    declared = getattr(module.module if isinstance(module, Flat) else module, "latent_size", None)
    if type(declared) is int and declared != size:
        raise ContractError(f"latent_size={declared}, but the encoder's latent has {size} numbers an image{where}")
    for name in ("latent_dim", "latent_size"):
        given = case.variant.hyperparameters.get(name)
        # A latent with a shape may be called after its channels, or its tokens' width.
        if isinstance(given, int) and given != size and (len(shape) == 1 or given not in shape):
            raise ContractError(f"{name}={given}, but the encoder's latent has {size} numbers an image{where}")
    return f"{'x'.join(map(str, shape))}: {size} numbers an image"


def check_codes(case: Case) -> str:
    """Of a discrete latent: the output depends on the input only through the codes."""
    told = ""
    for disturbed in (False, True):
        module = case.module(disturbed=disturbed)
        bits = latent_bits(module, case.x_BCHW)
        found = discrete(module)
        if bits is None or found is None:
            raise SkipCheck("its latent is not discrete")
        _, decode = case.halves(module)
        codes = evaluated(found.codes)(case.x_BCHW)
        decoded = decode(evaluated(found.from_codes)(codes))
        reconstruction = evaluated(module)(case.x_BCHW)
        if not _close(decoded, reconstruction):
            raise ContractError(
                f"expected forward(x) = decode(from_codes(codes(x))), got pixels that differ by up to "
                f"{_largest(decoded, reconstruction)}{_WEIGHTS[disturbed]}: more than the codes passes through the "
                "latent" + look_at(module, "encode", "from_codes")
            )
        told = f"{codes.shape[1]} codes of {found.codebook_size}: {bits:.4g} bits an image"
    return told


def check_halves(case: Case) -> None:
    """In evaluation, forward is the decoder on the encoder's latent."""
    for disturbed in (False, True):
        module = case.module(disturbed=disturbed)
        encode, decode = case.halves(module)
        reconstruction, decoded = evaluated(module)(case.x_BCHW), decode(encode(case.x_BCHW))
        if not _close(decoded, reconstruction):
            raise ContractError(
                f"expected forward(x) = decode(encode(x)), got pixels that differ by up to "
                f"{_largest(decoded, reconstruction)}{_WEIGHTS[disturbed]}: forward is not its decoder on its "
                f"encoder's latent, something passes around the bottleneck{look_at(module, 'forward')}"
            )


def check_bottleneck(case: Case) -> None:
    """The output depends on the input only through the latent."""
    for disturbed in (False, True):
        _check_bottleneck(case, disturbed=disturbed)


def _check_bottleneck(case: Case, *, disturbed: bool) -> None:
    module = case.module(disturbed=disturbed)
    encode, decode = case.halves(module)
    reconstruction = evaluated(module)(case.x_BCHW)
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
            raise ContractError(
                f"expected a latent to be decoded {what}, got {reason_of(error)}: what the encoder leaves behind for "
                f"its decoder passes around the bottleneck{look_at(module, 'decode', 'decoder')}"
            ) from error
        if not _close(decoded, reconstruction):
            raise ContractError(
                f"expected one image from a latent, got another one when it was decoded {what}: what the encoder "
                f"leaves behind for its decoder passes around the bottleneck{look_at(module, 'decode', 'decoder')}"
            )


def check_penalty(case: Case) -> str:
    """A penalty is a finite scalar that training can lower."""
    module = case.module()
    penalty = _training_output(module, case.x_BCHW).penalty
    where = look_at(module, "training_forward")
    if penalty is None:
        return "none"
    if not isinstance(penalty, Tensor) or penalty.ndim != 0:
        given = tuple(penalty.shape) if isinstance(penalty, Tensor) else type(penalty).__name__
        raise ContractError(f"penalty must be a scalar tensor or None, got {given}{where}")
    if not torch.isfinite(penalty):
        raise ContractError(
            f"expected a finite penalty, but the untrained network's is {float(penalty.detach())}{where}"
        )
    if not penalty.requires_grad:
        raise ContractError(f"expected a penalty that depends on parameters, got one without a gradient{where}")
    return f"{float(penalty.detach()):.3g} untrained"


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
                f"as in 'mse, closed form', or give the method another name{where}"
            )
        return text
    output = _training_output(module, case.x_BCHW)
    penalised, named = output.penalty is not None, "+" in text
    if penalised and not named:
        raise ContractError(
            f"training_forward adds a penalty, but objective says {text!r}; name it, as in 'mse + kl'{where}"
        )
    if named and not penalised:
        raise ContractError(f"objective says {text!r}, but training_forward adds no penalty{where}")
    difference = max(_noise_in_training(case, seed) for seed in range(4))
    if difference > 1e-6 and text == "mse":
        raise ContractError(
            f"objective says 'mse', but training_forward reconstructs otherwise than forward; say how, as in 'mse, "
            f"corrupted input'{where}"
        )
    if difference == 0 and "corrupted" in text and not _draws_in_training(case):
        raise ContractError(f"objective says {text!r}, but training reconstructs as evaluation does{where}")
    if "closed form" in text:
        raise ContractError(f"objective says {text!r}, but there is no fit: it is trained{where}")
    return text


def _names_with_gradient(module: nn.Module, case: Case) -> set[str]:
    """Take a few steps, and return the names of the parameters that got a gradient in one of them."""
    trainer = Trainer(module, case.recipe)
    seed_stream(0, Stream.TRAINING_NOISE)
    found: set[str] = set()
    for _ in range(GRADIENT_STEPS):
        trainer.step(case.x_BCHW)
        found |= {name for name, one in module.named_parameters() if one.grad is not None and bool(one.grad.any())}
    return found


def _noise_in_training(case: Case, seed: int) -> float:
    """Return by how much ``training_forward`` reconstructs otherwise than ``forward`` does, in training both."""
    module, other = case.module().train(), case.module().train()
    seed_stream(seed, Stream.TRAINING_NOISE)
    reconstruction = training_forward(module, case.x_BCHW).reconstruction
    seed_stream(seed, Stream.TRAINING_NOISE)
    return float((reconstruction - other(case.x_BCHW)).detach().abs().max())


def _draws_in_training(case: Case) -> bool:
    """Say whether training reconstructs otherwise under other noise, as a layer of noise does that evaluation skips."""
    passes = []
    for seed in range(2):
        module = case.module().train()
        seed_stream(seed, Stream.TRAINING_NOISE)
        with torch.no_grad():
            passes.append(training_forward(module, case.x_BCHW).reconstruction)
    return not torch.equal(*passes)


def check_gradients(case: Case) -> str:
    """Every parameter that is trained gets a gradient; those that are not are named."""
    module = case.module()
    names = {name: one for name, one in module.named_parameters() if one.requires_grad}
    kept = [name for name, one in module.named_parameters() if not one.requires_grad]
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
        told = ", ".join(f"{name} {tuple(names[name].shape)}" for name in names if name in idle)
        raise ContractError(
            f"expected a gradient for each of {len(names)} trained parameters, got none in {GRADIENT_STEPS} steps for "
            f"{told}: use it, or set requires_grad=False{look_at(module, 'training_forward', 'forward')}"
        )
    return f"not trained, as declared: {', '.join(kept)}" if kept else ""


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
    if not after < before:
        raise ContractError(
            f"expected {how} on {len(case.x_BCHW)} images to lower the loss, but it went from {before:.4g} to "
            f"{after:.4g}{look_at(module, 'training_forward', 'fit', 'forward')}"
        )
    return f"{before:.4g} to {after:.4g} in {how}"


def _loss(module: nn.Module, x_BCHW: Tensor) -> float:
    """Return what training lowers, under noise of its own that is the same at each call."""
    state = torch.get_rng_state()
    seed_stream(1, Stream.TRAINING_NOISE)
    total = 0.0
    with torch.no_grad():
        for _ in range(4):
            output = training_forward(module, x_BCHW.clone())
            total += float((output.reconstruction - x_BCHW).square().mean())
            total += float(output.penalty.detach()) if output.penalty is not None else 0.0
    torch.set_rng_state(state)
    return total / 4


def check_seeds(case: Case) -> None:
    """Equal seeds give equal weights, before and after a step."""
    if not is_deterministic(case.variant, case.images_NCHW, case.recipe):
        raise ContractError(
            "expected one network from one seed, got two: draw random numbers from torch, numpy or random, which the "
            "harness seeds, and from nothing else" + look_at(case.module(), "__init__", "training_forward")
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
    given = evaluated(other.eval())(case.x_BCHW)
    if not torch.allclose(given, expected, rtol=1e-5, atol=1e-6):
        raise ContractError(
            f"expected the same reconstructions from saved weights, got pixels that differ by up to "
            f"{_largest(given, expected)}: something that it needs is no parameter and no buffer; use register_buffer"
            + look_at(module, "__init__")
        )


def check_device(case: Case) -> str | None:
    """All that it computes with moves with ``.to(device)``. Tried on the meta device, and on an accelerator if any."""
    try:
        _run_on_meta(case)
    except (RuntimeError, NotImplementedError) as error:
        if "same device" not in str(error) and "expected device meta" not in str(error):
            return f"not seen on the meta device: {reason_of(error)}"
        raise ContractError(
            f"expected all tensors on the device of the images, got {reason_of(error)}: make constants with "
            f"register_buffer, and new tensors with device=x.device{look_at(case.module(), 'forward')}"
        ) from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        _training_output(case.module().to(accelerator), case.x_BCHW.to(accelerator))
    return f"on meta{f' and {accelerator}' if accelerator else ''}"


def _run_on_meta(case: Case) -> None:
    """Evaluate, and take a forward pass as in training, on a device that has shapes and no values."""
    module, x_BCHW = case.module().to("meta"), case.x_BCHW.to("meta")
    with torch.no_grad():
        module(x_BCHW)
    if not is_closed_form(module):
        _training_output(module, x_BCHW)


def check_cuda_graph(case: Case) -> str:
    """Whether a training step can be captured in a CUDA graph."""
    module = case.module()
    if is_closed_form(module):
        raise SkipCheck("it has a fit, and is not trained")
    if not torch.cuda.is_available():
        _run_on_meta(case)
        return "likely: nothing in a step waits for a value; not captured, as there is no CUDA device"
    module = module.cuda()
    x_BCHW = case.x_BCHW.cuda()
    trainer = Trainer(module, case.recipe)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            trainer.backward(x_BCHW)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        trainer.backward(x_BCHW)
    return "yes: a step was captured"


def check_stacked_seeds(case: Case) -> str:
    """Whether networks of several seeds can be evaluated as one, stacked."""
    modules = [build(case.variant, case.images_NCHW, seed=seed).eval() for seed in (0, 1)]
    parameters, buffers = torch.func.stack_module_state(modules)

    def one(parameters: dict[str, Any], buffers: dict[str, Any], x_BCHW: Tensor) -> Tensor:
        return torch.func.functional_call(modules[0], (parameters, buffers), (x_BCHW,))  # type: ignore[no-any-return]

    with torch.no_grad():
        stacked = torch.vmap(one, in_dims=(0, 0, None), randomness="different")(parameters, buffers, case.x_BCHW)
    apart = torch.stack([evaluated(module)(case.x_BCHW) for module in modules])
    if not _close(stacked, apart):
        raise ContractError(f"stacked networks differ from single ones by up to {_largest(stacked, apart)}")
    return "yes"


def _training_output(module: nn.Module, x_BCHW: Tensor) -> TrainingOutput:
    if is_closed_form(module):
        raise SkipCheck("it has a fit, and is not trained")
    seed_stream(0, Stream.TRAINING_NOISE)
    return training_forward(module.train(), x_BCHW)


def _close(one: Tensor, other: Tensor) -> bool:
    """Say whether two batches are equal but for sums in another order.

    Held against how much the second one's images differ among themselves: an untrained network's hardly do.
    """
    if one.shape != other.shape:
        return False
    rounding = 1e-5 * max(1.0, float(other.abs().max()))
    return float((one - other).abs().max()) <= rounding + 0.02 * float((other - other.roll(1, 0)).abs().max())


def _largest(one: Tensor, other: Tensor) -> str:
    return f"{float((one - other).abs().max()):.2g}" if one.shape == other.shape else "their shape"
