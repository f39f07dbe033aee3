"""What a trial keeps to be looked at, and the page at the end of a bench: without a browser."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import make_run, several, variant
from torch import nn

import aezoo
from aezoo.page.contents import contents
from aezoo.page.page import json_in_html
from aezoo.run.files import DamagedFileError
from aezoo.run.samples import Choice, Samples, pack_samples, unpack_samples
from aezoo.run.store import SAMPLES, RunDirectory
from aezoo.table.notes import notes
from aezoo.table.rows import summarise
from aezoo.train.samples import IMAGES, choose, samples_of, spaced


def quick(**settings):
    return aezoo.read_recipe("quick").change(dataset="tiny", steps=50, **settings)


def images(count: int, seed: int = 0) -> np.ndarray:
    """Return images of rank 1 and some noise, the last ones all noise."""
    rng = np.random.default_rng(seed)
    pixels = np.outer(rng.uniform(0, 1, count), rng.uniform(0, 1, 36)) * 200 + rng.uniform(0, 5, (count, 36))
    pixels[-3:] = rng.uniform(0, 255, (3, 36))
    return pixels.astype(np.uint8).reshape(-1, 1, 6, 6)


def test_images_are_chosen_by_the_rule_that_is_stated():
    train, test = images(80), images(60, seed=1)
    labels = np.arange(60) % 4
    chosen, pair = choose(train, test, labels)
    assert len(chosen) == IMAGES
    assert len({place for place, _ in chosen}) == IMAGES
    reasons = [reason for _, reason in chosen]
    assert reasons[:4] == [f"label {label}" for label in range(4)]
    assert [labels[place] for place, _ in chosen[:4]] == [0, 1, 2, 3]
    counts = {end: reasons.count(f"{end} for PCA") for end in ("easiest", "typical", "hardest")}
    assert counts == {"easiest": 4, "typical": 4, "hardest": 4}
    assert {57, 58, 59} <= {place for place, reason in chosen if reason == "hardest for PCA"}
    assert pair == (chosen[0][0], chosen[1][0])
    assert choose(train, test, labels) == (chosen, pair)


def test_images_are_chosen_without_labels_from_few_and_from_equal_ones():
    train, test = images(80), images(60, seed=1)
    chosen, pair = choose(train, test, None)
    assert len(chosen) == IMAGES
    assert chosen[0][1] == "easiest for PCA"
    assert pair == (chosen[0][0], next(place for place, reason in chosen if reason == "hardest for PCA"))
    few, _ = choose(train, test[:5], None)
    assert sorted(place for place, _ in few) == [0, 1, 2, 3, 4]
    blank, _ = choose(np.zeros_like(train), np.zeros_like(test), None)
    assert len({place for place, _ in blank}) == IMAGES
    many, _ = choose(train, test, np.arange(60))
    assert sum(reason.startswith("label") for _, reason in many) == 10


def test_places_are_evenly_spaced():
    assert spaced(500, 3) == [0, 1, 2]
    assert spaced(4, 10) == [0, 2, 5, 7]


class Linear(aezoo.Autoencoder):
    """Takes the first numbers of an image for its code."""

    def __init__(self, size: int, scale: float = 1.0) -> None:
        super().__init__(nn.Flatten(), nn.Unflatten(1, (1, 6, 6)))
        self.size, self.scale = size, scale

    def encode(self, x):
        return x.flatten(1)[:, : self.size] * self.scale

    def decode(self, z):
        return nn.functional.pad(z / self.scale, (0, 36 - self.size)).reshape(-1, 1, 6, 6)


def look_at(module, **options):
    pixels = torch.from_numpy(images(60, seed=2))
    return samples_of(
        module, pixels, images=range(16), pair=(0, 1), latents=range(50), precision="float32", **options
    ), pixels


def test_two_numbers_are_kept_as_they_are_and_more_as_principal_components():
    kept, pixels = look_at(Linear(2))
    expected = pixels[:50].flatten(1)[:, :2].numpy() / 255
    assert np.abs(kept["latents"].astype(np.float64) * kept["scale"] - expected).max() < 1e-3
    assert kept["explained"] is None
    kept, pixels = look_at(Linear(30))
    centred = pixels[:50].flatten(1)[:, :30].double() / 255
    centred = centred - centred.mean(dim=0)
    values = torch.linalg.svdvals(centred) ** 2
    assert kept["explained"] == pytest.approx([float(value / values.sum()) for value in values[:2]], rel=1e-4)
    scores = kept["latents"].astype(np.float64) * kept["scale"]
    assert np.square(scores).sum(axis=0) == pytest.approx(values[:2].numpy(), rel=1e-2)
    assert kept["missing"] == {}


def test_latents_of_any_scale_are_kept_and_what_is_not_finite_is_told():
    kept, _ = look_at(Linear(2, scale=1e12))
    assert np.isfinite(kept["latents"]).all()
    assert kept["scale"] > 1e11
    kept, _ = look_at(Linear(2, scale=float("nan")))
    assert "latents" not in kept
    assert "not finite" in kept["missing"]["latents"]


def test_reconstructions_are_bytes_and_what_is_clipped_is_counted():
    class Loud(Linear):
        def decode(self, z):
            return super().decode(z) * 2 - 0.5

    kept, pixels = look_at(Loud(36))
    expected = (pixels[:16].double() / 255 * 2 - 0.5).clamp(0, 1).mul(255).round()
    assert np.abs(kept["reconstructions"].astype(int) - expected.numpy()).max() <= 1
    raw = pixels[:16].double() / 255 * 2 - 0.5
    assert kept["clipped"] == pytest.approx(float(((raw < -0.002) | (raw > 1.002)).double().mean()), abs=0.01)


def test_what_lies_between_two_images_begins_and_ends_with_them():
    kept, _ = look_at(Linear(36))
    assert (kept["interpolation"][0] == kept["reconstructions"][0]).all()
    assert (kept["interpolation"][-1] == kept["reconstructions"][1]).all()
    middle = kept["interpolation"].astype(float).mean(axis=(1, 2, 3))
    assert (np.diff(middle) * np.sign(middle[-1] - middle[0]) >= -0.5).all()


def test_a_decoder_that_refuses_a_mixture_costs_the_mixture_alone():
    class Picky(Linear):
        def decode(self, z):
            if len(z) == 8:
                raise SystemExit("no mixtures")
            return super().decode(z)

    kept, _ = look_at(Picky(36))
    assert "no mixtures" in kept["missing"]["interpolation"]
    assert len(kept["latents"]) == 50


def samples() -> Samples:
    choice = Choice(images=(3, 1), reasons=("label 0", "easiest for PCA"), pair=(3, 1), latents=(0, 2))
    return Samples(
        choice=choice, reconstructions=np.arange(18, dtype=np.uint8).reshape(2, 1, 3, 3), clipped=0.25,
        latents=np.array([[0.5, 1.0], [-1.0, 0.25]], np.float16), scale=4.0, explained=(0.5, 0.25),
        missing={"interpolation": "why"},
    )  # fmt: skip


def test_samples_come_back_from_their_file():
    before = samples()
    after = unpack_samples(pack_samples(before))
    assert after.choice == before.choice
    assert (after.reconstructions == before.reconstructions).all()
    assert (after.latents == before.latents).all()
    assert (after.clipped, after.scale, after.explained) == (0.25, 4.0, (0.5, 0.25))
    assert after.missing == {"interpolation": "why"}
    assert after.usage is None


def test_samples_that_are_damaged_or_of_another_kind_are_never_read_wrong():
    content = pack_samples(samples())
    for place in range(0, len(content) - 40, 7):
        flipped = bytearray(content)
        flipped[place] ^= 0x55
        try:
            unpack_samples(bytes(flipped))  # pixels may be others: the record's checksum finds that
        except DamagedFileError:
            continue
    for wrong in (b"", b"\x08" + bytes(15), content[:60]):
        with pytest.raises(DamagedFileError):
            unpack_samples(wrong)


def test_a_bench_ends_with_a_page_that_shows_every_variant(tiny, tmp_path, page):
    run = aezoo.bench(["mlp[latent_dim=2]", "topk[k=3,width=12]"], recipe=quick(), out=tmp_path / "run", timing=False)
    text = (run.path / "report.html").read_text()
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    shown = {row["variant"]: data["looks"]["variants"][str(row["id"])] for row in data["rows"]}
    assert set(shown) == set(run.table()["variant"])
    assert all("pixels" in each for each in shown.values())
    assert shown["topk[k=3,width=12]"]["activity"]["units"] == 12
    assert all(place in RunDirectory(run.path).read_images().pixels for place in data["atlas"]["places"])


def test_what_a_trial_keeps_is_hashed_in_its_record_and_is_small(tiny, tmp_path):
    run = aezoo.bench(["mlp[latent_dim=2]"], recipe=quick(), out=tmp_path / "run", timing=False)
    for record in run.records():
        file = run.path / "artifacts" / record.trial_id / SAMPLES
        assert hashlib.sha256(file.read_bytes()).hexdigest() == record.samples_sha256
        assert file.stat().st_size < 30_000
    assert set(run.reconstructions()) == {"mlp[latent_dim=2]", "mean", "pca[latent_dim=2]"}
    assert run.test_images().shape == (16, 1, 6, 6)
    # Every variant's are of the same images, those of the mean are all one.
    assert len(np.unique(run.reconstructions()["mean"], axis=0)) == 1


def test_a_damaged_sample_is_told_on_the_page_and_the_rest_is_shown(tmp_path):
    run = make_run(tmp_path / "run", several(5), seeds=1)
    record = next(record for record in run.records().values() if record.variant == "net0[latent_dim=8]")
    (run.artifacts(record.trial_id) / SAMPLES).write_bytes(b"torn")
    page = contents(run)
    ids = {row["variant"]: row["id"] for row in page.data["rows"]}
    assert "damaged" in page.data["looks"]["variants"][ids["net0[latent_dim=8]"]]["absent"]
    assert "pixels" in page.data["looks"]["variants"][ids["net1[latent_dim=16]"]]


def test_the_images_on_which_variants_differ_are_those_with_the_widest_spread(tmp_path):
    run = make_run(tmp_path / "run", several(9), seeds=2)
    atlas = contents(run).data["atlas"]["groups"]["all"]
    errors = aezoo.Run(path=run.path).errors().groupby(["variant", "image"])["mse"].mean().unstack()
    logs = np.log(errors.to_numpy())
    left = logs - logs.mean(axis=0) - logs.mean(axis=1, keepdims=True) + logs.mean()
    order = np.argsort(-left.std(axis=0))
    assert [each["place"] for each in atlas] == list(order[: len(atlas)])
    names = {row["id"]: row["variant"] for row in contents(run).data["rows"]}
    first = atlas[0]
    worst = errors.index[np.argmax(left[:, order[0]])]
    assert names[first["worst"][0]["id"]] == worst
    assert first["worst"][0]["error"] == pytest.approx(errors.loc[worst, order[0]], rel=0.01)


def test_report_reads_images_that_the_run_does_not_keep_from_the_data_set(tiny, tmp_path, call):
    run = aezoo.bench(["mlp[latent_dim=2]", "linear[latent_dim=2]"], recipe=quick(), out=tmp_path / "run", timing=False)
    before = set(RunDirectory(run.path).read_images().pixels)
    status, out, err = call("report", run.path, "-o", tmp_path / "page.html")
    # What the bench before it said is captured too.
    assert (status, "warning" in err) == (0, False)
    assert out.strip() == str(tmp_path / "page.html")
    after = set(RunDirectory(run.path).read_images().pixels)
    assert before < after


def test_report_says_why_where_the_data_set_is_not_here(tmp_path, call):
    run = make_run(tmp_path / "run", several(5), dataset="gone")
    status, out, err = call("report", run.path)
    assert status == 0
    assert "some images are not on the page: no data set 'gone'" in err
    assert Path(out.strip()).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "no run at nowhere"),
        (["report", "{run}", "-o", "{run}/run.json/x.html"], "cannot write"),
        (["report", "{run}", "{run}-too", "--pictures", "x"], "--pictures are the charts of one run"),
        (["show", "{run}", "nobody"], "no variant 'nobody' in"),
        (["show", "a", "b", "c"], "give a variant, or a run and a variant"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, call, arguments, message):
    run = make_run(tmp_path / "run", several(4))
    make_run(tmp_path / "run-too", several(2))
    status, _, err = call(*(argument.replace("{run}", str(run.path)) for argument in arguments))
    assert status == (1 if "write" in message else 2)
    assert message in err
    assert err.strip().splitlines()[-1].startswith("error: ")


def test_a_card_shows_figures_and_images_where_the_terminal_has_colours(tmp_path, call, monkeypatch):
    run = make_run(tmp_path / "run", several(5), shape=(1, 8, 8))
    _, out, _ = call("show", run.path, "net0[latent_dim=8]")
    assert "rank" in out
    assert "this terminal has no colours" in out
    assert "▀" not in out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = call("show", run.path, "net0[latent_dim=8]")
    kept = run.read_images().pixels[0]
    assert out.count("▀") > 100
    assert "label 0" in out
    assert kept.shape == (1, 8, 8)


def test_data_in_a_page_ends_no_element():
    text = json_in_html({"x": "</script><!--&\u2028\ud800"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"x": "</script><!--&\u2028\ud800"}


def test_the_curves_are_tidy(tmp_path):
    run = aezoo.Run(path=make_run(tmp_path / "run", several(4), seeds=2).path)
    curves = run.curves()
    assert list(curves.columns) == ["variant", "seed", "step", "images", "seconds", "train_mse"]
    assert len(curves) == 4 * 2 * 4
    assert (curves["images"] == curves["step"] * 32).all()
    last = curves[curves["step"] == 200]
    assert (last["seconds"] == 2.0).all()
    assert len(run.errors()) == 4 * 2 * 60


def test_a_variant_of_which_a_seed_failed_is_shown_as_failed_and_drawn_nowhere(tmp_path):
    some = [variant("good", loss=0.02), variant("half", loss=0.001), variant("pca", loss=0.03, baseline="pca")]
    run = make_run(tmp_path / "run", some)
    record = next(one for one in run.records().values() if (one.variant, one.seed) == ("half", 1))
    facts = {"status": "diverged", "reason": "NaN", "test_mse": None, "test_errors_sha256": None}
    run.trial_path(record.trial_id).unlink()
    run.write_trial(record.model_copy(update=facts))
    page = contents(run)
    half = next(row for row in page.data["rows"] if row["variant"] == "half")
    assert (half["group"], half["mse"], half["complete"]) == ("failed", None, False)
    assert page.data["groups"] == ["16 numbers"]
    assert all(half["id"] not in front for fronts in page.data["fronts"].values() for front in fronts.values())
    assert "good is the best of 2 variants" in page.texts["headline"][0]


def test_a_run_whose_variants_have_no_latent_says_so(tmp_path):
    some = [variant(name, latent_kind=None, latent_size=None, latent_shape=None) for name in ("a", "b")]
    page = contents(make_run(tmp_path / "run", some))
    assert page.texts["headline"][0] == (
        "Nothing can be compared: of 2 variants 2 have a loss, but no latent whose size is known."
    )
    assert (page.data["largest"], page.data["groups"]) == ("all", ["no latent"])


def test_names_that_are_alike_where_they_are_cut_are_told_apart(tmp_path):
    some = [variant(f"{'x' * 300}{end}") for end in "ab"]
    names = [row["name"] for row in contents(make_run(tmp_path / "run", some)).data["rows"]]
    assert len(set(names)) == 2


def test_errors_that_are_none_but_rounding_say_nothing_of_where_variants_differ(tmp_path):
    some = [variant("exact", loss=1e-31), variant("a", loss=0.01), variant("b", loss=0.02), variant("c", loss=0.03)]
    run = make_run(tmp_path / "run", some)
    names = {row["id"]: row["variant"] for row in contents(run).data["rows"]}
    for each in contents(run).data["atlas"]["groups"]["all"]:
        assert all(1e-3 < one["times"] < 1e3 for end in ("worst", "best") for one in each[end]), names


def test_points_of_a_long_curve_are_means_since_the_point_before(tmp_path):
    run = make_run(tmp_path / "run", [variant("a")], seeds=1)
    (record,) = run.records().values()
    curve = [(50 * n, 1.0 / n) for n in range(1, 301)]
    run.write_trial(record.model_copy(update={"curve": curve}))
    (drawn,) = contents(run).data["curves"].values()
    assert len(drawn["steps"]) <= 120
    assert drawn["steps"][-1] == 15_000
    assert drawn["mean"][0] == pytest.approx(
        np.mean([1.0 / n for n in range(1, drawn["steps"][0] // 50 + 1)]), rel=1e-3
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda images: replace(images, pixels={999: images.pixels[0], **images.pixels}),
        lambda images: replace(images, pixels={place: images.pixels[place] for place in range(3)}),
        lambda images: replace(images, pixels={place: pixels[:, :4] for place, pixels in images.pixels.items()}),
        lambda images: replace(images, choice=replace(images.choice, pair=(0, 59))),
    ],
    ids=["no such place", "too few", "another shape", "a pair of others"],
)
def test_images_that_are_well_formed_and_wrong_are_told_and_not_shown(tmp_path, spoil):
    run = make_run(tmp_path / "run", several(4), seeds=1)
    run.write_images(spoil(run.read_images()))
    with pytest.warns(UserWarning, match="is damaged: .*test images are not shown"):
        page = contents(run)
    assert "damaged" in page.data["looks"]["why"]
    assert page.data["looks"]["images"] is None


def test_the_first_seed_whose_samples_are_of_the_runs_images_is_shown(tmp_path):
    run = make_run(tmp_path / "run", several(4), seeds=2)
    record = next(one for one in run.records().values() if (one.variant, one.seed) == ("net0[latent_dim=8]", 0))
    samples = run.read_samples(record)
    other = replace(samples, choice=replace(samples.choice, latents=tuple(range(1, 51))))
    content = pack_samples(other)
    record = record.model_copy(update={"samples_sha256": hashlib.sha256(content).hexdigest()})
    run.write_trial(record, {SAMPLES: content})
    page = contents(run)
    number = next(row["id"] for row in page.data["rows"] if row["variant"] == "net0[latent_dim=8]")
    assert page.data["looks"]["variants"][number]["seed"] == 1
    with pytest.warns(UserWarning, match="of other test images than the run's"):
        assert "net0[latent_dim=8]" not in aezoo.Run(path=run.path).reconstructions()


def test_a_page_that_cannot_be_made_is_a_warning_and_the_run_stands(tiny, tmp_path, page, monkeypatch):
    def fails(*_, **__):
        raise ValueError("a fault of the page")

    monkeypatch.setattr("aezoo.page.page.write", fails)
    with pytest.warns(UserWarning, match="no page of the run: ValueError: a fault of the page; `aezoo report"):
        run = aezoo.bench(["mlp[latent_dim=2]"], recipe=quick(), out=tmp_path / "run", timing=False)
    assert not run.failed
    assert (run.path / "table.csv").is_file()


@pytest.mark.parametrize("name", ["Autoencoder", "Flat"])
def test_a_network_displays_itself_with_hostile_names_escaped(name):
    class Evil(nn.Linear):
        def extra_repr(self):
            return "<script>alert(1)</script>"

    halves = Evil(4, 2), Evil(2, 4)
    inner = nn.Module()
    inner.encoder, inner.decoder = halves
    network = aezoo.Autoencoder(*halves) if name == "Autoencoder" else aezoo.Flat(inner, (1, 2, 2))
    text = network._repr_html_()
    assert text.startswith(f"<p><b>{name}</b>: 22 parameters, objective mse</p>")
    assert "<th>encoder</th><td>10 parameters</td>" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    "text", ["conv[latent_dim=8,width=4]", "conv[width=4, latent_dim=8]", "conv[width=4,latent_dim=8,depth=1]"]
)
def test_a_card_is_found_in_whatever_order_and_with_defaults(tmp_path, call, text):
    facts = {"hyperparameters": {"depth": 1, "latent_dim": 8, "width": 4}}
    some = [variant("conv[latent_dim=8,width=4]", **facts), variant("conv", hyperparameters={"depth": 1})]
    run = make_run(tmp_path / "run", some)
    status, out, _ = call("show", run.path, text)
    assert status == 0
    assert out.startswith("conv[latent_dim=8,width=4]\n")
    assert call("show", run.path, "conv[width=5,latent_dim=8]")[0] == 2
    assert call("show", run.path, "conv[]")[1].startswith("conv\n")


def test_the_quick_recipe_is_called_a_smoke_test_however_it_comes_out(tmp_path):
    recipe = aezoo.Recipe(name="quick", dataset="made", seeds=1, steps=100)
    run = make_run(tmp_path / "run", [variant("net", loss=0.05)], seeds=1, recipe=recipe)
    (line,) = (line for line in notes(run, summarise(run)) if line.startswith("a smoke test"))
    assert line.startswith("a smoke test: 100 steps show that all runs, and compare nothing")


def test_a_single_test_image_gives_no_interval_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("made_runs.NUM_TEST", 1)
    run = make_run(tmp_path / "run", [variant("net"), variant("other", loss=0.5)], samples=False)
    table = summarise(run)
    assert table[["test_mse_low", "test_mse_high"]].isna().all(axis=None)
    assert table["rank_high"].tolist() == [2, 2]
    assert "no intervals: a single image tests, and tells nothing of another one" in notes(run, table)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ((0.07, 0.08, 0.05), "a smoke test: 2 of 3 trained variants are no better than the mean image, 200 steps show"),
        ((0.07, 0.05, 0.05), None),
        ((0.05, 0.05, 0.05), None),
    ],
)
def test_where_half_of_what_was_trained_is_no_better_than_the_mean_image_the_losses_are_called_a_smoke_test(
    losses, told, tmp_path
):
    trained = [variant(f"net{number}", loss=loss) for number, loss in enumerate(losses)]
    fitted = variant("dct", loss=0.09, curve=[], objective="mse, closed form")
    floor = variant("mean", loss=0.06, group=0, baseline="mean", curve=[], objective="mse, closed form")
    run = make_run(tmp_path / "run", [*trained, fitted, floor], seeds=1)
    lines = [line for line in notes(run, summarise(run)) if line.startswith("a smoke test")]
    assert [line[: len(told or "")] for line in lines] == ([told] if told else [])
