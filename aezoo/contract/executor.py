"""What an executor runs and returns, and the contract of an executor."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from aezoo import machine
from aezoo.contract.hyperparameters import NAME
from aezoo.errors import AezooError, ContractError, RefusedError, UnfitError, reason_of, traceback_of

Status = Literal["ok", "diverged", "out_of_memory", "timeout", "error", "invalid", "interrupted"]
"""How a task, and so a trial, may end."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a task has come: the training steps that are done, and, now and then, a checkpoint.

    `checkpoint` is what the same work goes on from, in another process or on another machine; None for none.
    """

    steps: int
    checkpoint: bytes | None = None


Report = Callable[[Progress], None]


class Work(Protocol):
    """What a task does: a frozen dataclass that can be pickled, as can what `run` returns."""

    def run(self, report: Report) -> Any:
        """Do it, in whatever process this is called in, and return what came of it.

        Args:
            report: Takes, now and then, how far it has come.

        Raises:
            BaseException: whatever a plugin's code raises.
        """
        ...


class FileWork(Work, Protocol):
    """A work that reads files of the machine on which the bench was called."""

    def moved(self, places: Mapping[Path, Path]) -> "FileWork":
        """Return the same work, with its files in other places."""
        ...


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a task takes of a machine beside its threads: an executor that chooses machines finds it a place by that.

    Bytes are estimates by what the preflight measured, None where nothing was.
    """

    device: str = "cpu"
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A piece of work for an executor.

    Args:
        id: Tells tasks of one call apart.
        work: What is to be done. It is the same work in another process, on another machine: it can be pickled.
        threads: Threads of torch while it runs.
        processes: Processes that it starts, each with so many threads; 1 where it starts none.
        output: The file, on this machine, that takes what the work prints; None for nowhere in particular.
        timeout: Seconds after which the work is to be killed with all that it started; None for never.
        needs: What it takes of a machine.
        files: What it reads of this machine's disk; where the work is done on a machine that has not these files,
            `moved` tells the work where it has them.
        software: Names what must be installed where the work is done: a machine that is unfit for one task is unfit
            for all of the same software.
        environment: Variables of its process; None takes one away.
    """

    id: str
    work: Work
    threads: int = 1
    processes: int = 1
    output: Path | None = None
    timeout: float | None = None
    needs: Needs = Needs()
    files: tuple[Path, ...] = ()
    software: str = ""
    environment: Mapping[str, str | None] = field(default_factory=dict)

    def moved(self, places: Mapping[Path, Path]) -> "Task":
        """Return the same task, with its files in other places."""
        if not self.files:
            return self
        work: FileWork = self.work  # type: ignore[assignment]  # a work with files has the method
        return replace(self, work=work.moved(places), files=tuple(places[path] for path in self.files))

    def run(self, report: Report) -> "Outcome":
        """Do the work here and now, and return how it ended; it raises nothing but KeyboardInterrupt.

        Args:
            report: Takes, now and then, how far it has come.
        """
        try:
            with machine.configured(self.threads):
                value = self.work.run(report)
            results = value if isinstance(value, tuple) else ()
            short = any(getattr(result, "short", False) for result in results)
            return Outcome(task=self, status="ok", value=value, short=short)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            return Outcome(
                task=self, status=status_of(error), reason=reason_of(error), traceback=traceback_of(error),
                refused=isinstance(error, RefusedError), unfit=isinstance(error, UnfitError),
                short=machine.is_out_of_memory(error),
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended: with a value, or with a status that says why there is none.

    `refused` says that a build function declined, in a line, what was asked of it; `unfit` that the machine has other
    software than the bench, and nothing was done; `short` that it had too little memory, where another one may have
    enough: also where that stands in one of the results that are the value.
    """

    task: Task
    status: Status
    value: Any = None
    reason: str | None = None
    traceback: str | None = None
    refused: bool = False
    unfit: bool = False
    short: bool = False


def status_of(error: BaseException) -> Status:
    """Return how a task, or a trial, ended that raised this error."""
    if machine.is_out_of_memory(error):
        return "out_of_memory"
    return "invalid" if isinstance(error, ContractError) else "error"


