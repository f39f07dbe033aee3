"""Several calls into one folder: whose rows a call speaks of, what it supersedes, and what is running meanwhile."""

import inspect
import pydoc
import re
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.harness import call as harness
from aezoo.harness.observer import Observer
from aezoo.harness.state import status
from aezoo.registry.discovery import discover
from aezoo.run.store import RunDirectory
from aezoo.table import rows

MODEL = """
    from torch import nn

    class Model(nn.Sequential):
        def __init__(self, image_shape):
            super().__init__(nn.Flatten(), nn.Linear(36, {width}), nn.Linear({width}, 36), nn.Unflatten(1, image_shape))
"""


class Heard(Observer):
    def __init__(self):
        self.lines = []

    def chosen(self, lines):
        self.lines += [line for line in lines if "that test" not in line]


@pytest.fixture
def bench(tiny, tmp_path):
    """Return a function that benches into one folder and returns the run and what was told beside it."""

    def call(variants, **settings):
        heard = Heard()
        recipe = Recipe(name="t", dataset="tiny", steps=5, seeds=settings.pop("seeds", 1))
        settings = {"timing": False, "device": "cpu", "jobs": 1, "out": tmp_path / "run", **settings}
        return aezoo.bench(variants, recipe=recipe, observer=heard, **settings), heard.lines

    return call


def seeds(run):
    table = run.table()
    return dict(zip(table["variant"], table["seeds"], strict=True))


@pytest.fixture
def model(tmp_path):
    """Return a function that writes a model's file, which has another source for each width."""

    def write(width):
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(MODEL.format(width=width)))
        return str(path)

    return write


def test_a_run_speaks_of_its_call_and_whole_of_the_folder(bench, tmp_path):
    first, _ = bench(["linear[latent_dim=2]", "linear[latent_dim=4]"])
    assert not first.failed
    broken = tmp_path / "broken.py"
    broken.write_text("from torch import nn\ndef build(image_shape):\n    raise RuntimeError('no such luck')\n")
    bad, _ = bench([f"{broken}"])
    assert set(bad.table()["variant"]) == {"broken", "mean"}
    assert bad.failed
    later, _ = bench(["linear[latent_dim=2]"])
    assert set(later.table()["variant"]) == {"linear[latent_dim=2]", "pca[latent_dim=2]", "mean"}
    assert not later.failed
    assert {record.variant for record in later.records()} == set(later.table()["variant"])
    assert set(later.curves()["variant"]) == {"linear[latent_dim=2]"}
    assert "latent_dim=4" not in later._repr_html_()
    assert later.whole.failed
    assert len(later.whole.table()) == len(RunDirectory(later.path).load().info().rows) == 6
    assert later.table().set_index("variant")["group_rank"].max() == 2


def test_a_row_of_other_threads_stays_told_apart_and_comes_back_under_its_own_name(bench):
    variant = "linear[latent_dim=2]"
    bench([variant], seeds=3)
    run, told = bench([variant], seeds=2, threads=2)
    assert told == [f"in the table rows of before stand beside, as {variant} (1 thread)"]
    table = run.whole.table().set_index("variant")
    assert table.loc[[variant, f"{variant} (1 thread)"], "threads"].tolist() == [2, 1]
    assert table.loc[[variant, f"{variant} (1 thread)"], "seeds"].tolist() == [2, 3]
    assert table.index.tolist().count("pca[latent_dim=2]") == len([name for name in table.index if "pca" in name]) == 1
    # Fewer seeds of what is there: nothing is trained, and none of its seeds is lost.
    run, _ = bench([variant], seeds=1)
    assert run.trials == 0
    # Baselines stand once, with the most seeds that there are.
    assert seeds(run.whole) == {variant: 3, f"{variant} (2 threads)": 2, "pca[latent_dim=2]": 3, "mean": 3}
    assert f"{variant} (1 thread)" not in run.whole.table()["variant"].tolist()


