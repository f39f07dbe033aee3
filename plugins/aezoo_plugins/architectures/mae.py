"""The masked autoencoder: it trains on a quarter of an image's patches, and here is scored with nothing masked."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.patches import FromPatches, ToPatches, Transformer, patch_of


class Masked(aezoo.Autoencoder):
    """A transformer that encodes the patches that it sees, one by one, and one that decodes all of them.

    The latent is `token_dim` numbers a patch. While it trains, the decoder gets one learnt vector in place of each
    patch that was not seen. The harness's loss is over the whole image; the paper's is over what was masked.

    Args:
        image_shape: (channels, height, width).
        token_dim: Numbers of a patch's latent.
        patch: Pixels of a patch's side.
        mask: The share of the patches that training hides, rounded to whole ones.
        width: The tokens' width inside either transformer.
        depth: Layers of the encoder; the decoder has one, as it is to be light.
        heads: Of each layer.
    """

    objective = "mse, masked patches"

    def __init__(
        self,
        image_shape: aezoo.ImageShape,
        *,
        token_dim: int,
        patch: int,
        mask: float,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        check_at_least_one(token_dim=token_dim, width=width, depth=depth, heads=heads)
        cut = ToPatches(image_shape, patch)
        if not 0 < mask < 1:
            raise aezoo.AezooError(f"mask must be between 0 and 1, a share of the patches, but is {mask}")
        if cut.count < 2:
            raise aezoo.AezooError(
                f"patch must be smaller than these images, of which one is to be hidden, but is {patch}"
            )
        super().__init__(
            nn.ModuleDict(
                {
                    "cut": nn.Sequential(cut, nn.Linear(cut.size, width)),
                    "attend": Transformer(cut.count, width, depth, heads),
                    "narrow": nn.Linear(width, token_dim),
                }
            ),
            nn.ModuleDict(
                {
                    "widen": nn.Linear(token_dim, width),
                    "attend": Transformer(cut.count, width, 1, heads),
                    "paint": nn.Sequential(nn.Linear(width, cut.size), nn.Sigmoid(), FromPatches(image_shape, patch)),
                }
            ),
        )
        # At least one is seen, and at least one hidden.
        self.seen = min(max(1, round((1 - mask) * cut.count)), cut.count - 1)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W), whole, to latents (B, patches, token_dim)."""
        return self.encoder["narrow"](self.encoder["attend"](self.encoder["cut"](x)))

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, patches, token_dim) to images (B, C, H, W)."""
        return self.decoder["paint"](self.decoder["attend"](self.decoder["widen"](z)))

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from a few of their patches, drawn anew for each."""
        patches = self.encoder["cut"](x)
        count, width = patches.shape[1:]
        chosen = torch.rand(len(x), count, device=x.device).argsort(1)[:, : self.seen]
        places = chosen.unsqueeze(2).expand(-1, -1, width)
        z = self.encoder["narrow"](self.encoder["attend"](patches.gather(1, places), chosen))
        seen = self.decoder["widen"](z)
        tokens = self.hidden.to(seen.dtype).expand(len(x), count, width).scatter(1, places, seen)
        return aezoo.TrainingOutput(self.decoder["paint"](self.decoder["attend"](tokens)))


def build(
    image_shape: aezoo.ImageShape,
    *,
    token_dim: int = 4,
    patch: int | None = None,
    mask: float = 0.75,
    width: int = 32,
    depth: int = 1,
    heads: int = 4,
) -> Masked:
    """Build the network; the paper hides 75 % of 16x16 patches from 24 layers of width 1024.

    By default about 4x4 patches make an image, each of at least 7x7 pixels: so the latent has 64 numbers, whatever the
    image's size.
    """
    patch = patch_of(image_shape, patch)
    return Masked(image_shape, token_dim=token_dim, patch=patch, mask=mask, width=width, depth=depth, heads=heads)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `mae`."""
    yield aezoo.Architecture(
        name="mae",
        seed_spread="erratic",
        build=build,
        summary="Masked autoencoder: a transformer trained on a quarter of the patches, scored on whole images",
        reference="He et al. 2022, arXiv:2111.06377",
    )
