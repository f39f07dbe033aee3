"""Who runs a trial, who writes its record, and where: claims, results that travel as bytes, seeds in one task."""

import io
import os
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY
from rich.console import Console

import aezoo
from aezoo.cli.screen import LiveObserver, observer_on
from aezoo.contract.executor import Outcome, Task
from aezoo.contract.recipe import Recipe
from aezoo.harness import call, opening, plan
from aezoo.harness.observer import Observer
from aezoo.harness.preflight import Try
from aezoo.harness.request import Request
from aezoo.harness.runner import Runner
from aezoo.harness.tasks import trial_task
from aezoo.harness.trial import TrialResult
from aezoo.run import index
from aezoo.run.store import TEST_ERRORS, RunDirectory

RECIPE = Recipe(name="t", dataset="tiny", steps=5, batch_size=16, seeds=2)
VARIANTS = ["linear[latent_dim=2]", "mlp[latent_dim=2]"]

ELSEWHERE = """
    import os, pickle, subprocess, sys, tempfile
    import aezoo

    CODE = "; ".join([
        "import pickle, sys",
        "[(pickle.dump(pickle.load(sys.stdin.buffer).run(lambda report: None), sys.stdout.buffer), sys.stdout.flush())"
        " for _ in iter(int, 1)]",
    ])
    # Another machine: it has bytes, a folder and a temporary folder of its own, and nothing else.
    folder = tempfile.mkdtemp()
    machine = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder,
                               env={**os.environ, "TMPDIR": folder, "HOME": folder})

    def run(tasks, jobs, on_start, on_report, may_start):
        for task in tasks:
            if task := may_start(task):
                on_start(task)
                pickle.dump(task, machine.stdin)
                machine.stdin.flush()
                yield pickle.load(machine.stdout)

    @aezoo.hookimpl
    def aezoo_executors():
        yield aezoo.Executor(name="elsewhere", run=run, summary="s", shares_files=False)

    @aezoo.hookimpl
    def aezoo_metrics():
        yield aezoo.Metric(name="batches", compute=lambda e: len(list(e.batches("test"))), summary="s", reference="r",
                           higher_is_better=True)
"""


def bench(out, variants=VARIANTS, recipe=RECIPE, **options):
    return aezoo.bench(variants, recipe=recipe, out=out, observer=Observer(), device="cpu", timing=False, **options)


def test_trials_that_see_nothing_of_the_bench_but_bytes_come_to_the_same_table(tiny, distribute, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), *(path for path in sys.path if path)]))
    distribute(ELSEWHERE, name="elsewhere-dist")
    recipe = RECIPE.change(metrics=["batches"])
    here = bench(tmp_path / "here", recipe=recipe)
    # Whoever looks for the images that the bench shares, or for its run, fails.
    seen = []
    real = opening.prepared

    def prepared(*arguments, **options):
        manager = real(*arguments, **options)
        seen.append(manager)
        return manager

    monkeypatch.setattr(opening, "prepared", prepared)
    there = bench(tmp_path / "there", recipe=recipe, executor="elsewhere")
    assert len(seen) == 1
    table = here.table()
    columns = ["rank", "variant", "test_mse", "num_params", "latent_size", "seeds", "status", "batches"]
    assert there.table()[columns].equals(table[columns])
    assert set(table["status"]) == {"ok"}
    errors = [{record.trial_id: record.test_errors_sha256 for record in run.records()} for run in (here, there)]
    assert errors[0] == errors[1]
    weights = [{record.trial_id: record.weights_sha256 for record in run.records()} for run in (here, there)]
    assert weights[0] == weights[1]
    assert None not in weights[0].values()
    sys.modules["elsewhere_dist"].machine.kill()


def test_a_data_set_of_a_file_goes_with_its_code_to_a_machine_that_has_it_not(distribute, tmp_path):
    distribute(
        "import aezoo\n\n@aezoo.hookimpl\ndef aezoo_executors():\n"
        "    yield aezoo.Executor(name='bare', run=lambda *_: iter(()), summary='s', shares_files=False)\n"
    )
    mine = tmp_path / "mine.py"
    mine.write_text(textwrap.dedent(TINY))
    request = Request.of(
        {"variants": ["mlp"], "recipe": RECIPE, "plugins": [mine], "executor": "bare", "out": tmp_path / "run"}
    )
    with opening.open_call(request, Observer()) as (grid, _):
        there = pickle.loads(pickle.dumps(grid.images))
        mine.unlink()
        assert [part.shape for part in there.load()] == [(128, 1, 6, 6), (32, 1, 6, 6)]