def test_an_edited_model_gives_its_place_up_aloud_or_stays_where_that_is_asked_for(bench, model):
    first, _ = bench([model(2)], seeds=2)
    before = {each.plugin.source_sha256 for each in first.records()}
    run, told = bench([model(3)])
    assert told == [
        "made anew, since its source has changed, in the place of the row of before (--keep-old keeps it): mine"
    ]
    assert seeds(run.whole)["mine"] == 1
    (latest,) = {each.plugin.source_sha256 for each in run.records() if each.variant == "mine"} - before
    source = latest[:7]
    run, told = bench([model(4)], keep_old=True)
    # What gave its place up before comes back.
    rows = {name: count for name, count in seeds(run.whole).items() if name.startswith("mine")}
    assert sorted(rows.values()) == [1, 1, 2]
    assert (rows["mine"], rows[f"mine (source {source})"]) == (1, 1)
    assert told[0].startswith("in the table rows of before stand beside, as mine (source ")
    assert {f"mine (source {source})", "mine"} <= set(run.whole.table()["variant"])
    assert set(run.table()["variant"]) & {f"mine (source {source})", "mine"} == {"mine"}
    # A later call that asks for nothing of it leaves it where it is.
    run, told = bench(["linear[latent_dim=2]"])
    assert f"mine (source {source})" in set(run.whole.table()["variant"])
    assert told == []


def test_metrics_of_an_earlier_call_stay_in_the_table(tiny, tmp_path):
    settings = {"timing": False, "device": "cpu", "out": tmp_path / "run"}
    recipe = Recipe(name="t", dataset="tiny", steps=5, seeds=1)
    aezoo.bench(["linear[latent_dim=2]"], recipe=recipe.change(metrics=["psnr"]), **settings)
    run = aezoo.bench(["linear[latent_dim=2]"], recipe=recipe, **settings)
    assert run.table().set_index("variant").loc["linear[latent_dim=2]", "psnr"] > 0


def test_a_metric_is_computed_of_every_seed_of_the_rows_that_are_named(tiny, tmp_path):
    """Though the call asks for fewer than its rows have."""
    settings = {"timing": False, "device": "cpu", "out": tmp_path / "run"}
    recipe = Recipe(name="t", dataset="tiny", steps=5)
    aezoo.bench(["linear[latent_dim=2]"], recipe=recipe.change(seeds=2), **settings)
    run = aezoo.bench(["linear[latent_dim=2]"], recipe=recipe.change(seeds=1, metrics=["psnr"]), **settings)
    assert (run.table()["seeds"].tolist(), run.table()["psnr"].notna().tolist()) == ([2] * 3, [True] * 3)


@pytest.mark.parametrize("kind", ["locks", "renames"])
def test_what_a_living_process_is_at_is_running(kind, bench, monkeypatch):
    if kind == "renames":
        monkeypatch.setattr("aezoo.locks.weakness", lambda folder: "it is a made one")
    run, _ = bench(["linear[latent_dim=2]", "linear[latent_dim=4]"])
    directory = RunDirectory(run.path)
    ids = {name: ids[0] for name, ids in directory.info().requested.items()}
    for name in ("linear[latent_dim=2]", "linear[latent_dim=4]"):
        directory.trial_path(ids[name]).unlink()

    def states():
        whole = rows.summarise(RunDirectory(run.path).load()).set_index("variant")["status"]
        each = status(RunDirectory(run.path), discover()).set_index("variant")["state"]
        return [(whole[name], each[name]) for name in ("linear[latent_dim=2]", "linear[latent_dim=4]", "mean")]

    assert states() == [("interrupted", "missing"), ("interrupted", "missing"), ("ok", "done")]
    claim = directory.claim(ids["linear[latent_dim=2]"])
    assert states() == [("running", "running"), ("waiting", "waiting"), ("ok", "done")]
    claim.release()
    assert states() == [("interrupted", "missing"), ("interrupted", "missing"), ("ok", "done")]


def test_trials_of_a_file_are_not_stale_because_the_file_is_not_named(bench, model, call):
    run, _ = bench([model(2)])
    _, out, _ = call("status", run.path, "--all", "--format", "csv")
    assert "mine,0,done," in out
    _, out, _ = call("status", run.path, "--format", "csv", "--plugin", model(3))
    assert "mine,0,stale,plugin source changed" in out


