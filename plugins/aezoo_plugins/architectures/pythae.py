"""Autoencoders of pythae, each with its own loss: its own classes, read by `aezoo.Adapted`."""

from collections.abc import Iterator
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_latent_dim
from aezoo_plugins.foreign import package

Model = Literal["ae", "vae", "beta_tc_vae", "info_vae", "svae", "iwae", "vamp", "wae_mmd", "adversarial_ae", "rae_gp"]
CLASSES = {
    "ae": "AE", "vae": "VAE", "beta_tc_vae": "BetaTCVAE", "info_vae": "INFOVAE_MMD", "svae": "SVAE", "iwae": "IWAE",
    "vamp": "VAMP", "wae_mmd": "WAE_MMD", "adversarial_ae": "Adversarial_AE", "rae_gp": "RAE_GP",
}  # fmt: skip
UNDERSCORED = ("info_vae", "wae_mmd", "adversarial_ae", "rae_gp")
"""Whose settings have the name of the class with ``_Config``; the others' with ``Config``."""
OBJECTIVES = {
    "vae": "mse + kl", "beta_tc_vae": "mse + kl in three parts", "info_vae": "mse + kl + mmd", "svae": "mse + kl",
    "iwae": "mse + importance-weighted bound", "vamp": "mse + kl to a learnt prior", "wae_mmd": "mse + mmd",
    "adversarial_ae": "mse + adversary", "rae_gp": "mse + gradient and code",
}  # fmt: skip
HALF = ("vae", "beta_tc_vae", "info_vae", "svae", "iwae", "vamp", "adversarial_ae")
"""Whose reconstruction loss is half of the squared error, summed over an image; the others' is all of it."""


def build(
    image_shape: aezoo.ImageShape, *, model: Model = "vae", latent_dim: int = 16, dataset_size: int | None = None
) -> aezoo.Adapted:
    """Build one of pythae's classes with its own dense halves, a hidden layer of 512, and its own settings.

    The penalty is what the class adds to its reconstruction loss, divided by the pixels of an image, and doubled where
    that loss is half of the squared error: so its gradient is that of pythae's own loss, but for a factor. Of `iwae`,
    whose bound weighs ten samples, that is so in expectation: the MSE is that of one of them. Left out are RAE_L2,
    whose penalty is its optimiser's, and VQVAE, whose commitment is a mean beside a sum over an image and hardly
    counts: on 8 images its loss rose from 0.15 to 12 in 200 steps.

    In evaluation the latent is the mean, or what the encoder returns; of `svae` its direction.

    Args:
        image_shape: (channels, height, width).
        model: Which class.
        latent_dim: Numbers in a latent.
        dataset_size: How many training images there are, of `beta_tc_vae`, which estimates densities by it; by default
            4,000, those of mnist-5k.
    """
    check_latent_dim(latent_dim)
    if dataset_size is not None:
        check_at_least_one(dataset_size=dataset_size)
        if model != "beta_tc_vae":
            raise aezoo.AezooError(f"dataset_size says nothing of model={model}: it is of beta_tc_vae")
    if model == "svae" and latent_dim < 3:
        raise aezoo.AezooError(f"of svae, latent_dim must be at least 3, but is {latent_dim}")
    models = package("pythae.models", "pythae")
    name = CLASSES[model]
    settings = getattr(models, f"{name}{'_' if model in UNDERSCORED else ''}Config")
    network = getattr(models, name)(settings(input_dim=image_shape, latent_dim=latent_dim))
    reads: dict[str, Any] = {"encode": _mean, "decode": lambda module, z: module.decoder(z).reconstruction}
    if model != "ae":
        keywords = {"dataset_size": dataset_size or 4000} if model == "beta_tc_vae" else {}
        reads |= {
            "call": lambda module, x: module({"data": x}, **keywords), "reconstruct": "recon_x",
            "penalty": lambda out: out.loss - out.recon_loss, "per": "image", "weight": 2 if model in HALF else 1,
            "objective": OBJECTIVES[model],
        }  # fmt: skip
    if model == "svae":
        reads |= {"encode": lambda module, x: F.normalize(_mean(module, x), dim=-1)}
    if model == "adversarial_ae":
        reads |= {
            "penalty": lambda out: out.autoencoder_loss - out.recon_loss,
            "adversary": "discriminator", "adversary_loss": "discriminator_loss",
        }  # fmt: skip
    return aezoo.Adapted(network, **reads)


def _mean(module: nn.Module, x: Tensor) -> Tensor:
    return module.encoder(x).embedding


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `pythae`."""
    yield aezoo.Architecture(
        name="pythae",
        build=build,
        summary="pythae's classes with its own dense halves and losses: VAE, beta-TC, S-VAE, IWAE, VampPrior, WAE, ...",
        reference="pythae (extra: pythae); Chadebec et al. 2022, NeurIPS, arXiv:2206.08309",
        variants=[],
        seed_spread="wide",
    )
