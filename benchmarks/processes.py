"""What a trial gains from a second process, and what its checkpoints cost it.

python benchmarks/processes.py 'conv[]' 'mlp[]' --rounds 5
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import tabulate
from stopwatch import Stopwatch

import aezoo
from aezoo.run.checkpoint import CHECKPOINT
from aezoo.run.records import TrialRecord

WAYS: dict[str, dict[str, Any]] = {
    "1 process, 1 thread": {},
    "1 process, 2 threads": {"threads": 2},
    "2 processes, 1 thread each": {"processes": 2},
    "a checkpoint a block": {"checkpoint_minutes": 1e-9},
}
"""How a trial is run; over several processes it makes no checkpoints."""


class Checkpoints(Stopwatch):
    """Notes how many checkpoints of a run are kept, and how large the last one is."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._run = run
        self.count = self.bytes = 0

    def stepped(self, plan: Any, steps: int) -> None:  # noqa: ARG002 - whichever it is: one runs at a time
        for path in self._run.rglob(CHECKPOINT):
            self.count, self.bytes = self.count + 1, path.stat().st_size


def train(variant: str, recipe: aezoo.Recipe, settings: dict[str, Any]) -> dict[str, Any]:
    """Bench one trial in a run of its own, and return its figures."""
    with tempfile.TemporaryDirectory(prefix="aezoo-") as folder:
        observer = Checkpoints(Path(folder))
        run = aezoo.bench(
            [variant], recipe=recipe, out=Path(folder) / "run", device="cpu", jobs=1, timing=False, report=False,
            observer=observer, **settings,
        )  # fmt: skip
        (record,) = (each for each in run.records() if each.baseline is None)
    whole = observer.done[record.trial_id] - observer.begun[record.trial_id]
    return _figures(record) | {"seconds": whole, "checkpoints": observer.count, "checkpoint_bytes": observer.bytes}


def _figures(record: TrialRecord) -> dict[str, Any]:
    return {"train_seconds": record.train_seconds, "test_mse": record.test_mse, "notes": record.notes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", default=["conv[]"], help="each is one variant; by default conv[]")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    recipe = aezoo.Recipe(
        name="processes", dataset=args.dataset, steps=args.steps, batch_size=args.batch_size, seeds=1
    )  # fmt: skip
    # The ways take turns: the machine's slow hours are everyone's.
    figures: dict[str, dict[str, list[dict[str, Any]]]] = {
        variant: {way: [] for way in WAYS} for variant in args.variants
    }
    for _ in range(args.rounds):
        for variant in args.variants:
            for way, settings in WAYS.items():
                figures[variant][way].append(train(variant, recipe, settings))
    rows = [
        [variant, way, *_row(rounds, ways["1 process, 2 threads"])]
        for variant, ways in figures.items()
        for way, rounds in ways.items()
    ]
    header = ["variant", "way", "images/s", "over 1 process, 2 threads: median (min-max)", "test_mse is off by"]
    print(f"batches of {args.batch_size}, {args.steps} steps, {args.rounds} rounds, training alone")
    print(
        tabulate.tabulate([[*row[:2], round(args.batch_size * args.steps / row[2]), *row[3:]] for row in rows], header)
    )
    for variant, ways in figures.items():
        print(f"{variant}: {_checkpoint_cost(ways)}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


def _row(rounds: list[dict[str, Any]], reference: list[dict[str, Any]]) -> tuple[float, str, str]:
    seconds = statistics.median(each["train_seconds"] for each in rounds)
    ratios = [
        other["train_seconds"] / each["train_seconds"] for each, other in zip(rounds, reference, strict=True)
    ]  # fmt: skip
    off = max(abs(each["test_mse"] / other["test_mse"] - 1) for each, other in zip(rounds, reference, strict=True))
    return seconds, f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})", f"{off:.1g}"


def _checkpoint_cost(ways: dict[str, list[dict[str, Any]]]) -> str:
    """Say how large a checkpoint is, and by how many seconds each makes its trial longer."""
    pairs = list(zip(ways["a checkpoint a block"], ways["1 process, 1 thread"], strict=True))
    seconds = [(each["seconds"] - other["seconds"]) / max(each["checkpoints"], 1) for each, other in pairs]
    size = max(each["checkpoint_bytes"] for each, _ in pairs)
    return f"a checkpoint is {size / 1e6:.2f} MB and takes its trial {statistics.median(seconds):.3f} s (median)"


if __name__ == "__main__":
    main()
