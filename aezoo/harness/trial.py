"""What happens inside a process of its own: run one trial, time one variant, or try one before the bench.

Each function loads the one plugin that it needs, so that nothing but names and numbers travels to the process.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aezoo import machine
from aezoo.check.case import Case, is_deterministic, latent_bits, latent_shape, objective
from aezoo.check.suite import Finding, examine, first_failure, sample_images
from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.dataset import SharedImages
from aezoo.contract.executor import Report
from aezoo.contract.network import halves, is_sparse, num_params, to_float
from aezoo.contract.recipe import Precision, Recipe
from aezoo.errors import ContractError, reason_of, traceback_of
from aezoo.machine import Environment, PeakMemory
from aezoo.registry.names import find, find_metric
from aezoo.registry.plugin import Origin
from aezoo.run.records import LatentKind, Preflight, TrialPlan, TrialRecord, now, record_of
from aezoo.run.store import RunDirectory
from aezoo.train.build import Stream, build, check_size, seed_stream
from aezoo.train.engine import Trainer, arithmetic
from aezoo.train.loop import DivergedError, fit, train
from aezoo.train.score import TrainedNetwork, active_units, image_errors

STEPS = 3
"""Steps whose fastest estimates a trial's time."""


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


def preflight(variant: Variant, images_NCHW: Tensor, recipe: Recipe, *, compiled: bool = False) -> Preflight:
    """Build a variant and try it on a batch of real images, uint8, on the device.

    Raises:
        ContractError: it cannot be built or stepped, or what it returns is not what the contract says.
        MemoryError: its parameters alone are more than the memory that is free; nothing was allocated.
    """
    device = images_NCHW.device.type
    channels, height, width = images_NCHW.shape[1:]
    check_size(variant, (channels, height, width), device)
    suite = examine(Case(variant, images_NCHW, recipe), quick=True)
    try:
        # Measured first: what the checks leave in the heap would be counted as no memory at all.
        found = _measure(variant, images_NCHW, recipe, compiled=compiled)
    except Exception as error:
        found_by_suite = None if isinstance(error, MemoryError | torch.OutOfMemoryError) else first_failure(suite)
        if found_by_suite is None or found_by_suite.check == "builds":
            raise
        # The suite names the fault better than what came of it.
        raise ContractError(found_by_suite.told) from error
    failure = first_failure(suite)
    if failure is not None:
        raise ContractError(failure.told)
    deterministic = is_deterministic(variant, images_NCHW, recipe)
    return found.model_copy(update={"deterministic": deterministic})


def _measure(variant: Variant, images_NCHW: Tensor, recipe: Recipe, *, compiled: bool) -> Preflight:
    """Build the network, reconstruct a batch and take a few steps, and say what it is and what it costs."""
    device = images_NCHW.device.type
    memory = PeakMemory(device)
    module = build(variant, images_NCHW, seed=0)
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])
    with torch.no_grad(), arithmetic(recipe.precision, device):
        module.eval()(x_BCHW.clone())
    infer_memory = memory.host(), memory.device()
    shape = latent_shape(module, x_BCHW[:2].clone())
    bits = latent_bits(module, x_BCHW[:2].clone())
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        module(x_BCHW[:1].clone())
    found = Preflight(
        objective=objective(module),
        num_params=num_params(module),
        latent_shape=shape,
        latent_size=None if shape is None else math.prod(shape),
        latent_kind=_latent_kind(module, shape, bits),
        latent_bits=bits,
        deterministic=True,
        exceptions=dict(variant.architecture.exceptions),
        flops_per_image=flops.get_total_flops(),
        closed_form=hasattr(module, "fit"),
        step_seconds=0.0,
        infer_peak_memory_bytes=infer_memory[0],
        infer_peak_device_memory_bytes=infer_memory[1],
    )
    steps = {} if found.closed_form else measure_steps(module, x_BCHW, recipe, compiled=compiled)
    peaks = {"peak_memory_bytes": memory.host(), "peak_device_memory_bytes": memory.device()}
    return found.model_copy(update=steps | peaks)


def _latent_kind(module: nn.Module, shape: tuple[int, ...] | None, bits: float | None) -> LatentKind | None:
    if shape is None:
        return None
    return "discrete" if bits is not None else "sparse" if is_sparse(module) else "continuous"


def measure_steps(module: nn.Module, x_BCHW: Tensor, recipe: Recipe, *, compiled: bool) -> dict[str, float | None]:
    """Take a few steps, and return what they cost, by the names of `Preflight`."""
    trainer = Trainer(module, recipe, compiled=compiled)
    fastest = math.inf
    compile_seconds = trainer.compile(x_BCHW) if compiled else None
    for _ in range(STEPS):
        started = time.perf_counter()
        float(trainer.step(x_BCHW))
        fastest = min(fastest, time.perf_counter() - started)
    return {
        "step_seconds": fastest,
        "compile_seconds": compile_seconds,
        "train_flops_per_image": _train_flops(module, x_BCHW[:2].clone(), recipe),
    }


def _train_flops(module: nn.Module, x_BCHW: Tensor, recipe: Recipe) -> int | None:
    """Count the FLOPs of a step, an image; None where torch's counter does not follow the network."""
    try:
        with FlopCounterMode(display=False) as flops:
            Trainer(module, recipe).backward(x_BCHW)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        # Such a step was taken before, so the fault is the counter's: it cannot see a gradient within the forward pass.
        return None
    return int(flops.get_total_flops()) // len(x_BCHW)
