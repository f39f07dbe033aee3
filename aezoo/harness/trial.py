"""What happens inside a process of its own: run one trial, time one variant, or try one before the bench.

Each function loads the one plugin that it needs, so that nothing but names and numbers travels to the process.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aezoo import machine
from aezoo.check.case import Case, build
from aezoo.check.suite import Finding, examine, sample_images
from aezoo.contract.architecture import ImageShape
from aezoo.contract.data import SharedImages
from aezoo.contract.network import halves, is_sparse, num_params
from aezoo.contract.recipe import Precision, Recipe
from aezoo.errors import ContractError, reason_of, traceback_of
from aezoo.harness.preflight import preflight
from aezoo.registry.names import find, find_metric
from aezoo.registry.plugin import Origin
from aezoo.run.records import Environment, Preflight, TrialPlan, TrialRecord
from aezoo.run.store import RunDirectory
from aezoo.train.evaluation import TrainedNetwork
from aezoo.train.loop import DivergedError, Stream, fit, seed_stream, train
from aezoo.train.measurement import (
    PeakMemory,
    active_units,
    image_errors,
    infer_images_per_s,
    matmul_flops_per_s,
    train_images_per_s,
)

Report = Callable[[int], None]
_OF_A_FEW_STEPS = {
    "closed_form", "step_seconds", "compile_seconds", "peak_memory_bytes", "peak_device_memory_bytes",
}  # fmt: skip


def run_trial(
    plan: TrialPlan,
    origin: Origin,
    metrics: Mapping[str, Origin],
    known: Preflight | None,
    images: SharedImages,
    run: Path,
    env: Environment,
    on_step: Report,
) -> TrialRecord:
    """Train and score one variant from one seed, and write its record, whatever became of it."""
    started_at = now()

    def write(found: dict[str, Any]) -> TrialRecord:
        record = record_of(plan, known, env, started_at, **{"status": "ok", **found})
        RunDirectory(run).write_record(record)
        return record

    try:
        found = _train_and_score(plan, origin, metrics, images, run, on_step, on_scored=write)
    except KeyboardInterrupt:
        raise
    except ContractError as error:
        found = {"status": "invalid", "reason": str(error)}
    except DivergedError as error:
        found = {"status": "diverged", "reason": str(error)}
    except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
        status = "out_of_memory" if machine.is_out_of_memory(error) else "error"
        found = {"status": status, "reason": reason_of(error), "traceback": traceback_of(error)}
    return write(found)


def _train_and_score(
    plan: TrialPlan,
    origin: Origin,
    metrics: Mapping[str, Origin],
    images: SharedImages,
    run: Path,
    on_step: Report,
    on_scored: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    train_NCHW, test_NCHW = (pixels.to(plan.device) for pixels in images.load())
    variant = find(plan.variant, origin, plan.plugin)
    memory = PeakMemory(plan.device)
    module = build(variant, train_NCHW, plan.seed)
    if hasattr(module, "fit"):
        trained = fit(module, train_NCHW, plan.seed)
    else:
        trained = train(module, train_NCHW, plan.recipe, plan.seed, on_step, compiled=plan.compiled)
    seed_stream(plan.seed, Stream.EVALUATION)
    test_errors = image_errors(module, test_NCHW, plan.recipe.precision)
    train_errors = image_errors(module, train_NCHW, plan.recipe.precision)
    for part, errors in (("test", test_errors), ("training", train_errors)):
        if not torch.isfinite(errors).all():
            raise DivergedError(f"the trained network's reconstructions of the {part} images are not finite")
    peaks = {"peak_memory_bytes": memory.host(), "peak_device_memory_bytes": memory.device()}
    found: dict[str, Any] = {
        "num_params": num_params(module),
        "active_units": _active_units(module, test_NCHW, plan.recipe.precision),
        "test_mse": float(test_errors.mean()),
        "test_errors_sha256": RunDirectory(run).write_test_errors(plan.trial_id, test_errors.numpy()),
        "train_mse": float(train_errors.mean()),
        "curve": trained.curve,
        "train_seconds": trained.seconds,
        "compile_seconds": trained.compile_seconds,
        **peaks,
    }
    labels = images.load_labels() if metrics else None
    trained_network = TrainedNetwork(
        module=module,
        device=plan.device,
        precision=plan.recipe.precision,
        images={"train": train_NCHW, "test": test_NCHW},
        known_labels={"train": labels[0], "test": labels[1]} if labels else {},
    )
    # Their plugins' code comes last, when all else is known and written: it may end this process.
    if metrics:
        on_scored(found | {"metric_errors": dict.fromkeys(metrics, "the trial's process ended before it was computed")})
    return found | _compute(metrics, trained_network, plan.seed)


def _active_units(module: nn.Module, images_NCHW: Tensor, precision: Precision) -> float | None:
    """Count the active units of a sparse latent; None for another one."""
    found = halves(module)
    return active_units(found[0], images_NCHW, precision) if found and is_sparse(module) else None


def _compute(metrics: Mapping[str, Origin], network: TrainedNetwork, seed: int) -> dict[str, dict[str, Any]]:
    """Compute each metric, or say why it is missing; none of them can harm the trial or another one."""
    found: dict[str, float] = {}
    missing: dict[str, str] = {}
    for name, origin in metrics.items():
        seed_stream(seed, Stream.EVALUATION)
        try:
            value = float(find_metric(name, origin).compute(network))
            if not math.isfinite(value):
                raise ContractError(f"it came to {value}, which is no finite number")
            found[name] = value
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            missing[name] = reason_of(error)
    return {"metrics": found, "metric_errors": missing}


def try_variant(
    variant: str,
    origin: Origin,
    recipe: Recipe,
    images: SharedImages,
    device: str,
    compiled: bool,
    on_step: Report,  # noqa: ARG001
) -> Preflight:
    """Build a variant and step it, without training it.

    Raises:
        ContractError: it breaks the contract of an architecture.
        MemoryError: it is larger than the memory that is free.
    """
    train_NCHW, _ = images.load()
    pixels = train_NCHW[: recipe.batch_size].to(device)
    return preflight(find(variant, origin), pixels, recipe, compiled=compiled)


def check_variant(
    variant: str,
    origin: Origin,
    image_shape: ImageShape,
    on_step: Report,  # noqa: ARG001
) -> list[Finding]:
    """Run the whole conformance suite on a variant."""
    return list(examine(Case(find(variant, origin), sample_images(image_shape))))


def time_variant(
    plan: TrialPlan,
    origin: Origin,
    images: SharedImages,
    seconds: float,
    on_step: Report,  # noqa: ARG001
) -> tuple[float | None, float]:
    """Measure one round of a variant's throughput: training (None where it has none) and inference, images/s."""
    train_NCHW, _ = images.load()
    pixels = train_NCHW[: plan.recipe.batch_size].to(plan.device)
    module = build(find(plan.variant, origin, plan.plugin), pixels, plan.seed)
    given = (module, pixels, plan.recipe, seconds, plan.device)
    training = None if hasattr(module, "fit") else train_images_per_s(*given, compiled=plan.compiled)
    return training, infer_images_per_s(*given, compiled=plan.compiled)


def time_matmul(
    precision: Precision,
    device: str,
    seconds: float,
    on_step: Report,  # noqa: ARG001
) -> float:
    """Measure one round of what the device can do at most: FLOPs a second."""
    return matmul_flops_per_s(precision, seconds, device)


def record_of(plan: TrialPlan, known: Preflight | None, env: Environment, started_at: str, **found: Any) -> TrialRecord:
    """Return the record of a trial that ended: its plan, what the preflight knew, and what was found."""
    facts = {} if known is None else known.model_dump(exclude=_OF_A_FEW_STEPS)
    return TrialRecord(
        **{**plan.model_dump(), **facts, **found},
        environment=env,
        started_at=started_at,
        finished_at=now(),
    )


def now() -> str:
    """Return the time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
