"""The Matryoshka sparse autoencoder: its dictionary's first entries reconstruct by themselves, at several sizes."""

from collections.abc import Iterator
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.dictionaries import AUX_WEIGHT, PATIENCE, AuxK, BatchTopK, check_k


class Matryoshka(BatchTopK):
    """`batch_topk` of which each of several prefixes of the dictionary reconstructs too, from its part of the code.

    So the first entries say what is general, and the later ones what is special. The paper's loss is the sum of the
    sizes' squared errors, each with weight 1; the authors' code takes their mean, and that of no entry at all among
    them. Here the harness adds the whole width's, and the penalty is the sum of all others, that of no entry among
    them: the code's loss times the number of its terms, by which what revives dead units is multiplied as well.

    Args:
        image_shape: (channels, height, width).
        width: Units.
        k: Active units of the whole width, on average.
        sizes: Of the smaller dictionaries, ascending.
        aux: What revives units.
    """

    objective = "mse + prefixes' mse + dead units' mse, top-k of the batch; scored by a threshold"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, k: int, sizes: list[int], aux: AuxK) -> None:
        super().__init__(image_shape, width, k, aux)
        self.bounds = [0, *sizes, width]

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the errors of the smaller dictionaries as penalty."""
        z = self.encoder(x)
        code = self.keep_largest(z)
        target, output, errors = x.flatten(1), self.decoder[0].bias + self.encoder[0].mean, []
        for start, stop in pairwise(self.bounds):
            errors.append((output - target).square().mean())  # of the entries before `start`
            output = output + F.linear(code[:, start:stop], self.entries[:, start:stop])
        reconstruction = output.view_as(x)
        revival = self.aux(x, z, code, reconstruction, self.entries)
        return aezoo.TrainingOutput(reconstruction, sum(errors) + len(self.bounds) * revival)


def build(
    image_shape: aezoo.ImageShape,
    *,
    width: int = 256,
    k: int = 16,
    levels: int = 5,
    aux_weight: float = AUX_WEIGHT,
    patience: int = PATIENCE,
) -> Matryoshka:
    """Build the network; each of the levels has twice the entries of the one before: 16, 32, 64, 128 and 256."""
    check_k(k, width)
    check_at_least_one(levels=levels)
    if width < 2 ** (levels - 1):
        raise aezoo.AezooError(
            f"levels must be at most {width.bit_length()}, each half of the next and the largest of {width} units, "
            f"but is {levels}"
        )
    sizes = [width // 2**number for number in range(levels - 1, 0, -1)]
    return Matryoshka(image_shape, width, k, sizes, AuxK(image_shape, width, aux_weight, patience))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `matryoshka`."""
    yield aezoo.Architecture(
        name="matryoshka",
        seed_spread="narrow",
        build=build,
        summary="Batch top-k whose dictionary's first 16, 32, 64 and 128 entries each reconstruct by themselves too",
        reference="Bussmann, Nabeshima, Karvonen & Nanda 2025, arXiv:2503.17547",
    )
