"""For authors' own tests: the conformance suite that `aezoo check` and the preflight of a bench run.

import aezoo.testing

class TestTiny(aezoo.testing.ArchitectureTests):
    architecture = "tiny"
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from aezoo.check.case import Case
from aezoo.check.suite import IMAGE_SHAPES, Finding, examine, failures, sample_images, variants_of
from aezoo.contract.architecture import Architecture, ImageShape, Variant
from aezoo.errors import ContractError
from aezoo.registry.discovery import discover

if TYPE_CHECKING:
    import pytest

__all__ = ["IMAGE_SHAPES", "ArchitectureTests", "Finding", "check_architecture"]


def check_architecture(
    architecture: Architecture | str,
    *,
    image_shapes: Sequence[ImageShape] = IMAGE_SHAPES,
) -> list[Finding]:
    """Check an architecture, or an installed one by name, in this process, and return the findings.

    It is checked with its defaults and with its declared variants, on images of each shape, (channels, height, width).
    It may refuse some of the shapes with an `aezoo.AezooError`, but not all.

    Raises:
        ContractError: checks failed; a line for each.
    """
    findings = [
        finding
        for variant in _variants(architecture)
        for image_shape in image_shapes
        for finding in examine(Case(variant, sample_images(image_shape)))
    ]
    _raise_all(findings)
    return findings


class ArchitectureTests:
    """Subclass it in a test file, as ``class TestTiny(ArchitectureTests)``, and pytest runs the suite.

    Set `architecture`, the object or the name of an installed one; `image_shapes` where the default ones do not suit.
    """

    architecture: Architecture | str
    image_shapes: Sequence[ImageShape] = IMAGE_SHAPES

    @classmethod
    def pytest_generate_tests(cls, metafunc: "pytest.Metafunc") -> None:
        """Make a test of each variant on each image shape."""
        variants = _variants(cls.architecture)
        metafunc.parametrize("variant", variants, ids=[variant.text for variant in variants])
        metafunc.parametrize("image_shape", cls.image_shapes, ids=["x".join(map(str, s)) for s in cls.image_shapes])

    def test_contract(self, variant: Variant, image_shape: ImageShape) -> None:
        """Every check of the suite is met, or declared as an exception."""
        findings = list(examine(Case(variant, sample_images(image_shape))))
        if any(finding.status == "refused" for finding in findings):
            # That is no failure where it takes another shape.
            others = [shape for shape in self.image_shapes if shape != image_shape]
            findings += [finding for shape in others for finding in examine(Case(variant, sample_images(shape)))]
        _raise_all(findings, image_shape)


def _variants(architecture: Architecture | str) -> list[Variant]:
    if isinstance(architecture, Architecture):
        return variants_of(architecture)
    label = discover().resolve(f"{architecture}[]").label
    return variants_of(discover().architectures[label][0], label)


def _raise_all(findings: Iterable[Finding], image_shape: ImageShape | None = None) -> None:
    """Raise ContractError with a line for each failure, of one image shape where it is given."""
    lines = [
        f"{finding.check}: {finding.variant} on {'x'.join(map(str, finding.image_shape))}: {finding.detail}"
        for finding in failures(findings)
        if image_shape in (None, finding.image_shape)
    ]
    if lines:
        raise ContractError("\n".join(lines))
