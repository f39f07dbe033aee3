"""Several runs become one: what must agree, which trials stand, what is copied, and what is left as it was."""

import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import AT, CHOICE, ENVIRONMENT, NUM_TEST, SOURCE

import aezoo
from aezoo.contract.recipe import Recipe, fingerprint
from aezoo.errors import ComparisonRefusedError, StorageError
from aezoo.harness.merge import merge
from aezoo.harness.state import status
from aezoo.registry.discovery import discover
from aezoo.run import files
from aezoo.run.files import digest, slug
from aezoo.run.records import (
    DatasetInfo,
    Measurement,
    RunInfo,
    Timing,
    TrialPlan,
    TrialRecord,
    identity,
)
from aezoo.run.repetition import repeated
from aezoo.run.samples import TestImages
from aezoo.run.store import TEST_ERRORS, WEIGHTS, RunDirectory, pack_test_errors
from aezoo.table import compare
from aezoo.table.notes import notes
from aezoo.table.rows import summarise

BASE = np.random.default_rng(0).uniform(0.5, 1.5, NUM_TEST)
OTHER_TORCH = ENVIRONMENT.model_copy(update={"torch": "2.15.0", "device_name": "Another CPU"})
DIVERGED = {"status": "diverged", "reason": "at step 3"}


def make(
    path, variants, *, environment=ENVIRONMENT, pixels="1" * 64, device="cpu", num_test=NUM_TEST, requested=(), lr=None,
    source=SOURCE, **changed,
) -> RunDirectory:  # fmt: skip
    """Write a run: of each variant the loss of each seed, or what its trial came to, or None where it has not run.

    A variant whose name begins with `pca` or `mean` is a closed form. Trials of one identity have one id, as they do.
    """
    recipe = Recipe(name="made", dataset="made", seeds=2, steps=200, batch_size=32).change(**changed)
    data = DatasetInfo(name="made", sha256=pixels, image_shape=(1, 2, 2), num_train=400, num_test=num_test)
    loss_settings = recipe.loss_settings(num_train=400, dataset_sha256=pixels)
    info = RunInfo(
        recipe=recipe, fingerprint=fingerprint(loss_settings), loss_settings=loss_settings, dataset=data, device=device,
        created_at=AT,
    )  # fmt: skip
    run = RunDirectory(path)
    asked = {name: [] for name in variants}
    made = []
    for name, losses in variants.items():
        for seed, loss in enumerate(losses):
            plan = TrialPlan(
                trial_id="unnamed", architecture=name, variant=name, hyperparameters={}, recipe=recipe,
                plugin=source, fingerprint=info.fingerprint, dataset=data, seed=seed, lr=lr, device=device,
                threads=1,
            )  # fmt: skip
            trial_id = f"{slug(name)}-s{seed}-{digest(*identity(plan, environment).values())}"
            asked[name].append(trial_id)
            if loss is not None:
                made.append((plan.model_copy(update={"trial_id": trial_id}), loss))
    run.request(info, {**asked, **dict(requested)})
    for plan, loss in made:
        facts, contents = dict(loss) if isinstance(loss, dict) else {}, {}
        if not facts:
            contents = {TEST_ERRORS: pack_test_errors(loss * BASE), WEIGHTS: plan.variant.encode()}
            closed = plan.variant.startswith(("pca", "mean"))
            facts = {
                "status": "ok", "test_mse": float((loss * BASE).mean()), "objective": "mse", "latent_size": 4,
                "latent_kind": "continuous", "num_params": 7, "deterministic": True, "train_seconds": 1.0,
                "curve": [] if closed else [(200, loss)], "baseline": "pca" if closed else None,
                "test_errors_sha256": hashlib.sha256(contents[TEST_ERRORS]).hexdigest(),
                "weights_sha256": hashlib.sha256(contents[WEIGHTS]).hexdigest(),
            }  # fmt: skip
        record = TrialRecord(**plan.model_dump() | facts, environment=environment, started_at=AT, finished_at=AT)
        run.write_trial(record, contents)
    return run


def content_of(folder):
    """Return what every file of a folder holds, by its path in it; but for an index, which reading may make."""
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.name != "index.sqlite"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def losses_of(run):
    table = summarise(run)
    return dict(zip(table["variant"], table["test_mse"], strict=True))


