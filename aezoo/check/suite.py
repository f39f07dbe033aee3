"""The conformance suite: one for the preflight of a bench, `aezoo check`, and authors' own tests.

A check that needs another one is skipped where that one failed, so that one fault is told once.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aezoo.check import checks
from aezoo.check.case import BATCH, Case, SkipCheck
from aezoo.contract.architecture import Architecture, ImageShape, Variant
from aezoo.errors import RefusedError, reason_of

IMAGE_SHAPES = ((1, 28, 28), (3, 32, 32), (1, 27, 19))
"""What an architecture is checked on, (channels, height, width): grey, colour, and a size that nothing divides."""
Status = Literal["ok", "failed", "excepted", "refused", "skipped", "note"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of the suite.

    Args:
        name: What an author's `exceptions` call it.
        summary: What it holds an architecture to, in a line.
        function: Takes a case; returns what is worth knowing.
        needs: The checks without which this one would tell their faults again.
        quick: Whether the preflight of a bench runs it too.
        informative: Whether it says what is so, and never fails.
    """

    name: str
    summary: str
    function: Callable[[Case], str | None]
    needs: tuple[str, ...] = ()
    quick: bool = True
    informative: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How a check came out for one variant and image shape; `told` says why, or what is worth knowing."""

    check: str
    variant: str
    image_shape: ImageShape
    status: Status
    told: str = ""


CHECKS = (
    Check(name="builds", summary="builds, and names its objective", function=checks.check_builds),
    Check(
        name="output", summary="(B, C, H, W) in and out, float32, finite, any batch size", function=checks.check_output
    ),
    Check(name="training", summary="a pass as in training gives reconstructions too", function=checks.check_training),
    Check(name="input", summary="leaves its input untouched", function=checks.check_input),
    Check(name="evaluation", summary="evaluation is repeatable", function=checks.check_evaluation, needs=("input",)),
    Check(
        name="batch",
        summary="an image's reconstruction does not depend on its batch",
        function=checks.check_batch,
        needs=("input", "evaluation"),
    ),
    Check(name="latent", summary="the latent has the declared size", function=checks.check_latent),
    Check(
        name="halves",
        summary="decode(encode(x)) is forward(x)",
        function=checks.check_halves,
        needs=("input", "evaluation"),
    ),
    Check(
        name="bottleneck",
        summary="the output depends on the input only through the latent",
        function=checks.check_bottleneck,
        needs=("input", "evaluation", "halves"),
    ),
    Check(
        name="codes",
        summary="of a discrete latent, the codes tell all",
        function=checks.check_codes,
        needs=("input", "evaluation", "latent", "halves"),
    ),
    Check(name="penalty", summary="the penalty is a finite scalar with a gradient", function=checks.check_penalty),
    Check(
        name="objective", summary="objective says what is optimised", function=checks.check_objective, needs=("input",)
    ),
    Check(
        name="gradients",
        summary="every trained parameter gets a gradient",
        function=checks.check_gradients,
        needs=("input", "penalty"),
    ),
    Check(
        name="learns",
        summary="a few steps lower the loss",
        function=checks.check_learns,
        needs=("input", "penalty", "gradients", "evaluation"),
        quick=False,
    ),
    Check(
        name="seeds",
        summary="equal seeds give equal weights",
        function=checks.check_seeds,
        needs=("input", "penalty", "gradients", "evaluation"),
        quick=False,
    ),
    Check(
        name="state_dict",
        summary="weights survive safetensors",
        function=checks.check_state_dict,
        needs=("input", "penalty", "gradients", "evaluation", "seeds"),
        quick=False,
    ),
    Check(
        name="device",
        summary="moves to another device whole",
        function=checks.check_device,
        needs=("penalty",),
        quick=False,
    ),
    Check(
        name="cuda_graph",
        summary="can be captured in a CUDA graph",
        function=checks.check_cuda_graph,
        needs=("device",),
        quick=False,
        informative=True,
    ),
    Check(
        name="stacked_seeds",
        summary="several seeds can run stacked",
        function=checks.check_stacked_seeds,
        quick=False,
        informative=True,
    ),
)


def sample_images(image_shape: ImageShape, count: int = 2 * BATCH, seed: int = 0) -> Tensor:
    """Return images of a few soft spots on black, uint8 (N, C, H, W): something that a network can learn at once."""
    channels, height, width = image_shape
    random = np.random.RandomState(seed)
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    images = np.zeros((count, channels, height, width))
    for image in images:
        for _ in range(3):
            y, x, size = random.rand() * height, random.rand() * width, max(1.0, min(height, width) / 6)
            spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * size**2))
            image[:] += random.rand(channels, 1, 1) * spot
    return torch.from_numpy(np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8))


def case_images(images_NCHW: Tensor, count: int = BATCH) -> Tensor:
    """Choose images of a set, uint8 (N, C, H, W), for a case: spread over it, distinct and not blank where it has such.

    The same set gives the same images. Where fewer than two can be told apart, sample images take their place: a check
    speaks of the network.
    """
    places = torch.linspace(0, len(images_NCHW) - 1, min(len(images_NCHW), 32 * count)).long()
    candidates = images_NCHW[places].cpu().contiguous()
    distinct: dict[bytes, Tensor] = {}
    for image in candidates:
        if int(image.min()) < int(image.max()):
            distinct.setdefault(image.numpy().tobytes(), image)
    chosen = list(distinct.values())
    if len(chosen) < 2:
        channels, height, width = images_NCHW.shape[1:]
        return sample_images((channels, height, width))
    spread = np.linspace(0, len(chosen) - 1, min(len(chosen), count)).round().astype(int)
    return torch.stack([chosen[place] for place in spread])


def examine(case: Case, *, quick: bool = False) -> Iterator[Finding]:
    """Run the suite, or its quick part, and yield a finding a check; none of them raises what is the plugin's fault."""
    excepted = case.variant.architecture.exceptions
    failed: set[str] = set()
    for check in CHECKS:
        if quick and not check.quick:
            continue
        status, told = _run(check, case, failed)
        if status == "failed" and check.name in excepted:
            status, told = "excepted", f"{excepted[check.name]} ({told})"
        elif status == "ok" and check.name in excepted:
            told = "declared as an exception, but met: the declaration may go"
        if status in ("failed", "refused"):
            failed.add(check.name)
        channels, height, width = case.images_NCHW.shape[1:]
        yield Finding(
            check=check.name, variant=case.variant.text, image_shape=(channels, height, width), status=status, told=told
        )


