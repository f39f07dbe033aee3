"""What a trial gains from a second process, and what a checkpoint costs it.

python benchmarks/processes.py 'conv[]' 'mlp[]' --rounds 5
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import tabulate
import torch

import aezoo
from aezoo.harness.observer import Observer
from aezoo.machine import configured
from aezoo.registry.discovery import discover
from aezoo.run.checkpoint import Checkpoint, pack_checkpoint
from aezoo.run.files import write_bytes
from aezoo.train.build import build
from aezoo.train.loop import BLOCK, Pause, train

ALONE = "1 process, 1 thread"
THREADS = "1 process, 2 threads"
PROCESSES = "2 processes, 1 thread each"
WAYS: dict[str, dict[str, Any]] = {ALONE: {}, THREADS: {"threads": 2}, PROCESSES: {"processes": 2}}


def bench(variant: str, recipe: aezoo.Recipe, settings: dict[str, Any]) -> dict[str, Any]:
    """Bench one trial in a run of its own, and return its figures."""
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        run = aezoo.bench(
            [variant], recipe=recipe, out=Path(folder) / "run", device="cpu", jobs=1, timing=False, report=False,
            observer=Observer(), **settings,
        )  # fmt: skip
        (record,) = (each for each in run.records() if each.baseline is None)
    return {"train_seconds": record.train_seconds, "test_mse": record.test_mse}


def checkpoint_cost(variant: str, recipe: aezoo.Recipe) -> dict[str, Any]:
    """Return the core-seconds in which a checkpoint is made, and written with its fsync, and its bytes."""
    pixels = torch.from_numpy(discover().dataset(recipe.dataset).checked(Path()).train)
    seconds: list[float] = []
    sizes: list[int] = []

    def on_block(pause: Pause) -> None:
        started = time.process_time()
        state = pause.state()
        checkpoint = Checkpoint(
            trial_id="t", steps=state.steps, seconds=state.seconds, curve=state.curve, streams=dict(state.streams),
            resumed_at=[],
        )  # fmt: skip
        content = pack_checkpoint(checkpoint, state.tensors)
        with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
            write_bytes(Path(folder) / "checkpoint", content)
        seconds.append(time.process_time() - started)
        sizes.append(len(content))

    with configured(1):
        module = build(discover().resolve(variant), pixels, seed=0)
        train(module, pixels, recipe.change(steps=min(recipe.steps or BLOCK, 5 * BLOCK)), 0, on_block)
    return {"core_seconds": seconds, "bytes": sizes[-1]}


def ratio(rounds: list[dict[str, Any]], reference: list[dict[str, Any]]) -> str:
    """Return how many times as fast the rounds trained as the reference's: median (min-max)."""
    ratios = [other["train_seconds"] / each["train_seconds"] for each, other in zip(rounds, reference, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", default=["conv[]"], help="one variant each; by default conv[]")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    recipe = aezoo.Recipe(
        name="processes", dataset=args.dataset, steps=args.steps, batch_size=args.batch_size, seeds=1
    )  # fmt: skip
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {
        variant: {way: [] for way in WAYS} for variant in args.variants
    }
    # The ways take turns: the machine's slow hours are everyone's.
    for _ in range(args.rounds):
        for variant, ways in figures.items():
            for way, settings in WAYS.items():
                ways[way].append(bench(variant, recipe, settings))
    checkpoints = {variant: checkpoint_cost(variant, recipe) for variant in args.variants}
    images = args.batch_size * args.steps
    print(f"batches of {args.batch_size}, {args.steps} steps, {args.rounds} rounds, training alone")
    rows = [
        [variant, way, round(images / statistics.median(each["train_seconds"] for each in rounds)),
         ratio(rounds, ways[ALONE]), ratio(rounds, ways[THREADS]), f"{_difference(rounds, ways[ALONE]):.1g}"]
        for variant, ways in figures.items()
        for way, rounds in ways.items()
    ]  # fmt: skip
    header = ["variant", "way", "images/s", f"over {ALONE}", f"over {THREADS}", "test_mse is off by"]
    print(tabulate.tabulate(rows, header))
    for variant, cost in checkpoints.items():
        took = statistics.median(cost["core_seconds"])
        print(f"{variant}: a checkpoint is {cost['bytes'] / 1e6:.2f} MB, and made and written in {took:.3f} core-s")
    if args.json:
        args.json.write_text(json.dumps({"trials": figures, "checkpoints": checkpoints}, indent=1) + "\n")


def _difference(rounds: list[dict[str, Any]], reference: list[dict[str, Any]]) -> float:
    """Return by how much a loss lies from the reference's, at most, over the latter."""
    losses = zip(rounds, reference, strict=True)
    return float(max(abs(each["test_mse"] / other["test_mse"] - 1) for each, other in losses))


if __name__ == "__main__":
    main()
