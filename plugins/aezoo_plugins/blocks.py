"""What several families share: bodies, closed forms, checks. Shapes: images (B, C, H, W), latents (B, latent_dim)."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from aezoo import AezooError, Autoencoder, ImageShape, chunks

Body = Literal["mlp", "conv"]
"""The networks that an objective may be put on: those of the architectures `mlp` and `conv`."""
Activation = Literal["sigmoid", "tanh", "relu", "gelu"]
MLP_WIDTH = 128
MLP_WIDTHS = (128, 64, 12)
"""The hidden layers of the tutorial's autoencoder, between the 784 pixels and the bottleneck of 3."""
ROOM = 4
"""How many times as wide as the latent the narrowest of several hidden layers is at the least, as 12 is of 3."""
SPARE = 2
"""The same of a hidden layer that stands alone: up to half of its ReLUs are dead."""
CONV_WIDTH = 8
CONV_SIDE = 8
"""What convolutions with a dense bottleneck bring an image's side near to, by two strides of 2 or more."""
SPATIAL_SIDE = 4
"""The same of those whose latent is a map, by three strides or more."""
CHUNK = 1024
"""Images turned to float64 at a time, so that a large data set is in memory once, as bytes."""
CHUNK_PIXELS = 2**22
"""Pixels of these, together, at the most: of large images there are fewer."""


# Dense ---------------------------------------------------------------------------------------------------------------


def activation_of(name: Activation) -> nn.Module:
    """Return an activation layer by its name."""
    return {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}[name]()


def dense_stack(sizes: list[int], activation: Activation = "relu") -> list[nn.Module]:
    """Return linear layers from each size to the next, with an activation between two."""
    layers: list[nn.Module] = []
    for width, next_width in itertools.pairwise(sizes):
        layers += [nn.Linear(width, next_width), activation_of(activation)]
    return layers[:-1]


def mlp_sizes(pixels: int, latent_dim: int, width: int = MLP_WIDTH) -> list[int]:
    """Return the tutorial's layers, pixels-128-64-12-latent, the hidden ones scaled so that the first has `width`.

    Of a latent of more than 3 numbers the first hidden layer alone is taken. A layer of ReLUs about as narrow as the
    latent is the bottleneck in its place, since many of its units are dead: 5 of 12 beside 8 numbers, 7 of 16 beside
    16. Mean test MSE at 8, 16 and 32 numbers (mnist-5k, default recipe, three seeds; PCA: 0.037, 0.027, 0.017):

    - 128, 64, and 12 or the latent's width: 0.040, 0.040, 0.036; with He's start 0.039, 0.031, 0.025
    - 128, 64: 0.029, 0.027, 0.027; with LeakyReLU 0.027, 0.024, 0.024; with He's start 0.028, 0.021, 0.018
    - 128 alone: 0.027, 0.020, 0.017; with He's start 0.028, 0.021, 0.015

    A latent of more than half the first layer's width widens that layer to its double.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width)
    hidden = [max(1, round(one * width / MLP_WIDTH)) for one in MLP_WIDTHS]
    if hidden[-1] < ROOM * latent_dim:
        hidden = [max(width, SPARE * latent_dim)]
    return [pixels, *hidden, latent_dim]


def mlp_body(image_shape: ImageShape, latent_dim: int, width: int = MLP_WIDTH) -> Autoencoder:
    """Return the layers of `mlp_sizes` and back, ReLU, sigmoid output: of up to 3 numbers the tutorial's MLP."""
    sizes = mlp_sizes(math.prod(image_shape), latent_dim, width)
    return Autoencoder(
        nn.Sequential(nn.Flatten(), *dense_stack(sizes)),
        nn.Sequential(*dense_stack(sizes[::-1]), nn.Sigmoid(), nn.Unflatten(1, image_shape)),
    )


class Tied(Autoencoder):
    """Dense layers whose way back takes their own weights, transposed, with biases of its own.

    Args:
        image_shape: (channels, height, width).
        sizes: The widths, from the pixels to the latent.
        output: What comes after the last layer.
        activation: What comes between two layers.
        latent: What comes after the layer to the latent.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        sizes: list[int],
        output: nn.Module,
        activation: Activation = "relu",
        latent: nn.Module | None = None,
    ) -> None:
        ends = [] if latent is None else [latent]
        super().__init__(
            nn.Sequential(nn.Flatten(), *dense_stack(sizes, activation), *ends),
            nn.Sequential(output, nn.Unflatten(1, image_shape)),
        )
        self.activation = activation_of(activation)
        self.biases = nn.ParameterList(torch.zeros(size) for size in sizes[-2::-1])

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, latent_dim) to images (B, C, H, W)."""
        layers = [layer for layer in reversed(self.encoder) if isinstance(layer, nn.Linear)]
        for number, (layer, bias) in enumerate(zip(layers, self.biases, strict=True)):
            z = F.linear(self.activation(z) if number else z, layer.weight.T, bias)
        return self.decoder(z)


