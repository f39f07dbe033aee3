"""A Ray cluster, as one bench uses it: what is handed to it, what is heard of it, and what is tried again.

Ray finds a task its machine, and is told to repeat nothing: what is lost with a machine is tried again from here, a
stated number of times, and told. Which machines can have it is `aezoo_plugins.placement`'s, and what happens on one
`aezoo_plugins.node`'s.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray

import aezoo
from aezoo_plugins import node
from aezoo_plugins.node import Carried
from aezoo_plugins.placement import Machine, Placement, bound_to, call_on

TRIES = 3
"""How often a task is tried whose machine is lost, or short of memory; what a network itself does wrong is final."""
SILENT_SECONDS = 120.0
"""A worker that sends no sign of life for so long is ended; it sends one every `node.ALIVE_SECONDS`."""
ALONE_SECONDS = 600.0
"""How long the clocks wait for a machine of their own."""
COME_BACK_SECONDS = 300.0
"""How long a task waits for a machine in the place of all those that could run it, and are gone."""
POLL_SECONDS = 0.5
OnReport = Callable[[aezoo.Task, aezoo.Progress], None]


@dataclass(kw_only=True, eq=False)
class Attempt:
    """A task on its way: how often it was tried, which machines failed it, where it runs, when it was last heard."""

    task: aezoo.Task
    tries: int = 0
    failed: list[str] = field(default_factory=list)
    messages: Any = None
    avoided: Sequence[str] = ()
    machine: str | None = None
    pid: int | None = None
    heard: float = 0.0
    waits_until: float | None = None

    def lost(self, reason: str, *, out_of_memory: bool = False) -> "Lost":
        """Return the outcome of a task that came to nothing, which was not its own doing."""
        times = f"lost {self.tries} times, the last time: " if self.tries >= TRIES else ""
        return Lost(task=self.task, status="out_of_memory" if out_of_memory else "error", reason=f"{times}{reason}")


class Lost(aezoo.Outcome):
    """The outcome of a task that came to nothing on a machine, which was not its own doing."""


class Wanted(aezoo.Outcome):
    """In the place of an outcome: the machine does not see a file of the task, which has been put into Ray's store."""


