"""TopK sparse autoencoders: the k largest numbers of a code are kept; or, of a batch's codes, k for each on average."""

from collections.abc import Iterator

from torch import Tensor

import aezoo
from aezoo_plugins.dictionaries import AUX_WEIGHT, PATIENCE, AuxK, BatchTopK, Dictionary, TopK, check_k


class KSparse(Dictionary):
    """Of each image's code the k largest numbers are kept, in training as in evaluation; dead units are revived.

    Which 16 of 256 units are active costs 83 bits an image, beside their 16 numbers.

    Of 256 units 0, 1 and 49 were active in no test image of mnist-5k, digits and photo-patches; without the loss that
    revives them 3, 1 and 70 (seed 0).
    """

    objective = "mse + dead units' mse"

    def __init__(self, image_shape: aezoo.ImageShape, width: int, k: int, aux: AuxK) -> None:
        super().__init__(image_shape, width, TopK(k))
        self.aux = aux

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with what revives dead units as penalty."""
        z = self.encoder[:-1](x)
        code = self.encoder[-1](z)
        reconstruction = self.decode(code)
        return aezoo.TrainingOutput(reconstruction, self.aux(x, z, code, reconstruction, self.entries))


def build(
    image_shape: aezoo.ImageShape,
    *,
    width: int = 256,
    k: int = 16,
    aux_weight: float = AUX_WEIGHT,
    patience: int = PATIENCE,
) -> KSparse:
    """Build the network; `patience` are the steps after which a silent unit is dead, `aux_weight` its loss's weight.

    256 entries are a third of an image's 784 pixels; 16 of them are as many numbers as most latents here have.
    """
    check_k(k, width)
    return KSparse(image_shape, width, k, AuxK(image_shape, width, aux_weight, patience))


def build_batch(
    image_shape: aezoo.ImageShape,
    *,
    width: int = 256,
    k: int = 16,
    aux_weight: float = AUX_WEIGHT,
    patience: int = PATIENCE,
) -> BatchTopK:
    """Build the network; k is the mean number of active units, not each image's.

    That holds in training; of test images more units are above the threshold, 18 on mnist-5k, 17 on digits (seed 0).

    The authors' code neither divides the dead units' error by the residual's variance nor stops its gradient; here it
    is `topk`'s, so that the two differ in what is kept alone.
    """
    check_k(k, width)
    return BatchTopK(image_shape, width, k, AuxK(image_shape, width, aux_weight, patience))


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `topk` and `batch_topk`."""
    yield aezoo.Architecture(
        name="topk",
        seed_spread="narrow",
        build=build,
        summary="A wide layer of which each image keeps the k largest activations; dead units learn from what is left",
        reference="Makhzani & Frey 2014, arXiv:1312.5663 (k-sparse); Gao et al. 2024, arXiv:2406.04093 (TopK)",
        variants=[{"k": k} for k in (8, 16)],
    )
    yield aezoo.Architecture(
        name="batch_topk",
        seed_spread="narrow",
        build=build_batch,
        summary="A wide layer of which a batch keeps the largest activations, k for each image on average",
        reference="Bussmann, Leask & Nanda 2024, arXiv:2412.06410",
    )
