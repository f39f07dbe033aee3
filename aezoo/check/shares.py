"""Whether a training over several processes takes the steps of one process, and if not, what each has of its own."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aezoo.contract.architecture import Variant
from aezoo.contract.network import to_float
from aezoo.contract.recipe import Layout, Recipe
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.engine import Trainer
from aezoo.train.layout import lay_out
from aezoo.train.parallel import Share
from aezoo.train.state import random_streams, random_tensors

ROUNDING = {"float32": 1e-3, "tf32": 2e-2, "bfloat16": 1e-1}
"""By how much, of its largest number, a gradient may differ that was summed in another order."""


@dataclass(frozen=True, kw_only=True)
class _Step:
    """The gradients of a batch, whether random numbers were drawn for it, and the buffers that it changed."""

    gradients: dict[str, Tensor]
    draws: bool
    changed: list[str]


def share_notes(
    variant: Variant, images_NCHW: Tensor, recipe: Recipe, layout: Layout, processes: int
) -> list[str]:  # fmt: skip
    """Hold the gradients of a batch against the mean of its shares'; say, a line each, what is each process's own.

    It starts no process.
    """
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])

    def step(x_BCHW: Tensor, rank: int) -> _Step:
        module = lay_out(build(variant, images_NCHW, seed=0), layout)
        return _take(module, x_BCHW, recipe, rank)

    whole = step(x_BCHW, 0)
    notes = []
    if whole.draws:
        notes.append("its training noise is drawn for each part of a batch")
    if whole.changed:
        notes.append("its buffers, such as batch statistics, are of a part of a batch, unless it gathers them")
    if not notes:
        parts = torch.arange(len(x_BCHW), device=x_BCHW.device)
        shares = [Share(rank=rank, processes=processes).part(parts) for rank in range(processes)]
        mean: dict[str, Tensor] = {}
        for rank, part in enumerate(shares):
            for name, gradient in step(x_BCHW[part], rank).gradients.items():
                mean[name] = mean.get(name, 0.0) + gradient * (len(part) / len(x_BCHW))
        if not _close(whole.gradients, mean, ROUNDING[recipe.precision]):
            notes.append("its loss of a batch is no mean over images")
    return [f"over {processes} processes its steps are not those of one: {'; '.join(notes)}"] if notes else []


def _take(module: nn.Module, x_BCHW: Tensor, recipe: Recipe, rank: int) -> _Step:
    device = x_BCHW.device.type
    # On a GPU batch norms are made such as have the statistics of the whole batch.
    norms = [
        f"{place}." for place, each in module.named_modules()
        if device == "cuda" and isinstance(each, nn.modules.batchnorm._BatchNorm)
    ]  # fmt: skip
    before = {name: buffer.clone() for name, buffer in module.named_buffers() if not name.startswith(tuple(norms))}
    seed_stream(0, Stream.TRAINING_NOISE, rank)
    streams, tensors = random_streams(), random_tensors(device)
    Trainer(module, recipe).backward(x_BCHW.clone())
    after = dict(module.named_buffers())
    return _Step(
        gradients={name: each.grad for name, each in module.named_parameters() if each.grad is not None},
        draws=streams != random_streams() or not _same(tensors, random_tensors(device)),
        changed=[name for name, buffer in before.items() if not torch.equal(buffer, after[name])],
    )


def _same(tensors: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


def _close(gradients: dict[str, Tensor], others: dict[str, Tensor], share: float) -> bool:
    """Say whether gradients are equal but for rounding; one that is hardly any, against the largest of all."""
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    return gradients.keys() == others.keys() and all(
        float((gradient - others[name]).abs().max()) <= share * max(float(gradient.abs().max()), 1e-3 * largest)
        for name, gradient in gradients.items()
    )