class Reads(Counter[str]):
    """How often each file of a run is read, by its name in the run."""

    def __init__(self, run: Path, monkeypatch) -> None:
        super().__init__()
        real = Path.read_bytes

        def read_bytes(path):
            if path.is_relative_to(run):
                self[str(path.relative_to(run))] += 1
            return real(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)

    def of(self, end: str) -> set[int]:
        return {count for name, count in self.items() if name.endswith(end) and not name.startswith(("run", "claims"))}


def test_a_bench_reads_each_record_once_and_a_second_one_reads_none(tiny, tmp_path, monkeypatch):
    """Once when all trials have ended, for the table; from then on the index knows what has settled."""
    monkeypatch.setattr(index, "SETTLED_NS", -(10**9))
    reads = Reads(tmp_path / "run", monkeypatch)
    run = bench(tmp_path / "run")
    assert (len(run.snapshot.records()), reads.of(".json"), reads.of("errors.safetensors")) == (8, {1}, {1})
    reads.clear()
    bench(tmp_path / "run")
    assert (reads.of(".json"), reads.of("errors.safetensors")) == (set(), set())


def test_a_live_table_reads_what_ends_and_nothing_again(tiny, tmp_path, monkeypatch):
    reads = Reads(tmp_path / "run", monkeypatch)
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with observer_on(console) as observer:
        aezoo.bench(VARIANTS, recipe=RECIPE, out=tmp_path / "run", observer=observer, device="cpu", timing=False)
        assert isinstance(observer, LiveObserver)
        assert sum(any(variant in line.plain for line in observer.lines) for variant in VARIANTS) == len(VARIANTS)
    assert (reads.of(".json"), reads.of("errors.safetensors")) == ({1}, {2})


def grid_of(out, variants=VARIANTS, **settings):
    request = call.Request.of({"variants": variants, "recipe": RECIPE, "out": out, "device": "cpu", **settings})
    return opening.tried_grid(request, Observer())


def test_what_travels_to_another_process_is_no_more_than_names_numbers_and_plans(tiny, tmp_path):
    with grid_of(tmp_path / "run") as grid:
        task = trial_task(grid, grid.missing()[:1])
        grid.images = None
        assert len(pickle.dumps(task)) < 20_000


def test_seeds_of_one_variant_may_be_trained_in_one_task_and_come_to_the_same(tiny, tmp_path, monkeypatch):
    recipe = RECIPE.change(steps=30)
    apart = bench(tmp_path / "apart", recipe=recipe)
    with grid_of(tmp_path / "together", seeds_together=2, recipe=recipe) as grid:
        runner = Runner(grid=grid, trackers=call.Trackers([], grid.observer))
        sizes = []

        def counted(grid, plans, *arguments):
            sizes.append(len(plans))
            return trial_task(grid, plans, *arguments)

        monkeypatch.setattr("aezoo.harness.runner.trial_task", counted)
        # As on a device on which a graph takes the steps of each.
        grid.preflights = {
            name: each if each.closed_form else each.model_copy(update={"graph_steps": 10, "room": 8})
            for name, each in grid.preflights.items()
        }
        runner.run_trials()
    assert sorted(sizes) == [1, 1, 1, 1, 2, 2]
    records = RunDirectory(tmp_path / "together").records()
    assert {name: each.test_errors_sha256 for name, each in records.items()} == {
        each.trial_id: each.test_errors_sha256 for each in apart.records()
    }
    # The peak of a process says nothing of one of two trials.
    trained = [each for each in records.values() if each.curve]
    assert {(each.side_by_side, each.graph_steps, each.peak_memory_bytes) for each in trained} == {(2, 10, None)}


def out_of_memory(monkeypatch):
    """Let this machine be one on which no variant can be tried."""

    def work(self, report):
        raise MemoryError("not here")

    monkeypatch.setattr(Try, "run", work)


