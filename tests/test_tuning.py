"""The tuned track: each variant at its own best learning rate, chosen by images that are held out from training."""

import numpy as np
import pytest

import aezoo
from aezoo.contract.images import Images
from aezoo.contract.recipe import Recipe, fingerprint
from aezoo.errors import AezooError
from aezoo.run.store import RunDirectory
from aezoo.table import views

RATES = [1e-3, 1e-2, 1e9]
PLUGIN = """
    import torch, aezoo
    from torch import nn

    class Closed(aezoo.Autoencoder):
        objective = "mse, closed form"
        def __init__(self, image_shape):
            super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)),
                             nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, image_shape)))
        def fit(self, images):
            assert len(images) == 96, len(images)

    def build(image_shape):
        return aezoo.Autoencoder(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)),
                                 nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, image_shape)))

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="plain", build=build, summary="s", reference="r")
        yield aezoo.Architecture(name="closed", build=Closed, summary="s", reference="r")
"""


def recipe(**changes):
    settings = {
        "name": "t",
        "dataset": "tiny",
        "steps": 60,
        "batch_size": 16,
        "lr": RATES,
        "validation": 0.25,
        "seeds": 2,
    }
    return Recipe(**(settings | changes))


@pytest.fixture
def plugin(tiny, distribute):
    distribute(PLUGIN, name="plain-dist")


def test_every_rate_is_tried_and_the_scored_seeds_run_with_the_best(plugin, tmp_path):
    run = aezoo.bench(["plain", "closed"], recipe=recipe(), out=tmp_path / "run", timing=False)
    records = run.records()
    tries = {each.lr: each for each in records if each.tuning}
    assert sorted(tries) == RATES
    assert {each.variant for each in tries.values()} == {"plain"}
    assert {rate: each.status for rate, each in tries.items()} == {1e-3: "ok", 1e-2: "ok", 1e9: "diverged"}
    best = min((1e-3, 1e-2), key=lambda rate: tries[rate].validation_mse)
    scored = [each for each in records if each.variant == "plain" and not each.tuning]
    assert [(each.lr, each.seed, each.status) for each in scored] == [(best, 0, "ok"), (best, 1, "ok")]
    assert {each.lr for each in records if each.variant in ("closed", "mean")} == {None}
    # Nothing of the test images is in a try, and its seed is none that is scored.
    assert {(each.test_mse, each.test_errors_sha256, each.train_mse) for each in tries.values()} == {(None, None, None)}
    assert not {each.seed for each in tries.values()} & {each.seed for each in scored}
    table = run.table().set_index("variant")
    assert table.loc["plain", "lr"] == best
    assert table.loc["plain", "seeds"] == 2
    tried = views.tuning(RunDirectory(tmp_path / "run"))
    assert list(tried["lr"]) == RATES
    assert list(tried.loc[tried["chosen"] == "yes", "lr"]) == [best]
    assert "test_mse" not in tried


def test_the_same_call_trains_nothing_twice(plugin, tmp_path):
    aezoo.bench(["plain"], recipe=recipe(seeds=1), out=tmp_path / "run", timing=False)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "trials").iterdir()}
    aezoo.bench(["plain"], recipe=recipe(seeds=1), out=tmp_path / "run", timing=False)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "trials").iterdir()} == before


def test_a_variant_that_no_rate_trains_has_rows_that_say_so(plugin, tmp_path):
    run = aezoo.bench(["plain"], recipe=recipe(lr=[1e18, 1e19]), out=tmp_path / "run", timing=False)
    row = run.table().set_index("variant").loc["plain"]
    assert (row["status"], row["seeds"]) == ("diverged", 0)
    reasons = {each.reason for each in run.records() if each.variant == "plain" and not each.tuning}
    assert reasons == {"none of the learning rates 1e+18, 1e+19 came to a loss on the validation images"}


def test_held_out_images_are_evenly_spaced_and_leave_training():
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    images = Images(train=pixels, test=pixels[:1], train_labels=np.arange(10), test_labels=np.arange(1)).hold_out(0.3)
    assert images.validation is not None
    assert images.validation.ravel().tolist() == [3, 6, 9]
    assert images.train.ravel().tolist() == [0, 1, 2, 4, 5, 7, 8]
    assert images.train_labels.tolist() == images.train.ravel().tolist()
    assert images.hold_out(0.3) is images
    with pytest.raises(AezooError, match="is 0 of them"):
        Images(train=pixels, test=pixels).hold_out(0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 0.0}, "give validation = 0.1"),
        ({"lr": [1e-3]}, "one rate, or two and more in order"),
        ({"lr": [1e-2, 1e-3]}, "one rate, or two and more in order"),
        ({"lr": [1e-3, 1e-3]}, "one rate, or two and more in order"),
    ],
)
def test_a_list_of_rates_needs_images_to_choose_by_and_an_order(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


def test_what_is_held_out_changes_the_fingerprint_and_nothing_held_out_does_not():
    def mark(**changes):
        return fingerprint(recipe(**changes).loss_settings(num_train=100, dataset_sha256="0" * 64))

    marks = [mark(lr=1e-3, validation=0.0), mark(lr=1e-3), mark(), mark(validation=0.5), mark(lr=[1e-3, 1e-2])]
    assert len(set(marks)) == len(marks)
    assert "validation" not in recipe(lr=1e-3, validation=0.0).loss_settings(num_train=1, dataset_sha256="0")
