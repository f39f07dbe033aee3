"""Whole benches on a tiny data set, in real processes: what is asked for has a row, whatever becomes of it."""

import json
import os
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import FAULTY, TINY

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ComparisonRefusedError
from aezoo.harness.call import preview
from aezoo.harness.observer import Observer
from aezoo.run.records import SCHEMA
from aezoo.run.store import RunDirectory
from aezoo.table.compare import compare, notes
from aezoo.table.notes import notes as notes_of

RECIPE = Recipe(name="t", dataset="tiny", steps=60, batch_size=16, lr=1e-2, seeds=2, timing_rounds=2)
LOSSES = [
    "variant",
    "num_params",
    "latent_size",
    "test_mse",
    "test_mse_low",
    "test_mse_high",
    "vs_pca",
    "seeds",
    "status",
]


class Log(Observer):
    """Remembers what a bench ran and said."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.order: list[tuple[int, str]] = []

    def warn(self, text):
        self.warnings.append(text)

    def started(self, plan):
        self.order.append((plan.seed, plan.variant))


def bench(variants, out, recipe=RECIPE, **options):
    log = Log()
    run = aezoo.bench(variants, recipe=recipe, out=out, observer=log, device="cpu", **{"timing": False, **options})
    return run, log


def row(run, variant):
    (found,) = run.table().query("variant == @variant").to_dict("records")
    return found


def test_a_bench_trains_scores_times_and_tabulates_beside_the_baselines(tiny, tmp_path):
    run, log = bench(["linear[latent_dim=2]", "mlp[latent_dim=2]"], tmp_path / "run", timing=True)
    table = run.table()
    assert list(table.columns[:14]) == [
        "rank", "variant", "objective", "latent_size", "num_params", "test_mse", "test_mse_low", "test_mse_high",
        "vs_pca", "train_images_per_s", "infer_images_per_s", "peak_memory_mb", "seeds", "status",
    ]  # fmt: skip
    assert set(table["variant"]) == {"mean", "pca[latent_dim=2]", "linear[latent_dim=2]", "mlp[latent_dim=2]"}
    assert table["status"].eq("ok").all()
    assert table["seeds"].eq(2).all()
    assert table["test_mse"].is_monotonic_increasing
    assert table["rank"].tolist() == [1, 2, 3, 4]
    pca, linear, mean = (row(run, name) for name in ("pca[latent_dim=2]", "linear[latent_dim=2]", "mean"))
    assert pca["vs_pca"] == 1
    assert linear["vs_pca"] == pytest.approx(linear["test_mse"] / pca["test_mse"])
    assert 1 < linear["vs_pca"] < mean["test_mse"] / pca["test_mse"]
    assert linear["num_params"] == 36 * 2 + 2 + 2 * 36 + 36
    assert linear["train_images_per_s"] > 0
    assert pd.isna(pca["train_images_per_s"])
    assert (table["infer_images_per_s"] > 0).all()
    assert [seed for seed, _ in log.order] == [0] * 4 + [1] * 4
    assert {name for _, name in log.order[:2]} == {"mean", "pca[latent_dim=2]"}
    for name in ("run.json", "table.csv", "table.md"):
        assert (tmp_path / "run" / name).is_file()
    saved = pd.read_csv(tmp_path / "run" / "table.csv")
    assert np.allclose(saved["test_mse"], table["test_mse"].astype(float), rtol=0, atol=0)
    mlp = row(run, "mlp[latent_dim=2]")
    assert mlp["train_vs_reference"] > 0
    assert mlp["infer_vs_reference"] > 0
    assert 0 < mlp["matmul_share"] < 1
    assert pd.isna(pca["train_vs_reference"])
    assert pca["infer_vs_reference"] > 0
    assert linear["train_flops_per_image"] == 5 * 2 * 36 * 2
    assert (table["infer_memory_mb"] > 0).all()
    circumstances = table[["batch_size", "threads", "precision", "compiled", "device"]].drop_duplicates()
    assert circumstances.to_numpy().tolist() == [[16, 1, "float32", "no", "cpu"]]
    written = (tmp_path / "run" / "table.md").read_text()
    assert "images_per_s: batches of 16, 1 thread, float32, not compiled, cpu: " in written
    assert "vs_reference: the speed over that of mlp, timed in the same rounds" in written


def test_every_speed_is_held_against_the_reference_of_its_own_rounds(tiny, tmp_path):
    run, _ = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(seeds=1), timing=True)
    timings = [json.loads(path.read_text()) for path in (run.path / "timings").iterdir()]
    assert {one["variant"] for one in timings} == {"linear[latent_dim=2]", "mean", "pca[latent_dim=2]"}
    for one in timings:
        assert one["reference"] == "mlp"
        for name in ("infer_images_per_s", "reference_train_images_per_s", "reference_infer_images_per_s"):
            assert len(one[name]) == 2
        assert len(one["matmul_flops_per_s"]) == 2
    linear = next(one for one in timings if one["variant"].startswith("linear"))
    ratios = np.divide(linear["train_images_per_s"], linear["reference_train_images_per_s"])
    assert row(run, "linear[latent_dim=2]")["train_vs_reference"] == pytest.approx(np.median(ratios))


def test_without_the_reference_the_table_has_no_relative_speeds_and_says_so(tiny, tmp_path):
    recipe = RECIPE.change(seeds=1, timing_rounds=1)
    run, log = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=recipe, timing=True, block=["mlp"])
    assert "no plugin contributes the reference for speeds: the table has no relative ones" in log.warnings
    found = row(run, "linear[latent_dim=2]")
    assert found["train_images_per_s"] > 0
    assert pd.isna(found["train_vs_reference"])
    assert "vs_reference:" not in (run.path / "table.md").read_text()


def test_bfloat16_is_another_recipe_and_reaches_training_and_score(tiny, tmp_path):
    found = {}
    for precision in ("float32", "bfloat16"):
        recipe = RECIPE.change(precision=precision, seeds=1)
        found[precision], _ = bench(["linear[latent_dim=2]"], tmp_path / precision, recipe=recipe)
    exact, rounded = (row(run, "linear[latent_dim=2]") for run in found.values())
    assert rounded["precision"] == "bfloat16"
    assert rounded["test_mse"] != exact["test_mse"]
    assert rounded["test_mse"] == pytest.approx(exact["test_mse"], rel=0.05)
    # PCA is fitted alike; only the products of its score are rounded.
    pca = [row(run, "pca[latent_dim=2]")["test_mse"] for run in found.values()]
    assert pca[0] != pca[1] == pytest.approx(pca[0], rel=0.05)
    with pytest.raises(ComparisonRefusedError, match="precision"):
        compare(*(RunDirectory(run.path) for run in found.values()))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_trial_is_another_trial_with_the_same_loss_and_says_so(tiny, tmp_path):
    recipe = RECIPE.change(seeds=1, timing_rounds=1)
    bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=recipe)
    run, _ = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=recipe, compiled=True, timing=True)
    eager, compiled = sorted(
        (one for one in run.records() if one.architecture == "linear"), key=lambda record: record.compiled
    )
    assert (eager.compiled, compiled.compiled) == (False, True)
    assert eager.trial_id != compiled.trial_id
    assert eager.compile_seconds is None
    assert compiled.compile_seconds > 0
    assert compiled.test_mse == pytest.approx(eager.test_mse, rel=1e-3)
    found = row(run, "linear[latent_dim=2]")
    # Speeds are held relative to the reference, which is never compiled, where one side was and the other was not.
    again, _ = bench(["linear[latent_dim=2]"], tmp_path / "eager", recipe=recipe, timing=True)
    runs = RunDirectory(run.path), RunDirectory(again.path)
    held = compare(*runs).set_index("variant").loc["linear[latent_dim=2]"]
    relative = row(again, "linear[latent_dim=2]")["train_vs_reference"] / found["train_vs_reference"]
    assert held["train_speed_ratio"] == pytest.approx(relative)
    assert any(line.startswith("the runs differ in compiled") for line in notes(*runs))
    assert (found["compiled"], found["compile_seconds"]) == ("yes", compiled.compile_seconds)
    assert "1 thread, float32, compiled, cpu: " in (run.path / "table.md").read_text()


def test_a_record_holds_the_evidence(tiny, tmp_path):
    run, _ = bench(["linear[latent_dim=2]"], tmp_path / "run")
    record = next(one for one in run.records() if one.architecture == "linear" and one.seed == 1)
    written = json.loads(RunDirectory(run.path).trial_path(record.trial_id).read_text())
    assert written["schema"] == SCHEMA
    assert written["recipe"]["steps"] == 60
    assert (written["dataset"]["num_train"], written["dataset"]["num_test"]) == (128, 32)
    assert [step for step, _ in written["curve"]] == [50, 60]
    assert written["latent_shape"] == [2]
    assert written["flops_per_image"] == 2 * 36 * 2 * 2
    assert written["plugin"]["distribution"] == "aezoo"
    assert written["environment"]["threads"] == 1
    assert 0 < written["train_mse"] < 0.1
    from safetensors.numpy import load_file

    errors = load_file(run.path / "artifacts" / record.trial_id / "test_errors.safetensors")["test_errors"]
    assert errors.shape == (32,)
    assert errors.mean() == pytest.approx(record.test_mse, rel=1e-12)


def test_losses_are_bit_equal_whatever_jobs_is(tiny, tmp_path):
    tables_ = []
    for jobs in (1, 3):
        run, _ = bench(["linear[latent_dim=2]", "denoising[latent_dim=2]", "mlp[]"], tmp_path / str(jobs), jobs=jobs)
        tables_.append(run.table()[LOSSES])
        tables_[-1].attrs = {record.trial_id: record.test_mse for record in run.records()}
    pd.testing.assert_frame_equal(*tables_, check_exact=True)
    assert tables_[0].attrs == tables_[1].attrs
    assert len(set(tables_[0].attrs.values())) >= 8


def test_another_number_of_threads_is_another_trial_and_is_recorded(tiny, tmp_path):
    recipe = RECIPE.change(seeds=1, timing_rounds=1)
    bench(["linear[latent_dim=2]"], tmp_path / "run", timing=True, recipe=recipe)
    two, log = bench(["linear[latent_dim=2]"], tmp_path / "run", timing=True, recipe=recipe, threads=2, jobs=1)
    assert len(log.order) == 3
    assert {(record.threads, record.environment.threads) for record in two.records()} == {(1, 1), (2, 2)}
    assert row(two, "linear[latent_dim=2]")["seeds"] == 1
    timings = [json.loads(path.read_text()) for path in (two.path / "timings").iterdir()]
    assert sorted(one["environment"]["threads"] for one in timings) == [1, 1, 1, 2, 2, 2]


def test_a_preview_tells_what_would_run_and_writes_nothing(tiny, tmp_path):
    recipe = RECIPE.change(timing_rounds=1)
    asked = {"recipe": recipe, "out": tmp_path / "run", "device": "cpu"}
    found = preview(["linear[latent_dim=2]", "mlp[latent_dim=2]"], **asked)
    assert not (tmp_path / "run").exists()
    table = found.table().set_index("variant")
    assert set(table.index) == {"linear[latent_dim=2]", "mlp[latent_dim=2]", "mean", "pca[latent_dim=2]"}
    assert table.loc["linear[latent_dim=2]", ["trials", "num_params", "latent_size", "status"]].tolist() == [
        2, 36 * 2 + 2 + 2 * 36 + 36, 2, "to run",
    ]  # fmt: skip
    assert found.trials == 8
    assert found.seconds > table["seconds"].max() > 0
    assert table.loc["mlp[latent_dim=2]", "peak_memory_mb"] > 0
    bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=recipe, timing=True)
    rest = preview(["linear[latent_dim=2]", "mlp[latent_dim=2]"], **asked).table().set_index("variant")
    assert rest["trials"].to_dict() == {
        "linear[latent_dim=2]": 0,
        "mlp[latent_dim=2]": 2,
        "mean": 0,
        "pca[latent_dim=2]": 0,
    }
    assert rest.loc["mean", ["seconds", "status"]].tolist() == [0.0, "in the run already"]


def test_another_plugin_is_not_even_imported_where_a_trial_runs(tiny, distribute, tmp_path):
    seen = tmp_path / "imports"
    distribute(
        f"""
        import os, aezoo
        open({str(seen)!r}, "a").write(f"{{os.getpid()}} ")

        @aezoo.hookimpl
        def aezoo_datasets():
            return []
        """,
        name="nosy",
    )
    bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(seeds=1, timing_rounds=1), timing=True)
    assert seen.read_text().split() == [str(os.getpid())]


def test_a_second_call_trains_nothing_again_and_adds_what_is_new(tiny, tmp_path):
    first, log = bench(["linear[latent_dim=2]"], tmp_path / "run")
    assert len(log.order) == 6
    before = {path: path.stat().st_mtime_ns for path in (first.path / "trials").iterdir()}
    _, log = bench(["linear[latent_dim=2]"], tmp_path / "run")
    assert log.order == []
    run, log = bench(["mlp[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(seeds=1))
    assert log.order == [(0, "mlp[latent_dim=2]")]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert row(run.whole, "linear[latent_dim=2]")["seeds"] == 2
    assert row(run, "mlp[latent_dim=2]")["seeds"] == 1


def test_a_changed_plugin_is_another_trial(tiny, distribute, tmp_path):
    path = distribute(FAULTY, name="faulty-dist")
    bench(["faulty"], tmp_path / "run")
    path.write_text(path.read_text().replace("nn.Linear(2, 36)", "nn.Linear(2, 36, bias=False)"))
    sys.modules.pop("faulty_dist")
    aezoo.registry.discovery.discover.cache_clear()
    run, log = bench(["faulty"], tmp_path / "run")
    assert log.order == [(0, "faulty"), (1, "faulty")]
    assert row(run, "faulty")["num_params"] == 36 * 2 + 2 + 2 * 36


def test_every_kind_of_failure_has_a_row_and_the_rest_go_on(tiny, distribute, tmp_path):
    distribute(FAULTY, name="faulty-dist")
    faults = {
        "raises": ("error", "KeyError: 'gone\\nwrong'"),
        "exits": ("error", "SystemExit: 3"),
        "memory": ("out_of_memory", "can't allocate memory"),
        "segfault": ("error", "its process was killed by SIGSEGV"),
        "killed": ("error", "its process was killed by SIGKILL"),
        "hangs": ("timeout", "still running after 6 s (--timeout); killed"),
        "build": ("error", "RuntimeError: cannot be built"),
        "huge": ("out_of_memory", "its 100,000,010,000,000 parameters, with gradients and Adam's moments, need"),
    }
    run, _ = bench(
        [f"faulty[fault={fault}]" for fault in faults] + ["faulty"],
        tmp_path / "run", recipe=RECIPE.change(seeds=1), timeout=6.0, retry_failed=True,
    )  # fmt: skip
    records = {record.hyperparameters.get("fault"): record for record in run.records()}
    for fault, (status, reason) in faults.items():
        assert (records[fault].status, records[fault].test_mse) == (status, None), records[fault]
        assert reason in records[fault].reason
        found = row(run, f"faulty[fault={fault}]")
        assert found["status"] == status
        assert found["rank"] == 4
    assert "in training_forward" in records["raises"].traceback
    assert row(run, "faulty")["status"] == "ok"
    assert run.failed
    notes = "\n".join(notes_of(RunDirectory(run.path), run.table()))
    assert "timeout: faulty[fault=hangs] seed 0: still running" in notes


def test_a_diverged_trial_has_a_row_and_is_run_again_only_when_asked(tiny, tmp_path):
    wild = RECIPE.change(lr=1e30, seeds=1)
    run, log = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=wild)
    assert row(run, "linear[latent_dim=2]")["status"] == "diverged"
    assert row(run, "linear[latent_dim=2]")["rank"] == 3
    (record,) = [one for one in run.records() if one.architecture == "linear"]
    assert "the training loss was not finite at step" in record.reason
    _, log = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=wild)
    assert log.order == []
    _, log = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=wild, retry_failed=True)
    assert log.order == [(0, "linear[latent_dim=2]")]


def test_what_a_plugin_prints_goes_to_a_file_of_its_trial(tiny, distribute, tmp_path, capfd):
    distribute(FAULTY, name="faulty-dist")
    run, _ = bench(["faulty[fault=prints]"], tmp_path / "run", recipe=RECIPE.change(seeds=1))
    assert "stdout of a plugin" not in "".join(capfd.readouterr())
    (written,) = run.path.glob("artifacts/*/output.txt")
    assert "stdout of a plugin" in written.read_text()


def test_a_damaged_record_is_set_aside_and_its_trial_run_again(tiny, tmp_path):
    run, _ = bench(["linear[latent_dim=2]"], tmp_path / "run")
    path = sorted((run.path / "trials").glob("linear*s0*"))[0]
    path.write_text(path.read_text().replace('"test_mse": 0.', '"test_mse": 0.9', 1))
    before = run.path / "table.csv"
    losses = before.read_text()
    _, log = bench(["linear[latent_dim=2]"], tmp_path / "run")
    assert log.order == [(0, "linear[latent_dim=2]")]
    assert any("its checksum does not fit" in text and path.stem in text for text in log.warnings)
    assert path.with_suffix(".damaged").is_file()
    again = before.read_text()
    assert [line.split(",")[:9] for line in again.splitlines()] == [line.split(",")[:9] for line in losses.splitlines()]


@pytest.mark.parametrize(
    ("variants", "options", "told"),
    [
        (["mpl"], {}, "no architecture 'mpl'"),
        (["mlp[latent_dim=x]"], {}, "'latent_dim' accepts int"),
        ([], {}, "nothing to bench"),
        (["mlp"], {"recipe": RECIPE.change(dataset="tinny")}, "no data set 'tinny'.*Did you mean 'tiny'"),
        (["mlp"], {"data_dir": "no/such/folder"}, "no folder no/such/folder for data sets"),
        (["mlp"], {"device": "cuda"}, "device 'cuda' is not on this machine"),
        (["mlp"], {"device": "gpu"}, "no device 'gpu'"),
        (["mlp"], {"recipe": RECIPE.change(precision="tf32")}, "tf32 is for NVIDIA devices, but the device is cpu"),
        (["mlp"], {"jobs": 0}, "jobs: input should be greater than or equal to 1, but got 0"),
        (["mlp"], {"latent_dims": [0]}, "latent_dims: input should be greater than or equal to 1, but got 0"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(tiny, tmp_path, variants, options, told, monkeypatch):
    import torch

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(AezooError, match=told) as caught:
        aezoo.bench(variants, **{"recipe": RECIPE, "out": tmp_path / "run", "device": "cpu", **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_recipe_is_refused_and_untouched(tiny, tmp_path):
    run, _ = bench(["linear[latent_dim=2]"], tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(AezooError, match=r"holds a run of another recipe \(lr 0.01 there, 0.5 asked\)"):
        bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(lr=0.5))
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_file_in_the_runs_place_is_refused_and_untouched(tiny, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(AezooError, match="run is a file; give a folder with --out"):
        bench(["mean"], tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_a_data_set_that_fails_is_one_line(distribute, tmp_path):
    distribute(TINY.replace("rng = np", "raise FileNotFoundError('x.npy'); rng = np"), name="bad-data")
    with pytest.raises(AezooError, match=r"data set tiny could not be loaded: FileNotFoundError: x.npy"):
        bench(["mean"], tmp_path / "run")


def test_what_two_calls_ask_for_at_once_is_all_in_the_run(tiny, tmp_path):
    run, _ = bench(["mean"], tmp_path / "run")
    directory = RunDirectory(run.path)
    stale = directory.info()
    directory.request(stale, {"a": ["a-s0"]})
    directory.request(stale, {"b": ["b-s0", "b-s1"]})
    directory.request(stale, {"b": ["b-s0"]})
    assert directory.info().requested == {**stale.requested, "a": ["a-s0"], "b": ["b-s0", "b-s1"]}


def test_a_broken_plugin_is_a_warning_and_with_strict_an_error(tiny, distribute, tmp_path):
    distribute("raise OSError('no luck')", name="broken-dist")
    _, log = bench(["mean"], tmp_path / "run")
    assert log.warnings == ["plugin broken_dist of broken-dist 1.2 was left out: OSError: no luck"]
    with pytest.raises(AezooError, match="no luck"):
        bench(["mean"], tmp_path / "strict", strict=True)


def test_a_pca_that_images_are_too_small_for_is_left_out_aloud(tiny, tmp_path):
    run, log = bench(["mlp[latent_dim=40]"], tmp_path / "run", recipe=RECIPE.change(seeds=1))
    assert log.warnings == ["no PCA at latent size 40: an image has only 36 pixels"]
    assert pd.isna(row(run, "mlp[latent_dim=40]")["vs_pca"])


def test_compare_joins_by_variant_and_refuses_other_recipes(tiny, tmp_path):
    a, _ = bench(["linear[latent_dim=2]", "mlp[]"], tmp_path / "a")
    b, _ = bench(["linear[latent_dim=2]", "linear[latent_dim=5]"], tmp_path / "b")
    c, _ = bench(["mean"], tmp_path / "c", recipe=RECIPE.change(steps=61))
    found = compare(RunDirectory(a.path), RunDirectory(b.path)).set_index("variant")
    assert found.loc["linear[latent_dim=2]", "change_percent"] == 0
    assert found["infer_speed_ratio"].isna().all()
    assert found["found"].to_dict() == {
        "linear[latent_dim=2]": "both", "pca[latent_dim=2]": "both", "mean": "both", "mlp": "a only", "pca": "a only",
        "linear[latent_dim=5]": "b only", "pca[latent_dim=5]": "b only",
    }  # fmt: skip
    with pytest.raises(ComparisonRefusedError, match=r"they differ in steps \(60, 61\)") as caught:
        compare(RunDirectory(a.path), RunDirectory(c.path))
    assert caught.value.exit_status == 3
