"""The command line: exit statuses, one-line errors, and what is never imported."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
from conftest import hear_ctrl_c

import aezoo
from aezoo.cli import complete, screen
from aezoo.cli.checks import check_names
from aezoo.contract.recipe import Recipe
from aezoo.harness import local, observer
from aezoo.harness.call import reproduce
from aezoo.registry import catalogue
from aezoo.registry.discovery import discover, discover_data
from aezoo.registry.texts import refuse_no_variant


@pytest.fixture
def run(tiny, tmp_path):
    recipe = Recipe(name="t", dataset="tiny", steps=5)
    return aezoo.bench(["linear[latent_dim=2]"], recipe=recipe, out=tmp_path / "run", timing=False, device="cpu").path


IMPORTED = """
import sys
from aezoo.cli import main
try:
    main()
except SystemExit as end:
    print("status", end.code)
print(sorted({"torch", "pandas"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"), [(["--help"], "[]"), (["--version"], "[]"), (["bench", "--help"], "[]")]
)
def test_help_imports_nothing_heavy(arguments, allowed):
    done = subprocess.run([sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == allowed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mpl"], "no architecture 'mpl'; `aezoo list` shows them all. Did you mean 'mlp'?"),
        (["mpl[latent_dim=3]"], "no architecture 'mpl'"),
        (["zzz*"], "no architecture matches 'zzz*'"),
        (["covn*"], "no architecture matches 'covn*'; `aezoo list` shows them all. Did you mean 'conv'"),
        (["./nosuch.py"], "no file ./nosuch.py"),
        (["mlp,conv"], "'mlp,conv' is not one name; names have spaces between: mlp conv\n"),
        (["mlp conv[width=8]"], "is not one name; names have spaces between: mlp 'conv[width=8]'\n"),
        (["mlp[width=8],conv[width=8]"], "names have spaces between: 'mlp[width=8]' 'conv[width=8]'\n"),
        (["mlp(latent_dim=3)"], "hyperparameters stand in square brackets, 'mlp[latent_dim=3]'"),
        (["mlp!"], "not a variant: 'mlp!'"),
        (["./README.md"], "./README.md is no Python file; a network in a file is ./FILE.py"),
        (["./pics"], "./pics is a folder; name architectures, and give its images by --dataset ./pics\n"),
        (["./pics[size=8]"], "give its images by --dataset './pics[size=8]'\n"),
        (["my_net[a=1]"], "no architecture 'my_net', but there is a file my_net.py: give './my_net.py[a=1]'"),
        (["pics"], "no architecture 'pics'; `aezoo list` shows them all. Images are given by --dataset ./pics."),
        ([], "nothing to bench"),
        (["mlp", "--dataset", "minst"], "no data set 'minst'"),
        (["mlp", "--dataset", "digits[size=3]"], "digits: no hyperparameter 'size'"),
        (["mlp", "--metrics", "psnr,sim"], "no metric 'sim'"),
        (["mlp", "--executor", "rya"], "no executor 'rya'"),
        (["mlp", "--executor", "loca"], "Did you mean 'local'?"),
        (["mlp", "--device", "cud"], "no device 'cud'"),
        (["mlp", "--recipe", "defualt"], "no recipe 'defualt'"),
        (["mlp", "--format", "gihub"], "no format 'gihub'"),
        (["mlp", "--steps", "0"], "steps: Input should be greater"),
        (["mlp", "--jobs", "0"], "jobs: input should be greater"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_torch_is_imported(arguments, told, tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / "my_net.py").touch()
    # Somebody else's plugin might have such a name: here there is none, as after a first installation.
    own = f"""
import importlib.metadata as metadata
of_group = metadata.entry_points
metadata.entry_points = lambda **which: [
    each for each in of_group(**which) if which != {{"group": "aezoo"}} or each.dist.name == "aezoo"
]
{IMPORTED}"""
    command = [sys.executable, "-c", own, "bench", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert told in done.stderr
    status, imported = done.stdout.splitlines()
    assert status == "status 2"
    assert "torch" not in imported


@pytest.mark.parametrize(
    ("arguments", "differing"),
    [
        (["--steps", "6"], "steps 5 there, 6 asked"),
        (["--device", "mps"], "device cpu there, mps asked"),
        (["--dataset", "digits"], "dataset tiny there, digits asked"),
    ],
)
def test_a_folder_of_another_recipe_is_refused_before_torch_is_imported(arguments, differing, run):
    given = ["--dataset", "tiny", "--steps", "5", *arguments, "--out", str(run)]
    command = [sys.executable, "-c", IMPORTED, "bench", "linear[latent_dim=3]", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == (
        f"error: {run} holds a run of another recipe ({differing}); give another folder with --out\n"
    )
    assert done.stdout.splitlines()[0] == "status 2"
    assert "torch" not in done.stdout


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mlp[latent_dim=abc]", "mlp: hyperparameter 'latent_dim' accepts int, but got 'abc'."),
        ("MLP[Latent_Dim=3.5]", "mlp: hyperparameter 'latent_dim' accepts int, but got 3.5."),
        ("mlp[latent=3]", "mlp: no hyperparameter 'latent'; it accepts latent_dim, width."),
    ],
)
def test_a_kept_listing_tells_what_hyperparameters_take_without_torch(text, told, call):
    assert call("list", "mlp")[0] == 0
    done = subprocess.run([sys.executable, "-c", IMPORTED, "bench", text], capture_output=True, text=True, check=True)
    assert done.stderr.startswith(f"error: {told}")
    assert "torch" not in done.stdout


@pytest.mark.parametrize(
    "text", ["mlp", "conv [latent_dim=16, width=8]", "aezoo : mlp", "net[sizes=[1, 2], b=(3, 4)]", "pkg.mod:Net", "c*v"]
)
def test_what_may_be_a_variant_is_not_refused(text):
    assert refuse_no_variant(text) is None


def test_what_sources_say_of_names_is_what_plugins_contribute(monkeypatch):
    own = tuple(point for point in catalogue.plugin_points() if point.dist.name == "aezoo")
    monkeypatch.setattr(catalogue, "plugin_points", lambda: own)
    contributed = {label for label, (_, owner) in discover().architectures.items() if owner.distribution == "aezoo"}
    assert set(catalogue.architectures(catalogue.plugin_points())) == contributed
    light = {dataset.name for dataset, _ in discover_data().contributed("aezoo_datasets")}
    assert light >= {
        dataset.name for dataset, owner in discover().contributed("aezoo_datasets") if owner.distribution == "aezoo"
    }


@pytest.mark.parametrize("text", ["theirs", "theirs[width=3]", "./theirs.py", "theirs:Net", "the*"])
def test_what_somebody_elses_plugin_may_have_is_its_own_to_judge(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").touch()
    point = metadata.EntryPoint(name="theirs", value="theirs", group="aezoo")
    monkeypatch.setattr(catalogue, "plugin_points", lambda: (point,))
    assert catalogue.architectures(catalogue.plugin_points()) is None
    check_names([text])
    # With aezoo's own plugins alone the names among these are surely wrong; files and modules are never judged here.
    monkeypatch.setattr(catalogue, "plugin_points", tuple)
    with contextlib.nullcontext() if re.search("[/:]", text) else pytest.raises(aezoo.AezooError, match="theirs|the"):
        check_names([text])


def test_a_listing_is_made_anew_when_a_package_comes_or_goes(tmp_path, monkeypatch):
    """What stands on an extra is another thing without it."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = catalogue.key_of(catalogue.ARCHITECTURES, ())
    assert catalogue.key_of(catalogue.ARCHITECTURES, ()) == before
    (site / "an_extra").mkdir()
    os.utime(site, (1, 1))
    assert catalogue.key_of(catalogue.ARCHITECTURES, ()) != before


@pytest.mark.parametrize(
    "command",
    [
        ["table", "run"], ["table", "run", "other"], ["compare", "run", "run"],
        ["report", "run", "other", "-o", "all.csv"], ["export-table", "run", "other", "-o", "all.csv"],
    ],
)  # fmt: skip
def test_reading_tables_never_imports_torch(command, run):
    shutil.copytree(run, run.parent / "other")
    command = [str(run.parent / each) if each in ("run", "other", "all.csv") else each for each in command]
    done = subprocess.run([sys.executable, "-c", IMPORTED, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['pandas']"
    assert "status 0" in done.stdout
    assert command[0] in ("report", "export-table") or "linear[latent_dim=2]" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["list", "show", "plugins", "bench", "table", "status", "reproduce", "compare", "export-table", "merge", "doctor"],
)
def test_every_command_explains_itself_with_an_example(command, call):
    status, out, _ = call(command, "--help")
    assert status == 0
    assert f"Example: aezoo {command}" in out


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["bench", "mpl"], 2, "error: no architecture 'mpl'; `aezoo list` shows them all. Did you mean 'mlp'?"),
        (["bench", "mlp[latent=2]"], 2, "mlp: no hyperparameter 'latent'"),
        (["bench", "mlp", "--dataset", "minst"], 2, "no data set 'minst'"),
        (["bench", "mlp", "--data-dir", "nowhere"], 2, "no folder nowhere"),
        (["bench", "mlp", "--latent-dim", "2;3"], 2, "--latent-dim takes whole numbers"),
        (["bench", "mlp", "--steps", "0"], 2, "steps: Input should be greater than or equal to 1"),
        (["bench", "mlp", "--quick", "--recipe", "mine.toml"], 2, "give one of them"),
        (["bench", "mlp", "--format", "githb"], 2, "no format 'githb'"),
        (["bench"], 2, "nothing to bench"),
        (["show", "cnov"], 2, "Did you mean 'conv'?"),
        (["list", "zzz*"], 2, "nothing matches 'zzz*'"),
        (["table", "nowhere"], 2, "no run at nowhere: the folder does not exist"),
        (["compare", "nowhere", "elsewhere"], 2, "no run at nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, status, told, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert (code, out) == (status, "")
    assert told in err
    # What only a plugin knows is found out when it is imported, after a bench has said what it is about.
    assert len([line for line in err.splitlines() if not line.startswith("aezoo ")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_list_shows_every_architecture_with_its_origin(call):
    _, out, _ = call("list", "--json")
    rows = {row["architecture"]: row for row in json.loads(out)}
    assert {"mean", "pca", "mlp", "conv", "denoising", "vae", "vq_vae", "unet"} <= set(rows)
    assert rows["mlp"]["hyperparameters"] == "latent_dim=3, width=128"
    assert rows["mlp"]["origin"].startswith("aezoo ")
    assert (rows["vae"]["objective"], rows["pca"]["objective"]) == ("mse + kl", "mse, closed form")
    assert len(rows) >= 35
    assert all(row["reference"] and not row["objective"].startswith("unknown") for row in rows.values())
    _, out, _ = call("list", "--datasets", "*mnist")
    assert {line.split()[0] for line in out.splitlines()[2:]} == {
        "mnist",
        "fashion-mnist",
        "kmnist",
        "emnist",
        "qmnist",
    }


def test_list_needs_no_torch_a_second_time_until_a_plugin_changes(distribute, tmp_path, monkeypatch, launcher):
    source = """
        import aezoo, torch

        def build(image_shape):
            return torch.nn.Identity()

        @aezoo.hookimpl
        def aezoo_architectures():
            yield aezoo.Architecture(name="mine", build=build, summary="FIRST", reference="r")
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def listed(*arguments):
        command = [sys.executable, "-c", IMPORTED, "list", "mine", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    path = distribute(source, name="my-dist")
    first, second = listed(), listed()
    assert "torch" in first.splitlines()[-1]
    assert second.splitlines()[-1] == "[]"
    assert second.splitlines()[:-1] == first.splitlines()[:-1]
    assert "FIRST" in second

    def again(*arguments):
        done = launcher.start("list", *arguments, cwd=tmp_path)
        assert done.wait() == 0
        return done

    path.write_text(path.read_text().replace("FIRST", "SECOND"))
    assert "SECOND" in again("mine").out.read_text()
    # What a broken plugin says is never kept.
    path.write_text("raise RuntimeError('no')")
    for _ in range(2):
        assert "RuntimeError: no" in again("linear", "--json").err.read_text()


@pytest.mark.parametrize(
    ("function", "incomplete", "expected"),
    [
        ("variants", "conv_", ["conv_resize", "conv_spatial"]),
        ("variants", "conv[", ["conv[latent_dim=", "conv[width="]),
        ("variants", "conv[width=8,l", ["conv[width=8,latent_dim="]),
        ("datasets", "mnist", ["mnist-5k", "mnist"]),
        ("metrics", "psnr,ss", ["psnr,ssim"]),
        ("executors", "lo", ["local"]),
        ("columns", "test_", ["test_mse", "test_mse_low", "test_mse_high"]),
        ("recipes", "t", ["tuned"]),
    ],
)
def test_a_shell_completes_what_there_is(function, incomplete, expected):
    assert getattr(complete, function)(incomplete) == expected


def test_a_data_set_that_is_taken_for_an_architecture_is_told(call):
    code, _, err = call("show", "photo-patches")
    assert (
        code,
        "'photo-patches' is a data set, and no architecture: bench architectures on it by --dataset photo-patches"
        in err,
    ) == (
        2,
        True,
    )


def test_a_shell_completes_the_paths_of_data_and_the_hyperparameters_of_data_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "train").mkdir(parents=True)
    (tmp_path / "photos.npz").write_bytes(b"")
    (tmp_path / ".hidden").mkdir()
    assert complete.datasets("./ph") == ["./photos", "./photos.npz"]
    assert complete.datasets("./") == ["./photos", "./photos.npz"]
    assert complete.datasets(f"{tmp_path}/photos/") == [f"{tmp_path}/photos/train"]
    assert complete.datasets("./nowhere/") == []
    assert complete.datasets("images[path=photos,si") == ["images[path=photos,size="]


def test_the_views_that_a_shell_completes_are_those_that_there_are():
    from aezoo.contract.columns import FIGURES
    from aezoo.table.views import VIEWS

    assert (tuple(VIEWS), tuple(FIGURES)) == (complete.OF_ONE, complete.OF_SEVERAL)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("table a --view ", ["group", "flat", "rate", "tuning"]), ("table a b --view ", ["mse", "ratio", "vs_pca"]),
        ("table a b --view r", ["ratio"]), ("table --columns infer_v", ["infer_vs_reference"]),
        ("table --columns seeds,infer_v", ["seeds,infer_vs_reference"]),
    ],
)  # fmt: skip
def test_a_shell_is_told_what_its_line_can_go_on_with(words, expected):
    asked = {
        "_AEZOO_COMPLETE": "complete_bash",
        "COMP_WORDS": f"aezoo {words}",
        "COMP_CWORD": str(len(words.split(" "))),
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    *lines, status, imported = done.stdout.splitlines()
    assert (lines, status) == (expected, "status 0")
    assert "torch" not in imported


def test_a_shell_completes_runs_and_the_folders_that_lead_to_them(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    (run.parent / "other").mkdir()
    assert complete.runs("r") == ["run"]
    assert str(run.parent) in complete.runs(f"{run.parent.parent}/")
    assert complete.runs("o") == []


def test_list_shows_what_each_declared_variant_is(call):
    _, out, _ = call("list", "--variants", "--json")
    rows = {row["variant"]: row for row in json.loads(out)}
    assert len(rows) >= 50
    assert re.search(r"^kmeans .* 200,704 ", call("list", "--variants")[1], re.MULTILINE)
    assert all(row["reference"] and isinstance(row["num_params"], int) for row in rows.values())
    assert (rows["kmeans"]["latent"], rows["kmeans"]["num_params"]) == ("1, 8.0 bits", 256 * 784)
    assert rows["rae[smooth=spectral_norm]"]["objective"] == "mse + code size"


def test_list_says_what_of_an_architecture_it_cannot_know(call, distribute):
    distribute(
        """
        import aezoo

        def build(image_shape, *, depth: int):
            raise RuntimeError("no blocks")

        @aezoo.hookimpl
        def aezoo_architectures():
            yield aezoo.Architecture(name="odd", build=build, summary="s", reference="r", variants=[{"depth": 1}])
        """
    )
    _, out, _ = call("list", "--json", "odd")
    assert json.loads(out)[0]["objective"].startswith("unknown: ")
    assert "depth" in json.loads(out)[0]["objective"]
    _, out, _ = call("list", "--json", "--variants", "odd")
    assert json.loads(out)[0]["objective"] == "unknown: RuntimeError: no blocks"


def test_show_tells_a_variant_apart(call):
    _, out, _ = call("show", "mlp[latent_dim=16]")
    assert "latent_dim = 16   (int; default 3)" in out
    assert "205,856 parameters" in out


def test_plugins_works_when_one_fails_and_says_so(call, distribute):
    distribute("raise SystemExit(1)", name="broken-dist")
    status, out, _ = call("plugins")
    assert status == 1
    assert "left out: SystemExit: 1" in out
    assert "architecture mean, architecture pca" in out


def test_plugins_works_when_everything_fails(call, monkeypatch):
    def fail(point):
        raise ImportError("nothing works")

    monkeypatch.setattr("aezoo.registry.discovery.load", fail)
    discover.cache_clear()
    status, out, _ = call("plugins")
    discover.cache_clear()
    assert status == 1
    # One is blocked in all tests.
    assert out.count("left out: ImportError: nothing works") == len(metadata.entry_points(group="aezoo")) - 1


def test_doctor_names_a_broken_plugin(call, distribute):
    distribute("import no_such_thing", name="broken-dist")
    status, out, _ = call("doctor")
    assert status == 1
    assert "FAIL  plugin broken_dist" in out
    assert "ok    processes" in out


def test_bench_prints_a_plain_table_and_the_second_call_trains_nothing(call, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "bench",
        "linear[]",
        "--latent-dim",
        "2,4",
        "--dataset",
        "tiny",
        "--steps",
        "5",
        "--seeds",
        "1",
        "--no-timing",
    ]
    status, out, err = call(*arguments, "--device", "cpu")
    assert status == 0
    *ranked, _, swept = out.split("\n\n")
    lines = [line for part in ranked[1:] for line in part.strip().splitlines()[1:]]
    names = [re.findall(r"[a-z]\w*(?:\[\S+\])?", line)[0] for line in lines]
    assert set(names) == {
        "mean", "pca[latent_dim=2]", "pca[latent_dim=4]", "linear[latent_dim=2]", "linear[latent_dim=4]",
    }  # fmt: skip
    assert [line.split()[0] for line in swept.splitlines()] == ["variant", "---------", "pca", "linear"]
    assert "\x1b" not in out + err
    assert "5 trials to run, into results/default-tiny-cpu-" in err
    status, again, err = call(*arguments, "--device", "cpu")
    assert (status, again) == (0, out)
    assert "all trials are in results/default-tiny-cpu-" in err


def test_a_dry_run_prints_its_estimate_and_stops(call, tiny, tmp_path):
    asked = [
        "bench",
        "linear[latent_dim=2]",
        "--quick",
        "--dataset",
        "tiny",
        "--out",
        tmp_path / "run",
        "--device",
        "cpu",
    ]
    status, out, err = call(*asked, "--dry-run", "--format", "json")
    assert status == 0
    assert {row["variant"]: row["trials"] for row in json.loads(out)} == {
        "linear[latent_dim=2]": 1, "mean": 1, "pca[latent_dim=2]": 1,
    }  # fmt: skip
    assert "3 trials, about " in err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
    status, out, _ = call("bench", "conv[]", "linear[latent_dim=99]", *asked[2:], "--dry-run", "--format", "csv")
    assert status == 0
    status, out, _ = call("bench", "pca*", "--latent-dim", "99", *asked[2:], "--dry-run", "--format", "csv")
    assert (status, "invalid: latent_dim must be 1 to 36" in out) == (1, True)


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["conv*"]])
def test_a_named_variant_that_its_build_refuses_is_a_wrong_call_and_nothing_is_written(more, call, tiny, tmp_path):
    common = ["--dataset", "tiny", "--steps", "5", "--no-timing", "--device", "cpu", "--out", tmp_path / "run"]
    status, out, err = call("bench", "pca[latent_dim=99]", *more, *common)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(
        "error: not for 1x6x6 images: pca[latent_dim=99]: latent_dim must be 1 to 36"
    )
    assert not (tmp_path / "run").exists()


def test_table_formats_and_sorts(call, run):
    status, out, _ = call("table", run, "--format", "json", "--sort", "num_params")
    rows = json.loads(out)
    assert [row["num_params"] for row in rows] == sorted(row["num_params"] for row in rows)
    _, out, _ = call("table", run, "--format", "github")
    assert out.startswith("**0 numbers**\n\n|")
    _, out, _ = call("table", run, "--view", "flat", "--format", "github")
    assert out.startswith("|")
    _, out, _ = call("table", run, "--format", "latex")
    assert out.startswith("\\begin{table}\n\\centering\n\\caption{")
    status, _, err = call("table", run, "--sort", "tset_mse")
    assert (status, "Did you mean 'test_mse'" in err) == (2, True)


def test_status_says_why_a_trial_is_missing_or_stale(call, tiny, distribute, tmp_path, monkeypatch):
    source = """
        import aezoo
        from torch import nn

        def build(image_shape, *, latent_dim: int = 2):
            return aezoo.Flat(nn.Sequential(nn.Linear(36, latent_dim), nn.Linear(latent_dim, 36)), image_shape)

        @aezoo.hookimpl
        def aezoo_architectures():
            yield aezoo.Architecture(name="mine", build=build, summary="s", reference="r")
    """
    distribute(source, name="my-dist")
    recipe = Recipe(name="t", dataset=tiny, steps=5)
    settings = {"recipe": recipe, "out": tmp_path / "run", "timing": False, "device": "cpu"}
    run = aezoo.bench(["mine[latent_dim=1]", "mean"], **settings)

    def states():
        _, out, err = call("status", run.path, "--all", "--format", "json")
        rows = {(row["variant"], row["seed"]): (row["state"], row["why"]) for row in json.loads(out)}
        # What benches said before it is captured too.
        return rows, next(line for line in err.splitlines() if line.startswith(f"{len(rows)} trials: "))

    rows, told = states()
    assert set(rows.values()) == {("done", "")}
    assert told == f"{len(rows)} trials: {len(rows)} done"
    assert call("status", run.path)[1] == ""

    next((run.path / "trials").glob("mean-*.json")).unlink()
    distribute(source.replace('summary="s"', 'summary="another"'), name="my-dist")
    rows, told = states()
    assert rows["mean", 0] == ("missing", "not run yet")
    assert rows["mine[latent_dim=1]", 0] == ("stale", "plugin source changed")
    assert told.endswith("1 missing, 1 stale") or told.endswith("1 stale, 1 missing")

    # The same call trains what is missing or stale, and nothing else.
    began = {record.trial_id for record in run.records()}
    again = aezoo.bench(["mine[latent_dim=1]", "mean"], **settings)
    assert len({record.trial_id for record in again.records()} - began) == 2
    assert set(states()[0].values()) == {("done", "")}

    monkeypatch.setattr("torch.__version__", "99.0")
    rows, _ = states()
    assert {state for state, _ in rows.values()} == {"stale"}
    assert rows["mean", 0][1].startswith("torch ")
    assert rows["mean", 0][1].endswith(" → 99.0")
    monkeypatch.undo()


def test_status_names_an_architecture_that_is_no_longer_installed(call, run, monkeypatch):
    registry = discover()
    monkeypatch.setattr(registry, "architectures", {})
    _, out, _ = call("status", run, "--format", "csv")
    assert "stale" in out
    assert "no architecture" in out


def test_reproduce_says_whether_a_trial_comes_out_as_it_did(call, run):
    before = sorted(path.read_bytes() for path in run.glob("trials/*.json"))
    status, out, err = call("reproduce", run, "linear-latent_dim=2-s0")
    assert (status, out.splitlines()[-1]) == (0, "circumstances: the same"), err
    recorded, now, verdict, _ = out.splitlines()
    assert recorded.split()[1:] == now.split()[1:]
    assert verdict.endswith(": bit-equal")
    assert sorted(path.read_bytes() for path in run.glob("trials/*.json")) == before
    with pytest.raises(aezoo.AezooError, match="the beginning of 3 trials"):
        reproduce(run, "")
    status, _, err = call("reproduce", run, "lineal-s0")
    assert (status, "no trial 'lineal-s0'" in err) == (2, True)


def test_reproduce_finds_out_a_variant_that_is_not_deterministic(call, tiny, distribute, tmp_path):
    distribute(
        """
        import os
        import aezoo, torch
        from torch import nn

        def build(image_shape):
            network = nn.Linear(36, 36)
            with torch.no_grad():
                network.bias.add_(int.from_bytes(os.urandom(2), "big"))
            return aezoo.Flat(network, image_shape)

        @aezoo.hookimpl
        def aezoo_architectures():
            yield aezoo.Architecture(name="dice", build=build, summary="s", reference="r")
        """,
        name="dice-dist",
    )
    recipe = Recipe(name="t", dataset=tiny, steps=5, seeds=1)
    run = aezoo.bench(["dice"], recipe=recipe, out=tmp_path / "run", timing=False, device="cpu").path
    status, out, err = call("reproduce", run, "dice-s0")
    assert (status, "not reproduced" in out) == (1, True), (out, err)


def test_compare_holds_several_runs_to_the_first_and_fails_on_a_regression(call, run, tmp_path):
    recipe = Recipe(name="t", dataset="tiny", steps=5)
    other = aezoo.bench(["mean"], recipe=recipe, out=tmp_path / "other", timing=False, device="cpu").path
    status, out, err = call("compare", run, other, run, "--fail-on", "5", "--format", "json")
    rows = json.loads(out)
    assert status == 0, err
    assert {(row["run_b"], row["verdict"]) for row in rows if row["variant"] == "mean"} == {
        (str(other), "equal"), (str(run), "equal"),
    }  # fmt: skip
    (run / "trials").joinpath(next(run.glob("trials/mean-*.json")).name).unlink()
    status, _, err = call("compare", other, run, "--fail-on", "5")
    assert status == 3
    assert f"worse by more than 5 %, or failed, in {run}: mean" in err
    # A legend has the word that is above the column.
    assert "\nchange %: test_mse of b over a's" in err
    assert "change %" in call("compare", other, run)[1].splitlines()[0]
    assert call("compare", run)[0] == 2


def test_compare_refuses_another_recipe_with_exit_status_3(call, run, tmp_path):
    recipe = Recipe(name="t", dataset="tiny", steps=6)
    other = aezoo.bench(["mean"], recipe=recipe, out=tmp_path / "other", timing=False, device="cpu").path
    status, out, err = call("compare", run, other)
    assert (status, out) == (3, "")
    assert "they differ in steps (5, 6)" in err


def test_a_narrow_list_says_what_is_benched_by_name_only(call, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((60, 24)))
    _, out, err = call("list", "resnet", "mlp")
    mlp, resnet = sorted(out.splitlines())
    assert mlp.startswith("mlp       Fully connected")
    assert resnet.startswith("resnet *  Pre-activation")
    assert resnet.endswith(" …")
    assert max(map(len, out.splitlines())) <= 60
    assert err.startswith("* is not in `bench --all`")


@pytest.mark.parametrize("width", [80, 120])
def test_a_narrow_list_has_a_line_for_each_name_that_can_be_copied(width, call, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((width, 24)))
    _, out, _ = call("plugins")
    assert {line.split()[0] for line in out.splitlines()} == {
        point.name for point in metadata.entry_points(group="aezoo")
    }
    assert "baselines" in out
    assert "architecture mean, architecture pca\n" in out
    assert max(map(len, out.splitlines())) <= width
    _, out, err = call("list", "--variants")
    rows = json.loads(call("list", "--variants", "--json")[1])
    assert [line.split()[0] for line in out.splitlines()] == [row["variant"] for row in rows]
    assert max(map(len, out.splitlines())) <= width
    assert re.search(r"^kmeans +200,704 parameters, latent 1, ", out, re.MULTILINE)
    # What declares none is told in one line.
    assert err.splitlines()[0].endswith(" declare no variants: name one, capsules[] or capsules[...]")


def test_a_narrow_terminal_gets_whole_numbers(run, monkeypatch, capsys):
    from rich.console import Console

    from aezoo.run.store import RunDirectory

    wide = Console(force_terminal=True, width=66, color_system=None)
    monkeypatch.setattr(screen, "console_on", lambda stderr: wide)
    screen.print_run(RunDirectory(run), screen.Look(view="flat"))
    out, err = capsys.readouterr()
    assert "not shown here: objective" in err
    assert "…" not in out
    assert {"linear[latent_dim=2]", "test_mse", "seeds"} <= set(out.split())


def test_bench_fails_only_for_what_it_was_asked(call, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--dataset", "tiny", "--steps", "5", "--seeds", "1", "--no-timing", "--device", "cpu"]
    status, out, err = call("bench", "pca*", "--latent-dim", "99", *common)
    assert (status, "invalid" in out) == (1, True)
    assert "[1/2] pca[latent_dim=99] seed 0: invalid: latent_dim must be 1 to 36" in err
    status, out, _ = call("bench", "mean", *common)
    assert (status, "invalid" in out) == (0, True)


def test_hostile_texts_are_harmless_in_every_format():
    import pandas as pd

    from aezoo.table import render

    table = pd.DataFrame({"variant": ["=cmd|'x'", "\x1b[31mred\n|"], "test_mse": [0.1, None]})
    assert render.render(table, "csv").splitlines()[1].startswith("'=cmd")
    assert render.render(table, "github").splitlines()[2].count("|") - render.render(table, "github").count("\\|") <= 3
    for fmt in ("simple", "github", "csv"):
        assert "\x1b" not in render.render(table, fmt)
    assert "\\|" in render.render(table, "github")
    assert "&lt;" in render.render(pd.DataFrame({"variant": ["<script>"]}), "html")


def test_ctrl_c_while_variants_are_tried_prints_no_traceback(launcher, tiny, tmp_path):
    one = launcher.start("bench", "linear", "--dataset", tiny, "--dry-run", cwd=tmp_path)
    one.until(lambda: "trying" in one.err.read_text())
    one.kill(signal.SIGINT, group=True)
    assert one.wait() == 130
    assert "Traceback" not in one.err.read_text()


def test_ctrl_c_while_a_process_is_asked_for_waits_until_the_server_knows_all():
    asked = []

    @local._uninterrupted()
    def ask():
        os.kill(os.getpid(), signal.SIGINT)
        asked.append(True)

    # What is started in the background ignores Ctrl-C, the tests among it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask()
        assert asked
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ask()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_before_anything_ran_prints_no_traceback(tiny):
    command = [sys.executable, "-m", "aezoo", "bench", "linear", "--dataset", tiny, "--dry-run"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_ctrl_c
    ) as process:
        told = ""
        while not told.startswith("loading"):
            told = process.stderr.readline()
        # Torch is still being imported, in the process that trials are forked from.
        os.killpg(process.pid, signal.SIGINT)
        left = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in left


def test_the_time_left_follows_the_pace_of_the_bench_and_hardly_the_first_baselines(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(observer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = observer.Clock({"mean": 0.3, **{f"long-{number}": 10.0 for number in range(100)}})
    assert clock.left() == "about 17 min left"
    now[0] = 3.0  # ten times what was estimated
    clock.ended("mean")
    assert clock.left() == "about 18 min left"
    now[0] = 1_500.0  # three times what was estimated
    for number in range(50):
        clock.ended(f"long-{number}")
    assert clock.left() == "about 23 min left"
    for number in range(50, 100):
        clock.ended(f"long-{number}")
    assert clock.left() == "no trial left"
