"""What a terminal shows: whole figures, all that was asked for, and one line where a call is wrong."""

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from made_runs import make_run, several, variant

import aezoo
from aezoo.errors import AezooError
from aezoo.run.records import Measurement
from aezoo.run.store import RunDirectory
from aezoo.table import rows
from aezoo.table.cells import cells, chosen
from aezoo.table.compare import compare
from aezoo.table.layout import lay_out
from aezoo.table.views import by_group

AEZOO = str(Path(sys.executable).with_name("aezoo"))
WIDTHS = (80, 100, 120, 200)
LONG = "an_architecture[a_hyperparameter=0.123456,and_another=yes]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of many variants, one of which failed, with two metrics; of one, more is better."""
    made = [*several(12), variant(LONG, loss=0.5), variant("broken", status="error", reason="it broke")]
    run = make_run(tmp_path_factory.mktemp("screens") / "run", made, samples=False)
    recipe = run.info().recipe.model_copy(update={"metrics": ("sharpness", "blur")})
    run.request(run.info().model_copy(update={"recipe": recipe}), {})
    for place, (trial_id, record) in enumerate(run.records().items()):
        for name in recipe.metrics if record.status == "ok" else ():
            run.write_measurement(
                Measurement(
                    trial_id=trial_id, metric=name, plugin=record.plugin, weights_sha256=None,
                    value=place + 0.123, higher_is_better=name == "sharpness", measured_at=record.finished_at,
                )
            )  # fmt: skip
    return RunDirectory(run.path)


