"""Measure what the harness costs beside the training itself. CPU only.

    python benchmarks/overhead.py --json overhead.json

1. The training loop against a bare hand-written loop that takes the same steps: the same network, images, batches and
   optimiser, one thread, in alternating rounds of one process; the ratio is taken round by round.
2. A trial of one step, and a task that does nothing, in processes of their own: what starting and ending them costs.
3. A bench without its clocks, end to end: the share of its core-seconds that went into training.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tabulate
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import aezoo
from aezoo.environment import capture, configure
from aezoo.execution import Task, default_jobs, run_tasks
from aezoo.grid import Observer
from aezoo.recipe import Recipe, read_recipe
from aezoo.records import TrialPlan, TrialRecord
from aezoo.registry import discover
from aezoo.training import batch_indices, train


def bare_loop(module: nn.Module, images_NCHW: Tensor, recipe: Recipe, seed: int) -> None:
    """Train as one would by hand: resident images, a gather a step, fused Adam, no look at the loss."""
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.lr, fused=True)
    batches = batch_indices(len(images_NCHW), recipe.batch_size, seed)
    for _ in range(recipe.num_steps(len(images_NCHW))):
        x_BCHW = images_NCHW[next(batches)].float() / 255
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(module(x_BCHW), x_BCHW).backward()
        optimizer.step()


def loop_ratios(variant: str, rounds: int, steps: int) -> Iterator[tuple[float, float]]:
    """Yield (seconds of the harness's loop, seconds of the bare one), the order alternating, after a warm-up."""
    images = torch.from_numpy(discover().dataset("mnist-5k").checked(Path()).train)
    recipe = read_recipe("default").change(steps=steps)
    for number in range(rounds + 1):
        seconds = {}
        for name in ("harness", "bare")[:: 1 if number % 2 else -1]:
            torch.manual_seed(0)
            module = aezoo.create(variant, image_shape=(1, 28, 28)).train()
            started = time.perf_counter()
            if name == "harness":
                train(module, images, recipe, number, lambda _: None)
            else:
                bare_loop(module, images, recipe, number)
            seconds[name] = time.perf_counter() - started
        if number:
            yield seconds["harness"], seconds["bare"]


def empty_tasks(folder: Path, count: int) -> list[float]:
    """Return the seconds of each of some tasks that do nothing, the first of all left out: it starts the server."""
    seconds = []
    for number in range(count + 1):
        # A task's function must be importable there; `callable` looks at what it is given, and that is all.
        output = folder / str(number) / "output.txt"
        task = Task(id=str(number), function=callable, args=(), threads=1, output=output)
        started = time.perf_counter()
        (outcome,) = run_tasks([task], 1, lambda _: None, lambda *_: None)
        assert outcome.status == "ok", outcome.reason
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


class Stopwatch(Observer):
    """Notes when each trial starts and ends, as the bench sees it."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def started(self, plan: TrialPlan) -> None:
        self.begun[plan.trial_id] = time.perf_counter()

    def ended(self, record: TrialRecord) -> None:
        self.seconds[record.trial_id] = time.perf_counter() - self.begun[record.trial_id]


def short_trials(folder: Path, count: int) -> list[float]:
    """Return the seconds of trials of one step on mnist-5k, one after another, training left out."""
    watch = Stopwatch()
    recipe = read_recipe("quick").change(steps=1, seeds=count)
    run = aezoo.bench(["mlp[]"], recipe=recipe, out=folder, jobs=1, timing=False, device="cpu", observer=watch)
    trained = [record for record in run.records() if record.architecture == "mlp"]
    return [watch.seconds[record.trial_id] - (record.train_seconds or 0.0) for record in trained]


def share_trained(folder: Path, variants: list[str], steps: int) -> dict[str, float]:
    """Run a whole bench in a warm process; return its core-seconds and those in training loops and fits."""
    jobs = default_jobs("cpu")
    recipe = read_recipe("default").change(steps=steps, seeds=1)
    started = time.perf_counter()
    run = aezoo.bench(variants, recipe=recipe, out=folder, jobs=jobs, timing=False, device="cpu")
    core_seconds = jobs * (time.perf_counter() - started)
    trained = sum(record.train_seconds or 0.0 for record in run.records())
    return {"jobs": jobs, "core_seconds": core_seconds, "trained_seconds": trained, "share": trained / core_seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    configure(threads=1)
    found: dict[str, Any] = {"environment": capture("cpu", 1).model_dump()}
    rows = []
    for variant, rounds, steps in (("mlp", given.rounds, given.steps), ("conv", 3, given.steps // 4)):
        pairs = list(loop_ratios(variant, rounds, steps))
        found[f"{variant}_loop_seconds"] = pairs
        ratios = [harness / bare for harness, bare in pairs]
        rows.append([f"{variant}: harness's loop over a bare one", statistics.median(ratios), min(ratios), max(ratios)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["empty_task_seconds"] = empty_tasks(folder / "tasks", 20)
        found["one_step_trial_seconds"] = short_trials(folder / "short", 10)
        for key in ("empty_task_seconds", "one_step_trial_seconds"):
            rows.append([key.replace("_", " "), statistics.median(found[key]), min(found[key]), max(found[key])])
        found["bench"] = whole = share_trained(folder / "bench", ["mlp", "linear"], 1500)
        rows.append([f"share of {whole['core_seconds']:.0f} core-seconds in training", whole["share"], None, None])
    print(tabulate.tabulate(rows, ["", "median", "min", "max"], floatfmt=".3f"))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
