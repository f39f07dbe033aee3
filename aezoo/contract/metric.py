"""The contract of a metric: a number about a trained network, beside the score, that a plugin computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aezoo.contract.columns import is_reserved
from aezoo.errors import ContractError

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["train", "test"]
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Evaluation(Protocol):
    """What a metric may look at: a trained network on its data, in evaluation mode, without gradients.

    Everything is on the trial's device. Nothing that a metric does can change the score: that is taken before.
    """

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""
        ...

    def batches(self, part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and their reconstructions, each (B, C, H, W), float32, the images in [0, 1]."""
        ...

    def latents(self, part: Part) -> Tensor:
        """Return the latents of all images, (N, latent_size), float32.

        Raises:
            AezooError: the network has no latent.
        """
        ...

    def labels(self, part: Part) -> Tensor:
        """Return the images' labels, (N,), int64.

        Raises:
            AezooError: the data set has none.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number about a trained network, as a plugin declares it: a column of the table where it is asked for.

    Args:
        name: Small letters, digits and ``_``; the column's name, and what ``--metrics`` takes.
        compute: Takes an `Evaluation` and returns a finite number. Where it does not apply, it raises
            `aezoo.AezooError` with a line that says why; the column stays empty, and the notes say so.
        summary: One line that says what the number is, and its unit.
        reference: Author and year, or a URL.
        higher_is_better: Whether a larger number is the better one.
    """

    name: str
    compute: Callable[[Evaluation], Any]
    summary: str
    reference: str
    higher_is_better: bool

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(
                f"a metric's name is a small letter, then small letters, digits and '_', but got {self.name!r}"
            )
        if is_reserved(self.name):
            raise ContractError(f"the column {self.name!r} is aezoo's own; choose another name for the metric")
        if not callable(self.compute):
            raise ContractError(f"{self.name}: compute must be callable, but is {type(self.compute).__name__}")
