"""Does a device do all that this project claims of it? One command, one verdict; exit status 1 where a check fails.

    python benchmarks/device.py --device cuda --json device.json

It benches the zoo on the device for a hundred steps, and again on the CPU; repeats each trial; and looks at the figures
of memory, at running out of it, at the clocks, and at the arithmetic. `verdicts.py` has the bounds, each with its
reason. Every line of this file runs on a CPU too: in what devices differ stands in `DEVICES`, and `LIMITS` of
`starved.py`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tabulate
import torch
import verdicts
from torch.nn import functional as F
from verdicts import Row

import aezoo
from aezoo.contract.network import training_forward
from aezoo.contract.recipe import Precision, Recipe, read_recipe
from aezoo.errors import AezooError
from aezoo.harness.run import Run
from aezoo.harness.timing import ROUND_SECONDS, calls_per_s
from aezoo.machine import capture, check_precision, choose_device, configured
from aezoo.run.records import Timing, TrialRecord
from aezoo.run.repetition import repeated
from aezoo.run.store import RunDirectory
from aezoo.train.engine import arithmetic


@dataclass(frozen=True, kw_only=True)
class Device:
    """In what a kind of device differs: which figure of a record is its memory, and whether it has TF32.

    `side` is that of the matrices whose product is clocked: large enough to fill the device.
    """

    memory: str
    tf32: bool
    side: int


DEVICES = {
    "cpu": Device(memory="peak_memory_bytes", tf32=False, side=512),
    "cuda": Device(memory="peak_device_memory_bytes", tf32=True, side=4096),
    "mps": Device(memory="peak_device_memory_bytes", tf32=False, side=2048),
}
STEPS, SEEDS = 2000, (4, 8)
"""Of the trainings whose steps are timed, and how many seeds of them train side by side."""
TRIES = 3
"""A disturbance spoils one try of a clock; what is wrong with it spoils all."""
SPEEDS = ("train_images_per_s", "infer_images_per_s", "train_vs_reference", "infer_vs_reference")
"""Columns of a table; the reference is the `mlp`."""
STARVED = Path(__file__).parent / "starved.py"


@dataclass(frozen=True, kw_only=True)
class Session:
    """What all checks share: the device, what is benched on it, and a folder for runs."""

    device: str
    variants: Sequence[str]
    clocked: Sequence[str]
    recipe: Recipe
    jobs: int
    folder: Path

    def bench(self, name: str, variants: Sequence[str] = (), recipe: Recipe | None = None, **settings: Any) -> Run:
        """Bench variants, or the session's, into a run of this name."""
        chosen = variants or self.variants
        settings = {
            "device": self.device,
            "timing": False,
            "report": False,
            "weights": "none",
            "jobs": self.jobs,
            **settings,
        }
        return aezoo.bench(chosen, every=not chosen, recipe=recipe or self.recipe, out=self.folder / name, **settings)


def draws_noise(record: TrialRecord) -> bool:
    """Say whether a trial's network draws random numbers while it trains."""
    shape = record.dataset.image_shape
    module = aezoo.create(record.variant if "[" in record.variant else f"{record.variant}[]", image_shape=shape).train()
    before = torch.get_rng_state()
    training_forward(module, torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)))
    return not torch.equal(before, torch.get_rng_state())


def product_errors(device: str, precision: Precision) -> dict[str, float]:
    """Return the relative errors of products, in a process set up as a trial's; their factors need 12 bits."""
    factor, side, channels = 1 + 2**-12, 512, 64
    with configured(1), torch.no_grad(), arithmetic(precision, device):
        matrices = torch.full((side, side), factor, device=device) @ torch.ones(side, side, device=device)
        maps = torch.full((8, channels, 16, 16), factor, device=device)
        convolved = F.conv2d(maps, torch.ones(channels, channels, 3, 3, device=device))
    pairs = {"matrices": (matrices, side), "convolution": (convolved, 9 * channels)}
    return {
        name: float((got.cpu().double() / (factor * count) - 1).abs().max()) for name, (got, count) in pairs.items()
    }


