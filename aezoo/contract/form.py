"""The form in which a network of somebody else's takes and gives images, and the way there and back.

Shapes: the harness's images are (B, C, H, W), float32, pixels in [0, 1].
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aezoo.contract.architecture import ImageShape
from aezoo.errors import AezooError, ContractError


@dataclass(frozen=True, kw_only=True)
class ImageForm:
    """The form in which a network takes and gives images, where that is not the harness's.

    Args:
        shape: The harness's images, (channels, height, width): what the build function is given.
        range: What pixels go from and to, in place of [0, 1].
        logits: Whether its output is logits, and a sigmoid makes pixels of them.
        multiple: Sides are padded to a multiple of this, on the right and below, with what is 0 to the harness;
            reconstructions are cropped again.
        at_least: Sides are padded to this, likewise.
        channels: Grey images are repeated to so many channels, and their reconstructions averaged over them.
        flat: Whether it works on flat images, (B, channels · height · width).
    """

    shape: ImageShape
    range: tuple[float, float] = (0.0, 1.0)
    logits: bool = False
    multiple: int = 1
    at_least: int = 1
    channels: int | None = None
    flat: bool = False

    def __post_init__(self) -> None:
        low, high = self.range
        if not low < high:
            raise AezooError(f"range must be the least and the greatest pixel, such as (-1, 1), but is {self.range}")
        if self.logits and self.range != (0.0, 1.0):
            raise AezooError(f"logits are of pixels in [0, 1], but range is {self.range}")
        for name in ("multiple", "at_least"):
            if getattr(self, name) < 1:
                raise AezooError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if self.channels not in (None, self.shape[0]) and self.shape[0] != 1:
            raise AezooError(
                f"it takes images of {self.channels} channels, but these have {self.shape[0]}: grey ones are repeated "
                "to them, and no others"
            )

    @property
    def taken(self) -> ImageShape:
        """The images that the network gets, (channels, height, width)."""
        _, height, width = self.shape
        sides = (math.ceil(max(side, self.at_least) / self.multiple) * self.multiple for side in (height, width))
        return (self.channels or self.shape[0], *sides)  # type: ignore[return-value]

    @property
    def repeats(self) -> int:
        """How often a grey image stands in what the network gets: 3 where it is repeated to three channels."""
        return self.taken[0] // self.shape[0]

    @property
    def span(self) -> float:
        """From its least to its greatest pixel: 2 in [-1, 1]."""
        return self.range[1] - self.range[0]

    @property
    def adaptations(self) -> list[str]:
        """What it does to images, a line each."""
        (channels, *sides), (own_channels, *own_sides) = self.shape, self.taken
        lines = []
        if own_channels != channels:
            lines.append(f"grey is repeated to {own_channels} channels, and averaged back")
        if own_sides != sides:
            size, own = ("x".join(map(str, each)) for each in (sides, own_sides))
            lines.append(f"images are padded with 0 from {size} to {own}, and cropped again")
        if self.range != (0.0, 1.0):
            lines.append(f"pixels are in [{self.range[0]:g}, {self.range[1]:g}] inside")
        if self.logits:
            lines.append("a sigmoid makes pixels of its output")
        if self.flat:
            lines.append("images are flat inside")
        return lines

    def taking(self, x_BCHW: Tensor) -> Tensor:
        """Return the harness's images as the network takes them."""
        channels, height, width = self.taken
        x_BCHW = x_BCHW.expand(-1, channels, -1, -1)
        x_BCHW = F.pad(x_BCHW, (0, width - x_BCHW.shape[3], 0, height - x_BCHW.shape[2]))
        if self.range != (0.0, 1.0):
            x_BCHW = self.range[0] + self.span * x_BCHW
        return x_BCHW.flatten(1) if self.flat else x_BCHW

    def giving(self, y: Tensor) -> Tensor:
        """Return what the network gives as the harness's images.

        Raises:
            ContractError: it is of another shape.
        """
        expected = (math.prod(self.taken),) if self.flat else self.taken
        if not isinstance(y, Tensor) or tuple(y.shape[1:]) != expected:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ContractError(f"expected reconstructions of shape (B, {', '.join(map(str, expected))}), got {got}")
        y = y.reshape(len(y), *self.taken)
        channels, height, width = self.shape
        y = y[..., :height, :width]
        if y.shape[1] != channels:
            y = y.mean(1, keepdim=True)
        if self.logits:
            return torch.sigmoid(y)
        return y if self.range == (0.0, 1.0) else (y - self.range[0]) / self.span
