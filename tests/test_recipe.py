"""Recipes: validated, written and read, and fingerprinted by what can change a loss."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aezoo.contract.recipe import BUILT_IN, Recipe, fingerprint, read_recipe
from aezoo.errors import AezooError

BASE = Recipe(name="base", steps=100)


def mark(recipe: Recipe, dataset_sha256: str = "d") -> str:
    return fingerprint(recipe.loss_settings(num_train=4000, dataset_sha256=dataset_sha256))


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipes_are_adam_at_1e_3_on_images_that_need_no_download(name):
    recipe = read_recipe(name)
    images = {"large": ("dead-leaves", 64)}.get(name, ("mnist-5k", 128))
    assert (recipe.name, recipe.dataset, recipe.batch_size) == (name, *images)
    assert (recipe.optimizer, recipe.rate) == ("adam", 1e-3)
    assert (recipe.loss, recipe.schedule, recipe.precision) == ("mse", "constant", "float32")


def test_the_tuned_recipe_is_the_default_one_at_one_of_several_rates():
    default, tuned = read_recipe("default"), read_recipe("tuned")
    assert tuned.change(name="default", lr=1e-3, validation=0.0) == default
    assert 1e-3 in tuned.rates


@given(
    budget=st.one_of(
        st.fixed_dictionaries({"steps": st.integers(1, 10**9)}),
        st.fixed_dictionaries({"epochs": st.floats(0.01, 1e6)}),
        st.fixed_dictionaries({"images": st.integers(1, 10**12)}),
    ),
    lr=st.floats(1e-12, 1e3),
    seeds=st.integers(1, 99),
)
def test_a_recipe_survives_the_way_to_toml_and_back(tmp_path_factory, budget, lr, seeds):
    recipe = Recipe(name="r", lr=lr, seeds=seeds, **budget)
    path = tmp_path_factory.mktemp("recipe") / "r.toml"
    path.write_text(recipe.to_toml())
    assert read_recipe(path) == recipe


def test_the_budget_is_converted_to_steps_and_rounded_up():
    steps = {"steps": 77, "epochs": 2, "images": 1000}
    found = {unit: Recipe(name="r", **{unit: value}).num_steps(4000) for unit, value in steps.items()}
    assert found == {"steps": 77, "epochs": math.ceil(8000 / 128), "images": math.ceil(1000 / 128)}


def test_equal_budgets_in_different_units_have_one_fingerprint():
    assert mark(Recipe(name="a", epochs=16, batch_size=100)) == mark(Recipe(name="b", steps=640, batch_size=100))
    assert mark(Recipe(name="a", images=64000, batch_size=100)) == mark(Recipe(name="b", steps=640, batch_size=100))


@pytest.mark.parametrize("changes", [{"lr": 2e-3}, {"batch_size": 64}, {"steps": 101}, {"dataset": "digits"}])
def test_whatever_can_change_a_loss_changes_the_fingerprint(changes):
    assert mark(BASE.change(**changes)) != mark(BASE)
    assert mark(BASE, "other data") != mark(BASE)


@pytest.mark.parametrize("changes", [{"name": "other"}, {"seeds": 7}, {"timing_rounds": 9}])
def test_what_cannot_change_a_loss_leaves_the_fingerprint(changes):
    assert mark(BASE.change(**changes)) == mark(BASE)


def test_a_changed_budget_replaces_the_unit():
    assert BASE.change(epochs=2.0).steps is None
    assert BASE.change(steps=None) == BASE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps = 1\nepochs = 1.0", "give the budget once"),
        ("", "give the budget once"),
        ("steps = 0", "steps: Input should be greater than or equal to 1, but got 0"),
        ("steps = 1\nlr = nan", "lr: "),
        ("steps = 1\nlearning_rate = 1", "no setting 'learning_rate'"),
        ("steps = 1\nbatchsize = 1", "Did you mean 'batch_size'?"),
        (
            "steps = 1\noptimizer = 'lion'",
            "'adamw', 'sgd' or 'muon', but got 'lion'",
        ),
        ("steps = 1\nmomentum = 0.9", "momentum = 0.9 is for sgd, muon, but optimizer is adam"),
        ("steps = 1\nweight_decay = 0.1", "weight_decay = 0.1 is for adamw, sgd, muon, but optimizer is adam"),
        ("steps = 1\nschedule = 'step'", "schedule: Input should be 'constant', 'cosine' or 'linear', but got 'step'"),
        ("steps = 1\nwarmup = 1.0", "warmup: Input should be less than 1, but got 1.0"),
        ("steps = 1\nclip_norm = 0.0", "clip_norm: Input should be greater than 0, but got 0.0"),
        ("steps = 1\nema = 1.0", "ema: Input should be less than 1, but got 1.0"),
        ("steps = ", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_one_line(tmp_path, text, told):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(AezooError) as caught:
        read_recipe(path)
    assert told in str(caught.value)
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_gets_a_close_match():
    with pytest.raises(AezooError, match="no recipe 'qiuck'.*Did you mean 'quick'"):
        read_recipe("qiuck")
