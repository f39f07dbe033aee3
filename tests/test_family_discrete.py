"""What the families of discrete codes claim of themselves, held to a computation of another kind."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ, ResidualFSQ, VectorQuantize
from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

import aezoo
from aezoo.contract.network import num_params
from aezoo_plugins.architectures.fsq import Levels, ResidualLevels
from aezoo_plugins.architectures.gumbel import divergence
from aezoo_plugins.architectures.ibq import IndexPropagation
from aezoo_plugins.architectures.signs import Signs
from aezoo_plugins.architectures.sim_vq import TransformedCodebook
from aezoo_plugins.architectures.vq import Codebook, VectorQuantiser, rotate

SHAPE = (1, 16, 16)


def create(text: str, shape: aezoo.ImageShape = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=shape)


def images(count: int = 12, shape: aezoo.ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def vectors(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Vectors -------------------------------------------------------------------------------------------------------------


def test_a_codebook_follows_what_chose_it_as_the_librarys_does():
    theirs = VectorQuantize(
        dim=4, codebook_size=8, decay=0.99, commitment_weight=0.25, threshold_ema_dead_code=0, rotation_trick=False
    )
    ours = VectorQuantiser(8, 4, 1, 0.25, "straight_through")
    start = vectors(8, 4, seed=5)
    with torch.no_grad():
        theirs._codebook.embed.copy_(start)
        theirs._codebook.embed_avg.copy_(start)
        ours.codebooks[0].vectors.copy_(start)
        ours.codebooks[0].sums.copy_(start)
        ours.codebooks[0].counts.fill_(1.0)
    for step in range(5):
        results = []
        for quantise in (theirs, ours):
            x = (vectors(6, 10, 4, seed=step)).requires_grad_()
            rounded, codes, penalty = quantise(x)
            (gradient,) = torch.autograd.grad((rounded * vectors(6, 10, 4, seed=9)).sum() + penalty, x)
            results.append((rounded, codes.reshape(6, 10), penalty.reshape(()), gradient))
        for their, our in zip(*results, strict=True):
            torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.codebooks[0].vectors, theirs._codebook.embed[0], rtol=1e-4, atol=1e-6)
    assert (ours.codebooks[0].vectors - start).abs().max() > 0.01


def test_a_codebook_starts_as_vectors_of_the_first_batch_and_replaces_what_nothing_chooses():
    torch.manual_seed(0)
    codebook, x = Codebook(16, 3), vectors(200, 3)
    codebook.follow(x, torch.zeros(200, dtype=torch.int64))
    nearest = (codebook.vectors[1:, None] - x).norm(dim=2).amin(1)
    assert float(nearest.max()) < 1e-4
    with torch.no_grad():
        codebook.vectors[5] = 1e3
        codebook.sums[5] = 1e3 * codebook.counts[5]
    for step in range(500):
        codebook.follow(x, torch.cdist(x, codebook.vectors).argmin(1))
        if step == 300:
            assert float(codebook.vectors[5].detach().abs().max()) > 100
    assert float(codebook.vectors.detach().abs().max()) < 10


@pytest.mark.parametrize("text", ["vq_vae[codebook_size=32]", "residual_vq[codebook_size=16]"])
def test_a_codebook_counts_as_parameters_that_no_gradient_moves(text):
    module = create(text)
    held = sum(codebook.vectors.numel() for codebook in module.quantiser.codebooks)
    trained = sum(one.numel() for one in module.parameters() if one.requires_grad)
    assert num_params(module) == trained + held
    module.eval()
    before = copy.deepcopy(module.state_dict())
    module.training_forward(images())
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


def test_each_codebook_of_a_residual_vq_rounds_what_is_left_and_the_penalty_is_the_mean_over_them():
    torch.manual_seed(0)
    quantiser, x = VectorQuantiser(5, 3, 3, 0.5, "straight_through").eval(), vectors(2, 7, 3)
    left, errors = x.clone(), []
    for part, codebook in enumerate(quantiser.codebooks):
        codes = (left.unsqueeze(2) - codebook.vectors).square().sum(3).argmin(2)
        assert torch.equal(quantiser(x).codes[..., part], codes)
        left = left - codebook.vectors[codes]
        errors.append(float(left.detach().square().mean()))
    rounded = quantiser(x)
    torch.testing.assert_close(rounded.vectors, x - left)
    torch.testing.assert_close(quantiser.look_up(rounded.codes), x - left)
    assert float(rounded.penalty) == pytest.approx(0.5 * sum(errors) / 3, rel=1e-5)


def test_rotation_leads_to_the_vector_and_keeps_the_angle_that_its_gradient_has_to_it():
    x, target, upstream = vectors(50, 4).requires_grad_(), vectors(50, 4, seed=3), vectors(50, 4, seed=4)
    rotated = rotate(x, target)
    torch.testing.assert_close(rotated, target)
    (gradient,) = torch.autograd.grad((rotated * upstream).sum(), x)
    torch.testing.assert_close(F.cosine_similarity(gradient, x), F.cosine_similarity(upstream, target))
    scale = target.norm(dim=1) / x.norm(dim=1)
    torch.testing.assert_close(gradient.norm(dim=1), scale * upstream.norm(dim=1))
    (theirs,) = torch.autograd.grad((rotate_to(x, target) * upstream).sum(), x)
    torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-5)


def test_the_penalty_of_a_vq_vae_stands_beside_the_error_over_the_variance():
    module = create("vq_vae[codebook_size=8]").eval()
    x = 0.3 * images()
    z, rounded = module.encoder(x), module.encode(x)
    expected = 0.25 * float((z - rounded).square().mean()) * float(x.var(correction=0))
    assert float(module.training_forward(x).penalty) == pytest.approx(expected, rel=1e-5)


def test_where_one_vector_of_a_sim_vq_moves_all_do_and_the_frozen_ones_do_not():
    torch.manual_seed(0)
    quantiser, x = TransformedCodebook(6, 4, 2.0, 0.25), vectors(1, 1, 4)
    frozen = quantiser.rounding.frozen_codebook.clone()
    layer = quantiser.rounding.code_transform
    codebook = frozen @ layer.weight.T + layer.bias
    rounded = quantiser(x)
    code = (x - codebook).square().sum(2).argmin()
    assert int(rounded.codes) == int(code)
    distance = (x - codebook[code]).square().mean()
    torch.testing.assert_close(rounded.penalty, 2.0 * (distance + 0.25 * distance))
    optimiser = torch.optim.SGD(quantiser.parameters(), lr=0.1)
    rounded.penalty.backward()
    optimiser.step()
    moved = quantiser.look_up(torch.arange(6).view(1, 6, 1))[0] - codebook
    assert float(moved.detach().norm(dim=1).min()) > 1e-3
    assert torch.equal(quantiser.state_dict()["rounding.frozen_codebook"], frozen)
    assert len(list(quantiser.parameters())) == 2


def test_the_gradient_of_an_ibq_reaches_every_vector_as_through_a_softmax():
    torch.manual_seed(0)
    quantiser, x, upstream = IndexPropagation(7, 4, 1.0, 0.25, 0.05, 0.01), vectors(2, 3, 4), vectors(2, 3, 4, seed=3)
    rounded = quantiser(x)
    codebook = quantiser.vectors.detach()
    assert torch.equal(rounded.codes[..., 0], (x @ codebook.T).argmax(-1))
    torch.testing.assert_close(rounded.vectors, codebook[rounded.codes[..., 0]])
    (gradient,) = torch.autograd.grad((rounded.vectors * upstream).sum(), quantiser.vectors)
    # By hand: the choice as it stands, and the softmax's Jacobian for the logits.
    chances = (x @ codebook.T).softmax(-1).flatten(0, 1)
    rows, up = x.flatten(0, 1), upstream.flatten(0, 1)
    chosen = F.one_hot(rounded.codes.flatten(), 7).float()
    through = chances * (up @ codebook.T - (chances * (up @ codebook.T)).sum(1, keepdim=True))
    torch.testing.assert_close(gradient, chosen.T @ up + through.T @ rows)
    assert (gradient.norm(dim=1) > 0).all()


def test_the_penalty_of_an_ibq_is_the_authors_sum():
    torch.manual_seed(0)
    quantiser, x = IndexPropagation(7, 4, 0.5, 0.25, 0.05, 0.3), vectors(2, 3, 4)
    rounded = quantiser(x)
    distance = (x - rounded.vectors).square().mean()
    chances = torch.distributions.Categorical(logits=(x.flatten(0, 1) @ quantiser.vectors.T) / 0.3)
    spread = torch.distributions.Categorical(probs=chances.probs.mean(0)).entropy()
    expected = 0.5 * 2.25 * distance + 0.05 * (chances.entropy().mean() - spread)
    torch.testing.assert_close(rounded.penalty, expected)


# Levels --------------------------------------------------------------------------------------------------------------


def test_a_grouped_fsq_rounds_as_the_fsq_of_all_levels_and_its_codes_are_that_ones_digits():
    grouped, whole = Levels((4, 3), 2), FSQ([4, 3, 4, 3])
    x = 2 * vectors(2, 50, 4)
    rounded, (theirs, index) = grouped(x), whole(x)
    torch.testing.assert_close(rounded.vectors, theirs)
    assert torch.equal(rounded.codes[..., 0] + 12 * rounded.codes[..., 1], index.long())
    torch.testing.assert_close(grouped.look_up(rounded.codes), theirs)
    assert rounded.codes.amax() == 11


@pytest.mark.parametrize(("levels", "parts"), [((2,), 3), ((4,), 2), ((5,), 2)])
def test_the_steps_of_a_residual_fsq_are_digits_of_an_even_grid(levels, parts):
    quantiser = ResidualLevels(levels, parts)
    x = torch.linspace(-8, 8, 4001).view(1, -1, 1)
    rounded = quantiser(x)
    grid = rounded.vectors[0].unique(dim=0).squeeze(1)
    assert len(grid) == levels[0] ** parts
    torch.testing.assert_close(grid.diff(), grid.diff()[:1].expand(len(grid) - 1))
    place = sum(rounded.codes[0, :, part] * levels[0] ** (parts - 1 - part) for part in range(parts))
    torch.testing.assert_close(grid[place], rounded.vectors[0, :, 0])
    # The nearest of the grid to what is rounded, which is bounded by a tanh half a step outside of it.
    bound = float(grid[-1] + grid.diff()[0] / 2)
    nearest = (bound * (x[0] / bound).tanh() - grid).abs().argmin(1)
    assert float((nearest == place).float().mean()) > 0.999
    theirs, codes = ResidualFSQ(levels=list(levels), num_quantizers=parts)(x)
    torch.testing.assert_close(rounded.vectors, theirs)
    assert torch.equal(rounded.codes, codes)


def test_the_gradient_of_a_residual_fsq_is_that_of_its_bound():
    quantiser, x = ResidualLevels((4,), 2), torch.linspace(-2, 2, 41).view(1, -1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(quantiser(x).vectors.sum(), x)
    torch.testing.assert_close(gradient, 1 - (x / 1.3333333).tanh() ** 2)


# Signs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_spherical", [False, True])
@pytest.mark.parametrize("scale", [0.003, 0.02, 1.0])
def test_signs_are_lookup_free_quantisation_with_its_penalty_and_gradients(scale, is_spherical):
    """Held to the library's form of it, which goes through a table of all vectors by all codes."""
    temperature = 1.0 if is_spherical else 0.01
    theirs = LFQ(dim=5, entropy_loss_weight=1e-3, commitment_loss_weight=1e-2, spherical=is_spherical)
    ours = Signs(5, entropy=1e-3, temperature=temperature, commitment=1e-2, is_spherical=is_spherical)
    results = []
    for quantise, settings in ((theirs, {"inv_temperature": 1 / temperature}), (ours, {})):
        x = (scale * vectors(6, 4, 5, seed=0)).requires_grad_()
        rounded, codes, penalty = quantise(x, **settings)
        (gradient,) = torch.autograd.grad(penalty, x)
        results.append((rounded, codes.reshape(6, 4).long(), penalty, gradient))
    for their, our in zip(*results, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-6)
    codes = results[1][1]
    torch.testing.assert_close(ours.look_up(codes.unsqueeze(2)), theirs.indices_to_codes(codes))
    if is_spherical:
        torch.testing.assert_close(ours(vectors(6, 4, 5)).vectors.norm(dim=2), torch.ones(6, 4))


