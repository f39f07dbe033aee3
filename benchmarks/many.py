"""Measure how long the commands that read a run take on one of very many trials, and how much memory. CPU, Linux.

    python benchmarks/many.py --variants 20000 --seeds 5 --json many.json
    python benchmarks/many.py --variants 200 --seeds 500

makes such a run: four variants of `mlp` are trained for a few steps, and the records of as many as are wanted, of other
widths, are written after theirs, each trial with test errors of its own, a variant with reconstructions of its first
seed and with a timing; one trial in a thousand has failed. Ids are those that `aezoo bench` gives, so that the same
call finds nothing to do. It asks: how long does each command take where nothing was read before, and how long again?

Each command runs in a process of its own, once without an index and `--rounds` times with one. Its seconds are those
of the whole process, imports among them, beside those of all its cores; its memory is the peak of its resident set.
`--run` says where the run is made, and left; where there is one, that is taken. `import` is what a process takes that
reads nothing.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tabulate

import aezoo
from aezoo.harness.observer import Observer
from aezoo.harness.opening import open_call
from aezoo.harness.request import Request
from aezoo.machine import capture
from aezoo.run.files import checksum, write_json
from aezoo.run.records import Timing, TrialRecord
from aezoo.run.store import INDEX, SAMPLES, TEST_ERRORS, RunDirectory, pack_test_errors

SIZES = (2, 8, 16, 32)
FAILED = 1000
"""One trial of so many has failed."""
BENCH = """
import json, sys
from pathlib import Path
import aezoo
settings = json.loads(Path(sys.argv[1]).read_text())
run = aezoo.bench(**{**settings, "recipe": aezoo.Recipe(**settings["recipe"]), "observer": aezoo.Observer()})
assert run.trials == 0, run.trials
"""
"""The call that made the run, again."""
COMMANDS = ("import", "status", "table", "show", "report", "bench")
_ID, _SEED, _MSE, _SHA256, _SUM = "0-id", 2**40, 2.0**41, "f" * 64, "e" * 64
"""What stands in a text for what is a trial's own."""
Figures = dict[str, Any]


def settings_of(path: Path, variants: int, seeds: int) -> dict[str, Any]:
    """Return the settings of the call that makes the run."""
    names = [f"mlp[latent_dim={size},width={8 + width}]" for width in range(variants) for size in SIZES][:variants]
    recipe = {"name": "many", "dataset": "digits", "seeds": seeds, "steps": 200, "timing_rounds": 1}
    return {"variants": names, "recipe": recipe, "out": str(path), "device": "cpu"}


