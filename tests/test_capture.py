"""Steps of a training in CUDA graphs, and several trainings at once.

Here a replay calls the steps again. All else is as on an NVIDIA device, which `benchmarks/device.py` looks at.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_runs import make_run, variant
from torch import nn

import aezoo
from aezoo import machine
from aezoo.check.capture import CaptureError, draws_when_captured
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.recipe import Recipe
from aezoo.harness import call, opening
from aezoo.harness import preflight as preflights
from aezoo.harness.observer import Observer
from aezoo.harness.request import Request
from aezoo.harness.tasks import trial_task
from aezoo.harness.timing import train_images_per_s
from aezoo.run.store import SAMPLES, TEST_ERRORS, WEIGHTS
from aezoo.table.rows import summarise
from aezoo.train import graph
from aezoo.train.engine import Trainer
from aezoo.train.graph import GRAPH_STEPS, GraphedSteps
from aezoo.train.loop import DivergedError, Pause, Trained, Training, train, train_side_by_side

IMAGES = torch.randint(0, 256, (96, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RECIPE = Recipe(name="t", steps=127, batch_size=16)


def network(seed: int, *, noise: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    dropout = [nn.Dropout(0.2)] if noise else []
    return aezoo.Autoencoder(
        nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), *dropout, nn.ReLU(), nn.Linear(8, 2)),
        nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, (1, 6, 6))),
    )


def same(module: nn.Module, other: nn.Module) -> bool:
    pairs = zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("noise", [False, True])
def test_a_training_by_graphs_is_the_one_of_single_steps_to_the_bit(noise):
    module, other = network(0, noise=noise), network(0, noise=noise)
    single = train(module, IMAGES, RECIPE, 3, lambda _: None)
    graphed = train(other, IMAGES, RECIPE, 3, lambda _: None, graphed=True)
    assert same(module, other)
    assert graphed.curve == single.curve
    assert (single.graph_steps, graphed.graph_steps) == (None, GRAPH_STEPS)


def test_it_goes_on_from_a_checkpoint_to_the_same_bits():
    states = []

    def keep(pause: Pause) -> None:
        if pause.steps == 50:
            states.append(pause.state())

    module, other = network(0), network(1)
    whole = train(module, IMAGES, RECIPE, 3, keep, graphed=True)
    resumed = train(other, IMAGES, RECIPE, 3, lambda _: None, graphed=True, resumed=states[0])
    assert same(module, other)
    assert resumed.curve == whole.curve


def test_too_few_steps_are_taken_on_their_own():
    assert (
        train(network(0), IMAGES, RECIPE.change(steps=GRAPH_STEPS), 0, lambda _: None, graphed=True).graph_steps is None
    )


def test_trainings_side_by_side_come_to_what_each_comes_to_alone():
    alone, beside = [network(seed) for seed in range(3)], [network(seed) for seed in range(3)]
    curves = [train(module, IMAGES, RECIPE, seed, lambda _: None).curve for seed, module in enumerate(alone)]
    heard = []
    results = train_side_by_side(
        [Training(module, IMAGES, RECIPE, seed, graphed=True, apart=True) for seed, module in enumerate(beside)],
        lambda number, pause: heard.append((number, pause.steps)),
    )
    assert [result.curve for result in results if isinstance(result, Trained)] == curves
    assert all(map(same, alone, beside))
    assert heard == [(number, steps) for steps in (50, 100, 127) for number in range(3)]


def test_one_that_fails_or_diverges_ends_alone():
    class Fails(aezoo.Autoencoder):
        steps = 0

        def training_forward(self, x):
            self.steps += 1
            if self.steps > 60:
                raise ArithmeticError("of its own")
            return aezoo.TrainingOutput(self(x))

    fails, diverges, module, alone = network(0), network(1), network(2), network(2)
    fails = Fails(fails.encoder, fails.decoder)
    with torch.no_grad():
        diverges.encoder[1].weight.fill_(torch.inf)
    results = train_side_by_side(
        [Training(each, IMAGES, RECIPE, 2, graphed=True, apart=True) for each in (fails, diverges, module)],
        lambda *_: None,
    )
    train(alone, IMAGES, RECIPE, 2, lambda _: None)
    assert isinstance(results[0], ArithmeticError)
    assert isinstance(results[1], DivergedError)
    assert isinstance(results[2], Trained)
    assert same(module, alone)


def variant_of(training_forward) -> Variant:
    """Return a variant whose network trains so."""

    class Network(aezoo.Autoencoder):
        pass

    Network.training_forward = training_forward

    def build_it(image_shape):
        return Network(
            nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, (1, 6, 6)))
        )

    architecture = Architecture(name="n", build=build_it, summary="s", reference="r")
    return Variant(architecture=architecture, hyperparameters={}, label="n")


def counts(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return aezoo.TrainingOutput(self(x))


def forgets(self, x):
    if not hasattr(self, "count"):
        self.register_buffer("count", torch.zeros(()))
        self.warm = True
    self.count += 1
    if self.count == GRAPH_STEPS + 5:
        del self.warm
    return aezoo.TrainingOutput(self(x))


def draws_from_numpy(self, x):
    return aezoo.TrainingOutput(self(x * float(np.random.rand())))


def draws_from_torch(self, x):
    return aezoo.TrainingOutput(self(x + 0.1 * torch.randn_like(x)))


def holds_a_tensor(self, x):
    self.before = x[0].mean()
    return aezoo.TrainingOutput(self(x))


def plain(self, x):
    return aezoo.TrainingOutput(self(x))


@pytest.mark.parametrize(
    ("training_forward", "reason"),
    [
        (counts, "the attribute 'calls' of Network changes as it trains, and is no buffer"),
        (forgets, "the attribute 'warm' of Network changes as it trains, and is no buffer"),
        (holds_a_tensor, "the attribute 'before' of Network changes as it trains"),
        (draws_from_numpy, "it draws random numbers on the host"),
    ],
)
def test_what_a_graph_would_freeze_is_named(training_forward, reason):
    with pytest.raises(CaptureError, match=reason):
        draws_when_captured(variant_of(training_forward), IMAGES[:16], RECIPE, "contiguous")


def test_random_numbers_of_the_device_are_no_fault():
    assert draws_when_captured(variant_of(draws_from_torch), IMAGES[:5], RECIPE, "contiguous")
    assert not draws_when_captured(variant_of(plain), IMAGES[:16], RECIPE, "contiguous")


def test_a_replay_that_comes_to_something_else_is_refused(monkeypatch):
    def once(call, _):
        call()
        return lambda: None

    monkeypatch.setattr(graph, "captured", once)
    with pytest.raises(CaptureError, match="its losses are not those of steps that are taken one by one"):
        draws_when_captured(variant_of(plain), IMAGES[:16], RECIPE, "contiguous")


def test_a_capture_that_fails_says_why(monkeypatch):
    def fails(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graph, "captured", fails)
    with pytest.raises(CaptureError, match="^RuntimeError: operation not permitted when stream is capturing"):
        draws_when_captured(variant_of(plain), IMAGES[:16], RECIPE, "contiguous")


def test_a_gradient_that_comes_late_is_refused():
    module = network(0)
    steps = GraphedSteps(Trainer(module, RECIPE))
    late = module.decoder[0].bias.requires_grad_(False)
    batches = [IMAGES[:16]] * GRAPH_STEPS
    steps.take(batches)
    late.requires_grad_(True)
    with pytest.raises(aezoo.AezooError, match="its first gradient after the first steps"):
        steps.take(batches)


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        ({}, {"graph_steps": GRAPH_STEPS, "room": 1}),
        ({"graphed": False}, {"graph_missing": "none was to be made (--no-graphs)"}),
        ({"compiled": True}, {"graph_missing": "its steps are compiled"}),
        ({"processes": 2}, {"graph_missing": "it trains in several processes"}),
    ],
)
def test_what_a_preflight_says_of_graphs(settings, facts):
    assert preflights.graph_facts(variant_of(plain), IMAGES[:16], RECIPE, "contiguous", **settings) == facts


def test_a_clock_times_replays(monkeypatch):
    taken = []
    real = GraphedSteps.take
    monkeypatch.setattr(
        GraphedSteps, "take", lambda steps, batches: (taken.append(len(batches)), real(steps, batches))[1]
    )
    assert train_images_per_s(network(0), IMAGES[:16], RECIPE, 0.01, "cpu", graphed=True) > 0
    assert set(taken) == {GRAPH_STEPS}


def test_seeds_together_and_checkpoints_exclude_each_other():
    with pytest.raises(aezoo.AezooError, match="trials whose seeds run together keep no checkpoints"):
        Request.of({"seeds_together": 2, "checkpoint_minutes": 1.0})


def test_a_task_of_seeds_trains_them_side_by_side_and_has_the_records_of_trials_alone(tiny, tmp_path):
    """In this process, with a preflight that says that a graph can be made."""
    recipe = Recipe(name="t", dataset="tiny", steps=60, batch_size=16, seeds=3)
    settings = {"recipe": recipe, "timing": False, "report": False, "device": "cpu"}
    alone = {record.trial_id: record for record in aezoo.bench(["mlp[]"], out=tmp_path / "alone", **settings).records()}
    request = call.Request.of({"variants": ["mlp[]"], "out": tmp_path / "together", "seeds_together": 3, **settings})
    reports = []
    with opening.tried_grid(request, Observer()) as grid:
        work = trial_task(grid, [plan for plan in grid.missing() if plan.variant == "mlp"]).work
        preflight = work.preflight.model_copy(update={"graph_steps": GRAPH_STEPS})
        with machine.configured(1):
            results = replace(work, preflight=preflight).run(reports.append)
    assert reports[-1].steps == 180
    for result in results:
        record = result.record
        assert record.status == "ok", record.reason
        assert record.test_errors_sha256 == alone[record.trial_id].test_errors_sha256
        assert (record.side_by_side, record.graph_steps, record.peak_memory_bytes) == (3, GRAPH_STEPS, None)
        assert set(result.files) == {TEST_ERRORS, WEIGHTS, SAMPLES}


def test_the_table_says_what_gave_the_device_its_steps_and_why_no_graph_did(tmp_path):
    curve = [(10, 0.1)]
    variants = [
        variant("single", curve=curve, graph_missing="it waits"),
        variant("graphed", curve=curve, graph_steps=10),
        variant("beside", curve=curve, graph_steps=10, side_by_side=3),
        variant("fitted", curve=[]),
    ]
    table = summarise(make_run(tmp_path / "run", variants, samples=False)).set_index("variant")
    assert dict(table["steps_by"].dropna()) == {
        "single": "python", "graphed": "graph of 10", "beside": "graph of 10",
    }  # fmt: skip
    assert dict(table["side_by_side"]) == {"single": 1, "graphed": 1, "beside": 3, "fitted": 1}
    assert dict(table["no_graph"].dropna()) == {"single": "it waits"}
