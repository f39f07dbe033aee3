"""The only score: the squared error of each image. Nothing of a plugin runs in it but the network's own forward.

Shapes: images_NCHW is uint8 on the device; a batch x_BCHW is float32 in [0, 1].
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aezoo.contract.halves import halves
from aezoo.contract.metric import Part
from aezoo.contract.network import to_float
from aezoo.contract.recipe import Precision
from aezoo.contract.shared import chunks
from aezoo.errors import AezooError, ContractError
from aezoo.train.engine import arithmetic

EVALUATION_BATCH = 128
"""Small, so that what is computed of a batch stays in a core's cache; the score does not depend on it."""


def image_errors(
    module: nn.Module,
    images_NCHW: Tensor,
    precision: Precision = "float32",
    batch_size: int = EVALUATION_BATCH,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the mean squared error of each image, (N,), float64, on the host: evaluation mode, clean input.

    Summed in float64, so that neither it nor its mean, the score, depends on `batch_size`. What the network is
    compared with never passes through its hands. The network is on `device`, else on that of the images.

    Raises:
        ContractError: a reconstruction is not of its image's shape.
    """
    module.eval()
    # One result for all: small ones, made between large temporaries, would keep the heap from shrinking.
    errors_N = torch.empty(len(images_NCHW), dtype=torch.float64)
    with torch.no_grad():
        for pixels, errors_B in zip(
            chunks(images_NCHW, batch_size, device), torch.split(errors_N, batch_size), strict=True
        ):
            with arithmetic(precision, pixels.device.type):
                reconstruction = module(to_float(pixels))
            if not isinstance(reconstruction, Tensor) or reconstruction.shape != pixels.shape:
                got = tuple(reconstruction.shape) if isinstance(reconstruction, Tensor) else type(reconstruction)
                raise ContractError(f"expected reconstructions of shape {tuple(pixels.shape)}, got {got}")
            # An MPS device has no float64: there the sum moves to the host.
            exact = "cpu" if pixels.device.type == "mps" else pixels.device
            difference = reconstruction.to(exact).double() - to_float(pixels).to(exact).double()
            errors_B.copy_(difference.square().flatten(1).mean(1))
    return errors_N


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A trained network, its images, uint8 (N, C, H, W), and their labels, empty where there are none.

    `aezoo.contract.metric.Evaluation` describes what it offers.
    """

    module: nn.Module
    device: str
    precision: Precision
    images: Mapping[Part, Tensor]
    known_labels: Mapping[Part, Tensor]

    def batches(self, part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and their reconstructions, each (B, C, H, W), float32."""
        self.module.eval()
        for pixels in chunks(self.images[part], EVALUATION_BATCH, self.device):
            # A generator must not leave its caller without gradients, so that is said for each batch anew.
            with torch.no_grad(), arithmetic(self.precision, self.device):
                reconstruction = self.module(to_float(pixels))
            yield to_float(pixels), reconstruction.float()

    def latents(self, part: Part) -> Tensor:
        """Return the latents of all images, (N, latent_size), float32."""
        pair = halves(self.module, to_float(self.images[part][:8].to(self.device)))
        if pair is None:
            raise AezooError("the network has no encoder and decoder, and so no latent")
        encode, _ = pair
        self.module.eval()
        with torch.no_grad(), arithmetic(self.precision, self.device):
            parts = [
                encode(to_float(pixels)).flatten(1).float()
                for pixels in chunks(self.images[part], EVALUATION_BATCH, self.device)
            ]
        return torch.cat(parts)

    def labels(self, part: Part) -> Tensor:
        """Return the images' labels, (N,), int64."""
        if part not in self.known_labels:
            raise AezooError("the data set has no labels")
        # A copy: what one metric does to it is no other's business.
        return self.known_labels[part].clone().to(self.device)
