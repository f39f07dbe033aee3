"""What a metric may look at: a trained network on its data. The score itself is another module's business."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aezoo.contract.metric import Part
from aezoo.contract.network import halves, to_float
from aezoo.contract.recipe import Precision
from aezoo.errors import AezooError
from aezoo.train.loop import arithmetic
from aezoo.train.measurement import EVALUATION_BATCH


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A trained network, its images, uint8 (N, C, H, W), on the device, and their labels, empty where there are none.

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
        for pixels in torch.split(self.images[part], EVALUATION_BATCH):
            # A generator must not leave its caller without gradients, so that is said for each batch anew.
            with torch.no_grad(), arithmetic(self.precision, self.device):
                reconstruction = self.module(to_float(pixels))
            yield to_float(pixels), reconstruction.float()

    def latents(self, part: Part) -> Tensor:
        """Return the latents of all images, (N, latent_size), float32."""
        found = halves(self.module)
        if found is None:
            raise AezooError("the network has no encoder and decoder, and so no latent")
        encode, _ = found
        self.module.eval()
        with torch.no_grad(), arithmetic(self.precision, self.device):
            parts = [
                encode(to_float(pixels)).flatten(1).float()
                for pixels in torch.split(self.images[part], EVALUATION_BATCH)
            ]
        return torch.cat(parts)

    def labels(self, part: Part) -> Tensor:
        """Return the images' labels, (N,), int64."""
        if part not in self.known_labels:
            raise AezooError("the data set has no labels")
        # A copy: what one metric does to it is no other's business.
        return self.known_labels[part].clone().to(self.device)
