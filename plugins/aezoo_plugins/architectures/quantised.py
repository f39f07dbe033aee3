"""Discrete codes: VQ-VAE, residual VQ, FSQ and LFQ, four ways to round the same map of vectors to a few bits."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import CONV_WIDTH, check_at_least_one, check_weight, halved, spatial_body, spatial_strides

DECAY = 0.99
"""Of the running means that are the codebooks: the authors' (van den Oord et al., appendix A.1)."""
UNUSED = 0.02
"""A vector that is chosen less often than this share of the mean, by a running count, is replaced by one of the
batch's. Jukebox does so (Dhariwal et al. 2020), by a number of its own."""
MOST_CODES = 2**16
"""Of what has all of its codes in a table."""


class Quantised(aezoo.Autoencoder):
    """The network of `conv_spatial`, whose map of vectors is rounded, vector by vector, to codes.

    By default each of the four gives an image of 28x28, 32x32 or 64x64 pixels 16 places of 8 bits (FSQ 7.9). The latent
    is what the decoder gets: the rounded vectors, (B, D, h, w). Gradients pass the rounding as if it were not there.

    Args:
        body: The autoencoder; its latent is (D, h, w).
        quantiser: Maps vectors (B, h·w, D), to them rounded, their codes (B, h·w) or (B, h·w, parts), and a penalty.
        look_up: Maps such codes back to the rounded vectors.
        codebook_size: K: each code is a number from 0 to K - 1.
        sides: (h, w).
        objective: What is optimised.
    """

    def __init__(
        self,
        body: aezoo.Autoencoder,
        quantiser: nn.Module,
        look_up: Callable[[Tensor], Tensor],
        *,
        codebook_size: int,
        sides: tuple[int, int],
        objective: str,
    ) -> None:
        super().__init__(body.encoder, body.decoder)
        self.quantiser = quantiser
        self.look_up = look_up
        self.codebook_size = codebook_size
        self.sides = sides
        self.codebooks = [one for one in quantiser.modules() if hasattr(one, "threshold_ema_dead_code")]
        for codebook in self.codebooks:
            # Learnt, if not by a gradient: a parameter, so that it counts as one.
            codebook.embed = nn.Parameter(codebook._buffers.pop("embed"), requires_grad=False)
        self.objective = objective

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of images (B, C, H, W): (B, count), int64."""
        return self.round(x)[1].flatten(1).long()

    def from_codes(self, codes: Tensor) -> Tensor:
        """Return the latents (B, D, h, w) that codes (B, count) stand for."""
        places = math.prod(self.sides)
        by_place = codes.unflatten(1, (places, -1)) if codes.shape[1] != places else codes
        return self.map_of(self.look_up(by_place))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to their rounded latents (B, D, h, w)."""
        return self.map_of(self.round(x)[0])

    def round(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the rounded vectors of images, (B, h·w, D), their codes and the penalty."""
        vectors = self.encoder(x).flatten(2).transpose(1, 2)
        for codebook in self.codebooks:
            # The library counts choices in a batch, so that what is rare depends on the batch.
            mean = vectors.shape[0] * vectors.shape[1] / self.codebook_size
            codebook.threshold_ema_dead_code, codebook.reset_cluster_size = UNUSED * mean, mean
        rounded, codes, *penalty = self.quantiser(vectors)
        return rounded, codes, penalty[0].sum() if penalty else None

    def map_of(self, vectors: Tensor) -> Tensor:
        """Lay vectors (B, h·w, D) out as a map (B, D, h, w)."""
        return vectors.transpose(1, 2).unflatten(2, self.sides)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W) from their rounded latents, with the quantiser's own penalty."""
        rounded, _, penalty = self.round(x)
        return aezoo.TrainingOutput(self.decode(self.map_of(rounded)), penalty)


def build_vq(
    image_shape: aezoo.ImageShape,
    *,
    codebook_size: int = 256,
    code_dim: int = 16,
    commitment: float = 0.25,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the VQ-VAE: the nearest of K vectors, which are running means of what chose them.

    The commitment of 0.25 is the paper's number; it weighs about 16 times as much as in the authors' example, where the
    squared error is over the data's variance. The paper has two strides, 256 channels, 512 vectors, and replaces none;
    here a small network would then use but a quarter of them.
    """
    return _vector_quantised(image_shape, codebook_size, code_dim, commitment, width, strides, parts=1)


def build_residual(
    image_shape: aezoo.ImageShape,
    *,
    codebook_size: int = 16,
    parts: int = 2,
    code_dim: int = 16,
    commitment: float = 0.25,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the residual VQ: each of `parts` codebooks rounds what the ones before it left."""
    check_at_least_one(parts=parts)
    return _vector_quantised(image_shape, codebook_size, code_dim, commitment, width, strides, parts)


def _vector_quantised(
    image_shape: aezoo.ImageShape,
    codebook_size: int,
    code_dim: int,
    commitment: float,
    width: int,
    strides: int | None,
    parts: int,
) -> Quantised:
    # Whoever builds none of these need not import as much again as torch.
    from vector_quantize_pytorch import ResidualVQ, VectorQuantize

    check_at_least_one(codebook_size=codebook_size, code_dim=code_dim)
    check_weight(commitment=commitment)
    strides = spatial_strides(image_shape, strides)
    body = spatial_body(image_shape, code_dim, width, strides)
    settings = {
        "codebook_size": codebook_size,
        "decay": DECAY,
        "commitment_weight": commitment,
        "threshold_ema_dead_code": 1,  # set anew for each batch
        "rotation_trick": False,
    }
    quantiser: nn.Module
    if parts == 1:
        quantiser = VectorQuantize(dim=code_dim, **settings)
    else:
        quantiser = ResidualVQ(dim=code_dim, num_quantizers=parts, **settings)
    return Quantised(
        body,
        quantiser,
        quantiser.get_output_from_indices,
        codebook_size=codebook_size,
        sides=halved(image_shape, strides)[-1],
        objective="mse + commitment",
    )


def build_fsq(
    image_shape: aezoo.ImageShape,
    *,
    levels: tuple[int, ...] = (8, 6, 5),
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the FSQ: each number of a vector, bounded, is rounded to one of its levels; no codebook, no penalty.

    The code's K is the product of the levels; (8, 6, 5) are what the paper recommends for about 256.
    """
    from vector_quantize_pytorch import FSQ

    if not levels or min(levels) < 3:
        raise aezoo.AezooError(f"levels must be one number or more, each at least 3, but are {levels}")
    if math.prod(levels) > MOST_CODES:
        raise aezoo.AezooError(f"levels must be such that they multiply to at most {MOST_CODES}, but are {levels}")
    strides = spatial_strides(image_shape, strides)
    body = spatial_body(image_shape, len(levels), width, strides)
    # Ours, not the paper's: without a spread to begin with, every vector is rounded to one code, and stays there.
    body.encoder.append(nn.BatchNorm2d(len(levels)))
    quantiser = FSQ(levels)
    return Quantised(
        body,
        quantiser,
        quantiser.indices_to_codes,
        codebook_size=math.prod(levels),
        sides=halved(image_shape, strides)[-1],
        objective="mse",
    )


class Signs(nn.Module):
    """Round each number of a vector to its sign, and ask that each vector be sure of its code, and all codes be used.

    A vector chooses a code with odds that fall with the squared distance; so each bit is chosen on its own, with odds
    of exp(4 x / T). That spares a table of all vectors by all codes, which the authors' form of it has.

    Args:
        bits: Numbers of a vector.
        entropy: Weight of the mean vector's entropy less that of the mean code.
        commitment: Weight of the squared distance between a vector and its code, per number.
    """

    TEMPERATURE = 0.01

    def __init__(self, bits: int, entropy: float, commitment: float) -> None:
        super().__init__()
        self.entropy = entropy
        self.commitment = commitment
        self.register_buffer("powers", 2 ** torch.arange(bits - 1, -1, -1), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map vectors (B, n, D) to their codes' vectors, the codes (B, n), int64, and the penalty."""
        is_up = x > 0
        rounded = torch.where(is_up, 1.0, -1.0)
        logits = (4 / self.TEMPERATURE) * x.flatten(0, 1)
        odds = -logits.abs()
        sure = F.softplus(odds) - odds * odds.sigmoid()
        penalty = self.entropy * (sure.sum(1).mean() - entropy_of_mean(logits.sigmoid()))
        penalty = penalty + self.commitment * F.mse_loss(x, rounded)
        return x + (rounded - x).detach(), (is_up * self.powers).sum(-1), penalty

    def look_up(self, codes: Tensor) -> Tensor:
        """Map codes (B, n) to vectors (B, n, D)."""
        return torch.where(codes.unsqueeze(-1) & self.powers > 0, 1.0, -1.0)


def entropy_of_mean(chances: Tensor) -> Tensor:
    """Return the entropy, in nats, of the mean over vectors of their distributions over codes, a scalar.

    `chances` (N, D) are those of each bit to be 1, which a vector chooses on their own.
    """
    halves = []
    for half in chances.tensor_split(2, 1):
        codes = half.new_ones(len(half), 1)
        for chance in half.split(1, 1):
            codes = torch.cat([codes * (1 - chance), codes * chance], 1)
        halves.append(codes)
    mean = halves[0].T @ halves[1] / len(chances)
    return -torch.special.xlogy(mean, mean.clamp(min=1e-30)).sum()


def build_lfq(
    image_shape: aezoo.ImageShape,
    *,
    code_bits: int = 8,
    entropy: float = 1e-3,
    commitment: float = 1e-2,
    width: int = CONV_WIDTH,
    strides: int | None = None,
) -> Quantised:
    """Build the LFQ: each number of a vector is rounded to its sign. `code_bits` numbers make a code of as many bits.

    The penalty asks that each vector be sure of its code, and all of them together use every code. Its weights are
    small, beside a loss that is a mean over pixels: with an entropy of 0.01, two codes were all that was used.
    """
    if not 1 <= code_bits <= 16:
        raise aezoo.AezooError(
            f"code_bits must be 1 to 16, as each of 2**code_bits codes is looked at, but is {code_bits}"
        )
    check_weight(entropy=entropy, commitment=commitment)
    strides = spatial_strides(image_shape, strides)
    body = spatial_body(image_shape, code_bits, width, strides)
    quantiser = Signs(code_bits, entropy, commitment)
    return Quantised(
        body,
        quantiser,
        quantiser.look_up,
        codebook_size=2**code_bits,
        sides=halved(image_shape, strides)[-1],
        objective="mse + entropy + commitment",
    )


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `vq_vae`, `residual_vq`, `fsq` and `lfq`."""
    yield aezoo.Architecture(
        name="vq_vae",
        seed_spread="wide",
        build=build_vq,
        summary="A map of vectors, each replaced by the nearest of K, which are running means",
        reference="van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937",
    )
    yield aezoo.Architecture(
        name="residual_vq",
        seed_spread="wide",
        build=build_residual,
        summary="VQ-VAE in several steps: each codebook rounds what the ones before it left",
        reference="Zeghidour et al. 2021, arXiv:2107.03312; images: Lee et al. 2022, arXiv:2203.01941",
    )
    yield aezoo.Architecture(
        name="fsq",
        seed_spread="wide",
        build=build_fsq,
        summary="Finite scalar quantisation: each of a few numbers is rounded to one of a few levels",
        reference="Mentzer et al. 2024, arXiv:2309.15505",
    )
    yield aezoo.Architecture(
        name="lfq",
        seed_spread="wide",
        build=build_lfq,
        summary="Lookup-free quantisation: each number of a vector is rounded to its sign",
        reference="Yu et al. 2024, arXiv:2310.05737",
    )
