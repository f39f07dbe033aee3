"""What theory fixes: figures that no training, machine or taste can move."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import aezoo
from aezoo.contract.network import to_float
from aezoo.contract.recipe import Recipe
from aezoo.train.loop import fit, train
from aezoo.train.score import image_errors
from aezoo_plugins import principal
from aezoo_plugins.architectures.denoising import Denoising
from aezoo_plugins.architectures.wasserstein import discrepancy, sliced_distance

SIDE = 4
PIXELS = SIDE**2


def gaussian_images(count: int = 600, seed: int = 1) -> torch.Tensor:
    """Images of known covariance: independent directions whose variances fall by half."""
    rng = np.random.RandomState(seed)
    basis = np.linalg.qr(rng.randn(PIXELS, PIXELS))[0]
    scales = 60 * 0.7 ** np.arange(PIXELS)
    pixels = np.clip(np.rint(128 + rng.randn(count, PIXELS) * scales @ basis), 0, 255)
    return torch.from_numpy(pixels.astype(np.uint8).reshape(-1, 1, SIDE, SIDE))


def noise_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8))


def spectrum(images: torch.Tensor) -> np.ndarray:
    flat = images.numpy().reshape(len(images), -1) / 255
    return np.linalg.eigvalsh(np.cov(flat.T, bias=True))[::-1]


def mse(module: nn.Module, images: torch.Tensor) -> float:
    return float(image_errors(module, images).mean())


def fitted(text: str, images: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    module = aezoo.create(text, image_shape=tuple(images.shape[1:]))
    fit(module, images, seed=0)
    return module


def trained(module: nn.Module, images: torch.Tensor, *schedule: tuple[float, int]) -> nn.Module:
    """Train on whole batches, at one learning rate after another."""
    for lr, steps in schedule:
        train(module, images, Recipe(name="t", steps=steps, lr=lr, batch_size=len(images)), 0, lambda _: None)
    return module


SETTLED = ((1e-2, 1500), (1e-3, 1000), (1e-4, 500))


# 1. PCA leaves the eigenvalues beyond k ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 15, 16])
def test_pca_leaves_the_eigenvalues_beyond_k(k):
    images = gaussian_images()
    values = spectrum(images)
    assert mse(fitted(f"pca[latent_dim={k}]", images), images) == pytest.approx(values[k:].sum() / PIXELS, abs=1e-7)


def test_pca_is_better_with_each_component():
    images = gaussian_images()
    losses = [mse(fitted(f"pca[latent_dim={k}]", images), images) for k in range(1, PIXELS + 1)]
    assert losses == sorted(losses, reverse=True)


def test_pca_of_few_images_is_that_of_their_covariance():
    images = torch.randint(0, 256, (20, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    x = images.flatten(1).double() / 255
    values = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    for k in (1, 5, 19, 20, 30):
        module = fitted(f"pca[latent_dim={k}]", images)
        assert mse(module, images) == pytest.approx(float(values[k:].sum()) / 36, abs=1e-7)
        assert torch.allclose(module.components @ module.components.T, torch.eye(k), atol=1e-5)


# The leading eigenvectors alone, against the full decomposition

REGIMES = {"matrix": principal.MATRIX, "walks": 1}
"""Entries that the matrix of products may have: one that is made, and one that is not."""


def decomposed(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all squared singular values of the centred images, largest first, and right vectors, (P, P), float64."""
    x = images.flatten(1).double() / 255
    _, values, axes = torch.linalg.svd(x - x.mean(0))
    return torch.cat([values.square(), values.new_zeros(len(axes) - len(values))]), axes


def fitted_axes(images: torch.Tensor, k: int) -> torch.Tensor:
    pixels = images.flatten(1)
    return principal.principal_axes(pixels, principal.mean_of(pixels), k)


