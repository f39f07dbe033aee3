"""The network side of the contract: what a build function may return, and how the harness reads it.

Shapes: x is (B, C, H, W), float32, pixels in [0, 1]; a latent is (B, ...).
"""

import html
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from aezoo.contract.architecture import ImageShape
from aezoo.errors import AezooError, ContractError

Half = Callable[[Tensor], Tensor]
"""An encoder or a decoder, or another function of a batch, (B, ...)."""


class TrainingOutput(NamedTuple):
    """What ``training_forward(x)`` returns.

    The harness adds its own MSE between `reconstruction`, (B, C, H, W), and the clean x to `penalty`, a scalar
    that is minimised as it stands; None for none.
    """

    reconstruction: Tensor
    penalty: Tensor | None = None


class Autoencoder(nn.Module):
    """An encoder and a decoder in a row.

    Args:
        encoder: Maps (B, C, H, W) to a latent (B, ...).
        decoder: Maps the latent back to (B, C, H, W).
    """

    objective = "mse"

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        for half in (encoder, decoder):
            if isinstance(half, type):
                require_network(half, "Autoencoder")
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their latent (B, ...)."""
        return cast("Tensor", self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, ...) to images (B, C, H, W)."""
        return cast("Tensor", self.decoder(z))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W)."""
        return self.decode(self.encode(x))

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it, without running it."""
        return _html(self, {"encoder": self.encoder, "decoder": self.decoder})


class Flat(nn.Module):
    """Wrap a module that works on flat images (B, C·H·W), such as the classic tutorial class, as it stands.

    Its ``training_forward``, ``fit`` and ``objective`` go with it, on flat images too.

    Args:
        module: Maps (B, C·H·W) to (B, C·H·W).
        image_shape: (channels, height, width).
    """

    def __init__(self, module: nn.Module, image_shape: ImageShape) -> None:
        super().__init__()
        require_network(module, "Flat")
        self.module = module
        self.image_shape = tuple(image_shape)
        own = getattr(module, "objective", "mse")
        self.objective = own if isinstance(own, str) else "mse"

    def __getattr__(self, name: str) -> Any:
        if name == "fit":
            # Only where the module has one: whoever has a fit is not trained.
            fit = cast("Any", self.module).fit
            return lambda images: fit(images.flatten(1))
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W)."""
        return self._image(self.module(x.flatten(1)))

    def training_forward(self, x: Tensor) -> TrainingOutput:
        """Reconstruct images (B, C, H, W) as the module does while it trains."""
        output = training_forward(self.module, x.flatten(1))
        return TrainingOutput(self._image(output.reconstruction), output.penalty)

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it, without running it."""
        return _html(self, dict(self.module.named_children()) or {"module": self.module})

    def _image(self, flat: Tensor) -> Tensor:
        pixels = self.image_shape[0] * self.image_shape[1] * self.image_shape[2]
        if flat.ndim != 2 or flat.shape[1] != pixels:
            raise ContractError(
                f"expected flat images of shape (B, {pixels}) from {type(self.module).__name__}, "
                f"got {tuple(flat.shape)}"
            )
        return flat.reshape(len(flat), *self.image_shape)


class Called(nn.Module):
    """A function of a network as a module, whose parameters are the network's: for what takes modules alone.

    Args:
        module: The network.
        function: Of a batch, (B, ...); it calls the network, or a part of it.
    """

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, batch: Tensor) -> Any:
        """Call it."""
        return self._function(batch)


