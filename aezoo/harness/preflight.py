"""Try a variant before a bench: the quick part of the conformance suite, and what its steps cost."""

import math
import time

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aezoo.check.case import Case, build, is_deterministic, latent_bits, latent_shape, objective
from aezoo.check.suite import examine, first_failure
from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.network import is_sparse, num_params, on_meta, to_float
from aezoo.contract.recipe import Recipe
from aezoo.errors import ContractError
from aezoo.run.records import LatentKind, Preflight
from aezoo.train.loop import Trainer, arithmetic
from aezoo.train.measurement import PeakMemory

STEPS = 3
"""Steps whose fastest estimates a trial's time."""


def preflight(variant: Variant, images_NCHW: Tensor, recipe: Recipe, *, compiled: bool = False) -> Preflight:
    """Build a variant and try it on a batch of real images, uint8, on the device.

    Raises:
        ContractError: it cannot be built or stepped, or what it returns is not what the contract says.
        MemoryError: its parameters alone are more than the memory that is free; nothing was allocated.
    """
    device = images_NCHW.device.type
    channels, height, width = images_NCHW.shape[1:]
    check_size(variant, (channels, height, width), device)
    suite = examine(Case(variant, images_NCHW, recipe), quick=True)
    try:
        # Measured first: what the checks leave in the heap would be counted as no memory at all.
        found = _measure(variant, images_NCHW, recipe, compiled=compiled)
    except Exception as error:
        found_by_suite = None if isinstance(error, MemoryError | torch.OutOfMemoryError) else first_failure(suite)
        if found_by_suite is None or found_by_suite.check == "builds":
            raise
        # The suite names the fault better than what came of it.
        raise ContractError(found_by_suite.told) from error
    failure = first_failure(suite)
    if failure is not None:
        raise ContractError(failure.told)
    deterministic = is_deterministic(variant, images_NCHW, recipe)
    return found.model_copy(update={"deterministic": deterministic})


def _measure(variant: Variant, images_NCHW: Tensor, recipe: Recipe, *, compiled: bool) -> Preflight:
    """Build the network, reconstruct a batch and take a few steps, and say what it is and what it costs."""
    device = images_NCHW.device.type
    memory = PeakMemory(device)
    module = build(variant, images_NCHW, seed=0)
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])
    with torch.no_grad(), arithmetic(recipe.precision, device):
        module.eval()(x_BCHW.clone())
    infer_memory = memory.host(), memory.device()
    shape = latent_shape(module, x_BCHW[:2].clone())
    bits = latent_bits(module, x_BCHW[:2].clone())
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        module(x_BCHW[:1].clone())
    found = Preflight(
        objective=objective(module),
        num_params=num_params(module),
        latent_shape=shape,
        latent_size=None if shape is None else math.prod(shape),
        latent_kind=_latent_kind(module, shape, bits),
        latent_bits=bits,
        deterministic=True,
        exceptions=dict(variant.architecture.exceptions),
        flops_per_image=flops.get_total_flops(),
        closed_form=hasattr(module, "fit"),
        step_seconds=0.0,
        infer_peak_memory_bytes=infer_memory[0],
        infer_peak_device_memory_bytes=infer_memory[1],
    )
    steps = {} if found.closed_form else measure_steps(module, x_BCHW, recipe, compiled=compiled)
    peaks = {"peak_memory_bytes": memory.host(), "peak_device_memory_bytes": memory.device()}
    return found.model_copy(update=steps | peaks)


def _latent_kind(module: nn.Module, shape: tuple[int, ...] | None, bits: float | None) -> LatentKind | None:
    if shape is None:
        return None
    return "discrete" if bits is not None else "sparse" if is_sparse(module) else "continuous"


def check_size(variant: Variant, image_shape: ImageShape, device: str) -> None:
    """Refuse, before anything is allocated, a network whose parameters cannot be held, let alone be trained."""
    skeleton = on_meta(lambda: variant.build(image_shape))
    parameters = [] if skeleton is None else list(skeleton.parameters())
    # A trained one has a gradient and Adam's two moments beside it.
    needed = sum(one.numel() * one.element_size() * (4 if one.requires_grad else 1) for one in parameters)
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"its {sum(one.numel() for one in parameters):,} parameters, with gradients and Adam's moments, need "
            f"{needed / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free"
        )


def measure_steps(module: nn.Module, x_BCHW: Tensor, recipe: Recipe, *, compiled: bool) -> dict[str, float | None]:
    """Take a few steps, and return what they cost, by the names of `Preflight`."""
    trainer = Trainer(module, recipe, compiled=compiled)
    fastest = math.inf
    compile_seconds = trainer.compile(x_BCHW) if compiled else None
    for _ in range(STEPS):
        started = time.perf_counter()
        float(trainer.step(x_BCHW))
        fastest = min(fastest, time.perf_counter() - started)
    return {
        "step_seconds": fastest,
        "compile_seconds": compile_seconds,
        "train_flops_per_image": _train_flops(module, x_BCHW[:2].clone(), recipe),
    }


def _train_flops(module: nn.Module, x_BCHW: Tensor, recipe: Recipe) -> int | None:
    """Count the FLOPs of a step, an image; None where torch's counter does not follow the network."""
    try:
        with FlopCounterMode(display=False) as flops:
            Trainer(module, recipe).backward(x_BCHW)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # Such a step was taken before, so the fault is the counter's: it cannot see a gradient within the forward pass.
        return None
    return int(flops.get_total_flops()) // len(x_BCHW)