@pytest.fixture
def two(tmp_path):
    """Return two runs of strangers that both have `shared` and `pca`."""
    return (
        make(tmp_path / "a", {"shared": [0.02, 0.021], "pca": [0.03], "x": [0.01, 0.011]}),
        make(tmp_path / "b", {"shared": [0.02], "pca": [0.03], "y": [0.04, 0.041]}),
    )


# What becomes of them -------------------------------------------------------------------------------------------------


def test_two_runs_become_one_and_stay_as_they_are(two, tmp_path, page):
    before = [content_of(run.path) for run in two]
    lines = merge([run.path for run in two], tmp_path / "both")
    assert [content_of(run.path) for run in two] == before
    merged = RunDirectory(tmp_path / "both")
    assert losses_of(merged) == losses_of(two[0]) | {"y": losses_of(two[1])["y"]}
    whole = content_of(merged.path)
    for files_of_one in before[::-1]:
        records = {path: content for path, content in files_of_one.items() if path.parts[0] in ("trials", "artifacts")}
        assert records.items() <= whole.items()
    assert {Path("table.csv"), Path("table.md"), Path("report.html")} <= whole.keys()
    assert lines[0] == (
        f"merged with {two[1].path}, which had 2 trials of these too: 2 bit-equal; in the same circumstances"
    )
    assert f"of what several runs have, those of {two[0].path} stand: shared, pca" in lines
    # And nothing is left beside it.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "both"]


def test_how_common_trials_came_out_stands_in_the_table_and_on_the_page(two, tmp_path, page):
    other = make(tmp_path / "c", {"shared": [0.0201], "z": [0.05]}, environment=OTHER_TORCH)
    merge([two[0].path, other.path], tmp_path / "both")
    merged = RunDirectory(tmp_path / "both")
    (anchor,) = merged.anchors()
    assert (anchor.variant, anchor.seed, anchor.verdict, anchor.run) == (
        "shared",
        0,
        "within the band",
        str(other.path),
    )
    assert anchor.differences == ["torch 2.14.1 → 2.15.0", "device_name A Made CPU → Another CPU"]
    told = (
        f"merged with {other.path}, which had 1 trial of these too: 1 within the band; torch 2.14.1 → 2.15.0; "
        "device_name A Made CPU → Another CPU"
    )
    lines = notes(merged, summarise(merged))
    assert told in lines
    assert f"- {told}" in (merged.path / "table.md").read_text()
    assert f"shared seed 0, recorded with {anchor.recorded}, is in {other.path} too ({AT}) and gave" in anchor.line
    assert "Trials that were repeated" in (merged.path / "report.html").read_text()
    # Which rows are from which machine.
    assert [line for line in lines if "a trial" in line and " CPU" in line and "merged" not in line] == [
        "5 trials, of shared, pca, x: aezoo 0.2.0, torch 2.14.1, A Made CPU, 1 thread a trial",
        "1 trial, of z: aezoo 0.2.0, torch 2.15.0, Another CPU, 1 thread a trial",
    ]


