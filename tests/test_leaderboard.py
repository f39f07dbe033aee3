"""A leaderboard over data sets: which runs stand, what is ranked, what is missing, in a table and on a page."""

import csv
import io
import json

import pytest
from made_runs import SOURCE, make_run, several, variant

from aezoo.contract.columns import FIGURES, LEADERS
from aezoo.table.across import leaderboard
from aezoo.table.rows import summarise

PCA = {"baseline": "pca", "objective": "mse, closed form"}
LOSSES = {"a": {"x": 0.01, "y": 0.02, "only": 0.001}, "b": {"x": 0.03, "y": 0.01}, "c": {"x": 0.01, "y": 0.04}}


@pytest.fixture
def runs(tmp_path):
    """Return three runs, of a data set each: x and y are on all of them, `only` on the first."""
    return [
        make_run(
            tmp_path / name,
            [*(variant(each, loss=loss) for each, loss in losses.items()), variant("pca", loss=0.05, **PCA)],
            dataset=name, samples=False,
        )
        for name, losses in LOSSES.items()
    ]  # fmt: skip


def rows_of(board, group="16 numbers"):
    return board.table[board.table["group"] == group].set_index("variant")


def test_mean_ranks_are_of_the_variants_that_are_on_all_data_sets(runs):
    board = leaderboard(runs)
    assert board.datasets == ("a", "b", "c")
    table = rows_of(board)
    assert list(table.index) == ["x", "y", "pca", "only"]
    assert list(table["mean_rank"][:3]) == [pytest.approx(4 / 3), pytest.approx(5 / 3), 3.0]
    ranked = table[:3]
    assert (ranked["mean_rank_low"] <= ranked["mean_rank"]).all()
    assert (ranked["mean_rank"] <= ranked["mean_rank_high"]).all()
    assert table["datasets"].tolist() == [3, 3, 3, 1]
    assert table.loc["only", ["mean_rank", "mse_on_b"]].isna().all()
    assert "b: not in its run: only" in board.notes("mse")


def test_a_figure_on_a_data_set_is_that_of_its_runs_own_table(runs):
    board = leaderboard(runs)
    for name, run in zip(board.datasets, runs, strict=True):
        own = summarise(run).set_index("variant")
        there = rows_of(board).loc[own.index]
        assert there[f"mse_on_{name}"].tolist() == own["test_mse"].tolist()
        assert there[f"ratio_on_{name}"].tolist() == (own["test_mse"] / own["test_mse"].min()).tolist()
        assert there[f"vs_pca_on_{name}"].tolist() == own["vs_pca"].tolist()


def test_a_profile_says_in_which_share_of_the_data_sets_a_variant_is_within_a_factor(runs):
    board = leaderboard(runs)
    shares = {point["x"]: point["y"] for point in board.profile("16 numbers") if point["name"] == "x"}
    ratios = sorted(rows_of(board).loc["x", f"ratio_on_{name}"] for name in "abc")
    assert [shares[ratio] for ratio in ratios] == pytest.approx([1 / 3, 2 / 3, 1])
    # Whoever lacks a data set has no share of them.
    assert {point["name"] for point in board.profile("16 numbers")} == {"x", "y", "pca"}


def test_a_sentence_for_each_code_group_that_is_compared(runs):
    board = leaderboard(runs)
    assert board.largest == "16 numbers"
    (sentence,) = board.sentences().values()
    assert sentence.startswith(
        "Over 3 data sets, with codes of 16 numbers, x has the best mean rank of 3 variants: 1.3"
    )
    assert leaderboard(runs[:1]).largest is None
    assert leaderboard(runs[:1]).sentences() == {}


