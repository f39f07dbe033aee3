"""What a recipe may say of updates: each is torch's own, goes on from a checkpoint, and is captured for a graph."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

import aezoo
from aezoo.check.capture import draws_when_captured
from aezoo.check.resume import resumption_fault
from aezoo.contract.recipe import Recipe, fingerprint
from aezoo.registry.discovery import discover
from aezoo.train.engine import Trainer
from aezoo.train.loop import train
from aezoo.train.optimiser import rate_factor

STEPS = 10
UPDATES = {
    "adam": {},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01},
    "muon": {"optimizer": "muon"},
    "cosine": {"schedule": "cosine", "warmup": 0.2},
    "linear": {"schedule": "linear"},
    "clipped": {"clip_norm": 0.01},
    "averaged": {"ema": 0.9},
    "all": {"optimizer": "muon", "schedule": "cosine", "warmup": 0.3, "clip_norm": 1.0, "ema": 0.9},
}
IMAGES = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def recipe(steps: int = STEPS, **settings) -> Recipe:
    return Recipe(name="t", steps=steps, batch_size=16, **settings)


def network(text: str = "conv[latent_dim=4]") -> nn.Module:
    torch.manual_seed(0)
    return aezoo.create(text, image_shape=(1, 8, 8))


def by_hand(module: nn.Module, optimiser: torch.optim.Optimizer, x, *, factor=lambda _: 1.0, clip=None) -> nn.Module:
    """Train with torch's own class, its scheduler and autograd's mean of squares."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    for _ in range(STEPS):
        optimiser.zero_grad()
        nn.functional.mse_loss(module(x), x).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimiser.step()
        scheduler.step()
    return module


def assert_same(module: nn.Module, other: nn.Module) -> None:
    for ours, theirs in zip(module.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


CLASSES = {
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
}


@pytest.mark.parametrize("name", CLASSES)
def test_each_optimiser_is_torchs_own_with_schedule_and_clipping(name):
    settings = {**UPDATES[name], "schedule": "linear", "warmup": 0.2, "clip_norm": 0.05}
    x, module = torch.rand(16, 1, 8, 8), network()
    other = deepcopy(module)
    trainer = Trainer(module, recipe(**settings))
    for _ in range(STEPS):
        trainer.step(x)
    # Two steps to warm up, and then a line that would reach 0 at the tenth.
    factor = lambda done: (done + 1) / 2 if done < 2 else 1 - (done - 2) / 8  # noqa: E731
    assert_same(module, by_hand(other, CLASSES[name](other.parameters()), x, factor=factor, clip=0.05))


def test_muon_updates_matrices_as_torchs_class_does_and_the_rest_as_adamw():
    x, module = torch.rand(16, 1, 8, 8), network("linear[latent_dim=4]")
    other = deepcopy(module)
    trainer = Trainer(module, recipe(optimizer="muon"))
    matrices = [each for each in other.parameters() if each.ndim == 2]
    vectors = [each for each in other.parameters() if each.ndim == 1]
    assert len(matrices) == len(vectors) == 2
    muon = torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(vectors, lr=1e-3, weight_decay=0.1)
    for _ in range(STEPS):
        trainer.step(x)
        other.zero_grad()
        nn.functional.mse_loss(other(x), x).backward()
        muon.step()
        adamw.step()
    assert_same(module, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_a_kernel_as_a_matrix_however_it_lies_in_memory(layout):
    kernel = nn.Conv2d(3, 5, 3)
    module = nn.Sequential(kernel, nn.ConvTranspose2d(5, 3, 3)).to(memory_format=layout)
    trainer, x = Trainer(module, recipe(optimizer="muon", weight_decay=0.0)), torch.rand(16, 3, 8, 8)
    before = kernel.weight.detach().clone()
    trainer.step(x)
    moved = (kernel.weight.detach() - before).flatten(1)
    # Its singular values are near to equal: a step of Muon turns, and does not stretch.
    values = torch.linalg.svdvals(moved)
    assert float(values.max() / values.min()) < 3
    # As large as a step of Adam's, 0.2 a weight.
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.2e-3, rel=0.3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1.0] * 10),
        ({"schedule": "linear"}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ({"warmup": 0.4}, [0.25, 0.5, 0.75, *[1.0] * 7]),
        ({"schedule": "cosine", "warmup": 0.2}, [0.5, 1, *((1 + math.cos(math.pi * k / 8)) / 2 for k in range(8))]),
    ],
)
def test_a_rate_goes_as_its_schedule_says(settings, expected):
    factors = [rate_factor(recipe(**settings), done, STEPS) for done in range(STEPS)]
    assert factors == pytest.approx(expected)