def _run(check: Check, case: Case, failed: set[str]) -> tuple[Status, str]:
    missing = [name for name in ("builds", "output", "training", *check.needs) if name in failed and name != check.name]
    if missing:
        return "skipped", f"needs {missing[0]!r}"
    try:
        told = check.function(case) or ""
    except SkipCheck as skip:
        return "skipped", str(skip)
    except RefusedError as error:
        return "refused", str(error)
    except Exception as error:
        if check.informative:
            return "note", f"no: {reason_of(error)}"
        # What the device lacks is no fault of the architecture.
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            raise
        return "failed", reason_of(error)
    return ("note" if check.informative else "ok"), told


def variants_of(architecture: Architecture, label: str | None = None) -> list[Variant]:
    """Return the variant with the defaults, where there are defaults for all, and the declared ones, each once."""
    known = architecture.hyperparameters.values()
    chosen = [*([] if any(one.required for one in known) else [{}]), *architecture.variants]
    variants = [
        Variant(architecture=architecture, hyperparameters=architecture.check(one), label=label or architecture.name)
        for one in chosen
    ]
    return list({variant.text: variant for variant in variants}.values())


def first_failure(findings: Iterable[Finding]) -> Finding | None:
    """Return the first finding that failed, or that refused to build; no check after it runs."""
    return next((finding for finding in findings if finding.status in ("failed", "refused")), None)