def test_to_reproduce_a_trial_of_a_file_the_file_is_asked_for(bench, model, call, tmp_path, monkeypatch):
    run, _ = bench([model(2)])
    monkeypatch.chdir(tmp_path)
    status, out, _ = call("reproduce", run.path, "mine-s0")
    assert (status, "bit-equal" in out) == (0, True)
    (tmp_path / "mine.py").rename(tmp_path / "there.py")
    status, out, err = call("reproduce", run.path, "mine-s0")
    assert (status, out) == (2, "")
    assert "mine.py is not there; give it with --plugin ./mine.py" in err
    (tmp_path / "there.py").rename(tmp_path / "mine.py")
    status, out, _ = call("reproduce", run.path, "mine-s0", "--plugin", "./mine.py")
    assert (status, "bit-equal" in out) == (0, True)


def test_whom_the_sizes_of_a_latent_do_not_reach_is_told(tiny, tmp_path):
    path = tmp_path / "theirs.py"
    path.write_text(textwrap.dedent(MODEL.format(width=2)).replace("image_shape)", "image_shape, latent=2)", 1))

    class Warned(Heard):
        def warn(self, text):
            self.lines.append(text)

    heard = Warned()
    settings = {"recipe": Recipe(name="t", dataset="tiny", steps=5, seeds=1), "timing": False, "device": "cpu"}
    aezoo.bench([str(path), "linear"], latent_dims=[2], observer=heard, out=tmp_path / "run", **settings)
    assert heard.lines[0] == (
        "latent sizes 2 do not reach theirs: no hyperparameter latent_dim; theirs has latent: call it latent_dim, or "
        f"give '{path}[latent=2]'"
    )


def test_a_sweep_whose_every_network_fails_keeps_its_table_and_the_reasons(tiny, tmp_path, call):
    path = tmp_path / "bad.py"
    path.write_text("def build(image_shape, latent_dim=4):\n    raise RuntimeError('no such luck')\n")
    status, out, err = call(
        "bench", path, "--latent-dim", "2,3", "--dataset", "tiny", "--steps", "5", "--seeds", "1", "--no-timing",
        "--device", "cpu", "--out", tmp_path / "run",
    )  # fmt: skip
    assert status == 1
    assert out.count("bad[latent_dim=") == 2
    assert "error: bad[latent_dim=2] seed 0: RuntimeError: no such luck" in err
    assert aezoo.Run(path=tmp_path / "run").table().set_index("variant").loc["bad[latent_dim=3]", "reason"] == (
        "RuntimeError: no such luck"
    )
    assert call("bench", "mlp", "--latent-dim", "0")[2].startswith("error: --latent-dim takes whole numbers from 1 on")


def test_a_call_from_python_takes_settings_of_a_recipe_a_dataset_and_arrays_and_says_where_it_is(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 1, 6, 6), dtype=np.uint8)
    mine = aezoo.Dataset(
        name="mine", summary="mine", reference="me",
        load=lambda data_dir: aezoo.Images(train=pixels[:40], test=pixels[40:]),
    )  # fmt: skip
    settings = {"seeds": 1, "timing": False, "report": False, "device": "cpu"}
    for number, dataset in enumerate([pixels, mine]):
        run = aezoo.bench(["linear[latent_dim=2]"], dataset=dataset, steps=4, out=tmp_path / f"{number}", **settings)
        assert {record.recipe.steps for record in run.records()} == {4}
        err = capsys.readouterr().err
        assert "40 images of 1x6x6 to train on, 20 that test" in err or number == 0
        assert "[3/3] " in err
    run = aezoo.bench(["linear[latent_dim=2]"], dataset=pixels, quick=True, out=tmp_path / "quick", **settings)
    assert {record.recipe.name for record in run.records()} == {"quick"}
    with pytest.raises(aezoo.AezooError, match="no setting 'stepz'.* Did you mean 'steps'"):
        aezoo.bench(["linear"], stepz=4)
    with pytest.raises(aezoo.AezooError, match="quick is a recipe of its own"):
        aezoo.bench(["linear"], quick=True, recipe="tuned")


