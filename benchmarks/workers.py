"""How a grid's time falls with workers, and what the process that drives them costs; parts of scaling.py.

Workers are real ones of this machine, of the local executor and of a Ray cluster that is started for the bench. Those
that a driver of a thousand has are simulated: the bench is the real one, with its claims, records and files, and its
executor's tasks take no time but by a clock of their own.
"""

import hashlib
import heapq
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stopwatch import Stopwatch

import aezoo
from aezoo.contract.recipe import read_recipe
from aezoo.harness.trial import TrainAndScore, TrialResult
from aezoo.machine import capture
from aezoo.registry.discovery import discover
from aezoo.run.records import now, record_of
from aezoo.run.store import TEST_ERRORS, pack_test_errors

Figures = dict[str, Any]
NUM_TEST = 1000
"""Test images of the digits, mnist-5k."""


def others_than(*variants: str) -> list[str]:
    """Return the plugins that contribute none of these architectures: else baselines would add trials of their own."""
    wanted = {f"architecture {variant.partition('[')[0]}" for variant in variants}
    # Data sets and executors stay.
    return [
        plugin.name
        for plugin in discover().plugins
        if any(each.startswith("architecture") for each in plugin.contributions)
        and not wanted & set(plugin.contributions)
    ]


def bench_grid(executor: str, workers: int, trials: int, steps: int) -> Figures:
    """Run a grid of `mlp` in this process, which has run none before, and return its figures."""
    recipe = read_recipe("default").change(steps=steps, seeds=trials)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        run = aezoo.bench(
            ["mlp[]"], block=others_than("mlp"), recipe=recipe, out=Path(folder) / "run", jobs=workers, timing=False,
            report=False, device="cpu", executor=executor, observer=watch,
        )  # fmt: skip
        whole = time.monotonic() - started
        records = run.records()
    first, last = min(watch.begun.values()), max(watch.done.values())
    trained = sum(record.train_seconds or 0.0 for record in records)
    return {
        "grid_seconds": last - first,
        "beside_grid_seconds": whole - (last - first),
        "train_seconds": trained / trials,
        "overhead_seconds": (workers * (last - first) - trained) / trials,
        "driver_cpu_seconds": watch.cpu_seconds / trials,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def drive(workers: int, trials: int, variants: int, seconds: float) -> Figures:
    """Run the real bench of so many trials on simulated workers, and return what its process took."""
    recipe = read_recipe("default").change(steps=10, seeds=-(-trials // variants))
    texts = [f"mlp[latent_dim={size}]" for size in range(2, variants + 2)]
    watch = Stopwatch()
    simulation = Simulation(workers=workers, seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "simulated.py"
        plugin.write_text(PLUGIN)
        SIMULATIONS.append(simulation)
        started, cpu = time.monotonic(), time.process_time()
        aezoo.bench(
            texts, plugins=[plugin], block=others_than("mlp"), recipe=recipe, out=Path(folder) / "run", jobs=workers,
            timing=False, report=False, device="cpu", executor="simulated", observer=watch,
        )  # fmt: skip
        figures = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
    return figures | {
        "trials": len(watch.done),
        "workers": workers,
        "trial_seconds": seconds,
        "makespan_seconds": simulation.clock,
        "cpu_ms_a_trial": 1e3 * watch.cpu_seconds / len(watch.done),
        "driver_share": watch.cpu_seconds / simulation.clock,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


class Simulation:
    """Workers that train nothing: each task takes about `seconds` by a clock of their own."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.workers, self.seconds, self.clock = workers, seconds, 0.0
        self._random = random.Random(0)
        self._files = {TEST_ERRORS: pack_test_errors(np.full(NUM_TEST, 0.05))}
        self._sha256 = hashlib.sha256(self._files[TEST_ERRORS]).hexdigest()
        self._environment = capture("cpu", 1)

    def run(
        self,
        tasks: Sequence[aezoo.Task],
        jobs: int,  # noqa: ARG002 - as many as there are workers
        on_start: Callable[[aezoo.Task], None],
        on_report: Callable[[aezoo.Task, aezoo.Progress], None],
        may_start: Callable[[aezoo.Task], aezoo.Task | None],
    ) -> Iterator[aezoo.Outcome]:
        """Yield the outcome of each task in the order in which workers would end them."""
        busy: list[tuple[float, int, aezoo.Task]] = []
        for number, task in enumerate(tasks):
            if len(busy) == self.workers:
                yield self._end(busy, on_report)
            ready = may_start(task)
            if ready is not None:
                on_start(ready)
                lasts = self.seconds * self._random.uniform(0.8, 1.2)
                heapq.heappush(busy, (self.clock + lasts, number, ready))
        while busy:
            yield self._end(busy, on_report)

    def _end(
        self, busy: list[tuple[float, int, aezoo.Task]], on_report: Callable[[aezoo.Task, aezoo.Progress], None]
    ) -> aezoo.Outcome:
        ends, _, task = heapq.heappop(busy)
        if not isinstance(task.work, TrainAndScore):
            # A preflight is the real one, in this process.
            return task.run(lambda _: None)
        self.clock = ends
        on_report(task, aezoo.Progress(steps=5))
        results = tuple(
            TrialResult(
                record=record_of(
                    plan, task.work.preflight, self._environment, now(), status="ok", test_mse=0.05, train_mse=0.05,
                    test_errors_sha256=self._sha256, curve=[(10, 0.05)], train_seconds=self.seconds,
                    weights_missing="simulated", samples_missing="simulated",
                ),
                files=self._files,
            )
            for plan in task.work.plans
        )  # fmt: skip
        return aezoo.Outcome(task=task, status="ok", value=results)


SIMULATIONS: list[Simulation] = []
"""The one that the plugin below finds."""
PLUGIN = f"""
import sys
import aezoo

@aezoo.hookimpl
def aezoo_executors():
    simulation = sys.modules[{__name__!r}].SIMULATIONS[-1]
    yield aezoo.Executor(name="simulated", run=simulation.run, summary="trains nothing")
"""
