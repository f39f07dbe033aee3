"""The loop, the streams and the score: equal batches for all, and figures that do not depend on what they must not."""

import itertools
import math
import shutil
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import aezoo
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.recipe import Recipe
from aezoo.errors import ContractError
from aezoo.harness import timing
from aezoo.harness.preflight import preflight
from aezoo.registry.discovery import discover
from aezoo.train.build import Stream, build, seed_stream, stream_seed
from aezoo.train.engine import Trainer, arithmetic
from aezoo.train.layout import choose_layout, lay_out
from aezoo.train.loop import DivergedError, batch_indices, train
from aezoo.train.score import image_errors

RECIPE = Recipe(name="t", steps=120, batch_size=16, lr=1e-2)
IMAGES = torch.randint(0, 256, (50, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
X = IMAGES[:8].float() / 255


class Small(nn.Module):
    """The smallest autoencoder; cases below break it in one way each."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4)))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def check(module_class, hyperparameters=None):
    def build(image_shape, *, latent_dim: int = 2):
        return module_class()

    architecture = Architecture(name="case", build=build, summary="s", reference="r")
    variant = Variant(architecture=architecture, hyperparameters=hyperparameters or {"latent_dim": 2}, label="case")
    return preflight(variant, IMAGES, RECIPE)


@given(size=st.integers(1, 40), batch=st.integers(1, 60), seed=st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_every_batch_is_full_and_every_epoch_shows_each_image_once(size, batch, seed):
    taken = torch.cat(list(itertools.islice(batch_indices(size, batch, seed), math.ceil(3 * size / batch))))
    for epoch in range(3):
        assert sorted(taken[epoch * size : (epoch + 1) * size].tolist()) == list(range(size))


def test_the_streams_of_a_trial_are_apart():
    seeds = {stream_seed(seed, stream) for seed in range(50) for stream in Stream}
    assert len(seeds) == 50 * len(Stream)


def test_every_architecture_sees_the_same_batches_however_much_it_draws():
    class Greedy(Small):
        def __init__(self) -> None:
            super().__init__()
            self.seen = []

        def training_forward(self, x):
            self.seen.append(x.clone())
            torch.rand(self.draws)
            return aezoo.TrainingOutput(self(x))

    seen = []
    for draws in (0, 1000):
        seed_stream(3, Stream.INITIALISATION)
        torch.rand(draws)
        module = Greedy()
        module.draws = draws
        train(module, IMAGES, RECIPE, 3, lambda _: None)
        seen.append(torch.stack(module.seen))
    assert torch.equal(*seen)
    assert len(seen[0]) == RECIPE.steps


def test_the_loss_is_the_harness_own_mse_plus_the_penalty():
    """One step with Adam by hand, on the batch that the stream deals, gives the same weights."""

    class Penalised(Small):
        def training_forward(self, x):
            return aezoo.TrainingOutput(self(x), penalty=0.1 * self.encoder(x).square().mean())

    torch.manual_seed(0)
    ours = Penalised()
    byhand = Penalised()
    byhand.load_state_dict(ours.state_dict())
    train(ours, IMAGES, RECIPE.change(steps=3), 5, lambda _: None)
    optimizer = torch.optim.Adam(byhand.parameters(), lr=RECIPE.lr, fused=True)
    for indices in itertools.islice(batch_indices(len(IMAGES), RECIPE.batch_size, 5), 3):
        x = IMAGES[indices].float() / 255
        optimizer.zero_grad()
        output = byhand.training_forward(x)
        (F.mse_loss(output.reconstruction, x) + output.penalty).backward()
        optimizer.step()
    for one, other in zip(ours.parameters(), byhand.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_curve_ends_at_the_budget_and_falls():
    torch.manual_seed(0)
    steps = []
    trained = train(Small(), IMAGES, RECIPE, 0, lambda pause: steps.append(pause.steps))
    assert [step for step, _ in trained.curve] == [50, 100, 120] == steps
    assert trained.curve[-1][1] < trained.curve[0][1]


@pytest.mark.parametrize("batch_size", [1, 7, 32, 1000])
def test_the_score_does_not_depend_on_the_evaluation_batch(batch_size):
    torch.manual_seed(0)
    module = Small()
    reference = (module(IMAGES.float() / 255).detach().double() - IMAGES.double() / 255).square().mean()
    assert float(image_errors(module, IMAGES, batch_size).mean()) == pytest.approx(float(reference), rel=1e-6)


def test_a_perfect_copy_scores_zero_and_images_are_not_mixed():
    assert image_errors(nn.Identity(), IMAGES).tolist() == [0.0] * len(IMAGES)
    errors = image_errors(nn.Threshold(0.5, 0.0), IMAGES, 7)
    x = IMAGES.double() / 255
    torch.testing.assert_close(errors, (x * (x <= 0.5)).square().flatten(1).mean(1), rtol=1e-6, atol=0)


def test_the_score_is_taken_in_evaluation_mode_against_what_the_network_never_touched():
    class Cheat(nn.Module):
        def forward(self, x):
            assert not self.training
            return x.zero_()

    expected = (IMAGES.double() / 255).square().mean()
    assert float(image_errors(Cheat().train(), IMAGES).mean()) == pytest.approx(float(expected), rel=1e-6)


def test_an_infinite_loss_is_diverged_at_its_step():
    class Explodes(Small):
        steps = 0

        def training_forward(self, x):
            self.steps += 1
            return aezoo.TrainingOutput(self(x) * (float("inf") if self.steps == 60 else 1))

    with pytest.raises(DivergedError, match="not finite at step 60$"):
        train(Explodes(), IMAGES, RECIPE, 0, lambda _: None)


class Spy(Small):
    """Notes in which dtype its first layer computes, and in which its gradients come."""

    seen: list[torch.dtype]

    def forward(self, x):
        code = self.encoder(x)
        self.seen.append(code.dtype)
        return self.decoder(code)


def test_bfloat16_is_for_products_and_all_else_stays_float32():
    module = Spy()
    module.seen = []
    recipe = RECIPE.change(precision="bfloat16", steps=3)
    train(module, IMAGES, recipe, 0, lambda _: None)
    assert module.seen == [torch.bfloat16] * 3
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in module.parameters()} == {torch.float32}
    image_errors(module, IMAGES, "bfloat16")
    image_errors(module, IMAGES, "float32")
    assert module.seen[3:] == [torch.bfloat16, torch.float32]


def test_tf32_is_asked_for_where_it_is_and_nowhere_else():
    def asked():
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    before = asked()
    with arithmetic("tf32", "cuda"):
        assert asked() == ("high", True)
    assert asked() == before
    with arithmetic("float32", "cuda"):
        assert asked() == before


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiling_leaves_the_network_as_it_was():
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Unflatten(1, (1, 4, 4)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = Trainer(module, RECIPE, compiled=True)
    assert trainer.compile(X) > 0
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    eager = Trainer(deepcopy(module), RECIPE)
    assert float(trainer.step(X)) == pytest.approx(float(eager.step(X)), rel=1e-5)


def test_the_clock_takes_the_median_of_its_blocks(monkeypatch):
    now, calls = [0.0], []

    def call():
        calls.append(1)
        # The machine stands still for long, once, in the second block.
        now[0] += 100.0 if len(calls) == 16 else 0.01

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    # One call before all, a warm-up of 7, then five blocks of five.
    assert timing.calls_per_s(call, 0.25, "cpu") == pytest.approx(100)
    assert len(calls) > 16


class WrongShape(Small):
    def forward(self, x):
        return super().forward(x).flatten(1)


class WrongDtype(Small):
    def forward(self, x):
        return super().forward(x).double()


class NotFinite(Small):
    def forward(self, x):
        return super().forward(x) / 0


class InPlace(Small):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


class InPlaceInTraining(Small):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x.mul_(0.5)))


class WrongLatent(Small):
    def __init__(self) -> None:
        super().__init__()
        self.encoder[1], self.decoder[0] = nn.Linear(16, 3), nn.Linear(3, 16)


class LatentPair(Small):
    def encode(self, x):
        return self.encoder(x), 1

    def decode(self, z):
        return self.decoder(z[0])


class NotATensor(Small):
    def forward(self, x):
        return [super().forward(x)]


class BareTuple(Small):
    def training_forward(self, x):
        return self(x), None


class VectorPenalty(Small):
    objective = "mse + x"

    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), penalty=x.flatten(1).mean(1))


class InfinitePenalty(Small):
    objective = "mse + x"

    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), penalty=self(x).sum() / 0)


class HiddenPenalty(Small):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x), penalty=self.encoder(x).square().mean())


class HiddenPath(Small):
    def forward(self, x):
        return 0.9 * x + 0.1 * super().forward(x)


class UNetInDisguise(Small):
    """Its encoder keeps what it saw, and its decoder adds it: all is well while one image is decoded at once."""

    def encode(self, x):
        self.seen = x
        return self.encoder(x)

    def decode(self, z):
        return self.decoder(z) + self.seen

    def forward(self, x):
        return self.decode(self.encode(x))


class BlankObjective(Small):
    objective = ""


class Detached(Small):
    def training_forward(self, x):
        return aezoo.TrainingOutput(self(x).detach())


@pytest.mark.parametrize(
    ("case", "told"),
    [
        (WrongShape, r"expected reconstructions of shape \(8, 1, 4, 4\), got \(8, 16\)"),
        (WrongDtype, "of dtype torch.float32, got torch.float64"),
        (NotFinite, "NaN or infinite pixels"),
        (InPlace, "changes its input in place"),
        (InPlaceInTraining, "changes its input in place while it trains"),
        (WrongLatent, "latent_dim=2, but the encoder's latent has 3 numbers"),
        (LatentPair, r"latent of shape \(8, ...\), or a tuple .* got a tuple of 2: 0 \(8, 2\), 1 int"),
        (NotATensor, "forward must return the reconstruction alone, a tensor .* but returned a list of 1"),
        (BareTuple, "must return aezoo.TrainingOutput.* but returned tuple"),
        (VectorPenalty, "penalty must be a scalar"),
        (InfinitePenalty, "expected a finite penalty"),
        (HiddenPenalty, "adds a penalty, but objective says 'mse'"),
        (HiddenPath, "something passes around the bottleneck"),
        (UNetInDisguise, "passes around the bottleneck"),
        (BlankObjective, "objective must be a line of text"),
        (Detached, "does not depend on a parameter"),
        (nn.Identity, "no parameter to train"),
        (dict, "build must return an nn.Module, but returned dict"),
    ],
)
def test_each_breach_of_the_contract_is_named_before_the_bench(case, told):
    with pytest.raises(ContractError, match=told):
        check(case)


def test_the_same_checks_pass_what_keeps_the_contract(monkeypatch):
    monkeypatch.setattr("aezoo.machine.is_own_process", lambda: True)
    found = check(Small)
    assert (found.num_params, found.latent_shape, found.latent_size, found.objective) == (82, (2,), 2, "mse")
    assert found.flops_per_image == 2 * (16 * 2 + 2 * 16)
    assert found.step_seconds > 0
    # Backward: both layers' weights, and the input of the second.
    assert found.train_flops_per_image == 2 * (16 * 2 + 2 * 16) * 2 + 2 * 2 * 16
    # Of a process that came to more before, this is not the truth; a trial has one of its own.
    assert 0 <= found.infer_peak_memory_bytes <= found.peak_memory_bytes


class Attends(Small):
    """What a transformer's plugin may do: ask by learnt queries, and attend by torch's own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.zeros(4, 2))
        self.ask = nn.Linear(2, 2)
        self.layer = nn.TransformerEncoderLayer(2, 1, 8, dropout=0.0, batch_first=True)

    def encode(self, x):
        asked = self.ask(self.queries.expand(len(x), -1, -1))
        return self.encoder(x) + self.layer(asked).mean(1)

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


def test_products_are_counted_of_queries_that_are_parameters_and_of_torchs_own_transformer_layer():
    # Of 4 tokens of width 2: three maps and one back, an MLP of 8. Of scores and means torch counts none on a CPU.
    layer = 4 * 2 * 2 * 4 + 2 * 4 * 2 * 8
    assert check(Attends).flops_per_image == 2 * (16 * 2 + 2 * 16 + 4 * 2 * 2 + layer)


def test_a_network_too_big_for_the_memory_is_refused_before_it_is_allocated():
    with pytest.raises(MemoryError, match=r"^its 100,000,010,000,000 parameters, .* need 1,600,000.2 GB, but .* free$"):
        check(lambda: nn.Sequential(nn.Linear(10**7, 10**7), nn.Identity()))


class Tutorial(nn.Module):
    """The classic tutorial's class, on flat images."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 2))
        self.decoder = nn.Sequential(nn.Linear(2, 16), nn.Sigmoid())

    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_flat_wraps_a_module_on_flat_images_with_all_that_it_has():
    class Penalised(Tutorial):
        objective = "mse + size"

        def training_forward(self, x):
            return aezoo.TrainingOutput(self(x), penalty=self.encoder(x).mean() * 0 + len(x))

    torch.manual_seed(0)
    inner = Penalised()
    module = aezoo.Flat(inner, (1, 4, 4))
    assert torch.equal(module(X).flatten(1), inner(X.flatten(1)))
    assert torch.equal(module.training_forward(X).reconstruction, module(X))
    assert float(module.training_forward(X).penalty) == len(X)
    assert check(lambda: aezoo.Flat(Penalised(), (1, 4, 4))).objective == "mse + size"
    assert check(lambda: aezoo.Flat(Tutorial(), (1, 4, 4))).latent_shape == (2,)
    with pytest.raises(ContractError, match=r"expected flat images of shape \(B, 16\) from Linear, got \(8, 9\)"):
        aezoo.Flat(nn.Linear(16, 9), (1, 4, 4))(X)


# Layout --------------------------------------------------------------------------------------------------------------


class Views(nn.Module):
    """Calls `view` on feature maps, which cannot be done with channels last."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1)
        self.back = nn.Conv2d(4, 1, 3, padding=1)
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        maps = self.convolution(x)
        return self.back(maps.view(len(x), -1).view_as(maps) if self.where == "forward" else maps)

    def training_forward(self, x: Tensor) -> aezoo.TrainingOutput:
        maps = self.convolution(x)
        return aezoo.TrainingOutput(
            self.back(maps.view(len(x), -1).view_as(maps) if self.where == "training" else maps)
        )


@pytest.mark.parametrize(
    ("module", "layout"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)), "channels_last"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.Unflatten(1, (1, 6, 6))), "contiguous"),
        (Views("nowhere"), "channels_last"),
        (Views("forward"), "contiguous"),
        (Views("training"), "contiguous"),
    ],
    ids=["convolutions", "none", "no view", "a view in forward", "a view in training_forward"],
)
def test_convolutions_lie_channels_last_unless_the_network_cannot_run_so(module, layout):
    images = torch.arange(2 * 36, dtype=torch.uint8).view(2, 1, 6, 6)
    assert choose_layout(module, images, RECIPE) == layout


def test_a_layout_changes_no_loss_but_for_rounding():
    pixels = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    variant = discover().resolve("conv")
    curves = []
    for layout in ("contiguous", "channels_last"):
        module = lay_out(build(variant, pixels, seed=0), layout)
        assert module.encoder[2].weight.is_contiguous() == (layout == "contiguous")
        curves.append(train(module, pixels, RECIPE.change(steps=20, batch_size=16), 0, lambda _: None).curve)
    assert curves[0][0][1] == pytest.approx(curves[1][0][1], rel=1e-4)


def test_a_data_set_held_as_floats_trains_to_the_very_same_network(monkeypatch):
    pixels = torch.randint(0, 256, (64, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    states = []
    for limit in (0, 2**24):
        monkeypatch.setattr("aezoo.train.loop.HELD_AS_FLOATS", limit)
        module = build(discover().resolve("mlp"), pixels, seed=0)
        train(module, pixels, RECIPE.change(steps=20, batch_size=16), 0, lambda _: None)
        states.append(module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
