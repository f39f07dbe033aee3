"""How a trained network does on other images: each one's error, and where that stands among those of its data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aezoo.contract.dataset import find_data_dir
from aezoo.errors import AezooError
from aezoo.harness.images import DatasetImages
from aezoo.harness.model import Model
from aezoo.registry.names import Registry
from aezoo.run.model import QUANTILES
from aezoo.train.engine import products
from aezoo.train.score import image_errors


def with_errors(model: Model, registry: Registry, data_dir: Path | None) -> Model:
    """Return the model with the quantiles of its data's errors, which an exported one has already.

    Raises:
        AezooError: its data set is not here, or is another one now.
    """
    config = model.config
    if config.train_errors:
        return model
    plugin = registry.dataset_plugin(config.dataset.name)
    source = DatasetImages(
        name=config.dataset.name, origin=plugin.origin, source=plugin.source, data_dir=find_data_dir(data_dir),
        sha256=config.dataset.sha256, held_out=config.recipe.validation,
    )  # fmt: skip
    with products(tf32=False):
        errors = [
            image_errors(model.module, images, config.recipe.precision, device=model.device).numpy()
            for images in source.load()
        ]
    train, test = (tuple(np.quantile(part, np.linspace(0, 1, QUANTILES)).tolist()) for part in errors)
    return Model(model.module, config.model_copy(update={"train_errors": train, "test_errors": test}))


def percentiles(errors: NDArray[np.float64], quantiles: Sequence[float]) -> NDArray[np.float64]:
    """Return how many percent of a part of the data have no greater an error than each of `errors`, (N,)."""
    if not len(quantiles):
        return np.full(len(errors), np.nan)
    # Where several quantiles are equal, the share up to the last of them counts.
    places = np.searchsorted(np.asarray(quantiles), errors, side="right") / len(quantiles)
    return 100 * places


def score(model: Model, images: NDArray[np.uint8]) -> pd.DataFrame:
    """Return a row for each of images (N, C, H, W): its error, and its percentiles among its data's."""
    errors = model.errors(images)
    return pd.DataFrame(
        {
            "mse": errors,
            "train_percentile": percentiles(errors, model.config.train_errors),
            "test_percentile": percentiles(errors, model.config.test_errors),
        }
    )


def auc(errors: NDArray[np.float64], abnormal: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often an abnormal image has the greater error than a normal one.

    Raises:
        AezooError: all are normal, or none is.
    """
    from scipy.stats import mannwhitneyu

    if abnormal.all() or not abnormal.any():
        which = "normal" if not abnormal.any() else "abnormal"
        raise AezooError(f"an AUC is of normal and of abnormal images, but all {len(errors)} are {which}")
    statistic = mannwhitneyu(errors[abnormal], errors[~abnormal]).statistic
    return float(statistic / (abnormal.sum() * (~abnormal).sum()))
