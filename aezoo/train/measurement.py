"""The only clocks and scores. Nothing of a plugin runs in them but the network's own forward and backward.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable

import psutil
import torch
from torch import Tensor, nn

from aezoo import machine
from aezoo.contract.network import Half, to_float
from aezoo.contract.recipe import Precision, Recipe
from aezoo.errors import ContractError
from aezoo.train.loop import Trainer, arithmetic, whole_batch

EVALUATION_BATCH = 128
"""Small, so that what is computed of a batch stays in a core's cache; the score does not depend on it."""
BLOCKS = 5
"""A visit of the clocks times so many blocks, and takes the median: a short disturbance spoils one of them."""


def image_errors(
    module: nn.Module, images_NCHW: Tensor, precision: Precision = "float32", batch_size: int = EVALUATION_BATCH
) -> Tensor:
    """Return the mean squared error of each image, (N,), float64, on the host: evaluation mode, clean input.

    Summed in float64, so that neither it nor its mean, the score, depends on `batch_size`. What the network is
    compared with never passes through its hands.

    Raises:
        ContractError: a reconstruction is not of its image's shape.
    """
    module.eval()
    # One result for all: small ones, made between large temporaries, would keep the heap from shrinking.
    errors_N = torch.empty(len(images_NCHW), dtype=torch.float64)
    with torch.no_grad():
        for pixels, errors_B in zip(
            torch.split(images_NCHW, batch_size), torch.split(errors_N, batch_size), strict=True
        ):
            with arithmetic(precision, pixels.device.type):
                reconstruction = module(to_float(pixels))
            if not isinstance(reconstruction, Tensor) or reconstruction.shape != pixels.shape:
                given = tuple(reconstruction.shape) if isinstance(reconstruction, Tensor) else type(reconstruction)
                raise ContractError(f"expected reconstructions of shape {tuple(pixels.shape)}, got {given}")
            # An MPS device has no float64: there the sum moves to the host.
            exact = "cpu" if pixels.device.type == "mps" else pixels.device
            difference = reconstruction.to(exact).double() - to_float(pixels).to(exact).double()
            errors_B.copy_(difference.square().flatten(1).mean(1))
    return errors_N


def active_units(encode: Half, images_NCHW: Tensor, precision: Precision = "float32") -> float:
    """Return how many numbers of an image's latent are not 0, on average: evaluation mode, clean input."""
    total = 0
    with torch.no_grad():
        for pixels in torch.split(images_NCHW, EVALUATION_BATCH):
            with arithmetic(precision, pixels.device.type):
                total += int(torch.count_nonzero(encode(to_float(pixels))))
    return total / len(images_NCHW)


def synchronise(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device != "cpu":
        torch.accelerator.synchronize()


def train_images_per_s(
    module: nn.Module, images_NCHW: Tensor, recipe: Recipe, seconds: float, device: str, *, compiled: bool = False
) -> float:
    """Time training steps, as the training loop takes them, for about `seconds` after a warm-up."""
    trainer = Trainer(module, recipe, compiled=compiled)
    x_BCHW = whole_batch(images_NCHW, recipe)
    return recipe.batch_size * _calls_per_s(lambda: trainer.step(x_BCHW), seconds, device)


def infer_images_per_s(
    module: nn.Module, images_NCHW: Tensor, recipe: Recipe, seconds: float, device: str, *, compiled: bool = False
) -> float:
    """Time reconstruction in evaluation mode, a batch of the recipe's size at a time."""
    module.eval()
    forward = torch.compile(module) if compiled else module
    x_BCHW = whole_batch(images_NCHW, recipe)
    with torch.no_grad(), arithmetic(recipe.precision, torch.device(device).type):
        return recipe.batch_size * _calls_per_s(lambda: forward(x_BCHW), seconds, device)


def matmul_flops_per_s(precision: Precision, seconds: float, device: str) -> float:
    """Time the product of two square matrices, which no network's arithmetic can be faster than; FLOPs a second."""
    side = 1024 if device == "cpu" else 8192
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    if precision == "bfloat16":
        a, b = a.bfloat16(), b.bfloat16()
    with torch.no_grad(), arithmetic(precision, torch.device(device).type):
        return 2 * side**3 * _calls_per_s(lambda: a @ b, seconds, device)


def _calls_per_s(call: Callable[[], object], seconds: float, device: str) -> float:
    call()  # Whatever a first call does beside its work, compiling perhaps, is over.
    synchronise(device)
    started = time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - started < seconds / 4:
        call()
        calls += 1
    synchronise(device)
    # The warm-up says how many calls fill a block, so that no clock is read between them.
    calls = max(1, round(calls * seconds / BLOCKS / (time.perf_counter() - started)))
    blocks = []
    for _ in range(BLOCKS):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        synchronise(device)
        blocks.append(time.perf_counter() - started)
    return calls / statistics.median(blocks)


class PeakMemory:
    """The memory that this process came to hold since this object was made: host and device, in bytes."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = psutil.Process().memory_info().rss
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def host(self) -> int | None:
        """Return what it added to the resident memory at its peak; None where this process is not the trial's own."""
        if not machine.is_own_process():
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return max(0, peak * (1 if sys.platform == "darwin" else 1024) - self._before)

    def device(self) -> int | None:
        """Return the most that tensors held on the accelerator; None on a CPU or where torch does not count."""
        return torch.cuda.max_memory_allocated() if self._device == "cuda" else None
