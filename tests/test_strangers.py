"""Networks and data as people have them: what is taken as it stands, what is told, and what is refused, and how."""

import copy
import pickle
import shutil
import textwrap

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import aezoo
from aezoo.check.case import Case
from aezoo.check.suite import examine, sample_images
from aezoo.contract.architecture import Variant
from aezoo.contract.dataset import DatasetVariant
from aezoo.contract.images import Images, warnings_of
from aezoo.contract.network import num_params
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ContractError, UnfitError
from aezoo.harness.call import preview
from aezoo.harness.matching import match_params
from aezoo.harness.observer import Observer
from aezoo.harness.preflight import preflight
from aezoo.registry.discovery import discover, find
from aezoo.registry.factory import architecture_of
from aezoo.registry.outside import extend
from aezoo.registry.places import carried
from aezoo.run.store import RunDirectory
from aezoo.run.weights import pack, unpack
from aezoo.table.cells import cells
from aezoo.table.compare import compare

SHAPE = (1, 6, 6)
IMAGES = sample_images(SHAPE, count=32)
RECIPE = Recipe(name="t", steps=4, batch_size=8)


def variant_of(factory, **hyperparameters) -> Variant:
    architecture = architecture_of(factory, "net", (), "net")
    return Variant(architecture=architecture, hyperparameters=architecture.check(hyperparameters), label="net")


def tried(factory, images=IMAGES, **hyperparameters):
    return preflight(variant_of(factory, **hyperparameters), images, RECIPE)


def statuses(factory, **hyperparameters) -> dict[str, str]:
    return {each.check: each.status for each in examine(Case(variant_of(factory, **hyperparameters), IMAGES))}


class Flat(nn.Module):
    """The halves work on flat images, and forward flattens and views around them, as in most tutorials."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 36), nn.Sigmoid())

    def forward(self, x):
        return self.decoder(self.encoder(x.view(len(x), -1))).view(x.shape)


class Whole(Flat):
    def __init__(self):
        super().__init__()
        self.encoder.insert(0, nn.Flatten())
        self.decoder.append(nn.Unflatten(1, SHAPE))

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Between(Whole):
    """decoder(encoder(x)) has the right shape, and is another thing."""

    def __init__(self):
        super().__init__()
        self.between = nn.Linear(4, 4)

    def forward(self, x):
        return self.decoder(self.between(self.encoder(x)))


class Behind(Whole):
    def forward(self, x):
        return torch.sigmoid(4 * self.decoder(self.encoder(x)) - 2)


class Before(Whole):
    def __init__(self):
        super().__init__()
        self.norm = nn.Linear(36, 36)

    def forward(self, x):
        return self.decoder(self.encoder(self.norm(x.flatten(1)).view(x.shape)))


class Gaussian(Whole):
    """The halves of a VAE: a head between them, and no draw in evaluation."""

    def __init__(self):
        super().__init__()
        self.mean, self.spread = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = self.encoder(x)
        mean, spread = self.mean(h), self.spread(h)
        return self.decoder(mean + spread * torch.randn_like(spread) if self.training else mean + 0 * spread)


UNDECLARED = "decoder(encoder(x)) is not forward(x), so that it has no latent size: declare its halves by methods "


@pytest.mark.parametrize(
    ("network", "latent_size"),
    [(Flat, 4), (Whole, 4), (Between, None), (Behind, None), (Before, None)],
)
def test_a_guessed_pair_that_is_no_pair_is_told_and_never_accused(network, latent_size):
    facts = tried(network)
    assert facts.latent_size == latent_size
    assert [note.startswith(UNDECLARED) for note in facts.notes] == ([] if latent_size else [True])


def test_a_head_between_guessed_halves_is_no_leak():
    found = statuses(Gaussian)
    assert [name for name, status in found.items() if status == "failed"] == []
    assert found["halves"] == "skipped"


class Residual(Whole):
    def forward(self, x):
        return x - self.decoder(self.encoder(x))


class Skip(Flat):
    """A U-Net's skip: the decoder is given what the encoder's first layer made of the image."""

    def forward(self, x):
        early = self.encoder[0](x.flatten(1))
        late = self.encoder[2](self.encoder[1](self.encoder(x.flatten(1))[:, :1].repeat(1, 8)))
        return self.decoder[2](self.decoder[1](self.decoder[0](late)) + early).view(x.shape)


class Faint(Between):
    """What passes around the bottleneck is little, and opens as it trains."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return super().forward(x) + self.gate * x


