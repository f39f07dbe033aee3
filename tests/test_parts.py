"""What a network may declare beside halves: an adversary, progress, and a latent of several parts."""

import json
import re
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aezoo
from aezoo.check.capture import draws_when_captured
from aezoo.check.case import Case
from aezoo.check.resume import resumption_fault
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.halves import halves
from aezoo.contract.latent import Parts
from aezoo.contract.network import adversary_of, num_adversary_params, num_params
from aezoo.contract.recipe import Recipe
from aezoo.harness.preflight import measure_steps
from aezoo.train.engine import Trainer
from aezoo.train.loop import train

SHAPE = (1, 6, 6)
RECIPE = Recipe(name="t", steps=40, batch_size=16)
IMAGES = sample_images(SHAPE, 64)


class Small(aezoo.Autoencoder):
    def __init__(self, image_shape: aezoo.ImageShape = SHAPE) -> None:
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(36, 8)), nn.Sequential(nn.Linear(8, 36), nn.Unflatten(1, image_shape))
        )


def variant_of(network: type[nn.Module]) -> Variant:
    architecture = Architecture(name="x", build=lambda image_shape: network(), summary="s", reference="r")
    return Variant(architecture=architecture, hyperparameters={}, label="x")


def failures(network: type[nn.Module], *, quick: bool = False) -> dict[str, str]:
    findings = examine(Case(variant_of(network), IMAGES), quick=quick)
    return {finding.check: finding.detail for finding in findings if finding.status == "failed"}


# Progress ------------------------------------------------------------------------------------------------------------


class Anneals(Small):
    """What it is told goes into its penalty, and is kept, so that a test can read it."""

    objective = "mse + size"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("heard", torch.zeros(40))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        z = self.encode(x)
        with torch.no_grad():
            self.heard.scatter_(0, (self.count % 40)[None], self.progress[None])
            self.count += 1
        return aezoo.TrainingOutput(self.decode(z), 0.01 * self.progress * z.square().mean())


def test_a_network_is_told_the_share_of_the_budget_that_is_done_before_each_step_and_one_at_the_end():
    module = Anneals()
    train(module, IMAGES, RECIPE, 0, lambda _: None)
    torch.testing.assert_close(module.heard, torch.arange(40) / 40)
    assert float(module.progress) == 1.0


def test_progress_survives_a_checkpoint_and_a_graph():
    assert resumption_fault(variant_of(Anneals), IMAGES, RECIPE, "contiguous") is None
    assert not draws_when_captured(variant_of(Anneals), IMAGES[:16], RECIPE, "contiguous")
    assert failures(Anneals) == {}


def test_a_flat_module_is_told_too():
    module = nn.Sequential(nn.Linear(36, 36))
    module.register_buffer("progress", torch.zeros(()))
    trainer = Trainer(aezoo.Flat(module, SHAPE), RECIPE)
    for _ in range(3):
        trainer.step(torch.rand(16, *SHAPE))
    assert float(module.progress) == pytest.approx(2 / 40)


# An adversary --------------------------------------------------------------------------------------------------------


class Adversarial(Small):
    """Codes that an adversary is to take for normal ones (Makhzani et al. 2015)."""

    objective = "mse + adversary"

    def __init__(self) -> None:
        super().__init__()
        self.adversary = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        z = self.encode(x)
        return aezoo.TrainingOutput(self.decode(z), 0.1 * F.softplus(-self.adversary(z)).mean())

    def adversary_loss(self, x: Tensor) -> Tensor:
        z = self.encode(x)
        return F.softplus(-self.adversary(torch.randn_like(z))).mean() + F.softplus(self.adversary(z)).mean()


class TouchesTheReconstruction(Adversarial):
    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        output = super().training_forward(x)
        return output._replace(reconstruction=output.reconstruction + self.adversary(torch.ones(1, 8)).mean())


class TouchesTheEvaluation(Adversarial):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z + self.adversary(z))


class JudgesNothing(Adversarial):
    def adversary_loss(self, x: Tensor) -> Tensor:
        return self.encode(x).mean()


class ManyLosses(Adversarial):
    def adversary_loss(self, x: Tensor) -> Tensor:
        return self.adversary(self.encode(x))


class NoAdversary(Small):
    def adversary_loss(self, x: Tensor) -> Tensor:
        return self.encode(x).mean()


