"""A training between two steps: what it consists of, beside its network's code and its seed.

That is the network's tensors, Adam's, the random streams, and how far it has come. What else changes in a network as it
trains, in an attribute that is no buffer, is no part of it: `aezoo.check.resume` finds that out.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aezoo.errors import AezooError

_RANDOM = "random/"


class StateError(AezooError):
    """A state that cannot be taken, or is not that of the training that is to go on from it."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A training after so many steps.

    Args:
        steps: Those that are done.
        seconds: Those that they took.
        curve: (step, mean training MSE since the point before).
        tensors: Of the network, of Adam and of torch's random streams, by name; copies, on the host.
        streams: Where the random streams of Python and of numpy are, as JSON has it.
        compile_seconds: What it took to compile them; None where nothing was.
    """

    steps: int
    seconds: float
    curve: list[tuple[int, float]]
    tensors: Mapping[str, Tensor]
    streams: Mapping[str, Any]
    compile_seconds: float | None = None


def network_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return a network's parameters and buffers by name, those among them that its ``state_dict`` leaves out.

    Raises:
        StateError: its ``state_dict`` holds something else.
    """
    tensors: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    other = [name for name in module.state_dict() if name not in tensors]
    if other:
        raise StateError(f"its state holds {other[0]!r}, which is no parameter and no buffer")
    return tensors


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors on the host."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def put_back(saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Give tensors the values of others, in place, so that they stay where and how they lie.

    Raises:
        StateError: the others are not of the same names, shapes and dtypes; nothing was changed.
    """
    for name in sorted(saved.keys() ^ own.keys()):
        raise StateError(f"{name} is in one of them alone")
    for name, tensor in own.items():
        if (saved[name].shape, saved[name].dtype) != (tensor.shape, tensor.dtype):
            raise StateError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} in one of them alone")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def random_tensors(device: str) -> dict[str, Tensor]:
    """Return where torch's random streams are, that of the device among them, uint8."""
    streams = {f"{_RANDOM}cpu": torch.get_rng_state()}
    if device != "cpu":
        streams[f"{_RANDOM}{device}"] = torch.get_device_module(device).get_rng_state()
    return streams


def random_streams() -> dict[str, Any]:
    """Return where the random streams of Python and of numpy are, as JSON has it."""
    state: Any = np.random.get_state(legacy=False)
    key = [int(number) for number in state["state"]["key"]]
    return {"python": random.getstate(), "numpy": {**state, "state": {**state["state"], "key": key}}}


def set_random(tensors: Mapping[str, Tensor], streams: Mapping[str, Any], device: str) -> None:
    """Take the random streams to where `random_tensors` and `random_streams` found them.

    Raises:
        StateError: they are not such streams.
    """
    try:
        version, numbers, gauss = streams["python"]
        random.setstate((version, tuple(numbers), gauss))
        state = streams["numpy"]
        np.random.set_state({**state, "state": {**state["state"], "key": np.array(state["state"]["key"], np.uint32)}})
        torch.set_rng_state(tensors[f"{_RANDOM}cpu"])
        if device != "cpu":
            torch.get_device_module(device).set_rng_state(tensors[f"{_RANDOM}{device}"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StateError(f"its random streams are none: {error}") from error
