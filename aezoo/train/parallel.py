"""One training over several processes: each takes its share of every batch, and all take the same step.

Gradients are averaged by torch's own DistributedDataParallel. With one process nothing here does anything.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from aezoo.contract.network import Called, TrainingOutput

Forward = Callable[[nn.Module, Tensor], TrainingOutput]
_NEVER = timedelta(days=365)
"""How long a process waits for the others: whoever wants an end of it gives a trial a time limit."""


class ProcessFailedError(Exception):
    """One of several processes failed, and the others were ended. `facts` says how, by the names of a record."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(facts["reason"])
        self.facts = facts


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one of several processes has of a training. `rank` counts from 0."""

    rank: int = 0
    processes: int = 1

    def part(self, indices: Tensor) -> Tensor:
        """Return this process's part of batches of image numbers, (..., B), in their order."""
        return indices.tensor_split(self.processes, dim=-1)[self.rank]

    def weight(self, batch_size: int) -> float:
        """Return what a mean over this process's part counts for, so that the mean of all processes' is the batch's."""
        return len(self.part(torch.empty(batch_size))) * self.processes / batch_size

    def mean(self, losses: Tensor, batch_size: int) -> Tensor:
        """Return the losses of whole batches, on the host, from those of this process's parts of them."""
        if self.processes == 1:
            return losses.cpu()
        weighted = losses.double() * self.weight(batch_size)
        dist.all_reduce(weighted)
        return weighted.cpu() / self.processes

    def mean_gradient(self, gradient: Tensor, weight: float) -> Tensor:
        """Return the whole batch's gradient of a mean, from this process's, which counts for `weight` of it."""
        if self.processes == 1:
            return gradient
        gradient = gradient * (weight / self.processes)
        dist.all_reduce(gradient)
        return gradient

    def of_others(self, number: int | None, device: str) -> int:
        """Return the sum of the numbers of the other processes, which all give one."""
        if self.processes == 1 or number is None:
            return 0
        total = torch.tensor(number, dtype=torch.int64, device=device)
        dist.all_reduce(total)
        return int(total) - number

    @contextmanager
    def joined(self, device: str) -> Iterator[None]:
        """Be one of the processes while the context lasts; all that they say to each other stays on this machine.

        Where it ends in an error they are not told: whoever started them ends them, and hears whose error it was.
        """
        if self.processes == 1:
            yield
            return
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        if device == "cuda":
            torch.cuda.set_device(self.rank)
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_NEVER)
        yield
        dist.destroy_process_group()

    def forward_of(self, module: nn.Module, forward: Forward) -> Callable[[Tensor], TrainingOutput]:
        """Return what calls `forward` on the module, and lets a backward average the gradients of all processes.

        On an accelerator batch norms have their statistics of the whole batch. On a CPU torch has none that do.
        """
        if self.processes == 1:
            return functools.partial(forward, module)
        on_gpu = next(module.parameters()).device.type == "cuda"
        if on_gpu:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        # A step may leave parameters out, and not the same ones in each process.
        called = Called(module, functools.partial(forward, module))
        wrapped = nn.parallel.DistributedDataParallel(called, find_unused_parameters=True)
        return lambda x_BCHW: TrainingOutput(*wrapped(x_BCHW))


WHOLE = Share()