def assert_leading(images: torch.Tensor, k: int) -> None:
    """Hold PCA to the full decomposition: in what it loses, and in its projection where that is unique."""
    values, vectors = decomposed(images)
    axes = fitted_axes(images, k)
    x = images.flatten(1).double() / 255
    x = x - x.mean(0)
    torch.testing.assert_close(axes @ axes.T, torch.eye(k, dtype=torch.float64), atol=1e-12, rtol=0)
    lost = float((x - x @ axes.T @ axes).square().sum())
    assert lost == pytest.approx(float(values[k:].sum()), rel=1e-9, abs=1e-12 * float(values[0]) + 1e-20)
    for count in {k, (k + 1) // 2}:
        gap = float(values[count - 1] - values[count]) if count < len(values) else 0.0
        if gap > 1e-4 * float(values[0]) + 1e-20:
            apart = axes[:count] - axes[:count] @ vectors[:count].T @ vectors[:count]
            assert float(torch.linalg.matrix_norm(apart, 2)) < 1e-9
    torch.testing.assert_close(fitted_axes(images, k), axes, atol=0, rtol=0)


def alike_images(count: int, shape: tuple[int, int, int], rank: int, seed: int) -> torch.Tensor:
    """Return images that are sums of so many of their own, brighter and darker."""
    rng = np.random.RandomState(seed)
    weights, parts = rng.randint(0, 5, (count, rank)), rng.randint(0, 255 // (4 * rank) + 1, (rank, math.prod(shape)))
    return torch.from_numpy((weights @ parts).astype(np.uint8).reshape(count, *shape))


@pytest.mark.parametrize("regime", REGIMES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_leading_axes_are_those_of_the_full_decomposition(regime, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)))
    count, seed = data.draw(st.integers(1, 200)), data.draw(st.integers(0, 9))
    if data.draw(st.booleans()):
        images = noise_images(count, shape, seed)
    else:
        images = alike_images(count, shape, data.draw(st.integers(1, 20)), seed)
    k = data.draw(st.integers(1, math.prod(shape)) | st.integers(1, min(8, math.prod(shape))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(principal, "MATRIX", REGIMES[regime])
        assert_leading(images, k)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("count", [100, 400])
@pytest.mark.parametrize("k", [1, 4, 12, 20])
def test_no_axis_of_a_repeated_eigenvalue_is_missed(monkeypatch, regime, count, k):
    """Each image in its four rotations: eigenvalues come in pairs, of which Lanczos from one vector finds one."""
    monkeypatch.setattr(principal, "MATRIX", REGIMES[regime])
    images = alike_images(count // 4, (1, 14, 14), 20, seed=0)
    assert_leading(torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)]), k)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("k", [1, 9, 64, 128])
@pytest.mark.parametrize("pixels", ["one-hot", "equal", "one"])
def test_pca_of_images_that_have_no_leading_axes(monkeypatch, regime, k, pixels):
    monkeypatch.setattr(principal, "MATRIX", REGIMES[regime])
    grey = torch.full((300, 128), 7)
    images = {"one-hot": torch.eye(128) * 200, "equal": grey, "one": grey[:1]}[pixels]
    assert_leading(images.byte().view(-1, 2, 8, 8), k)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("count", [150, 600])
def test_axes_of_little_variance_are_as_exact_as_their_gaps_allow(monkeypatch, regime, count):
    """Variances that fall by 16 from one to the next: of the fifth it is a 65,000th of the first's."""
    monkeypatch.setattr(principal, "MATRIX", REGIMES[regime])
    rng = np.random.RandomState(0)
    patterns = np.sign(rng.randn(5, 300)) * np.array([100, 25, 6, 2, 1])[:, None] / 2
    pixels = np.rint(128 + np.sign(rng.randn(count, 5)) @ patterns).clip(0, 255)
    images = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 3, 10, 10)
    for k in range(1, 6):
        assert_leading(images, k)
    values, vectors = decomposed(images)
    assert 1e-6 < float(values[4] / values[0]) < 1e-3
    for ours, theirs in zip(fitted_axes(images, 5), vectors, strict=False):
        assert float((ours.abs() - theirs.abs()).abs().max()) < 1e-9


