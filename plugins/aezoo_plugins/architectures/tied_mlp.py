"""The MLP with tied weights: the decoder's matrices are the encoder's, transposed. Half of the parameters."""

import math
from collections.abc import Iterator

from torch import nn

import aezoo
from aezoo_plugins.blocks import MLP_WIDTH, Tied, mlp_sizes


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 3, width: int = MLP_WIDTH) -> Tied:
    """Build the network: the layers of `mlp`, ReLU between them, none at the latent, a sigmoid at the output."""
    return Tied(image_shape, mlp_sizes(math.prod(image_shape), latent_dim, width), nn.Sigmoid())


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `tied_mlp`."""
    yield aezoo.Architecture(
        name="tied_mlp",
        seed_spread="wide",
        build=build,
        summary="The layers of mlp, the decoder's weights the encoder's transposed: half of the parameters",
        reference="Vincent et al. 2010, JMLR 11, section 2.2",
        variants=[{"latent_dim": k} for k in (3, 16)],
    )