@pytest.fixture(scope="module")
def views(run, tmp_path_factory):
    other = make_run(tmp_path_factory.mktemp("screens") / "other", several(12), samples=False)
    mses = {f"mse_{2**power}": 0.012345 for power in range(14)}
    return {
        "group": by_group(run),
        "flat": rows.summarise(run),
        "rate": by_group(run)[["variant"]].assign(**mses).astype(dict.fromkeys(mses, "Float64")),
        "compared": compare(run, other).assign(network="another width, and another depth, as its plugin has it now"),
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("view", ["group", "flat", "rate", "compared"])
def test_every_figure_that_is_shown_is_whole_and_no_line_is_wider_than_the_screen(view, width, views):
    table = views[view]
    layout = lay_out(table, width)
    lines = [line for line, _ in layout.lines]
    assert max(map(len, lines)) <= width
    columns, texts = cells(table)
    shown = [name for name, header in columns if header not in layout.left_out and name not in ("variant", "status")]
    # Whoever cuts a figure, or wraps it, has fewer of one of them.
    words = sorted(re.findall(r"~?[\d,.]+%?", "\n".join(line for line in lines if "numbers" not in line)))
    for name in shown:
        place = [each for each, _ in columns].index(name)
        for text in (row[place] for row in texts):
            assert not re.fullmatch(r"~?[\d,.]+%?", text) or text in words, (name, text)
    assert {"group": "test_mse", "flat": "test_mse", "rate": "mse_8192", "compared": "change_percent"}[view] in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_metrics_and_columns_that_were_asked_for_are_shown_on_any_screen(width, views, run):
    headers = " ".join(line for line, style in lay_out(views["group"], width).lines if style == "dim").split()
    assert {"sharpness", "blur", "test_mse", "params", "train/s"} <= set(headers)
    wanted = ["seeds", "params", "infer/s", "support", "MB", "vs_pca", "objective", "train_spread", "test_mse_low"]
    names = chosen(views["group"], wanted)
    assert names[:3] == ["variant", "seeds", "num_params"]
    layout = lay_out(views["group"], width, names=names)
    headers = [line.split() for line, style in layout.lines if style == "dim"]
    assert layout.left_out == []
    assert [name for block in headers for name in block if name != "variant"] == wanted
    assert all(block[0] == "variant" for block in headers)
    assert (len(headers) > 1) == (width < 120)


@pytest.mark.parametrize(
    ("column", "falls"),
    [("sharpness", True), ("blur", False), ("train/s", True), ("num_params", False), ("test_mse", False)],
)
def test_the_best_comes_first_whichever_end_that_is(column, falls, run, call):
    _, out, _ = call("table", run.path, "--sort", column, "--format", "json")
    name = {"train/s": "train_images_per_s"}.get(column, column)
    values = [row[name] for row in json.loads(out) if row[name] is not None]
    assert len(set(values)) > 1
    assert values == sorted(values, reverse=falls)
    _, out, _ = call("table", run.path, "--sort", column, "--columns", "seeds")
    assert column in out.splitlines()[0].split() or {"num_params": "params"}[column] in out.splitlines()[0].split()


def test_columns_are_chosen_for_programs_too(run, call):
    _, out, _ = call("table", run.path, "--columns", "test_mse,params", "--format", "csv")
    assert out.splitlines()[0] == "variant,test_mse,num_params"
    status, out, err = call("table", run.path, "--columns", "test_mse,parms")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    # What is likely comes first: the names are many.
    assert err.startswith("error: no column 'parms'. Did you mean 'params' or 'num_params'? This table has group,")
    assert call("table", run.path, "--columns", ",")[2].startswith("error: no column is named; give all, or some of")
    assert call("table", run.path, "--columns", "zzz")[2].startswith("error: no column 'zzz'; this table has group,")
    assert call("table", run.path, "--format", "gihub")[2].startswith(
        "error: no format 'gihub'. Did you mean 'github'? Give one of rich, csv, json,"
    )
    _, out, _ = call("table", run.path, "--view", "flat", "--columns", "all", "--format", "csv")
    assert out == call("table", run.path, "--format", "csv")[1]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize(
    "texts",
    [
        [
            "denoising[corruption=masking,latent_dim=16]", "denoising[corruption=salt_and_pepper,latent_dim=16]",
            "denoising[latent_dim=16]", "denoising[latent_dim=160]", "mlp",
        ],
        [f"an_architecture_of_a_long_name_and_no_settings_{number}_which_goes_on_and_on" for number in range(12)],
        [f"net[first=0.1234567,second={number},third=0.12345678,fourth=0.1234567]" for number in range(9)],
    ],
)  # fmt: skip
def test_no_two_rows_show_the_same_name(texts, width, views):
    table = views["flat"].head(len(texts)).assign(variant=texts, baseline=None)
    (heading, style), *lines = lay_out(table, width, names=["variant", "test_mse", "num_params"]).lines
    assert style == "dim"
    first, last = heading.index("variant"), heading.index("test_mse") - 2
    # A figure begins the line of a row; what has none goes on from the row above.
    shown = []
    for line, _ in lines:
        name = line[first:last].rstrip()
        if line[last + 2 :].strip():
            shown.append(name)
        else:
            shown[-1] += name.strip()
    assert len(set(shown)) == len(texts)
    for name, text in zip(shown, texts, strict=True):
        head, _, tail = name.partition("…")
        assert text == name or (text.startswith(head) and text.endswith(tail) and "…" in name)


def test_what_has_no_room_is_named(views):
    layout = lay_out(views["group"], 80)
    columns, texts = cells(views["group"])
    headers = {header for place, (_, header) in enumerate(columns) if any(row[place] != "-" for row in texts)}
    assert "MB" not in headers
    shown = {word for line, style in layout.lines if style == "dim" for word in line.split()}
    assert layout.left_out
    assert shown | set(layout.left_out) == headers
    assert lay_out(views["group"]).left_out == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tabel"], "No such command 'tabel'. Did you mean 'table'? `aezoo -h` lists what it takes"),
        (["table", "--colums"], "No such option: --colums (Possible options: --columns); `aezoo table -h` lists"),
        (
            ["bench", "mlp", "--seeds", "two"],
            "--seeds takes a whole number, such as 3, but got 'two'; `aezoo bench -h`",
        ),
        (["bench", "mlp", "--steps", "1e3"], "--steps takes a whole number, such as 3, but got '1e3';"),
        (["bench", "mlp", "--seeds", "1.5"], "--seeds takes a whole number, such as 3, but got '1.5';"),
        (["bench", "mlp", "--timeout", "x"], "--timeout takes a number, such as 0.5, but got 'x';"),
        (["settle", "a < b", "--minutes", "-1"], "--minutes takes a value greater than or equal to 0, but got '-1';"),
        (["bench", "mlp", "--seeds"], "Option '--seeds' requires an argument; `aezoo bench -h` lists what it takes"),
        (["data", "show", "x", "--out"], "Option '--out' requires an argument; `aezoo data show -h` lists"),
        (["settle"], "Missing argument 'CLAIM|RUN'; `aezoo settle -h` lists"),
        (["bench", "mlp", "--out", ""], "what is given after --out is empty; give it a value, or leave it out"),
        (["bench", "mlp", "--out="], "what is given to --out is empty"),
        (["table", "", "--columns", "seeds"], "what is given after table is empty"),
        (["table", "--columns", ""], "what is given after --columns is empty"),
        (
            ["bench", "mlp", "--quick", "--recipe", "default"],
            "--quick is --recipe quick, but --recipe default was given",
        ),
        (["reproduce", "x"], "Missing argument 'TRIAL'; `aezoo reproduce -h` lists what it takes"),
        (["data", "shwo"], "No such command 'shwo'. Did you mean 'show'? `aezoo data -h` lists what it takes"),
        (["help", "tabel"], "No such command 'tabel'."),
        (["compare", "a", "b", "--fail-on", "-1"], "--fail-on takes a value greater than or equal to 0, but got '-1';"),
    ],
)
def test_what_the_parser_refuses_is_one_line_too(arguments, said, call):
    status, out, err = call(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ")
    assert said in err


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        ([], "Usage: aezoo [OPTIONS]"), (["help"], "Usage: aezoo [OPTIONS]"), (["-h"], "Usage: aezoo [OPTIONS]"),
        (["help", "table"], "Usage: aezoo table "), (["table", "-h"], "Usage: aezoo table "),
        (["data"], "Usage: aezoo data "), (["help", "data", "show"], "Usage: aezoo data show "),
    ],
)  # fmt: skip
def test_help_is_where_people_look_for_it(arguments, usage, call):
    status, out, err = call(*arguments)
    assert (status, err) == (0, "")
    assert out.startswith(usage)