def _html(network: nn.Module, parts: Mapping[str, nn.Module]) -> str:
    """Return a network for a notebook: its parameters and its objective, and those of its parts with their layers."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{num_params(part):,} parameters</td>"
        f"<td style='text-align:left'><pre>{html.escape(str(part))}</pre></td></tr>"
        for name, part in parts.items()
    )
    name, objective = html.escape(type(network).__name__), html.escape(str(getattr(network, "objective", "mse")))
    return f"<p><b>{name}</b>: {num_params(network):,} parameters, objective {objective}</p><table>{rows}</table>"


def require_network(value: Any, taker: str) -> None:
    """Raise AezooError where something else than a network was given, such as its class."""
    if isinstance(value, nn.Module):
        return
    name = getattr(value, "__name__", type(value).__name__)
    got = f"the class {name}: write {name}()" if isinstance(value, type) else type(value).__name__
    raise AezooError(f"{taker} takes an nn.Module, but got {got}")


def training_forward(module: nn.Module, x: Tensor) -> TrainingOutput:
    """Call the module's own ``training_forward`` where it has one, else its ``forward``.

    Raises:
        ContractError: ``training_forward`` returned something else than a `TrainingOutput`.
    """
    own = getattr(module, "training_forward", None)
    if own is None:
        return TrainingOutput(module(x))
    output = own(x)
    if not isinstance(output, TrainingOutput):
        raise ContractError(
            f"training_forward must return aezoo.TrainingOutput(reconstruction, penalty), "
            f"but returned {type(output).__name__}"
        )
    return output


def is_closed_form(module: nn.Module) -> bool:
    """Say whether the module has a method ``fit(images)``; one that asks for more is a training loop of its own."""
    inner = own_module(module)
    fit = getattr(inner, "fit", None)
    if not callable(fit):
        return False
    try:
        inspect.signature(fit).bind(None)
    except TypeError:
        return False
    except ValueError:  # a built-in whose signature nobody can read
        return True
    return True


class Discrete(NamedTuple):
    """What a module with a discrete latent offers: each image is told by its codes alone.

    `codes` maps images (B, C, H, W) to codes (B, count), int64, 0 to `codebook_size` - 1; where they differ in that,
    it is a tuple, a number for each code. `from_codes` maps codes to the latent that the decoder gets.
    """

    codes: Half
    from_codes: Half
    codebook_size: int | tuple[int, ...]

    def sizes(self, count: int) -> tuple[int, ...]:
        """Return how many there are of each of so many codes.

        Raises:
            ContractError: `codebook_size` speaks of another number of codes.
        """
        if isinstance(self.codebook_size, int):
            return (self.codebook_size,) * count
        if len(self.codebook_size) != count:
            raise ContractError(f"codebook_size has {len(self.codebook_size)} numbers, but an image {count} codes")
        return self.codebook_size


def bits_of(module: nn.Module) -> Half | None:
    """Return the module's method ``bits``, or None where it has none.

    It maps images (B, C, H, W) to the bits that each takes, (B,): of codecs, whose codes are of no one length.
    """
    inner = own_module(module)
    own = getattr(inner, "bits", None)
    if not inspect.ismethod(own):
        return None
    return (lambda x: own(x.flatten(1))) if inner is not module else own


def discrete(module: nn.Module) -> Discrete | None:
    """Return the module's codes, or None where its latent is not discrete: it has not all three parts of `Discrete`.

    Raises:
        ContractError: it has two of the parts, and the third one is missing or wrong.
    """
    inner = own_module(module)
    codes, from_codes, codebook_size = (cast("Any", getattr(inner, name, None)) for name in Discrete._fields)
    if not inspect.ismethod(codes) or (not callable(from_codes) and not isinstance(codebook_size, int | tuple)):
        return None
    if not callable(from_codes):
        raise ContractError("a discrete latent has codes, from_codes and codebook_size, but there is no from_codes")
    sizes = codebook_size if isinstance(codebook_size, tuple) else (codebook_size,)
    if not sizes or any(not isinstance(size, int) or size < 1 for size in sizes):
        raise ContractError(
            "codebook_size must be a whole number, at least 1, or a tuple of one for each code, but is "
            f"{codebook_size!r}"
        )
    if inner is not module:
        return Discrete(lambda x: codes(x.flatten(1)), from_codes, codebook_size)
    return Discrete(codes, from_codes, codebook_size)


def own_module(module: nn.Module) -> nn.Module:
    """Return the module that its author wrote, which `Flat` may wrap."""
    return module.module if isinstance(module, Flat) else module


def progress_of(module: nn.Module) -> Tensor | None:
    """Return the module's buffer ``progress``, or None where it has none.

    A float32 scalar that the harness fills before each step of training with the share of the budget that is done, 0 at
    the first step, and with 1 after the last. In place of annealing by a counter: `self.register_buffer("progress",
    torch.zeros(()))`.
    """
    own = own_module(module)._buffers.get("progress")
    is_scalar = own is not None and own.ndim == 0 and own.dtype == torch.float32
    return own if is_scalar else None


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """A part of a module that is trained against it.

    `parameters` are those of its child ``adversary``; `loss` is its ``adversary_loss``, which maps the clean batch
    (B, C, H, W) to a scalar that a step of these parameters alone lowers.
    """

    parameters: list[nn.Parameter]
    loss: Half


def adversary_of(module: nn.Module) -> Adversary | None:
    """Return the module's adversary: its child ``adversary``, where it has a method ``adversary_loss`` too; or None.

    Raises:
        ContractError: it has the method, and no child with a parameter to train.
    """
    own = own_module(module)
    loss, child = getattr(own, "adversary_loss", None), getattr(own, "adversary", None)
    if not callable(loss):
        return None
    parameters = [each for each in child.parameters() if each.requires_grad] if isinstance(child, nn.Module) else []
    if not parameters:
        raise ContractError("adversary_loss trains a child called adversary, but there is none with parameters")
    return Adversary(parameters=parameters, loss=(lambda x: loss(x.flatten(1))) if own is not module else loss)


def is_sparse(module: nn.Module) -> bool:
    """Say whether the module declares, ``sparse = True``, that its latent is read in numbers that are not 0."""
    return getattr(own_module(module), "sparse", False) is True


def num_params(module: nn.Module) -> int:
    """Count the numbers in the module's parameters, fitted ones included; those that share storage count once.

    Those of its adversary, which no image goes through, do not count: `num_adversary_params` does.
    """
    return _numbers(module) - num_adversary_params(module)


def num_adversary_params(module: nn.Module) -> int:
    """Count the numbers in the parameters of the module's adversary; 0 where it has none."""
    return 0 if adversary_of(module) is None else _numbers(cast("nn.Module", own_module(module).adversary))


def _numbers(module: nn.Module) -> int:
    numbers: dict[int, int] = {}
    held: dict[int, int] = {}
    for parameter in module.parameters():
        storage = parameter.untyped_storage()
        key = storage._cdata
        numbers[key] = numbers.get(key, 0) + parameter.numel()
        held[key] = storage.nbytes() // parameter.element_size()
    return sum(min(count, held[key]) for key, count in numbers.items())


def to_float(pixels: Tensor) -> Tensor:
    """Turn uint8 pixels, 0 to 255, into float32 in [0, 1], as every network sees them."""
    return pixels.to(torch.float32).div_(255)
