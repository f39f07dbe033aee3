"""Autoencoders of diffusers, as latent diffusion uses them: its own classes, read by `aezoo.Adapted`."""

from collections.abc import Iterator
from typing import Any, Literal

from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, spatial_strides
from aezoo_plugins.foreign import package

GROUPS = 4
"""Of the group norms in KL and VQ: the widths are multiples of it."""
CODES = 256
"""In the codebook of VQ: 8 bits each, and so 128 at 4x4 places."""
KL_WEIGHT = 1e-6
"""Of latent diffusion (Rombach et al. 2022), and of diffusers' own training script: beside a squared error that is
summed over an image in [-1, 1]."""


def build(
    image_shape: aezoo.ImageShape,
    *,
    model: Literal["kl", "vq", "tiny", "dc"] = "kl",
    latent_channels: int = 4,
    width: int = 8,
    strides: int | None = None,
    depth: int = 1,
) -> aezoo.Adapted:
    """Build one of diffusers' classes, small: `width` channels at full resolution, twice as many below.

    The latent is (latent_channels, h, w), the sides halved `strides` times, by default as those of the zoo's other
    maps: 4x4 for 28x28, 32x32 and 64x64 pixels. Sides that 2**strides does not divide are padded. `depth` is the
    number of blocks at each resolution.

    - ``kl``: AutoencoderKL. It trains on a sample of its posterior, with the KL divergence at 1e-6, and is scored on
      the mean. The perceptual and adversarial losses beside it are left out.
    - ``vq``: VQModel, 256 codes. Its own loss, which weighs the step of the codebook by 0.25 and the commitment by 1
      (diffusers keeps that for old checkpoints), stands beside a mean over pixels, as in its training script.
    - ``tiny``: AutoencoderTiny. Its forward rounds the latent to bytes, through which no gradient passes: it trains,
      and is scored, without that. diffusers' own is distilled from Stable Diffusion's.
    - ``dc``: AutoencoderDC, of residual blocks without attention.
    """
    strides = spatial_strides(image_shape, strides)
    check_at_least_one(latent_channels=latent_channels, width=width, strides=strides, depth=depth)
    if width % GROUPS or width % latent_channels:
        raise aezoo.AezooError(f"width must be a multiple of {GROUPS} and of latent_channels, {latent_channels}")
    diffusers = package("diffusers", "diffusers")
    widths = tuple(width * min(2**level, 2) for level in range(strides + 1))
    signed = aezoo.ImageForm(shape=image_shape, range=(-1, 1), multiple=2**strides)
    ends = {"in_channels": image_shape[0], "latent_channels": latent_channels}
    both_ends = ends | {"out_channels": image_shape[0]}
    convolutional = both_ends | {
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": widths, "layers_per_block": depth, "norm_num_groups": GROUPS,
    }  # fmt: skip
    if model == "kl":
        return aezoo.Adapted(
            diffusers.AutoencoderKL(**convolutional),
            call=_sampled, reconstruct="sample", penalty="kl", per="image", weight=KL_WEIGHT, objective="mse + kl",
            encode=lambda module, x: module.encode(x).latent_dist.mode(), decode=_decoded, image=signed,
        )  # fmt: skip
    if model == "vq":
        form = aezoo.ImageForm(shape=image_shape, multiple=2**strides)
        _, height, width = form.taken
        sides = (height // 2**strides, width // 2**strides)
        return aezoo.Adapted(
            diffusers.VQModel(num_vq_embeddings=CODES, **convolutional),
            reconstruct="sample", penalty="commit_loss", per="pixel", objective="mse + codebook", image=form,
            encode=lambda module, x: module.quantize(module.encode(x).latents)[0],
            decode=lambda module, z: module.decode(z, force_not_quantize=True).sample,
            codes=lambda module, x: module.quantize(module.encode(x).latents)[2][2].reshape(len(x), -1),
            from_codes=lambda module, codes: module.quantize.get_codebook_entry(
                codes.flatten(), (len(codes), *sides, latent_channels)
            ),
            codebook_size=CODES,
        )  # fmt: skip
    if model == "tiny":
        network = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(width,) * len(widths), decoder_block_out_channels=(width,) * len(widths),
            num_encoder_blocks=(1, *(depth,) * strides), num_decoder_blocks=(*(depth,) * strides, 1), **both_ends,
        )  # fmt: skip
        return aezoo.Adapted(
            network, encode=lambda module, x: module.encode(x).latents, decode=_decoded, image=signed,
        )  # fmt: skip
    sides_of_code = {
        f"{half}_{what}": value
        for half in ("encoder", "decoder")
        for what, value in (
            ("block_out_channels", widths), ("layers_per_block", (depth,) * len(widths)),
            ("qkv_multiscales", ((),) * len(widths)),
        )
    }  # fmt: skip
    return aezoo.Adapted(
        diffusers.AutoencoderDC(**sides_of_code, **ends),
        encode=lambda module, x: module.encode(x).latent, decode=_decoded, image=signed,
    )  # fmt: skip


def _sampled(module: nn.Module, x: Tensor) -> dict[str, Any]:
    posterior = module.encode(x).latent_dist
    return {"sample": _decoded(module, posterior.sample()), "kl": posterior.kl()}


def _decoded(module: nn.Module, z: Tensor) -> Tensor:
    return module.decode(z).sample


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `diffusers`."""
    yield aezoo.Architecture(
        name="diffusers",
        build=build,
        summary="Autoencoders of latent diffusion: AutoencoderKL, VQModel, AutoencoderTiny, AutoencoderDC",
        reference="diffusers (extra: diffusers); Rombach et al. 2022, CVPR, arXiv:2112.10752",
        variants=[],
    )
