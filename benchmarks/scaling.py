"""Measure how time and memory grow with the data, the trials and the jobs, and how soon commands start. CPU, Linux.

    python benchmarks/scaling.py --json scaling.json

Every bench runs in a fresh process, through `aezoo.bench`, on the digits of mnist-5k repeated. Rounds are interleaved.

1. data: one trial of `mlp` on ever more images, the same number of steps on each: the training loop's time for an
   image, and its ratio to that on the least data, round by round; the trial's peak memory.
2. trials: ever more seeds of `mlp`, with the default number of jobs: time from the first trial's start to the last
   one's end, over the images trained on; times the cores in use, so that one trial can be held against many.
3. jobs: the same trials on the largest data, ever more side by side: images trained on in a second,
   evaluation included; copies of the data in memory.
4. startup: seconds that the commands take, and whether they import torch and pandas.
5. workers: the same grid on ever more workers, of the local executor and of Ray; what a trial takes of a worker beside
   its training, and of the process that drives them.
6. driver: the process that drives a thousand workers through a hundred thousand trials, which are simulated: its CPU
   and its memory. A trial lasts as long as one of the part workers, or --seconds.

The memory of a bench is the proportional set size of its processes, in which a page that several share counts once: the
most that was seen while trials ran. Looking takes time, so these benches are not clocked. Copies of the data are what
the largest data take beyond the smallest, over the bytes they have more. `mean` stands for all that is not trained but
fitted.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tabulate
import workers
from stopwatch import Stopwatch

import aezoo
from aezoo.contract.recipe import read_recipe
from aezoo.machine import capture, default_jobs
from aezoo.registry.discovery import discover

ROUNDS = {"data": 5, "trials": 3, "jobs": 3, "startup": 7, "workers": 3, "driver": 1}
SAMPLE_SECONDS = 0.1
IMAGE_BYTES = 28 * 28
Figures = dict[str, Any]
DATA = """
import numpy as np

import aezoo


def load(_):
    digits = np.load({path!r})
    return aezoo.Images(train=np.resize(digits["train"], ({images}, *digits["test"].shape[1:])), test=digits["test"])


@aezoo.hookimpl
def aezoo_datasets():
    yield aezoo.Dataset(name="digits-{images}", load=load, summary="mnist-5k, repeated", reference="mnist-5k")
