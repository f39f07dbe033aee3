"""Whether a training goes on from a checkpoint as if it had not stopped, bit by bit, and if not, what it forgets."""

import inspect
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aezoo.contract.architecture import Variant
from aezoo.contract.network import to_float
from aezoo.contract.recipe import Layout, Recipe
from aezoo.train.build import Stream, build, seed_stream
from aezoo.train.engine import Trainer
from aezoo.train.layout import lay_out
from aezoo.train.state import StateError, random_streams, random_tensors, set_random

STEPS = 2
"""Before the checkpoint, and after it."""
_TORCHS_OWN = frozenset(vars(nn.Module()))


def resumption_fault(
    variant: Variant, images_NCHW: Tensor, recipe: Recipe, layout: Layout, *, compiled: bool = False
) -> str | None:
    """Train a network for a few steps, and another one from a checkpoint between; say what differs, or None.

    Compared, bit by bit, are their tensors, Adam's, the random streams, and the attributes of their modules: a counter
    that is no buffer may change nothing yet, and much later.
    """
    x_BCHW, device = to_float(images_NCHW[: recipe.batch_size]), images_NCHW.device.type

    def trainer() -> Trainer:
        module = lay_out(build(variant, images_NCHW, seed=0), layout)
        made = Trainer(module, recipe, compiled=compiled)
        if compiled:
            made.compile(x_BCHW)
        return made

    def after_steps(made: Trainer) -> dict[str, Tensor]:
        for _ in range(STEPS):
            made.step(x_BCHW.clone())
        return {**made.tensors(), **random_tensors(device)}

    try:
        straight = trainer()
        seed_stream(0, Stream.TRAINING_NOISE)
        before, streams = after_steps(straight), random_streams()
        uninterrupted, streams_after = after_steps(straight), random_streams()
        resumed = trainer()
        resumed.restore(before, STEPS)
        set_random(before, streams, device)
        again = after_steps(resumed)
    except StateError as error:
        return str(error)
    own, others = attributes(straight.module), attributes(resumed.module)
    for name in {**own, **others}:
        if own.get(name) != others.get(name):
            return f"{name} changes as it trains, and is no buffer (register_buffer)"
    if random_streams() != streams_after:
        return "it draws other random numbers after a checkpoint"
    for name, tensor in uninterrupted.items():
        if not same_bytes(tensor, again[name]):
            return f"{name.partition('/')[2]} differs after a checkpoint; something that it needs is no buffer"
    return None


def same_bytes(tensor: Tensor, other: Tensor) -> bool:
    """Say whether two tensors are equal bit by bit."""
    return torch.equal(_bytes(tensor), _bytes(other))


def attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a network's modules that are no parameters, buffers or modules, by name.

    They come as what tells two of them apart.
    """
    modules = dict(module.named_modules())
    seen = {id(each) for each in (*modules.values(), *module.parameters(), *module.buffers())}
    return {
        f"the attribute {name!r} of {place or type(each).__name__}": _comparable(value, seen)
        for place, each in modules.items()
        for name, value in vars(each).items()
        if name not in _TORCHS_OWN
    }


def _comparable(value: Any, seen: set[int]) -> Any:
    """Return what tells two values apart, whatever they are made of; None for what was seen before, and for code."""
    if isinstance(value, Tensor) and id(value) in seen:
        return None
    for kind, read in _LEAVES.items():
        if isinstance(value, kind):
            return repr(read(value))
    if id(value) in seen or isinstance(value, type) or inspect.isroutine(value):
        return None
    seen.add(id(value))
    if isinstance(value, Mapping):
        return [(repr(key), _comparable(item, seen)) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [_comparable(item, seen) for item in value]
    # Of what has no attributes nothing is known but its type: a repr may hold an address.
    return _comparable(vars(value), seen) if hasattr(value, "__dict__") else type(value).__qualname__


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


_LEAVES: dict[type, Callable[[Any], Any]] = {
    bool: bool, int: int, float: float, str: str, bytes: bytes,
    Tensor: lambda tensor: (tensor.shape, _bytes(tensor.detach().cpu()).numpy().tobytes()),
    np.ndarray: lambda array: array.tolist(),
    torch.Generator: lambda generator: generator.get_state().numpy().tobytes(),
    random.Random: lambda generator: generator.getstate(),
    np.random.Generator: lambda generator: generator.bit_generator.state,
    np.random.RandomState: lambda generator: generator.get_state(legacy=False),
}  # fmt: skip
"""What is compared as it stands, and how."""
