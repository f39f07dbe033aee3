"""Where the two halves of a network are, its encoder and its decoder, and what passes between them.

Shapes: x is (B, C, H, W), float32, pixels in [0, 1]; a latent is (B, ...).
"""

import torch
from torch import Tensor, nn

from aezoo.contract.latent import Parts
from aezoo.contract.network import Flat, Half, is_closed_form, own_module


def declared_halves(module: nn.Module) -> tuple[Half, Half] | None:
    """Return the module's methods ``encode`` and ``decode``, or None where it has not both."""
    return _pair(module, "encode", "decode")


def is_declared(module: nn.Module) -> bool:
    """Say whether a module has methods of the contract, ``encode`` and ``decode``, ``training_forward`` or a fit.

    What else it has by a name of the contract, such as ``objective``, is then meant as the contract says.
    """
    inner = own_module(module)
    trains = callable(getattr(inner, "training_forward", None))
    return trains or declared_halves(module) is not None or is_closed_form(module)


def guessed_halves(module: nn.Module) -> tuple[Half, Half] | None:
    """Return the module's children ``encoder`` and ``decoder``, or None: a guess by name, which may be wrong."""
    return _pair(module, "encoder", "decoder")


def _pair(module: nn.Module, first: str, second: str) -> tuple[Half, Half] | None:
    inner = own_module(module)
    encode, decode = (getattr(inner, name, None) for name in (first, second))
    if not callable(encode) or not callable(decode):
        return None
    if isinstance(module, Flat):
        return (lambda x: encode(x.flatten(1))), (lambda z: module._image(decode(z)))
    return encode, decode


def halves(module: nn.Module, x_BCHW: Tensor) -> tuple[Half, Half] | None:
    """Return the module's encode and decode, or None where it has no two halves.

    Methods ``encode`` and ``decode`` are declared. Children ``encoder`` and ``decoder`` are halves where
    ``decoder(encoder(x))`` is ``forward(x)`` on images x_BCHW, in evaluation mode; as it stands, or on flat images.
    A latent of several parts, a tuple or a dictionary, is laid end to end: (B, numbers).
    """
    pair = _halves(module, x_BCHW)
    parts = None if pair is None else _parts(module, pair[0], x_BCHW)
    if pair is None or parts is None:
        return pair
    encode, decode = pair
    return (lambda x: parts.pack(encode(x))), (lambda flat: decode(parts.unpack(flat)))


def latent_parts(module: nn.Module, x_BCHW: Tensor) -> Parts | None:
    """Return what the module's latent consists of; None where that is one tensor, or there is none."""
    pair = _halves(module, x_BCHW)
    return None if pair is None else _parts(module, pair[0], x_BCHW)


def _halves(module: nn.Module, x_BCHW: Tensor) -> tuple[Half, Half] | None:
    declared = declared_halves(module)
    if declared is not None:
        return declared
    guess = guessed_halves(module)
    if guess is None:
        return None
    encode, decode = guess
    on_flat = (lambda x: encode(x.flatten(1))), (lambda z: decode(z).reshape(-1, *x_BCHW.shape[1:]))
    return next((pair for pair in (guess, on_flat) if _composes(module, pair, x_BCHW)), None)


def _parts(module: nn.Module, encode: Half, x_BCHW: Tensor) -> Parts | None:
    """Look at a latent, and leave the module's mode and torch's random stream as they were."""
    training, random = module.training, torch.get_rng_state()
    try:
        with torch.no_grad():
            module.eval()
            return Parts.of(encode(x_BCHW[:2].clone()))
    except Exception:  # noqa: BLE001 - what is wrong with it, whoever encodes in earnest will hear
        return None
    finally:
        module.train(training)
        torch.set_rng_state(random)


def _composes(module: nn.Module, pair: tuple[Half, Half], x_BCHW: Tensor) -> bool:
    encode, decode = pair
    training = module.training
    try:
        with torch.no_grad():
            module.eval()
            # What the network itself raises is its own fault, and for whoever asked.
            whole = module(x_BCHW.clone())
            try:
                parts = decode(encode(x_BCHW.clone()))
                return whole.shape == parts.shape and torch.allclose(parts, whole, rtol=1e-3, atol=1e-5)
            except Exception:  # noqa: BLE001 - halves that cannot be called one after the other are none
                return False
    finally:
        module.train(training)
