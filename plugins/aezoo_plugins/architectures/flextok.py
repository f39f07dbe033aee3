"""FlexTok: tokens in an order, of which training keeps the first few, so that any number of them makes an image."""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import patch_of
from aezoo_plugins.tokens import TokenDecoder, TokenEncoder

Lengths = Literal["powers", "all"]
MOST_CODES = 2**16
"""What a code's levels may multiply to."""


class FlexTok(aezoo.Autoencoder):
    """A transformer's tokens, rounded by FSQ, whose decoder gets one learnt vector in place of those that are dropped.

    A token attends to patches and to those before it: so the first ones do not depend on what follows, and codes may be
    cut short after they were made. While it trains, the first few tokens are kept, how many is drawn for each image.
    The score is of all of them. The latent is what the decoder gets: rounded tokens (B, count, D), in float32.

    Args:
        image_shape: (channels, height, width).
        tokens: How many.
        levels: Of FSQ, one number for each of D.
        lengths: How many of them may be kept while it trains: `powers` of two, and all; or any number.
        patch: Pixels of a patch's side.
        width: Of all tokens inside either transformer.
        depth: Layers of either.
        heads: Of each layer.
    """

    objective = "mse, truncated latent; scored whole"

    def __init__(
        self,
        image_shape: aezoo.ImageShape,
        *,
        tokens: int,
        levels: tuple[int, ...],
        lengths: Lengths,
        patch: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        from vector_quantize_pytorch import FSQ

        shape = {"patch": patch, "tokens": tokens, "width": width, "depth": depth, "heads": heads}
        super().__init__(
            nn.Sequential(TokenEncoder(image_shape, **shape, causal=True), nn.Linear(width, len(levels))),
            nn.ModuleDict({"widen": nn.Linear(len(levels), width), "attend": TokenDecoder(image_shape, **shape)}),
        )
        # Its table of all codes is not needed, and made of what it asks a device for.
        self.quantiser = FSQ(list(levels), return_indices=False)
        self.codebook_size = math.prod(levels)
        self.dropped = nn.Parameter(0.02 * torch.randn(width))
        powers = [2**power for power in range(tokens.bit_length()) if 2**power < tokens]
        kept = [*powers, tokens] if lengths == "powers" else list(range(1, tokens + 1))
        self.register_buffer("lengths", torch.tensor(kept), persistent=False)

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of images (B, C, H, W): (B, count), int64."""
        return self.quantiser.codes_to_indices(self.encode(x)).long()

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, count, D) that codes (B, count) stand for."""
        return self.quantiser.indices_to_codes(codes)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their rounded tokens (B, count, D)."""
        return self.quantiser(self.encoder(x).float())[0]

    def decode(self, z: Tensor, kept: Tensor | None = None) -> Tensor:
        """Map rounded tokens (B, count, D) to images (B, C, H, W); by the first `kept` (B,) of them, or by all."""
        tokens = self.decoder["widen"](z)
        if kept is not None:
            is_kept = torch.arange(tokens.shape[1], device=z.device) < kept.unsqueeze(1)
            tokens = torch.where(is_kept.unsqueeze(2), tokens, self.dropped.to(tokens.dtype))
        return self.decoder["attend"](tokens)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from the first tokens of each, drawn how many."""
        drawn = torch.randint(len(self.lengths), (len(x),), device=x.device)
        return aezoo.TrainingOutput(self.decode(self.encode(x), self.lengths[drawn]))


def build(
    image_shape: aezoo.ImageShape,
    *,
    tokens: int = 16,
    levels: tuple[int, ...] = (8, 6, 5),
    lengths: Lengths = "all",
    patch: int | None = None,
    width: int = 32,
    depth: int = 1,
    heads: int = 2,
) -> FlexTok:
    """Build the network: 16 tokens of 240 codes by default, 7.9 bits each, as `fsq` has places.

    The paper has 256 tokens of 64,000 codes, 12 to 28 layers on either side, between the latents of a VAE; its decoder
    is a flow, which paints detail where few tokens are kept. Here it is a regression, from patches to patches: with few
    tokens it gives the mean of what they leave open.

    An order has its price in the score of all tokens: on mnist-5k, default recipe, seed 0, it was 0.023 with none
    dropped, 0.030 with any number kept, as likely each, and 0.036 with powers of two, which the paper also tries.
    """
    check_at_least_one(tokens=tokens)
    if tokens < 2:
        raise aezoo.AezooError(f"tokens must be at least 2, so that there is an order, but is {tokens}")
    if not levels or min(levels) < 3:
        raise aezoo.AezooError(f"levels must be one number or more, each at least 3, but are {levels}")
    if math.prod(levels) > MOST_CODES:
        raise aezoo.AezooError(f"levels must be such that they multiply to at most {MOST_CODES}, but are {levels}")
    return FlexTok(
        image_shape,
        tokens=tokens,
        levels=levels,
        lengths=lengths,
        patch=patch_of(image_shape, patch),
        width=width,
        depth=depth,
        heads=heads,
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `flextok`."""
    yield aezoo.Architecture(
        name="flextok",
        seed_spread="wide",
        build=build,
        summary="Ordered tokens, rounded to codes: training keeps the first few, so that any number makes an image",
        reference="Bachmann et al. 2025, arXiv:2502.13967",
        variants=[],
    )