def test_seeds_that_start_from_the_same_weights_say_nothing_over_data_sets(tmp_path):
    some = [variant("a", loss=0.01, same_start=True), variant("b", loss=0.9)]
    board = leaderboard([make_run(tmp_path / name, some, dataset=name, samples=False) for name in ("one", "two")])
    ranks = rows_of(board).loc["a", ["mean_rank", "mean_rank_low", "mean_rank_high"]]
    assert ranks.tolist() == [1.0, 1.0, 2.0]
    assert [str(run.path) for run in board.runs] == [str(tmp_path / "one"), str(tmp_path / "two")]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"status": "diverged", "reason": "at step 3"}, "diverged"),
        ({"group": 4}, "in another code group there"),
        (None, "not in its run"),
    ],
)
def test_a_variant_without_a_loss_is_told_with_the_reason(facts, reason, tmp_path):
    usual = [variant("x"), variant("y", loss=0.03)]
    second = [variant("x"), *([] if facts is None else [variant("y", **facts)])]
    board = leaderboard(
        [
            make_run(tmp_path / "a", usual, dataset="a", samples=False),
            make_run(tmp_path / "b", second, dataset="b", samples=False),
        ]
    )
    assert f"b: {reason}: y" in board.notes("mse")
    assert rows_of(board).loc["y", "datasets"] == 1


def test_a_variant_that_failed_everywhere_has_a_row(tmp_path):
    some = [variant("x"), variant("bad", status="error", reason="fell over")]
    board = leaderboard([make_run(tmp_path / name, some, dataset=name, samples=False) for name in "ab"])
    assert rows_of(board, "failed").loc["bad", "datasets"] == 0
    assert [line for line in board.notes("mse") if "bad" in line] == ["a: error: bad", "b: error: bad"]


def test_of_one_data_set_the_first_run_stands_and_the_others_are_told_with_the_reason(tmp_path, monkeypatch):
    a, alike, other = (
        make_run(tmp_path / name, [variant("x"), variant("y")], samples=False, batch_size=size)
        for name, size in (("a", 32), ("alike", 32), ("other", 64))
    )
    board = leaderboard([a, alike, other])
    assert [run.path for run in board.runs] == [a.path]
    assert board.left_out == {
        str(
            alike.path
        ): f"{a.path} stands for the data set, made under the same settings; `aezoo merge` makes one run of them",
        str(other.path): f"{a.path} stands for the data set, and was made under other settings: they differ in "
        "batch_size (32, 64)",
    }


def test_one_name_for_two_networks_is_told(tmp_path):
    changed = SOURCE.model_copy(update={"source_sha256": "f" * 64})
    board = leaderboard(
        [
            make_run(tmp_path / "a", [variant("x"), variant("y")], dataset="a", samples=False),
            make_run(
                tmp_path / "b", [variant("x", plugin=changed), variant("y", hyperparameters={"width": 3})], dataset="b",
                samples=False,
            ),
        ]
    )  # fmt: skip
    start = "another network on b than on a"
    assert {f"{start}: plugin source changed: x", f"{start}: width None → 3: y"} <= set(board.notes("mse"))


def test_two_data_sets_of_one_name_are_told_apart_by_their_pixels(tmp_path):
    runs = [make_run(tmp_path / f"r{n}", [variant("x")], samples=False, pixels=str(n) * 64) for n in (1, 2)]
    assert leaderboard(runs).datasets == ("made #1 (111111)", "made #2 (222222)")


HOSTILE = ["variant", "status", "mse_on_x", "=1+1", "a|b", "<b>", "\x1b[31mred", "x" * 300]