def test_what_was_measured_of_trials_comes_along(two, tmp_path):
    a, b = two
    for run, value, environment in ((a, 1.0, ENVIRONMENT), (b, 2.0, OTHER_TORCH)):
        for record in run.records().values():
            run.write_measurement(
                Measurement(
                    trial_id=record.trial_id, metric="psnr", plugin=SOURCE, weights_sha256=record.weights_sha256,
                    value=value, measured_at=AT,
                )
            )  # fmt: skip
            run.write_timing(
                record,
                Timing(
                    variant=record.variant, environment=environment, batch_size=32, precision="float32",
                    train_images_per_s=[value], infer_images_per_s=[value], measured_at=AT,
                ),
            )  # fmt: skip
            run.write_anchor(repeated(record, record))
        places = range(40) if run is a else {*CHOICE.images, *range(35, 50)}
        pixels = {place: np.full((1, 2, 2), place, np.uint8) for place in places}
        run.write_images(TestImages(choice=CHOICE, pixels=pixels, labels={1: 1}))
    prior = (
        f'fingerprint = "{b.info().fingerprint}"\nrecipe = "made"\ndataset = "made"\nseeds = "0-9"\naezoo = "0.2.0"\n'
        'torch = "2.14.1"\ndevice_name = "c"\nmade = "now"\n[groups.network]\nfreedom = 4.0\nsd = 0.02\nvariants = 9\n'
    )
    (b.path / "prior.toml").write_text(prior)
    merge([a.path, b.path], tmp_path / "both")
    merged = RunDirectory(tmp_path / "both").load()
    records = merged.records()
    values = {records[each.trial_id].variant: each.value for each in merged.measurements()}
    assert values == {"shared": 1.0, "pca": 1.0, "x": 1.0, "y": 2.0}
    speeds = {(each.variant, each.environment.torch): each.train_images_per_s for each in merged.timings().values()}
    assert speeds == {
        ("shared", "2.14.1"): [1.0], ("pca", "2.14.1"): [1.0], ("x", "2.14.1"): [1.0], ("shared", "2.15.0"): [2.0],
        ("pca", "2.15.0"): [2.0], ("y", "2.15.0"): [2.0],
    }  # fmt: skip
    assert {each.trial_id for each in merged.anchors() if each.run is None} == records.keys()
    assert merged.read_images().pixels.keys() == set(range(50))
    # The spread of seeds is judged as it was in the run that had a calibration.
    assert any("moderated by a calibration of seeds 0-9" in line for line in notes(merged, summarise(merged)))


FAILED = {"status": "out_of_memory", "reason": "no room"}


@pytest.mark.parametrize(
    ("there", "here", "stands"),
    [
        ([0.04], [FAILED], 0.04), ([FAILED], [0.04], 0.04), ([None], [0.04], 0.04), ([FAILED], [None], "out_of_memory"),
        ([{"status": "interrupted", "reason": "stopped"}], [FAILED], "out_of_memory"),
    ],
)  # fmt: skip
def test_of_a_trial_that_two_have_the_one_that_ended_well_stands(there, here, stands, tmp_path):
    a = make(tmp_path / "a", {"shared": [0.02], "x": there})
    b = make(tmp_path / "b", {"shared": [0.02], "x": here})
    merge([a.path, b.path], tmp_path / "both")
    (row,) = (row for _, row in summarise(RunDirectory(tmp_path / "both")).iterrows() if row["variant"] == "x")
    assert stands in (row["status"], pytest.approx(row["test_mse"] / BASE.mean()))


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ([0.01], [0.01, 0.012, 0.014]), ([0.01, 0.012], [None, None, 0.014]), ([None] * 2, [0.01] * 3),
        ([0.01, 0.012, FAILED], [FAILED, FAILED, 0.014]),
    ],
)  # fmt: skip
def test_more_seeds_of_a_variant_come_from_whichever_run_has_them(here, there, tmp_path):
    a = make(tmp_path / "a", {"shared": [0.02, 0.021], "x": here})
    b = make(tmp_path / "b", {"shared": [0.02], "x": there})
    merge([a.path, b.path], tmp_path / "both")
    table = summarise(RunDirectory(tmp_path / "both")).set_index("variant")
    assert table["seeds"].to_dict() == {"shared": 2, "x": 3}


def test_a_row_is_never_of_two_versions_and_what_does_not_stand_is_kept(tmp_path):
    a = make(tmp_path / "a", {"shared": [0.02]})
    b = make(tmp_path / "b", {"shared": [0.0201, 0.0211, 0.0221], "x": [0.01]}, environment=OTHER_TORCH)
    lines = merge([a.path, b.path], tmp_path / "both")
    merged = RunDirectory(tmp_path / "both")
    ids = merged.info().requested["shared"]
    records = merged.records()
    # The run with most of them leads, whichever comes first.
    assert [records[trial_id].environment.torch for trial_id in ids] == ["2.15.0"] * 3
    assert len(records) == 5
    assert (
        f"made with another aezoo, torch, number of threads or learning rate in {a.path}, and kept, but not in the "
        "table: shared"
    ) in lines


def test_three_runs_of_which_two_have_nothing_in_common_are_held_together_by_the_third(tmp_path):
    a, b, c = (
        make(tmp_path / name, {variant: [0.02] for variant in variants})
        for name, variants in (("a", ["p", "x"]), ("b", ["q", "y"]), ("c", ["p", "q"]))
    )
    with pytest.raises(ComparisonRefusedError, match="no trained trial in common"):
        merge([a.path, b.path], tmp_path / "both")
    merge([a.path, b.path, c.path], tmp_path / "all")
    assert losses_of(RunDirectory(tmp_path / "all")).keys() == set("pqxy")