@pytest.mark.parametrize("network", [Residual, Skip, Faint])
def test_a_true_leak_around_guessed_halves_is_caught(network):
    with pytest.raises(ContractError, match="something passes around the bottleneck; look at .*forward"):
        tried(network)


class OwnFit(Whole):
    def fit(self, images, epochs, optimizer):
        raise AssertionError("it is trained as any network")


class Objective(Whole):
    def __init__(self):
        super().__init__()
        self.objective = nn.MSELoss()


class Codes(Whole):
    def __init__(self):
        super().__init__()
        self.register_buffer("codes", torch.zeros(3))
        self.sparse = 0.5
        self.latent_size = "large"


class OtherObjective(Whole):
    objective = "binary cross-entropy"


class OtherLatentSize(Whole):
    """The width of its middle layer, say."""

    latent_size = 8


class TrueLatentSize(Whole):
    latent_size = 4


class CodesMethod(Whole):
    def codes(self, x):
        return self.encoder(x)


@pytest.mark.parametrize(
    ("network", "note"),
    [
        (OwnFit, "its fit asks for more than images, so that it is trained as any network"),
        (Objective, "its attribute objective is no text, and taken for none: it is trained on the MSE"),
        (Codes, None),
        (
            OtherObjective,
            "its attribute objective, 'binary cross-entropy', is taken for none: it is trained on the MSE",
        ),
        (OtherLatentSize, "its attribute latent_size=8 is taken for none: its encoder returns 4 numbers"),
        (TrueLatentSize, None),
        (CodesMethod, "it has a method codes, and no from_codes: its latent is not taken for a discrete one"),
    ],
)
def test_what_has_a_name_of_the_contract_and_another_meaning_is_told(network, note):
    facts = tried(network)
    assert (facts.latent_size, facts.latent_kind, facts.objective) == (4, "continuous", "mse")
    assert facts.notes == ([note] if note else [])
    assert not facts.closed_form


