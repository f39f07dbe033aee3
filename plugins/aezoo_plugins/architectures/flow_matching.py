"""A flow as the decoder: a learnt velocity, which the latent steers, carries noise to images."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim, dense_stack

FREQUENCIES = 8
"""Sines and cosines that time is told by, from half a turn on, each twice as fast as the one before it."""
SCALE = 4
"""The square of how much wider [-1, 1], where the flow is, is than [0, 1]."""


class Velocity(nn.Module):
    """Map places (B, P), times (B, 1) and latents (B, D) to velocities (B, P).

    An MLP of the place, whose first hidden layer is scaled and shifted by another one of time and latent: so what is
    only noise, as all is at the start, can be left out, and a few numbers count beside many.

    To it is added the best linear guess of the velocity by the place alone: between noise and data of mean 0 and
    variance 1, at x = (1 - t) · noise + t · data, the mean of data - noise is (2t - 1) / (t² + (1 - t)²) · x. At the
    start that is the noise turned round, which an MLP narrower than an image could not carry.
    """

    def __init__(self, pixels: int, latent_dim: int, width: int) -> None:
        super().__init__()
        self.place = nn.Linear(pixels, width)
        self.guide = nn.Sequential(*dense_stack([2 * FREQUENCIES + latent_dim, width, 2 * width]))
        self.layers = nn.Sequential(nn.ReLU(), *dense_stack([width, width, pixels]))
        self.register_buffer("turns", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Return velocities."""
        angles = t * self.turns
        scale, shift = self.guide(torch.cat([angles.sin(), angles.cos(), z], dim=1)).chunk(2, dim=1)
        guess = (2 * t - 1) / (t.square() + (1 - t).square()) * x
        return guess + self.layers(self.place(x) * scale + shift)


class FlowMatching(aezoo.Autoencoder):
    """An MLP to the latent, and a flow that it steers back to the image. Scored by the path from the noise's mean, 0.

    Trained as in the paper with straight paths (its equation 23, sigma 0): x1 an image, in [-1, 1], x0 normal noise, t
    uniform, and the velocity at (1 - t) x0 + t x1 is to be x1 - x0. The encoder learns by this loss too, as that of
    diffusion autoencoders does by theirs.

    What training gives for a reconstruction is where the path ends if it goes straight on from where it is; its squared
    error is (1 - t)² of the loss. So the harness's MSE is a part of the flow-matching loss, and the penalty is the
    rest: together they are exactly that, over SCALE, and no step is trained to reconstruct as the score does.

    The score's path is deterministic: it starts from zeros and takes `steps` equal steps of Euler's. It is a path of no
    noise that training would draw, but the mean of all.

    Args:
        image_shape: (channels, height, width).
        latent_dim: Numbers of the latent.
        width: Units of the hidden layers, one of the encoder's and two of the velocity's.
        steps: Of the path that is scored.
    """

    objective = "mse + flow matching, noised decoder"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int, width: int, steps: int) -> None:
        pixels = math.prod(image_shape)
        super().__init__(
            nn.Sequential(nn.Flatten(), *dense_stack([pixels, width, latent_dim])),
            nn.ModuleDict({"velocity": Velocity(pixels, latent_dim, width)}),
        )
        self.image_shape = image_shape
        self.steps = steps

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, D) to images (B, C, H, W), from zeros."""
        x = z.new_zeros(len(z), math.prod(self.image_shape))
        for step in range(self.steps):
            t = z.new_full((len(z), 1), step / self.steps)
            x = x + self.decoder["velocity"](x, t, z) / self.steps
        return self._image(x)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Say where the paths of images (B, C, H, W) end, from anywhere on them."""
        data = 2 * x.flatten(1) - 1
        noise = torch.randn_like(data)
        t = torch.rand(len(x), 1, dtype=x.dtype, device=x.device)
        at = (1 - t) * noise + t * data
        velocity = self.decoder["velocity"](at, t, self.encode(x))
        error = (velocity - (data - noise)).square().mean(1, keepdim=True)
        penalty = ((1 - (1 - t).square()) * error).mean() / SCALE
        return aezoo.TrainingOutput(self._image(at + (1 - t) * velocity), penalty)

    def _image(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).unflatten(1, self.image_shape)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 256, steps: int = 4) -> FlowMatching:
    """Build the network: dense layers, `width` units wide, and `steps` of the path that is scored.

    The paper's velocities are U-Nets, with no latent, and its paths start from noise. To the mean squared error one
    step would be enough, to what a latent says on average; on mnist-5k, seed 0, one, two, four and eight steps of the
    same network come out at .0274, .0272, .0274 and .0275. It is trained to undo noise at all times, and of that the
    score asks little: `mlp` of 16 numbers has .0201 by the same steps.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width, steps=steps)
    return FlowMatching(image_shape, latent_dim, width, steps)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `flow_matching`."""
    yield aezoo.Architecture(
        name="flow_matching",
        seed_spread="wide",
        build=build,
        summary="A flow that the latent steers from noise to images, by flow matching; scored from the noise's mean",
        reference="Lipman et al. 2023, arXiv:2210.02747; steered by an encoder: Preechakul et al. 2022, "
        "arXiv:2111.15640 (diffusion autoencoders)",
    )
