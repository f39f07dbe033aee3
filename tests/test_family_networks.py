"""What the networks of other kinds claim of themselves, held to computations of another kind."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor, nn

import aezoo
from aezoo_plugins.architectures.capsules import Capsules, Primary, route, squash
from aezoo_plugins.architectures.flow_matching import Velocity
from aezoo_plugins.architectures.fourier_operator import FourierLayer, Modes
from aezoo_plugins.architectures.group_equivariant import GroupConv, act, inverse, order_of, product, transform
from aezoo_plugins.architectures.hypernetwork import OMEGA
from aezoo_plugins.architectures.invertible import Couplings
from aezoo_plugins.architectures.kan import SPAN, SPREAD, Edges
from aezoo_plugins.architectures.mamba import Block, Scan, SelectiveStates

SHAPE = (1, 8, 8)


def create(text: str, shape: aezoo.ImageShape = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=shape)


def images(count: int = 6, shape: aezoo.ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


# Hypernetwork --------------------------------------------------------------------------------------------------------


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(OMEGA * x)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_hypernetworks_latent_paints_by_a_siren_of_its_own(depth):
    module = create(f"hypernetwork[depth={depth},latent_dim=4,width=5]", (3, 6, 4))
    sizes = [2, *[5] * depth, 3]
    stack = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), Sine())]
    siren = nn.Sequential(*stack[:-1], nn.Sigmoid())
    places = torch.cartesian_prod(torch.linspace(-1, 1, 6), torch.linspace(-1, 1, 4))
    z = 20 * torch.randn(3, 4)
    painted = module.decode(z).detach()
    for number, image in enumerate(painted):
        weights = {}
        for layer, (weight, bias) in enumerate(module.decoder.layers(z)):
            weights |= {f"{2 * layer}.weight": weight[number], f"{2 * layer}.bias": bias[number, :, 0]}
        by_hand = torch.func.functional_call(siren, weights, places)
        torch.testing.assert_close(image, by_hand.T.view(3, 6, 4).detach(), rtol=1e-3, atol=1e-4)
    assert float((painted[0] - painted[1]).abs().max()) > 0.01


def test_a_hypernetwork_starts_from_a_siren_as_its_authors_draw_it():
    decoder = create("hypernetwork[width=64]").decoder
    last = decoder.hyper[-1]
    assert float(last.weight.detach().std()) == pytest.approx(math.sqrt(2 / 128) / 100, rel=0.02)
    with torch.no_grad():
        decoder.hyper[0].bias.fill_(-1e3)  # no hidden unit is active: what is left are the biases
        (first, first_bias), (second, second_bias), _ = decoder.layers(torch.zeros(1, 16))
    for weight, limit in ((first, 1 / 2), (second, math.sqrt(6 / 64) / OMEGA)):
        assert float(weight.abs().max()) <= limit
        assert float(weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.1)
    assert 0.5 < float(first_bias.abs().max()) <= 1 / math.sqrt(2)
    assert 0.1 < float(second_bias.abs().max()) <= 1 / 8


# Invertible ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["additive", "affine"])
@pytest.mark.parametrize(("size", "depth"), [(9, 1), (9, 2), (8, 3)])
def test_couplings_are_inverted_exactly_and_have_the_jacobian_that_the_papers_say(coupling, size, depth):
    torch.manual_seed(0)
    couplings = Couplings(size, 16, depth, coupling).double()
    x = torch.randn(5, size, dtype=torch.float64)
    torch.testing.assert_close(couplings.inverse(couplings(x)), x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(couplings(couplings.inverse(x)), x, rtol=1e-12, atol=1e-12)
    jacobian = torch.autograd.functional.jacobian(lambda row: couplings(row[None])[0], x[0])
    volume = float(torch.linalg.det(jacobian).abs())
    assert volume == pytest.approx(1.0, rel=1e-9) if coupling == "additive" else abs(volume - 1) > 1e-3


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 3)])
@pytest.mark.parametrize("coupling", ["additive", "affine"])
def test_an_invertible_network_that_keeps_all_numbers_reconstructs_exactly_untrained(shape, coupling):
    pixels = math.prod(shape)
    x = images(4, shape)
    module = create(f"invertible[coupling={coupling},latent_dim={pixels}]", shape)
    torch.testing.assert_close(module(x), x, rtol=1e-5, atol=1e-5)
    assert module.training_forward(x).penalty is None
    fewer = create(f"invertible[coupling={coupling},latent_dim={pixels - 1}]", shape)
    assert float((fewer(x) - x).detach().abs().max()) > 1e-3


def test_the_penalty_of_an_invertible_network_is_on_what_it_drops():
    module, x = create("invertible[latent_dim=5,weight=3.0]"), images()
    y = module.encoder(x)
    torch.testing.assert_close(module.encode(x), y[:, :5])
    torch.testing.assert_close(module.training_forward(x).penalty, 3 * (y[:, 5:] ** 2).mean())
    dropped = torch.cat([y[:, :5], torch.zeros(6, 59)], dim=1)
    torch.testing.assert_close(module(x), module.encoder[1].inverse(dropped).view(6, *SHAPE))


# Kolmogorov-Arnold ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [1, 5, 8])
def test_a_kans_edges_are_the_splines_of_scipy_and_a_silu(grid):
    torch.manual_seed(0)
    edges = Edges(4, 3, grid)
    nn.init.normal_(edges.coefficients)
    step = 2 * SPAN / grid
    knots = -SPAN + step * np.arange(-3, grid + 4)
    x = torch.cat([torch.linspace(-SPAN, SPAN, 44), torch.tensor([-30.0, -SPAN - 1.1 * step, SPAN + 0.3 * step, 9.0])])
    x = x[torch.randperm(48)].view(12, 4)
    # Beyond the grid each basis goes on by itself, to zero.
    bases = [BSpline.basis_element(knots[k : k + 5], extrapolate=False) for k in range(grid + 3)]
    expected = torch.from_numpy(np.stack([np.nan_to_num(basis(x.numpy())) for basis in bases], axis=2))
    torch.testing.assert_close(edges.bases(x), expected.float(), rtol=1e-4, atol=1e-5)
    inside = x.abs() <= SPAN
    torch.testing.assert_close(edges.bases(x).sum(2)[inside], torch.ones(int(inside.sum())), rtol=1e-5, atol=1e-5)
    coefficients = edges.coefficients.detach().view(3, 4, grid + 3)
    for o in range(3):
        total = torch.zeros(12)
        for i in range(4):
            total += edges.weight[o, i].detach() * x[:, i] * torch.sigmoid(x[:, i])
            total += sum(coefficients[o, i, k] * expected[:, i, k].float() for k in range(grid + 3))
        torch.testing.assert_close(edges(x)[:, o].detach(), total, rtol=1e-4, atol=1e-4)


def test_a_kan_starts_with_small_splines_and_stretches_pixels_over_the_grid():
    edges = create("kan", (1, 28, 28)).encoder[2]
    assert float(edges.coefficients.detach().std()) == pytest.approx(SPREAD / 28, rel=0.01)
    assert create("kan").encoder[1](torch.tensor([0.0, 1.0])).tolist() == [-SPAN, SPAN]


# Fourier neural operator ---------------------------------------------------------------------------------------------


def complex_amplitudes(amplitudes: Tensor) -> Tensor:
    """Complex ones, (C, B, down, across), of those that `Modes` has, (C, B, across, 2 · down)."""
    real, imaginary = amplitudes.chunk(2, dim=3)
    return torch.complex(real, imaginary).transpose(2, 3)


def low(spectrum: Tensor, down: int, across: int) -> Tensor:
    """The rows and columns of a spectrum by `torch.fft.rfft2` that the paper's code keeps, its negative rows last."""
    return torch.cat([spectrum[..., :down, :across], spectrum[..., -down:, :across]], dim=-2)


