"""SimVQ: a codebook that is a random one, frozen, times a matrix: where one vector moves, all do."""

import math
from collections.abc import Iterator

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import CONV_WIDTH, check_at_least_one, check_weight
from aezoo_plugins.quantisers import Quantised, Rounded


class TransformedCodebook(nn.Module):
    """Round vectors to the nearest of a codebook that is a linear layer's image of a frozen one, drawn from N(0, 1).

    The authors draw it from N(0, 1 / code_dim); ours is as wide as the vectors, which are normalised.

    The penalty is `weight` times the squared distance, per number, that moves the codebook, plus `commitment` times
    that, which moves the vectors. The frozen one lies in a buffer, which a checkpoint holds; nothing of it is learnt.
    """

    parts = 1

    def __init__(self, codebook_size: int, code_dim: int, weight: float, commitment: float) -> None:
        from vector_quantize_pytorch import SimVQ

        super().__init__()
        check_at_least_one(codebook_size=codebook_size, code_dim=code_dim)
        check_weight(weight=weight, commitment=commitment)
        self.codebook_size = codebook_size
        self.rounding = SimVQ(
            code_dim,
            codebook_size,
            codebook_transform=nn.Linear(code_dim, code_dim),
            rotation_trick=False,
            input_to_quantize_commit_loss_weight=commitment,
            commitment_weight=weight,
            init_fn=lambda drawn: drawn * math.sqrt(code_dim),
        )

    def forward(self, x: Tensor) -> Rounded:
        """Round vectors (B, n, D)."""
        rounded, codes, penalty = self.rounding(x)
        return Rounded(rounded, codes.unsqueeze(2), penalty)

    def look_up(self, codes: Tensor) -> Tensor:
        """Map codes (B, n, 1) to vectors (B, n, D)."""
        return self.rounding.indices_to_codes(codes.squeeze(2))


def build(
    image_shape: aezoo.ImageShape,
    *,
    codebook_size: int = 256,
    code_dim: int = 16,
    weight: float = 1.0,
    commitment: float = 0.25,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the network; weight and commitment are the authors'.

    Theirs stand beside a mean absolute error of pixels, a perceptual and an adversarial one; what comes near to that
    here is the squared error over the data's variance. Beside the squared error itself, and so about ten times as
    heavy, they came to 0.024 in place of 0.019 (mnist-5k, default recipe, seed 0). Their vectors have 128 numbers.
    """
    codebook = TransformedCodebook(codebook_size, code_dim, weight, commitment)
    return Quantised(
        image_shape,
        code_dim,
        codebook,
        width=width,
        strides=strides,
        objective="mse + codebook + commitment",
        is_over_variance=True,
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `sim_vq`."""
    yield aezoo.Architecture(
        name="sim_vq",
        seed_spread="wide",
        build=build,
        summary="A codebook that is a frozen random one times a learnt matrix, so that all of its vectors move",
        reference="Zhu et al. 2024, arXiv:2411.02038",
    )