@pytest.mark.parametrize("command", ["table", "status", "report"])
def test_the_newest_run_is_the_one_that_is_meant(command, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = call(command)
    assert (status, err) == (2, "error: no run in results/, where `aezoo bench` writes: give the folder of a run\n")
    for name, age in (("older", 100), ("newer", 50), ("oldest", 200)):
        made = make_run(tmp_path / "results" / name, several(4), samples=False)
        for each in (made.path / "run.json", made.path / "trials", made.path / "timings"):
            os.utime(each, (time.time() - age,) * 2)
    _, _, err = call(command)
    assert err.splitlines()[0] == "the newest run: results/newer"
    # A trial that ends is news of a run.
    os.utime(tmp_path / "results" / "oldest" / "trials")
    _, _, err = call(command)
    assert err.splitlines()[0] == "the newest run: results/oldest"


@pytest.mark.parametrize(
    "arguments", [["list", "MLP"], ["list", "ML*", "--variants"], ["show", "MLP"], ["show", "Mlp[Latent_Dim=2]"]]
)
def test_capitals_in_a_name_are_no_mistake(arguments, call):
    status, out, err = call(*arguments)
    assert status == 0, err
    assert "mlp" in out


def test_capitals_name_no_other_variant_and_no_other_data_set(tiny):
    from aezoo.registry.discovery import discover

    registry = discover()
    assert registry.resolve("MLP[Latent_Dim=2]").text == "mlp[latent_dim=2]"
    assert registry.dataset("Images[PATH=a]").text == "images[path=a]"
    with pytest.raises(AezooError, match="one hyperparameter is given twice among width, WIDTH"):
        registry.resolve("mlp[width=8,WIDTH=9]")
    assert [each.text for each in registry.select(["PCA"])] == [each.text for each in registry.select(["pca"])]
    assert registry.dataset("Tiny").text == "tiny"
    assert registry.dataset("MNIST-5k").text == "mnist-5k"


def test_capitals_in_what_an_option_takes_are_no_mistake(call, run, tiny, tmp_path):
    given = ["--dataset", "tiny", "--steps", "3", "--no-timing", "--no-report", "--out", tmp_path / "run"]
    shouted = [
        "--device", "CPU", "--precision", "Float32", "--recipe", "QUICK", "--executor", "Local", "--weights", "NONE",
        "--format", "JSON", "--columns", "Params,TEST_MSE",
    ]  # fmt: skip
    status, out, err = call("bench", "Linear[LATENT_DIM=2]", *given, *shouted)
    assert status == 0, err
    assert set(json.loads(out)[0]) == {"variant", "num_params", "test_mse"}
    written = RunDirectory(tmp_path / "run").info()
    assert (written.recipe.name, written.recipe.precision, written.device) == ("quick", "float32", "cpu")
    plain = call("table", run.path, "--sort", "sharpness", "--view", "flat", "--format", "csv")
    assert call("table", run.path, "--sort", "SHARPNESS", "--view", "Flat", "--format", "CSV") == plain


@pytest.mark.parametrize("width", [40, 80])
def test_what_is_said_on_a_terminal_is_wrapped_between_words(width):
    """A pipe has it in one line, and standard output, where there is another stream, is what the width does not ask."""
    told = subprocess.run([AEZOO, "table", "--format", "gihub"], capture_output=True, text=True, check=False).stderr
    assert len(told.splitlines()) == 1
    terminal, its_other_end = os.openpty()
    fcntl.ioctl(its_other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    subprocess.run([AEZOO, "table", "--format", "gihub"], stderr=its_other_end, stdout=subprocess.DEVNULL, check=False)
    os.close(its_other_end)
    lines = os.read(terminal, 100_000).decode().splitlines()
    os.close(terminal)
    assert width - 20 < max(map(len, lines)) <= width
    assert " ".join(lines) == told.strip()


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>/dev/full", "2>&1 | head -1"])
def test_a_bench_goes_on_though_nobody_hears_it(closed, tiny, tmp_path):
    quick = "--dataset tiny --steps 5 --seeds 1 --no-timing --no-report"
    command = f"{AEZOO} bench 'linear[latent_dim=2]' {quick} --out run {closed}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert set(aezoo.Run(path=tmp_path / "run").table()["status"]) == {"ok"}
    assert len(list((tmp_path / "run" / "trials").glob("*.json"))) == 3


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is full")
@pytest.mark.parametrize("arguments", [["list"], ["table"], ["table", "--format", "csv"], ["--version"]])
def test_what_cannot_be_printed_is_one_line(arguments, run, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one").symlink_to(run.path)
    with FULL.open("w") as full:
        done = subprocess.run(
            [AEZOO, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: what was asked for cannot be printed: the disk is full"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_of_another_time_shows_what_it_can(encoding, run):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for arguments in (["table", str(run.path)], ["show", str(run.path), "pca[latent_dim=16]"]):
        done = subprocess.run([AEZOO, *arguments], capture_output=True, env=environment, check=False)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
        assert b"pca[latent_dim=16]" in done.stdout
        done.stdout.decode(encoding)


@pytest.mark.parametrize(
    ("out", "status", "said"),
    [
        ("/proc/nowhere/run", 1, "cannot write into /proc/nowhere/run: /proc: "), ("a_file", 2, "a_file is a file; "),
        ("a_file/run", 2, "/a_file is a file; "),
    ],
)  # fmt: skip
def test_a_folder_that_takes_nothing_is_refused_before_anything_runs(out, status, said, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    monkeypatch.setattr("aezoo.harness.call.bench", lambda *_, **__: pytest.fail("it began"))
    told = call("bench", "mlp", "--out", out)
    assert (*told[:2], len(told[2].splitlines())) == (status, "", 1)
    assert said in told[2]
    assert "folder with --out" in told[2]
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]
