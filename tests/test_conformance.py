"""Each check of the suite fails for the architecture that was made to fail it, and for no other reason."""

import itertools
import os
import re

import pytest
import torch
from torch import nn
from zoo import ARCHITECTURES, FILES

import aezoo
from aezoo.check import checks_of_latent, suite
from aezoo.check.case import Case
from aezoo.check.suite import CHECKS, IMAGE_SHAPES, examine, sample_images
from aezoo.contract.architecture import EXCUSABLE, Architecture, Variant
from aezoo.contract.network import num_params
from aezoo.errors import AezooError, ContractError
from aezoo.registry.discovery import discover

SHAPE = (1, 6, 5)
PIXELS = 30


class Good(aezoo.Autoencoder):
    """A network that meets the whole contract; each class below breaks it in one way."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 4)),
            nn.Sequential(nn.Linear(4, PIXELS), nn.Unflatten(1, SHAPE)),
        )


class DoesNotBuild(Good):
    def __init__(self) -> None:
        super().__init__()
        self.decoder[0].weight[0] = 7


class BlankObjective(Good):
    objective = " "


class FlatOutput(Good):
    def decode(self, z):
        return super().decode(z).flatten(1)


class OnlyWholeBatches(Good):
    def decode(self, z):
        return super().decode(z).squeeze(0) if len(z) == 1 else super().decode(z)


class ChangesItsInput(Good):
    def encode(self, x):
        return super().encode(x.mul_(0.5))


class SamplesInEvaluation(Good):
    def decode(self, z):
        return super().decode(z + 0.1 * torch.randn_like(z))


class StatefulDecoder(Good):
    calls = 0

    def decode(self, z):
        self.calls += 1
        return super().decode(z) + self.calls


class BatchStatistics(Good):
    def __init__(self) -> None:
        super().__init__()
        # In evaluation mode too, it normalises by the batch at hand.
        self.norm = nn.LayerNorm(4)

    def encode(self, x):
        z = super().encode(x)
        return self.norm(z - z.mean(0))


class CountsItsCalls(Good):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + (0.1 if self.calls > 8 else 0)


class LatentAndMore(Good):
    def encode(self, x):
        return super().encode(x), "more"

    def decode(self, z):
        return super().decode(z[0])


class FalseLatentSize(Good):
    latent_size = 2


class AdversaryThatPaints(Good):
    objective = "mse + adversary"

    def __init__(self) -> None:
        super().__init__()
        self.adversary = nn.Linear(4, 1)

    def training_forward(self, x):
        verdict = self.adversary(self.encode(x))
        return aezoo.TrainingOutput(self(x) + verdict.mean(), verdict.square().mean())

    def adversary_loss(self, x):
        return self.adversary(self.encode(x)).square().mean()


class RaisesInTraining(Good):
    def training_forward(self, x):
        raise KeyError("missing")


class SmallerInTraining(Good):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x)[:, :, 1:])


class FailsInTrainingMode(Good):
    """Its forward, which no training calls."""

    objective = "mse, sampled latent"

    def forward(self, x):
        if self.training:
            raise KeyError("label")
        return super().forward(x)

    def training_forward(self, x):
        z = self.encode(x)
        return aezoo.TrainingOutput(self.decode(z + 0.1 * torch.randn_like(z)))


class SkipThatOpens(Good):
    """A gate that starts at zero: nothing passes by it until it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return super().forward(x) + self.gate * x


class StateThatOpens(SkipThatOpens):
    def forward(self, x):
        self.seen = x
        return self.decode(self.encode(x))

    def encode(self, x):
        self.seen = x
        return super().encode(x)

    def decode(self, z):
        return super().decode(z) + self.gate * getattr(self, "seen", 0)


class HiddenSkip(Good):
    def forward(self, x):
        return 0.9 * super().forward(x) + 0.1 * x


class StateBetweenHalves(Good):
    def encode(self, x):
        self.seen = x
        return super().encode(x)

    def decode(self, z):
        return super().decode(z) + 0.1 * self.seen


class AttributeOfTheLatent(Good):
    def encode(self, x):
        z = super().encode(x)
        z.seen = x
        return z

    def decode(self, z):
        return super().decode(z) + 0.1 * z.seen