@pytest.mark.parametrize("fmt", ["rich", "csv", "json", "github", "latex", "html", "simple"])
def test_every_format_holds_every_data_set_whatever_it_is_called(fmt, tmp_path, call):
    for number, name in enumerate(HOSTILE):
        make_run(tmp_path / f"r{number}", [variant("x"), variant("y", loss=0.04)], dataset=name, samples=False)
    status, out, err = call("table", *sorted(tmp_path.iterdir()), "--format", fmt)
    assert status == 0
    assert "\x1b[31m" not in out + err
    if fmt == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [sum(name.startswith("mse_on_") for name in row) for row in rows] == [len(HOSTILE)] * 2
    elif fmt == "json":
        rows = json.loads(out)
        assert [row["mse_on_<b>"] for row in rows] == leaderboard_of(tmp_path).table["mse_on_<b>"].tolist()
        assert list(rows[0])[:2] == ["group", "variant"]
    elif fmt == "html":
        assert "<b>" not in out
    elif fmt == "github":
        lines = [line for line in out.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def leaderboard_of(folder):
    from aezoo.run.store import RunDirectory

    return leaderboard([RunDirectory(path) for path in sorted(folder.iterdir())])


def test_a_table_of_several_runs_takes_what_is_a_run_and_says_what_is_not(runs, tmp_path, call):
    (tmp_path / "README.md").write_text("no run")
    status, out, err = call("table", *sorted(tmp_path.iterdir()))
    assert status == 0
    assert f"left out, since it has no run.json: {tmp_path / 'README.md'}" in err
    head, _, group, *body = out.splitlines()
    assert head.split() == ["rank", "variant", "sets", "a", "b", "c"]
    assert group == "16 numbers"
    assert [line.split()[2] for line in body[:2]] == ["x", "y"]
    assert body[3].split()[:3] == ["-", "only", "1"]
    assert "Over 3 data sets, with codes of 16 numbers, x has the best mean rank" in out
    # One run among other things is that run's table.
    _, out, _ = call("table", tmp_path / "README.md", runs[0].path, "--format", "csv")
    assert out.startswith("rank,variant")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["README.md", "notes.txt"], "no run among these 2 files and folders: none has a run.json"),
        (["a", "nowhere"], "no run at"),
        (
            ["a", "b", "--view", "rate"],
            "no view 'rate' here: it is of one run, and several were given; give one of mse",
        ),
        (["a", "b", "--view", "ratios"], "Did you mean 'ratio'?"),
        (["a", "b", "--sort", "mse_on_d"], "no column 'mse_on_d'. Did you mean 'mse_on_"),
        (
            ["a", "--view", "Ratio"],
            "no view 'ratio' here: it is of several runs, and one was given; give one of group,",
        ),
        (["a", "--view", "code"], "no view 'code' here: group has taken its place; give one of group, flat"),
    ],
)
def test_a_wrong_call_is_one_line(arguments, told, runs, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("README.md", "notes.txt"):
        (tmp_path / name).write_text("no run")
    status, out, err = call("table", *arguments)
    assert (status, out) == (2, "")
    assert told in err.splitlines()[-1]


@pytest.mark.parametrize("column", [*(column.name for column in LEADERS), "variant", "ratio_on_b"])
def test_a_leaderboard_is_sorted_by_any_of_its_columns(column, runs, call):
    _, out, _ = call("table", *(run.path for run in runs), "--view", "ratio", "--sort", column, "--format", "json")
    values = [row[column] for row in json.loads(out)]
    present = [value for value in values if value is not None]
    assert present == sorted(present)
    assert values[: len(present)] == present


@pytest.mark.parametrize(
    ("width", "blocks"),
    [
        (None, [["rank", "variant", "sets", "a", "b", "c"]]), (200, [["rank", "variant", "sets", "a", "b", "c"]]),
        (50, [["rank", "variant", "sets", "a", "b"], ["variant", "c"]]),
    ],
)  # fmt: skip
def test_data_sets_for_which_a_terminal_has_no_room_beside_the_others_stand_below(width, blocks, runs):
    from aezoo.table.layout import lay_out

    layout = lay_out(leaderboard(runs).view("mse"), width)
    lines = [line for line, _ in layout.lines]
    assert max(map(len, lines)) <= (width or 200)
    assert [line.split() for line in lines if "variant" in line.split()] == blocks
    assert layout.left_out == []


def test_the_page_says_what_the_table_says(tmp_path):
    import re

    from aezoo.page import compared
    from aezoo.table.cells import cells as cells_of

    runs = [make_run(tmp_path / name, several(7), dataset=name, samples=False) for name in ("one", "two")]
    board = leaderboard(runs)
    html = compared.html(runs)
    section = html.split('<section id="over"')[1].split("</section>")[0]
    rows = re.findall(r"<tr>(.+?)</tr>", section)[1:]
    cells = [[re.sub(r"<.+?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.+?)</t[hd]>", row)] for row in rows]
    assert [[cell.replace("&gt;", ">") for cell in row] for row in cells] == cells_of(board.view("mse"))[1]
    assert all(sentence in section for sentence in board.sentences().values())
    assert f"<h1><bdi>{board.sentences()[board.largest]}</bdi></h1>" in html
    # Nothing is held against a run of another data set.
    assert "Each of these runs is of a data set of its own." in html
    assert 'id="verdicts"' not in html


def test_a_views_columns_have_a_meaning(runs):
    from aezoo.contract.columns import column, is_reserved

    for figure in FIGURES:
        for name in leaderboard(runs).view(figure):
            assert is_reserved(name)
            assert column(name).meaning
