"""What the variational and adversarial families claim of themselves, held to a computation of another kind."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

import aezoo
from aezoo.contract.network import num_adversary_params, num_params
from aezoo.contract.recipe import Recipe
from aezoo.train.loop import train
from aezoo.train.score import image_errors
from aezoo_plugins.architectures import info_vae, wasserstein
from aezoo_plugins.architectures.beta_tc_vae import total_correlation
from aezoo_plugins.architectures.dip_vae import covariance
from aezoo_plugins.architectures.factor_vae import mixed
from aezoo_plugins.architectures.hierarchical_vae import bounded, residual_divergence
from aezoo_plugins.variational import Judge, divergence, draw, judged_apart, log_density, squared_distances

SHAPE = (1, 8, 8)
PIXELS = 64


def create(text: str, shape: aezoo.ImageShape = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=shape)


def images(count: int = 12, shape: aezoo.ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def numbers(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(module: nn.Module, x: Tensor) -> tuple[Tensor, float, Tensor]:
    """Return the reconstruction that training has of images, its MSE, and the penalty, of draws of their own."""
    torch.manual_seed(3)
    output = module.training_forward(x)
    return output.reconstruction, float(F.mse_loss(output.reconstruction, x).detach()), output.penalty


# The bound -----------------------------------------------------------------------------------------------------------


def test_the_divergence_and_the_densities_are_those_of_gaussians():
    mean, log_variance, z = numbers(7, 3), numbers(7, 3, seed=4), numbers(7, 3, seed=5)
    gaussian = Normal(mean, (log_variance / 2).exp())
    torch.testing.assert_close(divergence(mean, log_variance), kl_divergence(gaussian, Normal(0.0, 1.0)).sum(1).mean())
    torch.testing.assert_close(log_density(z, mean, log_variance), gaussian.log_prob(z))
    draws = draw(mean.expand(20_000, 7, 3), log_variance)
    torch.testing.assert_close(draws.var(0), log_variance.exp(), rtol=0.06, atol=0)


def test_a_vae_is_scored_at_the_posteriors_mean_and_trains_on_draws():
    module = create("vae")
    x = images()
    mean, log_variance = module.encoder(x).chunk(2, dim=1)
    assert torch.equal(module.encode(x), mean)
    assert torch.equal(module.eval()(x), module(x))
    torch.manual_seed(3)
    expected = module.decode(mean + torch.exp(log_variance / 2) * torch.randn(12, 16))
    torch.testing.assert_close(trained(module, x)[0], expected)


def test_a_unit_variance_gives_the_bound_over_half_the_pixels():
    module = create("vae[beta=2.0,variance=unit]")
    x = images()
    reconstruction, mse, penalty = trained(module, x)
    log_likelihood = Normal(reconstruction, 1.0).log_prob(x).flatten(1).sum(1).mean()
    bound = log_likelihood - 2 * divergence(*module.posterior(x))
    constant = PIXELS / 2 * math.log(2 * math.pi)
    assert mse + float(penalty) == pytest.approx(float(-bound - constant) / (PIXELS / 2), rel=1e-5)


@pytest.mark.parametrize("text", ["vae", "vae[beta=4.0]", "vae[body=conv]"])
def test_of_the_optimal_variance_the_gradient_is_that_of_the_bound_in_direction(text):
    module = create(text, (1, 9, 9))
    x = images(shape=(1, 9, 9))
    parameters = list(module.parameters())
    reconstruction, mse, penalty = trained(module, x)
    ours = torch.autograd.grad(F.mse_loss(reconstruction, x) + penalty, parameters)
    reconstruction, _, _ = trained(module, x)
    # The likeliest variance of a Gaussian decoder, with its gradient, as torch has its density.
    deviation = F.mse_loss(reconstruction, x).sqrt()
    log_likelihood = Normal(reconstruction, deviation).log_prob(x).flatten(1).sum(1).mean()
    negative_bound = module.beta * divergence(*module.posterior(x)) - log_likelihood
    bounds = torch.autograd.grad(negative_bound, parameters)
    for our, theirs in zip(ours, bounds, strict=True):
        torch.testing.assert_close(our, theirs * 2 * mse / 81, rtol=1e-3, atol=1e-7)
    # No other variance makes the batch likelier.
    for factor in (0.9, 1.1):
        other = Normal(reconstruction, factor * deviation).log_prob(x).flatten(1).sum(1).mean()
        assert other < log_likelihood


@pytest.mark.parametrize(
    "text",
    [
        "vae", "vae[beta=4.0]", "beta_tc_vae", "dip_vae", "dip_vae[kind=I]", "factor_vae", "info_vae", "vamp_prior",
        "hierarchical_vae", "adversarial_ae", "wae_mmd", "sliced_wasserstein", "rae", "rae[smooth=spectral_norm]",
    ],
)  # fmt: skip
def test_no_default_weight_makes_all_images_one(text):
    factors = torch.rand(256, 3, generator=torch.Generator().manual_seed(5))
    basis = torch.rand(3, 64, generator=torch.Generator().manual_seed(6))
    data = (factors @ basis / basis.sum(0) * 255).round().to(torch.uint8).view(-1, 1, 8, 8)
    module = create(text)
    train(module, data, Recipe(name="t", steps=200, batch_size=64), 0, lambda _: None)
    spread = float((data / 255).var(0).mean())
    assert float(image_errors(module, data).mean()) < 0.5 * spread


# Total correlation ---------------------------------------------------------------------------------------------------


def correlated(count: int, correlation: float, size: int = 2, seed: int = 6) -> Tensor:
    """Return a sample (count, size) of a Gaussian of unit variances, any two of whose numbers correlate so."""
    matrix = torch.full((size, size), correlation) + (1 - correlation) * torch.eye(size)
    return numbers(count, size, seed=seed) @ torch.linalg.cholesky(matrix).T


def gaussian_total_correlation(covariances: Tensor) -> float:
    deviations = covariances.diagonal().sqrt()
    return -0.5 * float(torch.logdet(covariances / torch.outer(deviations, deviations)))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_the_total_correlation_of_a_batch_is_that_of_the_gaussian_which_it_makes(correlation):
    means = correlated(3000, correlation, size=3)
    log_variance = torch.full_like(means, math.log(0.3))
    torch.manual_seed(0)
    estimate = total_correlation(draw(means, log_variance), means, log_variance)
    exact = gaussian_total_correlation(torch.cov(means.T) + 0.3 * torch.eye(3))
    assert float(estimate) == pytest.approx(exact, abs=0.03)


def test_the_total_correlation_is_the_log_ratio_of_two_mixtures():
    z, mean, log_variance = numbers(6, 3), numbers(6, 3, seed=4), numbers(6, 3, seed=5)
    even = Categorical(logits=torch.zeros(6))
    deviation = (log_variance / 2).exp()
    joint = MixtureSameFamily(even, Independent(Normal(mean, deviation), 1)).log_prob(z)
    alone = sum(MixtureSameFamily(even, Normal(mean[:, j], deviation[:, j])).log_prob(z[:, j]) for j in range(3))
    torch.testing.assert_close(total_correlation(z, mean, log_variance), (joint - alone).mean())


def test_the_total_correlation_alone_is_dearer_in_a_beta_tc_vae():
    plain, dear = create("vae"), create("beta_tc_vae[beta=5.0]")
    dear.load_state_dict(plain.state_dict())
    x = images()
    (_, mse, base), (_, _, penalty) = trained(plain, x), trained(dear, x)
    torch.manual_seed(3)
    mean, log_variance = plain.posterior(x)
    correlation = total_correlation(draw(mean, log_variance), mean, log_variance)
    torch.testing.assert_close(penalty - base, 4 * correlation * 2 * mse / PIXELS, rtol=1e-4, atol=1e-6)


def test_mixed_latents_have_the_same_numbers_each_in_an_order_of_its_own():
    z = numbers(50, 4)
    torch.manual_seed(0)
    other = mixed(z)
    assert torch.equal(other.sort(0).values, z.sort(0).values)
    orders = [tuple((other[:, [j]] == z[:, j]).int().argmax(1).tolist()) for j in range(4)]
    assert len(set(orders)) == 4


def test_a_trained_judge_tells_the_total_correlation():
    torch.manual_seed(0)
    judge = Judge(2, 32, 2)
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    for step in range(400):
        z = correlated(256, 0.8, seed=step)
        optimizer.zero_grad()
        judged_apart(judge(z), judge(mixed(z))).backward()
        optimizer.step()
    exact = gaussian_total_correlation(torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    assert float(judge(correlated(20_000, 0.8, seed=999)).mean().detach()) == pytest.approx(exact, rel=0.2)


def test_what_a_factor_vae_and_its_adversary_minimise():
    module = create("factor_vae[gamma=7.0]")
    x = images()
    _, mse, penalty = trained(module, x)
    torch.manual_seed(3)
    mean, log_variance = module.posterior(x)
    z = draw(mean, log_variance)
    expected = divergence(mean, log_variance) + 7 * module.adversary(z).mean()
    torch.testing.assert_close(penalty, expected * 2 * mse / PIXELS)
    torch.manual_seed(3)
    loss = module.adversary_loss(x)
    torch.manual_seed(3)
    z = draw(mean, log_variance)
    logits = torch.cat([module.adversary(z), module.adversary(mixed(z))])
    labels = torch.cat([torch.ones(12), torch.zeros(12)])
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, labels))
    loss.backward()
    assert all(one.grad is None for one in module.encoder.parameters())
    assert all(one.grad is not None for one in module.adversary.parameters())


def test_adversaries_do_not_count_as_the_autoencoders_parameters():
    assert num_params(create("factor_vae")) == num_params(create("vae"))
    module = create("adversarial_ae")
    assert num_params(module) == num_params(create("mlp[latent_dim=16]"))
    assert num_adversary_params(module) == 17 * 128 + 129 * 128 + 129
    depth = [layer.out_features for layer in create("factor_vae").adversary.modules() if isinstance(layer, nn.Linear)]
    assert depth == [128] * 6 + [1]


# Distances from the prior --------------------------------------------------------------------------------------------


def test_an_adversarial_autoencoder_is_paid_for_codes_that_pass_for_the_prior():
    module = create("adversarial_ae[weight=5.0]")
    x = images()
    z = module.encode(x)
    logits = module.adversary(z)
    fooled = F.binary_cross_entropy_with_logits(logits, torch.ones(12))
    torch.testing.assert_close(trained(module, x)[2], 5 * fooled / PIXELS)
    torch.manual_seed(3)
    loss = module.adversary_loss(x)
    torch.manual_seed(3)
    both = torch.cat([module.adversary(torch.randn(12, 16)), logits])
    labels = torch.cat([torch.ones(12), torch.zeros(12)])
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(both, labels))
    loss.backward()
    assert all(one.grad is None for one in module.encoder.parameters())


def test_info_vaes_discrepancy_is_that_of_every_pair():
    z, prior = numbers(5, 3), numbers(5, 3, seed=4)

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        pairs = [
            math.exp(-sum((float(p) - float(q)) ** 2 for p, q in zip(u, v, strict=True)) / 9) for u in a for v in b
        ]
        return sum(pairs) / len(pairs)

    by_hand = mean_kernel(z, z) + mean_kernel(prior, prior) - 2 * mean_kernel(z, prior)
    assert float(info_vae.discrepancy(z, prior)) == pytest.approx(by_hand, abs=1e-6)
    assert float(info_vae.discrepancy(z, z.flip(0))) == pytest.approx(0, abs=1e-6)


def test_what_an_info_vae_minimises():
    module = create("info_vae[alpha=0.25,weight=9.0]")
    x = images()
    _, mse, penalty = trained(module, x)
    torch.manual_seed(3)
    mean, log_variance = module.posterior(x)
    z = draw(mean, log_variance)
    distance = info_vae.discrepancy(z, torch.randn(12, 16))
    expected = 0.75 * divergence(mean, log_variance) + 8.25 * distance
    torch.testing.assert_close(penalty, expected * 2 * mse / PIXELS)


def test_wae_mmd_has_the_unbiased_estimate_and_its_weight_beside_the_squared_error_of_an_image():
    z, prior = numbers(5, 3), numbers(5, 3, seed=4)
    total = 0.0
    for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10):
        c = 2 * 3 * scale

        def kernel(u: Tensor, v: Tensor, c: float = c) -> float:
            return c / (c + float((u - v).square().sum()))

        for sample in (z, prior):
            total += sum(kernel(sample[i], sample[j]) for i in range(5) for j in range(5) if i != j) / 20
        total -= 2 * sum(kernel(u, v) for u in z for v in prior) / 25
    assert float(wasserstein.discrepancy(z, prior)) == pytest.approx(total, abs=1e-5)
    module = create("wae_mmd")
    x = images()
    codes = module.encode(x)
    torch.manual_seed(3)
    # The authors' code: 10 beside 0.05 of an image's squared error, which is the MSE times the pixels.
    distance = wasserstein.discrepancy(codes, torch.randn_like(codes))
    torch.testing.assert_close(trained(module, x)[2], 10 / 0.05 * distance / PIXELS)


def test_the_distance_of_shadows_is_that_of_the_cheapest_pairing():
    z, prior, directions = numbers(9, 3), numbers(9, 3, seed=4), numbers(5, 3, seed=5)
    costs = []
    for direction in directions:
        unit = direction / direction.norm()
        table = ((z @ unit)[:, None] - (prior @ unit)[None]).square()
        rows, columns = linear_sum_assignment(table.numpy())
        costs.append(float(table[rows, columns].mean()))
    found = wasserstein.sliced_distance(z, prior, directions)
    assert float(found) == pytest.approx(sum(costs) / 5, rel=1e-5)
    torch.testing.assert_close(squared_distances(z, prior), torch.cdist(z, prior).square())
    module = create("sliced_wasserstein")
    x = images()
    codes = module.encode(x)
    torch.manual_seed(3)
    directions = torch.randn(50, 16)
    distance = wasserstein.sliced_distance(codes, torch.randn_like(codes), directions)
    torch.testing.assert_close(trained(module, x)[2], 10 * distance)


# Priors and covariances ----------------------------------------------------------------------------------------------


def test_a_vamp_prior_of_one_pseudo_input_is_that_ones_gaussian():
    module = create("vamp_prior[components=1]")
    z = numbers(7, 16)
    mean, log_variance = (part[0] for part in module.posterior(module.pseudo_inputs))
    torch.testing.assert_close(module.prior_log_density(z), Normal(mean, (log_variance / 2).exp()).log_prob(z).sum(1))
    # The image itself has the prior for its posterior, whatever is drawn.
    x = module.pseudo_inputs.detach()
    assert float(trained(module, x)[2].detach()) == pytest.approx(0, abs=1e-6)


def test_a_vamp_prior_is_the_mixture_of_its_pseudo_inputs_posteriors():
    module = create("vamp_prior[components=5]")
    with torch.no_grad():
        module.pseudo_inputs.copy_(images(5) * 1.2 - 0.1)  # some outside of 0 to 1, as learnt ones may go
    mean, log_variance = module.posterior(module.pseudo_inputs.clamp(0, 1))
    mixture = MixtureSameFamily(
        Categorical(logits=torch.zeros(5)), Independent(Normal(mean, (log_variance / 2).exp()), 1)
    )
    x = images()
    _, mse, penalty = trained(module, x)
    torch.manual_seed(3)
    mean, log_variance = module.posterior(x)
    z = draw(mean, log_variance)
    torch.testing.assert_close(module.prior_log_density(z), mixture.log_prob(z))
    nats = (Independent(Normal(mean, (log_variance / 2).exp()), 1).log_prob(z) - mixture.log_prob(z)).mean()
    torch.testing.assert_close(penalty, nats * 2 * mse / PIXELS)


@pytest.mark.parametrize(
    ("kind", "expected"), [("I", 3 * 2 * 0.5**2 + 5 * 1), ("II", 3 * 2 * 0.5**2 + 5 * (1.2**2 + 0.2**2))]
)
def test_dip_vae_pays_for_what_a_covariance_has_that_the_identity_has_not(kind, expected):
    module = create(f"dip_vae[diagonal=5.0,kind={kind},latent_dim=2,weight=3.0]")
    # Four points with variances 2 and 1 and covariance 0.5, exactly.
    root = torch.linalg.cholesky(torch.tensor([[2.0, 0.5], [0.5, 1.0]]))
    mean = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) @ root.T + 3
    log_variance = torch.full((4, 2), math.log(0.2))
    nats = module.nats(mean, mean, log_variance)
    assert float(nats - divergence(mean, log_variance)) == pytest.approx(expected, rel=1e-4)
    sample = numbers(30, 4)
    torch.testing.assert_close(covariance(sample), torch.cov(sample.T, correction=0))


def test_the_authors_ratio_of_dip_vaes_two_weights():
    assert (create("dip_vae[kind=I,weight=3.0]").diagonal, create("dip_vae[weight=3.0]").diagonal) == (30.0, 3.0)


# Groups of latents ---------------------------------------------------------------------------------------------------


def test_the_residual_divergence_is_that_of_two_gaussians():
    mean, log_variance, shift, log_ratio = (numbers(7, 3, seed=seed) for seed in range(4))
    prior = Normal(mean, (log_variance / 2).exp())
    posterior = Normal(mean + shift, ((log_variance + log_ratio) / 2).exp())
    expected = kl_divergence(posterior, prior).sum(1).mean()
    torch.testing.assert_close(residual_divergence(shift, log_ratio, log_variance), expected)
    assert float(bounded(torch.tensor(1e4))) == pytest.approx(10.0)


def test_a_hierarchical_vae_is_scored_at_the_means_and_pays_for_every_group():
    module = create("hierarchical_vae[groups=(2,3,4)]")
    x = images()
    z = module.encode(x)
    assert [tuple(part.shape) for part in z] == [(12, 2), (12, 3), (12, 4)]
    assert torch.equal(module(x), module.decode(z))
    torch.manual_seed(3)
    drawn, divergences = module.infer(x, sampled=True)
    nats = float(sum(divergences).detach())
    assert min(float(one) for one in divergences) > 0
    for done, share in ((0.0, 0.0), (0.15, 0.5), (0.3, 1.0), (1.0, 1.0)):
        module.progress.fill_(done)
        reconstruction, mse, penalty = trained(module, x)
        torch.testing.assert_close(reconstruction, module.decode(drawn))
        assert float(penalty) == pytest.approx(share * nats * 2 * mse / PIXELS, rel=1e-4, abs=1e-9)


def test_the_first_group_has_a_standard_normal_for_prior_and_the_path_up_is_met_from_its_end():
    module = create("hierarchical_vae[groups=(2,2)]")
    x = images()
    mean, log_variance = module.prior(0, module.top.expand(12, -1))
    assert not mean.any()
    assert not log_variance.any()
    top, bottom = module.encode(x)
    with torch.no_grad():
        # Nothing of the path down enters the second posterior any more, nor its prior.
        module.posteriors[1].weight[:, 128:] = 0
        module.priors[0].weight.zero_()
        before = module.encode(x)
        module.up[1].branch[2].bias.add_(1.0)
        after = module.encode(x)
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[0], top)
    assert not torch.equal(before[1], bottom)


# The regularised autoencoder -----------------------------------------------------------------------------------------


def test_raes_gradient_penalty_is_that_of_the_squared_image_by_the_code():
    module = create("rae[beta=2.0,latent_dim=3,smooth=gradient_penalty,weight=1.0]")
    x = images(4)
    z = module.encode(x).detach()
    slopes = []
    for row in z:
        decode = lambda code: module.decode(code.unsqueeze(0)).flatten()  # noqa: E731
        slopes.append(2 * decode(row) @ torch.autograd.functional.jacobian(decode, row))
    expected = torch.stack(slopes).square().mean() + 2.0 * z.square().mean()
    torch.testing.assert_close(trained(module, x)[2], expected)


def test_raes_weights_are_the_authors_and_spare_the_biases():
    module = create("rae")
    x = images(4)
    squares = sum(float(layer.weight.square().sum()) for layer in module.decoder if isinstance(layer, nn.Linear))
    expected = 1e-4 * float(module.encode(x).square().mean()) + 1e-7 * squares
    assert float(trained(module, x)[2]) == pytest.approx(expected, rel=1e-5)


def test_raes_spectral_norm_keeps_every_layer_of_the_decoder_but_the_last_at_1():
    module = create("rae[smooth=spectral_norm]")
    for _ in range(20):
        module.train()(images())
    norms = [float(torch.linalg.matrix_norm(one.weight, 2)) for one in module.decoder if isinstance(one, nn.Linear)]
    assert norms[:-1] == pytest.approx([1.0] * (len(norms) - 1), rel=0.02)
    assert not hasattr(module.decoder[-3], "parametrizations")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("info_vae[alpha=1.5]", "alpha must be 0 to 1, a share of the divergence, but is 1.5"),
        ("info_vae[alpha=0.25,weight=0.75]", "weight must be above 1 - alpha, 0.75, but is 0.75"),
        ("hierarchical_vae[groups=(8,0)]", r"groups must be one number or more, each at least 1, but are \(8, 0\)"),
        ("hierarchical_vae[warm_up=0.0]", "warm_up must be above 0, a share of the training, at most 1, but is 0.0"),
        ("factor_vae[adversary_width=0]", "adversary_width must be at least 1, but is 0"),
        ("vamp_prior[components=0]", "components must be at least 1, but is 0"),
        ("dip_vae[diagonal=-1.0]", "diagonal must be above 0, but is -1.0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(text, told):
    with pytest.raises(aezoo.AezooError, match=told):
        create(text)
