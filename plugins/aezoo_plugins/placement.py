"""The machines of a Ray cluster: which there are, what a task takes of one, and which can have it.

Nothing is started here but what asks a machine for the memory of its GPUs.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import aezoo
from aezoo_plugins import node

MARGIN, CONTEXT_BYTES, LEAST_SHARE = 1.3, 600e6, 0.05
"""What a trial takes of a GPU: the preflight's peak with a margin, what CUDA holds in every process; this at least."""
PROCESS_BYTES = 500e6
"""What a process with torch holds before a trial adds to it."""
ANSWER_SECONDS = 20.0
"""How long a machine's answer to a question is waited for."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A node of the cluster: its id and address, and all that it has, whoever uses it now."""

    id: str
    address: str
    cpus: int
    gpus: int
    memory: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Machine":
        """Return what Ray says of a node."""
        has = facts["Resources"]
        return cls(
            id=facts["NodeID"], address=facts["NodeManagerAddress"], cpus=int(has.get("CPU", 0)),
            gpus=int(has.get("GPU", 0)), memory=int(has.get("memory", 0)),
        )  # fmt: skip


class Placement:
    """The machines of the cluster that this process is connected to, and which of them can have a task.

    Args:
        site: What the call says.

    Raises:
        aezoo.AezooError: the cluster has no such device.
    """

    def __init__(self, site: aezoo.Site) -> None:
        self._site = site
        self._unfit: dict[str, dict[str, str]] = {}
        self._looked: tuple[float, dict[str, Machine]] = (-1.0, {})
        self._seen: dict[str, Machine] = {}
        self.device = self._choose(site.device)

    def machines(self) -> dict[str, Machine]:
        """Return the machines that are alive, by their ids."""
        if time.monotonic() - self._looked[0] > 1:
            alive = [Machine.of(facts) for facts in ray.nodes() if facts["Alive"]]
            self._looked = time.monotonic(), {machine.id: machine for machine in alive}
            self._seen |= self._looked[1]
        return self._looked[1]

    def name_of(self, machine: str | None) -> str:
        """Return what a person calls a machine, by its id."""
        alive = self._looked[1].get(machine or "")
        return f"node {alive.address} ({alive.id[:8]})" if alive else "a node that is gone"

    def most(self, task: aezoo.Task | None = None) -> int:
        """Return how many tasks like this one, or of one core, are handed to Ray at once.

        They are as many as machines that are fit for them hold; or as the call says, as a cluster may grow for them.
        """
        if self._site.jobs is not None:
            return self._site.jobs
        if task is None:
            room = sum(machine.gpus if self.device == "cuda" else machine.cpus for machine in self.machines().values())
        else:
            room = sum(self._holds(machine, task) for machine in self.fitting(task).values())
        # One that fits nowhere is to be told of.
        return max(1, room)

    def needs(self, task: aezoo.Task) -> dict[str, Any]:
        """Return what a task takes of a machine, by the names of Ray's options."""
        needs: dict[str, Any] = {"num_cpus": cores_of(task)}
        if task.needs.device == "cuda":
            needs["num_gpus"] = self._gpus(task)
        if memory := memory_of(task):
            needs["memory"] = memory
        return needs

    def fitting(self, task: aezoo.Task) -> dict[str, Machine]:
        """Return the machines that hold a task, by their ids, and have its software as far as is known."""
        return self._fitting(task, self.machines())

    def fitted(self, task: aezoo.Task) -> bool:
        """Say whether there is, or was, a machine for a task."""
        return bool(self._fitting(task, self._seen))

    def avoided(self, task: aezoo.Task, failed: Collection[str]) -> list[str]:
        """Return the ids of the machines that a task is to keep away from.

        They are those that are unfit for it; and those that `failed` it, where there is another one that holds it.
        """
        unfit = self._unfit.get(task.software, {})
        others = self.fitting(task).keys() - set(failed)
        return [name for name in self.machines() if name in unfit or (others and name in failed)]

    def leave_out(self, machine: str, task: aezoo.Task, reason: str) -> bool:
        """Take a machine, by its id, for unfit for a task and all of its software; say whether that is new."""
        unfit = self._unfit.setdefault(task.software, {})
        is_new = machine not in unfit
        unfit.setdefault(machine, reason)
        return is_new

    def nowhere(self, task: aezoo.Task) -> aezoo.Outcome | None:
        """Return the outcome of a task that no machine takes; None where one does."""
        if self.fitting(task):
            return None
        unfit = self._unfit.get(task.software, {})
        fit = [machine for name, machine in self.machines().items() if name not in unfit]
        if not fit:
            reasons = [*unfit.values(), "there is none"]
            reason = f"no node of the Ray cluster is fit for it: {reasons[0]}"
            return aezoo.Outcome(task=task, status="error", reason=reason)
        if self.fitting(replace(task, needs=replace(task.needs, memory_bytes=None))):
            needed, most = memory_of(task) or 0, max(machine.memory for machine in fit)
            reason = f"it needs {needed / 1e9:.1f} GB, but the largest node of the Ray cluster has {most / 1e9:.1f} GB"
            return aezoo.Outcome(task=task, status="out_of_memory", reason=reason)
        gpu = " and a GPU" if task.needs.device == "cuda" else ""
        reason = f"it needs {cores_of(task)} cores{gpu} of one node, which no node of the Ray cluster has"
        return aezoo.Outcome(task=task, status="error", reason=reason)

    def _choose(self, device: str) -> str:
        """Return the device of the tasks."""
        gpus = sum(machine.gpus for machine in self.machines().values())
        if device == "auto":
            return "cuda" if gpus else "cpu"
        if device not in ("cpu", "cuda"):
            raise aezoo.AezooError(f"no device {device!r} on a Ray cluster; give auto, cpu or cuda")
        if device == "cuda" and not gpus:
            raise aezoo.AezooError("device 'cuda' is on no node of the Ray cluster; use auto")
        return device

    def _fitting(self, task: aezoo.Task, among: Mapping[str, Machine]) -> dict[str, Machine]:
        unfit = self._unfit.get(task.software, {})
        return {name: each for name, each in among.items() if name not in unfit and self._holds(each, task)}

    def _holds(self, machine: Machine, task: aezoo.Task) -> int:
        """Return how many tasks like this one a machine holds side by side."""
        counts = [machine.cpus / cores_of(task)]
        if task.needs.device == "cuda":
            gpus = self._gpus(task)
            counts.append(machine.gpus // gpus if gpus >= 1 else machine.gpus * int(1 / gpus))
        if memory := memory_of(task):
            counts.append(machine.memory / memory)
        return int(min(counts))

    def _gpus(self, task: aezoo.Task) -> float:
        """Return how many GPUs a task takes: each of several processes has one, and a single one may share one."""
        return task.processes if task.processes > 1 else share_of(task.needs.device_memory_bytes, self._gpu_bytes)

    @cached_property
    def _gpu_bytes(self) -> int | None:
        """The memory of the smallest GPU of the cluster; None where not every machine that has one says."""
        machines = [name for name, machine in self.machines().items() if machine.gpus]
        sizes = [size for size in call_on(node.gpu_bytes, [(name,) for name in machines], gpu=0.01) if size]
        if len(sizes) < len(machines):
            silent = len(machines) - len(sizes)
            self._site.tell(
                f"{silent} of {len(machines)} nodes do not say what their GPUs hold: a trial has a whole one"
            )
            return None
        return min(sizes, default=None)


def cores_of(task: aezoo.Task) -> int:
    """Return how many cores of one machine a task takes."""
    return task.threads * task.processes


def memory_of(task: aezoo.Task) -> int | None:
    """Return the bytes of a machine's memory that a task takes; None where nothing was measured."""
    return int(task.processes * (MARGIN * task.needs.memory_bytes + PROCESS_BYTES)) if task.needs.memory_bytes else None


def share_of(device_memory_bytes: int | None, gpu_bytes: int | None) -> float:
    """Return the share of a GPU that a trial takes, in hundredths; a whole one where one of the sizes is unknown.

    Args:
        device_memory_bytes: The peak that its preflight measured.
        gpu_bytes: The memory of the smallest GPU.
    """
    if not device_memory_bytes or not gpu_bytes:
        return 1.0
    share = (MARGIN * device_memory_bytes + CONTEXT_BYTES) / gpu_bytes
    # More than half of one is a whole one: no other trial of the kind has room beside it.
    return 1.0 if share > 0.5 else max(LEAST_SHARE, -(-share * 100 // 1) / 100)


def bound_to(machine: str) -> dict[str, Any]:
    """Return the options of Ray that bind a task to a machine, by its id."""
    return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=machine, soft=False)}


def call_on(function: Callable[..., Any], calls: Iterable[Sequence[Any]], gpu: float = 0) -> list[Any]:
    """Call a function on machines, and return what it returned where the answer came soon.

    Args:
        function: What is called.
        calls: A machine's id each, and the arguments there.
        gpu: What each call takes of a GPU, so that it sees one.
    """
    answers = [
        ray.remote(max_retries=0)(function).options(**bound_to(machine), num_cpus=0, num_gpus=gpu).remote(*arguments)
        for machine, *arguments in calls
    ]
    values = []
    for answer in ray.wait(answers, num_returns=len(answers), timeout=ANSWER_SECONDS)[0] if answers else ():
        with contextlib.suppress(ray.exceptions.RayError):
            values.append(ray.get(answer))
    return values
