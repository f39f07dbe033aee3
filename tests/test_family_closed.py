"""What closed forms and codecs claim of themselves, held to a computation of another kind."""

import itertools
import math
from io import BytesIO

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.check.case import latent_bits
from aezoo.contract.network import to_float
from aezoo.train.loop import fit
from aezoo.train.score import image_errors
from aezoo_plugins.architectures.dictionary_learning import pursue
from aezoo_plugins.architectures.quantised_pca import LEFT, allocate
from aezoo_plugins.fitting import lloyd, spaced


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


def test_matching_pursuit_in_fewer_dimensions_than_it_may_choose_entries_takes_no_sum_of_those_that_it_has():
    rng = torch.Generator().manual_seed(0)
    entries = nn.functional.normalize(torch.randn(12, 4, generator=rng), dim=1)
    x = torch.randn(50, 4, generator=rng)
    z = pursue(x, entries, 9)
    torch.testing.assert_close(z @ entries, x, rtol=1e-3, atol=1e-4)
    assert (z != 0).sum(1).tolist() == [4] * 50


def test_dictionary_learning_comes_to_the_entries_that_images_were_made_of():
    rng = torch.Generator().manual_seed(1)  # not the seed that the network starts from
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


# Codecs --------------------------------------------------------------------------------------------------------------

