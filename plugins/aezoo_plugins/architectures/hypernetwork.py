"""A hypernetwork as the decoder: the latent makes all weights of a small MLP, and that paints the image by itself."""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim, dense_stack

OMEGA = 30.0
"""SIREN's frequency (Sitzmann et al. 2020, section 3.2)."""
SHRINK = 100.0
"""What the hypernetwork's last weights are divided by at the start, as in the paper's code."""


class HyperDecoder(nn.Module):
    """Map latents (B, D) to images (B, C, H, W): each latent makes a SIREN of its own, and that paints its image.

    A SIREN maps a pixel's place, row and column in [-1, 1], to its channels: sines of OMEGA times a linear layer, but
    for the last one. At the start the hypernetwork's last biases are the weights of a SIREN as its authors draw one,
    and its last weights, He's over SHRINK, tell the latents apart. (The paper's code draws these biases within 1 / n,
    of a layer of n inputs, in all layers alike.)

    Args:
        image_shape: (channels, height, width).
        latent_dim: D.
        width: Units of each hidden layer of a SIREN.
        depth: Its hidden layers.
        hyper_width: Units of the hypernetwork's one hidden layer.
    """

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int, width: int, depth: int, hyper_width: int):
        super().__init__()
        channels, height, breadth = image_shape
        sizes = [2, *[width] * depth, channels]
        # Of each layer (outputs, inputs + 1): the weights, and beside them the bias.
        self.shapes = [(after, before + 1) for before, after in itertools.pairwise(sizes)]
        self.counts = [math.prod(shape) for shape in self.shapes]
        self.hyper = nn.Sequential(*dense_stack([latent_dim, hyper_width, sum(self.counts)]))
        self.register_buffer("rows", torch.linspace(-1, 1, height), persistent=False)
        self.register_buffer("columns", torch.linspace(-1, 1, breadth), persistent=False)
        self.image = nn.Unflatten(2, (height, breadth))
        nn.init.kaiming_normal_(self.hyper[-1].weight, nonlinearity="relu")
        with torch.no_grad():
            self.hyper[-1].weight /= SHRINK
            for number, (weight, bias) in enumerate(self._cut(self.hyper[-1].bias.unsqueeze(0))):
                inputs = sizes[number]
                limit = 1 / inputs if number == 0 else math.sqrt(6 / inputs) / OMEGA
                weight.uniform_(-limit, limit)
                bias.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def layers(self, z: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return each latent's own layers: weights (B, outputs, inputs) and biases (B, outputs, 1) of each."""
        return self._cut(self.hyper(z))

    def _cut(self, made: Tensor) -> list[tuple[Tensor, Tensor]]:
        parts = zip(made.split(self.counts, dim=1), self.shapes, strict=True)
        layers = [part.unflatten(1, shape) for part, shape in parts]
        return [(layer[:, :, :-1], layer[:, :, -1:]) for layer in layers]

    def forward(self, z: Tensor) -> Tensor:
        """Paint."""
        (first, bias), *hidden, (last, last_bias) = self.layers(z)
        # The sine of what a row says and what a column says, by the sines of either: H + W of them for H * W pixels.
        row = OMEGA * (first[:, :, :1] * self.rows + bias)
        column = OMEGA * first[:, :, 1:] * self.columns
        y = row.sin().unsqueeze(3) * column.cos().unsqueeze(2) + row.cos().unsqueeze(3) * column.sin().unsqueeze(2)
        y = y.flatten(2)
        for weight, its_bias in hidden:
            y = torch.sin(torch.baddbmm(OMEGA * its_bias, OMEGA * weight, y))
        return self.image(torch.sigmoid(torch.baddbmm(last_bias, last, y)))


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    width: int = 16,
    depth: int = 2,
    hyper_width: int = 128,
) -> aezoo.Autoencoder:
    """Build the network: an MLP of one hidden layer as the encoder, another one as the hypernetwork, SIRENs of `width`.

    The paper's SIRENs have 5 layers of 256, each made by a hypernetwork of its own, with one hidden layer of 256; its
    encoders read a few known pixels, or are convolutional, and it adds priors on the latents and on the weights, as it
    fills in images. Here one hypernetwork makes all layers, and there is no prior. In `coordinate` the painter is the
    same for all images, and a latent shifts its layers; here nothing of it is shared.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width, depth=depth, hyper_width=hyper_width)
    return aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), *dense_stack([math.prod(image_shape), hyper_width, latent_dim])),
        HyperDecoder(image_shape, latent_dim, width, depth, hyper_width),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `hypernetwork`."""
    yield aezoo.Architecture(
        name="hypernetwork",
        seed_spread="wide",
        build=build,
        summary="MLP encoder; the latent makes every weight of a small SIREN, which paints the image",
        reference="Ha, Dai & Le 2016, arXiv:1609.09106; Sitzmann et al. 2020, arXiv:2006.09661, section 4.4 (SIRENs)",
        variants=[],
    )
