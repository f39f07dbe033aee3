"""Every program of benchmarks/ runs, with its smallest settings. Its figures are none here."""

import contextlib
import hashlib
import importlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from launcher import Bench
from made_runs import make_run, several, variant
from PIL import Image

import aezoo
from aezoo.machine import configured
from aezoo.table.priors import read_calibration

BENCHMARKS = Path(aezoo.__file__).parent.parent / "benchmarks"
PROGRAMS = [path for path in sorted(BENCHMARKS.rglob("*.py")) if "def main()" in path.read_text()]
RECIPE = aezoo.Recipe(name="t", dataset="digits", steps=2)


@pytest.fixture
def program(monkeypatch):
    """Return a function that runs a program's main function with arguments, in this process."""

    # Programs whose benches are clocked take as long a look as the tests of benches do.
    monkeypatch.setattr("aezoo.harness.timing.ROUND_SECONDS", 0.02)

    def run(name: str, *arguments: object, **replaced: object) -> None:
        monkeypatch.syspath_prepend(str(BENCHMARKS / Path(name).parent))
        module = importlib.import_module(Path(name).stem)
        for function, other in replaced.items():
            monkeypatch.setattr(module, function, other(module))
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with configured(1), contextlib.suppress(SystemExit):
            module.main()

    yield run
    for path in PROGRAMS:
        sys.modules.pop(path.stem, None)


@pytest.fixture
def stand_in(launcher, monkeypatch, tmp_path):
    """Return what stands in for a program's `subprocess`: nothing imports torch anew.

    `aezoo` is a fork of a process that has; the program itself, asked for a part of its work, does it in this process;
    only a command that is to say what it imports is what it is.
    """

    def start(command: list[str]) -> Bench:
        return launcher.start(*command[3:], cwd=tmp_path)

    def run(command: list[str], **_: object) -> Any:
        if command[1:4] == ["-m", "aezoo", "bench"]:
            bench = start(command)
            assert bench.wait() == 0, bench.err.read_text()
            return SimpleNamespace(returncode=0, stdout=bench.out.read_text())
        if "-X" in command:
            return subprocess.run(command, check=True, capture_output=True, text=True)
        paths = [path for path in PROGRAMS if str(path) in command]
        told = io.StringIO()
        for path in paths:
            with monkeypatch.context() as patch, contextlib.redirect_stdout(told):
                patch.setattr(sys, "argv", command[command.index(str(path)) :])
                sys.modules[path.stem].main()
        return SimpleNamespace(returncode=0, stdout=told.getvalue())

    def popen(command: list[str], **_: object) -> contextlib.nullcontext[Any]:
        bench = start(command)
        bench.poll = lambda: bench.returncode
        return contextlib.nullcontext(bench)

    return lambda _: SimpleNamespace(run=run, Popen=popen, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)


def test_every_program_is_run_here():
    names = {str(path.relative_to(BENCHMARKS)) for path in PROGRAMS}
    assert names == {
        "against.py", "calibrate.py", "claims.py", "device.py", "graphs.py", "many.py", "overhead.py", "pages.py",
        "pca.py", "peers.py", "pictures.py", "processes.py", "scaling.py", "simulate.py", "sizes.py",
        "steps.py", "streaming.py", "reproduce/run.py",
    }  # fmt: skip


def test_against(program, stand_in, tmp_path, capsys):
    """Against itself: by the training seconds of runs, of which one is trained; and whole, by runs that are made."""
    small = ["--variants", "linear[latent_dim=2]", "--steps", 2, "--rounds", 1]
    first = tmp_path / "first"

    def bench_once(module):
        real = module.bench

        def bench(checkout, out, *arguments):
            if not first.exists():
                real(checkout, first, *arguments)
            shutil.copytree(first, out)

        return bench

    program("against.py", BENCHMARKS.parent, *small, bench=bench_once, subprocess=stand_in)
    assert "geometric mean of 1: 1.000" in capsys.readouterr().out

    def bench(_):
        def made(checkout, out, *_):
            make_run(out, [variant("x", finished_at=(datetime.now().astimezone() + timedelta(seconds=40)).isoformat())])
            return 60.0

        return made

    program("against.py", BENCHMARKS.parent, *small, "--whole", bench=bench)
    assert capsys.readouterr().out.splitlines() == [
        "first whole table: 40 s before, 40 s now: 1.00", "whole run: 60 s before, 60 s now: 1.00",
    ]  # fmt: skip