def by_hand(module: Adversarial, x: Tensor, steps: int) -> None:
    """Two of torch's Adams: the network's, and then the adversary's, on the same batch."""
    of_adversary = list(module.adversary.parameters())
    held = set(of_adversary)
    own = [each for each in module.parameters() if each not in held]
    network, adversary = torch.optim.Adam(own, 1e-3), torch.optim.Adam(of_adversary, 1e-3)
    for _ in range(steps):
        network.zero_grad()
        reconstruction, penalty = module.training_forward(x)
        (F.mse_loss(reconstruction, x) + penalty).backward()
        network.step()
        adversary.zero_grad()
        module.adversary_loss(x).backward()
        adversary.step()


def test_an_adversary_takes_a_step_of_its_own_after_each_on_the_same_batch():
    x = torch.rand(16, *SHAPE)
    torch.manual_seed(0)
    module = Adversarial()
    other = Adversarial()
    other.load_state_dict(module.state_dict())
    trainer = Trainer(module, RECIPE)
    torch.manual_seed(1)
    for _ in range(10):
        trainer.step(x)
    torch.manual_seed(1)
    by_hand(other, x, 10)
    for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_flops_of_a_step_are_those_of_both_steps():
    """Each layer forward, for its weights and for what comes into it; half a network needs none of the last."""
    layer, adversary = 36 * 8, 8 * 16 + 16
    own = 5 * layer + 3 * adversary
    of_adversary = layer + 2 * (2 * adversary + 16)
    for network, expected in ((Small, 5 * layer), (Adversarial, own + of_adversary)):
        costs = measure_steps(network(), torch.rand(16, *SHAPE), RECIPE, compiled=False)
        assert costs["train_flops_per_image"] == 2 * expected


def test_the_numbers_of_an_adversary_count_apart():
    module = Adversarial()
    assert (num_params(module), num_adversary_params(module)) == (36 * 8 + 8 + 8 * 36 + 36, 8 * 16 + 16 + 16 + 1)
    assert num_adversary_params(Small()) == 0
    assert adversary_of(Small()) is None


def test_an_adversarial_network_meets_the_contract_and_survives_a_checkpoint_and_a_graph():
    assert failures(Adversarial) == {}
    assert resumption_fault(variant_of(Adversarial), IMAGES, RECIPE, "contiguous") is None
    assert draws_when_captured(variant_of(Adversarial), IMAGES[:16], RECIPE, "contiguous")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (TouchesTheReconstruction, "expected a reconstruction in training to be the same whatever the adversary's"),
        (TouchesTheEvaluation, "expected a reconstruction to be the same whatever the adversary's weights"),
        (JudgesNothing, "expected an adversary_loss that depends on the adversary"),
        (ManyLosses, r"adversary_loss must return a finite scalar tensor, but returned \(8, 1\)"),
    ],
)
def test_an_adversary_that_does_more_than_judge_is_refused(network, told):
    found = failures(network, quick=True)
    assert set(found) == {"adversary"}
    assert re.search(told, found["adversary"])


def test_a_loss_without_an_adversary_is_one_line():
    with pytest.raises(aezoo.AezooError, match="trains a child called adversary, but there is none"):
        Trainer(NoAdversary(), RECIPE)


# A latent of several parts -------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    top: Tensor
    bottom: Tensor


def as_tuple(z: Tensor):
    return z[:, :3], z[:, 3:].unflatten(1, (5, 1))


def as_dictionary(z: Tensor):
    return {"vector": z[:, :3], "map": z[:, 3:].unflatten(1, (5, 1))}


def as_named(z: Tensor):
    return Pair(z[:, :3], z[:, 3:].unflatten(1, (5, 1)))


def with_codes(z: Tensor):
    codes = (z[:, 3:].detach() * 100).round().to(torch.int64)
    return [z[:, :3], codes]


LATENTS = {"tuple": as_tuple, "dictionary": as_dictionary, "named": as_named, "codes": with_codes}


def of_parts(split) -> type[Small]:
    class OfParts(Small):
        def encode(self, x: Tensor):
            return split(self.encoder(x))

        def decode(self, z) -> Tensor:
            assert type(z) is type(split(torch.zeros(1, 8)))
            parts = list(z.values()) if isinstance(z, dict) else list(z)
            scale = 0.01 if parts[1].dtype == torch.int64 else 1.0
            return self.decoder(torch.cat([parts[0], scale * parts[1].flatten(1).float()], 1))

    return OfParts


