"""What happens on a machine of a Ray cluster: a task's files come to it, its work runs in a process of its own.

Ray uses a worker for many tasks, and it would keep the memory that each took of a GPU: so none of them is done in it.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import ray

import aezoo

ALIVE_SECONDS = 5.0
"""How often a worker sends a sign of life, where it has nothing else to send."""
POLL_SECONDS = 0.25
PRINTED_BYTES = 2**20
"""What is brought back of all that a task printed: its end."""
INHERITED = ("OMP_NUM_THREADS",)
"""Ray sets these on its workers; a trial has them as the bench has, or not at all: sums in another order are others."""
STALE_SECONDS = 3600.0
Packed = list[ray.ObjectRef]
"""A task in Ray's store."""
Message = tuple[str, Any]
"""A kind, `alive`, `progress`, `ended`, `unfit` or `wanted`, and what belongs to it."""


class _WantedError(Exception):
    """A file that this machine does not see, and that is not in Ray's store yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A file that a task reads: what tells a machine whether it sees the same one.

    `reference` is its content's in Ray's store, uint8, of which each machine has one copy. It is there once a machine
    has said that it does not see the file.
    """

    size: int
    sha256: str
    reference: Any = None

    @classmethod
    def of(cls, path: Path) -> "Carried":
        """Return a file's size and hash."""
        with path.open("rb") as file:
            return cls(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())

    def put(self, path: Path) -> "Carried":
        """Put a file into Ray's store, where it is not there yet.

        Raises:
            aezoo.AezooError: there is no room for it.
        """
        if self.reference is not None:
            return self
        content = np.memmap(path, dtype=np.uint8, mode="r")
        try:
            return replace(self, reference=ray.put(np.asarray(content)))
        except Exception as error:
            raise aezoo.AezooError(
                f"Ray's store has no room for {len(content) / 1e9:.1f} GB of images: {error}; `ray start` takes "
                "--object-store-memory, and a folder that all nodes share needs none"
            ) from error


def pack(task: aezoo.Task) -> Packed:
    """Put a task into Ray's store: in a list Ray leaves it to the worker to read, which says if it cannot."""
    return [ray.put(task)]


def work(
    packed: Packed,
    files: Mapping[Path, Carried],
    token: str,
    variables: Mapping[str, str | None],
    exclusive: bool,
) -> Iterator[Message]:
    """Do a task here, in a process of its own, and yield what is to be known of it.

    Args:
        packed: The task, as `pack` has it.
        files: What it reads.
        token: Of the call.
        variables: `INHERITED` of the bench.
        exclusive: Whether the whole machine must be the cluster's.
    """
    yield "alive", None
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if exclusive and (shared := _shared()):
        yield "unfit", shared
        return
    # A task that has no GPU is shown none: Ray leaves them all to be seen.
    environment = {"CUDA_VISIBLE_DEVICES": ",".join(str(gpu) for gpu in ray.get_gpu_ids())}
    # Beneath the call's own folder: what a worker leaves that is killed goes with it.
    scratches = tempfile.TemporaryDirectory(prefix="aezoo-", dir=_folder(token), ignore_cleanup_errors=True)
    with scratches as scratch, ThreadPoolExecutor(1) as pool:
        output = Path(scratch) / "task" / "output.txt"
        # What its process leaves in a temporary folder goes with this one.
        starting = pool.submit(_start, packed, files, token, output, {**environment, "TMPDIR": scratch})
        while not wait([starting], timeout=ALIVE_SECONDS).done:
            yield "alive", None
        try:
            process = starting.result()
        except _WantedError as error:
            yield "wanted", error.path
            return
        except Exception as error:  # noqa: BLE001 - the machine has no such plugin, no room, another aezoo
            yield "unfit", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return
        reports: list[aezoo.Progress] = []
        try:
            sent = time.monotonic()
            while (outcome := process.poll(lambda _, progress: reports.append(progress))) is None:
                if reports or time.monotonic() - sent > ALIVE_SECONDS:
                    sent = time.monotonic()
                    yield ("progress", _latest(reports)) if reports else ("alive", None)
                    reports.clear()
                process.wait(POLL_SECONDS)
            printed = _end_of(output)
        finally:
            process.kill()
    yield "ended", (outcome, printed)


def _start(
    packed: Packed,
    files: Mapping[Path, Carried],
    token: str,
    output: Path,
    environment: Mapping[str, str],
) -> aezoo.TaskProcess:
    """Start a task's process; the first one of a worker takes as long as torch takes to be imported."""
    task: aezoo.Task = ray.get(packed[0])
    task = task.moved({path: _place(path, carried, token) for path, carried in files.items()})
    return aezoo.TaskProcess(replace(task, output=output, environment={**task.environment, **environment}))


def _latest(reports: list[aezoo.Progress]) -> aezoo.Progress:
    """Return how far a task has come by all that it reported, with its last checkpoint."""
    checkpoints = [report.checkpoint for report in reports if report.checkpoint is not None]
    return aezoo.Progress(steps=reports[-1].steps, checkpoint=checkpoints[-1] if checkpoints else None)


def _shared() -> str | None:
    """Say why a machine is not the cluster's alone; None where it is."""
    here = ray.get_runtime_context().get_node_id()
    (facts,) = (facts for facts in ray.nodes() if facts["NodeID"] == here)
    cores, given = os.cpu_count() or 1, int(facts["Resources"].get("CPU", 0))
    return f"it gives the cluster {given} of its {cores} cores: others share it" if given < cores else None


def _end_of(output: Path) -> bytes:
    with contextlib.suppress(OSError), output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - PRINTED_BYTES))
        return file.read()
    return b""


def _place(path: Path, carried: Carried, token: str) -> Path:
    """Return where a file lies on this machine: where the bench has it, if this machine sees it, else a copy."""
    if _is_same(path, carried.size, carried.sha256):
        return path
    if carried.reference is None:
        raise _WantedError(path)
    return _copy(token, carried)


@cache
def _is_same(path: Path, size: int, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _copy(token: str, carried: Carried) -> Path:
    """Return the machine's one copy of a file; whoever comes first writes it."""
    folder = _folder(token)
    target = folder / carried.sha256
    with (folder / f"{carried.sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            content = ray.get(carried.reference)
            part = folder / f"{carried.sha256}.part"
            with part.open("wb") as file:
                content.tofile(file)
            part.rename(target)
    return target


@cache
def _folder(token: str) -> Path:
    """Return this machine's folder for the files of a call, held as long as this worker lives; stale ones go."""
    folder = _root() / token
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _held.append((folder / "held").open("w"))
    fcntl.flock(_held[-1], fcntl.LOCK_SH)
    for other in _root().iterdir():
        with contextlib.suppress(OSError):
            if other != folder and time.time() - other.stat().st_mtime > STALE_SECONDS:
                with (other / "held").open("w") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(other)
    return folder


_held: list[Any] = []


def _root() -> Path:
    root = Path(tempfile.gettempdir()) / f"aezoo-ray-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise aezoo.AezooError(f"{root} is another user's; the variable TMPDIR names another folder")
    return root


def forget(token: str) -> None:
    """Remove the files of a call from this machine."""
    shutil.rmtree(_root() / token, ignore_errors=True)


def end(pid: int) -> None:
    """Kill a worker of this machine, and with it all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def gpu_bytes() -> int | None:
    """Return the memory of the smallest GPU of this machine; None where there is none that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_properties(number).total_memory for number in range(torch.cuda.device_count()))
