"""Product quantisation: an image is cut into patches, and each is told by the nearest of its own K centroids."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one
from aezoo_plugins.fitting import lloyd, spaced
from aezoo_plugins.patches import FromPatches, ToPatches, patch_of

PER_CENTROID = 64
"""Training images for each centroid, at the most: of 256 centroids 16,384. Faiss asks for 39 at least."""


class ProductQuantisation(aezoo.Autoencoder):
    """Answer with the nearest centroid of each patch's own codebook, at its own place.

    The codebooks are independent, and their product has K^count images. What the patches say of each other is not used.
    """

    objective = "mse, Lloyd's algorithm"

    def __init__(self, image_shape: aezoo.ImageShape, codebook_size: int, patch: int) -> None:
        super().__init__(ToPatches(image_shape, patch), FromPatches(image_shape, patch))
        self.codebook_size = codebook_size
        centroids = torch.rand(self.encoder.count, codebook_size, self.encoder.size)
        self.centroids = nn.Parameter(centroids, requires_grad=False)

    def codes(self, x: Tensor) -> Tensor:
        """Return the number of the centroid that is nearest to each patch of images (B, C, H, W): (B, count), int64."""
        return torch.cdist(self.encoder(x).transpose(0, 1), self.centroids).argmin(2).T

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, count), int64: the codes themselves, as nothing lies between two of them."""
        return codes

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to latents (B, count), int64."""
        return self.codes(x)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, count) to the images (B, C, H, W) that the numbered centroids make."""
        return self.decoder(self.centroids[torch.arange(len(self.centroids), device=z.device), z.long()])

    def fit(self, images: Tensor) -> None:
        """Run k-means on each patch of images (N, C, H, W), uint8, evenly spaced where they are very many."""
        # Cut as bytes: of large images the patches are floats one after the other.
        patches = self.encoder(spaced(images, PER_CENTROID * self.codebook_size))
        for number in range(len(self.centroids)):
            self.centroids[number] = lloyd(patches[:, number].float() / 255, self.codebook_size)


def build(image_shape: aezoo.ImageShape, *, codebook_size: int = 256, patch: int | None = None) -> ProductQuantisation:
    """Build the codebooks: of 256 centroids a patch takes one byte.

    The sides of a `patch` are such that 4x4 of them make an image: 7 of 28x28 pixels, 8 of 32x32, 16 of 64x64. So an
    image takes 128 bits, as those of `vq_vae` do. A longer patch is the better code for its bits, and K grows
    exponentially with those: of one patch it is `kmeans`.
    """
    patch = patch_of(image_shape, patch)
    check_at_least_one(codebook_size=codebook_size, patch=patch)
    return ProductQuantisation(image_shape, codebook_size, patch)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `product_quantisation`."""
    yield aezoo.Architecture(
        name="product_quantisation",
        seed_spread="narrow",
        build=build,
        summary="k-means of each of 16 patches, one byte each: the codebook baseline at 128 bits, with no network",
        reference="Jégou, Douze & Schmid 2011, IEEE TPAMI 33(1)",
    )
