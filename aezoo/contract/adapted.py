"""How a network of somebody else's is read: what it takes, what it returns, what its latent and its penalty are.

Nothing is adapted in silence: `Adapted.adaptations` says what was, and the row of its trials does too.
"""

import inspect
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import FunctionType, MethodType
from typing import Any, Literal

from torch import Tensor, nn

from aezoo.contract.form import ImageForm
from aezoo.contract.network import TrainingOutput, require_network
from aezoo.errors import AezooError, ContractError

Read = Callable[[Any], Tensor] | str | int
"""What of a network's output is meant: a function of it, or a name or a number of its parts."""
Call = Callable[[Any, Any], Any] | str
"""A function of the module and a batch, or the name of one of the module's methods or children."""


LISTED = 8
"""Parts of what came in the place of an image that are named; how many more there are is said."""


class Adapted(nn.Module):
    """A network of somebody else's, and how it is read, a line each. What is not said is as in any network.

    Its own methods `encode` and `decode`, or children `encoder` and `decoder`, are its halves where, in the form of
    `image`, they make up its reconstruction, and none are given here.

    In evaluation it is ``decode(encode(x))`` where both are given, else what `reconstruct` reads of its output. In
    training it is the latter, where `reconstruct`, `call` or a penalty is given, else the former.

    Args:
        module: The network.
        reconstruct: Where in its output the reconstruction is: ``"sample"``, ``0``, ``lambda out: out[0].mean``.
        encode: Its latent, a tensor or several: ``lambda module, x: module.encode(x).latent_dist.mode()``, or the name
            of a method or a child, ``"encode"``.
        decode: The reconstruction from a latent: ``lambda module, z: module.decode(z).sample``, or such a name.
        call: How it is called, where that is not ``module(x)``: ``lambda module, x: module({"data": x})``.
        penalty: Where in its output the penalty is that it adds to a reconstruction loss: a scalar, or (B,).
        per: What that loss is over, a squared error in the range and the channels that the network works in:
            ``"image"``, a sum over its pixels, so that the penalty is divided by their number; ``"pixel"``, a mean.
        weight: What the penalty is multiplied by beside: 2 where the loss is half of the squared error.
        image: The form in which it takes images.
        objective: What is optimised, ``"mse + kl"``; by default ``"mse"``, with a penalty ``"mse + penalty"``, and
            ``"mse, its own pass in training"`` where that is another one than `encode` and `decode`.
        codes: Of a discrete latent, as `encode`: int64, (B, count).
        from_codes: The latent of codes, as `decode`.
        codebook_size: How many codes there are.
        bits: Of a codec, how many bits an image takes, (B,), as `encode`; by its likelihoods, say.
        sparse: Whether its latent is read in numbers that are not 0.
        adversary: The name of its child that is trained against it: ``"discriminator"``.
        adversary_loss: Where in its output that child's own loss is, a scalar.

    Raises:
        AezooError: something of this is not as it must be.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        reconstruct: Read | None = None,
        encode: Call | None = None,
        decode: Call | None = None,
        call: Call | None = None,
        penalty: Read | None = None,
        per: Literal["image", "pixel"] | None = None,
        weight: float = 1.0,
        image: ImageForm | None = None,
        objective: str | None = None,
        codes: Call | None = None,
        from_codes: Call | None = None,
        codebook_size: int | tuple[int, ...] | None = None,
        bits: Call | None = None,
        sparse: bool = False,
        adversary: str | None = None,
        adversary_loss: Read | None = None,
    ) -> None:
        super().__init__()
        require_network(module, "Adapted")
        _check_pair(encode=encode, decode=decode)
        _check_pair(adversary=adversary, adversary_loss=adversary_loss)
        if penalty is not None and per not in ("image", "pixel"):
            raise AezooError(
                "a penalty stands beside a loss: give per='image' where that is a sum over an image, per='pixel' "
                f"where it is a mean, but got {per!r}"
            )
        if penalty is None and (per is not None or weight != 1):
            raise AezooError("per and weight are a penalty's, but there is no penalty")
        if (codes, from_codes, codebook_size).count(None) not in (0, 3):
            raise AezooError("a discrete latent has codes, from_codes and codebook_size: give all three, or none")
        if codes is not None and encode is None:
            raise AezooError("codes tell of a latent, but there is no encode and decode")
        self.module = module
        self.image = image
        self.sparse = sparse
        if codebook_size is not None:
            self.codebook_size = codebook_size
        reads = {"reconstruct": reconstruct, "penalty": penalty, "adversary_loss": adversary_loss}
        self._reads = {name: read for name, read in reads.items() if read is not None}
        self._per, self._penalty_weight = per, weight
        calls = {
            "encode": encode, "decode": decode, "call": call, "codes": codes, "from_codes": from_codes, "bits": bits,
        }  # fmt: skip
        self._calls = {name: _bound(name, how, module) for name, how in calls.items() if how is not None}
        self._adversary = None if adversary is None else _child(module, adversary)
        # Whether it reconstructs in training by a call of its own, and not by encoding and decoding.
        self._trains_by_call = encode is None or not {"reconstruct", "penalty", "call"}.isdisjoint(
            {*self._reads, *self._calls}
        )
        by_default = "mse" if encode is None or not self._trains_by_call else "mse, its own pass in training"
        self.objective = objective or ("mse + penalty" if penalty is not None else by_default)

    def __getattr__(self, name: str) -> Any:
        # Only what is given is there: whoever has halves is held to them.
        if name in _PARTS and name in {*self.__dict__.get("_calls", {}), *self.__dict__.get("_reads", {})}:
            return MethodType(_PARTS[name], self)
        if name in ("encoder", "decoder") and "encode" not in self.__dict__.get("_calls", {}):
            half = _own_half(self, name)
            if half is not None:
                return half
        if name == "adversary" and (child := self.__dict__.get("_adversary")):
            return self.module.get_submodule(child)
        return super().__getattr__(name)

    @property
    def adaptations(self) -> list[str]:
        """What is done to images and penalty that the network itself does not do, a line each."""
        lines = [] if self.image is None else self.image.adaptations
        if "penalty" not in self._reads:
            return lines
        parts = ["divided by the pixels of an image" if self._per == "image" else "taken beside a mean over pixels"]
        if self.image is not None and self._per == "image" and self.image.repeats > 1:
            parts.append(f"divided by the {self.image.repeats} channels of grey")
        if self.image is not None and self.image.span != 1:
            parts.append(f"divided by {self.image.span**2:g}, the square of its pixels' range")
        if self._penalty_weight != 1:
            parts.append(f"times {self._penalty_weight:g}")
        return [*lines, f"its penalty is {', '.join(parts)}"]

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images (B, C, H, W)."""
        if "encode" in self._calls:
            return _decoded(self, _encoded(self, x))
        return self.training_forward(x).reconstruction

    def training_forward(self, x: Tensor) -> TrainingOutput:
        """Reconstruct images (B, C, H, W) as the network does while it trains, with its penalty."""
        if not self._trains_by_call:
            return TrainingOutput(self(x))
        output = self._output(x)
        reconstruction = self._read("reconstruct", output) if "reconstruct" in self._reads else output
        if self.image is not None:
            reconstruction = self.image.giving(reconstruction)
        if "penalty" not in self._reads:
            return TrainingOutput(reconstruction)
        penalty = self._read("penalty", output)
        if not isinstance(penalty, Tensor) or penalty.ndim > 1:
            got = f"{tuple(penalty.shape)}" if isinstance(penalty, Tensor) else type(penalty).__name__
            raise ContractError(f"penalty must be a scalar, or a number for each image, (B,), but got {got}")
        return TrainingOutput(reconstruction, penalty.mean() * (self._penalty_weight / self._loss_per_mse(x)))

    def _loss_per_mse(self, x: Tensor) -> float:
        """Return how large the loss beside the penalty is where the harness's MSE is 1.

        Pixels that were padded are not the harness's, and so they do not count here either.
        """
        repeats, span = (1, 1.0) if self.image is None else (self.image.repeats, self.image.span)
        return span**2 * (repeats * x[0].numel() if self._per == "image" else 1)

    def _output(self, x: Tensor) -> Any:
        taken = _taken(self, x)
        return self._made("call", taken) if "call" in self._calls else self.module(taken)

    def _read(self, name: str, output: Any) -> Any:
        return read_of(output, self._reads[name], name)

    def _made(self, name: str, batch: Any) -> Any:
        how = self._calls[name]
        return attrgetter(how)(self.module)(batch) if isinstance(how, str) else how(self.module, batch)


