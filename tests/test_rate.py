"""Bits: of codes in an ideal code, of what tells which numbers are not 0, and of a codec's files."""

import math

import pytest
import torch
from torch import Tensor, nn

import aezoo
from aezoo.check.case import Case, latent_bits
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.network import Discrete, discrete
from aezoo.contract.recipe import Recipe
from aezoo.errors import ContractError
from aezoo.train.rate import PRIOR, active_units, coded_bits, support_bits

K = 4


def pixels(codes_NP: Tensor) -> Tensor:
    """Return images whose pixels are the codes themselves."""
    return codes_NP.to(torch.uint8)[:, None, None, :]


def book(sizes: int | tuple[int, ...] = K) -> Discrete:
    return Discrete(lambda x: (x * 255).round().long().flatten(1), lambda codes: codes, sizes)


def drawn(count: int, *chances: list[float], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.multinomial(torch.tensor(each), count, True, generator=generator) for each in chances], 1)


def entropy(chances: list[float]) -> float:
    return -sum(chance * math.log2(chance) for chance in chances if chance)


SKEWED, EVEN, SURE = [0.7, 0.1, 0.1, 0.1], [0.25] * 4, [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("places", [[EVEN], [SKEWED], [SKEWED, EVEN], [SKEWED, SKEWED, SURE], [SURE]])
def test_codes_take_the_entropy_of_their_places(places):
    train, test = drawn(20_000, *places), drawn(20_000, *places, seed=1)
    bits = coded_bits(book(), pixels(train), pixels(test))
    assert bits == pytest.approx(sum(map(entropy, places)), abs=0.03)


def test_codes_of_equal_places_share_their_counts_where_that_is_shorter():
    places = [SKEWED] * 50
    train, test = drawn(20, *places), drawn(2_000, *places, seed=1)
    bits = coded_bits(book(), pixels(train), pixels(test))
    assert bits == pytest.approx(50 * entropy(SKEWED), rel=0.02)
    # Twenty images for each place of its own would cost 5 % more.
    apart = sum(coded_bits(book(), pixels(train[:, [k]]), pixels(test[:, [k]])) for k in range(50))
    assert apart > 1.04 * bits


def test_lengths_are_those_of_counts_by_hand():
    train, test = torch.tensor([[0, 3], [0, 3], [1, 2]]), torch.tensor([[0, 3], [2, 0]])
    total = 3 + K * PRIOR

    def length(count: int) -> float:
        return -math.log2((count + PRIOR) / total)

    apart = (length(2) + length(2) + length(0) + length(0)) / 2
    assert coded_bits(book(), pixels(train), pixels(test)) == pytest.approx(apart)


def test_codes_that_other_images_use_otherwise_take_more_bits_than_nominal():
    train, test = drawn(500, SURE), torch.full((10, 1), 3)
    assert coded_bits(book(), pixels(train), pixels(test)) == pytest.approx(math.log2((500 + 2) / 0.5))


def test_codes_of_several_sizes_are_coded_each_by_its_own():
    sizes = (2, 4)
    train = drawn(5_000, [0.5, 0.5, 0, 0], EVEN)
    assert coded_bits(book(sizes), pixels(train), pixels(train)) == pytest.approx(3, abs=0.01)
    assert coded_bits(book(2**40), pixels(train), pixels(train)) is None


@pytest.mark.parametrize(("numbers", "active"), [(256, 16), (256, 0), (256, 256), (9, 3), (1, 1)])
def test_the_bits_of_a_support_are_the_logarithm_of_the_ways_to_choose_it(numbers, active):
    assert support_bits(numbers, active) == pytest.approx(math.log2(math.comb(numbers, active)), abs=1e-9)


def test_sixteen_of_256_cost_83_bits():
    images = torch.zeros(300, 1, 16, 16, dtype=torch.uint8)
    for number, image in enumerate(images):
        image.view(-1)[torch.randperm(256, generator=torch.Generator().manual_seed(number))[:16]] = 1
    active, bits = active_units(lambda x: x.flatten(1), images)
    assert (active, round(bits)) == (16.0, 83)


class Codec(nn.Module):
    """Quantises to few levels; its file holds a byte for each pixel that is not 0."""

    objective = "mse, codec"
    told = 8

    def forward(self, x: Tensor) -> Tensor:
        return (x * 15).round() / 15

    def bits(self, x: Tensor) -> Tensor:
        return self.told * (self(x) > 0).flatten(1).sum(1).double()

    def fit(self, images: Tensor) -> None:
        pass


class NoBits(Codec):
    def bits(self, x: Tensor) -> Tensor:
        return super().bits(x).sum()


class SeveralSizes(aezoo.Autoencoder):
    codebook_size: int | tuple[int, ...] = (2, 3)

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1), nn.Linear(1, 1))

    def codes(self, x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1)[:, 0] > 0.5, (2.99 * x.flatten(1)[:, 1]).long()], 1).long()

    def from_codes(self, codes: Tensor) -> Tensor:
        return codes


