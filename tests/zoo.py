"""What the tests of the whole zoo go over."""

from aezoo.contract.architecture import Architecture
from aezoo.registry.discovery import discover

REFUSED = "unet"
"""It is there to be refused, whatever it is built with."""
FOREIGN = ("diffusers", "monai", "pythae")
"""Networks of packages that may be absent: tests/test_foreign.py has them."""
FILES = ("jpeg", "webp")
"""Their codes differ in length, so that they have no latent of one size."""

ARCHITECTURES: dict[str, Architecture] = {
    label: architecture
    for label, (architecture, owner) in sorted(discover().architectures.items())
    if owner.distribution == "aezoo" and label not in (REFUSED, *FOREIGN)
}
VARIANTS = list(
    dict.fromkeys(
        variant.text for variant in discover().select([*ARCHITECTURES, *(f"{name}[]" for name in ARCHITECTURES)])
    )
)
"""All that are declared, and each architecture with its defaults, declared or benched by name only."""
