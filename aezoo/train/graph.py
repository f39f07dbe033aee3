"""Some steps as one CUDA graph: captured once, then replayed without what Python and the driver do for each kernel.

A replay runs the very kernels that were captured, and so comes to the same numbers bit by bit, where nothing of a step
is decided in Python: `aezoo.check.capture` looks for that, and says what nobody sees. On a device that has no such
graphs a replay calls the steps again: there every line of this runs too, and nothing is gained.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from aezoo.contract.network import to_float
from aezoo.errors import ContractError
from aezoo.train.engine import Trainer

GRAPH_STEPS = 10
"""Steps of one graph: with fewer its launch is felt, with more the capture."""


def captured(call: Callable[[], None], device: str) -> Callable[[], object]:
    """Return what runs the kernels that a call would launch, as often as it is called; the call itself has not run."""
    if device != "cuda":
        return call
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.graph(graph, stream=stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay


class GraphedSteps:
    """The steps of a training: the first ones as they come, which warms up what a capture must not, then by replays.

    Args:
        trainer: Takes them; its network has changed nothing in Python since.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.replays = 0
        self._trainer = trainer
        self._is_warm = False
        self._replay: Callable[[], object] | None = None

    def take(self, batches: Iterable[Tensor]) -> Tensor:
        """Take a step on each batch, uint8 (B, C, H, W) on the device, all of a size; return their MSE, on the device.

        Raises:
            ContractError: a parameter had its first gradient after the first steps.
        """
        waiting = list(batches)
        losses = []
        while waiting:
            some, waiting = waiting[:GRAPH_STEPS], waiting[GRAPH_STEPS:]
            if len(some) == GRAPH_STEPS and self._is_warm:
                losses.append(self._replayed(some))
            else:
                losses.append(torch.stack([self._trainer.step(to_float(pixels_BCHW)) for pixels_BCHW in some]))
                self._is_warm = True
        return torch.cat(losses)

    def _replayed(self, batches: list[Tensor]) -> Tensor:
        moments = self._trainer.num_moments
        if self._replay is None:
            self._pixels = torch.stack(batches)
            self._losses = torch.zeros(len(batches), device=self._pixels.device)
            self._paces = self._trainer.paces(len(batches))
            self._replay = captured(self._step_each, self._pixels.device.type)
        else:
            torch.stack(batches, out=self._pixels)
            self._paces.copy_(self._trainer.paces(len(batches)))
        self._replay()
        self._trainer.passed(len(batches))
        if self._trainer.num_moments != moments:
            raise ContractError("a parameter had its first gradient after the first steps, which a graph would repeat")
        self.replays += 1
        return self._losses.clone()

    def _step_each(self) -> None:
        for number, pixels_BCHW in enumerate(self._pixels):
            self._losses[number].copy_(self._trainer.step(to_float(pixels_BCHW), self._paces[number]))
