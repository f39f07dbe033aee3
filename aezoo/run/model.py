"""What is written down of a trained network that leaves its run: all that it takes to use it, and no code."""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from aezoo.contract.hyperparameters import parse_variant
from aezoo.contract.preprocessing import Preprocessing
from aezoo.contract.recipe import Layout, Recipe
from aezoo.errors import AezooError, did_you_mean
from aezoo.machine import Count, Environment, FrozenModel
from aezoo.run.files import content_of, read
from aezoo.run.records import (
    SCHEMA,
    Amount,
    DatasetInfo,
    LatentKind,
    PluginSource,
    SchemaVersion,
    Sha256,
    TrialRecord,
)

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
PICTURE = "reconstructions.png"
GRAPHS = ("autoencoder", "encoder", "decoder")
"""The graphs of a network: whole, and its halves. Their files are called so, and end as their kind."""
QUANTILES = 1001
"""Errors that are kept of a part of the data, from the least to the greatest: one at every tenth of a percent."""


class ModelConfig(FrozenModel):
    """A trained network: its variant, what it was trained on and how, and what makes its input.

    `train_errors` and `test_errors` are quantiles of the images' mean squared errors, from the least to the greatest,
    evenly spaced; empty where the images were not at hand. `label_names` holds what each label of its data is called.
    `layout` is how its weights lay in memory.
    """

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    variant: str
    architecture: str
    hyperparameters: dict[str, Any]
    plugin: PluginSource
    image_shape: tuple[Count, Count, Count]
    preprocessing: Preprocessing
    dataset: DatasetInfo
    label_names: list[str]
    recipe: Recipe
    fingerprint: str
    lr: float | None = None
    seed: Count
    trial_id: str
    environment: Environment
    layout: Layout = "contiguous"
    num_params: Count
    latent_shape: tuple[Count, ...] | None = None
    latent_kind: LatentKind | None = None
    test_mse: Amount
    weights_sha256: Sha256
    train_errors: tuple[Amount, ...] = ()
    test_errors: tuple[Amount, ...] = ()


def read_exported(folder: Path) -> tuple[ModelConfig, bytes]:
    """Return what an exported folder says of its network, and its weights.

    Raises:
        AezooError: it is no such folder, or a file of it is damaged or another one.
    """
    if not (folder / CONFIG).is_file():
        raise AezooError(f"{folder} is no folder that `aezoo export` wrote: it has no {CONFIG}")
    config, weights = read(folder / CONFIG, ModelConfig), content_of(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != config.weights_sha256:
        raise AezooError(f"{folder / WEIGHTS} is not the file that was exported: its hash is another")
    return config, weights


def config_of(record: TrialRecord, preprocessing: Preprocessing, label_names: list[str]) -> ModelConfig:
    """Return what a trial's record says of its network, which is kept and has a loss."""
    assert record.weights_sha256 is not None
    assert record.test_mse is not None
    return ModelConfig(
        variant=record.variant, architecture=record.architecture, hyperparameters=record.hyperparameters,
        plugin=record.plugin, image_shape=record.dataset.image_shape, preprocessing=preprocessing,
        dataset=record.dataset, label_names=label_names, recipe=record.recipe, fingerprint=record.fingerprint,
        lr=record.lr, seed=record.seed, trial_id=record.trial_id, environment=record.environment,
        layout=record.layout or "contiguous", num_params=record.num_params or 0, latent_shape=record.latent_shape,
        latent_kind=record.latent_kind, test_mse=record.test_mse, weights_sha256=record.weights_sha256,
    )  # fmt: skip


def find_variant(path: Path, text: str, by_variant: Mapping[str, Sequence[TrialRecord]]) -> str:
    """Return the variant of a run that a text means: in any order, and with defaults left out or not.

    Raises:
        AezooError: there is none.
    """
    if text in by_variant:
        return text
    siblings: list[str] = []
    with contextlib.suppress(AezooError):
        wanted = parse_variant(text)
        given = wanted.settings or {}
        for variant, records in by_variant.items():
            own = parse_variant(variant)
            hyperparameters = records[0].hyperparameters if records else own.settings or {}
            if own.name.lower() != wanted.name.lower():
                continue
            siblings.append(variant)
            if (own.settings or {}).keys() <= given.keys() and all(
                hyperparameters.get(name) == value for name, value in given.items()
            ):
                return variant
    raise AezooError(
        f"no variant {text!r} in {path}; `aezoo table {path}` shows those that are."
        + (f" Did you mean {' or '.join(map(repr, siblings[:3]))}?" if siblings else did_you_mean(text, by_variant))
    )
