"""Latents that are read in other units than numbers, tables in groups of them, and networks of equal size."""

import math

import pandas as pd
import pytest
import torch

import aezoo
from aezoo.contract.halves import halves
from aezoo.contract.network import num_params, to_float
from aezoo.contract.recipe import Recipe
from aezoo.harness.matching import match_params
from aezoo.harness.observer import Observer
from aezoo.registry.discovery import discover
from aezoo.run.store import RunDirectory
from aezoo.table.notes import notes
from aezoo.table.views import by_group, rate_distortion
from aezoo.train.rate import active_units

VARIANTS = [
    "linear[latent_dim=2]", "linear[latent_dim=3]", "one_hidden[latent_dim=3]", "topk[k=4,width=9]",
    "topk[k=9,width=9]", "batch_topk[k=3,width=9]", "kmeans[codebook_size=8]", "fsq[levels=(3,3),strides=1]",
    "fsq[levels=(3,4),strides=1]",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a short run on digits with latents of all kinds."""
    recipe = Recipe(name="t", dataset="digits", steps=10)
    return aezoo.bench(
        [*VARIANTS, "unet"], recipe=recipe, out=tmp_path_factory.mktemp("latents") / "run", device="cpu", timing=False
    )


def test_bits_and_active_units_stand_where_the_latent_is_discrete_or_sparse_and_nowhere_else(run):
    table = run.table().set_index("variant")
    assert table["bits"].dropna().to_dict() == pytest.approx(
        {
            "kmeans[codebook_size=8]": 3.0,
            "fsq[levels=(3,3),strides=1]": 16 * math.log2(9),
            "fsq[levels=(3,4),strides=1]": 16 * math.log2(12),
        }
    )
    active = table["active_units"].dropna()
    assert set(active.index) == {"topk[k=4,width=9]", "topk[k=9,width=9]", "batch_topk[k=3,width=9]"}
    assert 3 < active["topk[k=4,width=9]"] <= 4
    assert active["topk[k=4,width=9]"] < active["topk[k=9,width=9]"]


def test_only_continuous_latents_are_held_against_pca(run):
    table = run.table().set_index("variant")
    held = {"linear[latent_dim=2]", "linear", "one_hidden[latent_dim=3]", "pca[latent_dim=2]", "pca"}
    assert set(table["vs_pca"].dropna().index) == held
    # No PCA was asked for at the sizes of the others: 9, 1, 32.
    assert {name for name in table.index if name.startswith("pca")} == {"pca[latent_dim=2]", "pca"}


def test_the_control_has_a_row_that_says_why_it_is_no_autoencoder(run):
    table = run.table().set_index("variant")
    assert table.loc["unet", "status"] == "invalid"
    assert table.loc["unet", "rank"] == len(table)
    told = "\n".join(notes(RunDirectory(run.path), run.table()))
    assert "invalid: unet seed 0: expected forward(x) = decode(encode(x))" in told
    assert "something passes around the bottleneck" in told


def test_the_table_in_groups_holds_together_what_may_be_compared(run):
    grouped = by_group(RunDirectory(run.path))
    assert len(grouped) == len(run.table())
    groups = {name: set(rows["variant"]) for name, rows in grouped.groupby("group", sort=False)}
    assert groups == {
        "0 numbers": {"mean"},
        "2 numbers": {"linear[latent_dim=2]", "pca[latent_dim=2]"},
        "3 numbers": {"linear", "pca", "one_hidden[latent_dim=3]"},
        "about 4 active units": {"topk[k=4,width=9]", "topk[k=9,width=9]", "batch_topk[k=3,width=9]"},
        "about 4 bits": {"kmeans[codebook_size=8]"},
        "about 64 bits": {"fsq[levels=(3,3),strides=1]", "fsq[levels=(3,4),strides=1]"},
        "failed": {"unet"},
    }
    for _, rows in grouped.groupby("group", sort=False):
        assert rows["test_mse"].dropna().is_monotonic_increasing
    written = (run.path / "table.md").read_text()
    assert written.count("### about 4 bits") == 1
    assert "### test_mse by latent_dim" in written


def test_rate_and_distortion_has_a_row_a_family_and_a_column_a_size(run):
    swept = rate_distortion(RunDirectory(run.path)).set_index("variant")
    table = run.table().set_index("variant")["test_mse"]
    assert list(swept.columns) == ["mse_2", "mse_3"]
    assert set(swept.index) == {"linear", "one_hidden", "pca"}
    assert swept.index[0] == "pca"
    assert swept.loc["linear"].tolist() == [table["linear[latent_dim=2]"], table["linear"]]
    assert pd.isna(swept.loc["one_hidden", "mse_2"])


def test_a_run_without_latent_dim_has_no_rate_to_show(tmp_path):
    recipe = Recipe(name="t", dataset="digits", steps=1)
    found = aezoo.bench(["topk[k=4,width=9]"], recipe=recipe, out=tmp_path / "run", device="cpu", timing=False)
    with pytest.raises(aezoo.AezooError, match="no variant with the hyperparameter latent_dim has a loss"):
        rate_distortion(RunDirectory(found.path))


def test_active_units_are_the_mean_number_of_numbers_that_are_not_0():
    images = torch.arange(4 * 9, dtype=torch.uint8).view(4, 1, 3, 3)
    module = aezoo.create("sparse_l1[width=7]", image_shape=(1, 3, 3))
    with torch.no_grad():
        module.encoder[1].weight.zero_()
        module.encoder[1].bias.copy_(torch.tensor([1.0, -1, 0, 2, -3, 0, 5]))
    encode, _ = halves(module, to_float(images))
    active, support = active_units(encode, images)
    assert active == 3.0
    assert support > 0
    assert int((encode(to_float(images)) != 0).sum()) == 12


@pytest.mark.parametrize("budget", [5_000, 60_000, 400_000])
@pytest.mark.parametrize(
    "text", ["mlp", "conv", "vit", "vae[body=conv]", "topk", "fsq", "resnet", "rae[smooth=spectral_norm]"]
)
def test_a_width_is_chosen_for_a_number_of_parameters(text, budget):
    (match,) = match_params([discover().resolve(text)], budget, (1, 28, 28))
    width = match.chosen.hyperparameters["width"]
    count = num_params(match.chosen.build((1, 28, 28)))
    assert f"gets width={width}, and has {count:,}" in match.reason
    assert ("it comes no nearer" in match.reason) == (abs(count - budget) > budget / 10)
    # No other width that can be built comes nearer.
    for other in range(max(1, width - 4), width + 5):
        try:
            settings = f"{text.removesuffix(']')}{',' if ']' in text else '['}width={other}]"
            built = aezoo.create(settings, image_shape=(1, 28, 28))
        except aezoo.AezooError:
            continue
        assert abs(num_params(built) - budget) >= abs(count - budget)


def test_what_has_no_width_stays_and_is_said_to():
    pca, deep = (discover().resolve(text) for text in ("pca", "topk[k=16]"))
    matches = match_params([pca, deep], 100, (1, 28, 28))
    assert matches[0].chosen is pca
    assert matches[0].reason == "pca has 3,136, and no hyperparameter 'width' to choose"
    # A dictionary of 16 is the narrowest that keeps 16 numbers.
    assert matches[1].chosen.text == "topk[width=16]"


@pytest.mark.parametrize("text", ["topk[k=100]", "vit[heads=130]", "batch_topk[k=65]"])
def test_widths_that_are_refused_are_passed_over(text):
    (match,) = match_params([discover().resolve(text)], 200_000, (1, 28, 28))
    width = match.chosen.hyperparameters["width"]
    assert width >= discover().resolve(text).hyperparameters.get("k", 130)
    assert f"gets width={width}" in match.reason


def test_a_budget_that_cannot_be_met_is_said_by_how_much():
    (match,) = match_params([discover().resolve("spatial_broadcast")], 1_000, (1, 28, 28))
    assert match.reason == "spatial_broadcast gets width=1, and has 16,571: it comes no nearer, +1557%"


@pytest.mark.parametrize("width", [2.5, "wide"])
def test_a_width_that_is_no_whole_number_is_left_alone(width):
    def build(image_shape, *, width=width):
        return aezoo.create("mlp", image_shape=image_shape)

    architecture = aezoo.Architecture(name="own", build=build, summary="s", reference="r")
    variant = aezoo.Variant(architecture=architecture, hyperparameters={"width": width}, label="own")
    (match,) = match_params([variant], 1_000, (1, 28, 28))
    assert match.chosen is variant
    assert "no hyperparameter 'width' to choose" in match.reason


def test_a_bench_of_matched_networks_says_what_it_chose(tmp_path):
    lines: list[str] = []

    class Listens(Observer):
        def chosen(self, told):
            lines.extend(line for line in told if "parameters wanted" in line)

    recipe = Recipe(name="t", dataset="digits", steps=1)
    found = aezoo.bench(
        ["mlp[]", "linear[]"], recipe=recipe, latent_dims=[2, 4], match_params=9_000, observer=Listens(),
        out=tmp_path / "run", device="cpu", timing=False,
    )  # fmt: skip
    assert [line.split(": ")[1].split(" gets")[0].split(" has")[0] for line in lines] == [
        "linear[latent_dim=2]", "linear[latent_dim=4]", "mlp[latent_dim=2]", "mlp[latent_dim=4]",
    ]  # fmt: skip
    table = found.table().set_index("variant")
    chosen = [name for name in table.index if name.startswith("mlp")]
    assert len(chosen) == 2
    assert (table.loc[chosen, "num_params"] - 9_000).abs().max() < 200
    widths = [name.partition("width=")[2].removesuffix("]") for name in sorted(chosen)]
    swept = set(rate_distortion(RunDirectory(found.path))["variant"])
    assert swept == {"pca", "linear", f"mlp (width {', '.join(widths)})" if len(set(widths)) > 1 else "mlp"}