class Rounded(Good):
    """A discrete latent that meets the contract: each of its numbers is rounded to one of five."""

    codebook_size = 5

    def codes(self, x):
        return (super().encode(x) * 8).round().clamp(-2, 2).long() + 2

    def from_codes(self, codes):
        return codes.float() - 2

    def encode(self, x):
        return self.from_codes(self.codes(x))

    def training_forward(self, x):
        z = super().encode(x)
        return aezoo.TrainingOutput(self.decode(z + (self.encode(x) - z).detach()))

    objective = "mse, straight through"


class FalseCodebookSize(Rounded):
    codebook_size = 3


class MoreThanItsCodes(Rounded):
    def encode(self, x):
        return super().encode(x) + 0.1 * Good.encode(self, x)


class CodesThatOpen(Rounded):
    """Like `MoreThanItsCodes`, by a gate that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def encode(self, x):
        return super().encode(x) + self.gate * Good.encode(self, x)

    def training_forward(self, x):
        z = Good.encode(self, x)
        straight = z + (super().encode(x) - z).detach()
        return aezoo.TrainingOutput(self.decode(straight + self.gate * z))


class NoWayBack(Rounded):
    from_codes = None

    def encode(self, x):
        return self.codes(x).float()


class InfinitePenalty(Good):
    objective = "mse + x"

    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), self.encode(x).sum() / 0)


class VectorPenalty(Good):
    objective = "mse + x"

    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), self.encode(x).square().mean(1))


class DetachedPenalty(Good):
    objective = "mse + x"

    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), self.encode(x).square().mean().detach())


class HiddenPenalty(Good):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), self.encode(x).square().mean())


class PenaltyInNameOnly(Good):
    objective = "mse + kl"


class HiddenNoise(Good):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x + 0.1 * torch.randn_like(x)))


class NoiseInNameOnly(Good):
    objective = "mse, corrupted input"


class ClosedFormInNameOnly(Good):
    objective = "mse, closed form"


class AnotherLoss(Good):
    objective = "cross-entropy"


class UnusedParameter(Good):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 2)


class MultipliedByZero(Good):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.ones(4))

    def encode(self, x):
        return super().encode(x) + 0 * self.spare


class Detached(Good):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x).detach())


class Climbs(Good):
    """Its gradient points the wrong way."""

    def decode(self, z):
        y = super().decode(z)
        return 2 * y.detach() - y


class DrawsFromUrandom(Good):
    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.decoder[0].bias, int.from_bytes(os.urandom(4), "big") / 2**32)


class ForgottenBuffer(Good):
    """What it adds is drawn anew with every build, and is not among its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = [float(torch.rand(()))]

    def decode(self, z):
        return super().decode(z) + self.shift[0]


class StaysBehind(Good):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.linspace(1, 2, 4)

    def encode(self, x):
        return super().encode(x) * self.scale


