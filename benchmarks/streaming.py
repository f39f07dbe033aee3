"""Measure data larger than memory: the rate of streaming against images that are held, and what a bench on them holds.

    python benchmarks/streaming.py --gigabytes 2

makes so many GB of 3x64x64 images in a file, and

1. trains on them in this process, held in memory and streamed in turn, the order alternating, and gives the ratio of
   the rates, images a second, round by round;
2. benches them by `aezoo bench` in processes of its own, and gives the most that any process, and that all of them
   together, held while it ran: the resident set, in which a page of the file counts as long as a process maps it, and
   the proportional one, in which a page that several share counts once.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import tabulate
import torch

import aezoo
from aezoo.contract.recipe import read_recipe
from aezoo.contract.shared import map_file
from aezoo.machine import configure
from aezoo.train.loop import train

SHAPE = (3, 64, 64)
SAMPLE_SECONDS = 0.1


def make(path: Path, gigabytes: float) -> int:
    """Write images, smooth and noisy, as an npy file, a part at a time, and return how many."""
    size = int(np.prod(SHAPE))
    count = max(64, int(gigabytes * 1e9 / size))
    random = np.random.RandomState(0)
    waves = random.rand(64, *SHAPE[1:])
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, 1000):
        stop = min(start + 1000, count)
        mixed = random.rand(stop - start, SHAPE[0], 64) @ waves.reshape(64, -1)
        noisy = mixed.reshape(stop - start, *SHAPE) * 6 + random.rand(stop - start, *SHAPE) * 20
        pixels[start:stop] = np.clip(noisy, 0, 255).astype(np.uint8)
    pixels.flush()
    return count


def rates(path: Path, count: int, variant: str, rounds: int, steps: int) -> list[tuple[float, float]]:
    """Return (images a second streamed, images a second held) of each round."""
    offset = path.stat().st_size - count * int(np.prod(SHAPE))
    recipe = read_recipe("default").change(steps=steps)
    sources = {
        name: map_file(path, path.stat().st_size, streamed=name == "streamed")[offset:].view(count, *SHAPE)
        for name in ("streamed", "held")
    }
    sources["held"].sum()  # all of it is read once
    found = []
    for number in range(rounds + 1):
        speeds = {}
        for name in ("streamed", "held")[:: 1 if number % 2 else -1]:
            torch.manual_seed(0)
            module = aezoo.create(variant, image_shape=SHAPE)
            trained = train(module, sources[name], recipe, number, lambda _: None)
            speeds[name] = steps * recipe.batch_size / trained.seconds
        if number:
            found.append((speeds["streamed"], speeds["held"]))
    return found


def memory(path: Path, variants: list[str], steps: int, folder: Path) -> list[tuple[str, float, float]]:
    """Bench the file, and return, of what it held, the most of one process and the most of all, in MB."""
    command = [
        sys.executable, "-m", "aezoo", "bench", *variants, "--dataset", str(path), "--steps", str(steps),
        "--seeds", "1", "--jobs", "1", "--no-timing", "--device", "cpu", "--out", str(folder / "run"),
    ]  # fmt: skip
    one = {"rss": 0, "pss": 0}
    everyone = {"rss": 0, "pss": 0}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        while child.poll() is None:
            now = {"rss": 0, "pss": 0}
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(child.pid)
                for each in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        facts = each.memory_full_info()
                        for name in now:
                            now[name] += getattr(facts, name)
                            one[name] = max(one[name], getattr(facts, name))
            everyone = {name: max(everyone[name], now[name]) for name in now}
            time.sleep(SAMPLE_SECONDS)
    if child.returncode:
        sys.exit("the bench failed")
    return [(name, one[name] / 1e6, everyone[name] / 1e6) for name in one]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100, help="of a round, and of the bench")
    parser.add_argument("--variants", nargs="+", default=["mlp[]", "conv[]"])
    given = parser.parse_args()
    configure(threads=1)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".streaming-") as name:
        path = Path(name) / "images.npy"
        count = make(path, given.gigabytes)
        print(f"{count:,} images of {'x'.join(map(str, SHAPE))}, {path.stat().st_size / 1e9:.2f} GB")
        rows = []
        for variant in given.variants:
            found = rates(path, count, variant, given.rounds, given.steps)
            ratios = [streamed / resident for streamed, resident in found]
            medians = [statistics.median(each[place] for each in found) for place in (0, 1)]
            rows.append([variant, *medians, statistics.median(ratios), min(ratios), max(ratios)])
        print(tabulate.tabulate(rows, ["", "streamed/s", "held/s", "ratio", "min", "max"], floatfmt=".3g"))
        rows = [list(row) for row in memory(path, given.variants, given.steps, Path(name))]
        print(tabulate.tabulate(rows, ["MB", "one process", "all processes"], floatfmt=",.0f"))


if __name__ == "__main__":
    main()
