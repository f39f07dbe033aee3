"""What a step does with gradients: Adam, AdamW, SGD or Muon, clipping, and an average of the weights.

They are torch's own functions, called without what its classes do in Python at every step. How the learning rate goes
over the training is here too: a CUDA graph repeats kernels, so that what changes from step to step lies in tensors.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim._muon import muon
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from aezoo.contract.recipe import Recipe

ITERATIONS = 5
"""Of Newton and Schulz, in Muon: torch's default, and its author's."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Theirs, likewise."""
State = tuple[Tensor, ...]


def rate_factor(recipe: Recipe, done: int, steps: int) -> float:
    """Return what the learning rate is multiplied by at the step after `done` of so many steps.

    A warm-up of w steps takes it to 1/w, 2/w and so on up to 1. From there ``cosine`` falls along half a wave, and
    ``linear`` along a line, towards 0, which the step after the last one would have.
    """
    warm = round(recipe.warmup * steps)
    if done < warm:
        return (done + 1) / warm
    share = min(1.0, (done - warm) / max(1, steps - warm))
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * share)) / 2
    return 1 - share if recipe.schedule == "linear" else 1.0


class _Rule(Protocol):
    """How parameters are updated from their gradients, and what is kept of each between two steps."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def initial(self, parameter: nn.Parameter) -> State: ...

    def update(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State]) -> None: ...


class _Adam:
    """Adam (Kingma & Ba 2015), or where weights decay AdamW (Loshchilov & Hutter 2019); fused."""

    names: tuple[str, ...] = ("mean", "square", "count")

    def __init__(self, lr: float | Tensor, *, decoupled: bool, weight_decay: float) -> None:
        self.lr, self.decoupled, self.weight_decay = lr, decoupled, weight_decay

    def initial(self, parameter: nn.Parameter) -> State:
        count = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return torch.zeros_like(parameter), torch.zeros_like(parameter), count

    def update(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State]) -> None:
        means, squares, counts = (list(tensors) for tensors in zip(*states, strict=True))
        adam(
            parameters, gradients, means, squares, [], counts,
            fused=True, amsgrad=False, beta1=0.9, beta2=0.999, lr=self.lr, weight_decay=self.weight_decay, eps=1e-8,
            maximize=False, decoupled_weight_decay=self.decoupled,
        )  # fmt: skip


class _SGD:
    """Stochastic gradient descent with momentum, not Nesterov's; fused."""

    names: tuple[str, ...] = ("momentum",)

    def __init__(self, lr: float | Tensor, *, momentum: float, weight_decay: float) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    def initial(self, parameter: nn.Parameter) -> State:
        return (torch.zeros_like(parameter),)

    def update(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State]) -> None:
        sgd(
            parameters, gradients, [momentum for (momentum,) in states],
            fused=True, weight_decay=self.weight_decay, momentum=self.momentum, lr=self.lr, dampening=0.0,
            nesterov=False, maximize=False,
        )  # fmt: skip


class _Muon:
    """Muon (Jordan et al. 2024) of matrices; a kernel's last dimensions are one.

    Its step is scaled so that it is as large as one of AdamW's (Liu et al. 2025, arXiv:2502.16982): a rate means the
    same for both.
    """

    names: tuple[str, ...] = ("momentum",)

    def __init__(self, lr: float | Tensor, *, momentum: float, weight_decay: float) -> None:
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay

    @staticmethod
    def takes(parameter: nn.Parameter) -> bool:
        """Say whether it is a matrix, with two rows and two columns at least, or a kernel that can be laid out so."""
        return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) > 1

    def initial(self, parameter: nn.Parameter) -> State:
        return (torch.zeros_like(parameter),)

    def update(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State]) -> None:
        for parameter, gradient, (momentum,) in zip(parameters, gradients, states, strict=True):
            # In memory a kernel may lie with its channels last, and then it is no view of a matrix.
            matrix, average = parameter.flatten(1), momentum.flatten(1)
            muon(
                [matrix], [gradient.flatten(1)], [average],
                lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum, nesterov=True,  # type: ignore[arg-type]
                ns_coefficients=COEFFICIENTS, ns_steps=ITERATIONS, eps=1e-7, adjust_lr_fn="match_rms_adamw",
                has_complex=False,
            )  # fmt: skip
            for whole, changed in ((parameter, matrix), (momentum, average)):
                if changed.data_ptr() != whole.data_ptr():
                    whole.copy_(changed.view(whole.shape))