def make(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the run of a call."""
    recipe = aezoo.Recipe(**settings["recipe"])
    trained = aezoo.bench(
        [f"mlp[latent_dim={size}]" for size in SIZES], recipe=recipe.change(seeds=1), out=path, device="cpu",
        report=False,
    )  # fmt: skip
    run = RunDirectory(path)
    records = {record.variant: record for record in trained.records()}
    models = {record.hyperparameters.get("latent_dim"): record for record in records.values() if not record.baseline}
    errors = {record.variant: run.read_test_errors(record) for record in records.values()}
    samples = {name: (run.artifacts(record.trial_id) / SAMPLES).read_bytes() for name, record in records.items()}
    timings = {timing.variant: timing for timing in run.timings().values()}
    for name in ("trials", "timings", "claims", "artifacts"):
        shutil.rmtree(path / name)
        (path / name).mkdir()
    for name in ("run.json", INDEX):
        (path / name).unlink(missing_ok=True)
    random = np.random.default_rng(0)
    requested: dict[str, list[str]] = {}
    with open_call(Request.of({**settings, "recipe": recipe}), Observer()) as (grid, selected):
        for variant in [*selected, *(grid.registry.resolve(name) for name in records if records[name].baseline)]:
            model = records.get(variant.text) or models[variant.hyperparameters["latent_dim"]]
            plans = [grid.plan(variant, seed) for seed in range(recipe.seeds)]
            requested[variant.text] = [plan.trial_id for plan in plans]
            facts = {**model.model_dump(), **plans[0].model_dump()}
            ended, failed = _texts(facts), _texts(facts, failed=True)
            base = errors[model.variant] * random.lognormal(random.exponential(0.15), 0.1, len(errors[model.variant]))
            for plan in plans:
                if random.integers(FAILED) == 0 and not model.baseline:
                    _write(run.trial_path(plan.trial_id), _filled(failed, plan.trial_id, plan.seed))
                    continue
                own = base * random.lognormal(0, 0.02)
                content = pack_test_errors(own)
                text = _filled(ended, plan.trial_id, plan.seed, float(own.mean()), hashlib.sha256(content).hexdigest())
                _write(run.trial_path(plan.trial_id), text)
                folder = run.artifacts(plan.trial_id)
                folder.mkdir()
                (folder / TEST_ERRORS).write_bytes(content)
                if plan.seed == 0:
                    (folder / SAMPLES).write_bytes(samples[model.variant])
            timing = timings[model.variant].model_copy(update={"variant": variant.text})
            _write(run.timing_path(plans[0], timing.environment), _timing_text(timing))
        write_json(path / "run.json", grid.info.model_copy(update={"requested": requested}))


def _texts(facts: Mapping[str, Any], *, failed: bool = False) -> tuple[str, str]:
    """Return the text of a variant's records as it is hashed and as it is written, with marks for a trial's own."""
    own: dict[str, Any] = {"trial_id": _ID, "seed": _SEED, "test_mse": _MSE, "test_errors_sha256": _SHA256}
    if failed:
        own |= {"status": "error", "reason": "its process was killed by SIGSEGV", "curve": []}
        own |= dict.fromkeys(("test_mse", "test_errors_sha256", "samples_sha256", "weights_sha256", "train_mse"))
    content = TrialRecord(**{**facts, **own}).model_dump(mode="json", by_alias=True)
    return json.dumps(content, sort_keys=True), json.dumps({**content, "checksum": _SUM}, indent=1) + "\n"


def _filled(texts: tuple[str, str], trial_id: str, seed: int, mse: float = 0.0, sha256: str = "") -> str:
    own = {f'"{_ID}"': f'"{trial_id}"', str(_SEED): str(seed), repr(_MSE): repr(mse), _SHA256: sha256}
    hashed, written = texts
    for mark, value in own.items():
        hashed, written = hashed.replace(mark, value), written.replace(mark, value)
    return written.replace(_SUM, hashlib.sha256(hashed.encode()).hexdigest())


def _timing_text(timing: Timing) -> str:
    content = timing.model_dump(mode="json", by_alias=True)
    return json.dumps({**content, "checksum": checksum(content)}, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file without waiting for the disk: nobody needs this one."""
    path.write_text(text, encoding="utf-8")


def lines_of(path: Path, settings: Path) -> dict[str, list[str]]:
    """Return each command as a process takes it."""
    aezoo_command = [sys.executable, "-m", "aezoo"]
    run = str(path)
    return {
        "import": [sys.executable, "-c", "import torch, pandas, scipy.special, aezoo.harness.call"],
        "status": [*aezoo_command, "status", run],
        "table": [*aezoo_command, "table", run],
        "show": [*aezoo_command, "show", run, "mlp[latent_dim=8,width=8]"],
        "report": [*aezoo_command, "report", run],
        "bench": [sys.executable, "-c", BENCH, str(settings)],
    }


def measure(command: list[str]) -> Figures:
    """Run a command, and return its seconds, those of the cores, and its peak of memory in MB."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    assert status == 0, f"{command[:5]} ended with {status}"
    return {"seconds": seconds, "core_seconds": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1e3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--commands", default=",".join(COMMANDS), help="some of %(default)s")
    parser.add_argument("--run", type=Path, metavar="DIR", help="where the run is, or is made and left")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = (chosen.run or Path(scratch) / "run").absolute()
        settings = settings_of(path, chosen.variants, chosen.seeds)
        (Path(scratch) / "settings.json").write_text(json.dumps(settings))
        if not (path / "run.json").is_file():
            started = time.monotonic()
            make(path, settings)
            print(f"made in {time.monotonic() - started:.0f} s: {path}")
        commands = lines_of(path, Path(scratch) / "settings.json")
        figures: Figures = {"environment": capture("cpu", 1).model_dump(), "commands": {}}
        rows = []
        for name in chosen.commands.split(","):
            (path / INDEX).unlink(missing_ok=True)
            first = measure(commands[name])
            again = [measure(commands[name]) for _ in range(chosen.rounds)]
            figures["commands"][name] = {"first": first, "again": again}
            medians = [statistics.median(each[what] for each in again) for what in ("seconds", "core_seconds", "mb")]
            rows.append([name, *first.values(), *medians])
            print(tabulate.tabulate(rows[-1:], tablefmt="plain", floatfmt=".1f"), file=sys.stderr)
        index = path / INDEX
        figures["index_mb"] = index.stat().st_size / 1e6 if index.is_file() else 0.0
    headers = ["command", "s, no index", "core-s", "MB", "s, again", "core-s", "MB"]
    print(tabulate.tabulate(rows, headers, floatfmt=".1f"))
    print(f"{chosen.variants} variants, {chosen.seeds} seeds; the index takes {figures['index_mb']:.0f} MB")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
