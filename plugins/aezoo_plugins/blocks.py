"""The bodies that several families share. Shapes: images (B, C, H, W), latents (B, latent_dim)."""

import itertools
import math

from torch import nn

from aezoo import AezooError, Autoencoder, ImageShape

MLP_WIDTHS = (128, 64, 12)
"""The hidden layers of the tutorial's autoencoder, between the 784 pixels and the bottleneck of 3."""


def dense_stack(sizes: list[int]) -> list[nn.Module]:
    """Return linear layers from each size to the next, with a ReLU between two."""
    layers: list[nn.Module] = []
    for width, next_width in itertools.pairwise(sizes):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return layers[:-1]


def mlp_body(image_shape: ImageShape, latent_dim: int) -> Autoencoder:
    """Return the tutorial's MLP: pixels-128-64-12-latent and back, ReLU, sigmoid output.

    A hidden layer narrower than the latent is widened to it: else that layer would be the bottleneck.
    """
    check_latent_dim(latent_dim)
    sizes = [math.prod(image_shape), *(max(width, latent_dim) for width in MLP_WIDTHS), latent_dim]
    return Autoencoder(
        nn.Sequential(nn.Flatten(), *dense_stack(sizes)),
        nn.Sequential(*dense_stack(sizes[::-1]), nn.Sigmoid(), nn.Unflatten(1, image_shape)),
    )


def conv_body(image_shape: ImageShape, latent_dim: int, width: int) -> Autoencoder:
    """Return two convolutions of stride 2, a dense bottleneck, and the same transposed; ReLU, sigmoid output.

    Channels: `width`, then twice that. Any image size fits: each transposed layer gives back the very size that its
    convolution took.
    """
    check_latent_dim(latent_dim)
    if width < 1:
        raise AezooError(f"width must be at least 1, but is {width}")
    channels, height, breadth = image_shape
    if height < 4 or breadth < 4:
        raise AezooError(f"two strides of 2 need images of at least 4x4 pixels, but these are {height}x{breadth}")
    sizes = [(height, breadth)]
    for _ in range(2):
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    code_shape = (2 * width, *sizes[-1])

    def up(out_size: tuple[int, int], in_channels: int, out_channels: int) -> nn.Module:
        # A stride of 2 takes 2n and 2n - 1 to the same n; the output padding says which of them comes back.
        padding = tuple(1 - side % 2 for side in out_size)
        return nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=padding)

    encoder = nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(math.prod(code_shape), latent_dim),
    )
    decoder = nn.Sequential(
        nn.Linear(latent_dim, math.prod(code_shape)),
        nn.ReLU(),
        nn.Unflatten(1, code_shape),
        up(sizes[1], 2 * width, width),
        nn.ReLU(),
        up(sizes[0], width, channels),
        nn.Sigmoid(),
    )
    return Autoencoder(encoder, decoder)


def check_latent_dim(latent_dim: int) -> None:
    """Raise AezooError where a latent would have no numbers."""
    if latent_dim < 1:
        raise AezooError(f"latent_dim must be at least 1, but is {latent_dim}")