"""
"""A plugin in a file, whose data set is the digits repeated: every process of a bench can load it."""


def bench_here(variant: str, images: int, trials: int, jobs: int | None, steps: int) -> Figures:
    """Run a bench in this process, which has run none before, and return its figures."""
    digits = discover().dataset("mnist-5k").checked(Path())
    # No other plugin than the variant's: else the baselines would add trials of their own.
    architecture = f"architecture {variant.partition('[')[0]}"
    others = [plugin.name for plugin in discover().plugins if architecture not in plugin.contributions]
    recipe = read_recipe("default").change(steps=steps, seeds=trials, dataset=f"digits-{images}")
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.npz"
        np.savez(path, train=digits.train[0:], test=digits.test[0:])
        plugin = Path(folder) / "repeated_digits.py"
        plugin.write_text(DATA.format(path=str(path), images=images))
        started = time.monotonic()
        run = aezoo.bench(
            [variant], plugins=[plugin], block=others, recipe=recipe, out=Path(folder) / "run", jobs=jobs, timing=False,
            report=False, device="cpu", observer=watch,
        )  # fmt: skip
        whole = time.monotonic() - started
        records = run.records()
    for record in records:
        assert record.status == "ok", record.reason
    first, last = min(watch.begun.values()), max(watch.done.values())
    images_trained = trials * steps * recipe.batch_size
    cores = min(trials, default_jobs("cpu"), jobs or trials)
    trained = sum(record.train_seconds or 0.0 for record in records)
    lasted = [watch.done[record.trial_id] - watch.begun[record.trial_id] for record in records]
    return {
        "span": (first, last),
        "trial_seconds": lasted,
        "train_seconds": [record.train_seconds for record in records],
        "trial_peak_bytes": max(record.peak_memory_bytes or 0 for record in records),
        "own_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "images_per_s": images_trained / (last - first),
        "us_per_image": 1e6 * (last - first) / images_trained,
        "core_us_per_image": cores * 1e6 * (last - first) / images_trained,
        "train_us_per_image": 1e6 * trained / images_trained,
        "seconds_beside_training": sum(lasted) - trained,
        "seconds_beside_trials": whole - (last - first),
    }


def proportional_bytes(process: psutil.Process) -> int:
    """Return the proportional set size of a process; one that is gone has none."""
    with contextlib.suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def measure(sampled: bool = False, **asked: Any) -> Figures:
    """Run `bench_here` in a fresh process; where `sampled`, look at the memory of all its processes meanwhile."""
    print(f"{'memory of' if sampled else 'clocking'} {asked}", file=sys.stderr)
    samples: list[tuple[float, int, int]] = []
    command = [sys.executable, __file__, "--bench-here", json.dumps(asked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        while sampled and child.poll() is None:
            process, now = psutil.Process(child.pid), time.monotonic()
            others = sum(proportional_bytes(one) for one in process.children(recursive=True))
            samples.append((now, proportional_bytes(process), others))
            time.sleep(SAMPLE_SECONDS)
        output, _ = child.communicate()
    if child.returncode:
        sys.exit(f"the bench of {asked} failed")
    found: Figures = {**asked, **json.loads(output)}
    first, last = found.pop("span")
    if sampled:
        # What is over before one can look was seen last as it ended.
        during = [sample for sample in samples if first <= sample[0] <= last]
        found["samples"] = len(during)
        during = during or [min(samples, key=lambda sample: abs(sample[0] - last))]
        # One moment, that of the most in all: what the bench's own process holds then, and what its trials hold.
        _, found["own_bytes"], found["others_bytes"] = max(during, key=lambda sample: sample[1] + sample[2])
    return found


def in_rounds(cases: Sequence[Figures], rounds: int) -> list[list[Figures]]:
    """Clock each case once a round; return the rounds of each case."""
    found = [[measure(**case) for case in cases] for _ in range(rounds)]
    return [list(case) for case in zip(*found, strict=True)]


def ratios(case: list[Figures], base: list[Figures], figure: str) -> list[float]:
    """Return median, lowest and highest of a figure over that of another case, taken round by round."""
    return spread([one[figure] / other[figure] for one, other in zip(case, base, strict=True)])


def median(case: list[Figures], figure: str) -> float:
    """Return the median of a figure over a case's rounds."""
    return float(statistics.median(one[figure] for one in case))


def spread(values: list[float]) -> list[float]:
    """Return median, lowest and highest."""
    return [statistics.median(values), min(values), max(values)]


def grow_data(given: argparse.Namespace, rounds: int) -> Figures:
    """Grow the data under one trial."""
    cases = [{"variant": "mlp[]", "images": n, "trials": 1, "jobs": 1, "steps": given.steps} for n in given.images]
    found = in_rounds(cases, rounds)
    rows = []
    for case in found:
        more = (case[0]["images"] - given.images[0]) * IMAGE_BYTES
        peak = median(case, "trial_peak_bytes")
        copies = (peak - median(found[0], "trial_peak_bytes")) / more if more else None
        times = [median(case, "train_us_per_image"), *ratios(case, found[0], "train_us_per_image")]
        rows.append([case[0]["images"], *times, median(case, "seconds_beside_training"), peak / 1e6, copies])
    heads = [
        "images",
        "us/image",
        "ratio",
        "min",
        "max",
        "beside training, s",
        "trial's peak, MB",
        "copies of the data",
    ]
    print(tabulate.tabulate(rows, heads, floatfmt=".3f"))
    return {"clocked": found}