def test_calibrate_leaves_the_seeds_of_tables_out_and_the_table_leans_on_what_it_found(program, tmp_path):
    run = aezoo.bench(
        ["linear[latent_dim=2]", "linear[]", "linear[latent_dim=8]"],
        recipe=RECIPE.change(seeds=9), out=tmp_path / "run", device="cpu", timing=False, executor="inline",
    )  # fmt: skip
    before = run.table().set_index("variant").loc["linear"]
    program("calibrate.py", run.path, run.path / "prior.toml", "--from-seed", 1, "--losses", tmp_path / "losses.json")
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert {name: len(seeds) for name, seeds in losses["narrow"].items()} == {
        "linear": 8, "linear[latent_dim=2]": 8, "linear[latent_dim=8]": 8,
    }  # fmt: skip
    calibration = read_calibration(run.path / "prior.toml")
    assert (calibration.seeds, calibration.groups["narrow"].variants) == ("1-8", 3)
    after = run.table().set_index("variant").loc["linear"]
    assert after["test_mse"] == before["test_mse"]
    assert after["test_mse_low"] != before["test_mse_low"]
    with pytest.raises(aezoo.AezooError, match="a calibration needs 8"):
        program("calibrate.py", run.path, tmp_path / "other.toml", "--from-seed", 3)
    other = aezoo.bench(
        ["linear[]"], recipe=RECIPE.change(steps=3), out=tmp_path / "other", device="cpu", timing=False,
        executor="inline",
    )  # fmt: skip
    shutil.copyfile(run.path / "prior.toml", other.path / "prior.toml")
    with pytest.raises(aezoo.AezooError, match="make it anew with benchmarks/calibrate.py"):
        other.table()


def test_claims(program, tmp_path, capsys):
    found = tmp_path / "found.json"
    program("claims.py", "--kills", 4, "--names", 20, "--claims", 5, "--seconds", 0.05, "--json", found)
    figures = json.loads(found.read_text())
    assert list(figures) == ["locks", "renames", "renames, elsewhere"]
    for each in figures.values():
        assert (each["kills"], each["lost"], each["twice"], each["at once"]) == (4, 0, 0, 0)
        assert each["starts"] >= each["names"] >= 20
        assert len(each["claim_seconds"]) == 5
    assert "release µs" in capsys.readouterr().out


def test_simulate(program, capsys):
    program("simulate.py", "--rounds", 2, "--variants", 4, "--seeds", 2)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith(("| inverse", "| lognormal", "| two-point"))]) == 6


def test_overhead(program, tmp_path, capsys):
    found = tmp_path / "found.json"
    small = ["--rounds", 1, "--steps", 4, "--tasks", 1, "--variants", "mlp[]", "--recipe", "quick"]
    program("overhead.py", *small, "--out", tmp_path / "run", "--json", found)
    figures = json.loads(found.read_text())
    assert [len(figures[f"{name}_loop_seconds"]) for name in ("mlp", "conv")] == [1, 1]
    assert 0 < figures["bench"]["share"] < 1
    assert 10_000 < figures["samples_bytes"] < 40_000
    assert "a bench of 3 variants, core-seconds:" in capsys.readouterr().out