OnStart = Callable[[Task], None]
OnReport = Callable[[Task, Progress], None]
MayStart = Callable[[Task], Task | None]
RunTasks = Callable[[Sequence[Task], int, OnStart, OnReport, MayStart], Iterator[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a call says to an executor that is connected for it.

    Args:
        address: Where its machines are to be had, as the call gave it; None for the executor's own way to know.
        device: `auto`, `cpu`, `cuda` or `mps`, as the call gave it.
        jobs: The most tasks that may run side by side; None for as many as there is room for.
        tell: Takes a line on what otherwise went as nobody asked: a machine that was lost, one that is unfit.
    """

    address: str | None = None
    device: str = "auto"
    jobs: int | None = None
    tell: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Executor:
    """A way to run tasks, as a plugin declares it. Clocks are not its business, unless it has `alone`.

    Args:
        name: Letters, digits, ``_``, ``-`` and ``.``; what ``--executor`` takes.
        run: Called as ``run(tasks, jobs, on_start, on_report, may_start)``; yields the `Outcome` of each task as it
            comes. It runs `jobs` side by side, in the order of `tasks`. When a task's turn comes it asks
            ``may_start(task)``, which returns the task as it is to run, with the checkpoint that it goes on from where
            there is one; or None where it is to be left out. Then it calls ``on_start(task)``; and what the task
            reports, a `Progress`, it hands to ``on_report(task, progress)``. Whoever tries a task again asks again:
            so that it goes on from its last checkpoint. All three are called in the process that iterates. Where the
            iteration is closed before its end, what still runs must be killed.
        summary: One line that says what it does.
        shares_files: Whether what it runs sees the files of this machine. Where it does not, what a task prints is
            lost, unless the executor writes it into ``task.output`` itself.
        carries_files: Whether it brings the files of a task to where that runs, by `Task.moved`. Where it neither
            shares nor carries them, a trial loads the data set for itself.
        connect: Of an executor that is to be connected before it runs anything: called once a call with a `Site`, it
            returns a context manager that yields the executor to be used while the context lasts. `run` may be left out
            beside it.
        device: Of one that is connected, the device of its tasks; None for that of this machine.
        jobs: Of one that is connected, how many tasks it can run side by side; None for as many as this machine can.
        alone: Runs one task on a machine where nothing else of this executor runs meanwhile, so that it may read
            clocks. Without it the throughput of what does not run on this machine is not measured.
    """

    name: str
    summary: str
    run: RunTasks | None = None
    shares_files: bool = True
    carries_files: bool = False
    connect: "Callable[[Site], AbstractContextManager[Executor]] | None" = None
    device: str | None = None
    jobs: int | None = None
    alone: Callable[[Task], Outcome] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(f"an executor's name is letters, digits, '_', '-' and '.', but got {self.name!r}")
        if self.run is None and self.connect is None:
            raise ContractError(f"{self.name}: give run, or connect, which yields an executor that has it")
        for name in ("run", "connect", "alone"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ContractError(f"{self.name}: {name} must be callable, but is {type(value).__name__}")

    @contextmanager
    def connected(self, site: Site) -> "Iterator[Executor]":
        """Yield the executor that runs the tasks of a call, for as long as the context lasts.

        Raises:
            AezooError: an address is given, and it is to be had at none; or it cannot be had there.
        """
        if self.connect is None:
            if site.address is not None:
                raise AezooError(f"the executor {self.name} takes no --address; leave it out, or give --executor ray")
            yield self
            return
        with self.connect(site) as executor:
            if not isinstance(executor, Executor) or executor.run is None:
                raise ContractError(f"{self.name}: connect must yield an aezoo.Executor that has run")
            yield executor

    def outcomes(
        self,
        tasks: Sequence[Task],
        jobs: int,
        on_start: OnStart = lambda _: None,
        on_report: OnReport = lambda *_: None,
        may_start: MayStart = lambda task: task,
    ) -> Generator[Outcome]:
        """Run tasks, and yield one outcome of each that may start, whatever becomes of the executor.

        Raises:
            AezooError: the executor cannot do what it is asked to.
        """
        left = {task.id: task for task in tasks}
        allowed: dict[str, bool] = {}
        started: set[str] = set()

        def ask(task: Task) -> Task | None:
            ready = may_start(task)
            allowed[task.id] = ready is not None
            return ready

        def start(task: Task) -> None:
            started.add(task.id)
            on_start(task)

        reason = f"the executor {self.name} ended without an outcome for it"
        outcomes = None
        try:
            if self.run is None:
                raise AezooError(f"the executor {self.name} is not connected")
            outcomes = self.run(tasks, jobs, start, on_report, ask)
            for outcome in outcomes:
                if left.pop(outcome.task.id, None):
                    yield outcome
        except AezooError:
            raise
        except Exception as error:  # noqa: BLE001 - an executor is a plugin, and may raise anything
            reason = f"the executor {self.name} raised {reason_of(error)}"
        finally:
            getattr(outcomes, "close", lambda: None)()
        for task in left.values():
            if allowed[task.id] if task.id in allowed else ask(task) is not None:
                if task.id not in started:
                    start(task)
                yield Outcome(task=task, status="error", reason=reason)
