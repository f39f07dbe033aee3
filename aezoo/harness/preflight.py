"""What happens to a variant before its trials, in a process of its own: the conformance suite, and what it costs."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from aezoo import machine
from aezoo.check.capture import CaptureError, draws_when_captured
from aezoo.check.case import BATCH, Case, is_deterministic, latent_bits, latent_shape, objective, starts_the_same
from aezoo.check.notes import notes_of
from aezoo.check.resume import resumption_fault
from aezoo.check.shares import share_notes
from aezoo.check.suite import Finding, case_images, examine, first_failure, sample_images
from aezoo.contract.adapted import adaptations_of
from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.executor import Report
from aezoo.contract.halves import latent_parts
from aezoo.contract.network import is_closed_form, is_sparse, num_adversary_params, num_params, progress_of, to_float
from aezoo.contract.recipe import Layout, Recipe
from aezoo.contract.shared import resident
from aezoo.errors import ContractError, RefusedError
from aezoo.harness.images import ImageSource, ImagesWork
from aezoo.machine import PeakMemory, is_out_of_memory
from aezoo.registry.discovery import find
from aezoo.registry.plugin import Origin
from aezoo.run.records import LatentKind, PluginSource, Preflight
from aezoo.train.build import build, check_size
from aezoo.train.engine import Trainer, arithmetic
from aezoo.train.graph import GRAPH_STEPS
from aezoo.train.layout import choose_layout, lay_out
from aezoo.train.loop import fit

FILLED = 0.8
"""The share of a device's memory that trainings side by side may take, by what their preflight took."""
STEPS = 2
"""Steps whose fastest estimates a trial's time."""


