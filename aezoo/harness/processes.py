"""One trial over several processes of this machine, started by torch's own launcher, that of ``torchrun``.

They are forked from the trial's process, which has imported torch and computed nothing. Torch's threads do not survive
a fork: so a plugin, which may compute as it is imported, is loaded in each of them. Each belongs to its process group,
and ends with it.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Any, NoReturn, TypeVar

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from aezoo import machine
from aezoo.contract.executor import Status
from aezoo.errors import AezooError, UnfitError
from aezoo.harness.request import Request
from aezoo.train.parallel import ProcessFailedError, Share

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1
_LAST_WORDS_SECONDS = 1.0
"""How long a process that failed waits before it ends, so that one whose death made it fail is seen before it."""
_UNFIT = "unfit"
"""What one says in place of how the trial failed where the machine is not fit for it: another machine may be."""


def check_processes(request: Request, device: str, *, here: bool) -> None:
    """Refuse a number of processes a trial that cannot be, or not with the call's other settings.

    `here` says whether trials run on this machine, so that its GPUs count.

    Raises:
        AezooError: it cannot.
    """
    count, batch_size = request.processes, request.recipe.batch_size
    if count == 1:
        return
    if count > batch_size:
        raise AezooError(f"--processes-per-trial {count}: a batch has {batch_size} images, less than one for each")
    if device == "mps":
        raise AezooError("--processes-per-trial is for cpu and cuda, but the device is mps; leave it out")
    if here and device == "cuda" and count > torch.cuda.device_count():
        raise AezooError(f"--processes-per-trial {count}: a GPU for each, but here are {torch.cuda.device_count()}")
    if request.compiled:
        raise AezooError("--processes-per-trial does not go with --compile yet; leave one of them out")
    if request.checkpoint_minutes is not None:
        raise AezooError("--processes-per-trial does not go with --checkpoint-minutes yet; leave one of them out")


def over_processes(
    count: int, threads: int, work: Callable[[Share], T], failure: Callable[[BaseException], dict[str, Any]]
) -> T:
    """Do a work in each of several processes, of so many threads, and return what the first one's came to.

    Args:
        count: How many.
        threads: Threads of torch of each.
        work: Called in each process with its share.
        failure: Returns what a record says of an error that the work raised.

    Raises:
        AezooError: this process is not the trial's own.
        UnfitError: one of them found that this machine has other software; the others are ended.
        ProcessFailedError: one of them failed, or was killed; the others are ended.
    """
    if not machine.is_own_process():
        raise AezooError("a trial over several processes needs a process of its own: use another executor")
    kills = machine.oom_kills()
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id="trial", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", local_addr="127.0.0.1", max_restarts=0, monitor_interval=0.1,
        start_method="fork", shutdown_timeout=1, logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        # A file for each: nobody waits for a reader. They have no names: nothing is left where this process is killed.
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        try:
            results = elastic_launch(config, _member)(count, threads, work, failure, files)
        except ChildFailedError as error:
            (rank, death), *_ = error.failures.items()
            facts = _said(files, rank) or _death(rank, count, death.exitcode, kills)
            if _UNFIT in facts:
                raise UnfitError(facts[_UNFIT]) from None
            raise ProcessFailedError(facts) from None
    result: T = results[0]
    return result


def _member(
    count: int, threads: int, work: Callable[[Share], T], failure: Callable[[BaseException], dict[str, Any]],
    files: Sequence[IO[bytes]],
) -> T:  # fmt: skip
    """Do a process's part of the work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    share = Share(rank=int(os.environ["RANK"]), processes=count)
    machine.configure(threads)
    try:
        return work(share)
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        moment = time.monotonic_ns()
        unfit = isinstance(error, UnfitError)
        _end(files[share.rank], moment, {_UNFIT: str(error)} if unfit else failure(error))


def _end(file: IO[bytes], moment: int, facts: dict[str, Any]) -> NoReturn:
    """Write down what failed, and when, and end this process."""
    file.write(json.dumps([moment, facts]).encode())
    file.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(_LAST_WORDS_SECONDS)
    os._exit(1)


def _said(files: Sequence[IO[bytes]], rank: int) -> dict[str, Any] | None:
    """Return what the first process that failed said of it; None where the one that ended first said nothing."""
    words: dict[int, tuple[int, dict[str, Any]]] = {}
    for speaker, file in enumerate(files):
        file.seek(0)
        # One that was killed as it wrote left a part, or nothing, which is no JSON.
        with contextlib.suppress(ValueError):
            words[speaker] = json.loads(file.read())
    return min(words.values(), key=lambda said: said[0])[1] if rank in words else None


def _death(rank: int, count: int, exitcode: int, kills: int) -> dict[str, Any]:
    """Return what a record says of a process that ended without a word."""
    name = f"its process {rank + 1} of {count}"
    status: Status = "error"
    if exitcode >= 0:
        return {"status": status, "reason": f"{name} ended without a result, exit status {exitcode}"}
    reason = f"{name} was killed by {signal.Signals(-exitcode).name}"
    if exitcode == -signal.SIGKILL and machine.oom_kills() > kills:
        status, reason = "out_of_memory", f"{reason} while the system killed processes for want of memory"
    return {"status": status, "reason": reason}
