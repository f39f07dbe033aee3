"""Whether the steps of a training can be captured in a CUDA graph, and if not, why.

A graph repeats kernels: what Python decides, counts or draws at a step it would do once and for all. Looked at are the
network's attributes, random streams, losses and tensors, over a few steps. What a plugin keeps outside of its network,
in a global variable or a closure, nobody sees, unless a loss or a tensor of these steps depends on it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from aezoo.check.resume import attributes, same_bytes
from aezoo.contract.architecture import Variant
from aezoo.contract.network import to_float
from aezoo.contract.recipe import Layout, Recipe
from aezoo.errors import AezooError, reason_of
from aezoo.machine import is_out_of_memory
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.engine import Trainer
from aezoo.train.graph import GRAPH_STEPS, GraphedSteps
from aezoo.train.layout import lay_out
from aezoo.train.state import random_streams, random_tensors

REPLAYS = 2
"""How often the graph is replayed, after steps that are taken one by one."""


class CaptureError(AezooError):
    """Why steps cannot be captured, in a line."""


def draws_when_captured(variant: Variant, images_NCHW: Tensor, recipe: Recipe, layout: Layout) -> bool:
    """Take the same steps one by one and by a graph, and say whether they draw random numbers, on the device.

    It is the last thing that a process should do: after a capture that failed, the device's random stream is lost.

    Args:
        variant: Not one of a closed form.
        images_NCHW: uint8, on the device, a batch at most.
        recipe: Of the training.
        layout: Of the network.

    Raises:
        CaptureError: a graph would not come to the same, bit by bit, or cannot be made.
    """
    numbers = torch.arange(recipe.batch_size, device=images_NCHW.device)
    # Each batch has its images in another order.
    batches = [images_NCHW[(numbers + step) % len(images_NCHW)] for step in range((1 + REPLAYS) * GRAPH_STEPS)]

    def trainer() -> Trainer:
        made = Trainer(lay_out(build(variant, images_NCHW, seed=0), layout), recipe)
        seed_stream(0, Stream.TRAINING_NOISE)
        return made

    losses, tensors, draws = _take_singly(trainer(), batches)
    try:
        graphed = trainer()
        replayed = GraphedSteps(graphed).take(batches)
        others = graphed.tensors()
    except (RuntimeError, AezooError) as error:
        # What follows the first line of CUDA's errors, and where to search, is the same for all of them.
        said = reason_of(error).partition(" Search for")[0]
        raise CaptureError(
            "no memory for it beside the steps themselves" if is_out_of_memory(error) else said
        ) from error
    if not same_bytes(losses, replayed):
        raise CaptureError("its losses are not those of steps that are taken one by one")
    for name, tensor in tensors.items():
        if not same_bytes(tensor, others[name]):
            raise CaptureError(f"{name.partition('/')[2]} is not as after steps that are taken one by one")
    return draws


def _take_singly(trainer: Trainer, batches: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor], bool]:
    """Take a step on each batch; return the losses, (steps,), all tensors after them, and whether the device drew.

    Raises:
        CaptureError: a step counts or draws something on the host.
    """
    device = batches[0].device.type
    before, streams = random_tensors(device), random_streams()
    first = [trainer.step(to_float(pixels_BCHW)) for pixels_BCHW in batches[:GRAPH_STEPS]]
    held = attributes(trainer.module)
    losses = torch.stack(first + [trainer.step(to_float(pixels_BCHW)) for pixels_BCHW in batches[GRAPH_STEPS:]])
    now = attributes(trainer.module)
    for name in {**held, **now}:
        if held.get(name) != now.get(name):
            raise CaptureError(f"{name} changes as it trains, and is no buffer (register_buffer)")
    after = random_tensors(device)
    drawn = {name for name, state in before.items() if not torch.equal(state, after[name])}
    if random_streams() != streams or (device != "cpu" and "random/cpu" in drawn):
        raise CaptureError("it draws random numbers on the host, where a step has them from once and for all")
    return losses, trainer.tensors(), bool(drawn)
