"""How a step is taken: the MSE, its gradient, the optimiser, the arithmetic; a plugin's network is called, and no more.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from aezoo.contract.network import to_float, training_forward
from aezoo.contract.recipe import Precision, Recipe
from aezoo.errors import ContractError
from aezoo.train.parallel import WHOLE, Share
from aezoo.train.state import copied, network_tensors, put_back


def whole_batch(images_NCHW: Tensor, recipe: Recipe) -> Tensor:
    """Return the first batch of images, float32, repeating images where the data set is smaller than a batch."""
    return to_float(images_NCHW[torch.arange(recipe.batch_size, device=images_NCHW.device) % len(images_NCHW)])


def arithmetic(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Compute as a recipe's precision says; training, score and clocks all do.

    ``float32`` is true float32. ``tf32`` lets an NVIDIA device round what it multiplies to 10 bits. ``bfloat16`` is
    torch's autocast: products in bfloat16, parameters, gradients, optimiser and the MSE in float32.
    """
    if precision == "bfloat16":
        return torch.autocast(device, torch.bfloat16)
    return products(tf32=True) if precision == "tf32" else nullcontext()


@contextmanager
def products(*, tf32: bool) -> Iterator[None]:
    """Let an NVIDIA device round what it multiplies, or not: `machine.configure` does in the processes of trials."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


class Trainer:
    """A network with its optimiser, one step at a time. The clocks time the same steps that training takes.

    Args:
        module: On the device already.
        recipe: The settings.
        compiled: Whether the network goes through ``torch.compile``, and with it its backward.
        share: This process's, of a training that several take part in.

    Raises:
        ContractError: the network has nothing to train, or returns what the contract does not allow.
    """

    def __init__(self, module: nn.Module, recipe: Recipe, *, compiled: bool = False, share: Share = WHOLE) -> None:
        self.module = module.train()
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not trained:
            raise ContractError("the network has no parameter to train, and no fit(images) to replace training")
        self._adam = _Adam(trained, recipe.rate)
        self._precision = recipe.precision
        self._device = trained[0].device.type
        self._forward = share.forward_of(module, torch.compile(training_forward) if compiled else training_forward)
        self._weight = share.weight(recipe.batch_size)

    def compile(self, x_BCHW: Tensor) -> float:
        """Compile what a step runs, leave the network as it was, and return the seconds that it took."""
        started = time.perf_counter()
        state = deepcopy(self.module.state_dict())
        self.backward(x_BCHW)
        self.module.load_state_dict(state)
        self._adam.forget_gradients()
        return time.perf_counter() - started

    def tensors(self) -> dict[str, Tensor]:
        """Return copies, on the host, of what steps have made of the network and of Adam, by name.

        Raises:
            StateError: the network's ``state_dict`` holds something that is no tensor of it.
        """
        return copied({**_named("network", network_tensors(self.module)), **self._adam.tensors()})

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Make of the network and of Adam what `tensors` returned of others of their kind.

        Raises:
            StateError: it is not that of a network of this kind; nothing was changed.
        """
        adam = self._adam.like({name for name in tensors if name.startswith("adam/")})
        own = {**_named("network", network_tensors(self.module)), **adam.tensors()}
        put_back({name: tensor for name, tensor in tensors.items() if name.startswith(("network/", "adam/"))}, own)
        self._adam = adam

    @property
    def num_moments(self) -> int:
        """How many parameters have had a gradient, and with it moments of Adam."""
        return self._adam.num_moments

    def step(self, x_BCHW: Tensor) -> Tensor:
        """Take one step on a batch, and return its MSE, a scalar on the device that nobody has waited for."""
        self._adam.forget_gradients()
        mse = self.backward(x_BCHW)
        self._adam.step()
        return mse

    def backward(self, x_BCHW: Tensor) -> Tensor:
        """Find the gradients of the MSE between reconstruction and clean batch, penalty added; return the MSE."""
        version = x_BCHW._version
        with arithmetic(self._precision, self._device):
            reconstruction, penalty = self._forward(x_BCHW)
        if reconstruction.shape != x_BCHW.shape:
            raise ContractError(
                f"in training, expected a reconstruction of shape {tuple(x_BCHW.shape)}, "
                f"got {tuple(reconstruction.shape)}"
            )
        if x_BCHW._version != version:
            raise ContractError("the network changes its input in place while it trains; work on a copy: x.clone()")
        # The gradient of the mean of squares is known: it need not go through autograd, which reads all of it thrice.
        difference = reconstruction.detach() - x_BCHW
        flat = difference.flatten()
        mse = torch.dot(flat, flat) / flat.numel()
        gradient = difference.mul_(2 * self._weight / flat.numel()).to(reconstruction.dtype)
        if penalty is None or not penalty.requires_grad:
            torch.autograd.backward(reconstruction, gradient)
        else:
            torch.autograd.backward([reconstruction, penalty], [gradient, torch.full_like(penalty, self._weight)])
        return mse


def _named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


_MOMENTS = ("mean", "square", "count")


class _Adam:
    """torch's fused Adam (Kingma & Ba 2015), called without what its class does in Python at every step."""

    def __init__(self, parameters: list[nn.Parameter], lr: float) -> None:
        self._parameters = parameters
        self._lr = lr
        self._state: dict[nn.Parameter, tuple[Tensor, Tensor, Tensor]] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the moments and the count of each parameter that has had a gradient, by its number."""
        numbers = {parameter: number for number, parameter in enumerate(self._parameters)}
        return {
            f"adam/{numbers[parameter]}/{name}": tensor
            for parameter, moments in self._state.items()
            for name, tensor in zip(_MOMENTS, moments, strict=True)
        }

    @property
    def num_moments(self) -> int:
        return len(self._state)

    def like(self, names: Collection[str]) -> "_Adam":
        """Return another one, which has moments, all zero, of the parameters that these names are of."""
        other = _Adam(self._parameters, self._lr)
        for number, parameter in enumerate(self._parameters):
            if f"adam/{number}/{_MOMENTS[0]}" in names:
                other._state[parameter] = _no_moments(parameter)
        return other

    def forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update each parameter that has a gradient."""
        used = [parameter for parameter in self._parameters if parameter.grad is not None]
        for parameter in used:
            if parameter not in self._state:
                self._state[parameter] = _no_moments(parameter)
        state = [self._state[parameter] for parameter in used]
        with torch.no_grad():
            adam(
                list[Tensor](used),
                [parameter.grad for parameter in used if parameter.grad is not None],
                [mean for mean, _, _ in state],
                [square for _, square, _ in state],
                [],
                [count for _, _, count in state],
                fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=self._lr, weight_decay=0.0, eps=1e-8,
                maximize=False,
            )  # fmt: skip


def _no_moments(parameter: nn.Parameter) -> tuple[Tensor, Tensor, Tensor]:
    """Return the moments, and the count of steps, that a parameter begins with."""
    count = torch.zeros((), dtype=torch.float32, device=parameter.device)
    return torch.zeros_like(parameter), torch.zeros_like(parameter), count
