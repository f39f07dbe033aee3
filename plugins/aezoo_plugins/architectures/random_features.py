"""Random features: of an autoencoder with three layers the two hidden ones are drawn, and the last alone is solved."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import check_latent_dim, float_chunks


class RandomFeatures(aezoo.Autoencoder):
    """A random layer of sigmoids, random cosines of its standardised outputs, and ridge regression to the pixels.

    The first layer is that of an extreme learning machine's autoencoder (Kasun et al. 2013): orthonormal weights, and
    biases of norm 1. That reads the images off it at once, linearly: `features=0`. The cosines (Rahimi & Recht 2007)
    make the way back non-linear: their products approximate a Gaussian kernel's.
    """

    objective = "mse, closed form"

    def __init__(self, image_shape: aezoo.ImageShape, latent_dim: int, features: int, ridge: float) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, image_shape))
        pixels = math.prod(image_shape)
        self.ridge = ridge
        directions = torch.linalg.qr(torch.randn(pixels, latent_dim)).Q.T
        biases = nn.functional.normalize(torch.randn(latent_dim), dim=0)
        # Two codes, standardised, are 2 latent_dim apart, squared, in the mean: the kernel has fallen to 1 / e there.
        frequencies, phases = torch.randn(features, latent_dim) / latent_dim**0.5, 2 * math.pi * torch.rand(features)
        outputs = features or latent_dim
        for name, value in {
            "directions": directions, "biases": biases, "shift": torch.zeros(latent_dim),
            "scale": torch.ones(latent_dim), "frequencies": frequencies, "phases": phases,
            "centre": torch.zeros(outputs), "back": torch.zeros(outputs, pixels), "mean": torch.zeros(pixels),
        }.items():  # fmt: skip
            self.register_parameter(name, nn.Parameter(value, requires_grad=False))

    def encode(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to the outputs of the random layer (B, latent_dim)."""
        return torch.sigmoid(self.encoder(x) @ self.directions.T + self.biases)

    def decode(self, z: Tensor) -> Tensor:
        """Map latents (B, latent_dim) to images (B, C, H, W)."""
        return self.decoder((self.features_of(z) - self.centre) @ self.back + self.mean)

    def features_of(self, z: Tensor) -> Tensor:
        """Return the random features of latents (B, latent_dim): (B, features), of mean square 1; or standardised."""
        z = (z - self.shift) / self.scale
        if not len(self.phases):
            return z
        return math.sqrt(2) * torch.cos(z @ self.frequencies.T + self.phases)

    def fit(self, images: Tensor) -> None:
        """Standardise the latents of images (N, C, H, W), uint8, and solve the ridge regression, in float64."""
        count = len(images)
        codes = torch.cat([self.encode(chunk.float()) for chunk in float_chunks(images)]).double()
        self.shift.copy_(codes.mean(0))
        self.scale.copy_(codes.std(0, correction=0).clamp(min=1e-12))
        centre, mean = 0.0, 0.0
        for chunk in float_chunks(images):
            # In float32, as the network has them.
            features = self.features_of(self.encode(chunk.float())).double()
            centre, mean = centre + features.sum(0) / count, mean + chunk.sum(0) / count
        gram, cross = 0.0, 0.0
        for chunk in float_chunks(images):
            features = self.features_of(self.encode(chunk.float())).double() - centre
            gram, cross = gram + features.T @ features, cross + features.T @ (chunk - mean)
        gram.diagonal().add_(self.ridge * count)
        self.centre.copy_(centre)
        self.mean.copy_(mean)
        self.back.copy_(torch.linalg.solve(gram, cross))


def build(
    image_shape: aezoo.ImageShape, *, latent_dim: int = 16, features: int = 1024, ridge: float = 0.1
) -> RandomFeatures:
    """Build the layers, with 1,024 cosines. With none, `features=0`, it is the extreme learning machine's as it stands.

    The ridge weighs squared weights, beside a squared error that is a mean over images. From 0.01 to 0.3 its default
    did best on images held out of training, of mnist-5k and photo-patches each.
    """
    check_latent_dim(latent_dim, at_most=math.prod(image_shape))
    if features < 0:
        raise aezoo.AezooError(f"features must be 0, for none, or more, but is {features}")
    if not 0 < ridge < math.inf:
        raise aezoo.AezooError(f"ridge must be above 0, but is {ridge}")
    return RandomFeatures(image_shape, latent_dim, features, ridge)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `random_features`."""
    yield aezoo.Architecture(
        name="random_features",
        seed_spread="wide",
        build=build,
        summary="Random hidden layers and a ridge regression to the pixels: an extreme learning machine's autoencoder",
        reference="Kasun et al. 2013, IEEE Intelligent Systems 28(6); features: Rahimi & Recht 2007, NIPS",
    )