class Cluster:
    """A Ray cluster that this process is connected to.

    Args:
        site: What the call says.

    Raises:
        aezoo.AezooError: the cluster has no such device.
    """

    def __init__(self, site: aezoo.Site) -> None:
        self._site = site
        self.placement = Placement(site)
        self._token = os.urandom(8).hex()
        self._files: dict[Path, Carried] = {}
        self._used: set[str] = set()

    def run(
        self,
        tasks: Sequence[aezoo.Task],
        jobs: int,  # noqa: ARG002 - a cluster may grow
        on_start: Callable[[aezoo.Task], None],
        on_report: OnReport,
        may_start: Callable[[aezoo.Task], aezoo.Task | None],
    ) -> Generator[aezoo.Outcome]:
        """Run tasks, in their order, as many at once as there is room for, or the call allows; yield each outcome."""
        waiting = deque(Attempt(task=task) for task in tasks)
        running: dict[Any, Attempt] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.placement.most(waiting[0].task) and not self._waits(waiting[0]):
                    attempt = waiting.popleft()
                    # One that is tried again goes on from its last checkpoint.
                    ready = may_start(attempt.task)
                    if ready is None:
                        continue
                    attempt.task = ready
                    if not attempt.tries:
                        on_start(ready)
                    nowhere = self.placement.nowhere(attempt.task)
                    if nowhere is not None:
                        yield nowhere
                    else:
                        self._submit(attempt)
                        running[attempt.messages] = attempt
                if waiting and not running:
                    time.sleep(POLL_SECONDS)
                for attempt, outcome in self._ended(running, on_report):
                    del running[attempt.messages]
                    if self._again(attempt, outcome):
                        waiting.appendleft(attempt)
                    else:
                        yield outcome
        finally:
            self._end(list(running.values()))

    def alone(self, task: aezoo.Task) -> aezoo.Outcome:
        """Run a task on a machine that runs nothing else of this cluster, or say in its outcome why there is none."""
        addresses = [machine.address for machine in self.placement.machines().values()]
        fit = list(self.placement.fitting(task).values())
        own = [machine for machine in fit if addresses.count(machine.address) == 1]
        attempt = Attempt(task=task)
        if not own:
            reason = f"several nodes of the cluster are on one machine, {fit[0].address}" if fit else "no node is fit"
            return attempt.lost(f"{reason}: none can be had alone")
        machine = max(own, key=lambda machine: (machine.gpus, machine.cpus, machine.id))
        self._submit(attempt, alone=machine)
        waits_until = time.monotonic() + ALONE_SECONDS
        try:
            while True:
                for _, outcome in self._ended({attempt.messages: attempt}, lambda *_: None):
                    if not isinstance(outcome, Wanted):
                        return outcome
                    self._submit(attempt, alone=machine)
                if attempt.machine is None and time.monotonic() > waits_until:
                    return attempt.lost(f"no node could be had alone within {ALONE_SECONDS:.0f} s")
        finally:
            self._end([attempt])

    def close(self) -> None:
        """Remove what was carried to the machines."""
        call_on(node.forget, [(machine, self._token) for machine in self._used & self.placement.machines().keys()])

    def _waits(self, attempt: Attempt) -> bool:
        """Say whether a task waits for another machine, as all those are gone that could run it; not for ever."""
        task = attempt.task
        if self.placement.fitting(task) or not self.placement.fitted(task):
            attempt.waits_until = None
            return False
        if attempt.waits_until is None:
            attempt.waits_until = time.monotonic() + COME_BACK_SECONDS
            self._site.tell(
                f"every node that could run {task.id} is gone: it waits {COME_BACK_SECONDS:.0f} s for another"
            )
        return time.monotonic() < attempt.waits_until

    def _submit(self, attempt: Attempt, *, alone: Machine | None = None) -> None:
        """Hand a task to Ray; where it is to be alone, with all that a machine has."""
        task = attempt.task
        avoided = self.placement.avoided(task, attempt.failed)
        if alone is not None:
            needs = {**bound_to(alone.id), "num_cpus": alone.cpus, "num_gpus": alone.gpus}
        else:
            needs = self.placement.needs(task)
            if avoided:
                needs["label_selector"] = {"ray.io/node-id": f"!in({','.join(avoided)})"}
        # What Ray sets on its workers, trials have as the bench has it: sums in another order are other sums.
        variables = {name: os.environ.get(name) for name in node.INHERITED}
        whole = alone is not None and alone.address != "127.0.0.1"
        function = ray.remote(max_retries=0, num_returns="streaming")(_by_value(node.__name__))
        attempt.messages = function.options(**needs).remote(
            node.pack(replace(task, output=None)), {path: self._carried(path) for path in task.files}, self._token,
            variables, whole,
        )  # fmt: skip
        attempt.tries += 1
        attempt.avoided, attempt.machine, attempt.heard = avoided, None, time.monotonic()

    def _carried(self, path: Path) -> Carried:
        """Return what tells a machine whether it sees a file."""
        if path not in self._files:
            self._files[path] = Carried.of(path)
        return self._files[path]

    def _ended(self, running: Mapping[Any, Attempt], on_report: OnReport) -> list[tuple[Attempt, aezoo.Outcome]]:
        """Wait a moment for messages, and return the outcomes among them, and those of workers that fell silent."""
        if not running:
            return []
        ready, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
        ready = ready or ray.wait(list(running), timeout=POLL_SECONDS)[0]
        ended = []
        for attempt in map(running.__getitem__, ready):
            outcome = self._hear(attempt, on_report)
            if outcome is not None:
                ended.append((attempt, outcome))
        over = {attempt.messages for attempt, _ in ended}
        for attempt in [each for each in running.values() if each.messages not in over]:
            if attempt.machine is None:
                places = self.placement.fitting(attempt.task).keys() - set(attempt.avoided)
                reason = None if places else "the nodes that could run it are gone"
            else:
                silent = time.monotonic() - attempt.heard > SILENT_SECONDS
                reason = f"its worker sent no sign of life for {SILENT_SECONDS:.0f} s" if silent else None
            if reason is not None:
                self._end([attempt])
                ended.append((attempt, attempt.lost(reason)))
        return ended

    def _hear(self, attempt: Attempt, on_report: OnReport) -> aezoo.Outcome | None:
        """Take the next message of a worker; return the outcome where it is one, or where none will come."""
        try:
            machine, pid, kind, content = ray.get(next(attempt.messages))
        except StopIteration:
            return attempt.lost("its worker ended without an outcome")
        except ray.exceptions.OutOfMemoryError as error:
            return attempt.lost(_first_line(error), out_of_memory=True)
        except ray.exceptions.RayError as error:
            return attempt.lost(_first_line(error))
        attempt.machine, attempt.pid, attempt.heard = machine, pid, time.monotonic()
        self._used.add(machine)
        if kind == "progress":
            on_report(attempt.task, content)
        return self._outcome(attempt.task, kind, content)

    def _outcome(self, task: aezoo.Task, kind: str, content: Any) -> aezoo.Outcome | None:
        """Return the outcome that a message is; None for one that is none."""
        if kind == "unfit":
            return aezoo.Outcome(task=task, status="error", reason=content, unfit=True)
        if kind == "wanted":
            self._files[content] = self._files[content].put(content)
            return Wanted(task=task, status="error")
        if kind == "ended":
            outcome, printed = content
            _write(task.output, printed)
            return replace(outcome, task=task)
        return None

    def _again(self, attempt: Attempt, outcome: aezoo.Outcome) -> bool:
        """Say whether a task is to be tried again, and tell why."""
        where = self.placement.name_of(attempt.machine)
        if isinstance(outcome, Wanted):
            attempt.tries -= 1
            return True
        if outcome.unfit and attempt.machine:
            if self.placement.leave_out(attempt.machine, attempt.task, f"{where}: {outcome.reason}"):
                self._site.tell(f"{attempt.task.software or 'this bench'} does not run on {where}: {outcome.reason}")
            attempt.tries -= 1
            return True
        others = self.placement.fitting(attempt.task).keys() - {attempt.machine}
        short = bool(others) and (outcome.short or outcome.status == "out_of_memory")
        if attempt.tries >= TRIES or not (isinstance(outcome, Lost) or short):
            return False
        if attempt.machine:
            attempt.failed.append(attempt.machine)
        reason = outcome.reason or "out of memory"
        self._site.tell(f"{attempt.task.id} runs again, {attempt.tries + 1} of {TRIES}: {reason} ({where})")
        return True

    def _end(self, attempts: Sequence[Attempt]) -> None:
        """End tasks that run, with their workers and all that those started."""
        for attempt in attempts:
            with contextlib.suppress(Exception):
                ray.cancel(attempt.messages, force=True)
        # A worker that is stopped hears nothing: it is killed from beside it.
        alive = self.placement.machines()
        call_on(node.end, [(attempt.machine, attempt.pid) for attempt in attempts if attempt.machine in alive])


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _write(output: Path | None, printed: bytes) -> None:
    if output is not None and printed:
        with contextlib.suppress(OSError):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(printed)


def _by_value(module: str) -> Callable[..., Any]:
    """Return what a worker runs. It travels by value, so that a machine without aezoo can say that it has none."""

    def work(*arguments: Any) -> Iterator[tuple[str, int, str, Any]]:
        import importlib
        import os as system

        import ray as its_ray

        here = its_ray.get_runtime_context().get_node_id(), system.getpid()
        # An import may hang: from now on silence is noticed.
        yield (*here, "alive", None)
        try:
            its_node = importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no aezoo that works
            yield (*here, "unfit", f"no aezoo there, {type(error).__name__}: {error}; install the same everywhere")
            return
        for kind, content in its_node.work(*arguments):
            yield (*here, kind, content)

    work.__module__ = "__main__"
    return work
