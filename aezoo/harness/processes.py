"""One trial over several processes of this machine, started by torch's own launcher, that of ``torchrun``.

They are forked from the trial's process, which has imported torch and computed nothing. Each belongs to its process
group, and ends with it.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from aezoo import machine
from aezoo.contract.executor import Status
from aezoo.errors import AezooError
from aezoo.harness.request import Request
from aezoo.train.parallel import ProcessFailedError, Share

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1
_LAST_WORDS_SECONDS = 1.0
"""How long a process that failed waits before it ends, so that one whose death made it fail is seen before it."""


def check_processes(request: Request, device: str) -> None:
    """Refuse a number of processes a trial that cannot be, or not with the call's other settings.

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
    if device == "cuda" and count > torch.cuda.device_count():
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
        ProcessFailedError: one of them failed, or was killed; the others are ended.
    """
    if not machine.is_own_process():
        raise AezooError("a trial over several processes needs a process of its own: use another executor")
    failures: Any = multiprocessing.get_context("fork").SimpleQueue()
    kills = machine.oom_kills()
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id="trial", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", local_addr="127.0.0.1", max_restarts=0, monitor_interval=0.1,
        start_method="fork", shutdown_timeout=1, logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )  # fmt: skip
    try:
        results = elastic_launch(config, _member)(count, threads, work, failure, failures)
    except ChildFailedError as error:
        (rank, death), *_ = error.failures.items()
        words: dict[int, dict[str, Any]] = {}
        while not failures.empty():
            speaker, facts = failures.get()
            words.setdefault(speaker, facts)
        raise ProcessFailedError(words.get(rank) or _death(rank, count, death.exitcode, kills)) from None
    result: T = results[0]
    return result


def _member(
    count: int, threads: int, work: Callable[[Share], T], failure: Callable[[BaseException], dict[str, Any]],
    failures: Any,
) -> T:  # fmt: skip
    """Do a process's part of the work."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    share = Share(rank=int(os.environ["RANK"]), processes=count)
    machine.configure(threads)
    try:
        return work(share)
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        _end(failures, share.rank, failure(error))


def _end(failures: Any, rank: int, facts: dict[str, Any]) -> NoReturn:
    failures.put((rank, facts))
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(_LAST_WORDS_SECONDS)
    os._exit(1)


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