LUMINANCE = """
16 11 10 16 24 40 51 61  12 12 14 19 26 58 60 55  14 13 16 24 40 57 69 56  14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77  24 35 55 64 81 104 113 92  49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
"""Table K.1 of ITU-T T.81, and so quality 50."""


def test_jpeg_rounds_the_cosine_transform_to_the_standards_table():
    from scipy.fft import dctn, idctn

    table = np.array(LUMINANCE.split(), dtype=float).reshape(8, 8)
    data = images(20)
    module = fitted("jpeg[quality=50]", data)
    levels = dctn(data.numpy() - 128.0, axes=(2, 3), norm="ortho")
    expected = np.clip(128 + idctn(np.rint(levels / table) * table, axes=(2, 3), norm="ortho"), 0, 255)
    away = np.abs(255 * module(to_float(data)).numpy() - expected)
    # Its transforms are of whole numbers: where a coefficient lies between two levels, they may take the other one.
    assert (away > 1.01).mean() < 0.15
    assert (np.abs(data.numpy() - expected) > 1.01).mean() > 0.7


@pytest.mark.parametrize(
    ("shape", "bits"),
    [
        # A block of middle grey takes 6 bits of luminance, DC 00 and end of block 1010, or 4 of chrominance, 00 and 00.
        ((1, 28, 28), 16 * 6),
        ((1, 32, 64), 32 * 6),
        # Chrominance at half the sides: two times 2x2 blocks of 16x16 pixels' worth.
        ((3, 32, 32), 16 * 6 + 2 * 4 * 4),
        ((2, 16, 16), 2 * 4 * 6),
    ],
)
def test_jpeg_takes_the_bits_of_its_huffman_codes(shape, bits):
    module = fitted("jpeg[quality=50]", images(4, shape))
    # 128.0 itself, which is no level: it is rounded to one.
    assert module.bits(torch.full((3, *shape), 128.0 / 255)).tolist() == [bits] * 3


@pytest.mark.parametrize("name", ["jpeg", "webp"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 33, 20), (2, 13, 9)])
def test_what_is_left_out_of_the_bits_is_the_same_for_all_images(name, shape):
    data = images(12, shape)
    module = fitted(f"{name}[quality=30]", data)
    files = module.write(to_float(data))
    apart = set()
    for file in files:
        if name == "jpeg":
            start = len(file) - 2 - module.payload(file)
            apart.add((file[:start], file[-2:]))
        else:
            # The lengths in the container and the frame's tag, which counts, lie between.
            size = 7 + module.payload(file)
            assert len(file) == 20 + size + size % 2
            apart.add((file[:4], file[8:16], file[23:30]))
    assert len(apart) == 1
    sizes = torch.tensor([8.0 * module.payload(file) for file in files]).view(12, -1).sum(1)
    assert module.bits(to_float(data)).tolist() == sizes.tolist()
    assert len(set(sizes.tolist())) > 1


@pytest.mark.parametrize(
    ("text", "shape", "header"),
    [
        ("jpeg", (1, 28, 28), 330), ("jpeg", (1, 13, 9), 330), ("jpeg", (3, 64, 64), 625),
        ("webp", (1, 28, 28), 27), ("webp", (3, 64, 64), 27),
    ],
)  # fmt: skip
@pytest.mark.parametrize("quality", [5, 90])
def test_a_header_has_as_many_bytes_as_it_says(text, shape, header, quality):
    module = fitted(f"{text}[quality={quality}]", images(8, shape))
    for file in module.write(to_float(images(8, shape))):
        filling = module.payload(file) % 2 == 0 if text == "webp" else 0  # 7 bytes of the frame are the header's
        assert len(file) - module.payload(file) == header + filling


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_the_files_alone_make_the_reconstruction(name):
    from PIL import Image

    data = images(5, (3, 24, 40))
    module = fitted(f"{name}[quality=40]", data)
    for file, image in zip(module.write(to_float(data)), module(to_float(data)), strict=True):
        pixels = np.asarray(Image.open(BytesIO(file))).transpose(2, 0, 1)
        assert np.array_equal((255 * image).round().numpy(), pixels)


def test_the_quality_is_the_highest_that_keeps_to_the_rate():
    data = images(40, (1, 16, 16))
    sizes = {q: float(fitted(f"jpeg[quality={q}]", data).bits(to_float(data)).mean()) for q in range(1, 101)}
    for rate in (1.0, 2.0, 5.0):
        quality = int(fitted(f"jpeg[rate={rate}]", data).quality)
        assert quality == max(q for q, size in sizes.items() if size <= rate * 256)
        assert 1 < quality < 100
    assert int(fitted("jpeg[rate=0.01]", data).quality) == 1
    assert int(fitted("webp[rate=0.01]", data).quality) == 0


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_channels_that_are_no_colours_are_files_of_their_own(name):
    data = images(4, (2, 16, 12))
    pair, grey = fitted(f"{name}[quality=40]", data), fitted(f"{name}[quality=40]", data[:, :1])
    x = to_float(data)
    assert torch.equal(pair(x), torch.cat([grey(x[:, :1]), grey(x[:, 1:])], dim=1))
    assert torch.equal(pair.bits(x), grey.bits(x[:, :1]) + grey.bits(x[:, 1:]))


# Fixed transforms ----------------------------------------------------------------------------------------------------

ZONAL = ["dct", "dct[block=4]", "haar"]


@pytest.mark.parametrize("text", ZONAL)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7), (2, 13, 1)], ids=str)
def test_a_transform_keeps_all_energy_and_is_undone_by_its_transpose(text, shape):
    module = aezoo.create(text, image_shape=shape)
    identity = torch.eye(shape[0] * shape[1] * shape[2], dtype=torch.float64)
    forth, back = (f(identity.view(-1, *shape)).flatten(1) for f in (module.analyse, module.synthesise))
    torch.testing.assert_close(forth @ forth.T, identity)
    torch.testing.assert_close(back, forth.T)


@pytest.mark.parametrize("name", ZONAL)
@pytest.mark.parametrize("kept", [1, 20, 70])
def test_what_is_discarded_is_what_is_lost(name, kept):
    """Of images that are neither centred nor of one size of transform, in all channels together."""
    data = images(50, (2, 7, 5))
    text = name[:-1] + f",latent_dim={kept}]" if "[" in name else f"{name}[latent_dim={kept}]"
    module = fitted(text, data)
    x = data.double() / 255
    variances = module.analyse(x - x.mean(0)).square().mean(0).flatten().sort(descending=True).values
    assert mse(module, data) == pytest.approx(float(variances[kept:].sum()) / 70, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("name", ["dct[latent_dim=1]", "haar[latent_dim=1]"])
def test_images_that_are_plain_need_one_coefficient_beside_the_mean(name):
    levels = torch.tensor([10, 60, 200, 250], dtype=torch.uint8)
    plain = levels.view(4, 1, 1, 1).expand(4, 1, 11, 6).contiguous()
    assert mse(fitted(name, plain), plain) < 1e-12


def test_haar_is_the_pyramid_of_averages_and_differences():
    module = aezoo.create("haar", image_shape=(1, 8, 4))
    x = torch.rand(3, 1, 8, 4, dtype=torch.float64)
    z = module.analyse(x)
    low = x
    for height, width in ((4, 2), (2, 1)):
        a, b, c, d = low[..., ::2, ::2], low[..., ::2, 1::2], low[..., 1::2, ::2], low[..., 1::2, 1::2]
        torch.testing.assert_close(z[..., :height, width : 2 * width], (a - b + c - d) / 2)
        torch.testing.assert_close(z[..., height : 2 * height, :width], (a + b - c - d) / 2)
        torch.testing.assert_close(z[..., height : 2 * height, width : 2 * width], (a - b - c + d) / 2)
        low = (a + b + c + d) / 2
    torch.testing.assert_close(z[..., 1, 0], (low[..., 0, 0] - low[..., 1, 0]) / 2**0.5)
    torch.testing.assert_close(z[..., 0, 0], x.sum((2, 3)) / 32**0.5)


def test_the_blocks_of_a_dct_are_each_transformed_by_themselves_and_the_last_may_be_shorter():
    from scipy.fft import dctn

    module = aezoo.create("dct[block=4]", image_shape=(1, 10, 4))
    x = torch.rand(2, 1, 10, 4, dtype=torch.float64)
    z = module.analyse(x).numpy()
    for top, bottom in ((0, 4), (4, 8), (8, 10)):
        expected = dctn(x[:, :, top:bottom].numpy(), axes=(2, 3), norm="ortho")
        np.testing.assert_allclose(z[:, :, top:bottom], expected, atol=1e-12)


# Factors, kernels, random features -----------------------------------------------------------------------------------


def test_nmf_encodes_by_non_negative_least_squares():
    from scipy.optimize import nnls

    data = images(80)
    module = fitted("nmf[latent_dim=6]", data)
    x, parts = to_float(data), module.parts
    z = module.encode(x)
    expected = np.stack([nnls(parts.T.double().numpy(), one)[0] for one in x.flatten(1).double().numpy()])
    np.testing.assert_allclose(z.numpy(), expected, atol=1e-3 * expected.max())
    assert float(parts.min()) >= 0
    assert (expected == 0).any()
    assert mse(module, data) < 1.02 * nmf_by_multiplication(x.flatten(1).double(), 6)
    assert mse(module, data) > mse(fitted("pca[latent_dim=6]", data), data)


def nmf_by_multiplication(x: Tensor, rank: int) -> float:
    """Return the error that Lee and Seung's multiplicative updates come to."""
    rng = torch.Generator().manual_seed(0)
    codes, parts = (torch.rand(*shape, generator=rng).double() for shape in ((len(x), rank), (rank, x.shape[1])))
    for _ in range(2000):
        codes *= (x @ parts.T) / (codes @ parts @ parts.T)
        parts *= (codes.T @ x) / (codes.T @ codes @ parts)
    return float((codes @ parts - x).square().mean())