def test_pca_that_does_not_come_to_an_end_says_so_or_decomposes_the_whole_matrix(monkeypatch):
    images = noise_images(300, (1, 12, 12))
    monkeypatch.setattr(principal, "PASSES", 2)
    assert_leading(images, 3)
    monkeypatch.setattr(principal, "MATRIX", 1)
    with pytest.raises(aezoo.AezooError, match="PCA has not come to its 3 axes in 2 walks over the images"):
        fitted_axes(images, 3)


def test_pca_holds_no_floats_of_all_images(tmp_path):
    """1,500 images of 3x64x64, mapped: 18 MB of bytes, 147 MB of float64."""
    path = tmp_path / "images"
    path.write_bytes(alike_images(1500, (3, 64, 64), 20, seed=0).numpy().tobytes())
    program = f"""
import resource, torch
from aezoo_plugins import principal
from aezoo_plugins.architectures import baselines
torch.set_num_threads(1)
images = torch.from_file({str(path)!r}, size={1500 * 12288}, dtype=torch.uint8).view(1500, 3, 64, 64)
baselines.build_pca((3, 64, 64)).fit(images[:64])
principal.MATRIX = {{bound}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
baselines.build_pca((3, 64, 64)).fit(images)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    for bound in REGIMES.values():
        command = [sys.executable, "-c", program.format(bound=bound)]
        added = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert added < 100_000  # KiB, of which 18,000 are the pages of the file


# 2. A linear autoencoder reaches PCA, and never beats it -------------------------------------------------------------


@pytest.mark.parametrize("text", ["linear[latent_dim=3]", "linear[latent_dim=3,tied=true]"])
def test_a_linear_autoencoder_reaches_pca_and_does_not_beat_it(text):
    images = gaussian_images()
    torch.manual_seed(0)
    module = trained(aezoo.create(text, image_shape=(1, SIDE, SIDE)), images, *SETTLED)
    best = spectrum(images)[3:].sum() / PIXELS
    assert best * (1 - 1e-4) <= mse(module, images) <= best * 1.01
    # The decoder's images of the unit latents, less that of none, span the same space: all principal angles are near 0.
    with torch.no_grad():
        decoded = module.decode(torch.cat([torch.zeros(1, 3), torch.eye(3)])).flatten(1)
    ours = torch.linalg.qr((decoded[1:] - decoded[0]).T)[0]
    theirs = torch.linalg.qr(fitted("pca[latent_dim=3]", images).components.detach().T)[0]
    assert torch.linalg.svdvals(ours.T @ theirs).min() > 0.99


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_one_hidden_layer_with_a_linear_output_does_not_beat_pca(activation):
    images = gaussian_images()
    torch.manual_seed(0)
    module = aezoo.create(f"one_hidden[activation={activation},latent_dim=3]", image_shape=(1, SIDE, SIDE))
    assert mse(trained(module, images, *SETTLED), images) >= spectrum(images)[3:].sum() / PIXELS * (1 - 1e-4)


@pytest.mark.parametrize("text", ["dct[latent_dim=5]", "random_projection[latent_dim=5]"])
def test_no_other_five_directions_beat_pcas(text):
    images = gaussian_images()
    best, mean = spectrum(images)[5:].sum() / PIXELS, mse(fitted("mean", images), images)
    assert best < mse(fitted(text, images), images)
    if text.startswith("random"):
        # The best way back from whatever directions: it cannot be worse than to forget them.
        assert mse(fitted(text, images), images) < mean


# 3. The mean leaves the variance, a copy leaves nothing --------------------------------------------------------------


def test_the_mean_predictor_scores_the_variance_and_a_copy_0():
    images = gaussian_images()
    variance = images.double().div(255).var(0, correction=0).mean().item()
    assert mse(fitted("mean", images), images) == pytest.approx(variance, rel=1e-5)
    assert mse(nn.Identity(), images) == 0.0


# 4. What a transform discards is what it loses (Parseval) ------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)], ids=str)
@pytest.mark.parametrize("kept", [1, 10, 60])
def test_dct_leaves_the_variance_of_the_coefficients_that_it_discards(shape, kept):
    from scipy.fft import dctn

    images = noise_images(50, shape)
    coefficients = dctn(images.numpy() / 255, axes=(2, 3), norm="ortho")
    variances = np.sort(coefficients.var(0).ravel())[::-1]
    left = variances[kept:].sum() / variances.size
    assert mse(fitted(f"dct[latent_dim={kept}]", images), images) == pytest.approx(left, rel=1e-4)


# 5. The best linear denoiser -----------------------------------------------------------------------------------------


def test_a_linear_denoiser_comes_to_wieners_filter():
    """Of centred data with covariance C under noise of variance s², the optimum is C (C + s² I)^-1."""
    images, level = gaussian_images(4000), 0.3
    torch.manual_seed(0)
    linear = aezoo.create(f"linear[latent_dim={PIXELS}]", image_shape=(1, SIDE, SIDE))
    module = Denoising(linear, "gaussian", level)
    for lr, steps in ((1e-2, 800), (1e-3, 800), (1e-4, 400)):
        train(module, images, Recipe(name="t", steps=steps, lr=lr, batch_size=1000), 0, lambda _: None)
    with torch.no_grad():
        learnt = (module.decoder[0].weight @ module.encoder[1].weight).double().numpy()
    covariance = np.cov(images.numpy().reshape(len(images), -1).T / 255, bias=True)
    wiener = covariance @ np.linalg.inv(covariance + level**2 * np.eye(PIXELS))
    assert np.linalg.norm(learnt - wiener) < 0.1 * np.linalg.norm(wiener)
    assert np.linalg.norm(learnt - np.eye(PIXELS)) > np.linalg.norm(wiener)


# 6. Discrete and sparse codes ----------------------------------------------------------------------------------------


def test_kmeans_takes_the_nearest_centroid_and_one_centroid_is_the_mean():
    images = gaussian_images()
    module = fitted("kmeans[codebook_size=8]", images)
    x, centroids = to_float(images).flatten(1).numpy(), module.centroids.numpy()
    nearest = np.argmin(((x[:, None] - centroids[None]) ** 2).sum(2), axis=1)
    assert module.codes(to_float(images)).squeeze(1).tolist() == nearest.tolist()
    assert mse(fitted("kmeans[codebook_size=1]", images), images) == pytest.approx(
        mse(fitted("mean", images), images), rel=1e-5
    )
    losses = [mse(fitted(f"kmeans[codebook_size={k}]", images), images) for k in (1, 4, 16, 64)]
    assert losses == sorted(losses, reverse=True)


def test_kmeans_with_a_centroid_for_each_image_leaves_nothing():
    images = noise_images(20, (1, 3, 3))
    assert mse(fitted("kmeans[codebook_size=32]", images), images) < 1e-12


@pytest.mark.parametrize("text", ["vq_vae[codebook_size=8]", "residual_vq[codebook_size=4]"])
def test_vq_takes_the_nearest_vector(text):
    torch.manual_seed(0)
    module = aezoo.create(text, image_shape=(1, 16, 16)).eval()
    x = to_float(noise_images(6, (1, 16, 16)))
    with torch.no_grad():
        left = module.encoder(x).flatten(2).transpose(1, 2)
        codes = module.codes(x).unflatten(1, (left.shape[1], -1))
        for part, codebook in enumerate(module.quantiser.codebooks):
            distances = (left.unsqueeze(2) - codebook.vectors).square().sum(3)
            assert torch.equal(codes[..., part], distances.argmin(2))
            left = left - codebook.vectors[codes[..., part]]
    share = torch.bincount(codes[..., 0].flatten(), minlength=8).double() / codes[..., 0].numel()
    perplexity = math.exp(-float((share * share.clamp(min=1e-12).log()).sum()))
    assert 1 <= perplexity <= module.codebook_size


def test_vq_of_one_vector_is_a_constant_and_cannot_beat_the_mean():
    images = gaussian_images(256)
    torch.manual_seed(0)
    module = aezoo.create("vq_vae[codebook_size=1,strides=1]", image_shape=(1, SIDE, SIDE))
    trained(module, images, (1e-2, 300), (1e-3, 100))
    with torch.no_grad():
        outputs = module.eval()(to_float(images))
    assert float((outputs - outputs[0]).abs().max()) < 1e-6
    floor = mse(fitted("mean", images), images)
    assert floor * (1 - 1e-6) <= mse(module, images) <= 1.2 * floor


@pytest.mark.parametrize("levels", [(3,), (5, 4), (8, 6, 5)], ids=str)
def test_fsq_has_as_many_codes_as_its_levels_multiply_to(levels):
    module = aezoo.create(f"fsq[levels={levels},strides=1]", image_shape=(1, 2, 2))
    assert module.codebook_size == math.prod(levels)
    everything = torch.cartesian_prod(*(torch.linspace(-0.999, 0.999, 60).atanh() for _ in levels)).reshape(
        1, -1, len(levels)
    )
    rounded, codes, _ = module.quantiser(everything)
    assert codes.unique().tolist() == list(range(math.prod(levels)))
    assert len(rounded[0].unique(dim=0)) == math.prod(levels)
    torch.testing.assert_close(module.quantiser.look_up(codes), rounded)


def test_lfq_rounds_to_signs():
    module = aezoo.create("lfq[code_bits=3]", image_shape=(1, 16, 16)).eval()
    x = to_float(noise_images(6, (1, 16, 16)))
    with torch.no_grad():
        assert torch.equal(module.encode(x), torch.where(module.encoder(x) > 0, 1.0, -1.0))
    assert module.codebook_size == 8


def test_topk_keeps_at_most_k_numbers_and_with_all_of_them_is_dense():
    x = to_float(noise_images(20, (1, SIDE, SIDE)))
    module = aezoo.create("topk[k=3,width=10]", image_shape=(1, SIDE, SIDE))
    with torch.no_grad():
        code, dense = module.encode(x), module.encoder[1](module.encoder[0](x))
    assert int((code != 0).sum(1).max()) <= 3
    kept = code != 0
    assert torch.equal(code[kept], dense[kept])
    assert (dense.masked_fill(kept, -1e9).amax(1) <= dense.masked_fill(~kept, 1e9).amin(1)).all()
    everything = aezoo.create("topk[k=10,width=10]", image_shape=(1, SIDE, SIDE))
    with torch.no_grad():
        assert torch.equal(everything.encode(x), everything.encoder[1](everything.encoder[0](x)).relu())


# 7. The narrowest layer is the bottleneck ----------------------------------------------------------------------------


def test_the_narrowest_layer_bounds_a_linear_network_whatever_is_called_its_latent():
    images = gaussian_images()
    torch.manual_seed(0)
    module = aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2), nn.Linear(2, 8)),
        nn.Sequential(nn.Linear(8, PIXELS), nn.Unflatten(1, (1, SIDE, SIDE))),
    )
    values = spectrum(images)
    reached = mse(trained(module, images, *SETTLED), images)
    assert values[2:].sum() / PIXELS * (1 - 1e-4) <= reached <= values[2:].sum() / PIXELS * 1.01
    assert reached > values[8:].sum() / PIXELS * 2


# 8. Conventions ------------------------------------------------------------------------------------------------------


def test_a_loss_on_another_scale_or_summed_is_a_multiple_of_ours():
    images = noise_images(50, (1, SIDE, SIDE))
    module = fitted("pca[latent_dim=4]", images)
    x = to_float(images)
    with torch.no_grad():
        y = module(x)
    ours = mse(module, images)
    assert float(((2 * x - 1) - (2 * y - 1)).square().mean()) == pytest.approx(4 * ours, rel=1e-5)
    assert float((x - y).square().flatten(1).sum(1).mean()) == pytest.approx(PIXELS * ours, rel=1e-5)


@pytest.mark.parametrize("text", ["pca[latent_dim=4]", "conv[latent_dim=4]", "batch_topk[k=2,width=8]"])
def test_no_score_depends_on_the_evaluation_batch_size(text):
    images = noise_images(50, (1, SIDE, SIDE))
    torch.manual_seed(0)
    module = aezoo.create(text, image_shape=(1, SIDE, SIDE))
    scores = [float(image_errors(module, images, batch_size=size).mean()) for size in (1, 7, 50)]
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-6)


# 9. The order of pixels ----------------------------------------------------------------------------------------------


def test_pca_is_blind_to_the_order_of_pixels():
    images = gaussian_images()
    order = torch.randperm(PIXELS, generator=torch.Generator().manual_seed(0))
    shuffled = images.flatten(1)[:, order].reshape(images.shape)
    assert mse(fitted("pca[latent_dim=4]", shuffled), shuffled) == pytest.approx(
        mse(fitted("pca[latent_dim=4]", images), images), rel=1e-5
    )


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return handwritten digits, 8x8, the same with their pixels shuffled alike, and the order."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(np.rint(load_digits().images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    return images, images.flatten(1)[:, order].reshape(images.shape), order


def test_an_mlp_is_blind_to_the_order_of_pixels():
    """With its outer weights in that order too it trains alike; and those are drawn without regard to order."""
    images, shuffled, order = digits()
    torch.manual_seed(0)
    module, other = (aezoo.create("mlp[latent_dim=4]", image_shape=(1, 8, 8)) for _ in range(2))
    state = module.state_dict()
    first, last = "encoder.1.weight", [name for name in state if name.startswith("decoder")][-2:]
    moved = {first: state[first][:, order], **{name: state[name][order] for name in last}}
    other.load_state_dict({**state, **moved})
    recipe = Recipe(name="t", steps=100, batch_size=64)
    for one, data in ((module, images), (other, shuffled)):
        train(one, data, recipe, 0, lambda _: None)
    assert mse(other, shuffled) == pytest.approx(mse(module, images), rel=1e-3)


def test_a_convolution_is_worse_where_neighbours_mean_nothing():
    images, shuffled, _ = digits()
    losses = []
    for data in (images, shuffled):
        torch.manual_seed(0)
        module = aezoo.create("conv[latent_dim=8]", image_shape=(1, 8, 8))
        train(module, data, Recipe(name="t", steps=600, batch_size=64, lr=3e-3), 0, lambda _: None)
        losses.append(mse(module, data))
    assert losses[1] > 1.1 * losses[0]


# Distances between samples -------------------------------------------------------------------------------------------


def test_distances_to_the_prior_are_nothing_for_the_prior_itself_and_grow_with_the_distance():
    torch.manual_seed(0)
    prior, other = torch.randn(512, 4), torch.randn(512, 4)
    directions = torch.randn(64, 4)
    assert float(sliced_distance(prior, prior.flip(0), directions)) == pytest.approx(0, abs=1e-10)
    for distance in (discrepancy, lambda a, b: sliced_distance(a, b, directions)):
        by_shift = [float(distance(other + shift, prior)) for shift in (0.0, 0.5, 1.0, 2.0)]
        assert by_shift == sorted(by_shift)
        assert abs(by_shift[0]) < 0.05 * by_shift[-1]
    # A shift by one in each coordinate moves a shadow by the sum of its direction: on average by 1, squared.
    unit = directions / directions.norm(dim=1, keepdim=True)
    assert float(sliced_distance(prior + 1, prior, directions)) == pytest.approx(float(unit.sum(1).square().mean()))