ORDERS = {
    "the first are blank": lambda images: torch.cat([torch.zeros_like(images[:16]), images]),
    "the first are equal": lambda images: torch.cat([images[:1].repeat(16, 1, 1, 1), images]),
    "sorted by brightness": lambda images: images[images.float().mean((1, 2, 3)).argsort()],
    "all are one": lambda images: images[:1].repeat(40, 1, 1, 1),
    "all are blank": torch.zeros_like,
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("text", ["mlp", "conv", "vit", "topk", "vae", "vq_vae", "pca"])
def test_a_preflight_speaks_of_the_network_whichever_images_come_first(text, order):
    images = ORDERS[order](sample_images((1, 12, 12), count=48))
    assert preflight(discover().resolve(text), images, RECIPE).num_params > 0


class Reversing(nn.Module):
    """As in a well-known collection of VAEs: the constructor turns the list that it is given."""

    def __init__(self, sizes=[12, 4]):  # noqa: B006
        super().__init__()
        layers = [nn.Flatten()]
        for before, after in zip([36, *sizes], sizes, strict=False):
            layers.append(nn.Linear(before, after))
        self.encoder = nn.Sequential(*layers)
        sizes.reverse()
        layers = []
        for before, after in zip(sizes, [*sizes[1:], 36], strict=True):
            layers.append(nn.Linear(before, after))
        self.decoder = nn.Sequential(*layers, nn.Unflatten(1, SHAPE))

    def forward(self, x):
        return self.decoder(self.encoder(x))


@pytest.mark.parametrize("hyperparameters", [{}, {"sizes": [12, 4]}])
def test_a_list_that_the_constructor_changes_is_no_other_networks(hyperparameters):
    asked = copy.deepcopy(hyperparameters)
    variant = variant_of(Reversing, **asked)
    before = variant.text
    counts = {num_params(variant.build(SHAPE)) for _ in range(3)}
    assert counts == {36 * 12 + 12 + 12 * 4 + 4 + 4 * 12 + 12 + 12 * 36 + 36}
    assert (variant.text, asked) == (before, hyperparameters)


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.randn_like(x) if self.training else x


class Noisy(Whole):
    """A plain module, with no training_forward: a layer of noise that evaluation skips."""

    objective = "mse, corrupted input"

    def __init__(self, noise: bool = True):
        super().__init__()
        self.noise = Noise() if noise else nn.Identity()

    def encode(self, x):
        return self.encoder(self.noise(x))

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        return self.decode(self.encode(x))


def test_a_layer_of_noise_can_declare_itself_and_is_found_out_where_it_is_none():
    assert statuses(Noisy)["objective"] == "ok"
    assert statuses(Noisy, noise=False)["objective"] == "failed"


class Seeded(Whole):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__()


def test_seeds_that_start_from_the_same_weights_are_told_in_the_row(tiny, tmp_path):
    assert (tried(Seeded).same_start, tried(Whole).same_start) == (True, False)
    recipe = Recipe(name="t", dataset=tiny, steps=4, batch_size=16, seeds=2)
    run = aezoo.bench([Seeded, Whole], recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    table = run.table().set_index("variant")
    assert table["test_mse_low"].isna()[["Seeded", "Whole"]].tolist() == [True, False]
    assert table.loc["Seeded", ["same_start", "rank_low", "rank_high"]].tolist() == ["yes", 1, len(table)]
    assert pd.isna(table.loc["Whole", "same_start"])
    assert any("ok, same start" in row for row in cells(run.table())[1])
    assert compare(RunDirectory(run.path), RunDirectory(run.path))["verdict"].unique().tolist() == ["equal"]
    assert (
        "Seeded: every seed starts from the same weights, so that its interval is none"
        in (run.path / "table.md").read_text()
    )


class Transposed(nn.Module):
    """Its decoder's weight is made of its encoder's, as another object over the same numbers."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(36, 4, bias=False)
        self.decoder = nn.Linear(4, 36, bias=False)
        self.decoder.weight = nn.Parameter(self.encoder.weight.detach().t())

    def forward(self, x):
        return self.decoder(self.encoder(x.flatten(1))).view(x.shape)


class SamePart(Whole):
    def __init__(self):
        super().__init__()
        self.part = nn.Parameter(self.encoder[1].weight.detach()[:2])

    def forward(self, x):
        return super().forward(x) + 0 * self.part.sum()


@pytest.mark.parametrize(("network", "count"), [(Transposed, 36 * 4), (SamePart, num_params(Whole()))])
def test_numbers_that_two_parameters_share_count_once_and_survive(network, count):
    assert num_params(network()) == count
    first, second = network(), network()
    unpack(pack(first), second)
    x = IMAGES[:4].float() / 255
    assert torch.equal(first(x), second(x))


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.LazyConv2d(3, 3, stride=2), nn.Flatten(), nn.LazyLinear(4))
        self.decoder = nn.Sequential(nn.LazyLinear(36), nn.Unflatten(1, SHAPE))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_lazy_layers_are_initialised_on_a_batch():
    assert (tried(Lazy).num_params, tried(Lazy).latent_size) == (3 * 9 + 3 + 12 * 4 + 4 + 4 * 36 + 36, 4)
    assert {name for name, status in statuses(Lazy).items() if status == "failed"} == set()


class LazyWidth(nn.Module):
    def __init__(self, width: int = 4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.LazyLinear(width))
        self.decoder = nn.Sequential(nn.LazyLinear(36), nn.Unflatten(1, SHAPE))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def test_a_width_is_chosen_for_lazy_layers_too():
    (match,) = match_params([variant_of(LazyWidth)], 36 + 10 * (36 + 1 + 36), SHAPE)
    assert match.chosen.hyperparameters == {"width": 10}


class Double(Whole):
    def __init__(self):
        super().__init__()
        self.double()


class DoubleOut(Whole):
    def forward(self, x):
        return super().forward(x).double()


class Listed(Whole):
    def forward(self, x):
        z = self.encoder(x)
        return [self.decoder(z), x, z]


class Mapped(Whole):
    def forward(self, x):
        return {"reconstruction": self.decoder(self.encoder(x))}


class FlatIn(Flat):
    def forward(self, x):
        return self.decoder(self.encoder(x))


class FlatOut(Flat):
    def forward(self, x):
        return self.decoder(self.encoder(x.flatten(1)))


class Sized(Whole):
    def __init__(self):
        super().__init__()
        self.encoder[1] = nn.Linear(25, 8)


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        (Double, "float32 is asked for"),
        (DoubleOut, "float32 is asked for"),
        (
            Listed,
            r"alone, .* returned a list of 3; bench in its place: def build\(.*Listed\(\), reconstruct=0, ",
        ),
        (
            Mapped,
            r"returned a dict of 1; bench in its place: def .*Adapted\(Mapped\(\), reconstruct='reconstruction', ",
        ),
        (
            FlatIn,
            r"works on flat images; bench in its place: def build\(.*aezoo.Flat\(FlatIn\(\), image_shape\)",
        ),
        (
            FlatOut,
            r"works on flat images; bench in its place: def build\(.*aezoo.Flat\(FlatOut\(\), image_shape\)",
        ),
        (Sized, "take the sizes from image_shape"),
    ],
)
def test_a_hint_names_the_cause(network, hint):
    with pytest.raises(ContractError, match=hint):
        tried(network)


def images(pixels) -> Images:
    pixels = np.asarray(pixels)
    return Images(train=pixels[: len(pixels) // 2], test=pixels[len(pixels) // 2 :])


PIXELS = sample_images((3, 16, 16), count=20).numpy()


@pytest.mark.parametrize(
    ("pixels", "remedy"),
    [
        ((PIXELS > 99).astype(np.uint8), "multiply them by 255"),
        (PIXELS.transpose(0, 2, 3, 1), r"look like (N, H, W, C), but images are (N, C, H, W): transpose them"),
        (np.repeat(PIXELS[:1], 20, 0), "are equal: there is nothing to tell apart"),
        (PIXELS, None),
    ],
)
def test_data_that_are_well_formed_and_hardly_meant_are_warned_of(pixels, remedy):
    lines = warnings_of(images(pixels), "mine")
    assert any(remedy in line for line in lines) if remedy else lines == []


@pytest.mark.parametrize(
    ("pixels", "remedy"),
    [
        (PIXELS.astype(np.uint16) * 257, "uint16 from 0 to .*: scale them to 0 to 255"),
        (PIXELS.astype(np.int16) * 10 - 1000, "choose the window .* Hounsfield units"),
        (np.where(PIXELS > 99, np.nan, 0.5), "with NaN or infinite pixels: choose what they stand for"),
        (PIXELS / 255, "round 255 times them to uint8"),
        (PIXELS / 127.5 - 1, r"round 127.5 \* \(1 \+ pixels\) to uint8"),
        (PIXELS > 99, "bool: multiply by 255 as uint8"),
        (PIXELS.astype(np.int64), "they fit: astype"),
    ],
)
def test_pixels_of_another_kind_are_refused_with_the_remedy(pixels, remedy):
    data = aezoo.Dataset(name="mine", load=lambda _: images(pixels), summary="s", reference="r")
    with pytest.raises(AezooError, match=f"mine: the train images must be uint8.*{remedy}"):
        DatasetVariant.of(data, {}, "mine").checked(None)


def test_pca_of_few_large_images_takes_no_matrix_of_pixels_by_pixels(monkeypatch):
    """12 images of 64x64 in three colours: their covariance would be 1.2 GB."""

    eigh = torch.linalg.eigh

    def small(matrix):
        assert len(matrix) <= 12
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", small)
    few = sample_images((3, 64, 64), count=12)
    module = aezoo.create("pca[latent_dim=64]", image_shape=(3, 64, 64))
    with torch.no_grad():
        module.fit(few)
        x = few.float() / 255
        assert float((module(x) - x).square().mean()) < 1e-12


def test_a_preview_knows_what_closed_forms_cost_and_need(tiny, tmp_path):
    recipe = Recipe(name="t", dataset=tiny, steps=4, batch_size=16)
    found = preview(["pca[latent_dim=2]", Whole], recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    facts = {row.variant: row.preflight for row in found.rows}
    assert facts["pca[latent_dim=2]"].fit_seconds > 0
    assert facts["pca[latent_dim=2]"].peak_memory_bytes > 0
    assert facts["Whole"].fit_seconds is None
    assert all(row.seconds > 0 for row in found.rows)


class Needy(Whole):
    objective = "mse, closed form"

    def fit(self, images):
        assert len(images) > RECIPE.batch_size


def test_a_bench_has_an_idea_of_what_closed_forms_take():
    """From a fit to a batch; one that cannot be fitted to so few is not refused for that."""
    assert preflight(discover().resolve("pca"), IMAGES, RECIPE).fit_seconds > 0
    found = tried(Needy)
    assert (found.closed_form, found.fit_seconds) == (True, None)


def test_nothing_is_held_against_pca_where_it_is_exact(tmp_path):
    """As many numbers as pixels: what is left of its loss is rounding."""
    recipe = Recipe(name="t", dataset="digits", steps=2)
    variants = ["linear[latent_dim=64]", "linear[latent_dim=4]"]
    run = aezoo.bench(variants, recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    table = run.table().set_index("variant")["vs_pca"]
    assert table[["linear[latent_dim=64]", "pca[latent_dim=64]"]].isna().all()
    assert table["linear[latent_dim=4]"] > 0.5
    assert "no vs_pca at latent size 64: PCA is exact there but for rounding" in (run.path / "table.md").read_text()


def test_nor_where_the_images_have_no_more_directions(distribute, tmp_path):
    distribute(
        """
        import numpy as np, aezoo

        def load(_):
            rng = np.random.RandomState(0)
            faces = rng.randint(0, 2, (40, 2, 1, 1, 1)) * rng.randint(1, 120, (1, 2, 1, 6, 6))
            pixels = faces.sum(1).astype(np.uint8)
            return aezoo.Images(train=pixels[:30], test=pixels[30:])

        @aezoo.hookimpl
        def aezoo_datasets():
            yield aezoo.Dataset(name="rank2", load=load, summary="s", reference="r")
        """,
        name="rank-dist",
    )
    recipe = Recipe(name="t", dataset="rank2", steps=2)
    variants = [f"linear[latent_dim={k}]" for k in (1, 2, 5)]
    run = aezoo.bench(variants, recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    table = run.table().set_index("variant")["vs_pca"]
    assert {text: pd.isna(table[text]) for text in variants} == {text: text != variants[0] for text in variants}


NET = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width: int = WIDTH):
            super().__init__()
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, width))
            self.decoder = nn.Sequential(nn.Linear(width, 36), nn.Unflatten(1, (1, 6, 6)))

        def forward(self, x):
            return self.decoder(self.encoder(x))
"""


def test_two_files_of_one_name_are_both_in_the_table_and_told_apart(tiny, tmp_path):
    for folder, width in (("a", 2), ("b", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.py").write_text(textwrap.dedent(NET.replace("WIDTH", str(width))))
    recipe = Recipe(name="t", dataset=tiny, steps=2)
    paths = [str(tmp_path / folder / "model.py") for folder in "ab"]
    run = aezoo.bench(paths, recipe=recipe, out=tmp_path / "run", device="cpu", timing=False, observer=Observer())
    table = run.table().set_index("variant")["latent_size"]
    assert {name: int(table[name]) for name in table.index if "model" in name} == {"a:model": 2, "b:model": 3}


def test_a_script_is_loaded_as_python_would_without_arguments(tiny, tmp_path, monkeypatch):
    script = "import argparse\nparser = argparse.ArgumentParser()\n"
    script += "parser.add_argument('--width', type=int, default=2)\n"
    script += "WIDTH = parser.parse_args().width\n" + textwrap.dedent(NET)
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr("sys.argv", ["aezoo", "bench", "./script.py", "--quick"])
    recipe = Recipe(name="t", dataset=tiny, steps=2)
    run = aezoo.bench([str(tmp_path / "script.py")], recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    assert run.table().set_index("variant").loc["script", "latent_size"] == 2


def test_a_network_that_is_built_already_is_one_line_from_a_file_and_from_python(tmp_path):
    path = tmp_path / "built.py"
    path.write_text(textwrap.dedent(NET.replace("WIDTH", "2")) + "model = Net()\n")
    for variant in (f"{path}:model", Whole()):
        with pytest.raises(AezooError, match="got a network that is built already, of class (Net|Whole); give "):
            aezoo.bench([variant], recipe="quick", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_goes_with_its_code_to_a_machine_that_has_it_not(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("")
    (tmp_path / "lib" / "layers.py").write_text("WIDTH = 5\n")
    mine = tmp_path / "mine.py"
    mine.write_text(
        textwrap.dedent("""
        from torch import nn
        from lib.layers import WIDTH

        class Mine(nn.Sequential):
            def __init__(self):
                super().__init__(nn.Flatten(), nn.Linear(36, WIDTH), nn.Linear(WIDTH, 36), nn.Unflatten(1, (1, 6, 6)))
    """)
    )
    registry, (text,) = extend(discover(), [f"{mine}:Mine"])
    plugin = registry.plugin(registry.resolve(text))
    there = pickle.loads(pickle.dumps(carried(plugin.origin)))
    shutil.rmtree(tmp_path / "lib")
    mine.unlink()
    with pytest.raises(UnfitError, match="no file .*mine.py"):
        find(text, plugin.origin, plugin.source)
    variant = find(text, there, plugin.source)
    assert num_params(variant.build((1, 6, 6))) == 36 * 5 + 5 + 5 * 36 + 36
    # What is installed is there.
    installed = discover().plugin(discover().resolve("mlp")).origin
    assert carried(installed) is installed