def test_ica_loses_what_pca_loses_and_its_components_are_white():
    data = images(300)
    module = fitted("ica[latent_dim=5]", data)
    assert mse(module, data) == pytest.approx(mse(fitted("pca[latent_dim=5]", data), data), rel=1e-5)
    z = module.encode(to_float(data)).double()
    torch.testing.assert_close(z.T @ z / 300, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-4)


def test_ica_finds_the_sources_that_pca_mixes():
    rng = torch.Generator().manual_seed(0)
    sources = torch.rand(4000, 3, generator=rng) - 0.5
    patterns = torch.randn(3, 16, generator=rng)
    data = (128 + 60 * sources @ patterns).round().clamp(0, 255).to(torch.uint8).view(-1, 1, 4, 4)
    likeness = []
    for name in ("ica", "pca"):
        z = fitted(f"{name}[latent_dim=3]", data).encode(to_float(data))
        likeness.append(float(torch.corrcoef(torch.cat([z, sources], 1).T)[:3, 3:].abs().amax(0).min()))
    assert likeness[0] > 0.99
    assert likeness[1] < 0.9


def test_ica_of_fewer_images_than_components_is_pcas_too():
    data = images(4)
    module = fitted("ica[latent_dim=9]", data)
    assert mse(module, data) < 1e-9
    assert float(module.encode(to_float(data))[:, 3:].abs().max()) < 1e-4


