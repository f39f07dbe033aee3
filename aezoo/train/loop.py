"""The only training loop: which batches there are, in which order, and how many steps.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.contract.network import to_float
from aezoo.contract.recipe import Recipe
from aezoo.contract.shared import is_streamed, own_copy, some
from aezoo.train.build import Stream, seed_stream, stream_seed
from aezoo.train.engine import Trainer, whole_batch
from aezoo.train.graph import GRAPH_STEPS, GraphedSteps
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

    `compile_seconds`, outside the loop, is None where nothing was compiled, and `graph_steps`, those of one CUDA graph,
    where none took any.
    """

    seconds: float
    curve: list[tuple[int, float]]
    compile_seconds: float | None = None
    graph_steps: int | None = None


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


class Training:
    """A network's training for the recipe's budget, a block of steps at a time.

    Args:
        module: On the device already.
        images_NCHW: The training images, uint8, on the same device; those that are streamed on the host.
        recipe: The settings.
        seed: The trial's; batch order and training noise derive from it.
        compiled: Whether to compile the step, before the clock starts.
        graphed: Whether to take steps by a CUDA graph.
        apart: Whether an accelerator is given its steps on a stream of their own, beside those of other trainings.
        device: The network's; by default that of the images.
        resumed: The state of the same training, from which it goes on as if it had not stopped.
        share: This process's, of a training that several take part in.

    Raises:
        StateError: the state is not that of such a training.
        ContractError: the network broke the contract.
    """

    def __init__(
        self,
        module: nn.Module,
        images_NCHW: Tensor,
        recipe: Recipe,
        seed: int,
        *,
        compiled: bool = False,
        graphed: bool = False,
        apart: bool = False,
        device: torch.device | str | None = None,
        resumed: State | None = None,
        share: Share = WHOLE,
    ) -> None:
        self.steps = recipe.num_steps(len(images_NCHW))
        self._device = torch.device(device or images_NCHW.device)
        self._share, self._batch_size = share, recipe.batch_size
        self._trainer = Trainer(module, recipe, steps=self.steps, compiled=compiled, share=share)
        self._graph = GraphedSteps(self._trainer) if graphed else None
        self._compile_seconds = (
            self._trainer.compile(whole_batch(images_NCHW, recipe).to(self._device)) if compiled else None
        )
        seed_stream(seed, Stream.TRAINING_NOISE, share.rank)
        self._done, self._seconds, self._curve = 0, 0.0, list[tuple[int, float]]()
        if resumed is not None:
            self._trainer.restore(resumed.tensors, resumed.steps)
            set_random(resumed.tensors, resumed.streams, self._device.type)
            self._done, self._seconds, self._curve = resumed.steps, resumed.seconds, list(resumed.curve)
            if compiled:
                self._compile_seconds = (self._compile_seconds or 0.0) + (resumed.compile_seconds or 0.0)
        self._stream = torch.Stream(self._device) if apart and self._device.type != "cpu" else None
        if self._stream is not None:
            # What moved the images and the network there has been queued on another one.
            self._stream.wait_stream(torch.accelerator.current_stream(self._device))
        self._blocks = _blocks(images_NCHW, recipe, seed, self._done, self.steps, self._device, share, as_bytes=graphed)
        self._losses: Tensor | None = None
        self._started = 0.0

    @property
    def is_over(self) -> bool:
        """Whether all steps are done."""
        return self._done == self.steps

    def give(self) -> None:
        """Give the device the steps of the next block, without waiting for them.

        Raises:
            ContractError: the network broke the contract.
        """
        self._started = time.perf_counter()
        with self._stream or nullcontext():
            batches = next(self._blocks)
            take = self._graph.take if self._graph else self._step_each
            self._losses = take(batches)

    def wait(self) -> Pause:
        """Wait for the steps that were given.

        Raises:
            DivergedError: a loss was NaN or infinite.
        """
        assert self._losses is not None
        with self._stream or nullcontext():
            losses = self._share.mean(self._losses, self._batch_size)
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            raise DivergedError(f"the training loss was not finite at step {self._done + int(bad[0]) + 1}")
        self._done += len(losses)
        self._curve.append((self._done, float(losses.double().mean())))
        self._seconds += time.perf_counter() - self._started
        return Pause(steps=self._done, state=self._state)

    def finish(self) -> Trained:
        """Make the network what is scored, after the last step, and return how it went."""
        with self._stream or nullcontext():
            self._trainer.finish()
        return Trained(
            seconds=self._seconds, curve=self._curve, compile_seconds=self._compile_seconds,
            graph_steps=GRAPH_STEPS if self._graph and self._graph.replays else None,
        )  # fmt: skip

    def _step_each(self, batches: Iterable[Tensor]) -> Tensor:
        return torch.stack([self._trainer.step(x_BCHW) for x_BCHW in batches])

    def _state(self) -> State:
        return State(
            steps=self._done, seconds=self._seconds, curve=list(self._curve), compile_seconds=self._compile_seconds,
            tensors={**self._trainer.tensors(), **random_tensors(self._device.type)}, streams=random_streams(),
        )  # fmt: skip


