"""Every first-party architecture, through the registry: the contract, and what theory fixes."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from zoo import VARIANTS

import aezoo
from aezoo.check.case import Case
from aezoo.check.suite import examine, sample_images
from aezoo.contract.network import num_params, to_float
from aezoo.contract.recipe import Recipe
from aezoo.errors import ContractError
from aezoo.harness.preflight import preflight
from aezoo.registry.discovery import discover
from aezoo.train.engine import Trainer

ROOT = Path(__file__).parent.parent
RECIPE = Recipe(name="test", steps=1, batch_size=8)


def pixels(count: int, shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8))


@pytest.mark.parametrize("text", VARIANTS)
def test_every_variant_passes_the_preflight_on_images_of_an_odd_size(text):
    found = preflight(discover().resolve(text), pixels(8, (2, 13, 9)), RECIPE)
    assert found.latent_kind in ("continuous", "sparse", "discrete")
    assert (found.latent_kind == "discrete") == (found.latent_bits is not None)
    latent_dim = discover().resolve(text).hyperparameters.get("latent_dim")
    assert latent_dim in (None, found.latent_size)


@pytest.mark.parametrize("text", VARIANTS)
def test_every_variant_takes_a_step_in_bfloat16(text):
    module = discover().resolve(text).build((1, 12, 12))
    if not hasattr(module, "fit"):
        x = to_float(pixels(8, (1, 12, 12)))
        assert torch.isfinite(Trainer(module, RECIPE.change(precision="bfloat16")).step(x))


def test_the_zoo_is_as_large_as_it_says_and_every_family_names_its_source():
    zoo = [one for one, owner in discover().architectures.values() if owner.distribution == "aezoo"]
    assert len(zoo) >= 35
    assert len(VARIANTS) >= 50
    for one in zoo:
        assert re.search(r"\b(18|19|20)\d\d\b", one.reference), one.name
        assert len(one.summary) <= 120, one.name


def test_the_control_is_refused_for_what_it_is():
    with pytest.raises(ContractError, match="something passes around the bottleneck; look at UNet.forward"):
        preflight(discover().resolve("unet"), pixels(8, (1, 28, 28)), RECIPE)
    case = Case(discover().resolve("unet"), sample_images((1, 28, 28)))
    assert [one.check for one in examine(case) if one.status == "failed"] == ["halves"]


@pytest.mark.parametrize(
    ("text", "shape", "told"),
    [
        ("conv", (1, 2, 28), "need images of at least 3x3 pixels, but these are 2x28"),
        ("conv_spatial", (1, 28, 4), "need images of at least 5x5 pixels, but these are 28x4"),
        ("vit[width=30]", (1, 28, 28), "width must be a multiple of heads, 4, but is 30"),
        ("mae[patch=28]", (1, 28, 28), "patch must be smaller than these images"),
        ("topk[k=300]", (1, 28, 28), "k must be 1 to 256, the width, but is 300"),
        ("fsq[levels=(16,16,16,17)]", (1, 28, 28), "levels must be such that they multiply to at most 65536"),
        ("rae[smooth=spectral_norm,weight=1.0]", (1, 28, 28), "weight must be left out with smooth=spectral_norm"),
        ("vit[width=-4]", (1, 28, 28), "width must be at least 1, but is -4"),
        ("vae[beta=0.0]", (1, 28, 28), "beta must be above 0, but is 0.0"),
        ("fsq[levels=(8,2)]", (1, 28, 28), r"levels must be one number or more, each at least 3, but are \(8, 2\)"),
        ("conv[width=0]", (1, 28, 28), "width must be at least 1"),
        ("mlp[latent_dim=0]", (1, 28, 28), "latent_dim must be at least 1"),
        ("linear[latent_dim=-1]", (1, 28, 28), "latent_dim must be at least 1"),
        ("pca[latent_dim=17]", (1, 4, 4), "latent_dim must be 1 to 16"),
        (
            "denoising[corruption=masking,level=1.5]",
            (1, 28, 28),
            "level must be above 0, a share of the values, at most 1, but is 1.5",
        ),
        ("denoising[level=-0.1]", (1, 28, 28), "level must be above 0, a standard deviation, but is -0.1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(text, shape, told):
    with pytest.raises(ContractError, match=told):
        preflight(discover().resolve(text), pixels(8, shape), RECIPE)


def test_mlp_is_the_tutorials_network():
    module = aezoo.create("mlp", image_shape=(1, 28, 28))
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    sizes = [linear[0].in_features, *(layer.out_features for layer in linear)]
    assert sizes == [784, 128, 64, 12, 3, 12, 64, 128, 784]
    kinds = [type(layer).__name__ for half in (module.encoder, module.decoder) for layer in half]
    assert kinds == (
        "Flatten Linear ReLU Linear ReLU Linear ReLU Linear".split()
        + "Linear ReLU Linear ReLU Linear ReLU Linear Sigmoid Unflatten".split()
    )
    assert num_params(module) == 219_891


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("mlp[latent_dim=2]", [128, 64, 12, 2]),
        ("mlp[latent_dim=4]", [128, 4]),
        ("mlp[latent_dim=16]", [128, 16]),
        ("mlp[latent_dim=64]", [128, 64]),
        ("mlp[latent_dim=200]", [400, 200]),
        ("mlp[width=32]", [32, 3]),
        ("mlp[latent_dim=6,width=256]", [256, 128, 24, 6]),
        ("mlp[latent_dim=9,width=16]", [18, 9]),
    ],
)
def test_no_layer_of_relus_is_a_second_bottleneck_beside_the_latent(text, layers):
    module = aezoo.create(text, image_shape=(1, 28, 28))
    assert [layer.out_features for layer in module.encoder if isinstance(layer, nn.Linear)] == layers
    back = [layer.in_features for layer in module.decoder if isinstance(layer, nn.Linear)]
    assert back == layers[::-1]


def test_first_party_files_and_entry_points_agree():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["aezoo"]
    package = ROOT / "plugins" / "aezoo_plugins"
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for folder in ("architectures", "datasets", "executors", "metrics", "trackers")
        for path in (package / folder).glob("*.py")
        if path.stem != "__init__"
    }
    assert set(points.values()) == files
    installed = {
        point.value for point in metadata.entry_points(group="aezoo") if point.dist and point.dist.name == "aezoo"
    }
    assert installed == files


# Denoising -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corruption", "hit", "mean"), [("masking", 0.3, 0.35), ("salt_and_pepper", 0.3, 0.5), ("gaussian", 1.0, 0.5)]
)
def test_corruption_does_what_it_says(corruption, hit, mean):
    module = aezoo.create(f"denoising[corruption={corruption},level=0.3]", image_shape=(1, 28, 28))
    x = torch.full((200, 1, 28, 28), 0.5)
    torch.manual_seed(0)
    corrupted = module.corrupt(x)
    assert (x == 0.5).all()
    assert float((corrupted != x).float().mean()) == pytest.approx(hit, abs=0.005)
    assert float(corrupted.mean()) == pytest.approx(mean, abs=0.005)
    if corruption == "gaussian":
        assert float((corrupted - x).std()) == pytest.approx(0.3, abs=0.005)
        assert float(corrupted.max()) > 1
    else:
        assert set(corrupted.unique().tolist()) <= {0.0, 0.5, 1.0}


def test_denoising_corrupts_while_it_trains_and_never_in_evaluation():
    module = aezoo.create("denoising[level=0.5]", image_shape=(1, 8, 8))
    x = to_float(pixels(4, (1, 8, 8)))
    assert torch.equal(module.eval()(x), module(x))
    torch.manual_seed(0)
    assert not torch.equal(module.training_forward(x).reconstruction, module(x))