@settings(max_examples=12, deadline=None)
@given(
    held=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=6, max_size=6),
    first=st.booleans(),
)
def test_a_run_that_is_taken_apart_at_random_and_merged_is_the_run(held, first):
    """Each trial is in one part, or in the other, or in both; the anchor is in both."""
    losses = {f"v{number}": [0.01 * (number + 1), 0.0101 * (number + 1)] for number in range(3)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = make(folder / "whole", {"anchor": [0.05], **losses})
        parts = []
        for part in (0, 1):
            kept = {
                variant: [
                    loss if held[2 * number + seed][part] or not any(held[2 * number + seed]) else None
                    for seed, loss in enumerate(own)
                ]
                for number, (variant, own) in enumerate(losses.items())
            }
            parts.append(make(folder / str(part), {"anchor": [0.05], **kept}).path)
        merge(parts if first else parts[::-1], folder / "both")
        pd.testing.assert_frame_equal(summarise(RunDirectory(folder / "both")), summarise(whole))


# What must agree ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 100}, "they differ in steps (200, 100); bench both"),
        ({"batch_size": 64, "lr": None, "precision": "tf32"}, "batch_size (32, 64), precision (float32, tf32); bench"),
        ({"pixels": "2" * 64}, f"they differ in dataset_sha256 ({'1' * 12}, {'2' * 12}); bench both"),
        ({"device": "cuda"}, "they differ in device (cpu, cuda); bench both with one recipe, on one kind of device"),
    ],
)
def test_runs_of_other_settings_are_refused_field_by_field(changes, told, two, tmp_path, call):
    other = make(tmp_path / "c", {"shared": [0.02]}, **changes)
    code, out, err = call("merge", two[0].path, other.path, "-o", tmp_path / "both")
    assert (code, out) == (3, "")
    assert told in err
    assert err.count("\n") == 1
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [(0.03, "bit-equal"), (0.03 * 1.009, "within the band"), (0.03 * 1.011, None), (DIVERGED, None)],
)
def test_common_trials_must_have_come_out_alike(loss, verdict, two, tmp_path):
    other = make(tmp_path / "c", {"shared": [0.02, 0.021], "pca": [loss], "z": [0.05]})
    if verdict is not None:
        merge([two[0].path, other.path], tmp_path / "both")
        anchors = RunDirectory(tmp_path / "both").anchors()
        assert {each.verdict for each in anchors if each.variant == "pca"} == {verdict}
        return
    with pytest.raises(ComparisonRefusedError) as refused:
        merge([two[0].path, other.path], tmp_path / "both")
    text = str(refused.value)
    assert "of 3 trials that two of them have, 1 did not come out alike: " in text
    assert f"in {two[0].path}, pca seed 0, recorded with test_mse" in text
    assert not (tmp_path / "both").exists()


def test_failures_of_a_machine_are_no_disagreement_and_no_evidence(tmp_path):
    a = make(tmp_path / "a", {"x": [FAILED], "y": [0.01]})
    b = make(tmp_path / "b", {"x": [FAILED], "z": [0.01]})
    with pytest.raises(ComparisonRefusedError, match="no trained trial in common"):
        merge([a.path, b.path], tmp_path / "both")


def test_baselines_alone_say_nothing_of_training_and_the_remedy_is_a_line_to_paste(tmp_path, call):
    a = make(tmp_path / "a", {"pca": [0.03], "x": [0.01]})
    b = make(tmp_path / "b", {"pca": [0.03], "y": [0.02]})
    code, _, err = call("merge", a.path, b.path, "-o", tmp_path / "both")
    assert code == 3
    assert f"such as by `aezoo bench 'x[]' --recipe recipe.toml --device cpu --out {b.path}`" in err
    # Where nothing was trained there is nothing more to ask for.
    c = make(tmp_path / "c", {"pca": [0.03], "mean": [0.07]})
    merge([a.path, c.path], tmp_path / "both")


