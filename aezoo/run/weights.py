"""What was trained: a network's weights as the bytes of a safetensors file, and back into a network of its kind."""

import safetensors.torch
import torch
from torch import nn

from aezoo.errors import AezooError, reason_of


def pack(module: nn.Module) -> bytes:
    """Return a network's parameters and buffers as the content of a safetensors file.

    A tensor that has two names is written under both, so that reading needs to know nothing of it.

    Raises:
        AezooError: something of its state is no tensor, or of a dtype that safetensors has not.
    """
    state = module.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise AezooError(f"its state holds {other[0]!r}, which is no tensor; use register_buffer")
    try:
        return safetensors.torch.save(
            {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
        )
    except Exception as error:
        raise AezooError(f"safetensors does not take its weights: {reason_of(error)}") from error


def unpack(content: bytes, module: nn.Module) -> None:
    """Give a network the weights that `pack` returned of another of its kind; it stays on its device.

    Raises:
        AezooError: the content is not whole, or is another network's.
    """
    try:
        module.load_state_dict(safetensors.torch.load(content))
    except Exception as error:
        raise AezooError(f"the weights do not fit the network: {reason_of(error)}") from error
