"""TiTok: a transformer gathers an image in a few tokens, rounded to codes, and another paints patches from them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, check_weight
from aezoo_plugins.patches import patch_of
from aezoo_plugins.tokens import TokenDecoder, TokenEncoder


class TiTok(aezoo.Autoencoder):
    """An autoencoder whose tokens (B, count, D) are rounded to the nearest of K directions.

    Tokens and codebook are brought to norm 1, and both learn by gradients, as in the authors' code. The latent is what
    the decoder gets: rounded tokens (B, count, D), with gradients that pass the rounding as if it were not there.

    Args:
        body: The autoencoder; its latent is (count, D).
        codebook_size: K: each code is a number from 0 to K - 1.
        code_dim: D.
        codebook: Weight of the squared distance from a chosen vector to the tokens, held fast, a mean over numbers.
        commitment: Weight of the same from a token to the vector, held fast, beside that.
    """

    objective = "mse + codebook + commitment"

    def __init__(
        self, body: aezoo.Autoencoder, codebook_size: int, code_dim: int, *, codebook: float, commitment: float
    ) -> None:
        super().__init__(body.encoder, body.decoder)
        self.codebook_size = codebook_size
        self.vectors = nn.Parameter(torch.randn(codebook_size, code_dim))
        self.codebook, self.commitment = codebook, commitment

    def round(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens (B, count, D) to them rounded, their codes (B, count), int64, and the penalty.

        In float32, whatever the precision.
        """
        tokens, vectors = F.normalize(tokens.float(), dim=-1), F.normalize(self.vectors, dim=-1)
        codes = torch.cdist(tokens, vectors).argmin(-1)
        chosen = vectors[codes]
        penalty = F.mse_loss(chosen, tokens.detach()) + self.commitment * F.mse_loss(tokens, chosen.detach())
        return tokens + (chosen - tokens).detach(), codes, self.codebook * penalty

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of images (B, C, H, W): (B, count), int64."""
        return self.round(self.encoder(x))[1]

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, count, D) that codes (B, count) stand for."""
        return F.normalize(self.vectors, dim=-1)[codes]

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their rounded tokens (B, count, D)."""
        return self.round(self.encoder(x))[0]

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from their rounded tokens, with the codebook's penalty."""
        rounded, _, penalty = self.round(self.encoder(x))
        return aezoo.TrainingOutput(self.decode(rounded), penalty)


def build(
    image_shape: aezoo.ImageShape,
    *,
    tokens: int = 16,
    code_dim: int = 8,
    quantise: bool = True,
    codebook_size: int = 256,
    codebook: float = 0.1,
    commitment: float = 0.25,
    patch: int | None = None,
    width: int = 32,
    depth: int = 1,
    heads: int = 2,
) -> aezoo.Autoencoder:
    """Build the network: 16 tokens of 8 bits by default; without `quantise`, of `code_dim` numbers each.

    The paper's smallest has 128 tokens of 12 bits, 16x16 patches, and 8 layers of width 512 on either side. It first
    learns another tokeniser's codes, then pixels with that one's decoder, LPIPS and a discriminator; here it learns
    pixels at once, by the squared error alone. Beside that, the authors' weight of 1 for the codebook is too much: on
    mnist-5k, default recipe, seed 0, it came to 0.031, with codes of 32 bits an image after ideal coding; 0.1, which is
    about the pixels' variance there, to 0.019, with 84 bits.
    """
    check_at_least_one(tokens=tokens, code_dim=code_dim, codebook_size=codebook_size)
    check_weight(codebook=codebook, commitment=commitment)
    patch = patch_of(image_shape, patch)
    encoder = TokenEncoder(image_shape, patch=patch, tokens=tokens, width=width, depth=depth, heads=heads, causal=False)
    decoder = TokenDecoder(image_shape, patch=patch, tokens=tokens, width=width, depth=depth, heads=heads)
    body = aezoo.Autoencoder(
        nn.Sequential(encoder, nn.Linear(width, code_dim)), nn.Sequential(nn.Linear(code_dim, width), decoder)
    )
    if not quantise:
        return body
    return TiTok(body, codebook_size, code_dim, codebook=codebook, commitment=commitment)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `titok`."""
    yield aezoo.Architecture(
        name="titok",
        seed_spread="wide",
        build=build,
        summary="A transformer's few learnt tokens, rounded to codes, from which another paints all patches",
        reference="Yu et al. 2024, arXiv:2406.07550",
    )