def test_codes_of_several_sizes_take_the_sum_of_their_bits_and_are_held_to_them():
    module, x = SeveralSizes(), torch.rand(5, 1, 3, 3)
    assert latent_bits(module, x) == pytest.approx(1 + math.log2(3))
    assert discrete(module).sizes(2) == (2, 3)
    module.codebook_size = (2, 3, 4)
    with pytest.raises(ContractError, match="codebook_size has 3 numbers, but an image 2 codes"):
        latent_bits(module, x)
    module.codebook_size = (1, 3)
    with pytest.raises(ContractError, match="so that codes are 0 to 0, but they go from 0 to 1"):
        latent_bits(module, torch.rand(50, 1, 3, 3))
    module.codebook_size = (2, "three")
    with pytest.raises(ContractError, match="or a tuple of one for each code"):
        discrete(module)


def test_bits_of_a_codec_are_a_number_for_each_image():
    architecture = Architecture(name="c", build=lambda image_shape: NoBits(), summary="s", reference="r")
    case = Case(Variant(architecture=architecture, hyperparameters={}, label="c"), sample_images((1, 6, 6)))
    (fault,) = [finding for finding in examine(case) if finding.status == "failed"]
    assert fault.check == "codes"
    assert fault.detail.startswith("bits must return a number for each of 8 images, not below 0, but returned ()")


PLUGIN = """
    import aezoo, torch
    from torch import nn

    class Codec(nn.Module):
        objective = "mse, codec"
        def fit(self, images): pass
        def forward(self, x): return (x * 15).round() / 15
        def bits(self, x): return 8 * (self(x) > 0.2).flatten(1).sum(1).double()

    def build(image_shape):
        return Codec()

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="codec", build=build, summary="s", reference="r")
"""


def test_a_table_has_the_bits_of_codes_of_supports_and_of_files(tiny, distribute, page, tmp_path):
    distribute(PLUGIN, name="codec-dist")
    recipe = Recipe(name="t", dataset="tiny", steps=50, batch_size=16)
    variants = ["codec", "kmeans[codebook_size=8]", "topk[k=3,width=9]", "linear[latent_dim=2]"]
    run = aezoo.bench(variants, recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    table = run.table().set_index("variant")
    test = tmp_path / "run" / "report.html"
    assert table.loc["kmeans[codebook_size=8]", "bits"] == 3.0
    assert 1 < table.loc["kmeans[codebook_size=8]", "coded_bits"] < 3.3
    codec = table.loc["codec"]
    assert codec["status"] == "ok"
    # Not one number of bits: of the test images, not of those that the preflight looked at.
    assert codec["bits"] == codec["coded_bits"]
    assert codec["bits"] % 8 != 0
    assert codec["group"].startswith("about")
    sparse = table.loc["topk[k=3,width=9]"]
    assert 0 < sparse["support_bits"] <= math.log2(math.comb(9, 3)) + 1e-9
    assert table.loc["linear[latent_dim=2]", ["bits", "coded_bits", "active_units", "support_bits"]].isna().all()
    assert "coded_bits" in test.read_text()
