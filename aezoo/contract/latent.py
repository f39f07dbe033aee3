"""Latents of several parts, a tuple or a dictionary of tensors: laid end to end where one tensor is asked for."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def named_parts(latent: Any) -> dict[str, Tensor] | None:
    """Return the parts of a latent by name, each a tensor (B, ...); None where it is neither a tuple nor a dictionary.

    The parts of a tuple are called 0, 1 and so on, those of a named one by their names.
    """
    if isinstance(latent, Mapping):
        parts = {str(name): part for name, part in latent.items()}
    elif isinstance(latent, tuple | list):
        names = getattr(latent, "_fields", None) or map(str, range(len(latent)))
        parts = dict(zip(names, latent, strict=True))
    else:
        return None
    are_tensors = all(isinstance(part, Tensor) and part.ndim > 0 and not part.is_complex() for part in parts.values())
    return parts if parts and are_tensors and len({len(part) for part in parts.values()}) == 1 else None


@dataclass(frozen=True)
class Parts:
    """What a latent consists of, and how it lies in one tensor, (B, numbers), float32.

    Args:
        shapes: Of each part, by name, without the batch.
        dtypes: Of each part.
        join: Makes the latent, as the decoder takes it, of its parts, in their order.
    """

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    join: Callable[[list[Tensor]], Any]

    @classmethod
    def of(cls, latent: Any) -> "Parts | None":
        """Return what a latent consists of; None where it is not of several parts."""
        parts = named_parts(latent)
        if parts is None:
            return None
        kind, keys = type(latent), list(latent) if isinstance(latent, Mapping) else []
        join: Callable[[list[Tensor]], Any] = kind
        if keys:
            join = lambda tensors: dict(zip(keys, tensors, strict=True))  # noqa: E731 - as the others are
        elif hasattr(latent, "_fields"):
            join = lambda tensors: kind(*tensors)  # noqa: E731
        return cls(
            {name: tuple(part.shape[1:]) for name, part in parts.items()},
            {name: part.dtype for name, part in parts.items()},
            join,
        )

    @property
    def whole(self) -> bool:
        """Whether a part is of whole numbers, between two of which nothing lies."""
        return any(not dtype.is_floating_point for dtype in self.dtypes.values())

    def pack(self, latent: Any) -> Tensor:
        """Lay a latent's parts end to end: (B, numbers), float32, which holds whole numbers up to 2^24."""
        parts = named_parts(latent) or {}
        return torch.cat(
            [part.flatten(1).float() if part.ndim > 1 else part[:, None].float() for part in parts.values()], 1
        )

    def unpack(self, flat: Tensor) -> Any:
        """Return the latent that was laid out, its parts as they were."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        tensors = [
            (numbers if dtype.is_floating_point else numbers.round()).to(dtype).reshape(len(flat), *shape)
            for numbers, shape, dtype in zip(
                torch.split(flat, sizes, 1), self.shapes.values(), self.dtypes.values(), strict=True
            )
        ]
        return self.join(tensors)