def test_streaming(program, stand_in, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    small = ["--gigabytes", 0.002, "--rounds", 1, "--steps", 2, "--variants", "linear[]"]
    program("streaming.py", *small, subprocess=stand_in)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("162 images of 3x64x64")
    assert any(line.startswith("linear[]") for line in lines)
    assert [line.split()[0] for line in lines[-2:]] == ["rss", "pss"]


def test_peers(program, stand_in, tmp_path, capsys):
    """Each peer has a process of its own; here they share this one."""
    found = tmp_path / "found.json"
    small = ["--families", "mlp", "--rounds", 1, "--epochs", 1, "--trials", 2, "--json", found]
    program("peers.py", *small, subprocess=stand_in, missing=lambda module: module.PACKAGES.get)
    figures = json.loads(found.read_text())
    rounds = figures["mlp"]["rounds"]
    assert list(rounds) == ["aezoo, bench", "aezoo", "bare loop", "dataloader"]
    errors = {peer: one["train_mse"] for peer, (one,) in rounds.items()}
    assert errors["bare loop"] == pytest.approx(errors["aezoo"], rel=1e-3)
    assert "left out: pythae, which needs pythae" in capsys.readouterr().err


def test_steps(program, tmp_path, capsys):
    found = tmp_path / "found.json"
    program("steps.py", "mlp", "conv", "--steps", 2, "--json", found)
    figures = json.loads(found.read_text())
    assert {name: sum(each["shares"].values()) for name, each in figures.items()} == pytest.approx(
        {"mlp": 1, "conv": 1}
    )
    assert "conv, channels_last, one thread: a step takes" in capsys.readouterr().out


def test_scaling(program, tmp_path, capsys, monkeypatch):
    """Each bench has a process of its own; here all but one share this one, and those of one variant are one bench."""
    found = tmp_path / "found.json"
    small = ["--images", "128,256", "--trials", "1,2", "--jobs", "1,2", "--steps", 3, "--rounds", 1]

    def here(module):
        benched = {}

        def measure(sampled=False, **settings):
            key = settings["variant"], settings["trials"]
            if key not in benched:
                benched[key] = module.bench_here(**settings)
            return {**settings, **benched[key], **({"own_bytes": 1, "others_bytes": 2} if sampled else {})}

        return measure

    monkeypatch.syspath_prepend(str(BENCHMARKS))
    measure = importlib.import_module("scaling").measure
    program("scaling.py", *small, "--parts", "trials,jobs", "--json", found, measure=here)
    figures = json.loads(found.read_text())
    assert [len(figures["jobs"][name]) for name in ("clocked", "sampled_small")] == [2, 2]
    assert "copies of the data, 0 MB" in capsys.readouterr().out
    program("scaling.py", *small, "--images", "128", "--parts", "data", measure=lambda _: measure)
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "128"


def test_scaling_grows_workers_and_drives_simulated_ones(program, stand_in, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    small = ["--jobs", "1", "--trials", "2", "--steps", 6, "--executors", "local", "--rounds", 1]
    simulated = ["--workers", 8, "--simulated", 40, "--variants", 2, "--seconds", 3]
    parts = ["--parts", "workers,driver", "--json", figures]
    program("scaling.py", *small, *simulated, *parts, subprocess=stand_in)
    found = json.loads(figures.read_text())
    (clocked,) = found["workers"]["clocked"]
    assert clocked[0]["overhead_seconds"] > 0
    assert found["driver"]["trials"] == 40
    # Eight side by side, of three seconds each, give or take a fifth.
    assert 12 < found["driver"]["makespan_seconds"] < 18
    assert "driver's CPU a trial, ms" in capsys.readouterr().out


def test_scaling_starts_commands_and_sees_what_they_import(program, stand_in, tmp_path):
    """Each is started once, to say what it imports: the clocks beside have nothing to do."""
    found = tmp_path / "found.json"
    small = ["--rounds", 1, "--parts", "startup", "--commands=--version,table", "--json", found]
    program("scaling.py", *small, subprocess=stand_in)
    imports = json.loads(found.read_text())["startup"]["imports"]
    assert "torch" in imports['python -c "import torch"']
    assert "pandas" in imports["aezoo table RUN"]
    assert "pandas" not in imports["aezoo --version"]
    assert [name for name in ("aezoo --version", "aezoo table RUN") if "torch" in imports[name]] == []


def test_device(program, tmp_path, capsys):
    """All but the clocks, which pass where it is quiet."""
    found = tmp_path / "found.json"
    small = ["--variants", "linear[]", "vae[]", "--dataset", "digits", "--steps", 3, "--rounds", 1]
    program("device.py", "--device", "cpu", *small, "--out", tmp_path / "runs", "--json", found)
    figures = json.loads(found.read_text())
    verdicts = {row["check"]: row["verdict"] for row in figures["rows"] if not row["check"].startswith("clock")}
    assert [name for name, verdict in verdicts.items() if verdict != "pass"] == ["losses: discrete codes"]
    assert verdicts["losses: discrete codes"] == "not here"
    assert list(verdicts) == [
        "trials", "steps from one seed", "losses: closed forms", "losses: trained", "losses: trained with noise",
        "losses: discrete codes", "repeated trials", "peak memory", "memory of a batch", "out of memory", "float32",
        "tf32", "bfloat16",
    ]  # fmt: skip
    assert len(figures["rows"]) == len(verdicts) + 3
    by_name = {row["variant"]: row for row in figures["variants"]}
    assert by_name["linear"]["over_cpu"] == pytest.approx(1, abs=1e-3)
    assert by_name["vae"]["train_vs_reference"] > 0
    assert by_name["mean"]["train_images_per_s"] is None
    assert figures["environment"]["device"] == "cpu"
    assert "cpu: 16 checks: " in capsys.readouterr().out


def test_sizes(program, tmp_path):
    found, page = tmp_path / "found.json", tmp_path / "sizes.md"
    program("sizes.py", "conv_spatial", "unet", "pca", "--sides", "28,32", "--count", 16, "--json", found,
            "--markdown", page)  # fmt: skip
    figures = {(row["architecture"], row["channels"], row["side"]): row for row in json.loads(found.read_text())}
    assert len(figures) == 12
    assert figures["conv_spatial", 3, 32]["latent_shape"] == [4, 4, 4]
    assert figures["conv_spatial", 3, 32]["num_params"] == 12_327
    assert figures["unet", 1, 28]["refused"].startswith("invalid: ")
    text = page.read_text()
    assert re.search(r"\| `conv_spatial` +\| 64 +\| 64 +\| 64 +\| 64 +\|", text)
    assert re.search(r"\| `unet` +\| no +\| no +\| no +\| no +\|", text)
    assert "- `unet`, 1x28x28: invalid: " in text


def test_many(program, tmp_path, capsys):
    """The same call finds nothing to do in the run that is made, or its process would fail; one says it for both."""
    found = tmp_path / "found.json"
    small = ["--variants", 4, "--seeds", 2, "--rounds", 1, "--run", tmp_path / "run"]

    def settings_of(module):
        real = module.settings_of

        def shorter(*given):
            settings = real(*given)
            return {**settings, "recipe": {**settings["recipe"], "steps": 2}}

        return shorter

    def measure(module):
        real, measured = module.measure, []

        def once(command):
            measured.append(measured[0] if measured else real(command))
            return measured[-1]

        return once

    program(
        "many.py", *small, "--commands", "bench", "--json", found, settings_of=settings_of, measure=measure
    )  # fmt: skip
    figures = json.loads(found.read_text())["commands"]
    assert len(figures["bench"]["again"]) == 1
    assert figures["bench"]["first"]["seconds"] > 0
    table = aezoo.Run(path=tmp_path / "run").table()
    assert (len(table), set(table["seeds"])) == (9, {2})
    assert "4 variants, 2 seeds; the index takes" in capsys.readouterr().out


def test_graphs(program, tmp_path):
    found = tmp_path / "found.json"
    program("graphs.py", "linear", "--dataset", "digits", "--json", found)
    (figures,) = json.loads(found.read_text())
    assert all(0 <= figures[fmt] < 1e-4 for fmt in ("onnx", "pt2"))


def test_pca(program, tmp_path):
    """Each fit has a process of its own; here it has a thread."""
    found = tmp_path / "found.json"
    small = ["--images", "60x3x8x8", "--latent-dims", 2, "--rounds", 1, "--json", found]
    program("pca.py", *small, ProcessPoolExecutor=lambda _: lambda count, _: ThreadPoolExecutor(count))
    (figures,) = json.loads(found.read_text())
    assert figures["sine"] < 1e-9
    assert [len(figures[f"{way}_seconds"]) for way in ("ours", "whole")] == [1, 1]


def test_processes(program, tmp_path, capsys):
    found = tmp_path / "found.json"
    program("processes.py", "linear[]", "--dataset", "digits", "--steps", 120, "--rounds", 1, "--json", found)
    figures = json.loads(found.read_text())
    losses = [each["test_mse"] for (each,) in figures["trials"]["linear[]"].values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert len(figures["checkpoints"]["linear[]"]["core_seconds"]) == 3
    assert "linear[]: a checkpoint is 0.0" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("chromedriver"), reason="no Chromium and chromedriver here")
def test_pages(program, capsys):
    program("pages.py", "--variants", 4, "--rounds", 1)
    told = r"4 variants, made in [0-9.]+ s \(the first in [0-9.]+ s\): [0-9.]+ MB; first paint \d+ ms"
    assert re.search(told, capsys.readouterr().out)


@pytest.mark.skipif(not shutil.which("chromedriver"), reason="no Chromium and chromedriver here")
def test_pictures(program, tmp_path):
    run = make_run(tmp_path / "run", several(8))
    program("pictures.py", run.path, tmp_path / "out", "--dataset", "digits", "--steps", 60,
            "--variants", "mlp[latent_dim=2]")  # fmt: skip
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"page.png", "wall.png", "live.png", "numbers.svg", "params.svg"}


def test_reproduce(program, tmp_path):
    """A protocol of one's own, on the digits that need no data."""
    protocol = {
        "title": "t", "source": "s", "protocol": "p", "band": 0.5, "band_reason": "r", "value": "test_mse", "told": "",
        "recipe": {"dataset": "digits", "steps": 2},
        "rows": [{"label": "l", "variant": "sweep[latent_dim=2]", "published": 0.1}],
    }  # fmt: skip
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(protocol))
    before = (BENCHMARKS / "reproduce" / "README.md").read_bytes()
    program("reproduce/run.py", path, "--results", tmp_path)
    assert "ours = 0." in path.read_text()
    assert "[measured]" in path.read_text()
    assert (BENCHMARKS / "reproduce" / "README.md").read_bytes() == before


