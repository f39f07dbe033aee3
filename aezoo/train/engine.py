"""How a step is taken: the MSE, its gradient, the arithmetic; a plugin's network is called, and no more.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.contract.network import adversary_of, progress_of, to_float, training_forward
from aezoo.contract.recipe import Precision, Recipe
from aezoo.errors import ContractError
from aezoo.train.optimiser import Average, Optimiser, rate_factor
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
        steps: Those of the whole training; where it is not known, the recipe's, or one.
        compiled: Whether the network goes through ``torch.compile``, and with it its backward.
        share: This process's, of a training that several take part in.

    Raises:
        ContractError: the network has nothing to train, or returns what the contract does not allow.
    """

    def __init__(
        self,
        module: nn.Module,
        recipe: Recipe,
        *,
        steps: int | None = None,
        compiled: bool = False,
        share: Share = WHOLE,
    ) -> None:
        self.module = module.train()
        self._adversary = adversary_of(module)
        against = set() if self._adversary is None else set(self._adversary.parameters)
        trained = [each for each in module.parameters() if each.requires_grad and each not in against]
        if not trained:
            raise ContractError("the network has no parameter to train, and no fit(images) to replace training")
        self._recipe = recipe
        self._device = trained[0].device.type
        self._forward = share.forward_of(module, torch.compile(training_forward) if compiled else training_forward)
        self._share = share
        self._weight = share.weight(recipe.batch_size)
        self._steps = steps or recipe.steps or 1
        self._done = 0
        self._progress = progress_of(module)
        is_paced = recipe.schedule != "constant" or recipe.warmup > 0
        # What changes from step to step is a tensor, for a graph repeats kernels.
        self._lr = torch.zeros((), device=trained[0].device) if is_paced else None
        lr = recipe.rate if self._lr is None else self._lr
        self._optimisers = {"optimiser": Optimiser(trained, recipe, lr)}
        if self._adversary is not None:
            self._optimisers["adversary"] = Optimiser(self._adversary.parameters, recipe, lr)
        self._average = None if recipe.ema is None else Average(network_tensors(module), recipe.ema)

    def compile(self, x_BCHW: Tensor) -> float:
        """Compile what a step runs, leave the network as it was, and return the seconds that it took."""
        started = time.perf_counter()
        state = deepcopy(self.module.state_dict())
        self.backward(x_BCHW)
        self.module.load_state_dict(state)
        self._forget_gradients()
        return time.perf_counter() - started

    def tensors(self) -> dict[str, Tensor]:
        """Return copies, on the host, of what steps have made of the network and of its optimiser, by name.

        Raises:
            StateError: the network's ``state_dict`` holds something that is no tensor of it.
        """
        return copied(self._tensors(self._optimisers))

    def restore(self, tensors: Mapping[str, Tensor], done: int) -> None:
        """Make of the network and of its optimiser what `tensors` returned of others of their kind, after `done` steps.

        Raises:
            StateError: it is not that of a network of this kind; nothing was changed.
        """
        optimisers = {
            part: optimiser.like({name.removeprefix(f"{part}/") for name in tensors if name.startswith(f"{part}/")})
            for part, optimiser in self._optimisers.items()
        }
        kept = ("network/", "average/", *(f"{part}/" for part in optimisers))
        put_back({name: tensor for name, tensor in tensors.items() if name.startswith(kept)}, self._tensors(optimisers))
        self._optimisers = optimisers
        self._done = done

    @property
    def num_moments(self) -> int:
        """How many parameters have had a gradient, and with it a state of the optimiser."""
        return sum(optimiser.num_moments for optimiser in self._optimisers.values())

    def paces(self, count: int) -> Tensor:
        """Return what each of the next steps is told, (count, 2), on the device: share of the budget, learning rate."""
        rows = [
            (min(1.0, done / self._steps), self._recipe.rate * rate_factor(self._recipe, done, self._steps))
            for done in range(self._done, self._done + count)
        ]
        return torch.tensor(rows, device=self._device)

    def passed(self, count: int) -> None:
        """Count steps that were taken by a graph."""
        self._done += count

    def step(self, x_BCHW: Tensor, pace: Tensor | None = None) -> Tensor:
        """Take one step on a batch, and return its MSE, a scalar on the device that nobody has waited for.

        Args:
            x_BCHW: The batch.
            pace: A row of `paces`, of a step that is captured for a graph, which counts its steps by `passed`.
        """
        if self._lr is not None or self._progress is not None:
            share, rate = self.paces(1)[0] if pace is None else pace
            if self._lr is not None:
                self._lr.copy_(rate)
            if self._progress is not None:
                self._progress.copy_(share)
        self._done += pace is None
        self._forget_gradients()
        mse = self.backward(x_BCHW)
        self._optimisers["optimiser"].step()
        if self._adversary is not None:
            # On the same batch, with the network as its own step has just left it.
            self.adversary_backward(x_BCHW)
            self._optimisers["adversary"].step()
        if self._average is not None:
            self._average.update()
        return mse

    def finish(self) -> None:
        """Make the network what is scored: with its averaged weights, where the recipe has such, and all done."""
        if self._average is not None:
            self._average.put()
        if self._progress is not None:
            self._progress.fill_(1.0)

    def backward(self, x_BCHW: Tensor) -> Tensor:
        """Find the gradients of the MSE between reconstruction and clean batch, penalty added; return the MSE."""
        version = x_BCHW._version
        with arithmetic(self._recipe.precision, self._device):
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

    def adversary_backward(self, x_BCHW: Tensor) -> None:
        """Find the gradients of the adversary's own loss, for its parameters alone; nothing where there is none."""
        adversary = self._adversary
        if adversary is None:
            return
        with arithmetic(self._recipe.precision, self._device):
            loss = adversary.loss(x_BCHW)
        gradients = torch.autograd.grad(loss, adversary.parameters, allow_unused=True)
        # What the network's own step left there is none of its business.
        for parameter, gradient in zip(adversary.parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else self._share.mean_gradient(gradient, self._weight)

    def _forget_gradients(self) -> None:
        for optimiser in self._optimisers.values():
            optimiser.forget_gradients()

    def _tensors(self, optimisers: Mapping[str, Optimiser]) -> dict[str, Tensor]:
        tensors = _named("network", network_tensors(self.module))
        for part, optimiser in optimisers.items():
            tensors |= _named(part, optimiser.tensors())
        return tensors | ({} if self._average is None else _named("average", self._average.tensors()))


def _named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}