class Optimiser:
    """Parameters with the recipe's optimiser.

    Args:
        parameters: Those that it updates.
        recipe: Which optimiser, and its settings.
        lr: The learning rate; a tensor on the device where it changes.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], recipe: Recipe, lr: float | Tensor) -> None:
        self._parameters = list(parameters)
        self._recipe = recipe
        self._lr = lr
        self._state: dict[nn.Parameter, State] = {}
        decay, momentum = recipe.weight_decay, recipe.momentum
        matrices: _Rule | None = None
        others: _Rule = _Adam(lr, decoupled=recipe.optimizer != "adam", weight_decay=decay)
        if recipe.optimizer == "sgd":
            others = _SGD(lr, momentum=momentum, weight_decay=decay)
        elif recipe.optimizer == "muon":
            matrices = _Muon(lr, momentum=momentum, weight_decay=decay)
        self._rules: dict[nn.Parameter, _Rule] = {
            parameter: matrices if matrices is not None and _Muon.takes(parameter) else others
            for parameter in self._parameters
        }

    @property
    def num_moments(self) -> int:
        """How many parameters have had a gradient, and with it a state."""
        return len(self._state)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of each parameter that has had a gradient, by the parameter's number."""
        return {
            f"{number}/{name}": tensor
            for number, parameter in enumerate(self._parameters)
            if parameter in self._state
            for name, tensor in zip(self._rules[parameter].names, self._state[parameter], strict=True)
        }

    def like(self, names: Collection[str]) -> "Optimiser":
        """Return another one, which has states, all zero, of the parameters that these names are of."""
        other = Optimiser(self._parameters, self._recipe, self._lr)
        for number, parameter in enumerate(self._parameters):
            rule = self._rules[parameter]
            if f"{number}/{rule.names[0]}" in names:
                other._state[parameter] = rule.initial(parameter)
        return other

    def forget_gradients(self) -> None:
        """Let no gradient be added to those of the next step."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Clip the gradients, and update each parameter that has one."""
        used = [parameter for parameter in self._parameters if parameter.grad is not None]
        if self._recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(used, self._recipe.clip_norm)
        by_rule: dict[_Rule, list[nn.Parameter]] = {}
        for parameter in used:
            rule = self._rules[parameter]
            if parameter not in self._state:
                self._state[parameter] = rule.initial(parameter)
            by_rule.setdefault(rule, []).append(parameter)
        with torch.no_grad():
            for rule, parameters in by_rule.items():
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                rule.update(list[Tensor](parameters), gradients, [self._state[parameter] for parameter in parameters])


class Average:
    """A moving average of what a network holds in floats, its buffers included: scored in its place.

    Of the first steps it is their mean, and forgets from then on, so that it never leans on the start. What does not
    change stays as it is to the bit.

    Args:
        tensors: The network's, by name; those that are not floats are left as they are.
        decay: What a step keeps of the average, at the most.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self._own = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
        self._least = 1 - decay
        self._average = {name: tensor.detach().clone() for name, tensor in self._own.items()}
        self._count = torch.zeros((), device=next(iter(self._own.values())).device)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averages, and the count of steps, by name."""
        return {**self._average, "": self._count}

    def update(self) -> None:
        """Take in the network as it is now."""
        self._count += 1
        weight = (1 / self._count).clamp(min=self._least)
        with torch.no_grad():
            for name, average in self._average.items():
                average.lerp_(self._own[name], weight.to(average.dtype))

    def put(self) -> None:
        """Give the network its average."""
        with torch.no_grad():
            for name, tensor in self._own.items():
                tensor.copy_(self._average[name])
