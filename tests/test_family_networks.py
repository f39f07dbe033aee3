"""What the networks of other kinds claim of themselves, held to computations of another kind."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo_plugins.architectures.hypernetwork import OMEGA
from aezoo_plugins.architectures.invertible import Couplings

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