# Convolutions --------------------------------------------------------------------------------------------------------


def halved(image_shape: ImageShape, strides: int) -> list[tuple[int, int]]:
    """Return (height, width) of an image, and after each of so many convolutions of stride 2.

    Raises:
        AezooError: the image is too small for them.
    """
    _, height, width = image_shape
    least = 2 ** (strides - 1) + 1  # smaller ones have nothing left to halve
    if height < least or width < least:
        raise AezooError(
            f"{strides} strides of 2 need images of at least {least}x{least} pixels, but these are {height}x{width}"
        )
    sizes = [(height, width)]
    for _ in range(strides):
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def strides_to(side: int, image_shape: ImageShape, *, at_least: int) -> int:
    """Return how many strides of 2 bring the shorter side of an image nearest to `side`, in ratio; `at_least` so many.

    So a network is deeper for a larger image, and its narrowest map stays of one size.
    """
    return max(at_least, round(math.log2(min(image_shape[1:]) / side)))


def conv_strides(image_shape: ImageShape) -> int:
    """Return the strides of a network with a dense bottleneck: 2 from 28x28 pixels to 7x7, 3 from 64x64 to 8x8."""
    return strides_to(CONV_SIDE, image_shape, at_least=2)


def spatial_strides(image_shape: ImageShape, strides: int | None = None) -> int:
    """Return the strides of a network whose latent is a map: 3 from 28x28 pixels to 4x4, 4 from 64x64, or as given."""
    return strides_to(SPATIAL_SIDE, image_shape, at_least=3) if strides is None else strides


def maps_after(image_shape: ImageShape, width: int, strides: int) -> ImageShape:
    """Return the shape of the maps (channels, height, width) that `conv_down` gives."""
    return (width * 2 ** (strides - 1), *halved(image_shape, strides)[-1])


def conv_down(channels: int, width: int, strides: int) -> list[nn.Module]:
    """Return 3x3 convolutions of stride 2, each with a ReLU: to `width` channels, then twice as many, and so on."""
    widths = [channels, *(width * 2**number for number in range(strides))]
    layers: list[nn.Module] = []
    for one, other in itertools.pairwise(widths):
        layers += [nn.Conv2d(one, other, 3, stride=2, padding=1), nn.ReLU()]
    return layers


def conv_up(image_shape: ImageShape, width: int, strides: int) -> list[nn.Module]:
    """Return transposed convolutions that undo `conv_down`, ReLU between them, a sigmoid at the end.

    Any image size fits: each layer gives back the very size that its convolution took.
    """
    sizes = halved(image_shape, strides)
    widths = [image_shape[0], *(width * 2**number for number in range(strides))]
    layers: list[nn.Module] = []
    for number in reversed(range(strides)):
        # A stride of 2 takes 2n and 2n - 1 to the same n; the output padding says which of them comes back.
        padding = tuple(1 - side % 2 for side in sizes[number])
        layer = nn.ConvTranspose2d if number else LastConvTranspose
        layers += [
            layer(widths[number + 1], widths[number], 3, stride=2, padding=1, output_padding=padding),
            nn.ReLU(),
        ]
    return [*layers[:-1], nn.Sigmoid()]