@dataclass(frozen=True, kw_only=True)
class Try(ImagesWork):
    """Build a variant and step it, without training it; fit a closed form to a batch, or to all if it `fits`.

    `source` and `versions`, of aezoo and torch, are what the bench was called with. Whether it can be resumed from a
    checkpoint is tried where it `resumes`; whether it takes the same steps over several `processes`; and, on an NVIDIA
    device, whether a CUDA graph can take its steps, where it is to be `graphed`.
    """

    variant: str
    origin: Origin
    source: PluginSource
    versions: tuple[str, str]
    recipe: Recipe
    device: str
    compiled: bool
    fits: bool = False
    resumes: bool = False
    processes: int = 1
    graphed: bool = True

    def run(self, report: Report) -> Preflight:  # noqa: ARG002 - its few steps are none of a trial
        """Return what it is and what it costs.

        Raises:
            UnfitError: this machine has other software, or no such device.
            RefusedError: its build function refused, in a line.
            ContractError: it breaks the contract of an architecture.
            MemoryError: it is larger than the memory that is free.
        """
        machine.require_versions(self.versions)
        variant = find(self.variant, self.origin, self.source)
        machine.require_device(self.device, self.recipe.precision)
        train_NCHW, _ = self.images.load()
        return preflight(
            variant, train_NCHW, self.recipe, device=self.device, compiled=self.compiled, fits=self.fits,
            resumes=self.resumes, processes=self.processes, graphed=self.graphed,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Check:
    """Run the whole conformance suite on a variant: on a few images of a set, or on sample images of a shape."""

    variant: str
    origin: Origin
    images: ImageShape | ImageSource

    def run(self, report: Report) -> list[Finding]:  # noqa: ARG002 - it takes no steps
        """Return the suite's findings."""
        images = sample_images(self.images) if isinstance(self.images, tuple) else case_images(self.images.load()[0])
        return list(examine(Case(find(self.variant, self.origin), images)))


def preflight(
    variant: Variant,
    images_NCHW: Tensor,
    recipe: Recipe,
    *,
    device: str = "cpu",
    compiled: bool = False,
    fits: bool = False,
    resumes: bool = False,
    processes: int = 1,
    graphed: bool = False,
) -> Preflight:
    """Build a variant, take what it costs on a batch, and hold it to the contract on images of a set, uint8.

    A closed form is fitted to the whole set where `fits` says so: that takes as long as its trial. Otherwise it is
    fitted to a batch, and its seconds are estimated from that. `resumes` tries whether it can be resumed,
    more than one of `processes` whether it takes the same steps over them, and `graphed` whether a CUDA graph can take
    them.

    Raises:
        ContractError: it cannot be built or stepped, or what it returns is not what the contract says.
        MemoryError: its parameters alone are more than the memory that is free; nothing was allocated.
    """
    channels, height, width = images_NCHW.shape[1:]
    recipe = recipe.change(steps=recipe.num_steps(len(images_NCHW)))
    check_size(variant, (channels, height, width), device)
    examples_NCHW = case_images(images_NCHW).to(device)
    train_NCHW, images_NCHW = images_NCHW, images_NCHW[: recipe.batch_size].to(device)
    suite = examine(Case(variant, examples_NCHW, recipe), quick=True)
    try:
        # Measured first: what the checks leave in the heap would be counted as no memory at all.
        facts = _measure(variant, images_NCHW, examples_NCHW, recipe, compiled=compiled)
    except Exception as error:
        fault = None if is_out_of_memory(error) else first_failure(suite)[0]
        if fault is None or fault.check == "builds":
            raise
        # The suite names the fault better than what came of it.
        raise ContractError(fault.detail) from error
    failure, concerns = first_failure(suite)
    if failure is not None:
        raise (RefusedError if failure.status == "refused" else ContractError)(failure.detail)
    facts = facts.model_copy(
        update={
            "deterministic": is_deterministic(variant, images_NCHW, recipe),
            "notes": [*facts.notes, *concerns],
        }
    )
    if not facts.closed_form:
        notes = share_notes(variant, images_NCHW, recipe, facts.layout, processes) if processes > 1 else []
        forgotten = None
        if resumes:
            forgotten = resumption_fault(variant, images_NCHW, recipe, facts.layout, compiled=compiled)
        if forgotten is not None:
            notes = [*notes, f"cannot be resumed, and runs without checkpoints: {forgotten}"]
        update = {"notes": [*facts.notes, *notes], "resumable": forgotten is None if resumes else None}
        if device == "cuda":
            update |= graph_facts(
                variant, images_NCHW, recipe, facts.layout, compiled=compiled, processes=processes, graphed=graphed
            )
        return facts.model_copy(update=update)
    if processes > 1:
        facts = facts.model_copy(update={"notes": [*facts.notes, "a closed form: it is fitted in one process"]})
    if fits:
        return facts.model_copy(update=_measure_fit(variant, resident(train_NCHW, device), device))
    return facts.model_copy(update={"fit_seconds": _estimate_fit(variant, images_NCHW, len(train_NCHW))})


def graph_facts(
    variant: Variant,
    images_NCHW: Tensor,
    recipe: Recipe,
    layout: Layout,
    *,
    compiled: bool = False,
    processes: int = 1,
    graphed: bool = True,
) -> dict[str, Any]:
    """Return whether a CUDA graph can take the steps of a network, by the names of `Preflight`.

    It is the last thing that a process should do: after a capture that failed, the device's random stream is lost.
    """
    without = [
        reason
        for applies, reason in (
            (not graphed, "none was to be made (--no-graphs)"),
            (compiled, "its steps are compiled"),
            (processes > 1, "it trains in several processes"),
        )
        if applies
    ]
    if without:
        return {"graph_missing": without[0]}
    try:
        draws = draws_when_captured(variant, images_NCHW, recipe, layout)
    except CaptureError as error:
        return {"graph_missing": str(error)}
    return {"graph_steps": GRAPH_STEPS, "room": 1 if draws else _room(images_NCHW.device.type)}


def _room(device: str) -> int:
    """Return how many trainings the device holds side by side, by the most that this process came to hold of it."""
    if device != "cuda":
        return 1
    return max(1, int(torch.cuda.mem_get_info()[1] * FILLED / max(1, torch.cuda.max_memory_reserved())))


def _measure(
    variant: Variant, images_NCHW: Tensor, examples_NCHW: Tensor, recipe: Recipe, *, compiled: bool
) -> Preflight:
    """Build the network, reconstruct a batch and take a few steps, and say what it is and what it costs."""
    device = images_NCHW.device.type
    memory = PeakMemory(device)
    module = build(variant, images_NCHW, seed=0)
    x_BCHW = to_float(images_NCHW[: recipe.batch_size])
    with torch.no_grad(), arithmetic(recipe.precision, device):
        module.eval()(x_BCHW.clone())
    infer_memory = memory.host(), memory.device()
    examples_BCHW = to_float(examples_NCHW[:BATCH])
    shape = latent_shape(module, examples_BCHW)
    bits = latent_bits(module, x_BCHW[:2].clone())
    parts = latent_parts(module, x_BCHW)
    # With gradients: without, torch's counter sees nothing of its transformer layer, and fails on a parameter's view.
    with FlopCounterMode(display=False) as flops:
        module(x_BCHW[:1].clone())
    facts = Preflight(
        objective=objective(module),
        num_params=num_params(module),
        adversary_params=num_adversary_params(module) or None,
        progress=progress_of(module) is not None,
        latent_shape=shape,
        latent_size=None if shape is None else math.prod(shape),
        latent_kind=_latent_kind(module, shape, bits),
        latent_bits=bits,
        latent_parts=parts.shapes if parts is not None else {},
        deterministic=True,
        same_start=starts_the_same(variant, images_NCHW),
        notes=notes_of(module, examples_BCHW),
        exceptions=dict(variant.architecture.exceptions),
        adaptations=adaptations_of(module),
        flops_per_image=flops.get_total_flops(),
        closed_form=is_closed_form(module),
        step_seconds=0.0,
        infer_peak_memory_bytes=infer_memory[0],
        infer_peak_device_memory_bytes=infer_memory[1],
    )
    layout = choose_layout(module, examples_NCHW[:BATCH], recipe)
    module = lay_out(build(variant, images_NCHW, seed=0), layout)
    steps = {} if facts.closed_form else measure_steps(module, x_BCHW, recipe, compiled=compiled)
    peaks = {"peak_memory_bytes": memory.host(), "peak_device_memory_bytes": memory.device()}
    return facts.model_copy(update={"layout": layout} | steps | peaks)


def _measure_fit(variant: Variant, images_NCHW: Tensor, device: str) -> dict[str, float | None]:
    """Fit a closed form as its trial does, and return what that costs, by the names of `Preflight`."""
    memory = PeakMemory(device)
    trained = fit(build(variant, images_NCHW, 0, device), images_NCHW, 0, device)
    return {
        "fit_seconds": trained.seconds,
        "peak_memory_bytes": memory.host(),
        "peak_device_memory_bytes": memory.device(),
    }


def _estimate_fit(variant: Variant, images_NCHW: Tensor, num_train: int) -> float | None:
    """Fit a closed form to a few images, and return the seconds of all, if each takes as long; None where it fails."""
    try:
        seconds = min(fit(build(variant, images_NCHW, seed=0), images_NCHW, seed=0).seconds for _ in range(STEPS))
    except Exception:  # noqa: BLE001 - a plugin may raise anything: so few images may be none that can be fitted
        return None
    return seconds * num_train / len(images_NCHW)


def _latent_kind(module: nn.Module, shape: tuple[int, ...] | None, bits: float | None) -> LatentKind | None:
    if shape is None and bits is None:
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
    """Count the FLOPs of a step, an adversary's too, an image; None where torch's counter follows no such network."""
    try:
        with FlopCounterMode(display=False) as flops:
            trainer = Trainer(module, recipe)
            trainer.backward(x_BCHW)
            trainer.adversary_backward(x_BCHW)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        # Such a step was taken before, so the fault is the counter's: it cannot see a gradient within the forward pass.
        return None
    return int(flops.get_total_flops()) // len(x_BCHW)