def grow_trials(given: argparse.Namespace, rounds: int) -> Figures:
    """Grow the number of trials."""
    settings = {"variant": "mlp[]", "images": given.images[0], "jobs": None, "steps": given.steps // 3}
    cases = [{**settings, "trials": number} for number in given.trials]
    found = in_rounds(cases, rounds)
    sampled = [measure(sampled=True, **case) for case in cases]
    rows = []
    for case, memory in zip(found, sampled, strict=True):
        times = [median(case, "us_per_image"), median(case, "core_us_per_image")]
        times += [*ratios(case, found[0], "core_us_per_image"), median(case, "seconds_beside_trials")]
        own, whole = median(case, "own_peak_bytes"), memory["own_bytes"] + memory["others_bytes"]
        rows.append([memory["trials"], *times, own / 1e6, whole / 1e6])
    heads = [
        "trials",
        "us/image",
        "core-us/image",
        "ratio",
        "min",
        "max",
        "beside trials, s",
        "own peak, MB",
        "all, MB",
    ]
    print(tabulate.tabulate(rows, heads, floatfmt=".3f"))
    return {"default_jobs": default_jobs("cpu"), "clocked": found, "sampled": sampled}


def grow_jobs(given: argparse.Namespace, rounds: int) -> Figures:
    """Grow the number of jobs, on the largest data."""
    settings = {"variant": "mlp[]", "images": given.images[-1], "trials": max(given.jobs), "steps": given.steps // 3}
    cases = [{**settings, "jobs": number} for number in given.jobs]
    found = in_rounds(cases, rounds)
    # What `mlp` takes on little data is subtracted for `mean` too: its fit of little data is over before one can look.
    small = [measure(sampled=True, **{**case, "images": given.images[0]}) for case in cases]
    large = {name: [measure(sampled=True, **{**case, "variant": name}) for case in cases] for name in ("mlp[]", "mean")}
    more = (given.images[-1] - given.images[0]) * IMAGE_BYTES
    rows = [[case[0]["jobs"], median(case, "images_per_s"), *ratios(case, found[0], "images_per_s")] for case in found]
    print(tabulate.tabulate(rows, ["jobs", "images/s", "ratio", "min", "max"], floatfmt=".3f"))
    rows = []
    for name, measured in large.items():
        for one, base in zip(measured, small, strict=True):
            own, others = (one[key] - base[key] for key in ("own_bytes", "others_bytes"))
            rows.append([name, one["jobs"], (own + others) / 1e6, own / more, others / more, (own + others) / more])
    print(f"\ncopies of the data, {more / 1e6:.0f} MB")
    heads = ["variant", "jobs", "all, MB", "in the bench's process", "in all others", "in all"]
    print(tabulate.tabulate(rows, heads, floatfmt=".3f"))
    return {"data_bytes": more, "clocked": found, "sampled_small": small, "sampled_large": large}


def start_commands(given: argparse.Namespace, rounds: int) -> Figures:
    """Start the commands, on a run of one step."""
    program = [sys.executable, "-m", "aezoo"]
    with tempfile.TemporaryDirectory() as run:
        bench = [*program, "bench", "mlp[]", "--quick", "--steps", "1", "--no-timing", "--device", "cpu", "--out", run]
        subprocess.run(bench, check=True, capture_output=True)
        after = {"table": [run], "compare": [run, run]}
        aezoos = [[word, *after.get(word, [])] for word in given.commands.split(",")]
        commands = {f"aezoo {' '.join(words).replace(run, 'RUN')}": [*program, *words] for words in aezoos}
        commands['python -c "import torch"'] = [sys.executable, "-c", "import torch"]
        imports = {name: imported(command) for name, command in commands.items()}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - started)
    packages = ("torch", "pandas")
    asked = {name: ["yes" if one in found else "no" for one in packages] for name, found in imports.items()}
    rows = [[name, *spread(taken), *asked[name]] for name, taken in seconds.items()]
    print(tabulate.tabulate(rows, ["command", "median, s", "min", "max", *packages], floatfmt=".3f"))
    return {"seconds": seconds, "imports": imports}


def apart(function: str, **asked: Any) -> Figures:
    """Call a function of workers.py in a fresh process, and return its figures."""
    print(f"{function} {asked}", file=sys.stderr)
    command = [sys.executable, __file__, "--bench-here", json.dumps({"function": function, **asked})]
    figures: Figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {**asked, **figures}


def grow_workers(given: argparse.Namespace, rounds: int) -> Figures:
    """Grow the number of workers under one grid."""
    cases = [(executor, number) for executor in given.executors.split(",") for number in given.jobs]
    sizes = {"trials": max(given.trials), "steps": given.steps // 3}
    clocked = [[apart("bench_grid", executor=name, workers=n, **sizes) for name, n in cases] for _ in range(rounds)]
    by_case = [list(case) for case in zip(*clocked, strict=True)]
    rows = [
        [
            name,
            number,
            median(case, "grid_seconds"),
            *ratios(case, by_case[0], "grid_seconds"),
            median(case, "overhead_seconds"),
            1e3 * median(case, "driver_cpu_seconds"),
            median(case, "beside_grid_seconds"),
        ]
        for (name, number), case in zip(cases, by_case, strict=True)
    ]
    heads = [
        "executor", "workers", "grid, s", "ratio", "min", "max", "a trial's worker beside training, s",
        "driver's CPU a trial, ms", "beside the grid, s",
    ]  # fmt: skip
    print(tabulate.tabulate(rows, heads, floatfmt=".3f"))
    return {"clocked": by_case}


def simulate_driver(given: argparse.Namespace, rounds: int) -> Figures:  # noqa: ARG001 - it takes minutes
    """Drive many simulated workers."""
    size = {"workers": given.workers, "trials": given.simulated, "variants": given.variants, "seconds": given.seconds}
    figures = apart("drive", **size)
    rows = [
        ["trials", figures["trials"]],
        ["workers", figures["workers"]],
        ["a trial, s", figures["trial_seconds"]],
        ["the grid by the simulated clock, s", figures["makespan_seconds"]],
        ["driver's CPU a trial, ms", figures["cpu_ms_a_trial"]],
        ["driver's CPU over the grid's time", figures["driver_share"]],
        ["driver's peak memory, MB", figures["peak_bytes"] / 1e6],
        ["all of it took, s", figures["seconds"]],
    ]
    print(tabulate.tabulate(rows, ["what", "figure"], floatfmt=".3f"))
    return figures


def imported(command: list[str]) -> list[str]:
    """Run a Python command, and return the top-level packages that it imported."""
    python, *arguments = command
    done = subprocess.run([python, "-X", "importtime", *arguments], check=True, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return sorted({line.rpartition("|")[2].strip().partition(".")[0] for line in lines[1:]})


PARTS = {
    "data": grow_data, "trials": grow_trials, "jobs": grow_jobs, "startup": start_commands, "workers": grow_workers,
    "driver": simulate_driver,
}  # fmt: skip


def rising(text: str) -> list[int]:
    """Read whole numbers with commas between, and sort them."""
    return sorted({int(part) for part in text.split(",")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--rounds", type=int, help=f"by default {ROUNDS}")
    parser.add_argument("--steps", type=int, default=600, help="of a trial in the part data; a third in the others")
    parser.add_argument("--images", type=rising, default="5000,60000,600000")
    parser.add_argument("--trials", type=rising, default="1,2,4,8,16,32,64")
    parser.add_argument("--jobs", type=rising, default="1,2,4")
    parser.add_argument("--commands", default="--help,--version,list,table,compare", help="of the part startup")
    parser.add_argument("--executors", default="local,ray", help="of the part workers")
    parser.add_argument("--workers", type=int, default=1000, help="of the part driver, as what follows")
    parser.add_argument("--simulated", type=int, default=100_000, metavar="TRIALS")
    parser.add_argument("--variants", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="that a simulated trial lasts")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bench-here", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bench_here:
        function = given.bench_here.pop("function", None)
        print(
            json.dumps(getattr(workers, function)(**given.bench_here) if function else bench_here(**given.bench_here))
        )
        return
    found: Figures = {"environment": capture("cpu", 1).model_dump()}
    if unknown := set(given.parts.split(",")) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; --parts takes some of {', '.join(PARTS)}")
    for name in given.parts.split(","):
        print(f"\n{name}")
        found[name] = PARTS[name](given, given.rounds or ROUNDS[name])
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
