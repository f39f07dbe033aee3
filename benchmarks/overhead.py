"""Measure what the harness costs beside the training itself. CPU only.

    python benchmarks/overhead.py --json overhead.json

1. The training loop against a bare hand-written loop that takes the same steps: the same network, images, batches and
   optimiser, one thread, in alternating rounds of one process; the ratio is taken round by round.
2. A trial of one step, and a task that does nothing, in processes of their own: what starting and ending them costs;
   beside them scoring a network, and keeping what the page shows of it, which are in the trial too.
3. A whole `aezoo bench`, end to end: the share of its core-seconds that went into training and the clocks.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tabulate
import torch
from stopwatch import Stopwatch
from torch import Tensor, nn
from torch.nn import functional as F

import aezoo
from aezoo.cli.author import Ping
from aezoo.contract.executor import Task
from aezoo.contract.recipe import Recipe, read_recipe
from aezoo.harness.local import run_tasks
from aezoo.harness.observer import Observer
from aezoo.harness.timing import ROUND_SECONDS
from aezoo.machine import capture, configure, default_jobs
from aezoo.registry.discovery import discover
from aezoo.run.samples import Choice, Samples, pack_samples
from aezoo.train.loop import batch_indices, train
from aezoo.train.samples import IMAGES, LATENTS, samples_of, spaced
from aezoo.train.score import image_errors


def bare_loop(module: nn.Module, images_NCHW: Tensor, recipe: Recipe, seed: int) -> None:
    """Train as one would by hand: resident images, a gather a step, fused Adam, no look at the loss."""
    optimizer = torch.optim.Adam(module.parameters(), lr=recipe.rate, fused=True)
    batches = batch_indices(len(images_NCHW), recipe.batch_size, seed)
    for _ in range(recipe.num_steps(len(images_NCHW))):
        x_BCHW = images_NCHW[next(batches)].float() / 255
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.mse_loss(module(x_BCHW), x_BCHW))
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
        task = Task(id=str(number), work=Ping(), output=folder / str(number) / "output.txt")
        started = time.perf_counter()
        (outcome,) = run_tasks([task], 1)
        assert outcome.status == "ok", outcome.reason
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def short_trials(folder: Path, count: int) -> list[float]:
    """Return the seconds of trials of one step on mnist-5k, one after another, training left out."""
    watch = Stopwatch()
    recipe = read_recipe("quick").change(steps=1, seeds=count)
    run = aezoo.bench(["mlp[]"], recipe=recipe, out=folder, jobs=1, timing=False, device="cpu", observer=watch)
    trained = [record for record in run.records() if record.architecture == "mlp"]
    seconds = {record.trial_id: watch.done[record.trial_id] - watch.begun[record.trial_id] for record in trained}
    return [seconds[record.trial_id] - (record.train_seconds or 0.0) for record in trained]


def evaluations(variant: str, rounds: int) -> list[float]:
    """Return the seconds of scoring a network of a variant on the images of mnist-5k, train and test."""
    images = discover().dataset("mnist-5k").checked(Path())
    module = aezoo.create(variant, image_shape=images.shape)
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        for pixels in (images.train, images.test):
            image_errors(module, torch.from_numpy(pixels))
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def samples(variant: str, rounds: int) -> tuple[list[float], int]:
    """Return the seconds of taking what a trial keeps for the page, on mnist-5k, and the bytes that it keeps."""
    images = torch.from_numpy(discover().dataset("mnist-5k").checked(Path()).test)
    module = aezoo.create(variant, image_shape=(1, 28, 28))
    places = spaced(IMAGES, len(images))
    choice = Choice(
        images=tuple(places), reasons=("",) * len(places), pair=(places[0], places[1]),
        latents=tuple(spaced(LATENTS, len(images))),
    )  # fmt: skip
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        kept = samples_of(
            module, images, images=choice.images, pair=choice.pair, latents=choice.latents, precision="float32"
        )
        content = pack_samples(Samples(choice=choice, **kept))
        seconds.append(time.perf_counter() - started)
    return seconds[1:], len(content)


class Stages(Observer):
    """Notes when the clocks' phase begins."""

    clocks_began = math.inf

    def stage(self, text: str) -> None:
        if text.startswith("measuring throughput"):
            self.clocks_began = time.perf_counter()


def whole_bench(variants: list[str], recipe_name: str, out: Path) -> dict[str, Any]:
    """Run a bench as `aezoo bench` does, baselines, clocks and all; return where its core-seconds went.

    The clocks have the device to themselves, so they count with all cores: the seconds that they ask for, warm-up
    included. The rest of their phase is the starting of processes.
    """
    jobs = default_jobs("cpu")
    recipe = read_recipe(recipe_name)
    stages = Stages()
    started = time.perf_counter()
    run = aezoo.bench(variants, every=not variants, recipe=recipe, out=out, device="cpu", observer=stages)
    ended = time.perf_counter()
    table = run.table()
    # Each variant's inference, and the training of those that train; beside them both of the reference, and the matmul.
    clocks = table["infer_images_per_s"].count() + table["train_images_per_s"].count() + 3
    core_seconds = jobs * (ended - started)
    found = {
        "training": sum(record.train_seconds or 0.0 for record in run.records()),
        "clocks": float(jobs * clocks * recipe.timing_rounds * 1.25 * ROUND_SECONDS),
        "clocks_phase": jobs * (ended - stages.clocks_began),
        "core_seconds": core_seconds,
    }
    return {**found, "share": (found["training"] + found["clocks"]) / core_seconds, "variants": len(table)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31, help="of the mlp; the conv takes a third")
    parser.add_argument("--steps", type=int, default=120, help="of a round of the mlp; the conv takes a quarter")
    parser.add_argument("--tasks", type=int, default=20, help="that do nothing; half as many trials of one step")
    parser.add_argument("--variants", nargs="*", default=[], help="of the whole bench; by default the whole zoo")
    parser.add_argument("--recipe", default="default", help="of the whole bench")
    parser.add_argument("--out", type=Path, help="keeps the run of the whole bench")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    configure(threads=1)
    found: dict[str, Any] = {"environment": capture("cpu", 1).model_dump()}
    rows = []
    for variant, rounds, steps in (
        ("mlp", given.rounds, given.steps),
        ("conv", -(-given.rounds // 3), -(-given.steps // 4)),
    ):
        pairs = list(loop_ratios(variant, rounds, steps))
        found[f"{variant}_loop_seconds"] = pairs
        ratios = [harness / bare for harness, bare in pairs]
        rows.append([f"{variant}: harness's loop over a bare one", statistics.median(ratios), min(ratios), max(ratios)])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found["empty_task_seconds"] = empty_tasks(folder / "tasks", given.tasks)
        found["one_step_trial_seconds"] = short_trials(folder / "short", -(-given.tasks // 2))
        found["evaluation_seconds"] = evaluations("mlp", -(-given.tasks // 2))
        found["samples_seconds"], found["samples_bytes"] = samples("mlp", -(-given.tasks // 2))
        for key in ("empty_task_seconds", "one_step_trial_seconds", "evaluation_seconds", "samples_seconds"):
            rows.append([key.replace("_", " "), statistics.median(found[key]), min(found[key]), max(found[key])])
        print(tabulate.tabulate(rows, ["", "median", "min", "max"], floatfmt=".3f"))
        print(f"samples of a trial: {found['samples_bytes']:,} bytes")
        found["bench"] = whole = whole_bench(given.variants, given.recipe, given.out or folder / "bench")
    print(f"a bench of {whole.pop('variants')} variants, core-seconds:")
    print(tabulate.tabulate(whole.items(), floatfmt=".2f"))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
