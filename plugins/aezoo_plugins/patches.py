"""Images cut into what fits: padding and cropping, patches, and a transformer over them."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aezoo import AezooError, Autoencoder, ImageShape
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim


class Pad(nn.Module):
    """Pad images with zeros, right and below, to sides that a number divides. `image_shape` is what comes out."""

    def __init__(self, image_shape: ImageShape, multiple: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.padding = (0, -width % multiple, 0, -height % multiple)
        self.image_shape = (channels, height + self.padding[3], width + self.padding[1])

    def forward(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W)."""
        return F.pad(x, self.padding)


class Crop(nn.Module):
    """Undo `Pad`."""

    def __init__(self, image_shape: ImageShape) -> None:
        super().__init__()
        _, self.height, self.width = image_shape

    def forward(self, x: Tensor) -> Tensor:
        """Crop to (B, C, H, W)."""
        return x[..., : self.height, : self.width]


def patch_of(image_shape: ImageShape, patch: int | None = None) -> int:
    """Return the side of a patch where none is given: so that about 4x4 of them make an image, and at least 7 pixels.

    7 of 28x28 pixels, 8 of 32x32, 16 of 64x64.
    """
    return max(7, math.ceil(math.sqrt(image_shape[1] * image_shape[2]) / 4)) if patch is None else patch


class ToPatches(nn.Module):
    """Cut images into square patches, row by row: (B, C, H, W) to (B, count, size), padded with zeros where need be."""

    def __init__(self, image_shape: ImageShape, patch: int) -> None:
        super().__init__()
        check_at_least_one(patch=patch)
        self.patch = patch
        self.pad = Pad(image_shape, patch)
        channels, height, width = self.pad.image_shape
        self.count = (height // patch) * (width // patch)
        self.size = channels * patch**2

    def forward(self, x: Tensor) -> Tensor:
        """Pad and cut."""
        # As F.unfold with a stride, which goes image by image.
        return F.pixel_unshuffle(self.pad(x), self.patch).flatten(2).transpose(1, 2)


class FromPatches(nn.Module):
    """Join what `ToPatches` cut: (B, count, size) to (B, C, H, W), the padding cropped."""

    def __init__(self, image_shape: ImageShape, patch: int) -> None:
        super().__init__()
        self.patch = patch
        _, height, width = Pad(image_shape, patch).image_shape
        self.sides = height // patch, width // patch
        self.crop = Crop(image_shape)

    def forward(self, patches: Tensor) -> Tensor:
        """Join and crop."""
        return self.crop(F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, self.sides), self.patch))


class Transformer(nn.Module):
    """Add learnt positions to tokens, and pass them through self-attention layers. Maps (B, count, width) to the same.

    Normalised before each part, GELU, four times as wide inside, no dropout (Dosovitskiy et al. 2021). No token attends
    to one that is `hidden`, (B, count), as if it were not there.
    """

    def __init__(self, count: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        check_at_least_one(width=width, depth=depth, heads=heads)
        if width % heads:
            raise AezooError(f"width must be a multiple of heads, {heads}, but is {width}")
        self.positions = nn.Parameter(0.02 * torch.randn(count, width))
        # Not nn.TransformerEncoder: it copies one layer, and all would start from the same weights.
        layers = [
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        ]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(width))

    def forward(self, tokens: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Attend."""
        tokens = tokens + self.positions
        if hidden is None:
            return self.layers(tokens)
        *layers, norm = self.layers
        for layer in layers:
            tokens = layer(tokens, src_key_padding_mask=hidden)
        return norm(tokens)


def patch_autoencoder(
    image_shape: ImageShape, latent_dim: int, patch: int | None, width: int, body: Callable[[int], nn.Module]
) -> Autoencoder:
    """Return patches that pass a body on either side of a dense bottleneck, and a sigmoid at the output.

    Args:
        image_shape: (channels, height, width).
        latent_dim: Numbers in a latent.
        patch: The side of a patch, or what `patch_of` takes.
        width: Numbers of a token.
        body: Builds, for so many tokens, what maps them, (B, count, width), to the same shape; it is built twice.
    """
    check_latent_dim(latent_dim)
    patch = patch_of(image_shape, patch)
    cut, join = ToPatches(image_shape, patch), FromPatches(image_shape, patch)
    return Autoencoder(
        nn.Sequential(
            cut,
            nn.Linear(cut.size, width),
            body(cut.count),
            nn.Flatten(),
            nn.Linear(cut.count * width, latent_dim),
        ),
        nn.Sequential(
            nn.Linear(latent_dim, cut.count * width),
            nn.Unflatten(1, (cut.count, width)),
            body(cut.count),
            nn.Linear(width, cut.size),
            nn.Sigmoid(),
            join,
        ),
    )