def test_with_all_images_as_landmarks_kernel_pca_is_scikit_learns_and_its_way_back_kernel_ridge_regression():
    from sklearn.decomposition import KernelPCA
    from sklearn.kernel_ridge import KernelRidge

    data = images(90)
    module = fitted("kernel_pca[landmarks=90,latent_dim=4,ridge=0.001]", data)
    x = to_float(data).flatten(1).double().numpy()
    width, width_back = (float(one) for one in module.widths)
    assert width == pytest.approx(float(torch.pdist(torch.from_numpy(x)).square().median()), rel=1e-5)
    z = module.encode(to_float(data)).double().numpy()
    theirs = KernelPCA(4, kernel="rbf", gamma=1 / width).fit_transform(x)
    np.testing.assert_allclose(np.abs(z), np.abs(theirs), atol=2e-4)
    ridge = KernelRidge(alpha=0.001 * 90, kernel="rbf", gamma=1 / width_back).fit(z, x - x.mean(0))
    np.testing.assert_allclose(
        module.decode(torch.from_numpy(z).float()).flatten(1), ridge.predict(z) + x.mean(0), atol=1e-3
    )


def spots(count: int, seed: int) -> Tensor:
    """Images of a spot at a random place: two numbers, of which pixels are a curved function."""
    places = 7 * torch.rand(count, 2, 1, generator=torch.Generator().manual_seed(seed))
    rows, columns = torch.exp(-((torch.arange(8) - places) ** 2) / 4).unbind(1)
    return (255 * rows.unsqueeze(2) * columns.unsqueeze(1)).round().to(torch.uint8).unsqueeze(1)


def test_kernel_pca_is_ahead_of_pca_where_images_are_curved_and_some_landmarks_approximate_all():
    data, other = spots(300, 0), spots(100, 1)
    losses = [mse(fitted(f"kernel_pca[landmarks={m},latent_dim=4]", data), other) for m in (20, 100, 300)]
    assert losses[0] > 2 * losses[1]
    assert losses[1] == pytest.approx(losses[2], rel=0.25)
    assert losses[2] < 0.2 * mse(fitted("pca[latent_dim=4]", data), other)


def test_kernel_pca_of_fewer_images_than_landmarks_knows_them_all():
    few = images(12)
    assert mse(fitted("kernel_pca[landmarks=40,latent_dim=11,ridge=1e-9]", few), few) < 1e-6


def test_an_extreme_learning_machine_is_the_ridge_regression_of_pixels_on_random_sigmoids():
    from sklearn.linear_model import Ridge

    data = images(120)
    module = fitted("random_features[features=0,latent_dim=6,ridge=0.05]", data)
    x = to_float(data)
    torch.testing.assert_close(module.directions @ module.directions.T, torch.eye(6))
    assert float(module.biases.norm()) == pytest.approx(1.0, rel=1e-5)
    z = torch.sigmoid(x.flatten(1) @ module.directions.T + module.biases).double().numpy()
    torch.testing.assert_close(module.encode(x).double(), torch.from_numpy(z), rtol=1e-5, atol=1e-6)
    standard = (z - z.mean(0)) / z.std(0)
    expected = Ridge(alpha=0.05 * 120).fit(standard, x.flatten(1).double().numpy()).predict(standard)
    np.testing.assert_allclose(module(x).flatten(1).numpy(), expected, atol=1e-4)


