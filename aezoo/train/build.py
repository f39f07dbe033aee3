"""How a network comes to be: from which random stream, on which device, and whether it fits into memory at all.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.network import to_float
from aezoo.errors import AezooError, ContractError, RefusedError, reason_of
from aezoo.machine import is_out_of_memory


def on_meta(build: Callable[[], nn.Module]) -> nn.Module | None:
    """Build a network that has shapes, no numbers and no memory; None where it does not build without them."""
    try:
        with torch.device("meta"):
            module = build()
        return module if isinstance(module, nn.Module) else None
    except Exception:  # noqa: BLE001 - what is wrong with it, building it in earnest will tell
        return None


class Stream(IntEnum):
    """The separate random streams of a trial: what draws from one never moves another."""

    BATCH_ORDER = 0
    INITIALISATION = 1
    TRAINING_NOISE = 2
    EVALUATION = 3


def stream_seed(seed: int, stream: Stream, rank: int = 0) -> int:
    """Derive the seed of one of a trial's streams, in one of its processes; 63 bits."""
    entropy = [seed, stream, rank] if rank else [seed, stream]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_stream(seed: int, stream: Stream, rank: int = 0) -> None:
    """Seed everything global that a plugin may draw from, for one of a trial's streams, in one of its processes."""
    import random

    derived = stream_seed(seed, stream, rank)
    # torch.manual_seed also writes down, for each call, how to seed an accelerator that may never come.
    (torch if torch.accelerator.is_available() else torch.default_generator).manual_seed(derived)
    np.random.seed(derived % 2**32)
    random.seed(derived)


def is_lazy(module: nn.Module) -> bool:
    """Say whether a network has layers whose shapes are not known yet."""
    return any(isinstance(parameter, UninitializedParameter) for parameter in module.parameters())


def initialise(module: nn.Module, x_BCHW: Tensor) -> None:
    """Give lazy layers their shapes by a look at images (B, C, H, W); a network without such layers is left alone.

    Raises:
        ContractError: the network cannot be called on such images.
    """
    if not is_lazy(module):
        return
    try:
        with torch.no_grad():
            module.eval()(x_BCHW)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        shape = tuple(x_BCHW.shape)
        raise ContractError(f"its lazy layers find no shapes on images of {shape}: {reason_of(error)}") from error
    module.train()
    lazy = [name for name, each in module.named_parameters() if isinstance(each, UninitializedParameter)]
    if lazy:
        raise ContractError(f"its lazy layer {lazy[0].rpartition('.')[0]} is used by no forward pass: it has no shape")


def build(variant: Variant, images_NCHW: Tensor, seed: int, device: torch.device | str | None = None) -> nn.Module:
    """Build a variant on a device, else the images' own, drawing from the trial's stream for initialisation.

    Raises:
        RefusedError: its build function refused, in a line.
        ContractError: it returned something else than an ``nn.Module``.
    """
    seed_stream(seed, Stream.INITIALISATION)
    channels, height, width = images_NCHW.shape[1:]
    try:
        module = variant.build((channels, height, width))
    except (AezooError, ValueError) as error:
        raise RefusedError(str(error)) from error
    if not isinstance(module, nn.Module):
        raise ContractError(f"build must return an nn.Module, but returned {type(module).__name__}")
    module = module.to(device or images_NCHW.device)
    initialise(module, to_float(images_NCHW[:2].to(device or images_NCHW.device)))
    return module


def check_size(variant: Variant, image_shape: ImageShape, device: str) -> None:
    """Refuse, before anything is allocated, a network whose parameters cannot be held, let alone be trained."""
    skeleton = on_meta(lambda: variant.build(image_shape))
    parameters = [] if skeleton is None else list(skeleton.parameters())
    parameters = [parameter for parameter in parameters if not isinstance(parameter, UninitializedParameter)]
    # A trained one has a gradient and Adam's two moments beside it.
    needed = sum(
        parameter.numel() * parameter.element_size() * (4 if parameter.requires_grad else 1) for parameter in parameters
    )
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise MemoryError(
            f"its {sum(parameter.numel() for parameter in parameters):,} parameters, with gradients and Adam's "
            f"moments, need {needed / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB are free"
        )