def test_after_an_interrupt_the_run_is_at_hand(tiny, tmp_path, monkeypatch):
    class Stops(Observer):
        def ended(self, record):
            if record.variant == "mean":
                raise KeyboardInterrupt

    settings = {
        "recipe": Recipe(name="t", dataset="tiny", steps=5, seeds=1),
        "timing": False,
        "device": "cpu",
        "jobs": 1,
    }
    with pytest.raises(aezoo.Interrupted, match=r"has what ended: aezoo\.Run\(path='.*run'\)") as stopped:
        aezoo.bench(["linear[latent_dim=2]"], observer=Stops(), out=tmp_path / "run", **settings)
    table = stopped.value.run.table().set_index("variant")
    assert table.loc["mean", "status"] == "ok"
    assert table.loc["linear[latent_dim=2]", "status"] == "interrupted"


def test_a_data_folder_that_is_not_used_is_said_to_be_none_of_it(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pics").mkdir()
    _, _, err = call("bench", "mean", "--dataset", "digits", "--data-dir", "pics", "--steps", "2", "--no-timing")
    assert (
        "warning: --data-dir pics is not used: digits comes with a package, or is made; --dataset ./pics takes images "
        "of yours" in err
    )
    assert "1,433 images of 1x8x8 to train on, 364 that test" in err


def test_an_interrupt_before_the_first_trial_is_an_interrupt_of_a_bench_too(tiny, tmp_path):
    class Stops(Observer):
        def stage(self, text):
            if "before the bench" in text:
                raise KeyboardInterrupt

        def finished(self, text):
            self.text = text

    observer = Stops()
    settings = {"timing": False, "device": "cpu", "out": tmp_path / "run", "observer": observer}
    recipe = Recipe(name="t", dataset="tiny", steps=5, seeds=1)
    with pytest.raises(aezoo.Interrupted, match="nothing was written") as stopped:
        aezoo.bench(["linear[latent_dim=2]"], recipe=recipe, **settings)
    assert stopped.value.run is None
    assert observer.text == str(stopped.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(aezoo.AezooError, match="no architecture"):
        aezoo.bench(["liner"], recipe=recipe, **settings)
    assert observer.text == ""


def test_a_warning_points_at_the_line_that_called_and_a_run_is_had_by_its_place(tiny, tmp_path):
    class Spare(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(1, 1, 1))
            self.spare = nn.Parameter(torch.zeros(2))

    recipe = Recipe(name="t", dataset="tiny", steps=5, seeds=2)
    with pytest.warns(UserWarning, match="note: Spare: expected a gradient") as warned:
        run = aezoo.bench([Spare], recipe=recipe, timing=False, report=False, device="cpu", out=tmp_path / "run")
    of_notes = [each for each in warned if "note: Spare" in str(each.message)]
    assert [each.filename for each in of_notes] == [__file__]
    again = aezoo.Run(str(run.path))
    assert again.path == run.path
    assert "trials" not in repr(again)
    with pytest.raises(aezoo.AezooError, match=r"observer takes an aezoo\.Observer, .* but got 'x'"):
        aezoo.bench([Spare], recipe=recipe, observer="x", out=tmp_path / "run")


def test_help_says_what_each_setting_takes():
    for function in (aezoo.bench, harness.preview):
        text = pydoc.render_doc(function, renderer=pydoc.plaintext)
        signature = inspect.signature(function).parameters
        for name in (*aezoo.Request.model_fields, "quick", "lr", "warmup", "steps"):
            assert re.search(rf"^ +{name}: \w|^ +{name}: `", text, re.MULTILINE), name
            assert name in signature
    undescribed = [name for name, field in aezoo.Recipe.model_fields.items() if not field.description]
    assert undescribed == ["name"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"learning_rate": 0.1}, r"no setting 'learning_rate'.* Did you mean 'lr'\?"),
        ({"warmup": 5}, r"warmup: .*less than 1, but got 5 \(share of the steps"),
        (
            {"variants": {"mlp": {"latent_dim": 4}}},
            r"give a list of variants, such as \['mlp\[latent_dim=4\]'\].*dictionary",
        ),
    ],
)
def test_a_setting_that_is_none_is_told_what_it_may_be(settings, told):
    with pytest.raises(aezoo.AezooError, match=told):
        aezoo.bench(settings.pop("variants", ["mlp"]), **settings)