@pytest.mark.parametrize(("height", "width", "modes"), [(28, 28, 6), (9, 6, 3), (6, 9, 7), (2, 3, 1), (7, 2, 2)])
def test_modes_are_the_low_frequencies_of_the_fast_fourier_transform(height, width, modes):
    kept = Modes((1, height, width), modes)
    down, across = min(modes, height // 2), min(modes, width // 2)
    x = torch.randn(3, 2, height, width)
    amplitudes = kept.analyse(x)
    assert amplitudes.shape == (3, 2, across, 4 * down)
    expected = low(torch.fft.rfft2(x, norm="forward"), down, across)
    torch.testing.assert_close(complex_amplitudes(amplitudes), expected, rtol=1e-4, atol=1e-6)

    any_amplitudes = torch.randn(3, 2, *kept.shape)
    those = complex_amplitudes(any_amplitudes)
    spectrum = torch.zeros(3, 2, height, width // 2 + 1, dtype=torch.complex64)
    spectrum[:, :, :down, :across], spectrum[:, :, height - down :, :across] = those[:, :, :down], those[:, :, down:]
    expected = torch.fft.irfft2(spectrum, s=(height, width), norm="forward")
    torch.testing.assert_close(kept.synthesise(any_amplitudes), expected, rtol=1e-4, atol=1e-4)


def test_a_fourier_layer_is_the_papers_by_the_fast_fourier_transform():
    torch.manual_seed(0)
    modes = Modes((1, 8, 10), 3)
    layer = FourierLayer(modes, 4)
    start = layer.spectral.detach() * 16
    assert float(start.min()) >= 0
    assert float(start.max()) <= 1
    assert float(start.mean()) == pytest.approx(0.5, abs=0.05)
    nn.init.normal_(layer.spectral)
    x = torch.randn(4, 5, 8, 10)
    weight = torch.complex(*layer.spectral.detach()).unflatten(0, (3, 6))  # across, down, from, to
    spectrum = torch.fft.rfft2(x)
    mixed = torch.zeros_like(spectrum)
    for row, which in ((slice(0, 3), slice(0, 3)), (slice(5, 8), slice(3, 6))):
        mixed[:, :, row, :3] = torch.einsum("ibda,adio->obda", spectrum[:, :, row, :3], weight[:, which])
    local = torch.einsum("oi,ibhw->obhw", layer.local.weight, x) + layer.local.bias.view(4, 1, 1, 1)
    expected = (torch.fft.irfft2(mixed, s=(8, 10)) + local).relu().detach()
    torch.testing.assert_close(layer(x).detach(), expected, rtol=1e-4, atol=1e-4)


def test_a_fourier_operators_latent_does_not_depend_on_what_its_last_layer_gives_above_its_modes():
    module = create("fourier_operator[depth=1,modes=2,width=3]", (1, 8, 8)).encoder
    x = images(2, (1, 8, 8))
    maps = module.operator(x.transpose(0, 1))
    fine = torch.fft.irfft2(torch.zeros(8, 5, dtype=torch.complex64).index_fill(1, torch.tensor([3]), 1), s=(8, 8))
    handle = module.operator.register_forward_hook(lambda _module, _given, maps: maps + 100 * fine)
    changed = module(x)
    handle.remove()
    torch.testing.assert_close(changed, module(x), rtol=1e-3, atol=1e-3)
    assert float((maps + 100 * fine - maps).abs().max().detach()) > 10


def test_the_operators_see_places_from_0_to_1():
    places = create("fourier_operator", (1, 5, 4)).encoder.operator.places
    assert places[0, 0, :, 0].tolist() == places[0, 0, :, 3].tolist() == [0, 0.25, 0.5, 0.75, 1]
    torch.testing.assert_close(places[1, 0, 2], torch.tensor([0, 1 / 3, 2 / 3, 1]))


def test_a_fourier_operator_refuses_a_single_row():
    with pytest.raises(aezoo.AezooError, match="at least 2x2 pixels, but these are 1x5"):
        create("fourier_operator", (1, 1, 5))


# Group-equivariant ---------------------------------------------------------------------------------------------------


def test_the_elements_multiply_as_they_act_on_images():
    x = torch.arange(9).view(3, 3)
    assert len({tuple(transform(x, element).flatten().tolist()) for element in range(8)}) == 8
    assert transform(x, 1).tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    assert transform(x, 4).tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    for one in range(8):
        assert torch.equal(transform(transform(x, one), inverse(one)), x)
        for other in range(8):
            assert torch.equal(transform(x, product(one, other)), transform(transform(x, other), one))


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_group_convolutions_are_the_papers_sums(group):
    # Equations 10 and 11: each output is a plain correlation with the filter that an element is applied to.
    torch.manual_seed(0)
    order = order_of(group)
    lifting, layer = GroupConv(2, 3, 3, group, lifting=True), GroupConv(3, 2, 3, group)
    x = torch.randn(1, 2, 6, 6)
    lifted = lifting(x).unflatten(1, (3, order)).detach()
    filters = lifting.weight.detach().view(3, 2, 3, 3)
    for g in range(order):
        expected = torch.nn.functional.conv2d(x, transform(filters, g), lifting.bias.detach())
        torch.testing.assert_close(lifted[:, :, g], expected)
    y = layer(lifted.flatten(1, 2)).unflatten(1, (2, order)).detach()
    filters = layer.weight.detach().view(2, 3, order, 3, 3)
    for g in range(order):
        expected = layer.bias.detach().view(1, 2, 1, 1)
        for h in range(order):
            turned = transform(filters[:, :, product(inverse(g), h)], g)
            expected = expected + torch.nn.functional.conv2d(lifted[:, :, h], turned)
        torch.testing.assert_close(y[:, :, g], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("lifting", [True, False])
def test_a_transposed_group_convolution_is_the_adjoint_of_one(group, lifting):
    options = {"lifting": lifting, "stride": 2, "padding": 1}
    forth = GroupConv(2, 3, 4, group, **options)
    back = GroupConv(3, 2, 4, group, transposed=True, **options)
    assert back.weight.shape == forth.weight.shape
    for layer in (forth, back):
        nn.init.zeros_(layer.bias)
    back.weight = forth.weight
    x = torch.randn(2, 2 * (1 if lifting else order_of(group)), 8, 8)
    y = torch.randn(2, 3 * order_of(group), 4, 4)
    torch.testing.assert_close((forth(x) * y).sum(), (x * back(y)).sum(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 10, 10)])
def test_turning_or_mirroring_an_image_permutes_the_features_and_the_latent_and_turns_the_reconstruction(group, shape):
    module, order = create(f"group_equivariant[group={group}]", shape), order_of(group)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # what holds, holds for any weights
        x = images(2, shape)
        plain, z, y = module.encoder[:3](x), module.encode(x).unflatten(1, (-1, order)), module(x)
        assert float(y.std()) > 0.01
        for element in range(order):
            turned = transform(x, element)
            features = module.encoder[:3](turned).unflatten(1, (-1, order))
            torch.testing.assert_close(features, act(element, plain.unflatten(1, (-1, order))), rtol=1e-4, atol=1e-5)
            permuted = z[:, :, [product(inverse(element), h) for h in range(order)]]
            torch.testing.assert_close(module.encode(turned).unflatten(1, (-1, order)), permuted, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(module(turned), transform(y, element), rtol=1e-4, atol=1e-4)
        assert float((module(transform(x, 1)) - y).abs().max()) > 0.01
        mirrored = module(x.flip(-1)).flip(-1)
        assert (float((mirrored - y).abs().max()) < 1e-4) == (group == "p4m")


def test_an_image_that_is_no_square_can_still_be_mirrored():
    module, x = create("group_equivariant", (1, 12, 8)), images(2, (1, 12, 8))
    for axes in ((2,), (3,), (2, 3)):
        torch.testing.assert_close(module(x.flip(axes)), module(x).flip(axes), rtol=1e-4, atol=1e-5)


def test_a_group_equivariant_latent_is_a_multiple_of_the_groups_order():
    with pytest.raises(aezoo.AezooError, match="must be a multiple of 8, the order of p4m, but is 12"):
        create("group_equivariant[latent_dim=12]")
    assert create("group_equivariant[group=p4,latent_dim=12]").encode(images()).shape == (6, 12)


# Capsules ------------------------------------------------------------------------------------------------------------


def test_squash_keeps_the_direction_and_shortens_to_the_papers_length():
    s = torch.tensor([[3.0, 0.6, 0, 0], [4.0, -0.8, 0.1, 0]], requires_grad=True)
    expected = [[25 / 26 * 0.6, 0.5 * 0.6, 0, 0], [25 / 26 * 0.8, -0.5 * 0.8, 0.01 / 1.01, 0]]
    squashed = squash(s)
    torch.testing.assert_close(squashed, torch.tensor(expected))
    squashed.sum().backward()
    assert torch.isfinite(s.grad).all()


def test_routing_of_two_votes_by_hand():
    # One number a capsule: three capsules vote 1, 1 and -1 on the first of two, and 0 on the second.
    votes = torch.zeros(3, 2, 1, 1)
    votes[:, 0, 0, 0] = torch.tensor([1.0, 1.0, -1.0])
    first = 0.5**2 / (1 + 0.5**2)  # s = (1 + 1 - 1) / 2
    assert route(votes, 1).flatten().tolist() == pytest.approx([first, 0], abs=1e-6)
    # The logits are now +first for those that agree, -first for the other one, and 0 for the second capsule.
    agree, differ = 1 / (1 + math.exp(-first)), 1 / (1 + math.exp(first))
    s = 2 * agree - differ
    second = s**2 / (1 + s**2)
    assert route(votes, 2).flatten().tolist() == pytest.approx([second, 0], abs=1e-6)
    # Logits add up over iterations.
    agree, differ = 1 / (1 + math.exp(-first - second)), 1 / (1 + math.exp(first + second))
    s = 2 * agree - differ
    assert route(votes, 3).flatten().tolist() == pytest.approx([s**2 / (1 + s**2), 0], abs=1e-6)


def test_capsules_vote_by_a_matrix_of_each_pair_and_share_out_over_the_outputs():
    torch.manual_seed(0)
    layer = Capsules(5, 3, 2, 4, iterations=1)
    nn.init.normal_(layer.weight)
    u = torch.randn(5, 3, 6)
    matrices = layer.weight.detach().view(5, 2, 4, 3)
    s = torch.stack([sum(matrices[i, j] @ u[i] for i in range(5)) / 2 for j in range(2)])
    torch.testing.assert_close(layer(u).detach(), squash(s).permute(2, 0, 1), rtol=1e-4, atol=1e-5)


def test_primary_capsules_are_the_channels_of_one_kind_and_place():
    x = torch.randn(2, 6, 3, 4)
    capsules = Primary(2)(x)
    places = itertools.product(range(3), range(4), range(3))  # whatever their order, each once
    expected = [squash(x[:, 2 * kind : 2 * kind + 2, row, column].T) for row, column, kind in places]
    for one in expected:
        assert sum(torch.allclose(capsules[i], one) for i in range(36)) == 1


def test_the_latent_of_capsules_is_some_vectors_of_lengths_below_1():
    module = create("capsules[latent_dim=12,capsule_dim=3]", (1, 28, 28))
    nn.init.normal_(module.encoder[-2].weight, std=5)
    lengths = module.encode(images(4, (1, 28, 28))).unflatten(1, (4, 3)).norm(dim=2)
    assert 0.9 < float(lengths.max().detach()) < 1
    with pytest.raises(aezoo.AezooError, match="multiple of capsule_dim, 4, but is 6"):
        create("capsules[latent_dim=6]")


# Mamba ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3, 4, 7, 8, 16, 21])
def test_the_scan_is_the_recurrence_and_so_are_its_gradients(times):
    torch.manual_seed(0)
    decay, drive = torch.rand(times, 3, 2, requires_grad=True), torch.randn(times, 3, 2, requires_grad=True)
    state, states = torch.zeros(3, 2), []
    for t in range(times):
        state = decay[t] * state + drive[t]
        states.append(state)
    expected, weights = torch.stack(states), torch.randn(times, 3, 2)
    torch.testing.assert_close(Scan.apply(decay, drive), expected)
    by_scan = torch.autograd.grad((Scan.apply(decay, drive) * weights).sum(), [decay, drive])
    by_loop = torch.autograd.grad((expected * weights).sum(), [decay, drive])
    torch.testing.assert_close(by_scan, by_loop)


def test_selective_states_are_the_papers_token_by_token():
    torch.manual_seed(0)
    layer = SelectiveStates(5, 3, 2)
    nn.init.normal_(layer.log_rate)
    nn.init.normal_(layer.skip)
    nn.init.normal_(layer.step.bias)
    x = torch.randn(9, 4, 5)
    state, outputs = torch.zeros(4, 5, 3), []
    with torch.no_grad():
        for token in x:
            low, into, out_of = (token @ layer.select.weight.T).split([2, 3, 3], dim=1)
            step = (1 + (low @ layer.step.weight.T + layer.step.bias).exp()).log()
            for channel, number in itertools.product(range(5), range(3)):
                rate = -layer.log_rate[number, channel].exp()
                state[:, channel, number] *= (step[:, channel] * rate).exp()
                state[:, channel, number] += step[:, channel] * into[:, number] * token[:, channel]
            outputs.append((state * out_of[:, None]).sum(2) + layer.skip * token)
        torch.testing.assert_close(layer(x), torch.stack(outputs), rtol=1e-4, atol=1e-5)


def test_selective_states_start_from_the_papers_steps_and_rates():
    layer = SelectiveStates(2000, 4, 2)
    steps = torch.nn.functional.softplus(layer.step.bias.detach())
    assert float(steps.min()) == pytest.approx(1e-3, rel=0.05)
    assert float(steps.max()) == pytest.approx(1e-1, rel=0.05)
    assert float(steps.log10().mean()) == pytest.approx(-2, abs=0.1)
    torch.testing.assert_close(layer.log_rate.detach().exp()[:, 7], torch.tensor([1.0, 2, 3, 4]))
    assert float(layer.step.weight.detach().abs().max()) <= 1 / math.sqrt(2)


def test_a_block_convolves_channel_by_channel_and_sees_no_later_token():
    torch.manual_seed(0)
    block = Block(6, 3)
    convolution = nn.Conv1d(12, 12, 4, groups=12, padding=3)
    convolution.weight.data = block.convolve.data.T.unsqueeze(1)
    convolution.bias.data = block.bias.data
    tokens = torch.randn(7, 2, 6)
    with torch.no_grad():
        x, gate = (block.norm(tokens) @ block.widen.weight.T).split(12, dim=2)
        x = torch.nn.functional.silu(convolution(x.permute(1, 2, 0))[:, :, :7].permute(2, 0, 1))
        expected = tokens + (block.states(x) * torch.nn.functional.silu(gate)) @ block.narrow.weight.T
        torch.testing.assert_close(block(tokens), expected, rtol=1e-4, atol=1e-5)
        changed = tokens.clone()
        changed[4:] += 1
        torch.testing.assert_close(block(changed)[:4], block(tokens)[:4], rtol=1e-5, atol=1e-6)
        assert float((block(changed)[4:] - changed[4:] - block(tokens)[4:] + tokens[4:]).abs().min()) > 0


# Flow matching -------------------------------------------------------------------------------------------------------


def flow_matching_loss(module: nn.Module, x: Tensor) -> Tensor:
    """The paper's loss of images in [-1, 1], with the same draws as `training_forward`'s."""
    data = 2 * x.flatten(1) - 1
    torch.manual_seed(7)
    noise, t = torch.randn(data.shape), torch.rand(len(x), 1)
    velocity = module.decoder["velocity"](noise + t * (data - noise), t, module.encode(x))
    return ((velocity - (data - noise)) ** 2).mean()


def test_the_harnesss_mse_and_the_penalty_are_the_flow_matching_loss_together():
    module, x = create("flow_matching"), images(50)
    torch.manual_seed(7)
    output = module.training_forward(x)
    mse = (output.reconstruction - x).square().mean()
    torch.testing.assert_close(mse + output.penalty, flow_matching_loss(module, x) / 4)
    share = float((mse / (mse + output.penalty)).detach())
    assert 0.05 < share < 0.95


def test_where_the_velocity_is_the_true_one_training_reconstructs_exactly_and_nothing_is_lost():
    module, x = create("flow_matching"), images()
    data = 2 * x.flatten(1) - 1

    class Truth(nn.Module):
        def forward(self, at: Tensor, t: Tensor, z: Tensor) -> Tensor:
            return (data - at) / (1 - t)

    module.decoder["velocity"] = Truth()
    output = module.training_forward(x)
    torch.testing.assert_close(output.reconstruction, x, rtol=1e-3, atol=1e-3)
    assert float(output.penalty) == pytest.approx(0, abs=1e-6)
    # Straight paths are followed exactly, however few the steps.
    for module.steps in (1, 2, 5):
        torch.testing.assert_close(module(x), x, rtol=1e-4, atol=1e-4)


def test_a_decoded_image_is_the_end_of_a_path_from_zeros_by_eulers_steps():
    class Field(nn.Module):
        def forward(self, at: Tensor, t: Tensor, z: Tensor) -> Tensor:
            return at + t + z[:, :1]

    module = create("flow_matching[steps=2]")
    module.decoder["velocity"] = Field()
    z = torch.full((1, 16), 0.5)
    half = 0 + (0 + 0 + 0.5) / 2
    end = half + (half + 0.5 + 0.5) / 2
    torch.testing.assert_close(module.decode(z), torch.full((1, *SHAPE), (end + 1) / 2))


def test_the_velocity_that_is_guessed_is_the_best_linear_one_of_independent_noise_and_data():
    torch.manual_seed(0)
    velocity = Velocity(1, 2, 8)
    nn.init.zeros_(velocity.layers[-1].weight)
    nn.init.zeros_(velocity.layers[-1].bias)
    noise, data = torch.randn(2, 200_000, 1)
    for t in (0.0, 0.3, 0.8, 1.0):
        at = (1 - t) * noise + t * data
        slope = float((at * (data - noise)).mean() / at.square().mean())  # least squares
        guess = velocity(torch.ones(1, 1), torch.full((1, 1), t), torch.zeros(1, 2))
        assert float(guess.detach()) == pytest.approx(slope, abs=0.02)
