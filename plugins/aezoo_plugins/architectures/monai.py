"""Autoencoders of MONAI, as medical imaging uses them: its own classes, read by `aezoo.Adapted`."""

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

import aezoo
from aezoo_plugins.blocks import check_at_least_one, spatial_strides
from aezoo_plugins.foreign import package

GROUPS = 4
"""Of the group norms in KL: the widths are multiples of it."""
CODES = 256
"""In the codebook of VQ: 8 bits each, and so 128 at 4x4 places."""
KL_WEIGHT = 1e-6
"""Of MONAI's tutorials on AutoencoderKL: beside a mean over pixels."""


def build(
    image_shape: aezoo.ImageShape,
    *,
    model: Literal["autoencoder", "vae", "kl", "vq"] = "autoencoder",
    latent_channels: int | None = None,
    latent_dim: int | None = None,
    width: int = 8,
    strides: int | None = None,
) -> aezoo.Adapted:
    """Build one of MONAI's classes, small: `width` channels after the first stride, twice as many below.

    The latent is (latent_channels, h, w), by default of 4 channels, the sides halved `strides` times, by default as
    those of the zoo's other maps: 4x4 for 28x28, 32x32 and 64x64 pixels. Of `vae` it is `latent_dim` numbers, by
    default 16. Sides that 2**strides does not divide are padded. MONAI leaves the loss to its user; its tutorials'
    error of pixels is the absolute one or a cross-entropy, and here it is the harness's MSE.

    - ``autoencoder``: AutoEncoder, with its instance norms, one of them on the latent.
    - ``vae``: VarAutoEncoder, scored on the mean. The KL divergence stands beside half of the squared error, summed
      over an image, as in the bound of a decoder of unit variance.
    - ``kl``: AutoencoderKL, scored on the mean, with the KL divergence at 1e-6 beside a mean over pixels.
    - ``vq``: VQVAE, 256 codes that move by running means; its commitment stands beside a mean over pixels.
    """
    if (latent_channels if model == "vae" else latent_dim) is not None:
        given, taken = ("latent_channels", "latent_dim") if model == "vae" else ("latent_dim", "latent_channels")
        raise aezoo.AezooError(f"{given} says nothing of model={model}: it has {taken}")
    strides = spatial_strides(image_shape, strides)
    latent_channels = 4 if latent_channels is None else latent_channels
    latent_dim = 16 if latent_dim is None else latent_dim
    check_at_least_one(latent_channels=latent_channels, latent_dim=latent_dim, width=width, strides=strides)
    if width % GROUPS:
        raise aezoo.AezooError(f"width must be a multiple of {GROUPS}, but is {width}")
    nets = package("monai.networks.nets", "monai")
    form = aezoo.ImageForm(shape=image_shape, multiple=2**strides)
    _, height, width_in = form.taken
    sides = (height // 2**strides, width_in // 2**strides)
    widths = tuple(width * min(2**level, 2) for level in range(strides))
    ends = {"spatial_dims": 2, "in_channels": image_shape[0], "out_channels": image_shape[0]}
    if model == "autoencoder":
        network = nets.AutoEncoder(channels=(*widths[:-1], latent_channels), strides=(2,) * strides, **ends)
        return aezoo.Adapted(network, encode="encode", decode="decode", image=form)
    if model == "vae":
        network = nets.VarAutoEncoder(
            spatial_dims=2, in_shape=form.taken, out_channels=image_shape[0], latent_size=latent_dim, channels=widths,
            strides=(2,) * strides,
        )  # fmt: skip
        return aezoo.Adapted(
            network, reconstruct=0, penalty=lambda out: _divergence(out[1], out[2].exp()), per="image", weight=2,
            encode=lambda module, x: module.encode_forward(x)[0], decode="decode_forward", objective="mse + kl",
            image=form,
        )  # fmt: skip
    if model == "kl":
        network = nets.AutoencoderKL(
            channels=(width, *widths), num_res_blocks=1, attention_levels=(False,) * (strides + 1),
            latent_channels=latent_channels, norm_num_groups=GROUPS, **ends,
        )  # fmt: skip
        return aezoo.Adapted(
            network, reconstruct=0, penalty=lambda out: _divergence(out[1], out[2].square()), per="pixel",
            weight=KL_WEIGHT, encode=lambda module, x: module.encode(x)[0], decode="decode", objective="mse + kl",
            image=form,
        )  # fmt: skip
    network = nets.VQVAE(
        channels=widths, num_res_layers=1, num_res_channels=widths, num_embeddings=CODES, embedding_dim=latent_channels,
        downsample_parameters=((2, 4, 1, 1),) * strides, upsample_parameters=((2, 4, 1, 1, 0),) * strides, **ends,
    )  # fmt: skip
    return aezoo.Adapted(
        network, reconstruct=0, penalty=1, per="pixel", objective="mse + commitment", image=form,
        encode=lambda module, x: module.quantize(module.encode(x))[0], decode="decode",
        codes=lambda module, x: module.index_quantize(x).flatten(1),
        from_codes=lambda module, codes: module.quantizer.embed(codes.unflatten(1, sides)), codebook_size=CODES,
    )  # fmt: skip


def _divergence(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the KL divergence of independent normal distributions to standard ones, (B,)."""
    return 0.5 * (mean.square() + variance - variance.log() - 1).flatten(1).sum(1)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `monai`."""
    yield aezoo.Architecture(
        name="monai",
        build=build,
        summary="Autoencoders of medical imaging: AutoEncoder, VarAutoEncoder, AutoencoderKL, VQVAE",
        reference="MONAI (extra: monai); Cardoso et al. 2022, arXiv:2211.02701",
        variants=[],
    )
