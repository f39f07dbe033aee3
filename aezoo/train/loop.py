"""The only training loop: which batches there are, in which order, and how many steps.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aezoo.contract.network import to_float
from aezoo.contract.recipe import Recipe
from aezoo.train.build import Stream, seed_stream, stream_seed
from aezoo.train.engine import Trainer, whole_batch

BLOCK = 50
"""Steps between two looks at the losses: a look waits for the device, and a curve needs no more points."""

HELD_AS_FLOATS = 2**24
"""Pixels of a data set, all images together, that a trial turns to floats once and not at every step: 64 MiB."""


class DivergedError(Exception):
    """A loss, or the score, became NaN or infinite."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How the training went: seconds in the loop, and (step, mean MSE since the point before).

    `compile_seconds`, outside the loop, is None where nothing was compiled.
    """

    seconds: float
    curve: list[tuple[int, float]]
    compile_seconds: float | None = None


def batch_indices(num_images: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield the image numbers of one batch after another, (B,) int64, for ever.

    They are cut from an endless run of shuffled epochs, so every batch is full, and each image is seen once an epoch.
    They come from a generator of their own: every variant sees the same batches in the same order.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, Stream.BATCH_ORDER))
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(num_images, generator=generator)])
        batch, left = left[:batch_size], left[batch_size:]
        yield batch


def train(
    module: nn.Module,
    images_NCHW: Tensor,
    recipe: Recipe,
    seed: int,
    on_step: Callable[[int], None],
    *,
    compiled: bool = False,
) -> Trained:
    """Train the network for the recipe's budget.

    Args:
        module: On the device already.
        images_NCHW: The training images, uint8, on the same device.
        recipe: The settings.
        seed: The trial's; batch order and training noise derive from it.
        on_step: Told the number of steps taken, once a block.
        compiled: Whether to compile the step, before the clock starts.

    Raises:
        DivergedError: a loss was NaN or infinite.
        ContractError: the network broke the contract.
    """
    steps = recipe.num_steps(len(images_NCHW))
    trainer = Trainer(module, recipe, compiled=compiled)
    compile_seconds = trainer.compile(whole_batch(images_NCHW, recipe)) if compiled else None
    batches = batch_indices(len(images_NCHW), recipe.batch_size, seed)
    seed_stream(seed, Stream.TRAINING_NOISE)
    curve: list[tuple[int, float]] = []
    started = time.perf_counter()
    floats_NCHW = to_float(images_NCHW) if images_NCHW.numel() <= HELD_AS_FLOATS else None
    for first in range(0, steps, BLOCK):
        size = min(BLOCK, steps - first)
        indices = torch.stack([next(batches) for _ in range(size)]).to(images_NCHW.device)
        if floats_NCHW is not None:
            losses = torch.stack([trainer.step(floats_NCHW[batch]) for batch in indices]).cpu()
        else:
            # A block is gathered at once, as bytes: a quarter of the memory of floats.
            losses = torch.stack([trainer.step(to_float(pixels)) for pixels in images_NCHW[indices]]).cpu()
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            raise DivergedError(f"the training loss was not finite at step {first + int(bad[0]) + 1}")
        curve.append((first + size, float(losses.double().mean())))
        on_step(first + size)
    return Trained(seconds=time.perf_counter() - started, curve=curve, compile_seconds=compile_seconds)


def fit(module: nn.Module, images_NCHW: Tensor, seed: int) -> Trained:
    """Call the ``fit`` of a closed-form module in place of training, on the images as all trials share them: uint8."""
    seed_stream(seed, Stream.TRAINING_NOISE)
    started = time.perf_counter()
    device = images_NCHW.device
    # Closed forms are found in float64, which an MPS device has not: there they are found on the host.
    where = torch.device("cpu") if device.type == "mps" else device
    with torch.no_grad():
        module.to(where)
        # Its own copy: what it does to the images is done to no score.
        module.fit(images_NCHW.to(where, copy=True))  # type: ignore[operator]
        module.to(device)
    return Trained(seconds=time.perf_counter() - started, curve=[])
