"""For authors' own tests: the conformance suite that `aezoo check` and the preflight of a bench run.

import aezoo.testing

class TestTiny(aezoo.testing.ArchitectureTests):
    architecture = "tiny"
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from aezoo.check.case import Case
from aezoo.check.suite import IMAGE_SHAPES, Finding, examine, sample_images, variants_of
from aezoo.contract.architecture import Architecture, ImageShape, Variant
from aezoo.errors import ContractError
from aezoo.registry.names import discover

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
    It may refuse other shapes than the first with an `aezoo.AezooError`.

    Raises:
        ContractError: checks failed; a line for each.
    """
    found = [
        finding
        for variant in _variants(architecture)
        for image_shape in image_shapes
        for finding in examine(Case(variant, sample_images(image_shape)))
    ]
    _raise_all(found, image_shapes[0])
    return found


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
        _raise_all(examine(Case(variant, sample_images(image_shape))), self.image_shapes[0])


def _variants(architecture: Architecture | str) -> list[Variant]:
    if isinstance(architecture, Architecture):
        return variants_of(architecture)
    label = discover().resolve(f"{architecture}[]").label
    return variants_of(discover().architectures[label][0], label)


def _raise_all(findings: Iterable[Finding], first: ImageShape) -> None:
    failed = [
        f"{one.check}: {one.variant} on {'x'.join(map(str, one.image_shape))}: {one.told}"
        for one in findings
        if one.status == "failed" or (one.status == "refused" and one.image_shape == first)
    ]
    if failed:
        raise ContractError("\n".join(failed))
