"""The only training loop: which batches there are, in which order, and how many steps.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aezoo.contract.network import to_float
from aezoo.contract.recipe import Recipe
from aezoo.contract.shared import is_streamed, own_copy, some
from aezoo.train.build import Stream, seed_stream, stream_seed
from aezoo.train.engine import Trainer, whole_batch
from aezoo.train.parallel import WHOLE, Share
from aezoo.train.state import State, random_streams, random_tensors, set_random

BLOCK = 50
"""Steps between two looks at the losses: a look waits for the device, and a curve needs no more points."""
AHEAD = 2**26
"""Bytes of batches that are gathered while others are trained, of images that are streamed; at least one batch."""
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


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A training between two blocks of steps: the steps that are done, and what returns its state after them."""

    steps: int
    state: Callable[[], State]


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
    on_block: Callable[[Pause], None],
    *,
    compiled: bool = False,
    device: torch.device | str | None = None,
    resumed: State | None = None,
    share: Share = WHOLE,
) -> Trained:
    """Train the network for the recipe's budget.

    Args:
        module: On the device already.
        images_NCHW: The training images, uint8, on the same device; those that are streamed on the host.
        recipe: The settings.
        seed: The trial's; batch order and training noise derive from it.
        on_block: Hears of each pause between two blocks, and of the last one's end; no clock counts what it takes.
        compiled: Whether to compile the step, before the clock starts.
        device: The network's; by default that of the images.
        resumed: The state of the same training, from which it goes on as if it had not stopped.
        share: This process's, of a training that several take part in.

    Raises:
        StateError: the state is not that of such a training.
        DivergedError: a loss was NaN or infinite.
        ContractError: the network broke the contract.
    """
    steps = recipe.num_steps(len(images_NCHW))
    where = torch.device(device or images_NCHW.device)
    trainer = Trainer(module, recipe, compiled=compiled, share=share)
    compile_seconds = trainer.compile(whole_batch(images_NCHW, recipe).to(where)) if compiled else None
    seed_stream(seed, Stream.TRAINING_NOISE, share.rank)
    done, seconds, curve = 0, 0.0, list[tuple[int, float]]()
    if resumed is not None:
        trainer.restore(resumed.tensors)
        set_random(resumed.tensors, resumed.streams, where.type)
        done, seconds, curve = resumed.steps, resumed.seconds, list(resumed.curve)
        compile_seconds = compile_seconds and compile_seconds + (resumed.compile_seconds or 0.0)

    def state() -> State:
        return State(
            steps=done, seconds=seconds, curve=list(curve), compile_seconds=compile_seconds,
            tensors={**trainer.tensors(), **random_tensors(where.type)}, streams=random_streams(),
        )  # fmt: skip

    started = time.perf_counter()
    for batches in _blocks(images_NCHW, recipe, seed, done, steps, where, share):
        losses = share.mean(torch.stack([trainer.step(x_BCHW) for x_BCHW in batches]), recipe.batch_size)
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            raise DivergedError(f"the training loss was not finite at step {done + int(bad[0]) + 1}")
        done += len(losses)
        curve.append((done, float(losses.double().mean())))
        seconds += time.perf_counter() - started
        on_block(Pause(steps=done, state=state))
        started = time.perf_counter()
    return Trained(seconds=seconds, curve=curve, compile_seconds=compile_seconds)


def _blocks(
    images_NCHW: Tensor, recipe: Recipe, seed: int, done: int, steps: int, device: torch.device, share: Share
) -> Iterator[Iterable[Tensor]]:
    """Yield the batches of one block after another, from step `done` on, each a float32 (B, C, H, W) on the device.

    Of each there is this process's part alone.
    """
    batches = itertools.islice(batch_indices(len(images_NCHW), recipe.batch_size, seed), done, None)
    blocks = (
        share.part(torch.stack([next(batches) for _ in range(min(BLOCK, steps - first))]))
        for first in range(done, steps, BLOCK)
    )
    if is_streamed(images_NCHW):
        batch_bytes = recipe.batch_size * math.prod(images_NCHW.shape[1:])
        size = max(1, min(BLOCK, AHEAD // batch_bytes))
        parts = (part for indices in blocks for part in torch.split(indices, size))
        # What is not pinned may be gone before a copy that nobody waits for has read it.
        pinned = device.type == "cuda"
        gathered = _read_ahead(images_NCHW, parts, pinned=pinned)
        for first in range(done, steps, BLOCK):
            some = itertools.islice(gathered, math.ceil(min(BLOCK, steps - first) / size))
            yield (to_float(batch.to(device, non_blocking=pinned)) for part in some for batch in part)
    elif images_NCHW.numel() <= HELD_AS_FLOATS:
        floats_NCHW = to_float(images_NCHW)
        for indices in blocks:
            yield (floats_NCHW[batch] for batch in indices.to(device))
    else:
        for indices in blocks:
            # A block is gathered at once, as bytes: a quarter of the memory of floats.
            yield (to_float(batch) for batch in images_NCHW[indices.to(device)])


def _read_ahead(images_NCHW: Tensor, parts: Iterator[Tensor], *, pinned: bool) -> Iterator[Tensor]:
    """Yield the bytes of some batches, on the host, while another thread gathers those of the next ones."""

    def read(indices: Tensor) -> Tensor:
        pixels = torch.empty((indices.numel(), *images_NCHW.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        return some(images_NCHW, indices.flatten().tolist(), pixels).view(*indices.shape, *images_NCHW.shape[1:])

    with ThreadPoolExecutor(1) as pool:
        waiting = next((pool.submit(read, indices) for indices in parts), None)
        while waiting is not None:
            ready, waiting = waiting, next((pool.submit(read, indices) for indices in parts), None)
            yield ready.result()


def fit(module: nn.Module, images_NCHW: Tensor, seed: int, device: torch.device | str | None = None) -> Trained:
    """Call the ``fit`` of a closed-form module in place of training, on the images as all trials share them: uint8.

    The module is on `device`, else on that of the images. Images that are streamed are fitted on the host.
    """
    seed_stream(seed, Stream.TRAINING_NOISE)
    started = time.perf_counter()
    home = torch.device(device or images_NCHW.device)
    # Closed forms are found in float64, which an MPS device has not: there they are found on the host.
    where = torch.device("cpu") if home.type == "mps" or is_streamed(images_NCHW) else home
    with torch.no_grad():
        module.to(where)
        # Its own copy: what it does to the images is done to no score.
        own = own_copy(images_NCHW) if is_streamed(images_NCHW) else images_NCHW.to(where, copy=True)
        module.fit(own)  # type: ignore[operator]
        module.to(home)
    return Trained(seconds=time.perf_counter() - started, curve=[])