def test_a_schedule_is_over_the_whole_training_whatever_unit_its_budget_has():
    rates = []
    for budget in ({"steps": 8}, {"epochs": 2.0}, {"images": 128}):
        module = network()
        train(module, IMAGES, Recipe(name="t", batch_size=16, schedule="cosine", **budget), 0, lambda _: None)
        rates.append([each.detach() for each in module.parameters()])
    for first, *others in zip(*rates, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_the_average_is_scored_and_is_the_mean_of_few_steps():
    x, module = torch.rand(16, 1, 8, 8), network()
    trainer = Trainer(module, recipe(ema=0.9))
    weights = []
    for _ in range(5):
        trainer.step(x)
        weights.append(module.encoder[0].weight.detach().clone())
    trainer.finish()
    torch.testing.assert_close(module.encoder[0].weight.detach(), torch.stack(weights).mean(0))


def test_an_average_forgets_and_leaves_what_never_changes_to_the_bit():
    module = network()
    constant = torch.rand(7)
    module.register_buffer("constant", constant.clone())
    module.register_buffer("count", torch.zeros((), dtype=torch.int64))
    trainer, x = Trainer(module, recipe(ema=0.5)), torch.rand(16, 1, 8, 8)
    average = None
    for step in range(1, 7):
        trainer.step(x)
        now = module.encoder[0].bias.detach().double()
        weight = max(1 / step, 0.5)
        average = now if average is None else average + weight * (now - average)
    trainer.finish()
    torch.testing.assert_close(module.encoder[0].bias.detach().double(), average, rtol=1e-5, atol=1e-7)
    assert torch.equal(module.constant, constant)


@pytest.mark.parametrize("name", UPDATES)
def test_each_goes_on_from_a_checkpoint_to_the_same_bits_and_can_be_captured(name):
    variant = discover().resolve("conv[latent_dim=4]")
    settings = recipe(steps=40, **UPDATES[name])
    assert resumption_fault(variant, IMAGES, settings, "contiguous") is None
    assert not draws_when_captured(variant, IMAGES, settings, "contiguous")


@pytest.mark.parametrize("name", [name for name in UPDATES if name != "adam"])
def test_each_is_in_the_fingerprint_and_the_default_one_is_as_it_was(name):
    marks = {
        each: fingerprint(recipe(**UPDATES[each]).loss_settings(num_train=64, dataset_sha256="d")) for each in UPDATES
    }
    assert len(set(marks.values())) == len(UPDATES)
    plain = recipe().loss_settings(num_train=64, dataset_sha256="d")
    assert set(plain) == {
        "dataset", "batch_size", "loss", "optimizer", "lr", "schedule", "precision", "steps", "dataset_sha256",
    }  # fmt: skip


def test_a_recipe_says_how_it_updates():
    assert recipe().updates == "adam, learning rate 0.001"
    assert recipe(**UPDATES["all"]).updates == (
        "muon, learning rate 0.001, weight decay 0.1, momentum 0.95, cosine, 30 % warm-up, gradients clipped at 1, "
        "averaged by 0.9"
    )
    tuned = recipe(optimizer="sgd", lr=[1e-3, 1e-2], validation=0.1)
    assert tuned.updates == "sgd, each variant's best learning rate of 0.001, 0.01, momentum 0.9"
    assert recipe(optimizer="sgd").change(optimizer="adam") == recipe()


def test_a_bench_says_how_it_updates_and_learns(tiny, tmp_path):
    settings = Recipe(name="t", dataset="tiny", steps=200, batch_size=16, lr=0.03, **UPDATES["all"])
    run = aezoo.bench(["linear[latent_dim=2]"], recipe=settings, out=tmp_path / "run", device="cpu", timing=False)
    table = run.table().set_index("variant")
    assert table.loc["linear[latent_dim=2]", "test_mse"] < 0.5 * table.loc["mean", "test_mse"]
    assert "muon, learning rate 0.03, weight decay 0.1" in (tmp_path / "run" / "table.md").read_text()
