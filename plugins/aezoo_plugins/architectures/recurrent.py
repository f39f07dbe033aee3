"""A recurrent autoencoder: one network reads an image row by row, another one writes it."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim


class _Gru(torch.autograd.Function):
    """The states of a GRU. torch's own, off a GPU, takes and differentiates a dozen small steps for each time.

    All that does not wait for the time before is done for all times at once, the gradients of the weights included.
    Shapes: gates_TB3H is what the input says to the reset gate, the update gate and the new state; times first.
    """

    @staticmethod
    def forward(ctx: Any, gates_TB3H: Tensor, state_BH: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        times, count, width = len(gates_TB3H), *state_BH.shape
        states = state_BH.new_empty(times + 1, count, width)
        states[0] = state_BH
        hiddens, both, news = (state_BH.new_empty(times, count, size * width) for size in (3, 2, 1))
        parts = [  # one view for each time, made before the times are gone through
            states[:-1], states[1:], hiddens, both, *both.split(width, 2), news,
            *gates_TB3H.split([2 * width, width], 2), *hiddens.split([2 * width, width], 2),
        ]  # fmt: skip
        for before, after, hidden, gate, reset, update, new, x_gate, x_new, h_gate, h_new in zip(*parts, strict=True):
            torch.addmm(bias, before, weight.T, out=hidden)
            torch.add(x_gate, h_gate, out=gate).sigmoid_()
            torch.addcmul(x_new, reset, h_new, out=new).tanh_()
            torch.lerp(new, before, update, out=after)
        ctx.save_for_backward(weight, states, both, news, hiddens[:, :, 2 * width :])
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grads_TBH: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weight, states, both, news, hiddens = ctx.saved_tensors
        resets, updates = both.chunk(2, 2)
        before = states[:-1]
        to_new = (1 - updates) * (1 - news.square())
        # What a state's gradient is multiplied by to be that of each gate.
        factors = torch.stack(
            [to_new * hiddens * resets * (1 - resets), (before - news) * updates * (1 - updates), to_new * resets], 2
        )
        through = torch.empty_like(factors)
        of_states = torch.empty_like(grads_TBH)
        grad = torch.zeros_like(before[0])
        for time in reversed(range(len(grads_TBH))):
            torch.add(grad, grads_TBH[time], out=of_states[time])
            torch.mul(of_states[time].unsqueeze(1), factors[time], out=through[time])
            grad = torch.addmm(of_states[time] * updates[time], through[time].flatten(1), weight)
        hidden = through.flatten(0, 1).flatten(1)
        gates = torch.cat([through[:, :, :2].flatten(2), of_states * to_new], dim=2)
        return gates, grad, hidden.T @ before.flatten(0, 1), hidden.sum(0)


def states(gru: nn.GRU, x_TBN: Tensor, state_BH: Tensor) -> Tensor:
    """Return the states of a GRU of one layer, (T, B, width), after each of its inputs (T, B, N)."""
    kind = x_TBN.device.type
    if kind in ("cuda", "meta") or torch.is_autocast_enabled(kind) or torch.compiler.is_exporting():
        return gru(x_TBN, state_BH.unsqueeze(0))[0]
    gates = F.linear(x_TBN, gru.weight_ih_l0, gru.bias_ih_l0)
    return _Gru.apply(gates, state_BH, gru.weight_hh_l0, gru.bias_hh_l0)


class Recurrent(aezoo.Autoencoder):
    """A GRU over the rows, whose last state makes the latent; another, which starts from the latent, gives them back.

    It writes from the last row up, which the state knows best, as in the paper, whose units are LSTMs. The writer is
    given nothing at each row but its own state, so that all it knows comes from the latent: with the true row before as
    its input, as a translator has, it could copy.

    Args:
        image_shape: (channels, height, width).
        latent_dim: Numbers of the latent.
        width: Units of either GRU.
    """

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int, width: int) -> None:
        channels, _, breadth = image_shape
        super().__init__(
            nn.ModuleDict({"read": nn.GRU(channels * breadth, width), "narrow": nn.Linear(width, latent_dim)}),
            nn.ModuleDict(
                {
                    "widen": nn.Sequential(nn.Linear(latent_dim, width), nn.Tanh()),
                    "write": nn.GRU(1, width),
                    "paint": nn.Sequential(nn.Linear(width, channels * breadth), nn.Sigmoid()),
                }
            ),
        )
        self.image_shape = image_shape

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to latents (B, latent_dim)."""
        rows = x.permute(2, 0, 1, 3).flatten(2)
        start = x.new_zeros(x.shape[0], self.encoder["narrow"].in_features)
        return self.encoder["narrow"](states(self.encoder["read"], rows, start)[-1])

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, latent_dim) to images (B, C, H, W)."""
        channels, height, breadth = self.image_shape
        state = self.decoder["widen"](z)
        rows = states(self.decoder["write"], state.new_ones(height, z.shape[0], 1), state).flip(0)
        return self.decoder["paint"](rows).unflatten(2, (channels, breadth)).permute(1, 2, 0, 3)


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 16, width: int = 64) -> Recurrent:
    """Build the network: rows of all channels together, from the top.

    A width narrower than the latent is widened to it: else it would be the bottleneck.
    """
    check_latent_dim(latent_dim)
    check_at_least_one(width=width)
    if image_shape[1] < 2:
        raise aezoo.AezooError(
            f"it reads an image row by row, and needs two rows at least; these have {image_shape[1]}"
        )
    return Recurrent(image_shape, latent_dim, max(width, latent_dim))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `recurrent`."""
    yield aezoo.Architecture(
        name="recurrent",
        seed_spread="wide",
        build=build,
        summary="A GRU reads the rows into the latent, another writes them back from it",
        reference="Srivastava, Mansimov & Salakhutdinov 2015, arXiv:1502.04681; GRU: Cho et al. 2014, arXiv:1406.1078",
        variants=[],
    )