def test_a_run_whose_own_trials_were_not_reproduced_is_refused(two, tmp_path):
    record = next(record for record in two[1].records().values() if record.variant == "y")
    two[1].write_anchor(repeated(record, record.model_copy(update={"test_mse": 1.0})))
    with pytest.raises(ComparisonRefusedError, match=r"b cannot be merged: y seed 0, .* not reproduced"):
        merge([run.path for run in two], tmp_path / "both")


def test_a_variant_that_is_another_network_is_refused_with_what_makes_it_so(two, tmp_path):
    other = make(tmp_path / "c", {"shared": [0.02]}, source=SOURCE.model_copy(update={"source_sha256": "9" * 64}))
    with pytest.raises(ComparisonRefusedError, match="other networks, plugin source changed: shared; bench those"):
        merge([two[0].path, other.path], tmp_path / "both")


def test_of_three_runs_no_two_may_have_another_network_by_one_name(two, tmp_path):
    changed = make(tmp_path / "changed", {"y": [0.04]}, source=SOURCE.model_copy(update={"source_sha256": "9" * 64}))
    with pytest.raises(ComparisonRefusedError, match=r"b and \S+changed cannot be merged: .* plugin source changed: y"):
        merge([*(run.path for run in two), changed.path], tmp_path / "both")


def test_a_network_that_is_not_deterministic_is_no_anchor(tmp_path):
    parts = []
    for name, loss in (("a", 0.02), ("b", 0.05)):
        run = make(tmp_path / name, {"shared": [0.02], "dice": [loss]})
        (dice,) = (record for record in run.records().values() if record.variant == "dice")
        run.write_trial(dice.model_copy(update={"deterministic": False}))
        parts.append(run.path)
    merge(parts, tmp_path / "both")
    assert [each.variant for each in RunDirectory(tmp_path / "both").anchors()] == ["shared"]


