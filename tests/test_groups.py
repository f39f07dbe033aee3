"""The table in groups: what fits a terminal, and what the evidence says in words."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text

import aezoo
from aezoo.cli import screen
from aezoo.contract.recipe import Recipe
from aezoo.run.store import RunDirectory
from aezoo.table import groups, views
from aezoo.table.cells import sparkline
from aezoo.table.layout import lay_out
from aezoo.table.statistics import Errors, Prior


@pytest.fixture
def run(tiny, tmp_path):
    recipe = Recipe(name="t", dataset="tiny", steps=5)
    return aezoo.bench(["linear[latent_dim=2]"], recipe=recipe, out=tmp_path / "run", timing=False, device="cpu").path


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_groups_fit_a_terminal_with_every_figure_whole(run, width):
    """A name is cut in its middle, and what is less important is left out; a figure is neither cut nor wrapped."""
    table = views.by_group(RunDirectory(run)).assign(
        num_params=123_456_789, train_images_per_s=1_234_567.0, infer_images_per_s=12_345_678.0
    )
    table["variant"] = "an_architecture[a_long_hyperparameter=0.123456,and_another_one=yes]"
    lines = [line for line, _ in lay_out(table, width).lines]
    assert max(map(len, lines)) <= width
    header = lines[0].split()
    assert {"rank", "variant", "test_mse", "params", "train/s"} <= set(header)
    assert ("seeds" in header) == (width >= 120)
    figures = [line for line in lines if "an_a" in line]
    assert len(figures) == len(table)
    whole = " ".join(lay_out(table).lines[0][0].split())
    assert set(header) <= set(whole.split())
    for line, loss in zip(figures, table["test_mse"], strict=True):
        assert f"{loss:.5f}" in line
        assert "123,456,789" in line
        assert "1,234,567" in line
        assert "=yes]" in line


@pytest.mark.parametrize(
    ("environment", "live", "colour", "bold"),
    [({}, True, True, True), ({"NO_COLOR": "1"}, True, False, True), ({"TERM": "dumb"}, False, False, False)],
    ids=["a terminal", "NO_COLOR", "a dumb terminal"],
)
def test_colours_and_what_moves_are_where_the_terminal_has_them(
    run, monkeypatch, capsys, environment, live, colour, bold
):
    console = Console(
        force_terminal=True, width=80, color_system="auto", _environ={"TERM": "xterm-256color", **environment}
    )
    monkeypatch.setattr(screen, "console_on", lambda stderr: console)
    screen.print_run(RunDirectory(run), screen.Look())
    out = capsys.readouterr().out
    assert ("\x1b[36m" in out, "\x1b[1m" in out) == (colour, bold)
    with screen.observer_on(console) as observer:
        assert isinstance(observer, screen.LiveObserver) == live


def test_a_sentence_for_each_group_says_what_the_evidence_supports():
    errors = {
        name: Errors(np.full((2, 5), loss) * np.array([[1.0], [1.001]]), [Prior(50.0, 1e-6)])
        for name, loss in (("a", 0.1), ("b", 0.12), ("c", 0.1201), ("pca", 0.11))
    }
    table = pd.DataFrame({
        "variant": ["a", "pca", "b", "c"], "group": "16 numbers", "group_rank": [1, 2, 3, 4],
        "group_rank_low": [1, 2, 3, 3], "against_pca": ["better", None, "worse", "not decided"],
    })  # fmt: skip
    (line,) = groups.verdicts(table, errors)
    assert line == (
        "at 16 numbers: a is best, ahead of pca by 10 to 10 %; 1 ahead of PCA; 1 behind PCA; 1 not told from PCA"
    )
    exact = errors | {"a": Errors(np.full((2, 5), 1e-17) * np.array([[1.0], [1.001]]), [Prior(50.0, 1e-6)])}
    assert groups.verdicts(table, exact)[0].startswith(
        "at 16 numbers: a is best, exact but for rounding, ahead of pca; 1"
    )
    tied = table.assign(group_rank_low=[1, 1, 3, 3])
    assert groups.verdicts(tied, errors)[0].startswith("at 16 numbers: a leads, but pca may be best too; 2 may not;")
    (line,) = groups.verdicts(table.assign(group_rank_low=1), errors)
    assert line.startswith("at 16 numbers: nothing is told apart among all, but against PCA alone; 1 ahead of PCA")
    (line,) = groups.verdicts(table.assign(group_rank_low=1, against_pca="not decided"), errors)
    assert line.startswith("at 16 numbers: nothing is told apart; 4 not told from PCA")


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (1.072, 1.219, " by 7 to 22 %"), (1.9, 2.999, " by 90 to 200 %"), (2.9, 3.01, " by a factor of 2.9 to 3.0"),
        (9.35, 11.69, " by a factor of 9.3 to 12"), (1500.0, 2100.4, " by a factor of 1,500 to 2,100"),
    ],
)  # fmt: skip
def test_what_is_far_ahead_is_so_by_a_factor(low, high, told):
    assert groups.by(low, high) == told


@pytest.mark.parametrize(
    ("rows", "first", "second"),
    [
        (
            [("a[x=1,y=2]", 0.01, 1, 1), ("b", 0.02, 2, 3), ("pca", 0.03, 2, 3)],
            "With codes of 16 numbers, a[x=1,y=2] is the best of 3 variants (test MSE 0.01000 ± 10.0 %), ahead of b.",
            "PCA with codes of that size has 0.03000, and of the others 2 are better than it.",
        ),
        (
            [("a", 0.01, 1, 2), ("b", 0.02, 1, 2), ("pca", 0.03, 3, 3)],
            "With codes of 16 numbers, a has the least error of 3 variants (test MSE 0.01000 ± 10.0 %); by the "
            "evidence b (its mean is 2.0 times that, but 2 seeds of it say little) may be best too, and the other one "
            "may not.",
            "PCA with codes of that size has 0.03000, and of the others 2 are better than it.",
        ),
        (
            [("a", 0.01, 1, 2), ("b", 0.011, 1, 2)],
            "With codes of 16 numbers nothing is told apart among 2 variants; a has the least mean (test MSE 0.01000 ± "
            "10.0 %).",
            "No PCA with codes of that size is here to read it against.",
        ),
        (
            [("a", 0.01, 1, 1)],
            "With codes of 16 numbers there is one variant, a: test MSE 0.01000 ± 10.0 %.",
            "No PCA with codes of that size is here to read it against.",
        ),
    ],
)  # fmt: skip
def test_two_sentences_say_what_the_evidence_supports_in_the_largest_group(rows, first, second):
    table = pd.DataFrame(
        {
            "variant": name, "group": "16 numbers", "test_mse": mse, "test_mse_low": mse / 1.1,
            "test_mse_high": mse * 1.1, "group_rank": place, "group_rank_low": low, "group_rank_high": high, "seeds": 2,
            "baseline": "pca" if name == "pca" else None, "against_pca": None if name == "pca" else "better",
        }
        for place, (name, mse, low, high) in enumerate(rows, start=1)
    )  # fmt: skip
    said = groups.headline(table, dict.fromkeys(table["variant"]))
    assert said[0].startswith(first)
    assert said[1] == second


@pytest.mark.parametrize(
    ("others", "first"),
    [
        ([("broken", "failed", None)], "Nothing can be compared: of 3 variants 1 failed, 2 are baselines."),
        (
            [("broken", "failed", None), ("late", "not run yet", None)],
            "Nothing can be compared: of 4 variants 1 failed, 1 has not run yet, 2 are baselines.",
        ),
        ([("net", "8 numbers", 0.02)], "With codes of 8 numbers there is one variant, net: test MSE 0.02000."),
    ],
)
def test_baselines_alone_are_no_comparison(others, first):
    rows = [("mean", "0 numbers", 0.07), ("pca", "16 numbers", 0.03), *others]
    table = pd.DataFrame(
        {
            "variant": name, "group": group, "test_mse": mse, "test_mse_low": None, "test_mse_high": None,
            "group_rank": None if mse is None else 1, "group_rank_low": None if mse is None else 1,
            "group_rank_high": None if mse is None else 1, "seeds": 1,
            "baseline": name if name in ("mean", "pca") else None, "against_pca": None,
        }
        for name, group, mse in rows
    )  # fmt: skip
    assert groups.headline(table, dict.fromkeys(table["variant"]))[0] == first


def test_a_sparkline_falls_as_the_loss_does_on_a_log_scale():
    assert sparkline([1.0, 0.1, 0.01]) == "█▅▁"
    assert sparkline([2.0]) == "▁"
    assert sparkline([0.0, float("nan")]) == ""
    assert len(sparkline(np.linspace(1, 0.1, 500))) == 12
    assert sparkline([1.0, 1.0]) == "▁▁"


@pytest.mark.parametrize("height", [10, 24, 200])
def test_the_growing_table_never_hides_what_runs_and_keeps_the_latest_in_sight(height):
    observer = screen.LiveObserver(Console(file=io.StringIO(), force_terminal=True, width=80, height=height))
    try:
        observer.lines = [Text("heading"), *(Text(f"variant {number}") for number in range(60))]
        observer.latest = "variant 40"
        observer.head = Text("the time left")
        shown = Console(file=io.StringIO(), record=True, width=80, height=height)
        shown.print(observer._render())
        lines = shown.export_text().splitlines()
    finally:
        observer.stop()
    assert len(lines) <= height
    assert lines[0] == "heading"
    assert "variant 40" in lines
    assert lines[-1] == "the time left"
    assert any("more lines" in line for line in lines) == (height < 62)