@pytest.mark.parametrize("kind", LATENTS)
def test_a_latent_of_several_parts_meets_the_contract(kind):
    # The encoder of codes has no gradient through them: it is the parts that are looked at.
    assert failures(of_parts(LATENTS[kind]), quick=True) == {}
    module = of_parts(LATENTS[kind])()
    encode, decode = halves(module, torch.rand(2, *SHAPE))
    x = torch.rand(5, *SHAPE)
    flat = encode(x)
    assert (flat.shape, flat.dtype) == ((5, 8), torch.float32)
    torch.testing.assert_close(decode(flat), module(x))


@pytest.mark.parametrize("kind", LATENTS)
def test_parts_come_back_as_they_were(kind):
    latent = LATENTS[kind](torch.randn(4, 8))
    parts = Parts.of(latent)
    again = parts.unpack(parts.pack(latent))
    assert type(again) is type(latent)
    own, others = (list(each.values()) if isinstance(each, dict) else list(each) for each in (latent, again))
    for one, other in zip(own, others, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert parts.whole == (kind == "codes")


@pytest.mark.parametrize("latent", [torch.zeros(2, 3), (torch.zeros(2, 3), 1), (), {"a": None}, "text"])
def test_what_is_not_of_several_parts_is_left_as_it_is(latent):
    assert Parts.of(latent) is None


class CodedParts(Small):
    """Two codes of eight, each a part of its own, as in a hierarchy of quantisers."""

    codebook_size = 8

    def codes(self, x: Tensor) -> Tensor:
        return (self.encoder(x)[:, :2].sigmoid() * 8).long().clamp(max=7)

    def from_codes(self, codes: Tensor):
        return tuple(part.float() / 8 for part in codes.split(1, 1))

    def encode(self, x: Tensor):
        return self.from_codes(self.codes(x))

    def decode(self, z) -> Tensor:
        top, bottom = z
        return self.decoder(F.pad(torch.cat([top, bottom], 1), (0, 6)))


def test_codes_tell_all_of_a_latent_of_several_parts():
    assert "codes" not in failures(CodedParts, quick=True)

    class Wrong(CodedParts):
        def from_codes(self, codes: Tensor):
            return tuple(1 - part for part in super().from_codes(codes))

        def encode(self, x: Tensor):
            return CodedParts.from_codes(self, self.codes(x))

    assert "more than the codes passes through the latent" in failures(Wrong, quick=True)["codes"]

    class OnePart(Wrong):
        def from_codes(self, codes: Tensor):
            return codes.float() / 8

    assert "from_codes must return them as encode does, but returned a tensor" in failures(OnePart, quick=True)["codes"]


PLUGIN = """
    import aezoo, torch
    from torch import nn

    class Parts(aezoo.Autoencoder):
        def encode(self, x):
            z = self.encoder(x)
            return {"top": z[:, :2], "bottom": z[:, 2:].reshape(-1, 2, 3)}
        def decode(self, z):
            return self.decoder(torch.cat([z["top"], z["bottom"].flatten(1)], 1))

    def build(image_shape):
        return Parts(nn.Sequential(nn.Flatten(), nn.Linear(36, 8)),
                     nn.Sequential(nn.Linear(8, 36), nn.Unflatten(1, image_shape)))

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="parts", build=build, summary="s", reference="r")
"""


def test_a_row_a_page_and_a_model_know_the_parts_of_a_latent(tiny, distribute, page, tmp_path):
    distribute(PLUGIN, name="parts-dist")
    recipe = Recipe(name="t", dataset="tiny", steps=60, batch_size=16)
    run = aezoo.bench(["parts"], recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    row = run.table().set_index("variant").loc["parts"]
    assert (row["latent_size"], row["group"], row["status"]) == (8, "8 numbers", "ok")
    assert row["latent_parts"] == "top 2, bottom 2x3"
    assert row["vs_pca"] > 0
    (record,) = [each for each in run.records() if each.variant == "parts"]
    assert json.loads(record.model_dump_json())["latent_parts"] == {"top": [2], "bottom": [2, 3]}
    assert "top 2, bottom 2x3" in (tmp_path / "run" / "report.html").read_text()
    model = aezoo.load(tmp_path / "run", "parts")
    pixels = torch.rand(3, *SHAPE)
    assert model.encode(pixels).shape == (3, 8)
    torch.testing.assert_close(model.decode(model.encode(pixels)), model.reconstruct(pixels))
