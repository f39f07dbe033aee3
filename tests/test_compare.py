"""Comparisons of runs that were made by hand, so that what is true of them is known."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aezoo.contract.recipe import Recipe, fingerprint
from aezoo.errors import ComparisonRefusedError
from aezoo.machine import Environment
from aezoo.run.records import DatasetInfo, PluginSource, RunInfo, Timing, TrialPlan, TrialRecord
from aezoo.run.store import TEST_ERRORS, RunDirectory, pack_test_errors
from aezoo.table.compare import compare, notes, regressions, summary
from aezoo.table.notes import notes as render_notes
from aezoo.table.rows import summarise

ENVIRONMENT = Environment(
    aezoo="0.1", python="3.11", torch="2.15", platform="here", device="cpu", device_name="Some CPU", threads=1
)
DATASET = DatasetInfo(name="made", sha256="0" * 64, image_shape=(1, 2, 2), num_train=10, num_test=50)
NOW = "2026-01-01T00:00:00+00:00"


@dataclasses.dataclass
class Maker:
    """Makes runs out of errors: for each variant (seeds, images), or None for one that failed."""

    folder: Path
    made: int = 0

    def __call__(
        self, errors, *, environment=ENVIRONMENT, speeds=None, hyperparameters=None, source="0", latent_size=None,
        environments=None, **changed,
    ) -> RunDirectory:  # fmt: skip
        self.made += 1
        run = RunDirectory(self.folder / str(self.made))
        recipe = Recipe(name="made", dataset="made", steps=1).change(**changed)
        settings = recipe.loss_settings(num_train=10, dataset_sha256=DATASET.sha256)
        info = RunInfo(
            recipe=recipe, fingerprint=fingerprint(settings), loss_settings=settings, dataset=DATASET,
            device=environment.device, created_at=NOW,
        )  # fmt: skip
        asked = {}
        for variant, table in errors.items():
            asked[variant] = []
            env = (environments or {}).get(variant, environment)
            for seed, row in enumerate([None] if table is None else table):
                plan = TrialPlan(
                    trial_id=f"{variant}-s{seed}", architecture=variant, variant=variant,
                    hyperparameters=hyperparameters or {},
                    plugin=PluginSource(name="p", distribution="d", version="1", source_sha256=source),
                    recipe=recipe,
                    fingerprint=info.fingerprint, dataset=DATASET, seed=seed, device=env.device,
                    threads=env.threads,
                )  # fmt: skip
                asked[variant].append(plan.trial_id)
                facts, files = {"status": "error", "reason": "fell over"}, {}
                if row is not None:
                    files = {TEST_ERRORS: pack_test_errors(row)}
                    sha256 = hashlib.sha256(files[TEST_ERRORS]).hexdigest()
                    facts = {"status": "ok", "test_mse": float(np.mean(row)), "test_errors_sha256": sha256}
                run.write_trial(
                    TrialRecord(
                        **plan.model_dump(), **facts, latent_size=latent_size, environment=env, started_at=NOW,
                        finished_at=NOW,
                    ),
                    files,
                )  # fmt: skip
            if speeds:
                train, reference = speeds
                run.write_timing(
                    plan,
                    Timing(
                        variant=variant, environment=env, batch_size=128, precision="float32",
                        train_images_per_s=[train], infer_images_per_s=[2 * train], reference="mlp",
                        reference_train_images_per_s=[reference], reference_infer_images_per_s=[reference],
                        measured_at=NOW,
                    ),
                )  # fmt: skip
        run.request(info, asked)
        return run


@pytest.fixture
def make(tmp_path):
    return Maker(tmp_path)


def draw(rng, mean, *, seeds=3, seed_std=0.05):
    return mean + seed_std * rng.standard_normal((seeds, 1)) + 0.2 * rng.standard_normal((seeds, 50))


def test_each_verdict(make):
    rng = np.random.default_rng(0)
    same = draw(rng, 1.0)
    a = make({"same": same, "better": draw(rng, 3.0), "worse": draw(rng, 1.0), "close": draw(rng, 1.0), "gone": same})
    b = make({"same": same, "better": draw(rng, 1.0), "worse": draw(rng, 3.0), "close": draw(rng, 1.01), "new": same})
    compared = compare(a, b)
    # What changed leads.
    assert list(compared["variant"])[:2] == ["worse", "better"]
    assert list(compared["variant"])[-1] == "same"
    assert summary(compared) == ("b against a: 1 worse, 1 better, 1 not decided, 1 equal, 1 in a only, 1 in b only")
    found = compared.set_index("variant")
    assert found["verdict"].dropna().to_dict() == {
        "same": "equal", "better": "better", "worse": "worse", "close": "not decided",
    }  # fmt: skip
    assert found["found"][["gone", "new", "same"]].tolist() == ["a only", "b only", "both"]
    assert found.loc["worse", "change_percent"] == pytest.approx(200, abs=20)
    assert found.loc["worse", "change_percent_low"] > 100 > found.loc["close", "change_percent_high"]
    assert (found.loc["worse", "rank_a"], found.loc["worse", "rank_b"]) != (5, 5)
    assert regressions(found.reset_index(), 5) == ["worse"]
    assert regressions(found.reset_index(), 500) == []


def test_a_variant_that_fails_now_is_a_regression_whatever_the_percentage(make):
    rng = np.random.default_rng(1)
    a, b = make({"x": draw(rng, 1.0)}), make({"x": None})
    found = compare(a, b)
    assert pd.isna(found.loc[0, "verdict"])
    assert regressions(found, 1000) == ["x"]
    assert regressions(compare(b, a), 1000) == []


def test_runs_that_differ_only_in_seed_show_no_evidence_at_the_nominal_rate(make):
    rng = np.random.default_rng(2)
    told = 0
    for _ in range(40):
        hard = 0.3 * rng.standard_normal(50)
        a, b = ({name: draw(rng, 1.0) + hard for name in "xy"} for _ in range(2))
        told += bool((compare(make(a), make(b))["verdict"] != "not decided").any())
    # 40 draws of 5 % are at most 6 in all but 4 of 1,000 cases.
    assert told <= 6


@pytest.mark.parametrize("changed", [{"lr": 0.5}, {"batch_size": 7}, {"steps": 2}, {"precision": "bfloat16"}])
def test_another_setting_is_refused_and_named(make, changed):
    errors = {"x": draw(np.random.default_rng(3), 1.0)}
    with pytest.raises(ComparisonRefusedError, match=next(iter(changed))):
        compare(make(errors), make(errors, **changed))


def test_losses_of_another_torch_are_held_to_the_stated_tolerance_and_labelled(make):
    # Without a spread over seeds, any difference would be evidence.
    errors = np.full((3, 50), 1.0) + np.linspace(0, 0.1, 50)
    other = ENVIRONMENT.model_copy(update={"torch": "2.16"})
    a, near, far = make({"x": errors}), make({"x": errors * 1.005}, environment=other), make({"x": errors * 1.02})
    assert compare(a, near)["verdict"].item() == "not decided"
    assert compare(far, near)["verdict"].item() == "better"
    assert compare(a, make({"x": errors * 1.005}))["verdict"].item() == "worse"
    assert any("torch (2.15, 2.16): changes of less than 1%" in line for line in notes(a, near))


@pytest.mark.parametrize(
    ("field", "value", "ratio"),
    [
        (None, None, 3.0),
        ("torch", "2.16", 1.5),
        ("threads", 2, 1.5),
        ("device_name", "Another CPU", 1.5),
        ("device", "cuda", 1.5),
    ],
)
def test_speeds_are_relative_to_the_reference_where_the_machines_differ(make, field, value, ratio):
    errors = {"x": draw(np.random.default_rng(4), 1.0)}
    other = ENVIRONMENT.model_copy(update={field: value} if field else {})
    a, b = make(errors, speeds=(100.0, 50.0)), make(errors, speeds=(300.0, 100.0), environment=other)
    found = compare(a, b)
    assert found["train_speed_ratio"].item() == pytest.approx(ratio)
    assert found["infer_speed_ratio"].item() == pytest.approx(ratio)
    assert any("relative to the reference" in line for line in notes(a, b)) == (field is not None)


@pytest.mark.parametrize(
    ("before", "after", "network"),
    [
        ({}, {}, None),
        ({"hyperparameters": {"width": 8}}, {"hyperparameters": {"width": 16}}, "width 8 → 16"),
        ({"source": "0"}, {"source": "1"}, "plugin source changed"),
        ({"latent_size": 2}, {"latent_size": 3}, "latent_size 2 → 3"),
        ({"latent_size": 2}, {}, None),
    ],
)
def test_another_network_of_one_name_is_told_for_its_variant(make, before, after, network):
    errors = {"x": draw(np.random.default_rng(5), 1.0)}
    a, b = make(errors, **before), make(errors, **after)
    found = compare(a, b)["network"].item()
    assert found == network if network else pd.isna(found)
    assert [line for line in notes(a, b) if "another network" in line] == (
        [f"x is another network in b: {network}"] if network else []
    )


def test_environments_are_those_of_the_records_variant_by_variant(make):
    """Only what ran elsewhere is held to the tolerance, and the notes say for how many that is."""
    errors = np.full((3, 50), 1.0) + np.linspace(0, 0.1, 50)
    other = ENVIRONMENT.model_copy(update={"torch": "2.16"})
    a = make({"x": errors, "y": errors})
    b = make({"x": errors * 1.005, "y": errors * 1.005}, environments={"y": other})
    assert compare(a, b).set_index("variant")["verdict"].to_dict() == {"x": "worse", "y": "not decided"}
    assert any("torch (2.15, 2.16) for 1 of 2 variants: changes of less" in line for line in notes(a, b))
    told = render_notes(b, summarise(b))
    for variant, torch in (("x", "2.15"), ("y", "2.16")):
        assert f"3 trials, of {variant}: aezoo 0.1, torch {torch}, Some CPU, 1 thread a trial" in told


def test_a_column_of_speeds_is_one_machines_and_the_others_are_told(make):
    """Most variants were timed on the first machine, so the columns are its."""
    errors = {name: draw(np.random.default_rng(6), 1.0) for name in "xyz"}
    other = ENVIRONMENT.model_copy(update={"device_name": "Another CPU"})
    run = make(errors, speeds=(100.0, 50.0), environments={"y": other})
    table = summarise(run).set_index("variant")
    assert table["train_images_per_s"].isna().to_dict() == {"x": False, "y": True, "z": False}
    told = render_notes(run, summarise(run))
    assert any(line.startswith("images_per_s: ") and "cpu: Some CPU, torch 2.15" in line for line in told)
    assert "timed elsewhere, and not in these columns: 1 variant on cpu: Another CPU, torch 2.15" in told
