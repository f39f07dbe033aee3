"""Check one architecture against the contract, without training it: the preflight of a bench.

Each failure is a `ContractError` that says what was expected and what came.
"""

import math
import time
from contextlib import suppress

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aezoo.architecture import ImageShape, Variant
from aezoo.errors import AezooError, ContractError, reason_of
from aezoo.measurement import PeakMemory
from aezoo.modules import halves, num_params, to_float, training_forward
from aezoo.recipe import Recipe
from aezoo.records import Preflight
from aezoo.training import Stream, Trainer, arithmetic, seed_stream

STEPS = 3
"""Steps whose fastest estimates a trial's time."""


def preflight(variant: Variant, images_NCHW: Tensor, recipe: Recipe, *, compiled: bool = False) -> Preflight:
    """Build a variant and try it on a batch of real images, uint8, on the device.

    Raises:
        ContractError: it cannot be built or stepped, or what it returns is not what the contract says.
        MemoryError: its parameters alone are more than the memory that is free; nothing was allocated.
    """
    device = images_NCHW.device.type
    check_size(variant, _shape(images_NCHW), device)
    memory = PeakMemory(device)
    module = build(variant, images_NCHW, seed=0)
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])
    with torch.no_grad(), arithmetic(recipe.precision, device):
        module.eval()(x_BCHW.clone())
    infer_memory = memory.host(), memory.device()
    check_forward(module, x_BCHW[:2])
    latent_shape = check_latent(module, x_BCHW[:2], variant)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        module(x_BCHW[:1].clone())
    found = Preflight(
        objective=objective(module),
        num_params=num_params(module),
        latent_shape=latent_shape,
        latent_size=None if latent_shape is None else math.prod(latent_shape),
        deterministic=True,
        flops_per_image=flops.get_total_flops(),
        closed_form=hasattr(module, "fit"),
        step_seconds=0.0,
        infer_peak_memory_bytes=infer_memory[0],
        infer_peak_device_memory_bytes=infer_memory[1],
    )
    steps = {} if found.closed_form else check_training(module, x_BCHW, recipe, compiled=compiled)
    peaks = {"peak_memory_bytes": memory.host(), "peak_device_memory_bytes": memory.device()}
    del module
    deterministic = is_deterministic(variant, images_NCHW, recipe)
    return found.model_copy(update=steps | peaks | {"deterministic": deterministic})


def check_size(variant: Variant, image_shape: ImageShape, device: str) -> None:
    """Refuse, before anything is allocated, a network whose parameters cannot be held, let alone be trained."""
    parameters: list[nn.Parameter] = []
    # Not every build works without real numbers; what is wrong with the others, building them in earnest will tell.
    with suppress(Exception), torch.device("meta"):
        parameters = list(variant.build(image_shape).parameters())
    # A trained one has a gradient and Adam's two moments beside it.
    needed = sum(one.numel() * one.element_size() * (4 if one.requires_grad else 1) for one in parameters)
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"its {sum(one.numel() for one in parameters):,} parameters, with gradients and Adam's moments, need "
            f"{needed / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free"
        )


def build(variant: Variant, images_NCHW: Tensor, seed: int) -> nn.Module:
    """Build a variant on the images' device, drawing from the trial's stream for initialisation.

    Raises:
        ContractError: its build function refused or failed, or returned something else than an ``nn.Module``.
    """
    seed_stream(seed, Stream.INITIALISATION)
    try:
        module = variant.build(_shape(images_NCHW))
    except (AezooError, ValueError) as error:
        raise ContractError(str(error)) from error
    if not isinstance(module, nn.Module):
        raise ContractError(f"build must return an nn.Module, but returned {type(module).__name__}")
    return module.to(images_NCHW.device)


def _shape(images_NCHW: Tensor) -> ImageShape:
    channels, height, width = images_NCHW.shape[1:]
    return channels, height, width


def objective(module: nn.Module) -> str:
    """Return what the module says is optimised.

    Raises:
        ContractError: it is not a line of text.
    """
    text = getattr(module, "objective", "mse")
    if not isinstance(text, str) or not text.strip():
        raise ContractError(f"objective must be a line of text such as 'mse + kl', but is {text!r}")
    return text


