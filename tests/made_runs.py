"""Runs that are written, not trained: as many variants as wanted, of any names, in a moment."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aezoo.contract.recipe import Recipe, fingerprint
from aezoo.machine import Environment
from aezoo.run.records import DatasetInfo, PluginSource, RunInfo, Timing, TrialRecord
from aezoo.run.samples import Choice, Samples, TestImages, pack_samples
from aezoo.run.store import SAMPLES, TEST_ERRORS, RunDirectory, pack_test_errors

AT = "2026-11-27T10:00:00+00:00"
NUM_TEST = 60
ENVIRONMENT = Environment(
    aezoo="0.2.0", python="3.11.7", torch="2.14.1", platform="Linux", device="cpu", device_name="A Made CPU", threads=1
)
SOURCE = PluginSource(name="made", distribution="made", version="1", source_sha256="0" * 64)
CHOICE = Choice(
    images=tuple(range(16)), reasons=tuple(f"label {n}" for n in range(10)) + ("easiest for PCA",) * 6,
    pair=(0, 1), latents=tuple(range(50)),
)  # fmt: skip


def variant(name: str, *, loss: float = 0.02, group: int = 16, **facts: Any) -> dict[str, Any]:
    """Return what a made run has of a variant; `facts` go into its records."""
    return {"name": name, "loss": loss, "group": group, **facts}


def several(count: int) -> list[dict[str, Any]]:
    """Return so many variants in three groups, PCA among them."""
    some = [
        variant(f"net{n}[latent_dim={8 << n % 3}]", loss=0.01 + 0.0004 * n, group=8 << n % 3) for n in range(count - 3)
    ]
    pca = [
        variant(f"pca[latent_dim={k}]", loss=0.03 / (k / 8), group=k, baseline="pca", objective="mse, closed form")
        for k in (8, 16, 32)
    ]
    return [*some, *pca]


def make_run(
    path: Path,
    variants: Sequence[dict[str, Any]],
    *,
    seeds: int = 2,
    shape: tuple[int, int, int] = (1, 12, 12),
    labels: bool = True,
    samples: bool = True,
    timed: bool = True,
    dataset: str = "made",
    missing: int = 0,
    pixels: str = "1" * 64,
    batch_size: int = 32,
    recipe: Recipe | None = None,
) -> RunDirectory:
    """Write a run of these variants; of the last `missing` of them no trial has run."""
    rng = np.random.default_rng(0)
    recipe = recipe or Recipe(name="made", dataset=dataset, seeds=seeds, steps=200, batch_size=batch_size)
    data = DatasetInfo(name=dataset, sha256=pixels, image_shape=shape, num_train=400, num_test=NUM_TEST)
    settings = recipe.loss_settings(num_train=400, dataset_sha256=data.sha256)
    info = RunInfo(
        recipe=recipe,
        fingerprint=fingerprint(settings),
        loss_settings=settings,
        dataset=data,
        device="cpu",
        created_at=AT,
    )
    run = RunDirectory(path)
    ids = {each["name"]: [f"t{number}-s{seed}" for seed in range(seeds)] for number, each in enumerate(variants)}
    run.request(info, ids)
    images = rng.integers(0, 256, (NUM_TEST, *shape), dtype=np.uint8)
    if samples:  # else an aezoo of before made it
        kept = {place: images[place] for place in range(40)}
        run.write_images(
            TestImages(choice=CHOICE, pixels=kept, labels={n: n % 10 for n in range(50)} if labels else {})
        )
    base = rng.uniform(0.5, 1.5, NUM_TEST)
    for number, each in enumerate(variants[: len(variants) - missing]):
        facts = {name: value for name, value in each.items() if name not in ("name", "loss", "group")}
        for seed in range(seeds):
            record, files = _trial(each, facts, ids[each["name"]][seed], seed, info, base, rng, samples=samples)
            run.write_trial(record, files)
        if timed and facts.get("status", "ok") == "ok":
            speeds = [1000.0 * (1 + number % 7) * (1 + 0.01 * k) for k in range(3)]
            run.write_timing(
                record,
                Timing(
                    variant=each["name"], environment=ENVIRONMENT, batch_size=32, precision="float32",
                    train_images_per_s=speeds, infer_images_per_s=[3 * speed for speed in speeds], measured_at=AT,
                ),
            )  # fmt: skip
    return run


def _trial(
    each: dict[str, Any],
    facts: dict[str, Any],
    trial_id: str,
    seed: int,
    info: RunInfo,
    base: Any,
    rng: Any,
    *,
    samples: bool,
) -> tuple[TrialRecord, dict[str, bytes]]:
    plan = {
        "trial_id": trial_id, "architecture": "made", "variant": each["name"], "hyperparameters": {}, "plugin": SOURCE,
        "recipe": info.recipe, "fingerprint": info.fingerprint, "dataset": info.dataset, "seed": seed, "device": "cpu",
        "threads": 1, "environment": ENVIRONMENT, "started_at": AT, "finished_at": AT,
    }  # fmt: skip
    if facts.get("status", "ok") != "ok":
        return TrialRecord(**{**plan, **facts}), {}
    errors = each["loss"] * base * rng.lognormal(0.02 * seed, 0.2, NUM_TEST)
    files = {TEST_ERRORS: pack_test_errors(errors)}
    if samples:
        files[SAMPLES] = pack_samples(
            Samples(
                choice=CHOICE,
                reconstructions=rng.integers(0, 256, (16, *info.dataset.image_shape), dtype=np.uint8),
                latents=rng.uniform(-1, 1, (50, 2)).astype(np.float16), scale=3.0, explained=(0.4, 0.2),
                interpolation=rng.integers(0, 256, (8, *info.dataset.image_shape), dtype=np.uint8),
                activity=rng.uniform(0, 1, 20).astype(np.float16) if facts.get("latent_kind") == "sparse" else None,
                usage=rng.integers(0, 9, 64) if facts.get("latent_kind") == "discrete" else None,
            )
        )  # fmt: skip
    known = {
        "status": "ok", "objective": "mse", "test_mse": float(errors.mean()), "train_mse": float(errors.mean()),
        "curve": [(50 * k, each["loss"] * (1 + 4 / k)) for k in range(1, 5)], "train_seconds": 2.0,
        "num_params": 1000 + 13 * len(trial_id) * each["group"], "latent_shape": (each["group"],),
        "latent_size": each["group"], "latent_kind": "continuous",
    }  # fmt: skip
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    known |= {"test_errors_sha256": hashes[TEST_ERRORS], "samples_sha256": hashes.get(SAMPLES)}
    return TrialRecord(**{**plan, **known, **facts}), files