def is_refused(precision: Precision, device: str) -> bool:
    """Say whether a bench would refuse a precision on a device."""
    try:
        check_precision(precision, device)
    except AezooError:
        return True
    return False


def clock_ratios(device: str, seconds: float) -> tuple[float, float]:
    """Return two figures of the harness's clock on products of matrices.

    Their speed by it over that of products of which each result is read; and how much longer one of 8 times the FLOPs
    takes.
    """
    side = DEVICES[device].side
    with configured(1), torch.no_grad():
        small, large = (torch.rand(one, one, device=device) for one in (side, 2 * side))
        rate, slower = (calls_per_s(lambda x=x: x @ x, seconds, device) for x in (small, large))  # type: ignore[misc]
        started, calls = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < seconds or not calls:
            float((small @ small)[0, 0])
            calls += 1
    return rate * elapsed / calls, rate / slower


def tried(judge: Callable[[], Row]) -> Row:
    """Return the first of a few tries that does not fail, or the last."""
    for _ in range(TRIES):
        judged = judge()
        if judged.verdict != "FAIL":
            break
    return judged


def timed_twice(session: Session, name: str, rounds: int) -> Timing | None:
    """Return a timing of the `mlp`, which is the reference too; None where it could not be timed."""
    recipe = session.recipe.change(steps=1, timing_rounds=rounds)
    run = session.bench(name, ["mlp[]"], recipe, timing=True)
    return next((timing for timing in RunDirectory(run.path).timings().values() if timing.variant == "mlp"), None)


def step_seconds(session: Session) -> dict[str, float]:
    """Return the seconds of a step of the `mlp`, 128 images each: on its own, by a graph, and of seeds side by side.

    They are those of whole trainings, what a graph takes to be captured among them.
    """
    recipe = session.recipe.change(batch_size=128, steps=STEPS, seeds=1)
    ways: dict[str, dict[str, Any]] = {
        "on its own": {"graphs": False},
        "by a graph": {},
        **{f"of {seeds} seeds together": {"seeds": seeds} for seeds in SEEDS},
    }
    seconds = {}
    for number, (name, settings) in enumerate(ways.items()):
        seeds = settings.pop("seeds", 1)
        run = session.bench(
            f"steps-{number}", ["mlp[]"], recipe.change(seeds=seeds), jobs=1, seeds_together=seeds, **settings
        )
        trained = [record for record in run.records() if record.variant == "mlp"]
        each = [(record.train_seconds or 0.0) / STEPS / record.side_by_side for record in trained]
        seconds[name] = statistics.median(each)
    return seconds


def examine(session: Session, rounds: int) -> Iterator[Row]:
    """Yield a row for each check, as it is made; the run on the device stays in the session's folder."""
    device, recipe = DEVICES[session.device], session.recipe
    pair = ("mlp[]", "conv[]")
    run = session.bench("device")
    records = run.records()
    yield verdicts.judge_trials(records)
    yield verdicts.judge_determinism(records)
    reference = session.bench("cpu", device="cpu").records()
    yield from verdicts.judge_losses(records, reference, draws_noise)
    again = {record.trial_id: record for record in session.bench("again").records()}
    repeatable = [record for record in verdicts.ok(records).values() if record.deterministic]
    yield verdicts.judge_repetitions([repeated(record, again[record.trial_id]) for record in repeatable])

    on_graphs = session.device == "cuda"
    if on_graphs:
        yield from verdicts.judge_graphs(records, session.bench("single", graphs=False).records())
        alone, together = (
            session.bench(f"together-{number}", pair[:1], recipe.change(seeds=4), seeds_together=number).records()
            for number in (1, 4)
        )
        yield verdicts.judge_company(together, alone, 4)

    float32 = session.bench("float32", pair).records()
    wide = session.bench("wide", ["conv[]"], recipe.change(steps=2, batch_size=1024)).records()
    yield verdicts.judge_memory(records, device.memory)
    yield verdicts.judge_growth(
        *(getattr(verdicts.ok(some).get("conv"), device.memory, None) for some in (float32, wide))
    )
    starving = session.bench("starved", ["starved", "mlp[]"], recipe.change(steps=60), plugins=[STARVED])
    yield verdicts.judge_out_of_memory(starving.records(), recipe.batch_size)

    yield tried(lambda: verdicts.judge_clock(clock_ratios(session.device, ROUND_SECONDS)[0]))
    yield tried(lambda: verdicts.judge_work(clock_ratios(session.device, ROUND_SECONDS)[1]))
    names = iter(f"twice-{number}" for number in range(TRIES))
    yield tried(lambda: verdicts.judge_twice(timed_twice(session, next(names), rounds)))
    if on_graphs:
        yield verdicts.judge_steps(step_seconds(session))
    # The variants that are clocked have run: nothing but their speeds is missing.
    session.bench("device", session.clocked, timing=True)

    yield verdicts.judge_products(product_errors(session.device, "float32"))
    error = max(product_errors(session.device, "tf32").values())
    yield verdicts.judge_tf32(is_refused("tf32", session.device), error, device.tf32)
    yield verdicts.judge_bfloat16(
        session.bench("bfloat16", pair, recipe.change(precision="bfloat16")).records(), float32
    )