FAULTS = {
    DoesNotBuild: ("builds", "a leaf Variable that requires grad is being used in an in-place operation"),
    BlankObjective: ("builds", "objective must be a line of text"),
    FlatOutput: (
        "output",
        "expected reconstructions of shape (8, 1, 6, 5), got (8, 30); it works on flat images; bench in its place: ",
    ),
    OnlyWholeBatches: ("output", "expected reconstructions of shape (1, 1, 6, 5), got (1, 6, 5)"),
    RaisesInTraining: ("training", "expected a reconstruction in training, got KeyError: 'missing'; look at Raises"),
    SmallerInTraining: ("training", "in training, expected reconstructions of shape (8, 1, 6, 5), got (8, 1, 5, 5)"),
    FailsInTrainingMode: ("training", "expected forward to work in training mode too, got KeyError: 'label': training"),
    SkipThatOpens: ("halves", "with weights a little off those that it starts from: forward is not its decoder"),
    StateThatOpens: ("bottleneck", "after it encoded other images with weights a little off"),
    ChangesItsInput: ("input", "forward changes its input in place; work on a copy: x.clone()"),
    SamplesInEvaluation: (
        "evaluation",
        "got two: it draws random numbers, as of a sampled latent, and its score is of one draw",
    ),
    StatefulDecoder: ("evaluation", "got two: something is kept from one call to the next"),
    BatchStatistics: ("batch", "statistics of the batch in evaluation?"),
    CountsItsCalls: (
        "batch",
        "others after some calls in evaluation mode: something is kept from one call to the next",
    ),
    LatentAndMore: ("latent", "a latent of shape (8, ...), or a tuple or a dictionary of such, got a tuple of 2: 0 (8"),
    FalseLatentSize: ("latent", "latent_size=2, but the encoder's latent has 4 numbers an image"),
    HiddenSkip: ("halves", "something passes around the bottleneck; look at HiddenSkip.forward, test_conformance.py:"),
    StateBetweenHalves: ("bottleneck", "decoded after it encoded other images"),
    AttributeOfTheLatent: ("bottleneck", "has no attribute 'seen'"),
    FalseCodebookSize: ("codes", "codebook_size=3, so that codes are 0 to 2, but they go from"),
    MoreThanItsCodes: ("codes", "more than the codes passes through the latent; look at MoreThanItsCodes.encode"),
    CodesThatOpen: ("codes", "with weights a little off those that it starts from: more than the codes passes"),
    NoWayBack: ("codes", "a discrete latent has codes, from_codes and codebook_size, but there is no from_codes"),
    InfinitePenalty: ("penalty", "expected a finite penalty, but the untrained network's is "),
    VectorPenalty: (
        "penalty",
        "penalty must be a scalar tensor or None, got (8,): take its mean, penalty.mean(); look at",
    ),
    DetachedPenalty: ("penalty", "got one without a gradient"),
    HiddenPenalty: ("objective", "training_forward adds a penalty, but objective says 'mse'"),
    PenaltyInNameOnly: ("objective", "objective says 'mse + kl', but training_forward adds no penalty"),
    HiddenNoise: ("objective", "training_forward reconstructs otherwise than forward; say how"),
    NoiseInNameOnly: ("objective", "but training reconstructs as evaluation does"),
    ClosedFormInNameOnly: ("objective", "but there is no fit"),
    AnotherLoss: ("objective", "objective must begin with 'mse'"),
    UnusedParameter: ("gradients", "got none in 5 steps for spare.weight (2, 3), spare.bias (2,)"),
    MultipliedByZero: ("gradients", "got none in 5 steps for spare (4,)"),
    AdversaryThatPaints: ("adversary", "expected a reconstruction in training to be the same whatever the adversary's"),
    Detached: ("gradients", "the reconstruction does not depend on a parameter"),
    Climbs: ("learns", "expected 200 steps on 8 images to lower the loss"),
    DrawsFromUrandom: ("seeds", "expected one network from one seed, got two"),
    ForgottenBuffer: ("state_dict", "use register_buffer"),
    StaysBehind: ("device", "make constants with register_buffer"),
}


SKIPPED = ("adversary", "codes")
"""What there is nothing of in most networks."""


def case(module_class, **settings):
    architecture = Architecture(name="case", build=lambda shape: module_class(), summary="s", reference="r", **settings)
    return Case(Variant(architecture=architecture, hyperparameters={}, label="case"), sample_images(SHAPE))


def found(module_class, **settings):
    return {finding.check: finding for finding in examine(case(module_class, **settings))}


def test_a_good_architecture_meets_every_check():
    findings = found(Good)
    assert {name: one.status for name, one in findings.items()} == {
        check.name: "note" if check.informative else "ok" for check in CHECKS
    } | dict.fromkeys(SKIPPED, "skipped")
    assert findings["latent"].detail == "4: 4 numbers an image"
    assert findings["stacked_seeds"].detail == "yes"
    assert findings["cuda_graph"].detail.startswith("yes" if torch.cuda.is_available() else "likely")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_fails_its_check_and_no_other(fault):
    name, told = FAULTS[fault]
    findings = found(fault)
    assert [one.check for one in findings.values() if one.status == "failed"] == [name]
    assert told in findings[name].detail
    assert "\n" not in findings[name].detail