# Draws ---------------------------------------------------------------------------------------------------------------


def test_the_temperature_of_a_discrete_vae_falls_from_1_to_a_sixteenth():
    module = create("gumbel_softmax[codebook_size=5]")
    temperatures = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        module.progress.fill_(progress)
        temperatures.append(float(module.temperature()))
    # A cosine: half-way it is at the mean, at a quarter above that by cos(pi/4).
    half = (1 + 1 / 16) / 2
    assert temperatures == pytest.approx([1.0, half + (1 - half) * math.sqrt(0.5), half, 1 / 16])


def test_draws_are_those_of_the_distribution_and_the_closer_to_one_code_the_colder():
    module = create("gumbel_softmax[codebook_size=3,strides=3]", (1, 8, 8))
    seen = []
    module.decode = lambda z: seen.append(z) or torch.zeros(len(z), 1, 8, 8)
    logits = torch.tensor([0.5, -0.3, 1.2])
    module.encoder.forward = lambda x: logits.view(1, 3, 1, 1).expand(len(x), 3, 1, 1)
    x = torch.zeros(4000, 1, 8, 8)
    largest = []
    for progress in (0.0, 1.0):
        module.progress.fill_(progress)
        torch.manual_seed(0)
        module.training_forward(x)
        draws = seen[-1].flatten(1)
        torch.testing.assert_close(draws.sum(1), torch.ones(4000))
        share = F.one_hot(draws.argmax(1), 3).float().mean(0)
        assert (share - logits.softmax(0)).abs().max() < 0.025
        largest.append(float(draws.amax(1).mean()))
    assert largest[0] < 0.85
    assert largest[1] > 0.97
    assert module.codes(x).unique().tolist() == [2]


def test_the_divergence_of_codes_is_that_from_even_odds():
    logits = vectors(3, 6, 2, 2)
    given = torch.distributions.Categorical(logits=logits.permute(0, 2, 3, 1))
    even = torch.distributions.Categorical(logits=torch.zeros(3, 2, 2, 6))
    expected = torch.distributions.kl_divergence(given, even).sum((1, 2)).mean()
    torch.testing.assert_close(divergence(logits), expected)


# Bits ----------------------------------------------------------------------------------------------------------------


def test_a_bit_is_the_rounded_logistic_with_the_logistics_gradient():
    module = create("binary[bits=6]")
    x = images()
    activity = module.encoder(x).detach().requires_grad_()
    module.encoder.forward = lambda _: activity
    z = module.encode(x)
    assert torch.equal(z.detach().round(), (activity.sigmoid() > 0.5).float())
    assert set(module.from_codes(module.codes(x)).unique().tolist()) == {0.0, 1.0}
    (gradient,) = torch.autograd.grad(z.sum(), activity)
    torch.testing.assert_close(gradient, activity.sigmoid() * (1 - activity.sigmoid()))