def speeds(session: Session) -> list[dict[str, Any]]:
    """Return a row for each variant on the device: its loss, over the CPU's too, its memory and its speeds."""
    run = Run(path=session.folder / "device")
    table = run.table().astype(object)
    ratios = verdicts.over(run.records(), Run(path=session.folder / "cpu").records())
    field = DEVICES[session.device].memory
    memory = {name: getattr(record, field) for name, record in verdicts.ok(run.records()).items()}
    lines = []
    for line in table.where(table.notna(), None).to_dict("records"):
        name = str(line["variant"])
        lines.append(
            {
                "variant": name,
                "status": line["status"],
                "test_mse": line["test_mse"],
                "over_cpu": ratios.get(name),
                "peak_mb": None if memory.get(name) is None else memory[name] / 1e6,
                **{column: line[column] for column in SPEEDS},
            }
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, or auto")
    parser.add_argument("--variants", nargs="*", default=[], help="by default the whole zoo")
    parser.add_argument("--clocked", nargs="*", default=[], help="those of them that are timed; by default all")
    parser.add_argument("--jobs", type=int, default=1, help="trials side by side, where no clock runs")
    parser.add_argument("--dataset", help="in place of the quick recipe's")
    parser.add_argument("--steps", type=int, help="in place of the quick recipe's")
    parser.add_argument("--rounds", type=int, default=5, help="in which one network is timed twice")
    parser.add_argument("--out", type=Path, help="keeps the runs")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    recipe = read_recipe("quick").change(dataset=given.dataset, steps=given.steps)
    device = choose_device(given.device)
    environment = capture(device, 1)
    with tempfile.TemporaryDirectory() as name:
        session = Session(
            device=device, variants=given.variants, clocked=given.clocked, recipe=recipe, jobs=given.jobs,
            folder=given.out or Path(name),
        )  # fmt: skip
        rows, started = [], time.monotonic()
        for judged in examine(session, given.rounds):
            elapsed = time.monotonic() - started
            print(f"{elapsed:5.0f} s  {judged.verdict:8}  {judged.check}: {judged.got}", file=sys.stderr, flush=True)
            rows.append(judged)
        table = speeds(session)
    driver = f", CUDA {environment.cuda}, driver {environment.driver}" if environment.cuda else ""
    print(f"{environment.device_name} ({device}), torch {environment.torch}{driver}, {environment.platform}\n")
    print(tabulate.tabulate([asdict(each) for each in rows], headers="keys", tablefmt="github"), end="\n\n")
    formats = ("", "", ".5f", ".6f", ",.1f", ",.0f", ",.0f", ".3f", ".3f")
    print(tabulate.tabulate(table, headers="keys", tablefmt="github", floatfmt=formats), end="\n\n")
    counts = {verdict: [each.verdict for each in rows].count(verdict) for verdict in ("pass", "FAIL", "not here")}
    print(f"{device}: {len(rows)} checks: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
    if given.json:
        found = {"environment": environment.model_dump(), "rows": [asdict(each) for each in rows], "variants": table}
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if counts["FAIL"] else 0)


if __name__ == "__main__":
    main()