def check_forward(module: nn.Module, x_BCHW: Tensor) -> None:
    """Check shape, dtype and finiteness of the reconstruction, and that the input is untouched."""
    module.eval()
    given = x_BCHW.clone()
    with torch.no_grad():
        output = module(given)
    if not isinstance(output, Tensor):
        raise ContractError(f"forward must return a tensor of shape (B, C, H, W), but returned {type(output).__name__}")
    if output.shape != x_BCHW.shape:
        raise ContractError(f"expected reconstructions of shape {tuple(x_BCHW.shape)}, got {tuple(output.shape)}")
    if output.dtype != x_BCHW.dtype:
        raise ContractError(f"expected reconstructions of dtype {x_BCHW.dtype}, got {output.dtype}")
    if not torch.isfinite(output).all():
        raise ContractError("the untrained network's reconstruction has NaN or infinite pixels")
    if not torch.equal(given, x_BCHW):
        raise ContractError("forward changes its input in place; work on a copy: x.clone()")


def check_latent(module: nn.Module, x_BCHW: Tensor, variant: Variant) -> tuple[int, ...] | None:
    """Return the shape of one image's latent, or None where the module has no two halves."""
    found = halves(module)
    if found is None:
        return None
    with torch.no_grad():
        latent = found[0](x_BCHW.clone())
        reconstruction = module(x_BCHW.clone())
    if not isinstance(latent, Tensor) or latent.ndim < 2 or len(latent) != len(x_BCHW):
        given = tuple(latent.shape) if isinstance(latent, Tensor) else type(latent).__name__
        raise ContractError(f"the encoder must return a latent of shape ({len(x_BCHW)}, ...), got {given}")
    latent_dim = variant.hyperparameters.get("latent_dim")
    if latent.ndim == 2 and isinstance(latent_dim, int) and latent.shape[1] != latent_dim:
        raise ContractError(f"latent_dim={latent_dim}, but the encoder's latent has {latent.shape[1]} numbers an image")
    with torch.no_grad():
        # What an encoder leaves behind for its decoder, as a U-Net does, is now that of other images.
        kept = latent.clone()
        found[0](1 - x_BCHW)
        decoded = found[1](kept)
    if decoded.shape != reconstruction.shape or not torch.allclose(decoded, reconstruction, rtol=1e-3, atol=1e-4):
        raise ContractError(
            "forward is not its decoder on its encoder's latent: something passes around the bottleneck"
        )
    return tuple(latent.shape[1:])


def is_deterministic(variant: Variant, images_NCHW: Tensor, recipe: Recipe) -> bool:
    """Build the variant and take a step twice, from one seed, and say whether both came to the same, bit by bit.

    A closed form is built twice, not fitted.
    """
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])
    found = []
    for _ in range(2):
        module = build(variant, images_NCHW, seed=0)
        seed_stream(0, Stream.TRAINING_NOISE)
        if not hasattr(module, "fit"):
            Trainer(module, recipe).step(x_BCHW.clone())
        seed_stream(0, Stream.EVALUATION)
        with torch.no_grad(), arithmetic(recipe.precision, x_BCHW.device.type):
            found.append([module.eval()(x_BCHW[:2].clone()), *module.state_dict().values()])
    # Compared as bytes: a NaN that comes twice is the same.
    return all(torch.equal(_bytes(one), _bytes(other)) for one, other in zip(*found, strict=True))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def check_training(module: nn.Module, x_BCHW: Tensor, recipe: Recipe, *, compiled: bool) -> dict[str, float | None]:
    """Take a few steps, check the penalty, and return what they cost, by the names of `Preflight`."""
    module.train()
    penalty = training_forward(module, x_BCHW.clone()).penalty
    if penalty is not None:
        if not isinstance(penalty, Tensor) or penalty.ndim != 0:
            given = tuple(penalty.shape) if isinstance(penalty, Tensor) else type(penalty).__name__
            raise ContractError(f"penalty must be a scalar tensor or None, got {given}")
        if objective(module) == "mse":
            raise ContractError("training_forward adds a penalty, but objective says 'mse'; name it, as in 'mse + kl'")
        if not torch.isfinite(penalty):
            raise ContractError(f"the untrained network's penalty is {penalty.item()}")
    trainer = Trainer(module, recipe, compiled=compiled)
    fastest = math.inf
    try:
        compile_seconds = trainer.compile(x_BCHW) if compiled else None
        for _ in range(STEPS):
            started = time.perf_counter()
            float(trainer.step(x_BCHW))
            fastest = min(fastest, time.perf_counter() - started)
    except RuntimeError as error:
        if "does not require grad" in str(error):
            raise ContractError(f"the reconstruction does not depend on a parameter: {reason_of(error)}") from error
        raise
    few = x_BCHW[:2].clone()
    with FlopCounterMode(display=False) as flops:
        Trainer(module, recipe).backward(few)
    return {
        "step_seconds": fastest,
        "compile_seconds": compile_seconds,
        "train_flops_per_image": flops.get_total_flops() // len(few),
    }
