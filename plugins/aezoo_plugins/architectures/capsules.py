"""Capsules as an autoencoder: many small vectors agree, by dynamic routing, on the few that are the latent.

Shapes inside: vectors are (I, D, B), I of them for each of B images: so what is innermost is long.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import (
    CONV_WIDTH,
    check_at_least_one,
    check_latent_dim,
    conv_down,
    conv_strides,
    dense_stack,
    maps_after,
)

PRIMARY_DIM = 8
"""Numbers of a primary capsule (section 4)."""
START = 0.1
"""The standard deviation of the weights that make votes, at the start: ours."""


def squash(s: Tensor) -> Tensor:
    """Shorten vectors (..., D, B) of length n to n² / (1 + n²), below 1, and keep where they point (equation 1)."""
    square = s.square().sum(-2, keepdim=True)
    return s * (square + 1e-12).sqrt() / (1 + square)  # the root's slope has no bound at 0


def route(votes: Tensor, iterations: int) -> Tensor:
    """Return capsules (J, D, B) of the votes (I, J, D, B) of others, by dynamic routing (procedure 1).

    Each of I shares itself out over J, by a softmax: equally at first, and then the more to one of J, the more its vote
    and what came out agree, by their inner product. Gradients go through all iterations.
    """
    logits = votes.new_zeros(votes.shape[0], votes.shape[1], 1, votes.shape[3])
    for _ in range(iterations - 1):
        capsules = squash((logits.softmax(1) * votes).sum(0))
        logits = logits + (votes * capsules).sum(2, keepdim=True)
    return squash((logits.softmax(1) * votes).sum(0))


class Primary(nn.Module):
    """Take the channels of maps (B, kinds · D, H, W) for capsules, (kinds · H · W, D, B), and squash them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Squash."""
        return squash(x.unflatten(1, (-1, self.dim)).permute(1, 3, 4, 2, 0).flatten(0, 2))


class Capsules(nn.Module):
    """Map capsules (I, D, B) to (B, J, E): a matrix of each pair makes a vote, and the votes are routed.

    Args:
        inputs: I.
        input_dim: D.
        outputs: J.
        output_dim: E.
        iterations: Of the routing.
    """

    def __init__(self, inputs: int, input_dim: int, outputs: int, output_dim: int, iterations: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(START * torch.randn(inputs, outputs * output_dim, input_dim))
        self.shape = (outputs, output_dim)
        self.iterations = iterations

    def forward(self, u: Tensor) -> Tensor:
        """Vote and route."""
        return route((self.weight @ u).unflatten(1, self.shape), self.iterations).permute(2, 0, 1)


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    capsule_dim: int = 4,
    kinds: int = 4,
    iterations: int = 3,
    width: int = 128,
) -> aezoo.Autoencoder:
    """Build the network: convolutions, `kinds` of capsules at each place, and the latent, capsules of `capsule_dim`.

    The decoder is dense, as the paper's: `width` units, twice as many, and the image.

    The paper classifies: ten capsules of 16 numbers, one for a digit, whose length says whether it is there, and all
    but the true one hidden from the decoder, whose error counts little. Here there are no labels: nothing is hidden,
    the error is all there is, and what a capsule stands for is left to it. The paper's convolutions are two of 9x9 with
    256 channels, and its decoder's layers 512 and 1,024 wide; here they are those of `conv`, 3x3 of stride 2.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(capsule_dim=capsule_dim, kinds=kinds, iterations=iterations, width=width)
    if latent_dim % capsule_dim:
        raise aezoo.AezooError(f"latent_dim must be a multiple of capsule_dim, {capsule_dim}, but is {latent_dim}")
    strides = conv_strides(image_shape)
    # The last of them without its ReLU, as a capsule may point anywhere.
    *layers, _, _ = conv_down(image_shape[0], CONV_WIDTH, strides)
    before, (_, height, breadth) = CONV_WIDTH * 2 ** (strides - 2), maps_after(image_shape, CONV_WIDTH, strides)
    return aezoo.Autoencoder(
        nn.Sequential(
            *layers,
            nn.Conv2d(before, kinds * PRIMARY_DIM, 3, stride=2, padding=1),
            Primary(PRIMARY_DIM),
            Capsules(kinds * height * breadth, PRIMARY_DIM, latent_dim // capsule_dim, capsule_dim, iterations),
            nn.Flatten(),
        ),
        nn.Sequential(
            *dense_stack([latent_dim, width, 2 * width, math.prod(image_shape)]),
            nn.Sigmoid(),
            nn.Unflatten(1, image_shape),
        ),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `capsules`."""
    yield aezoo.Architecture(
        name="capsules",
        seed_spread="wide",
        build=build,
        summary="Capsules: convolutions whose channels vote, and dynamic routing to a few vectors, the latent",
        reference="Sabour, Frosst & Hinton 2017, arXiv:1710.09829",
        variants=[],
    )
