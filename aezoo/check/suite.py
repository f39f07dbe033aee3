"""The conformance suite: one for the preflight of a bench, `aezoo check`, and authors' own tests.

A check that needs another one is skipped where that one failed, so that one fault is told once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aezoo.check import checks, checks_of_latent, checks_of_training  # noqa: F401 - importing them fills the suite
from aezoo.check.case import BATCH, CHECKS, Case, Check, SkipCheck, raised_at
from aezoo.contract.architecture import Architecture, ImageShape, Variant
from aezoo.contract.shared import some
from aezoo.errors import ConcernError, RefusedError, reason_of
from aezoo.machine import is_out_of_memory

IMAGE_SHAPES = ((1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 27, 19))
"""What an architecture is checked on, (channels, height, width): grey, colour, larger, and what nothing divides."""
Status = Literal["ok", "failed", "excepted", "refused", "skipped", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How a check came out for one variant and image shape; `detail` says why, or what is worth knowing.

    What failed and is `comparable` is a matter for the author: a bench goes on, and says so.
    """

    check: str
    variant: str
    image_shape: ImageShape
    status: Status
    detail: str = ""
    comparable: bool = False


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
    candidates = some(images_NCHW, places.tolist()).cpu().contiguous()
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
        status, detail, comparable = _run(check, case, failed)
        if status == "failed" and check.name in excepted:
            status, detail = "excepted", f"{excepted[check.name]} ({detail})"
        elif status == "ok" and check.name in excepted:
            detail = "declared as an exception, but met: the declaration may go"
        if status in ("failed", "refused") and not comparable:
            failed.add(check.name)
        channels, height, width = case.images_NCHW.shape[1:]
        yield Finding(
            check=check.name,
            variant=case.variant.text,
            image_shape=(channels, height, width),
            status=status,
            detail=detail,
            comparable=comparable and status == "failed",
        )


def _run(check: Check, case: Case, failed: set[str]) -> tuple[Status, str, bool]:
    missing = [name for name in ("builds", "output", "training", *check.needs) if name in failed and name != check.name]
    if missing:
        return "skipped", f"needs {missing[0]!r}", False
    try:
        detail = check.function(case) or ""
    except SkipCheck as skip:
        return "skipped", str(skip), False
    except RefusedError as error:
        return "refused", str(error), False
    except Exception as error:
        if check.informative:
            return "note", f"no: {reason_of(error)}", False
        # What the device lacks is no fault of the architecture.
        if is_out_of_memory(error):
            raise
        return "failed", f"{reason_of(error)}{raised_at(error)}", isinstance(error, ConcernError)
    return ("note" if check.informative else "ok"), detail, False


def variants_of(architecture: Architecture, label: str | None = None) -> list[Variant]:
    """Return the variant with the defaults, where there are defaults for all, and the declared ones, each once."""
    hyperparameters = architecture.hyperparameters.values()
    chosen = [
        *([] if any(hyperparameter.required for hyperparameter in hyperparameters) else [{}]),
        *architecture.variants,
    ]
    variants = [
        Variant(
            architecture=architecture, hyperparameters=architecture.check(settings), label=label or architecture.name
        )
        for settings in chosen
    ]
    return list({variant.text: variant for variant in variants}.values())


def failures(findings: Iterable[Finding]) -> list[Finding]:
    """Return the checks that failed, and what was refused on every image shape that its variant was tried on."""
    findings = list(findings)
    met = {(finding.variant, finding.image_shape) for finding in findings}
    refused = {(finding.variant, finding.image_shape) for finding in findings if finding.status == "refused"}
    taken = {variant for variant, _ in met - refused}
    return [
        finding
        for finding in findings
        if finding.status == "failed" or (finding.status == "refused" and finding.variant not in taken)
    ]


def first_failure(findings: Iterable[Finding]) -> tuple[Finding | None, list[str]]:
    """Return the first finding that failed, or that refused to build, and no check after it runs.

    What failed before it, and keeps no row from being compared, is told beside it, a line each.
    """
    concerns = []
    for finding in findings:
        if finding.comparable:
            concerns.append(finding.detail)
        elif finding.status in ("failed", "refused"):
            return finding, concerns
    return None, concerns
