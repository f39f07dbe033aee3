"""Autoencoders as scikit-learn's estimators: fit, transform, inverse_transform and score_samples, in a Pipeline.

They are trained as a bench trains them, in this process; nothing is recorded, and nothing is compared.
"""

import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from aezoo import machine
from aezoo.contract.architecture import ImageShape
from aezoo.contract.halves import halves
from aezoo.contract.network import Half, is_closed_form, to_float
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError
from aezoo.registry.discovery import discover
from aezoo.train.build import build
from aezoo.train.loop import fit, train

BATCH = 128
Floats = NDArray[np.float64]


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An autoencoder of the zoo as a transformer: samples to latents and back.

    Samples are rows, (n_samples, n_features). Each column is scaled, by its range in what was fitted, to 0 to 255, in
    8 bits, as a bench sees rows; what lies beyond is clipped. With `image_shape` the columns are the pixels of images,
    and all are scaled alike, so that the images stay what they are.

    Args:
        variant: An architecture, or a variant of one: ``conv``, ``mlp[widths=(32,)]``.
        latent_dim: Replaces the variant's hyperparameter of that name; None leaves it.
        image_shape: (channels, height, width), for architectures that need images; None for rows.
        steps: Of training, as of a recipe.
        batch_size: Samples a step.
        lr: Adam's learning rate.
        random_state: A seed, or a ``RandomState``; None draws another one at each fit.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Attributes:
        module_: The trained network.
        low_, high_: The least and the greatest number of each column that was fitted, (n_features,).
        loss_curve_: (step, mean squared error of the scaled samples) while it was trained.
        n_features_in_: The number of columns.
    """

    def __init__(
        self,
        variant: str = "mlp",
        *,
        latent_dim: int | None = None,
        image_shape: ImageShape | None = None,
        steps: int = 1000,
        batch_size: int = 128,
        lr: float = 1e-3,
        random_state: Any = None,
        device: str = "cpu",
    ) -> None:
        self.variant = variant
        self.latent_dim = latent_dim
        self.image_shape = image_shape
        self.steps = steps
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: Any = None) -> Self:  # noqa: ARG002 - as scikit-learn calls them
        """Train the autoencoder on samples, (n_samples, n_features).

        Raises:
            ValueError: the samples are no finite numbers, or no architecture or hyperparameter is called so.
        """
        samples = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        shape = self.image_shape or (1, 1, samples.shape[1])
        if int(np.prod(shape)) != samples.shape[1]:
            raise ValueError(f"image_shape {shape} has not as many pixels as X has features, {samples.shape[1]}")
        axis = None if self.image_shape else 0
        self.low_ = np.broadcast_to(samples.min(axis=axis), samples.shape[1]).copy()
        self.high_ = np.broadcast_to(samples.max(axis=axis), samples.shape[1]).copy()
        pixels = self._pixels(samples)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        try:
            chosen = discover().resolve(self.variant if "[" in self.variant else f"{self.variant}[]")
            if self.latent_dim is not None:
                values = chosen.architecture.check({**chosen.hyperparameters, "latent_dim": self.latent_dim})
                chosen = type(chosen)(architecture=chosen.architecture, hyperparameters=values, label=chosen.label)
            recipe = Recipe(name="sklearn", steps=1).change(
                steps=self.steps, batch_size=self.batch_size, lr=float(self.lr)
            )
            device = machine.choose_device(self.device)
            with machine.configured(1):
                module = build(chosen, pixels, seed, device)
                if is_closed_form(module):
                    self.loss_curve_ = fit(module, pixels, seed, device).curve
                else:
                    self.loss_curve_ = train(module, pixels.to(device), recipe, seed, lambda _: None).curve
        except AezooError as error:
            hint = "" if self.image_shape else "; image_shape=(channels, height, width) makes images of rows"
            raise ValueError(f"{error}{hint}") from error
        self.module_ = module.eval()
        latents = self._latents(pixels[:1])
        self.latent_shape_ = tuple(latents.shape[1:])
        self._n_features_out = int(np.prod(self.latent_shape_))
        return self

    def transform(self, X: ArrayLike) -> Floats:
        """Return the latents of samples, (n_samples, latent_size), float64."""
        return self._latents(self._images(X)).reshape(-1, self._n_features_out).astype(np.float64)

    def inverse_transform(self, X: ArrayLike) -> Floats:
        """Return the samples of latents, (n_samples, latent_size), in the columns' own numbers.

        Raises:
            ValueError: they are of another shape.
        """
        check_is_fitted(self)
        latents = np.asarray(X, dtype=np.float32)
        if latents.ndim != 2 or latents.shape[1] != self._n_features_out:
            raise ValueError(f"latents are (n_samples, {self._n_features_out}), but got {latents.shape}")
        decoded = self._run(self._half(1), torch.from_numpy(latents.reshape(-1, *self.latent_shape_)))
        return self._numbers(decoded)

    def reconstruct(self, X: ArrayLike) -> Floats:
        """Return the reconstructions of samples, in the columns' own numbers, (n_samples, n_features)."""
        return self._numbers(self._run(self.module_, to_float(self._images(X))))

    def score_samples(self, X: ArrayLike) -> Floats:
        """Return minus the mean squared error of each scaled sample, (n_samples,): the greater, the more as fitted."""
        x = to_float(self._images(X))
        difference = self._run(self.module_, x) - x.numpy()
        errors: Floats = np.square(difference.reshape(len(x), -1).astype(np.float64)).mean(axis=1)
        return -errors

    def score(self, X: ArrayLike, y: Any = None) -> float:  # noqa: ARG002
        """Return minus the mean squared error of scaled samples: what a search over parameters makes greatest."""
        return float(self.score_samples(X).mean())

    def _images(self, X: ArrayLike) -> torch.Tensor:
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=np.float64, reset=False)
        outside = int(np.count_nonzero((samples < self.low_) | (samples > self.high_)))
        if outside:
            what = (
                f"{outside:,} of {samples.size:,} numbers lie beyond the range of the fitted samples, and are clipped"
            )
            warnings.warn(f"{what} to it", stacklevel=3)
        return self._pixels(samples)

    def _pixels(self, samples: Floats) -> torch.Tensor:
        shape = self.image_shape or (1, 1, samples.shape[1])
        rules = Preprocessing(image_shape=shape, low=self.low_.tolist(), high=self.high_.tolist())
        return torch.from_numpy(rules.of_rows(samples))

    def _numbers(self, images: NDArray[np.float32]) -> Floats:
        span = np.where(self.high_ > self.low_, self.high_ - self.low_, 1.0)
        numbers: Floats = images.reshape(len(images), -1).astype(np.float64) * span + self.low_
        return numbers

    def _half(self, number: int) -> Half:
        shape = self.image_shape or (1, 1, self.n_features_in_)
        device = next(iter(self.module_.parameters())).device
        pair = halves(self.module_, torch.zeros(2, *shape, device=device))
        if pair is None:
            raise ValueError(f"{self.variant} has no encoder and decoder, and so no latent")
        return pair[number]

    def _latents(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        return self._run(self._half(0), to_float(pixels))

    def _run(self, call: Half, batch: torch.Tensor) -> NDArray[np.float32]:
        device = next(iter(self.module_.parameters())).device
        with torch.no_grad(), machine.configured(1):
            parts = [call(part.to(device)).float().cpu() for part in torch.split(batch, BATCH)]
        whole: NDArray[np.float32] = torch.cat(parts).numpy()
        return whole