def _taken(self: Adapted, x: Tensor) -> Tensor:
    # A view: a network that asks for gradients of its input marks its own tensor, and not the harness's.
    return x.view_as(x) if self.image is None else self.image.taking(x)


def _encoded(self: Adapted, x: Tensor) -> Any:
    return self._made("encode", _taken(self, x))


def _decoded(self: Adapted, z: Any) -> Tensor:
    return _given(self, self._made("decode", z))


def _given(self: Adapted, y: Any) -> Tensor:
    return y if self.image is None else self.image.giving(y)


def _own_half(self: Adapted, name: str) -> Callable[[Any], Any] | None:
    """Return the network's own encoder or decoder, in the form of the harness's images; None where it has not both.

    It is a guess, as children of these names are in any network: held to make up the reconstruction, or none.
    """
    named = ([getattr(self.module, own, None) for own in pair] for pair in _OWN_HALVES)
    encode, decode = next((pair for pair in named if all(map(callable, pair))), (None, None))
    if encode is None or decode is None:
        return None
    return (lambda x: encode(_taken(self, x))) if name == "encoder" else (lambda z: _given(self, decode(z)))


def _codes(self: Adapted, x: Tensor) -> Tensor:
    return self._made("codes", _taken(self, x))  # type: ignore[no-any-return]


