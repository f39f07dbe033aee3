"""Settling: what a claim is, how seeds are added, and the card that is left; test_statistics.py has its error."""

import json

import pytest

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.harness.settle import text_of

RECIPE = Recipe(name="t", dataset="tiny", steps=8, seeds=2)


def seeds_of(run, variant):
    return sorted(record.seed for record in aezoo.Run(path=run).records() if record.variant == variant)


def test_what_needs_no_seeds_is_decided_at_the_first_look_and_the_card_says_how(tiny, tmp_path):
    claims = ["pca[latent_dim=2] < mean", "mean < pca[latent_dim=2]"]
    card, run = aezoo.settle(claims, recipe=RECIPE, out=tmp_path / "run", device="cpu", again="LINE")
    assert [(found.verdict, found.look, found.seeds) for found in card.findings] == [
        ("better", 1, (2, 2)), ("worse", 1, (2, 2)),
    ]  # fmt: skip
    assert card.findings[0].percent_high < 0 < card.findings[1].percent_low
    assert (card.trials, card.again) == (4, "LINE")
    (written,) = (run / "cards").glob("*.json")
    assert json.loads(written.read_text())["findings"][0]["verdict"] == "better"
    assert written.with_suffix(".txt").read_text() == text_of(card) + "\n"
    again, _ = aezoo.settle(claims, recipe=RECIPE, out=tmp_path / "run", device="cpu")
    assert again.trials == 0
    assert again.findings == card.findings


TWINS = """
    import aezoo
    from torch import nn

    def build(image_shape, *, twin: int):
        return aezoo.Flat(nn.Sequential(nn.Linear(36, 2), nn.Linear(2, 36)), image_shape)

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="twin", build=build, summary="s", reference="r", variants=[])
"""


def test_seeds_are_added_to_what_is_open_until_they_end(tiny, distribute, tmp_path):
    """Two variants of one network come to the very same losses: no number of seeds tells them apart."""
    distribute(TWINS, name="twins")
    claims = ["twin[twin=1] < twin[twin=2]", "pca[latent_dim=2] < mean"]
    card, run = aezoo.settle(claims, recipe=RECIPE, out=tmp_path / "run", device="cpu", max_seeds=4, margin=1e-6)
    assert card.findings[1].look == 1
    open_ = card.findings[0]
    assert (open_.verdict, open_.seeds, open_.look) == ("not decided", (4, 4), 3)
    assert open_.percent_low == pytest.approx(-open_.percent_high, rel=1.0)
    assert seeds_of(run, "twin[twin=1]") == [0, 1, 2, 3]


def test_a_group_of_a_run_is_settled_by_the_seeds_of_what_is_open(tiny, tmp_path):
    # A row of before, with other threads, stands beside, and is no variant to add seeds to.
    for threads in (2, 1):
        run = aezoo.bench(
            ["linear[latent_dim=2]", "pca[latent_dim=2]"], recipe=RECIPE, out=tmp_path / "run", device="cpu",
            timing=False, threads=threads,
        )  # fmt: skip
    assert "linear[latent_dim=2] (2 threads)" in set(run.whole.table()["variant"])
    card, path = aezoo.settle(group="2", out=run.path, max_seeds=3)
    assert path == run.path
    assert [(found.lower, found.higher) for found in card.findings] == [("pca[latent_dim=2]", "linear[latent_dim=2]")]


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("mlp", "write A < B"),
        ("mlp < ", "write A < B"),
        ("mlp < mlp[]", "against itself"),
        ("mlp < nope", "no architecture 'nope'"),
        ("mlp < linear @77", "no declared variant of mlp has a latent of 77 numbers; there are mlp[latent_dim=2] (2)"),
    ],
)
def test_a_claim_that_is_none_is_one_line(tiny, tmp_path, claim, told):
    with pytest.raises(aezoo.AezooError) as caught:
        aezoo.settle([claim], recipe=RECIPE, out=tmp_path / "run", device="cpu")
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_claim_at_a_code_size_names_the_declared_variants_of_that_size(call, tiny, tmp_path):
    status, out, _ = call(
        *f"settle --dataset tiny --steps 5 --seeds 2 --max-seeds 2 --device cpu --out {tmp_path}/run".split(),
        "linear < pca @8",
    )
    assert status == 0
    assert out.startswith("linear[latent_dim=8] < pca[latent_dim=8]: ")
    assert "\nagain: aezoo " in out
    status, _, err = call("settle", f"{tmp_path}/run", "--group", "99")
    assert (status, "has no code group '99'; it has " in err) == (2, True)
    status, _, err = call("settle", "linear < pca", "--group", "8")
    assert status == 2


def test_nothing_to_settle_or_no_room_for_seeds_is_one_line(tiny, tmp_path):
    with pytest.raises(aezoo.AezooError, match="nothing to settle"):
        aezoo.settle([], recipe=RECIPE, out=tmp_path / "run")
    with pytest.raises(aezoo.AezooError, match="--max-seeds of at least"):
        aezoo.settle(["pca < mean"], recipe=RECIPE, out=tmp_path / "run", max_seeds=1)
