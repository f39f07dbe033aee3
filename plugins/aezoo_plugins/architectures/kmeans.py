"""k-means, the codebook baseline: an image's whole code is the number of the nearest of K images."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, float_chunks
from aezoo_plugins.fitting import lloyd


class KMeans(aezoo.Autoencoder):
    """Answer with the nearest centroid: the best that one code of log2 K bits can do, up to a local optimum."""

    objective = "mse, Lloyd's algorithm"

    def __init__(self, image_shape: aezoo.ImageShape, codebook_size: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        self.codebook_size = codebook_size
        self.centroids = nn.Parameter(torch.rand(codebook_size, math.prod(image_shape)), requires_grad=False)

    def codes(self, x: Tensor) -> Tensor:
        """Return the number of the centroid that is nearest to each image (B, C, H, W): (B, 1), int64."""
        return torch.cdist(self.encoder(x), self.centroids).argmin(1, keepdim=True)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, 1), int64: the numbers themselves, as nothing lies between two of them."""
        return codes

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to latents (B, 1), int64."""
        return self.codes(x)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, 1) to the centroids that they number (B, C, H, W)."""
        return self.decoder(self.centroids[z.long().squeeze(1)])

    def fit(self, images: Tensor) -> None:
        """Run Lloyd's algorithm from k-means++ on images (N, C, H, W), uint8; all of them as float32 in memory."""
        self.centroids.copy_(lloyd(torch.cat([chunk.float() for chunk in float_chunks(images)]), self.codebook_size))


def build(image_shape: aezoo.ImageShape, *, codebook_size: int = 256) -> KMeans:
    """Build the codebook; 256 centroids are one byte an image."""
    check_at_least_one(codebook_size=codebook_size)
    return KMeans(image_shape, codebook_size)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `kmeans`."""
    yield aezoo.Architecture(
        name="kmeans",
        seed_spread="narrow",
        build=build,
        summary="The nearest of K centroids: vector quantisation of whole images, the codebook baseline",
        reference="Lloyd 1982, IEEE Trans. Information Theory 28; start: Arthur & Vassilvitskii 2007, SODA",
        variants=[{"codebook_size": k} for k in (16, 256)],
    )
