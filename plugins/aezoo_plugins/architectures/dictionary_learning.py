"""Dictionary learning: an image is a sum of a few entries, chosen one after the other by matching pursuit."""

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_at_least_one, float_chunks
from aezoo_plugins.fitting import in_float32

BATCH = 512
STEPS, WALKS = 200, 25
"""Of so many batches, at the most, and in so many walks over the images: of 4,000 images both are the same. More does
better: on mnist-5k 0.0112 after 4 walks, 0.0105 after 25."""
KEPT = 0.875
"""What a step keeps of the sums of those before it: about 4,000 images are remembered, and older codes forgotten."""
UNUSED = 1e-6
"""The sum of the squares of an entry's numbers below which it is hardly used."""
DEPENDENT = 1e-5
"""An entry of which the chosen ones leave less than this share, squared, is their sum: float32 can tell no more."""


class DictionaryLearning(aezoo.Autoencoder):
    """Subtract the mean image, and choose k entries of a dictionary by orthogonal matching pursuit.

    Each step takes the entry that is nearest to what is left, and fits all that are chosen by least squares anew. The
    encoder is this search: no network guesses its outcome, as in `topk`.
    """

    objective = "mse, online dictionary learning"
    sparse = True

    def __init__(self, image_shape: aezoo.ImageShape, width: int, k: int) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        pixels = math.prod(image_shape)
        self.k = k
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.entries = nn.Parameter(F.normalize(torch.randn(width, pixels), dim=1), requires_grad=False)

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to codes (B, width), at most k numbers of each not 0."""
        with in_float32(x.device):
            return pursue(self.encoder(x) - self.mean, self.entries, self.k)

    def decode(self, z: Tensor) -> Tensor:
        """Map codes (B, width) to images (B, C, H, W)."""
        return self.decoder(z @ self.entries + self.mean)

    def fit(self, images: Tensor) -> None:
        """Learn from batches of images (N, C, H, W), uint8, by the authors' algorithm 1, from images as entries.

        The sums of codes by codes and of codes by images are all that is kept of a batch; each entry in turn is then
        set to what is best given these and the others (algorithm 2). One that is hardly used starts anew from an image.
        Theirs are codes under an L1 penalty, and entries of norm 1 at most; here by pursuit, and of norm 1.
        """
        self.mean.copy_(sum(chunk.sum(0) for chunk in float_chunks(images)) / len(images))
        entries, width = self.entries, len(self.entries)
        for number, places in enumerate(_batches(len(images))):
            x = images[places.to(images.device)].flatten(1) / 255 - self.mean
            if not number:
                entries.copy_(F.normalize(x.repeat(math.ceil(width / len(x)), 1)[:width], dim=1))
                by_code, by_image = entries.new_zeros(width, width), torch.zeros_like(entries)
            z = pursue(x, entries, self.k)
            by_code.mul_(KEPT).addmm_(z.T, z)
            by_image.mul_(KEPT).addmm_(z.T, x)
            used = by_code.diagonal()
            for place in range(width):
                best = entries[place] + (by_image[place] - by_code[place] @ entries) / used[place].clamp(min=UNUSED)
                entries[place] = F.normalize(torch.where(used[place] > UNUSED, best, x[place % len(x)]), dim=0)


def _batches(count: int) -> Iterator[Tensor]:
    """Yield the places of batches, walk after walk through a new order."""
    walks = (torch.randperm(count).split(BATCH) for _ in range(WALKS))
    return itertools.islice(itertools.chain.from_iterable(walks), STEPS)


def pursue(x: Tensor, entries: Tensor, k: int) -> Tensor:
    """Return the codes (B, width) of x (B, P) by orthogonal matching pursuit of k entries (width, P).

    It works on products with the entries alone (Batch-OMP, Rubinstein et al. 2008): each entry that is chosen is made
    orthogonal to those before it, and its part leaves the products of what is left (B, width).
    """
    products, left = entries @ entries.T, x @ entries.T
    rows = torch.arange(len(x), device=x.device)
    taken = torch.zeros_like(left, dtype=torch.bool)
    # Of the chosen entries made orthogonal: their products with all entries; and the triangle that takes them back.
    chosen = torch.zeros_like(left.unsqueeze(1).expand(-1, k, -1))
    triangle, parts = torch.zeros_like(chosen[..., :k]), torch.zeros_like(left[:, :k])
    places = torch.zeros_like(parts, dtype=torch.long)
    for step in range(k):
        place = left.abs().masked_fill(taken, -1.0).argmax(1)
        taken[rows, place] = True
        shares = chosen[:, :step].gather(2, place.view(-1, 1, 1).expand(-1, step, 1)).squeeze(2)
        size = products[place, place]
        rest = size - shares.square().sum(1)
        scale = torch.where(rest > DEPENDENT * size, rest.clamp(min=1e-30).rsqrt(), 0.0)
        new = scale.unsqueeze(1) * (products[place] - (shares.unsqueeze(1) @ chosen[:, :step]).squeeze(1))
        part = scale * left[rows, place]
        left = left - part.unsqueeze(1) * new
        chosen[:, step], parts[:, step], places[:, step] = new, part, place
        triangle[:, step, :step] = shares
        triangle[:, step, step] = torch.where(scale > 0, 1 / scale.clamp(min=1e-30), 1.0)
    numbers = torch.linalg.solve_triangular(triangle.mT, parts.unsqueeze(2), upper=True).squeeze(2)
    return torch.zeros_like(left).scatter(1, places, numbers)


def build(image_shape: aezoo.ImageShape, *, width: int = 256, k: int = 16) -> DictionaryLearning:
    """Build the dictionary; 16 of 256 entries are as many as `topk` takes."""
    check_at_least_one(width=width)
    if not 1 <= k <= width:
        raise aezoo.AezooError(f"k must be 1 to {width}, the width, but is {k}")
    return DictionaryLearning(image_shape, width, k)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `dictionary_learning`."""
    yield aezoo.Architecture(
        name="dictionary_learning",
        seed_spread="narrow",
        build=build,
        summary="A learnt dictionary of which matching pursuit chooses the k entries of each image: no encoder network",
        reference="Mairal, Bach, Ponce & Sapiro 2010, JMLR 11, arXiv:0908.0050; pursuit: Pati et al. 1993",
    )