@pytest.mark.parametrize(
    ("runs", "out", "told"),
    [
        (["a"], "both", "give two runs or more, each once"),
        (["a", "a"], "both", "give two runs or more, each once"),
        (["a", "b", "a/"], "both", "give two runs or more, each once"),
        (["a", "b"], "a", "which is merged, and stays as it is"),
        (["a", "b"], "b/trials/both", "which is merged, and stays as it is"),
        (["a", "b"], "full", "full is there already"),
        (["a", "nowhere"], "both", "no run at nowhere"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(runs, out, told, two, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    before = content_of(tmp_path)
    code, said, err = call("merge", *runs, "-o", out)
    assert (code, said) == (2, "")
    assert told in err
    assert err.count("\n") == 1
    assert content_of(tmp_path) == before


# What goes wrong ------------------------------------------------------------------------------------------------------


RUN_FILES = 24
"""run.json, three files of each of seven trials, and two anchors; the table comes after them."""


@pytest.mark.parametrize("write", [0, 1, 9, RUN_FILES - 1, RUN_FILES])
def test_a_disk_that_is_full_leaves_the_whole_run_or_nothing(write, two, tmp_path, monkeypatch):
    calls = iter(range(10_000))
    fsync = os.fsync

    def full(descriptor):
        if next(calls) >= write:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    before = [content_of(run.path) for run in two]
    with pytest.raises(StorageError, match="the disk is full"):
        merge([run.path for run in two], tmp_path / "both")
    assert [content_of(run.path) for run in two] == before
    is_whole = write == RUN_FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"] + ["both"] * is_whole
    if is_whole:
        assert losses_of(RunDirectory(tmp_path / "both")).keys() == {"shared", "pca", "x", "y"}


def test_weights_that_are_damaged_or_gone_are_left_out_and_said(two, tmp_path):
    first = {(record.variant, record.seed): record for run in two for record in run.records().values()}
    two[1].weights_path(first["y", 0].trial_id).write_bytes(b"flipped")
    two[0].drop_weights(first["x", 0].trial_id)
    lines = merge([run.path for run in two], tmp_path / "both")
    merged = RunDirectory(tmp_path / "both")
    lacking = {(each.variant, each.seed) for each in merged.records().values() if not merged.keeps_weights(each)}
    assert lacking == {("x", 0), ("y", 0)}
    (damaged,) = (line for line in lines if line.startswith("warning: "))
    assert damaged.endswith("weights.safetensors is damaged: its checksum does not fit; it is left out")


@pytest.mark.parametrize("part", ["trials", "artifacts", "metrics", "timings", "anchors"])
def test_a_link_out_of_a_run_is_not_followed(part, two, tmp_path):
    outside = tmp_path / "outside"
    if (two[1].path / part).exists():
        shutil.move(two[1].path / part, outside)
    else:
        outside.mkdir()
        (outside / "x.json").write_text("{}")
    (two[1].path / part).symlink_to(outside)
    with pytest.raises(StorageError, match="leads out of the run"):
        merge([run.path for run in two], tmp_path / "both")
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("file", [WEIGHTS, TEST_ERRORS])
def test_an_artifact_that_is_a_link_out_of_a_run_is_not_copied(file, two, tmp_path):
    secret = tmp_path / "secret"
    (record,) = (record for record in two[1].records().values() if (record.variant, record.seed) == ("y", 0))
    path = two[1].artifacts(record.trial_id) / file
    shutil.move(path, secret)
    path.symlink_to(secret)
    with pytest.raises(StorageError, match="leads out of the run"):
        merge([run.path for run in two], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_record_of_other_terms_than_its_runs_is_refused(two, tmp_path):
    (record,) = (record for record in two[1].records().values() if (record.variant, record.seed) == ("y", 0))
    two[1].write_trial(record.model_copy(update={"fingerprint": "f" * 12}))
    with pytest.raises(ComparisonRefusedError, match=rf"its trial {record.trial_id} was made on other terms"):
        merge([run.path for run in two], tmp_path / "both")


def test_one_id_for_two_trials_is_refused(two, tmp_path):
    (record,) = (record for record in two[1].records().values() if (record.variant, record.seed) == ("shared", 0))
    two[1].write_trial(record.model_copy(update={"seed": 5}))
    with pytest.raises(ComparisonRefusedError, match=rf"{record.trial_id} is another trial in each"):
        merge([run.path for run in two], tmp_path / "both")


def test_a_damaged_record_counts_as_not_there(two, tmp_path):
    (record,) = (record for record in two[1].records().values() if (record.variant, record.seed) == ("y", 0))
    path = two[1].trial_path(record.trial_id)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="set aside"):
        merge([run.path for run in two], tmp_path / "both")
    table = summarise(RunDirectory(tmp_path / "both")).set_index("variant")
    assert (table.loc["y", "status"], table.loc["y", "seeds"]) == ("interrupted", 1)


# As a user sees it ----------------------------------------------------------------------------------------------------


def test_the_same_command_goes_on_in_a_merged_run_and_trains_nothing_twice(tiny, tmp_path, call):
    recipe = Recipe(name="t", dataset="tiny", steps=5, seeds=2)
    common = {"recipe": recipe, "device": "cpu", "jobs": 2, "timing": False}
    aezoo.bench(["linear[latent_dim=2]", "mlp[latent_dim=2]"], out=tmp_path / "a", **common)
    aezoo.bench(["linear[latent_dim=2]", "conv[latent_dim=2]"], out=tmp_path / "b", **common)
    before = [content_of(tmp_path / name) for name in "ab"]
    code, out, err = call("merge", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "both")
    assert (code, out) == (0, f"{tmp_path / 'both'}\n")
    assert "which had 6 trials of these too: 6 bit-equal; in the same circumstances" in err
    assert [content_of(tmp_path / name) for name in "ab"] == before
    states = status(RunDirectory(tmp_path / "both"), discover())
    assert (len(states), set(states["state"])) == (10, {"done"})
    everything = ["linear[latent_dim=2]", "mlp[latent_dim=2]", "conv[latent_dim=2]"]
    again = aezoo.bench(everything, out=tmp_path / "both", **common)
    assert again.trials == 0
    whole = aezoo.bench(everything, out=tmp_path / "whole", **common)
    compared = compare.compare(RunDirectory(tmp_path / "both"), RunDirectory(whole.path))
    assert compared["verdict"].tolist() == ["equal"] * 5
    assert call("report", tmp_path / "both")[0] == 0
    assert call("table", tmp_path / "both")[0] == 0
    model = aezoo.load(tmp_path / "both", "conv[latent_dim=2]", device="cpu")
    assert model.encode(np.zeros((1, 1, 6, 6), np.uint8)).shape[0] == 1
