"""`aezoo check`: run the conformance suite, a process for each variant and image shape, and make a card of it."""

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from aezoo.check.card import Card
from aezoo.check.suite import IMAGE_SHAPES, Finding, variants_of
from aezoo.contract.architecture import ImageShape, Variant
from aezoo.contract.executor import Task
from aezoo.contract.images import Images, share
from aezoo.contract.shared import SharedImages
from aezoo.harness.local import run_tasks
from aezoo.harness.preflight import Check
from aezoo.machine import default_jobs
from aezoo.registry.names import Registry

TIMEOUT = 300.0
"""Seconds for the suite on one variant and image shape."""


def check(
    texts: Iterable[str],
    registry: Registry,
    *,
    image_shapes: Sequence[ImageShape] = IMAGE_SHAPES,
    images: Images | None = None,
) -> list[Card]:
    """Check architectures, patterns, variants, or all that a distribution contributes; a card an architecture.

    Args:
        texts: What to check.
        registry: Where it is found.
        image_shapes: (channels, height, width); sample images are made for each.
        images: A data set's, in the place of sample images.

    Raises:
        AezooError: nothing is called so.
    """
    chosen = {variant.text: variant for text in texts for variant in _chosen(text, registry)}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aezoo-")))
        sources: dict[ImageShape, ImageShape | SharedImages] = {shape: shape for shape in image_shapes}
        if images is not None:
            sources = {images.shape: stack.enter_context(share(images))}
        tasks = {
            f"{number}": (variant, shape)
            for number, (variant, shape) in enumerate(
                (variant, shape) for variant in chosen.values() for shape in sources
            )
        }
        outcomes = run_tasks(
            [
                Task(
                    id=task_id,
                    work=Check(variant=variant.text, origin=registry.plugin(variant).origin, images=sources[shape]),
                    output=folder / task_id / "output.txt", timeout=TIMEOUT,
                )
                for task_id, (variant, shape) in tasks.items()
            ],
            default_jobs("cpu"),
        )  # fmt: skip
        ended = {outcome.task.id: outcome for outcome in outcomes}
    findings: dict[str, list[Finding]] = {}
    for task_id, (variant, shape) in tasks.items():
        outcome = ended[task_id]
        dead = Finding(
            check="process", variant=variant.text, image_shape=shape, status="failed",
            detail=f"{outcome.status}: {outcome.reason}",
        )  # fmt: skip
        findings.setdefault(variant.label, []).extend(outcome.value if outcome.status == "ok" else [dead])
    return [
        Card(
            architecture=label,
            summary=registry.architectures[label][0].summary,
            plugin=registry.architectures[label][1].source,
            findings=some,
        )
        for label, some in findings.items()
    ]


def _chosen(text: str, registry: Registry) -> list[Variant]:
    """Return the variants that a text stands for: also the defaults, and all of a distribution's."""
    of_distribution = [label for label, (_, plugin) in registry.architectures.items() if plugin.distribution == text]
    named = [label for label in registry.architectures if label == text]
    if labels := named or of_distribution:
        return [variant for label in labels for variant in variants_of(registry.architectures[label][0], label)]
    selected = registry.select([text])
    if "[" in text:
        return selected
    # Also what declares no variants: it is checked with its defaults.
    labels = list(dict.fromkeys([*(variant.label for variant in selected), *registry.undeclared([text])]))
    return [variant for label in labels for variant in variants_of(registry.architectures[label][0], label)]