def train(
    module: nn.Module,
    images_NCHW: Tensor,
    recipe: Recipe,
    seed: int,
    on_block: Callable[[Pause], None],
    **settings: Any,
) -> Trained:
    """Train a network; the arguments are those of `Training`, and its errors.

    Args:
        on_block: Hears of each pause between two blocks, and of the last one's end; no clock counts what it takes.

    Raises:
        DivergedError: a loss was NaN or infinite.
    """
    training = Training(module, images_NCHW, recipe, seed, **settings)
    while not training.is_over:
        training.give()
        on_block(training.wait())
    return training.finish()


def train_side_by_side(
    trainings: Sequence[Training], on_block: Callable[[int, Pause], None]
) -> list[Trained | BaseException]:
    """Train networks at the same time, each on a stream of its own, and return what became of each, in their order.

    Each computes what it would alone, with kernels of its own; none may draw random numbers, of which there is one
    stream. The seconds of each are those of all.

    Args:
        trainings: Made with `apart`.
        on_block: Hears of each pause of each training, by its number.
    """
    acts: tuple[Callable[[Training], Pause | None], ...] = (Training.give, Training.wait)
    results: dict[int, Trained | BaseException] = {}
    while len(results) < len(trainings):
        for act in acts:
            for number, training in enumerate(trainings):
                if number in results:
                    continue
                try:
                    pause = act(training)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - what a plugin raises ends its own training
                    results[number] = error
                    continue
                if pause is not None:
                    on_block(number, pause)
                    if training.is_over:
                        results[number] = training.finish()
    return [results[number] for number in range(len(trainings))]


def _blocks(
    images_NCHW: Tensor,
    recipe: Recipe,
    seed: int,
    done: int,
    steps: int,
    device: torch.device,
    share: Share,
    *,
    as_bytes: bool,
) -> Iterator[Iterable[Tensor]]:
    """Yield the batches of one block after another, from step `done` on, each a float32 (B, C, H, W) on the device.

    Of each there is this process's part alone. Those `as_bytes` are uint8.
    """
    made = (lambda pixels: pixels) if as_bytes else to_float
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
            of_block = itertools.islice(gathered, math.ceil(min(BLOCK, steps - first) / size))
            yield (made(batch.to(device, non_blocking=pinned)) for part in of_block for batch in part)
    elif images_NCHW.numel() <= HELD_AS_FLOATS and not as_bytes:
        floats_NCHW = to_float(images_NCHW)
        for indices in blocks:
            yield (floats_NCHW[batch] for batch in indices.to(device))
    else:
        for indices in blocks:
            # A block is gathered at once, as bytes: a quarter of the memory of floats.
            yield (made(batch) for batch in images_NCHW[indices.to(device)])


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
