"""Autoencoders as scikit-learn's estimators: what scikit-learn itself asks of one, and that they do what they say."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from aezoo.sklearn import Autoencoder

RNG = np.random.RandomState(0)
ROWS = RNG.rand(80, 3) @ RNG.rand(3, 12) * 7 - 3


def test_it_is_an_estimator_as_scikit_learn_has_them():
    results = check_estimator(Autoencoder("linear", latent_dim=1, steps=2, random_state=0), on_fail=None)
    assert len(results) > 40
    assert [result["check_name"] for result in results if result["status"] not in ("passed", "skipped")] == []


def test_pca_of_the_zoo_does_what_scikit_learns_does_but_for_8_bits():
    ours = Autoencoder("pca", latent_dim=3, random_state=0).fit(ROWS)
    scaled = (ROWS - ROWS.min(0)) / np.ptp(ROWS, axis=0)
    theirs = PCA(3).fit(scaled)
    error = np.square(theirs.inverse_transform(theirs.transform(scaled)) - scaled).mean()
    assert -ours.score(ROWS) == pytest.approx(error, abs=2e-5)
    latents = ours.transform(ROWS)
    assert latents.shape == (80, 3)
    assert np.allclose(ours.inverse_transform(latents), ours.reconstruct(ROWS), atol=1e-5)
    assert np.abs(ours.reconstruct(ROWS) - ROWS).max() < 0.02 * np.ptp(ROWS)


def test_it_learns_and_the_same_seed_gives_the_same():
    first, second, other = (
        Autoencoder("mlp", latent_dim=3, steps=200, lr=3e-3, random_state=seed).fit(ROWS) for seed in (0, 0, 1)
    )
    assert np.array_equal(first.transform(ROWS), second.transform(ROWS))
    assert not np.array_equal(first.transform(ROWS), other.transform(ROWS))
    losses = [loss for _, loss in first.loss_curve_]
    assert losses[-1] < 0.5 * losses[0]


def test_rows_are_no_images_unless_they_are_said_to_be():
    with pytest.raises(ValueError, match=r"but these are 1x12; image_shape=\(channels, height, width\) makes images"):
        Autoencoder("conv", latent_dim=2, steps=2).fit(ROWS)
    assert Autoencoder("conv", latent_dim=2, steps=2, image_shape=(1, 3, 4)).fit(ROWS).transform(ROWS).shape == (80, 2)


def test_what_is_unlike_what_was_fitted_has_the_lower_score():
    model = Autoencoder("pca", latent_dim=3).fit(ROWS)
    strange = np.random.default_rng(0).permuted(ROWS, axis=1)
    with pytest.warns(UserWarning, match="of 960 numbers lie beyond the range of the fitted samples"):
        scores = model.score_samples(strange)
    assert scores.mean() < 10 * model.score_samples(ROWS).mean() < 0


def test_it_stands_in_a_pipeline_and_its_bottleneck_can_be_searched():
    pipeline = make_pipeline(StandardScaler(), Autoencoder("pca", latent_dim=2, random_state=0))
    assert pipeline.fit_transform(ROWS).shape == (80, 2)
    assert list(pipeline[-1].get_feature_names_out()) == ["autoencoder0", "autoencoder1"]
    search = GridSearchCV(Autoencoder("pca", random_state=0), {"latent_dim": [1, 2, 3]}, cv=2).fit(ROWS)
    assert search.best_params_ == {"latent_dim": 3}
    assert clone(pipeline[-1]).get_params()["latent_dim"] == 2


def test_images_are_scaled_alike_so_that_they_stay_images():
    images = RNG.rand(40, 64) * 255
    model = Autoencoder("conv", latent_dim=4, image_shape=(1, 8, 8), steps=5, random_state=0).fit(images)
    assert model.transform(images).shape == (40, 4)
    assert len(set(model.low_)) == len(set(model.high_)) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"variant": "mpl"}, "no architecture 'mpl'.*Did you mean 'mlp'"),
        ({"variant": "mlp", "steps": 0}, "steps"), ({"image_shape": (1, 3, 3)}, "not as many pixels as X has features"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_a_value_error(settings, told):
    with pytest.raises(ValueError, match=told):
        Autoencoder(**settings).fit(ROWS)
