"""Look at this installation and say, a line each, what works and what to do about what does not."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from aezoo import machine
from aezoo.contract.executor import Task
from aezoo.errors import reason_of
from aezoo.harness.local import default_jobs, run_tasks
from aezoo.registry.names import discover


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    told: str


def examine() -> Iterator[Finding]:
    """Yield the findings, one after another; none of them raises."""
    yield Finding(name="python", ok=True, told=f"{sys.version.split()[0]}, {sys.executable}")
    yield Finding(name="aezoo", ok=True, told=machine.version())
    yield from _torch()
    yield _torchvision()
    registry = discover()
    count = len(registry.architectures)
    yield Finding(name="plugins", ok=count > 0, told=f"{len(registry.plugins)} loaded, {count} architectures")
    for broken in registry.broken:
        yield Finding(name=f"plugin {broken.name}", ok=False, told=str(broken))
    yield _process()
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding(name="disk", ok=free > 1e9, told=f"{free / 1e9:.0f} GB free in {Path.cwd()}")


def _torch() -> Iterator[Finding]:
    try:
        device = machine.choose_device("auto")
        env = machine.capture(device, 1)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with torch is what we are here to say
        yield Finding(name="torch", ok=False, told=f"{reason_of(error)}; reinstall: pip install torch torchvision")
        return
    yield Finding(name="torch", ok=True, told=env.torch)
    jobs = default_jobs(device)
    yield Finding(name="device", ok=True, told=f"{device}: {env.device_name}; {jobs} trials side by side")


def _torchvision() -> Finding:
    try:
        import torchvision
    except Exception as error:  # noqa: BLE001 - a mismatch shows as any of three kinds of error
        told = f"{reason_of(error)}; install it with torch: pip install --upgrade torch torchvision"
        return Finding(name="torchvision", ok=False, told=told)
    return Finding(name="torchvision", ok=True, told=str(torchvision.__version__))


def _process() -> Finding:
    """Run one task as a trial would be run."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        task = Task(
            id="doctor", function=_ping, args=(), threads=1, output=Path(folder) / "task" / "output.txt", timeout=60
        )
        (outcome,) = run_tasks([task], 1)
    told = "a trial's process starts and answers" if outcome.status == "ok" else f"{outcome.status}: {outcome.reason}"
    return Finding(name="processes", ok=outcome.status == "ok", told=told)


def _ping(on_step: object) -> str:  # noqa: ARG001 - every task is told how to report its steps
    return metadata.version("torch")
