"""The local executor: each task in a process of its own, started from a server that has imported torch already.

It knows tasks, processes and clocks, and nothing of trials. A plugin's fault ends its own process, and no more.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from types import ModuleType
from typing import Any

from aezoo import machine
from aezoo.contract.executor import Executor, MayStart, OnReport, OnStart, Outcome, Progress, Task
from aezoo.errors import StorageError, reason_of, system_reason, traceback_of

_PRELOAD = ("torch", "torch._dynamo", "aezoo.harness.timing")
"""What the server imports beside the modules of the works, whoever starts it; a test holds the names."""
_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def start_server(works: Iterable[type] = (), modules: Sequence[str] = ()) -> None:
    """Start the server that every task's process is forked from, where there is none yet.

    It imports torch, the modules of these works and these modules too, while others go on.
    """
    context = _context()
    context.set_forkserver_preload([*_PRELOAD, *dict.fromkeys(work.__module__ for work in works), *modules])
    # While it imports torch, the server does not ignore Ctrl-C yet, and would print a traceback: it inherits the block.
    # The resource tracker, which it needs, lifts such a block as it starts: so that comes before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _without_main():
            forkserver.ensure_running()
    except OSError as error:
        # Its socket lies there, and the name of a socket is 107 characters at most.
        raise StorageError(
            f"cannot start a process from the temporary folder {tempfile.gettempdir()}: {error.strerror or error}; "
            "the variable TMPDIR names another folder"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_tasks(
    tasks: Sequence[Task],
    jobs: int,
    on_start: OnStart = lambda _: None,
    on_report: OnReport = lambda *_: None,
    may_start: MayStart = lambda task: task,
) -> Generator[Outcome]:
    """Run tasks, `jobs` at a time and in their order, and yield each outcome as it comes.

    A task that may not start, when its turn comes, is left out.
    Whatever ends this iteration, Ctrl-C among it, kills the tasks that still run, with all that they started.
    """
    start_server(type(task.work) for task in tasks)
    waiting = list(reversed(tasks))
    running: list[TaskProcess] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = may_start(waiting.pop())
                if task is not None:
                    running.append(TaskProcess(task))
                    on_start(task)
            if not running:
                break
            connection.wait([process.receiver for process in running], timeout=_POLL_SECONDS)
            for process in list(running):
                outcome = process.poll(on_report)
                if outcome is not None:
                    running.remove(process)
                    yield outcome
    finally:
        for process in running:
            process.kill()


LOCAL = Executor(name="local", run=run_tasks, summary="each task in a process of its own on this machine")


class TaskProcess:
    """A task in a process of its own on this machine, watched from outside. Whoever starts one ends it with `kill`."""

    def __init__(self, task: Task) -> None:
        self.task = task
        start_server([type(task.work)])
        self.receiver, sender = _context().Pipe(duplex=False)
        try:
            if task.output is not None:
                task.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the folder of {task.output}: {system_reason(error)}") from error
        self.process = _context().Process(target=_child, args=(task, sender), name=task.id, daemon=False)
        self.started = time.monotonic()
        self.oom_kills = machine.oom_kills()
        with _without_main(), _uninterrupted():
            self.process.start()
        sender.close()

    def wait(self, seconds: float) -> None:
        """Wait until there is something to poll for, or so many seconds are over."""
        connection.wait([self.receiver], timeout=seconds)

    def poll(self, on_report: OnReport) -> Outcome | None:
        """Return the outcome, or None while the task runs; what it reports goes to `on_report`."""
        try:
            while self.receiver.poll():
                message = self.receiver.recv()
                if isinstance(message, Progress):
                    on_report(self.task, message)
                else:
                    return self._end(replace(message, task=self.task))
        except (EOFError, OSError):
            self.process.join(timeout=10)
            return self._end(self._dead())
        limit = self.task.timeout
        if limit is not None and time.monotonic() - self.started > limit:
            reason = f"still running after {limit:g} s (--timeout); killed"
            return self._end(Outcome(task=self.task, status="timeout", reason=reason))
        return None

    def _dead(self) -> Outcome:
        """Say what ended a process that sent no outcome."""
        code = self.process.exitcode
        if code is None or code >= 0:
            reason = f"its process ended without a result, exit status {code}"
            return Outcome(task=self.task, status="error", reason=reason)
        if code == -signal.SIGKILL and machine.oom_kills() > self.oom_kills:
            reason = "its process was killed by SIGKILL while the system killed processes for want of memory"
            return Outcome(task=self.task, status="out_of_memory", reason=reason)
        reason = f"its process was killed by {signal.Signals(-code).name}"
        return Outcome(task=self.task, status="error", reason=reason)

    def _end(self, outcome: Outcome) -> Outcome:
        if outcome.status != "timeout":
            self.process.join(timeout=5)
        self.kill()
        return outcome

    def kill(self) -> None:
        """Kill the process and its whole group, and wait for it."""
        if self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        # Before it has made a group of its own there is none to kill.
        self.process.kill()
        self.process.join()
        self.receiver.close()
        if self.task.output is not None:
            with contextlib.suppress(OSError):
                if self.task.output.stat().st_size == 0:
                    self.task.output.unlink()
                self.task.output.parent.rmdir()


def _context() -> ForkServerContext:
    return multiprocessing.get_context("forkserver")


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from importing the caller's script again in every process.

    So `aezoo.bench(...)` works in a plain script, without an ``if __name__ == "__main__"`` around it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end of the block.

    A server that was asked for a process, and is not told what to run in it, prints a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda received, _: heard.append(received))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        for received in heard:
            signal.raise_signal(received)


def _child(task: Task, sender: Any) -> None:
    """Run a task in its process, and send what it reports and then the outcome."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, value in task.environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    # A collection would write to every object that the server imported, and so copy their pages into each process.
    gc.freeze()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        # A thread may wait long for a plugin that never lets go of the interpreter; the kernel does not.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        output = os.open(task.output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        outcome = task.run(sender.send)
    except BaseException as error:  # noqa: BLE001 - the folder may be gone, and a plugin may raise KeyboardInterrupt
        outcome = Outcome(task=task, status="error", reason=reason_of(error), traceback=traceback_of(error))
    # Whoever asked for this process may be gone, and a plugin may have closed what it prints to.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    with contextlib.suppress(OSError):
        sender.send(outcome)
        sender.close()
    # A plugin's threads, handlers and finalisers have no say in how a finished trial ends.
    os._exit(0)


def _end_with_parent() -> None:
    """Kill this process and all that it started as soon as the one that asked for it is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.killpg(0, signal.SIGKILL)