class _Overlap(torch.autograd.Function):
    """A 3x3 transposed convolution of stride 2 and padding 1: a product for each of nine places, which are added."""

    generate_vmap_rule = True  # with setup_context: what torch.func needs of it

    @staticmethod
    def forward(x: Tensor, weight: Tensor, height: int, width: int) -> Tensor:
        count, channels, rows, columns = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        parts = (weight.permute(1, 2, 3, 0).flatten(0, 2) @ pixels.T).view(-1, 3, 3, count, rows, columns)
        # Padded by one above and on the left; by row, row within its pair, column, column within its pair.
        padded = parts.new_zeros(len(parts), count, rows + 1, 2, columns + 1, 2)
        for (a, row), (b, column) in itertools.product(enumerate(((0, 0), (0, 1), (1, 0))), repeat=2):
            y = padded[:, :, row[0] : row[0] + rows, row[1], column[0] : column[0] + columns, column[1]]
            y += parts[:, a, b]
        return padded.flatten(4).flatten(2, 3)[:, :, 1 : height + 1, 1 : width + 1].transpose(0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        into = F.conv2d(grad, weight, stride=2, padding=1)
        return into, conv2d_weight(grad, weight.shape, x, stride=2, padding=1), None, None


class LastConvTranspose(nn.ConvTranspose2d):
    """A 3x3 transposed convolution of stride 2 to the few channels of an image, for which a CPU has no quick kernel."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (B, width, H, W) to (B, C, 2H, 2W), or a row or column less, by its output padding."""
        if x.device.type != "cpu" or torch.is_autocast_enabled(x.device.type):
            return super().forward(x, output_size)
        height, width = (2 * side - 1 + more for side, more in zip(x.shape[2:], self.output_padding, strict=True))
        return _Overlap.apply(x, self.weight, height, width) + self.bias[:, None, None]


class UpsampleConv(nn.Module):
    """Enlarge by copying pixels, then convolve, 3x3. Maps (B, channels, H, W) to (B, out_channels, *size).

    Where both sides double, the convolution is done on the small map: each of the four pixels that a pixel becomes has
    its own sums of the 3x3 weights, so that few output channels cost a fraction, and the result is the same (Shi et al.
    2016, arXiv:1609.05158, the other way round).
    """

    def __init__(self, channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.size = size
        # By row (or column) of the four, place on the small map, and place in the kernel: what falls on what.
        falls = torch.tensor([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]]).float()
        sums = torch.einsum("adt,beu->tuabde", falls, falls).reshape(9, 36)
        self.register_buffer("sums", sums, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge and convolve."""
        if self.size != (2 * x.shape[2], 2 * x.shape[3]):
            return self.convolution(F.interpolate(x, self.size))
        weight, bias = self.convolution.weight, self.convolution.bias
        # (O, I, 9) to (O, I, 4, 9) to (4 O, I, 3, 3): the four of a channel beside each other, as the shuffle wants.
        four = (weight.flatten(2) @ self.sums).unflatten(2, (4, 9)).transpose(1, 2).flatten(0, 1).unflatten(2, (3, 3))
        return F.pixel_shuffle(F.conv2d(x, four, bias.repeat_interleave(4), padding=1), 2)


def dense_bottleneck(code_shape: ImageShape, latent_dim: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return the dense layers from feature maps (channels, height, width) to the latent, and back."""
    check_latent_dim(latent_dim)
    size = math.prod(code_shape)
    return (
        [nn.Flatten(), nn.Linear(size, latent_dim)],
        [nn.Linear(latent_dim, size), nn.ReLU(), Maps(code_shape)],
    )


class Maps(nn.Module):
    """Lay vectors (B, channels · H · W) out as maps (B, channels, H, W), as convolutions like them."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Lay out."""
        return x.unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)


def conv_body(image_shape: ImageShape, latent_dim: int, width: int = CONV_WIDTH) -> Autoencoder:
    """Return convolutions of stride 2, a dense bottleneck, and the same transposed; ReLU, sigmoid output.

    Two of them, or of larger images more: see `conv_strides`. Channels: `width`, then twice that, and so on.
    """
    check_at_least_one(width=width)
    strides = conv_strides(image_shape)
    into, out_of = dense_bottleneck(maps_after(image_shape, width, strides), latent_dim)
    return Autoencoder(
        nn.Sequential(*conv_down(image_shape[0], width, strides), *into),
        nn.Sequential(*out_of, *conv_up(image_shape, width, strides)),
    )


def spatial_body(image_shape: ImageShape, latent_channels: int, width: int, strides: int) -> Autoencoder:
    """Return convolutions of stride 2 to a map of `latent_channels`, no dense layer, and the same transposed.

    The latent is (latent_channels, h, w): an image's sides, halved `strides` times and rounded up.
    """
    check_at_least_one(latent_channels=latent_channels, width=width, strides=strides)
    halved(image_shape, strides)
    last = width * 2 ** (strides - 1)
    return Autoencoder(
        nn.Sequential(*conv_down(image_shape[0], width, strides), nn.Conv2d(last, latent_channels, 1)),
        nn.Sequential(nn.Conv2d(latent_channels, last, 1), nn.ReLU(), *conv_up(image_shape, width, strides)),
    )


def body_of(body: Body, image_shape: ImageShape, latent_dim: int, width: int | None) -> Autoencoder:
    """Return the network of `mlp` or `conv`; where no width is given, with that which it has by default."""
    build = mlp_body if body == "mlp" else conv_body
    return build(image_shape, latent_dim) if width is None else build(image_shape, latent_dim, width)


# Closed forms, and checks --------------------------------------------------------------------------------------------


def float_chunks(images: Tensor) -> Iterator[Tensor]:
    """Yield flat images (N, C·H·W), float64, from uint8 (N, C, H, W), as float32 has them: what a network sees."""
    for chunk in chunks(images, max(1, min(CHUNK, CHUNK_PIXELS // math.prod(images.shape[1:])))):
        yield (chunk.flatten(1) / 255).double()


def check_latent_dim(latent_dim: int, *, at_most: int | None = None) -> None:
    """Raise AezooError where a latent would have no numbers, or more than an image has pixels, where that matters."""
    if at_most is not None and not 1 <= latent_dim <= at_most:
        raise AezooError(f"latent_dim must be 1 to {at_most}, the pixels of an image, but is {latent_dim}")
    check_at_least_one(latent_dim=latent_dim)


def check_at_least_one(**values: int) -> None:
    """Raise AezooError where a size is not a positive number."""
    for name, value in values.items():
        if value < 1:
            raise AezooError(f"{name} must be at least 1, but is {value}")


def check_weight(**values: float) -> None:
    """Raise AezooError where a penalty would not count, or be turned round."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise AezooError(f"{name} must be above 0, but is {value}: at 0 there is no penalty")
