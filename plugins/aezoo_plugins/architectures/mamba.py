"""Mamba as an autoencoder: selective state spaces read an image's patches in turn, and others write them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import ToPatches, patch_autoencoder, patch_of

EXPAND = 2
"""Channels inside a block, of its width (section 3.4)."""
REACH = 4
"""Tokens that a block's convolution sees: the one at hand, and those before it."""
STEP = (1e-3, 1e-1)
"""The steps of time that a block starts from (section 3.6)."""


def steps(decay: Tensor, drive: Tensor) -> Tensor:
    """Return h of h[t] = decay[t] · h[t-1] + drive[t], for all t at once; time is the first dimension, h[-1] is 0.

    Two steps in a row are such a step too. So the odd times are a scan half as long, and each even time is one step
    from the odd one before it (Blelloch 1990): twice the work of a loop, and as many rounds as the length has halves.
    """
    times = len(decay)
    if times == 1:
        return drive.clone()
    even, odd = slice(0, times - 1, 2), slice(1, None, 2)
    odds = steps(decay[odd] * decay[even], torch.addcmul(drive[odd], decay[odd], drive[even]))
    evens = torch.cat([drive[:1], torch.addcmul(drive[2::2], decay[2::2], odds[: (times - 1) // 2])])
    pairs = torch.stack([evens[: times // 2], odds], dim=1).flatten(0, 1)
    return torch.cat([pairs, evens[-1:]]) if times % 2 else pairs


class Scan(torch.autograd.Function):
    """`steps`, and its gradient, which is the same backwards in time: a state is to blame for all that follow it."""

    generate_vmap_rule = True  # with setup_context: what torch.func needs of it

    @staticmethod
    def forward(decay: Tensor, drive: Tensor) -> Tensor:
        return steps(decay, drive)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        decay, states = ctx.saved_tensors
        # Backwards, and each decay one later; which one comes first does not matter, as there no state is before it.
        # Stacked, as flip is slow.
        decays = torch.stack([decay[0], *decay.unbind()[:0:-1]])
        of_drive = steps(decays, torch.stack(grad.unbind()[::-1]))
        of_drive = torch.stack(of_drive.unbind()[::-1])
        return of_drive * torch.cat([torch.zeros_like(states[:1]), states[:-1]]), of_drive


class SelectiveStates(nn.Module):
    """A state space whose step, input and output depend on the token at hand. Maps (T, B, D) to the same.

    Each of D channels has a state of N numbers: h = exp(step · A) h + step · B x, and y = C h + skip · x, where step,
    B and C are linear in the token (algorithm 2). A is negative; B enters by the step itself, as in the paper's code,
    and not by its exact integral.

    Args:
        channels: D.
        state: N.
        rank: Of the matrix that makes steps of tokens.
    """

    def __init__(self, channels: int, state: int, rank: int) -> None:
        super().__init__()
        self.sizes = [rank, state, state]
        self.select = nn.Linear(channels, sum(self.sizes), bias=False)
        self.step = nn.Linear(rank, channels)
        self.log_rate = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(channels, 1).T.contiguous())
        self.skip = nn.Parameter(torch.ones(channels))
        nn.init.uniform_(self.step.weight, -1 / math.sqrt(rank), 1 / math.sqrt(rank))
        with torch.no_grad():
            low, high = (math.log(step) for step in STEP)
            steps = torch.exp(low + (high - low) * torch.rand(channels))
            self.step.bias.copy_(torch.log(torch.expm1(steps)))  # softplus gives the step back

    def forward(self, x: Tensor) -> Tensor:
        """Scan."""
        low, into, out_of = self.select(x).split(self.sizes, dim=2)
        step = F.softplus(self.step(low))
        # States are (T, B, N, D), so that what is innermost is long.
        decay = torch.exp(-step.unsqueeze(2) * self.log_rate.exp())
        states = Scan.apply(decay, into.unsqueeze(3) * (step * x).unsqueeze(2))
        return (out_of.unsqueeze(2) @ states).squeeze(2) + self.skip * x


class Block(nn.Module):
    """Add to tokens (T, B, width) what a gated state space makes of them, normalised first."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        inside = EXPAND * width
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.widen = nn.Linear(width, 2 * inside, bias=False)
        self.convolve = nn.Parameter(torch.empty(REACH, inside).uniform_(-1, 1) / math.sqrt(REACH))
        self.bias = nn.Parameter(torch.empty(inside).uniform_(-1, 1) / math.sqrt(REACH))
        self.states = SelectiveStates(inside, state, math.ceil(width / 16))
        self.narrow = nn.Linear(inside, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add."""
        x, gate = self.widen(self.norm(tokens)).chunk(2, dim=2)
        before = F.pad(x, (0, 0, 0, 0, REACH - 1, 0))
        x = sum((before[lag : lag + len(x)] * self.convolve[lag] for lag in range(REACH)), self.bias)
        return tokens + self.narrow(self.states(F.silu(x)) * F.silu(gate))


class Mamba(nn.Module):
    """Blocks in a row, and a norm. Maps tokens (B, T, width) to the same; none sees a later one."""

    def __init__(self, width: int, depth: int, state: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, state) for _ in range(depth)), nn.RMSNorm(width, eps=1e-5))

    def forward(self, tokens: Tensor) -> Tensor:
        """Read in turn."""
        return self.blocks(tokens.transpose(0, 1)).transpose(0, 1)


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    patch: int | None = None,
    width: int = 32,
    depth: int = 1,
    state: int = 4,
) -> aezoo.Autoencoder:
    """Build the network of `vit` with Mamba's blocks for attention: `depth` of them on either side of the latent.

    A block has a norm, a gate, a causal convolution of REACH tokens and selective states, and no MLP beside it, as in
    the paper. Tokens are in the order of reading, and there are no positions to learn; none sees a later one, but the
    latent sees all, and all see it. The paper has 16 numbers of state, here 4, which is quicker.

    It is slow, about 5 times as long a step as `conv` on one core: on mnist-5k, seed 0, a test MSE of .0179, and with
    half the width .0228.
    """
    check_at_least_one(width=width, depth=depth, state=state)
    patch = patch_of(image_shape, patch)
    if ToPatches(image_shape, patch).count < 2:
        size = "x".join(map(str, image_shape[1:]))
        raise aezoo.AezooError(f"patch must be such that images of {size} have two or more, but is {patch}")
    return patch_autoencoder(image_shape, latent_dim, patch, width, lambda _: Mamba(width, depth, state))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `mamba`."""
    yield aezoo.Architecture(
        name="mamba",
        seed_spread="narrow",
        build=build,
        summary="Selective state spaces over patches, by a parallel scan, on both sides of a dense bottleneck",
        reference="Gu & Dao 2023, arXiv:2312.00752",
        variants=[],
    )
