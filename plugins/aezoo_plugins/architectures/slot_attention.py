"""Slot attention: a few vectors compete for an image's places, round after round, and each paints a layer of it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import FromPatches, ToPatches, patch_of

EPSILON = 1e-8
"""Of the share of a place that no slot wants, as in the authors' code."""


class Places(nn.Module):
    """Add a learnt vector of each place of an image to what is there: (..., places, width) to the same."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, width))

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        return x + self.vectors


class SlotAttention(nn.Module):
    """Map inputs (B, places, width) to slots (B, slots, width).

    In each round every place shares itself out among the slots, by a softmax over these: so they compete. A slot takes
    the mean of the places, weighted by what it got of each, as the input of a GRU whose state it is, and passes an MLP.

    The authors' slots start from noise about one learnt vector, drawn anew for each image, so that any number of them
    can be asked for. Here each starts from a learnt vector of its own, and the same image has the same latent.

    Args:
        width: Numbers of an input, and of a slot.
        slots: How many.
        rounds: How often.
    """

    def __init__(self, width: int, slots: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.start = nn.Parameter(torch.randn(slots, width))
        self.norm_inputs, self.norm_slots = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.update = nn.GRUCell(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def shares(self, slots: Tensor, keys: Tensor) -> Tensor:
        """Return how places share themselves out among slots, (B, places, slots), each place's summing up to 1."""
        queries = self.query(self.norm_slots(slots)) * slots.shape[2] ** -0.5
        return (keys @ queries.transpose(1, 2)).softmax(2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Let slots compete."""
        inputs = self.norm_inputs(inputs)
        keys, values = self.key(inputs), self.value(inputs)
        slots = self.start.to(keys.dtype).expand(len(inputs), -1, -1)
        for _ in range(self.rounds):
            shares = self.shares(slots, keys) + EPSILON
            taken = (shares / shares.sum(1, keepdim=True)).transpose(1, 2) @ values
            slots = self.update(taken.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = slots + self.mlp(slots)
        return slots


class Layers(nn.Module):
    """Map slots (B, slots, slot_dim) to images (B, C, H, W): each paints an image and a mask, which are blended.

    A slot is copied to every place, where an MLP paints a patch of both. The masks' softmax over the slots says how
    much of each pixel is whose.

    Args:
        image_shape: (channels, height, width).
        patch: Pixels of a patch's side.
        slot_dim: Numbers of a slot.
        width: Of the MLP's layers.
        depth: Of them, after that which takes slots and places.
    """

    def __init__(self, image_shape: aezoo.ImageShape, *, patch: int, slot_dim: int, width: int, depth: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        with_mask = (channels + 1, sides[0], sides[1])
        cut = ToPatches(with_mask, patch)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.ReLU(), nn.Linear(width, width)]
        self.widen, self.places = nn.Linear(slot_dim, width), Places(cut.count, width)
        self.mlp = nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, cut.size))
        self.join = FromPatches(with_mask, patch)

    def layers(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return what slots paint, (B, slots, C, H, W), and their masks (B, slots, 1, H, W), which sum up to 1."""
        patches = self.mlp(self.places(self.widen(slots).unsqueeze(2)))
        painted = self.join(patches.flatten(0, 1)).unflatten(0, slots.shape[:2])
        return painted[:, :, :-1], painted[:, :, -1:].softmax(1)

    def forward(self, slots: Tensor) -> Tensor:
        """Paint and blend."""
        # No sigmoid: as the authors have it, what a slot paints is not bounded.
        images, masks = self.layers(slots)
        return (images * masks).sum(1)


def build(
    image_shape: aezoo.ImageShape,
    *,
    slots: int = 4,
    slot_dim: int = 16,
    rounds: int = 3,
    patch: int | None = None,
    width: int = 64,
    depth: int = 2,
) -> aezoo.Autoencoder:
    """Build the network: four slots of 16 numbers by default, which a linear layer makes of wider ones.

    The paper has 7 slots of 64, found in convolutions of 5x5 at full size, and painted by others from a map of each
    slot tiled beside linear coordinates. Here patches take the place of the first, and of the second the MLP over
    learnt places of Seitzer et al.
    """
    check_at_least_one(slots=slots, slot_dim=slot_dim, rounds=rounds, width=width, depth=depth)
    patch = patch_of(image_shape, patch)
    cut = ToPatches(image_shape, patch)
    return aezoo.Autoencoder(
        nn.Sequential(
            cut,
            nn.Linear(cut.size, width),
            Places(cut.count, width),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            SlotAttention(width, slots, rounds),
            nn.Linear(width, slot_dim),
        ),
        Layers(image_shape, patch=patch, slot_dim=slot_dim, width=width, depth=depth),
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `slot_attention`."""
    yield aezoo.Architecture(
        name="slot_attention",
        seed_spread="wide",
        build=build,
        summary="Slots compete for an image's places; each paints an image and a mask, which are blended",
        reference="Locatello et al. 2020, arXiv:2006.15055; decoder: Seitzer et al. 2023, arXiv:2209.14860",
        variants=[],
    )
