"""What closed forms and codecs claim of themselves, held to a computation of another kind."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.contract.network import to_float
from aezoo.train.loop import fit
from aezoo.train.score import image_errors
from aezoo_plugins.architectures.dictionary_learning import pursue
from aezoo_plugins.fitting import spaced


def images(count: int = 60, shape: aezoo.ImageShape = (1, 8, 8), seed: int = 0) -> Tensor:
    """Images whose pixels hang together: random ones of four by four, enlarged, and noise."""
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(count, shape[0], 4, 4, generator=rng)
    smooth = nn.functional.interpolate(small, shape[1:], mode="bilinear")
    return (230 * smooth + 25 * torch.rand(count, *shape, generator=rng)).to(torch.uint8)


def fitted(text: str, data: Tensor) -> nn.Module:
    torch.manual_seed(0)
    module = aezoo.create(text, image_shape=tuple(data.shape[1:]))
    fit(module, data, seed=0)
    return module.eval()


def mse(module: nn.Module, data: Tensor) -> float:
    return float(image_errors(module, data).mean())


# Product quantisation ------------------------------------------------------------------------------------------------


def test_each_patch_is_told_by_its_own_nearest_centroid_and_a_centroid_is_the_mean_of_its_patches():
    data = images(200)
    module = fitted("product_quantisation[codebook_size=6,patch=4]", data)
    x = to_float(data)
    codes, rebuilt = module.codes(x), module(x)
    for number, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        patches = x[:, 0, top : top + 4, left : left + 4].flatten(1).double()
        centroids = module.centroids[number].double()
        nearest = (patches[:, None] - centroids[None]).square().sum(2).argmin(1)
        assert torch.equal(codes[:, number], nearest)
        assert len(nearest.unique()) == 6
        for code in range(6):
            torch.testing.assert_close(centroids[code], patches[nearest == code].mean(0), rtol=0.02, atol=0.005)
        answer = rebuilt[:, 0, top : top + 4, left : left + 4].flatten(1)
        torch.testing.assert_close(answer.double(), centroids[nearest])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_product_quantisation_takes_128_bits(shape):
    module = aezoo.create("product_quantisation", image_shape=shape)
    assert module.codes(torch.rand(2, *shape)).shape == (2, 16)
    assert module.codebook_size == 256


def test_product_quantisation_of_a_single_patch_is_kmeans():
    data = images(100)
    whole, product = (
        fitted("kmeans[codebook_size=9]", data),
        fitted("product_quantisation[codebook_size=9,patch=8]", data),
    )
    torch.testing.assert_close(product.centroids[0], whole.centroids)
    assert mse(product, data) == pytest.approx(mse(whole, data), rel=1e-6)


@pytest.mark.parametrize("text", ["kmeans[codebook_size=32]", "product_quantisation[codebook_size=32,patch=3]"])
def test_a_centroid_for_each_image_leaves_no_error_also_where_images_are_alike(text):
    few = images(7, (1, 6, 5))
    assert mse(fitted(text, few), few) < 1e-12
    alike = few.repeat(6, 1, 1, 1)
    assert mse(fitted(text, alike), alike) < 1e-12


def test_a_sample_is_spread_over_all_images():
    data = torch.arange(10)
    assert spaced(data, 4).tolist() == [0, 2, 5, 7]
    assert spaced(data, 10) is data


# Dictionary learning -------------------------------------------------------------------------------------------------


def test_matching_pursuit_is_scikit_learns():
    from sklearn.linear_model import orthogonal_mp

    rng = torch.Generator().manual_seed(0)
    entries = nn.functional.normalize(torch.randn(40, 30, generator=rng), dim=1)
    x = torch.randn(25, 30, generator=rng)
    z = pursue(x, entries, 6)
    expected = orthogonal_mp(entries.T.double().numpy(), x.T.double().numpy(), n_nonzero_coefs=6).T
    assert (z != 0).sum(1).tolist() == [6] * 25
    np.testing.assert_allclose(z.numpy(), expected, atol=1e-5)
    left = x - z @ entries
    assert float(((left @ entries.T)[z != 0]).abs().max()) < 1e-5


def test_matching_pursuit_stops_where_nothing_is_left_or_entries_are_alike():
    entries = torch.eye(4).repeat(2, 1)
    x = torch.tensor([[1.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    z = pursue(x, entries, 6)
    torch.testing.assert_close(z @ entries, x)
    assert z.abs().sum(1).tolist() == [3.0, 0.0]


def test_dictionary_learning_comes_to_the_entries_that_images_were_made_of():
    rng = torch.Generator().manual_seed(0)
    entries = nn.functional.normalize(torch.randn(12, 64, generator=rng), dim=1)
    codes = torch.zeros(3000, 12)
    codes.scatter_(1, torch.rand(3000, 12, generator=rng).topk(2).indices, torch.randn(3000, 2, generator=rng))
    data = (128 + 90 * codes @ entries).round().clamp(0, 255).to(torch.uint8).view(-1, 1, 8, 8)
    module = fitted("dictionary_learning[k=2,width=12]", data)
    torch.testing.assert_close(module.entries.norm(dim=1), torch.ones(12))
    nearest = (entries @ module.entries.T).abs().amax(1)
    assert float(nearest.min()) > 0.98
    # No more than rounding to bytes leaves is left: a twelfth of a level, squared.
    assert mse(module, data) < 3 / 12 / 255**2
