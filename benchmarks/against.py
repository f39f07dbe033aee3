"""Hold this checkout's speed against another one's: training steps, the first whole table, the whole run.

    git worktree add ../before 82fec71
    python benchmarks/against.py ../before
    python benchmarks/against.py ../before --whole

Both run by this interpreter, in turn, at equal steps, on the default recipe's data. Of each variant the ratio of
training seconds, this one's over the other's, is the median over the rounds. `--whole` runs the zoo once in each: the
seconds until every variant has a row, and until the run has its table of speeds.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent.parent
DEAREST = (
    "resnet", "dc_ae", "coordinate[features=siren]", "lfq", "spatial_broadcast", "convnext", "recurrent", "residual_vq",
    "conv_resize", "fsq",
)  # fmt: skip
"""The ten variants whose training step took longest in version 0.1, on two cores without AVX-512."""


def bench(checkout: Path, out: Path, *arguments: str) -> float:
    """Bench with a checkout's own code, and return the seconds."""
    path = os.pathsep.join([str(checkout.resolve()), str((checkout / "plugins").resolve())])
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "aezoo", "bench", *arguments, "--device", "cpu", "--out", str(out.resolve())],
        check=True, cwd=checkout, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.monotonic() - started


def records(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run, as any version wrote them."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((run / "trials").iterdir())]


def train_seconds(run: Path) -> dict[str, float]:
    """Return the training seconds of each variant that trained, by its text."""
    return {
        record["variant"]: record["train_seconds"]
        for record in records(run)
        if record.get("baseline") is None and record["status"] == "ok"
    }


def steps(before: Path, variants: list[str], count: int, rounds: int) -> dict[str, list[float]]:
    """Return the ratios of training seconds, a round each, by variant."""
    ratios: dict[str, list[float]] = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            sides = {"before": before, "now": HERE}
            seconds = {}
            # Whoever comes first finds the machine as it is: so that is taken in turn.
            for name in sorted(sides, reverse=bool(number % 2)):
                arguments = [*variants, "--steps", str(count), "--seeds", "1", "--no-timing", "--jobs", "1"]
                bench(sides[name], Path(folder) / name, *arguments)
                seconds[name] = train_seconds(Path(folder) / name)
        for variant in seconds["now"].keys() & seconds["before"].keys():
            ratios.setdefault(variant, []).append(seconds["now"][variant] / seconds["before"][variant])
    return ratios


def whole(checkout: Path, variants: list[str], *arguments: str) -> tuple[float, float]:
    """Return the seconds until every variant has a row, and until the end."""
    with tempfile.TemporaryDirectory() as folder:
        started = datetime.now().astimezone()
        total = bench(checkout, Path(folder) / "run", *variants, *arguments)
        first = [record for record in records(Path(folder) / "run") if record["seed"] == 0]
        ended = max(datetime.fromisoformat(record["finished_at"]) for record in first)
        return (ended - started).total_seconds(), total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout of another version")
    parser.add_argument("--variants", nargs="+", help="in place of the ten dearest, or of the whole zoo")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="the whole zoo, at two seeds")
    given = parser.parse_args()
    if given.whole:
        settings = ["--seeds", "2", "--steps", str(given.steps)]
        sides = [whole(checkout, given.variants or ["--all"], *settings) for checkout in (given.before, HERE)]
        for name, before, now in zip(("first whole table", "whole run"), *sides, strict=True):
            print(f"{name}: {before:.0f} s before, {now:.0f} s now: {now / before:.2f}")
        return
    dearest = [name if "[" in name else f"{name}[]" for name in DEAREST]
    ratios = steps(given.before, given.variants or dearest, given.steps, given.rounds)
    medians = {variant: statistics.median(some) for variant, some in ratios.items()}
    for variant, ratio in sorted(medians.items(), key=lambda each: each[1]):
        print(f"{variant}: {ratio:.2f} ({min(ratios[variant]):.2f}-{max(ratios[variant]):.2f})")
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in medians.values()))
    print(f"geometric mean of {len(medians)}: {mean:.3f}")


if __name__ == "__main__":
    main()
