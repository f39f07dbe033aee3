"""The topological autoencoder: what is near and connected among a batch's images stays so among their codes."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.blocks import Body, body_of, check_weight


class Topological(aezoo.Autoencoder):
    """A body whose codes keep the lengths of a batch's minimum spanning trees.

    The edges of the tree are where connected components meet as balls around the points grow: persistent homology of
    dimension 0. The edges of the images' tree must be as long among the codes, and the other way round.

    Args:
        body: The autoencoder.
        weight: Of the difference, beside the harness's MSE.
    """

    objective = "mse + topology"

    def __init__(self, body: aezoo.Autoencoder, weight: float) -> None:
        super().__init__(body.encoder, body.decoder)
        self.weight = weight
        # As in the authors' code: images and codes have no scale in common, so one is learnt.
        self.scale = nn.Parameter(torch.ones(()))

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        """Reconstruct images (B, C, H, W), with the difference of the two trees as penalty."""
        z = self.encode(x)
        # Over the greatest that two images can have, black and white: as in the authors' code.
        distances = pairwise(x.flatten(1)) / math.sqrt(x[0].numel())
        penalty = difference(distances, pairwise(z) / self.scale)
        return aezoo.TrainingOutput(self.decode(z), self.weight * penalty / len(x))


def pairwise(points: Tensor) -> Tensor:
    """Return the distances (B, B) between points (B, D); exact also where two points are near, to 1e-7 or so."""
    if points.requires_grad or points.device.type == "mps":  # which has no float64
        return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    # In float64 a product of matrices is exact enough, and for hundreds of pixels a dozen times faster.
    exact = points.double()
    return torch.cdist(exact, exact, compute_mode="use_mm_for_euclid_dist").to(points.dtype)


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Return half the squared differences of two tables of distances (B, B), over the edges of either's tree, summed.

    This is the paper's L_X→Z + L_Z→X.
    """
    total = one.new_zeros(())
    for table in (one, other):
        rows, columns = spanning_tree(table.detach())
        total = total + 0.5 * (one[rows, columns] - other[rows, columns]).square().sum()
    return total


def spanning_tree(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends (B - 1,), (B - 1,) of the edges of the minimum spanning tree of B points, found on the CPU."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    # It takes a distance of 0 for no edge; 1 more on every edge leaves the tree as it is.
    tree = minimum_spanning_tree(distances.cpu().double().numpy() + 1.0).tocoo()
    rows, columns = (torch.from_numpy(ends).long().to(distances.device) for ends in (tree.row, tree.col))
    return rows, columns


def build(
    image_shape: aezoo.ImageShape,
    *,
    latent_dim: int = 16,
    weight: float = 0.25,
    body: Body = "mlp",
    width: int | None = None,
) -> Topological:
    """Build the network; the weight is that of the authors' code for MNIST.

    There it is 0.5003, of squares that are not halved, beside the MSE of pixels in [-1, 1], which is four times ours:
    here 0.25. Their codes have two numbers.
    """
    check_weight(weight=weight)
    return Topological(body_of(body, image_shape, latent_dim, width), weight)


@aezoo.hookimpl
def aezoo_architectures() -> Iterator[aezoo.Architecture]:
    """Contribute `topological`."""
    yield aezoo.Architecture(
        name="topological",
        seed_spread="wide",
        build=build,
        summary="Codes that keep the minimum spanning tree of their batch: connectedness at every scale",
        reference="Moor et al. 2020, ICML, arXiv:1906.00722",
    )