def test_a_forward_that_gives_no_reconstruction_in_training_mode_hides_no_noise_and_keeps_no_row_out():
    class Unnamed(FailsInTrainingMode):
        objective = "mse"

    class Several(Good):
        """What a network returns in training mode is its own, where training has its own pass."""

        objective = "mse, sampled latent"

        def forward(self, x):
            return (super().forward(x), x) if self.training else super().forward(x)

        training_forward = FailsInTrainingMode.training_forward

    class UnnamedOfSeveral(Several):
        objective = "mse"

    assert found(FailsInTrainingMode)["training"].comparable
    assert {name for name, one in found(Several).items() if one.status == "failed"} == set()
    for network, failed in ((Unnamed, {"training", "objective"}), (UnnamedOfSeveral, {"objective"})):
        findings = found(network)
        assert {name for name, one in findings.items() if one.status == "failed"} == failed
        assert "training_forward reconstructs otherwise than forward; say how" in findings["objective"].detail


def test_every_check_has_an_architecture_that_fails_it():
    assert {name for name, _ in FAULTS.values()} == {check.name for check in CHECKS if not check.informative}


def test_what_is_informative_says_so_and_why_not():
    class WaitsForAValue(Good):
        def encode(self, x):
            z = super().encode(x)
            return z * (2 if z.sum().item() > 0 else 1)

    findings = found(WaitsForAValue)
    assert findings["cuda_graph"].status == findings["stacked_seeds"].status == "note"
    assert findings["cuda_graph"].detail.startswith("no: ")
    assert findings["stacked_seeds"].detail.startswith("no: ")
    assert findings["device"].detail.startswith("not seen on the meta device") or torch.cuda.is_available()


class ProgressOfItsOwn(Good):
    progress = 0.0


class AdversaryWithoutALoss(Good):
    def __init__(self) -> None:
        super().__init__()
        self.adversary = nn.Linear(4, 1)

    def training_forward(self, x):
        z = self.encode(x)
        return aezoo.TrainingOutput(self.decode(z), self.adversary(z).square().mean())

    objective = "mse + adversary"


class PixelsTo255(Good):
    def decode(self, z):
        return 255 * super().decode(z).sigmoid()


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (ProgressOfItsOwn, "its progress is no float32 scalar buffer, and stays as it is; to be told how much"),
        (
            AdversaryWithoutALoss,
            "its child adversary is trained with the rest, for the network's own loss, as it",
        ),
        (PixelsTo255, "have pixels of 12., on average, and images have them in .0, 1.: divide by 255 what it gives"),
        (Good, "^yes$"),
    ],
)
def test_what_a_network_declares_in_vain_is_told_and_fails_nothing(network, told):
    findings = found(network)
    assert not [one for one in findings.values() if one.status == "failed"]
    assert re.search(told, findings["names"].detail)


def test_a_check_needs_only_checks_before_it():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:place])


def test_a_declared_exception_is_told_with_its_reason_and_fails_nothing():
    findings = found(UnusedParameter, exceptions={"gradients": "a layer for later"})
    assert findings["gradients"].status == "excepted"
    assert findings["gradients"].detail.startswith("a layer for later (expected a gradient")
    assert {one.status for name, one in findings.items() if name not in SKIPPED} == {"ok", "excepted", "note"}
    assert "the declaration may go" in found(Good, exceptions={"batch": "b"})["batch"].detail


def test_what_makes_a_row_comparable_cannot_be_excepted():
    names = {check.name for check in CHECKS}
    assert set(EXCUSABLE) <= names
    for name in sorted(names - set(EXCUSABLE)):
        with pytest.raises(ContractError, match=f"case: no exception '{name}'; it may except evaluation, batch"):
            found(Good, exceptions={name: "because"})
    with pytest.raises(ContractError, match="the exception 'batch' must give a reason, but gives ''"):
        found(Good, exceptions={"batch": ""})


def test_a_network_that_little_takes_to_infinity_is_disturbed_less():
    """Thirty layers that double what passes: more noise than they bear, and their sums are no numbers any more."""

    class Steep(Good):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ParameterList(torch.full((), 1.0) for _ in range(40))

        def encode(self, x):
            z = super().encode(x)
            for layer in self.layers:
                z = z * layer.mul(40 * layer.detach()).sub(39).exp()
            return z

    findings = found(Steep)
    assert [findings[name].status for name in ("halves", "bottleneck")] == ["ok", "ok"]


def test_a_refusal_is_no_failure():
    class Refuses(Good):
        def __init__(self) -> None:
            raise AezooError("needs images of at least 99x99 pixels")

    findings = found(Refuses)
    assert findings["builds"].status == "refused"
    assert findings["builds"].detail == "needs images of at least 99x99 pixels"
    assert {one.status for one in list(findings.values())[1:]} == {"skipped"}