def test_random_cosines_are_nearly_the_gaussian_kernels_features():
    data = images(100)
    module = aezoo.create("random_features[features=20000,latent_dim=6]", image_shape=(1, 8, 8))
    z = module.encode(to_float(data))
    with torch.no_grad():
        module.shift.copy_(z.mean(0))
        module.scale.copy_(z.std(0, correction=0))
    features = module.features_of(z) / 20_000**0.5
    standard = (z - z.mean(0)) / z.std(0, correction=0)
    kernel = torch.exp(-torch.cdist(standard, standard).square() / 12)
    assert float((features @ features.T - kernel).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kernel_pca[landmarks=3]", "landmarks must be at least latent_dim, 16, but is 3"),
        ("kernel_pca[ridge=0.0]", "ridge must be above 0"),
        ("random_features[features=-1]", "features must be 0, for none, or more, but is -1"),
        ("dictionary_learning[k=300]", "k must be 1 to 256, the width, but is 300"),
        ("product_quantisation[patch=0]", "patch must be at least 1"),
        ("jpeg[quality=0]", "quality must be 1 to 100, but is 0"),
        ("webp[quality=101]", "quality must be 0 to 100, but is 101"),
        ("jpeg[rate=0.0]", "rate must be above 0, in bits a pixel, but is 0.0"),
        ("dct[block=0]", "block must be at least 1"),
        ("haar[latent_dim=65]", "latent_dim must be 1 to 64"),
        ("nmf[latent_dim=0]", "latent_dim must be 1 to 64"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(text, told):
    with pytest.raises(aezoo.AezooError, match=told):
        aezoo.create(text, image_shape=(1, 8, 8))


# Transform coding ----------------------------------------------------------------------------------------------------


def test_no_allocation_of_bits_spares_more_than_the_greedy_one():
    variances, bits = torch.tensor([5.0, 1.3, 0.9, 0.02]), 6
    left = torch.tensor(LEFT)
    every = [each for each in itertools.product(range(bits + 1), repeat=4) if sum(each) == bits]
    errors = {each: float((variances * left[list(each)]).sum()) for each in every}
    assert tuple(allocate(variances, bits).tolist()) == min(errors, key=errors.__getitem__)
    assert int(allocate(variances, 4 * 8).min()) == 8


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_what_is_left_of_a_gaussian_is_what_lloyds_levels_leave(bits):
    points = torch.distributions.Normal(0, 1).icdf((torch.arange(20_000) + 0.5) / 20_000)
    levels = lloyd(points[:, None], 2**bits)[:, 0]
    error = (points[:, None] - levels).square().min(1).values.mean()
    assert float(error) == pytest.approx(LEFT[bits], rel=0.01)


def test_quantised_pca_takes_its_bits_and_comes_to_pca_where_they_are_many():
    data = images(200)
    module = fitted("quantised_pca[bits=20]", data)
    assert sum(math.log2(size) for size in module.codebook_size) == 20
    assert latent_bits(module, to_float(data)) == 20
    # Each code is that of the nearest level, and the latent tells no more.
    coefficients = (to_float(data).flatten(1) - module.mean) @ module.axes.T
    for number, size in enumerate(module.codebook_size):
        nearest = (coefficients[:, number, None] - module.levels[number, :size]).abs().argmin(1)
        assert torch.equal(module.codes(to_float(data))[:, number], nearest)
    everything = fitted("quantised_pca[bits=512]", data)
    assert mse(everything, data) < 0.01 * mse(module, data)
    with pytest.raises(aezoo.AezooError, match="bits must be 1 to 512 for these images, but is 513"):
        aezoo.create("quantised_pca[bits=513]", image_shape=(1, 8, 8))
