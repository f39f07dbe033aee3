"""A network that runs out of memory in its trial, by a real limit: a plugin, which `device.py` gives by its path."""

from collections.abc import Callable, Iterator

import psutil
import torch
from torch import Tensor, nn

import aezoo

ROOM, ASKED = 2**26, 2**30
"""Bytes that its process may still have, and bytes that it then asks for."""
PREFLIGHT = 40
"""Steps that no preflight takes with one network."""


def limit_host(more: int) -> None:
    """Let this process have no more memory than it has and so many bytes."""
    import resource

    limit = psutil.Process().memory_info().vms + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def limit_cuda(more: int) -> None:
    """Let this process have no more of an NVIDIA device's memory than it has and so many bytes."""
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + more) / torch.cuda.mem_get_info()[1])


def limit_mps(more: int) -> None:
    """Let this process have no more of an Apple device's memory than it has and so many bytes."""
    had = torch.mps.driver_allocated_memory()
    torch.mps.set_per_process_memory_fraction((had + more) / torch.mps.recommended_max_memory())


LIMITS: dict[str, Callable[[int], None]] = {"cpu": limit_host, "cuda": limit_cuda, "mps": limit_mps}
"""How the memory of a process is limited, by the kind of device."""


class Starved(aezoo.Autoencoder):
    """A linear autoencoder that, in its trial, limits its process and asks for more."""

    def __init__(self, image_shape: aezoo.ImageShape) -> None:
        pixels = torch.Size(image_shape).numel()
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(pixels, 2)),
            nn.Sequential(nn.Linear(2, pixels), nn.Unflatten(1, image_shape)),
        )
        self.steps = 0

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct, until the steps are more than a preflight takes."""
        self.steps += 1
        if self.steps > PREFLIGHT:
            LIMITS[x.device.type](ROOM)
            torch.ones(ASKED, dtype=torch.uint8, device=x.device)
        return aezoo.TrainingOutput(self(x))


def build(image_shape: aezoo.ImageShape) -> Starved:
    """Build it."""
    return Starved(image_shape)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `starved`, to a bench that is given this file."""
    yield aezoo.Architecture(name="starved", build=build, summary="Runs out of memory", reference="this file")
