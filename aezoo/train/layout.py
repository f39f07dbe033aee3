"""How a network lies in memory: the channels of each pixel side by side, where convolutions on a CPU are quicker so.

One rule for all: on a CPU, whatever has two-dimensional convolutions is laid out so, unless it cannot run so, such as
one that calls ``view`` on feature maps. It is the same function; a record says which layout it had.
"""

import torch
from torch import nn

from aezoo.contract.network import is_closed_form, to_float
from aezoo.contract.recipe import Layout, Recipe
from aezoo.train.engine import Trainer


def lay_out(module: nn.Module, layout: Layout) -> nn.Module:
    """Lay a network's weights out, in place; what it computes then follows them."""
    return module.to(memory_format=torch.channels_last) if layout == "channels_last" else module


def choose_layout(module: nn.Module, images_NCHW: torch.Tensor, recipe: Recipe) -> Layout:
    """Return the layout that the rule gives a network, which is tried on images, uint8, and must not be used again."""
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    if images_NCHW.device.type != "cpu" or not any(isinstance(each, convolutions) for each in module.modules()):
        return "contiguous"
    x_BCHW = to_float(images_NCHW)
    try:
        with torch.no_grad():
            before = module.eval()(x_BCHW.clone())
            same = torch.allclose(lay_out(module, "channels_last")(x_BCHW.clone()), before, rtol=1e-3, atol=1e-5)
        if not is_closed_form(module):
            Trainer(module, recipe).step(x_BCHW.clone())
    except Exception:  # noqa: BLE001 - what is wrong with it in any layout, building it in earnest will tell
        return "contiguous"
    return "channels_last" if same else "contiguous"