def test_reproduce_by_a_program_of_its_own(program, tmp_path):
    """Of a codebook of two vectors half is used, or all."""
    protocol = {
        "title": "t", "source": "s", "protocol": "p", "band": 0.5, "band_reason": "r", "told": "",
        "program": "codebook_usage", "recipe": {"dataset": "digits", "steps": 2},
        "rows": [{"label": "l", "variant": "vq_vae[codebook_size=2]", "published": 100.0}],
    }  # fmt: skip
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(protocol))
    program("reproduce/run.py", path, "--results", tmp_path)
    [row] = tomllib.loads(path.read_text())["rows"]
    assert row["ours"] in (50.0, 100.0)
    assert (row["published"], row["seeds"]) == (100.0, 1)


@pytest.fixture
def beside(monkeypatch):
    """Return a function that imports a module of benchmarks/reproduce, where a package is there that it needs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "reproduce"))

    def find(name, needs="torch"):
        pytest.importorskip(needs)
        return importlib.import_module(name)

    return find


def test_kodak_counts_the_files_that_pillow_writes(beside, tmp_path):
    (tmp_path / "kodak").mkdir()
    path = tmp_path / "kodak" / "a.png"
    pixels = np.random.RandomState(0).randint(0, 60, (24, 40, 3), np.uint8) + np.arange(0, 160, 4, np.uint8)[:, None]
    Image.fromarray(pixels).save(path)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=40)
    error = np.square(np.asarray(Image.open(file)).astype(float) - pixels).mean()
    row = {"variant": "jpeg[quality=40]", "photographs": {"a.png": hashlib.sha256(path.read_bytes()).hexdigest()}}
    compare = beside("kodak").compare
    assert compare({**row, "value": "bits"}, RECIPE, tmp_path) == ([8 * len(file.getvalue()) / (24 * 40)], [])
    assert compare({**row, "value": "psnr"}, RECIPE, tmp_path)[0] == [pytest.approx(10 * np.log10(255**2 / error))]
    with pytest.raises(SystemExit, match=r"a.png is not there, or not the photograph"):
        compare({**row, "photographs": {"a.png": "0"}}, RECIPE, tmp_path)


def test_total_correlation_of_four_points_on_a_line_is_the_log_of_four(beside):
    total_correlation = beside("beside_pythae", "pythae").total_correlation
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)

    def on(*directions):
        """Two numbers, each far apart for the images or the same for all, of small deviation."""
        scale = torch.tensor(directions) * 255 * 100.0
        return lambda x: torch.cat([x.flatten(1) * scale, torch.zeros(4, 2)], 1)

    assert total_correlation(on(1.0, 1.0), images) == pytest.approx(math.log(4), abs=1e-6)
    assert total_correlation(on(1.0, 0.0), images) == pytest.approx(0, abs=0.2)


def test_nimfa_and_titok_are_run_beside_ours(beside):
    part = {"variant": "nmf[latent_dim=2]", "theirs": "Lsnmf", "rounds": 20}
    compare = beside("beside_nimfa", "nimfa").compare
    for name in ("train", "test"):
        [ours], [theirs] = compare({**part, "part": name}, RECIPE, None)
        assert theirs == pytest.approx(ours, rel=0.02)
    recipe = RECIPE.change(dataset="mnist-5k", steps=1, batch_size=8)
    row = {"label": "l", "variant": "titok", "tokens": 16, "settings": {}}
    [ours], [theirs] = beside("beside_titok", "titok_pytorch").compare(row, recipe, None)
    assert 0 < ours < 1
    assert theirs > 0
