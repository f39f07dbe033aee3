"""Transform coding: principal components, each rounded to as many levels as its variance is worth."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, float_chunks
from aezoo_plugins.fitting import lloyd, spaced
from aezoo_plugins.principal import mean_of, principal_axes

LEFT = (1.0, 0.3634, 0.1175, 0.03454, 0.009497, 0.002499, 0.0006442, 0.0001638, 0.0000412)
"""What 0, 1, 2 and so on bits leave of a Gaussian's variance (Max 1960, table I; from 6 bits on by computation)."""
MOST_BITS = len(LEFT) - 1
COMPONENTS = 128
"""Among which bits are allocated, at the most."""
FITTED = 2**14
"""Training images to whose coefficients levels are fitted, at the most: 64 a level."""


class QuantisedPCA(aezoo.Autoencoder):
    """Tell an image by the number of the level that is nearest to each of its principal components.

    Args:
        image_shape: (channels, height, width).
        bits: Of an image.
    """

    objective = "mse, closed form"

    def __init__(self, image_shape: aezoo.ImageShape, bits: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        pixels = image_shape[0] * image_shape[1] * image_shape[2]
        count = min(COMPONENTS, pixels)
        if not 1 <= bits <= MOST_BITS * count:
            raise aezoo.AezooError(f"bits must be 1 to {MOST_BITS * count} for these images, but is {bits}")
        even = torch.arange(count).lt(bits % count) + bits // count
        self.register_buffer("allocation", even)
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.axes = nn.Parameter(torch.eye(count, pixels), requires_grad=False)
        # A row for each component, of which it uses the first 2^bits; all of them count as parameters.
        self.levels = nn.Parameter(torch.linspace(-1, 1, 2**MOST_BITS).repeat(count, 1), requires_grad=False)

    @property
    def codebook_size(self) -> tuple[int, ...]:
        """The levels of each component."""
        return tuple(2**bits for bits in self.allocation.tolist())

    def codes(self, x: Tensor) -> Tensor:
        """Return the numbers of the nearest levels of images (B, C, H, W): (B, components), int64."""
        coefficients = (self.encoder(x) - self.mean) @ self.axes.T
        unused = torch.arange(2**MOST_BITS, device=x.device) >= 2 ** self.allocation[:, None]
        return (coefficients.unsqueeze(2) - self.levels).abs().masked_fill(unused, torch.inf).argmin(2)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, components), int64: the codes themselves, as nothing lies between two of them."""
        return codes

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to latents (B, components), int64."""
        return self.codes(x)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, components) to images (B, C, H, W)."""
        coefficients = self.levels[torch.arange(len(self.levels), device=z.device), z.long()]
        return self.decoder(coefficients @ self.axes + self.mean)

    def fit(self, images: Tensor) -> None:
        """Find components, allocate bits to them, and fit levels, to images (N, C, H, W), uint8."""
        pixels = images.flatten(1)
        mean = mean_of(pixels)
        axes = principal_axes(pixels, mean, len(self.axes))
        coefficients = torch.cat([(rows - mean) @ axes.T for rows in float_chunks(spaced(images, FITTED))])
        self.mean.copy_(mean)
        self.axes.copy_(axes)
        self.allocation.copy_(allocate(coefficients.var(0, correction=0), int(self.allocation.sum())))
        for number, bits in enumerate(self.allocation.tolist()):
            self.levels[number, : 2**bits] = lloyd(coefficients[:, number, None].float(), 2**bits)[:, 0]


def allocate(variances: Tensor, bits: int) -> Tensor:
    """Return the bits of each of some numbers with variances (n,): (n,), int64, `bits` together.

    One after the other they go to where they spare most error, if the numbers are Gaussian. As each bit spares less
    than the one before it, no other allocation spares more.
    """
    left = torch.tensor(LEFT, dtype=torch.float64)
    gains = variances.double().cpu()[:, None] * (left[:-1] - left[1:])
    chosen = gains.flatten().argsort(descending=True, stable=True)[:bits]
    return torch.bincount(chosen // MOST_BITS, minlength=len(variances))


def build(image_shape: aezoo.ImageShape, *, bits: int = 128) -> QuantisedPCA:
    """Build the coder; 128 bits are what `vq_vae`, `fsq` and `product_quantisation` take."""
    check_at_least_one(bits=bits)
    return QuantisedPCA(image_shape, bits)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `quantised_pca`."""
    yield aezoo.Architecture(
        name="quantised_pca",
        seed_spread="narrow",
        build=build,
        summary="Principal components, each rounded to as many levels as it is worth: linear transform coding",
        reference="Huang & Schultheiss 1963, IEEE Trans. Comm. Systems 11; levels: Lloyd 1957/1982; Max 1960",
    )
