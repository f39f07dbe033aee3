"""What a network has by a name of the contract, and that is not what the contract means by it: no fault, but told."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from aezoo.contract.halves import guessed_halves, halves, is_declared
from aezoo.contract.network import adversary_of, discrete, is_closed_form, own_module, progress_of

OUT_OF_RANGE = 10.0
"""The mean size of a pixel, in the place of 0 to 1, that no start of a network explains: ours stay below 1."""


def notes_of(module: nn.Module, x_BCHW: Tensor) -> list[str]:
    """Return what looks like a part of the contract by its name, and is none: a line each, with the remedy."""
    inner = own_module(module)
    notes = []
    if guessed_halves(module) is not None and halves(module, x_BCHW) is None:
        passed, pixels = _numbers_encoded(module, x_BCHW), x_BCHW[0].numel()
        notes.append(
            "decoder(encoder(x)) is not forward(x), so that it has no latent size: declare its halves by methods "
            "encode and decode, by aezoo.Autoencoder, or as encode and decode of aezoo.Adapted"
            if passed is None or passed < pixels
            else f"its encoder gives its decoder {passed:,} numbers of an image of {pixels:,} pixels, so that nothing "
            "keeps it from copying: it has no bottleneck, and its loss stands beside none that has one"
        )
    if callable(getattr(inner, "fit", None)) and not is_closed_form(module):
        notes.append("its fit asks for more than images, so that it is trained as any network")
    objective = getattr(inner, "objective", "mse")
    if not isinstance(objective, str):
        notes.append("its attribute objective is no text, and taken for none: it is trained on the MSE")
    elif not objective.startswith("mse") and not is_declared(module):
        notes.append(f"its attribute objective, {objective!r}, is taken for none: it is trained on the MSE")
    size = getattr(inner, "latent_size", None)
    pair = None if is_declared(module) else halves(module, x_BCHW)
    if type(size) is int and pair is not None:
        with torch.no_grad():
            count = pair[0](x_BCHW[:1].clone()).numel()
        if count != size:
            notes.append(f"its attribute latent_size={size} is taken for none: its encoder returns {count} numbers")
    if hasattr(inner, "progress") and progress_of(module) is None:
        notes.append(
            "its progress is no float32 scalar buffer, and stays as it is; to be told how much of the training is "
            "done, declare self.register_buffer('progress', torch.zeros(()))"
        )
    if isinstance(getattr(inner, "adversary", None), nn.Module) and adversary_of(module) is None:
        notes.append(
            "its child adversary is trained with the rest, for the network's own loss, as it has no adversary_loss(x): "
            "give it that method, or another name"
        )
    with torch.no_grad():
        pixel = float(module(x_BCHW.clone()).abs().mean())
    if pixel > OUT_OF_RANGE:
        notes.append(
            f"its untrained reconstructions have pixels of {pixel:.0f}, on average, and images have them in [0, 1]: "
            "divide by 255 what it gives, or where it is not yours, and takes such too, give aezoo.Adapted "
            "image=aezoo.ImageForm(shape=image_shape, range=(0, 255))"
        )
    if inspect.ismethod(getattr(inner, "codes", None)) and discrete(module) is None:
        notes.append("it has a method codes, and no from_codes: its latent is not taken for a discrete one")
    return notes


def _numbers_encoded(module: nn.Module, x_BCHW: Tensor) -> int | None:
    """Count the numbers that a module's child ``encoder`` makes of an image, in all tensors that it gives, or None."""
    encoder = getattr(own_module(module), "encoder", None)
    if not isinstance(encoder, nn.Module):
        return None
    outputs: list[Any] = []
    with torch.no_grad(), encoder.register_forward_hook(lambda _module, _given, output: outputs.append(output)):
        module(x_BCHW[:1].clone())
    tensors = [each for output in outputs for each in (output if isinstance(output, list | tuple) else [output])]
    return sum(each.numel() for each in tensors if isinstance(each, Tensor)) or None