class LatentOfCodes(Good):
    def encode(self, x):
        return super().encode(x).argmax(1)

    def decode(self, z):
        return super().decode(nn.functional.one_hot(z, 4).float())


def test_a_latent_of_codes_is_told_where_codes_belong():
    told = "got a tensor (8,); codes are told by methods codes and from_codes and by codebook_size, and encode returns"
    assert told in found(LatentOfCodes)["latent"].detail


def test_a_tutorials_class_is_told_to_be_flat():
    class Tutorial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(PIXELS, 2), nn.Linear(2, PIXELS)

        def forward(self, x):
            return self.decoder(self.encoder(x))

    told = (
        "it works on flat images; bench in its place: a function that returns aezoo.Flat(module, image_shape), module"
    )
    assert told in found(Tutorial)["output"].detail
    flat = found(lambda: aezoo.Flat(Tutorial(), SHAPE))
    assert {one.status for name, one in flat.items() if name not in SKIPPED} == {"ok", "note"}


def test_the_sample_images_can_tell_networks_apart():
    images = sample_images((3, 9, 4), count=5)
    assert (images.shape, images.dtype) == ((5, 3, 9, 4), torch.uint8)
    assert torch.equal(images, sample_images((3, 9, 4), count=5))
    for one, other in itertools.combinations(images, 2):
        assert not torch.equal(one, other)


def test_a_small_leak_shows_though_an_untrained_network_hardly_depends_on_its_input():
    """The untrained reference answers nearly the same to all images: what is close is held against that."""

    class Leak(aezoo.Autoencoder):
        def forward(self, x):
            return super().forward(x) + 3e-5 * x

    def build(image_shape):
        whole = aezoo.create("mlp", image_shape=image_shape)
        return Leak(whole.encoder, whole.decoder)

    architecture = Architecture(name="leak", build=build, summary="s", reference="r")
    variant = Variant(architecture=architecture, hyperparameters={}, label="leak")
    with pytest.raises(ContractError, match="something passes around the bottleneck"):
        checks_of_latent.check_halves(Case(variant, sample_images((1, 28, 28))))


LARGE = (3, 64, 64)
"""On such images the quick part of the suite, which a bench runs too, will do."""


@pytest.mark.parametrize("shape", [shape for shape in IMAGE_SHAPES if shape != LARGE], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_zoo_meets_the_contract(name, shape, monkeypatch):
    if shape != IMAGE_SHAPES[0]:
        # What is informative cannot fail, and trying for a CUDA graph is the dearest of all checks.
        monkeypatch.setattr(suite, "CHECKS", [check for check in CHECKS if not check.informative])
    for variant in discover().select([f"{name}[]"]):
        statuses = {one.check: one for one in examine(Case(variant, sample_images(shape)))}
        assert [one for one in statuses.values() if one.status not in ("ok", "note", "skipped")] == []


DICTIONARIES = ("batch_topk", "gated", "jumprelu", "matryoshka", "sparse_kl", "sparse_l1", "topk", "winner_take_all")
FEW = dict.fromkeys(DICTIONARIES, "width=32") | {"kernel_pca": "landmarks=100", "kan": "width=16"}
"""The longer the more entries, landmarks or units they have: a few will do here."""
WITH_LATENT = [name for name in ARCHITECTURES if name not in FILES]


@pytest.mark.parametrize("text", [f"{name}[{FEW.get(name, '')}]" for name in WITH_LATENT])
def test_the_zoo_takes_images_of_64_pixels_with_latents_as_large_as_at_28(text):
    """So that there is something to be ranked against. The other sizes are in the test above."""
    (variant,) = discover().select([text])
    small, large = (Case(variant, sample_images(shape)) for shape in ((1, 28, 28), LARGE))
    findings = {one.check: one for one in examine(large, quick=True)}
    assert [one for one in findings.values() if one.status not in ("ok", "note", "skipped")] == []
    assert findings["latent"].detail == checks_of_latent.check_latent(small)
    # Parameters grow no faster than pixels: 15.7 times as many.
    assert num_params(large.module()) < 16 * num_params(small.module())
