"""What a call is made of and made on: patterns, options, folders, devices and systems; a line each where it matters."""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import aezoo
from aezoo import locks
from aezoo.cli import screen
from aezoo.contract.architecture import Architecture, Variant
from aezoo.contract.columns import loss
from aezoo.contract.dataset import find_data_dir
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError, ContractError
from aezoo.harness.matching import match_params
from aezoo.harness.observer import Observer
from aezoo.harness.opening import open_call
from aezoo.harness.preflight import Try
from aezoo.harness.request import Request
from aezoo.harness.tasks import task
from aezoo.run.files import slug
from aezoo.run.store import RunDirectory
from aezoo.table import rows, views

RECIPE = Recipe(name="t", dataset="tiny", steps=3, batch_size=16)


def bench(out, variants=("linear[latent_dim=2]",), **settings):
    return aezoo.bench(variants, recipe=RECIPE, out=out, device="cpu", timing=False, **settings)


def test_a_user_without_a_home_needs_no_folder_for_the_default_data(tiny, tmp_path, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("AEZOO_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert find_data_dir(None) == Path(tempfile.gettempdir()) / "aezoo"
    assert not bench(tmp_path / "run").failed


def test_a_numbered_device_is_told_how_it_is_chosen(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call("bench", "mlp", "--quick", "--device", "cuda:1")
    assert (code, out) == (2, "")
    assert err == (
        "error: no device 'cuda:1'; give auto, cpu, cuda, mps; to choose a GPU, set the variable "
        "CUDA_VISIBLE_DEVICES=1 and give cuda\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_posix_gets_one_line_and_can_import():
    code = """
        import sys
        import psutil  # on Linux it needs what is taken away here
        sys.modules |= {"fcntl": None, "resource": None}
        from aezoo.cli import main
        sys.platform = "win32"
        sys.argv = ["aezoo", "bench", "mlp"]
        main()
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: aezoo runs on Linux and macOS, but this is win32")
    assert ran.stderr.endswith("on Windows, use WSL 2\n")
    assert len(ran.stderr.splitlines()) == 1


def test_the_doctor_says_which_systems_are_supported(call):
    _, out, _ = call("doctor")
    assert f"system        {sys.platform}; aezoo runs on Linux and macOS" in out
    assert set(locks.SYSTEMS) == {"linux", "darwin"}


def test_a_pattern_that_finds_no_declared_variant_says_so(call):
    code, out, err = call("list", "unet*", "--variants")
    assert (code, err) == (0, "unet declares no variants: name one, unet[] or unet[...]\n")
    header, rule = out.splitlines()
    assert header.split() == ["variant", "objective", "latent", "num_params", "reference"]
    assert set(rule) == {"-", " "}
    assert json.loads(call("list", "unet*", "--variants", "--json")[1]) == []
    assert call("list", "zzz*", "--variants")[0] == 2
    assert call("list", "zzz*", "--metrics")[0] == 2


def test_a_pattern_checks_what_declares_no_variants_too(call):
    code, out, _ = call("check", "unet*")
    assert (code, out.splitlines()[-1]) == (1, "unet: 1 check failed")
    assert call("check", "zzz*")[0] == 2


def test_an_empty_listing_is_an_empty_table(call):
    code, out, _ = call("list", "--metrics", "--no-plugin", "aezoo", "--json")
    assert (code, out) == (0, "[]\n")


def test_options_are_read_before_anything_is_drawn(call, monkeypatch):
    def drawn(console):
        raise AssertionError("the cursor would stay hidden")

    monkeypatch.setattr(screen, "observer_on", drawn)
    for option, value in (("--match-params", "abc"), ("--latent-dim", "2;3"), ("--threads", "0"), ("--timeout", "-1")):
        code, out, err = call("bench", "mlp", option, value)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err


def test_the_live_display_is_left_as_it_was_whatever_happens():
    console = Console(file=io.StringIO(), force_terminal=True)
    with contextlib.suppress(ZeroDivisionError), screen.observer_on(console) as observer:
        assert observer.live.is_started
        raise ZeroDivisionError
    assert not observer.live.is_started
    drawn = console.file.getvalue()
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_piped_clocks_and_metrics_say_how_far_they_are_and_how_long_they_take(monkeypatch):
    now = iter(range(0, 10_000, 3))
    monkeypatch.setattr(screen.time, "monotonic", lambda: float(next(now)))
    console = Console(file=io.StringIO(), width=100)
    observer = screen.PlainObserver(console)
    for done in range(1, 78):
        observer.timed(done, 77)
    lines = console.file.getvalue().splitlines()
    assert 8 <= len(lines) <= 10
    assert lines[0] == "throughput: 8/77; about 3 min left"
    assert lines[-1].startswith("throughput: 7")


LONG = "a_network_with_a_long_name[first=0.12345678,second=0.12345678,third=0.1234567"


@given(st.text(max_size=9), st.text(max_size=9))
def test_no_two_names_are_one_where_they_are_cut(first, second):
    names = [slug(LONG + end) for end in (first, second)]
    assert all(len(name) <= 60 and name == name.lower() and "/" not in name for name in names)
    assert (names[0] == names[1]) == (first == second)


def test_two_variants_whose_names_are_alike_are_tried_apart(tiny, tmp_path):
    """In a folder each: the first to end takes its own away."""
    request = Request.of({"variants": ["linear[latent_dim=2]"], "recipe": RECIPE, "out": tmp_path / "run"})
    with open_call(request, Observer()) as (grid, (variant,)):
        work = Try(
            variant=variant.text, origin=None, source=None, versions=("", ""), recipe=RECIPE, images=None, device="cpu",
            compiled=False,
        )  # fmt: skip
        texts = [f"{LONG}1]", f"{LONG}2]", "net[sizes=(1,2)]", "net[sizes=[1,2]]"]
        assert len({task(grid, text, work).output for text in texts}) == 4


@pytest.mark.parametrize(
    "name",
    ["group", "found", "why", "state", "seed", "verdict", "test_mse_a", "mse_16", "run_b", "trials", "status", "rank"],
)
def test_a_metric_may_not_be_called_as_a_column_of_any_view(name):
    with pytest.raises(ContractError, match=f"the column '{name}' is aezoo's own; choose another name"):
        aezoo.Metric(name=name, compute=len, summary="s", reference="r", higher_is_better=True)


def test_json_and_csv_have_every_digit(call, tiny, tmp_path):
    run = bench(tmp_path / "run")
    expected = {record.variant: record.test_mse for record in run.records()}
    _, out, _ = call("table", run.path, "--format", "json")
    assert {row["variant"]: row["test_mse"] for row in json.loads(out)} == expected
    _, out, _ = call("table", run.path, "--format", "csv")
    table = dict(zip(run.table()["variant"], run.table()["test_mse"], strict=True))
    assert table == expected
    assert all(repr(value) in out for value in expected.values())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00000"), (0.0668, "0.06680"), (0.001, "0.00100"), (1.48989e-4, "0.000149"), (7.4712e-07, "7.47e-07")],
)
def test_small_losses_keep_three_digits(value, text):
    assert loss(value) == text


def test_a_table_is_of_one_moment(tiny, tmp_path):
    """A variant that another process adds between two reads is no part of it, and no error."""
    run = bench(tmp_path / "run")
    snapshot = RunDirectory(run.path).load()
    before = rows.summarise(RunDirectory(run.path).load())
    bench(tmp_path / "run", ["linear[latent_dim=2]", "linear[latent_dim=3]"])
    table = rows.summarise(snapshot)
    assert table["variant"].tolist() == before["variant"].tolist()
    assert set(views.by_group(snapshot)["variant"]) == set(before["variant"])
    assert len(rows.summarise(RunDirectory(run.path).load())) == 5


@pytest.mark.parametrize("error", [AezooError, RuntimeError])
def test_a_variant_that_no_width_makes_is_built_a_bounded_number_of_times(error):
    builds = []

    def build(image_shape, *, width: int = 8):
        builds.append(width)
        raise error("needs another shape")

    architecture = Architecture(name="never", build=build, summary="s", reference="r")
    variant = Variant(architecture=architecture, hyperparameters={"width": 8}, label="never")
    (match,) = match_params([variant], 100_000, (1, 28, 28))
    assert match.chosen is variant
    assert "needs another shape" in match.reason
    assert len(builds) < 600


FACES = """
    from torch import nn

    class Faces(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(4 * 4 * 4, 8))
            self.decoder = nn.Sequential(nn.Linear(8, 64), nn.Unflatten(1, (4, 4, 4)), nn.ConvTranspose2d(4, 3, 4, 4))

        def forward(self, x):
            return self.decoder(self.encoder(x))
"""


@pytest.fixture
def faces(tmp_path):
    path = tmp_path / "faces.py"
    path.write_text(textwrap.dedent(FACES))
    return path


def test_check_show_and_list_take_an_image_shape(call, faces):
    code, out, _ = call("check", faces, "--image-shape", "3x16x16")
    assert (code, out.splitlines()[-1]) == (0, "faces: meets the contract")
    assert "1 variant, images 3x16x16" in out
    code, out, _ = call("show", faces, "--image-shape", "3x16x16")
    assert code == 0
    assert "on 3x16x16 images: 1,487 parameters" in out
    code, out, _ = call("list", faces, "--image-shape", "3x16x16", "--variants", "--json")
    (row,) = json.loads(out)
    assert (code, row["latent"], row["num_params"]) == (0, "8", 1487)
    code, out, _ = call("check", faces, "--image-shape", "3x16x16", "--image-shape", "3x28x28")
    assert (code, out.splitlines()[-1]) == (1, "faces: 1 check failed")


def test_check_show_and_list_take_a_data_set(call, tiny):
    code, out, _ = call("check", "linear[latent_dim=2]", "--dataset", "tiny")
    assert (code, out.splitlines()[1]) == (0, "1 variant, images 1x6x6")
    assert "on 1x6x6 images: 182 parameters" in call("show", "linear[latent_dim=2]", "--dataset", "tiny")[1]
    _, out, _ = call("list", "linear", "--variants", "--dataset", "tiny", "--json")
    assert {row["variant"]: row["num_params"] for row in json.loads(out)}["linear[latent_dim=2]"] == 182


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "mlp", "--image-shape", "28"], "--image-shape takes channels, height and width"),
        (["show", "mlp", "--image-shape", "0x28x28"], "such as 3x64x64, but got '0x28x28'"),
        (["list", "--image-shape", "1x28x28", "--dataset", "digits"], "both give an image shape; give one of them"),
        (["check", "mlp", "--image-shape", "1x28x28", "--dataset", "digits"], "give one of them"),
        (["show", "mlp", "--dataset", "minst"], "no data set 'minst'"),
    ],
)
def test_a_wrong_image_shape_is_one_line(arguments, message, call):
    code, out, err = call(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


def test_what_an_architecture_refuses_of_one_shape_is_no_failure_where_it_takes_another(call, distribute):
    distribute(
        """
        import aezoo
        from torch import nn

        def build(image_shape):
            if image_shape[1:] != (27, 19):
                raise aezoo.AezooError("images of 27x19 pixels only")
            return aezoo.Flat(nn.Sequential(nn.Linear(513, 2), nn.Linear(2, 513)), image_shape)

        @aezoo.hookimpl
        def aezoo_architectures():
            yield aezoo.Architecture(name="odd", build=build, summary="s", reference="r")
        """,
        name="odd-dist",
    )
    code, out, _ = call("check", "odd")
    assert (code, out.splitlines()[-1]) == (0, "odd: meets the contract")
    code, out, _ = call("check", "odd", "--image-shape", "1x28x28")
    assert (code, out.splitlines()[-1]) == (1, "odd: 1 check failed")
    code, out, err = call("show", "odd")
    assert err == (
        "error: odd cannot be built for 1x28x28 images: images of 27x19 pixels only; give the shape that it takes with "
        "--image-shape\n"
    )