def test_a_preflight_that_fails_here_writes_nothing_over_what_another_machine_has_or_runs(tiny, tmp_path, monkeypatch):
    one = RECIPE.change(seeds=1)
    good = bench(tmp_path / "good", recipe=one)
    records = {record.trial_id: record for record in good.records()}
    run = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        out_of_memory(patch)
        with grid_of(tmp_path / "run", recipe=one, executor="inline") as grid:
            assert {each.status for each in grid.preflights.values()} == {"out_of_memory"}
            plans = grid.missing()
            theirs, running, mine = plans[0], plans[1], plans[2:]
            # In the meantime another machine ended one of these trials, and runs another one.
            errors = (good.path / "artifacts" / theirs.trial_id / TEST_ERRORS).read_bytes()
            run.write_trial(records[theirs.trial_id], {TEST_ERRORS: errors})
            claim = run.claim(running.trial_id)
            runner = Runner(grid=grid, trackers=call.Trackers([], grid.observer))
            assert runner._run(plans) == [running]
            assert not run.trial_path(running.trial_id).exists()
            claim.release()
            assert runner._run([running]) == []
    status = {trial_id: record.status for trial_id, record in run.records().items()}
    assert status[theirs.trial_id] == "ok"
    assert {status[each.trial_id] for each in (running, *mine)} == {"out_of_memory"}


@pytest.mark.parametrize("status", ["timeout", "out_of_memory", "interrupted", "error"])
def test_no_record_is_written_over_a_better_one(status, tiny, tmp_path):
    run = bench(tmp_path / "run", variants=["mean"], recipe=RECIPE.change(seeds=1))
    (record,) = run.records()
    facts = {"status": status, "reason": "late", "test_mse": None, "test_errors_sha256": None}
    worse = type(record).model_validate({**record.model_dump(), **facts})
    assert RunDirectory(run.path).write_trial(worse) == record
    assert run.records() == [record]
    # The other way round, the better one stands.
    path = RunDirectory(run.path).trial_path(record.trial_id)
    path.unlink()
    RunDirectory(run.path).write_trial(worse)
    RunDirectory(run.path).write_trial(record)
    assert run.records() == [record]


def test_an_executor_that_returns_something_else_leaves_a_row_that_says_so(tiny, distribute, tmp_path):
    distribute(
        """
        import aezoo
        from dataclasses import replace

        def run(tasks, jobs, on_start, on_report, may_start):
            for task in tasks:
                if task := may_start(task):
                    on_start(task)
                    outcome = task.run(lambda progress: None)
                    odd = isinstance(outcome.value, tuple)
                    yield replace(outcome, value="odd") if odd else outcome

        @aezoo.hookimpl
        def aezoo_executors():
            yield aezoo.Executor(name="odd", run=run, summary="s")
        """,
        name="odd-dist",
    )
    run = bench(tmp_path / "run", variants=["mean"], recipe=RECIPE.change(seeds=1), executor="odd")
    (record,) = run.records()
    assert (record.status, record.reason) == ("error", "the executor odd returned no trial's result")


def test_a_work_on_another_machine_must_have_the_same_aezoo_and_torch(tiny, tmp_path):
    with grid_of(tmp_path / "run") as grid:
        task = trial_task(grid, grid.missing()[:1])
    other = replace(task.work, versions=("0.0", "0.0"))
    outcome = Task(id="a", work=other).run(lambda _: None)
    assert isinstance(outcome, Outcome)
    assert outcome.status == "error"
    assert outcome.reason.endswith("aezoo 0.0 and torch 0.0; install the same everywhere")


def test_the_server_imports_what_its_works_need(tiny):
    """A wrong name in the list of what the server imports is swallowed: each must be one that can be imported."""
    code = (
        "from aezoo.harness import local; from aezoo.harness.trial import TrainAndScore; "
        "from aezoo.harness.timing import TimeVariant; import importlib; "
        "local.forkserver.ensure_running = lambda: None; local.start_server([TrainAndScore, TimeVariant]); "
        "names = local.forkserver._forkserver._preload_modules; print(names); "
        "[importlib.import_module(name) for name in names]"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'aezoo.harness.trial', 'aezoo.harness.timing'" in ran.stdout


def test_results_travel_as_they_are(tiny, tmp_path):
    run = bench(tmp_path / "run", variants=["mean"], recipe=RECIPE.change(seeds=1))
    (record,) = run.records()
    result = TrialResult(record=record, files={"a": b"b"})
    assert pickle.loads(pickle.dumps(result)) == result
    assert plan.is_current(None, None, record) is False
    assert Path(run.path, "artifacts", record.trial_id, "weights.safetensors").is_file()
