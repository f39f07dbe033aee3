"""The reference: the fully connected autoencoder of the classic tutorial, 784-128-64-12-3 and back.

Its 12 ReLUs leave room for 3 numbers, and not for many more: a wider latent has 784-128-latent, see `mlp_sizes`.
"""

from collections.abc import Iterator

import aezoo
from aezoo_plugins.blocks import MLP_WIDTH, mlp_body


def build(image_shape: aezoo.ImageShape, *, latent_dim: int = 3, width: int = MLP_WIDTH) -> aezoo.Autoencoder:
    """Build the network: ReLU between layers, none at the latent, a sigmoid at the output.

    `width` is the first hidden layer's; the others, where the latent is so narrow that there are any, keep their ratio
    to it.
    """
    return mlp_body(image_shape, latent_dim, width)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `mlp`."""
    yield aezoo.Architecture(
        name="mlp",
        seed_spread="wide",
        build=build,
        summary="Fully connected, 784-128-64-12-3 and back, ReLU: the tutorial's; of a wider latent 784-128-latent",
        reference="Hinton & Salakhutdinov 2006, Science 313; the layer sizes are the common PyTorch tutorial's",
        variants=[{"latent_dim": k} for k in (2, 3, 8, 16, 32)],
        speed_reference=True,
    )