def _from_codes(self: Adapted, codes: Tensor) -> Any:
    return self._made("from_codes", codes)


def _bits(self: Adapted, x: Tensor) -> Tensor:
    return self._made("bits", _taken(self, x))  # type: ignore[no-any-return]


def _adversary_loss(self: Adapted, x: Tensor) -> Any:
    return self._read("adversary_loss", self._output(x))


_PARTS: Mapping[str, Callable[..., Any]] = {
    "encode": _encoded, "decode": _decoded, "codes": _codes, "from_codes": _from_codes,
    "bits": _bits, "adversary_loss": _adversary_loss,
}  # fmt: skip


_OWN_HALVES = (("encode", "decode"), ("encoder", "decoder"))


def adaptations_of(module: nn.Module) -> list[str]:
    """Return what is done to images and penalty of a network of somebody else's; nothing of another network."""
    return module.adaptations if isinstance(module, Adapted) else []


def read_of(output: Any, read: Read, what: str) -> Any:
    """Return a part of a network's output.

    Raises:
        ContractError: there is no such part.
    """
    if callable(read):
        return read(output)
    try:
        if isinstance(read, int) or isinstance(output, Mapping):
            return output[read]
        return getattr(output, read)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ContractError(
            f"{what}={read!r} is no part of what the network returned, {what_came(output, in_full=True)}"
        ) from error


def parts_of(output: Any) -> dict[str | int, Any]:
    """Return the parts of a network's output by name or number, as `read_of` takes them; none of a tensor."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, tuple | list):
        names = {name: getattr(output, name) for name in getattr(output, "_fields", ())}
        return names or dict(enumerate(output))
    return dict(vars(output)) if not isinstance(output, Tensor) and hasattr(output, "__dict__") else {}


def what_came(value: Any, *, in_full: bool) -> str:
    """Return what came in the place of a tensor: ``a list of 2``, `in_full` ``a list of 2: 0 (8, 3, 28, 28), 1 ()``."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if value is None:
        return "None"
    sized = isinstance(value, list | tuple | dict)
    parts = parts_of(value)
    kind = type(value).__name__
    what = f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
    what += f" of {len(value) if sized else len(parts)}" if sized or parts else ""
    if not in_full or not parts:
        return what
    listed = [
        f"{name} {tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__}"
        for name, part in list(parts.items())[:LISTED]
    ]
    more = f" and {len(parts) - LISTED} more" if len(parts) > LISTED else ""
    return f"{what}: {', '.join(listed)}{more}"


def image_places(output: Any, shape: tuple[int, ...]) -> list[str | int]:
    """Return where in a network's output there are tensors of a shape, by name or number, as `Adapted` takes it."""
    return [name for name, part in parts_of(output).items() if isinstance(part, Tensor) and tuple(part.shape) == shape]


def _check_pair(**pair: Any) -> None:
    """Raise AezooError where one of two arguments is given without the other."""
    given, missing = ([name for name, value in pair.items() if (value is None) == gone] for gone in (False, True))
    if given and missing:
        raise AezooError(f"{' and '.join(pair)} go together, but there is {given[0]} without {missing[0]}")


def _child(module: nn.Module, name: str) -> str:
    """Return the name of a module's child.

    Raises:
        AezooError: there is none.
    """
    children = dict(module.named_modules())
    if not isinstance(name, str) or not name or name not in children:
        own = ", ".join(child for child, _ in module.named_children())
        raise AezooError(f"adversary={name!r}: {type(module).__name__} has no such child; it has {own or 'none'}")
    return name


def _bound(name: str, how: Call, module: nn.Module) -> Call:
    """Return a call that works on whatever copy of the module it is given.

    Raises:
        AezooError: it would go on working on this one.
    """
    if isinstance(how, MethodType) and how.__self__ is module:
        how = how.__name__
    if isinstance(how, nn.Module):
        how = next((child for child, one in module.named_modules() if one is how), type(how).__name__)
    if isinstance(how, str):
        try:
            callable_there = callable(attrgetter(how)(module))
        except AttributeError:
            callable_there = False
        if not callable_there:
            raise AezooError(f"{name}={how!r}: {type(module).__name__} has no such method, nor child")
        return how
    if not callable(how):
        raise AezooError(f"{name} takes a function of the module and a batch, or a method's name, but got {how!r}")
    held = inspect.getclosurevars(how).nonlocals.values() if isinstance(how, FunctionType) else ()
    if any(isinstance(value, nn.Module) for value in held):
        raise AezooError(
            f"{name} must take the module as its first argument, as in lambda module, x: module.{name}(x): one that "
            "holds it goes on working on it when the network is copied"
        )
    return how
