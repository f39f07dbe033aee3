"""Group-equivariant convolutions: an image that is turned or mirrored permutes the latent, and is decoded as such."""

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim, conv_strides

Group = Literal["p4", "p4m"]
"""The four turns of a square, or these and the same of its mirror image."""


def transform(x: Tensor, element: int) -> Tensor:
    """Apply an element of a group to images (..., H, W): 0 to 3 are quarter turns, 4 to 7 the same after a mirroring.

    Anticlockwise, and mirrored left to right.
    """
    return torch.rot90(x.flip(-1) if element >= 4 else x, element % 4, (-2, -1))


def order_of(group: Group) -> int:
    """Return how many elements a group has."""
    return {"p4": 4, "p4m": 8}[group]


def inverse(element: int) -> int:
    """Return the element that undoes another; a mirroring undoes itself."""
    return element if element >= 4 else -element % 4


def product(one: int, other: int) -> int:
    """Return the element that does what `other` does, and then `one`."""
    # A mirroring turns all turns before it round.
    turns = one + (-other if one >= 4 else other)
    return turns % 4 + 4 * ((one >= 4) != (other >= 4))


def act(element: int, features: Tensor) -> Tensor:
    """Apply an element to features (..., order, H, W), as they are of an image that it is applied to.

    The places move as the image's do, and what was at h comes to be at the element's product with h.
    """
    order = features.shape[-3]
    sources = [product(inverse(element), h) for h in range(order)]
    return transform(features[..., sources, :, :], element)


class GroupConv(nn.Module):
    """A convolution of maps on a group, (B, channels · order, H, W), the order innermost, or the same transposed.

    Its filters are those of one element, applied to the others. So whatever acts on its input acts on its output.

    Args:
        channels: Of the input.
        out_channels: Of the output.
        kernel: Side of the square filters.
        group: `p4` or `p4m`.
        lifting: Whether the input has no order: an image. Of a transposed layer, it is the output that has none.
        transposed: Whether it is the transposed one.
        stride: Of the filters.
        padding: Of the input, zeros on all sides.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        group: Group,
        *,
        lifting: bool = False,
        transposed: bool = False,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        order = order_of(group)
        self.options = {"stride": stride, "padding": padding}
        self.transposed = transposed
        # By element, input's element and place: which number of the filters is there.
        numbers = torch.arange(kernel**2 * (1 if lifting else order)).view(-1, kernel, kernel)
        moved = [transform(numbers, g) if lifting else act(g, numbers) for g in range(order)]
        self.register_buffer("index", torch.stack(moved).flatten(), persistent=False)
        first, last = (channels, out_channels) if transposed else (out_channels, channels)
        self.weight = nn.Parameter(torch.empty(first, last, numbers.numel()))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.copies = 1 if lifting and transposed else order
        self.shape = (order, len(numbers), kernel, kernel)
        # As nn.Conv2d starts: by how many terms a number of the output is the sum of.
        terms = first * order * max(1, kernel // stride) ** 2 if transposed else last * numbers.numel()
        limit = 1 / math.sqrt(terms)
        nn.init.uniform_(self.weight, -limit, limit)
        nn.init.uniform_(self.bias, -limit, limit)

    def filters(self) -> Tensor:
        """Return the filters of all elements: (first · order, last · order or last, kernel, kernel)."""
        filters = self.weight[:, :, self.index].unflatten(2, self.shape)
        return filters.transpose(1, 2).flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        return convolve(x, self.filters(), self.bias.repeat_interleave(self.copies), **self.options)


class Square(nn.Module):
    """Pad images with zeros to a square of so many pixels, alike on either side, but for an odd pixel."""

    def __init__(self, image_shape: aezoo.ImageShape, side: int) -> None:
        super().__init__()
        _, height, width = image_shape
        top, left = (side - height) // 2, (side - width) // 2
        self.padding = (left, side - width - left, top, side - height - top)

    def forward(self, x: Tensor) -> Tensor:
        """Pad (B, C, H, W)."""
        return F.pad(x, self.padding)


class Unsquare(nn.Module):
    """Undo `Square`."""

    def __init__(self, square: Square) -> None:
        super().__init__()
        self.padding = tuple(-size for size in square.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Crop to (B, C, H, W)."""
        return F.pad(x, self.padding)


def build(
    image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 2, group: Group = "p4m"
) -> aezoo.Autoencoder:
    """Build the network of `conv` on a group: `width` channels after the first layer, each once for every element.

    The last filters are as large as their maps, so that the latent has no places: (latent_dim / order) numbers for each
    element, which an image that is turned or mirrored permutes. The decoder's layers are the adjoints of such layers,
    and the reconstruction of a turned image is the turned reconstruction: but for rounding exactly, whatever the
    weights, where an image is square and its sides even.

    The paper classifies, by 3x3 filters, and a last pooling over elements, which would lose how an image is turned.
    Here filters are 4x4 with strides of 2: those of 3x3 take other places of an image of even sides once it is turned.
    Images that are no squares, or whose sides the strides do not divide, are padded with zeros, on both sides alike.

    The decoder's hidden layers are normalised, image by image, where the paper has batch normalisation: without, some
    seeds of few channels painted black and stayed there. Seeds still lie apart: on mnist-5k three came out at .0213,
    .0281 and .0206, and with four channels on `p4`, which takes no longer, at .0169, .0271 and .0180. Digits are not
    mirrored, and p4m cannot tell a digit from its mirror image but by the latent.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width)
    channels, height, breadth = image_shape
    order = order_of(group)
    if latent_dim % order:
        raise aezoo.AezooError(f"latent_dim must be a multiple of {order}, the order of {group}, but is {latent_dim}")
    strides = conv_strides(image_shape)
    side = math.ceil(max(height, breadth) / 2**strides)
    square = Square(image_shape, side * 2**strides)
    widths = [channels, *(width * 2**number for number in range(strides))]
    encoder: list[nn.Module] = [square]
    decoder: list[nn.Module] = [Unsquare(square), nn.Sigmoid()]
    # A stride of 2 takes the same places of a turned image only where the filters' side is even, as the image's is.
    options = {"stride": 2, "padding": 1, "group": group}
    for number, (one, other) in enumerate(itertools.pairwise(widths)):
        lifting = number == 0
        encoder += [GroupConv(one, other, 4, lifting=lifting, **options), nn.ReLU()]
        # Of all an image's features at once, and with nothing learnt: so that a norm takes no element for another.
        norm = nn.GroupNorm(1, other * order, affine=False)
        decoder = [norm, nn.ReLU(), GroupConv(other, one, 4, lifting=lifting, transposed=True, **options), *decoder]
    numbers = latent_dim // order
    encoder += [GroupConv(widths[-1], numbers, side, group), nn.Flatten()]
    widen = GroupConv(numbers, widths[-1], side, group, transposed=True, stride=side)
    decoder = [nn.Unflatten(1, (latent_dim, 1, 1)), widen, *decoder]
    return aezoo.Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `group_equivariant`."""
    yield aezoo.Architecture(
        name="group_equivariant",
        seed_spread="erratic",
        build=build,
        summary="Convolutions on the group of quarter turns and mirrorings: turn an image, and its latent is permuted",
        reference="Cohen & Welling 2016, arXiv:1602.07576",
        variants=[],
    )
