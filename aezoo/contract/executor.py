"""What an executor runs and returns, and the contract of an executor."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from aezoo import machine
from aezoo.contract.hyperparameters import NAME
from aezoo.errors import AezooError, ContractError, RefusedError, reason_of, traceback_of

Status = Literal["ok", "diverged", "out_of_memory", "timeout", "error", "invalid", "interrupted"]
"""How a task, and so a trial, may end."""
Report = Callable[[int], None]


class Work(Protocol):
    """What a task does: a frozen dataclass that can be pickled, as can what `run` returns."""

    def run(self, report: Report) -> Any:
        """Do it, in whatever process this is called in, and return what came of it.

        Args:
            report: Takes, now and then, the number of training steps that are done.

        Raises:
            BaseException: whatever a plugin's code raises.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Task:
    """A piece of work for an executor.

    Args:
        id: Tells tasks of one call apart.
        work: What is to be done. It is the same work in another process, on another machine: it can be pickled.
        threads: Threads of torch while it runs.
        output: The file, on this machine, that takes what the work prints; None for nowhere in particular.
        timeout: Seconds after which the work is to be killed with all that it started; None for never.
    """

    id: str
    work: Work
    threads: int = 1
    output: Path | None = None
    timeout: float | None = None

    def run(self, report: Report) -> "Outcome":
        """Do the work here and now, and return how it ended; it raises nothing but KeyboardInterrupt.

        Args:
            report: Takes, now and then, the number of training steps that are done.
        """
        try:
            with machine.configured(self.threads):
                return Outcome(task=self, status="ok", value=self.work.run(report))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            return Outcome(
                task=self, status=status_of(error), reason=reason_of(error), traceback=traceback_of(error),
                refused=isinstance(error, RefusedError),
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended: with a value, or with a status that says why there is none.

    `refused` says that a build function declined, in a line, what was asked of it.
    """

    task: Task
    status: Status
    value: Any = None
    reason: str | None = None
    traceback: str | None = None
    refused: bool = False


def status_of(error: BaseException) -> Status:
    """Return how a task, or a trial, ended that raised this error."""
    if machine.is_out_of_memory(error):
        return "out_of_memory"
    return "invalid" if isinstance(error, ContractError) else "error"


OnStart = Callable[[Task], None]
OnStep = Callable[[Task, int], None]
MayStart = Callable[[Task], bool]
RunTasks = Callable[[Sequence[Task], int, OnStart, OnStep, MayStart], Iterator[Outcome]]


@dataclass(frozen=True, kw_only=True)
class Executor:
    """A way to run tasks, as a plugin declares it. Clocks are never its business: throughput is measured without it.

    Args:
        name: Letters, digits, ``_``, ``-`` and ``.``; what ``--executor`` takes.
        run: Called as ``run(tasks, jobs, on_start, on_step, may_start)``; yields the `Outcome` of each task as it
            comes. It runs `jobs` side by side, in the order of `tasks`. When a task's turn comes it asks
            ``may_start(task)``, and leaves the task out where that is False, else calls ``on_start(task)``; what the
            task reports it hands to ``on_step(task, steps)``. All three are called in the process that iterates. Where
            the iteration is closed before its end, what still runs must be killed.
        summary: One line that says what it does.
        shares_files: Whether what it runs sees the files of this machine. Where it does not, a trial loads the data set
            for itself, and what it prints is lost.
    """

    name: str
    run: RunTasks
    summary: str
    shares_files: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ContractError(f"an executor's name is letters, digits, '_', '-' and '.', but got {self.name!r}")
        if not callable(self.run):
            raise ContractError(f"{self.name}: run must be callable, but is {type(self.run).__name__}")

    def outcomes(
        self,
        tasks: Sequence[Task],
        jobs: int,
        on_start: OnStart = lambda _: None,
        on_step: OnStep = lambda *_: None,
        may_start: MayStart = lambda _: True,
    ) -> Generator[Outcome]:
        """Run tasks, and yield one outcome of each that may start, whatever becomes of the executor.

        Raises:
            AezooError: the executor cannot do what it is asked to.
        """
        left = {task.id: task for task in tasks}
        allowed: dict[str, bool] = {}
        started: set[str] = set()

        def ask(task: Task) -> bool:
            allowed[task.id] = may_start(task)
            return allowed[task.id]

        def start(task: Task) -> None:
            started.add(task.id)
            on_start(task)

        reason = f"the executor {self.name} ended without an outcome for it"
        outcomes = None
        try:
            outcomes = self.run(tasks, jobs, start, on_step, ask)
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
            if allowed[task.id] if task.id in allowed else ask(task):
                if task.id not in started:
                    start(task)
                yield Outcome(task=task, status="error", reason=reason)
