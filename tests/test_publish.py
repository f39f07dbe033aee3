"""What is published of a run: a page of Markdown, csv, the page of the run, a picture; and a table for a paper."""

import re
from pathlib import Path

import pandas as pd
import pytest
from made_runs import make_run, several, variant

from aezoo.contract import recipe
from aezoo.page import published
from aezoo.run.store import RunDirectory
from aezoo.table import latex, views


@pytest.mark.parametrize("made", [several(9), [variant("a", loss=0.2)], [variant("a", status="error", reason="no")]])
def test_a_run_of_any_size_is_published(made, tmp_path, call):
    run = make_run(tmp_path / "run", made)
    status, out, err = call("publish", run.path, tmp_path / "docs" / "mine")
    names = {path.name for path in (tmp_path / "docs").iterdir()}
    drawn = made[0].get("status") is None
    assert (status, err) == (0, "")
    assert names == {"mine.md", "mine.csv", "mine.html", "mine.toml", *(["mine.png"] if drawn else [])}
    assert sorted(out.split()) == sorted(str(tmp_path / "docs" / name) for name in names)
    text = (tmp_path / "docs" / "mine.md").read_text()
    assert text.startswith(
        "# made, 200 steps\n\nEvery network: 200 steps of 32 images of made (400 to train, 60 to test"
    )
    assert ("](mine.png)" in text) == drawn
    one = "a[]" if len(made) == 1 else "net0[latent_dim=8]"
    assert f"for one: `aezoo bench '{one}' --recipe mine.toml --device cpu --out mine`;" in text
    assert recipe.read_recipe(tmp_path / "docs" / "mine.toml") == RunDirectory(run.path).info().recipe
    for each in made:
        assert re.search(rf"^\| *[-\d( )]+ \| (> )?{re.escape(each['name'])} +\|", text, re.MULTILINE)
    assert (tmp_path / "docs" / "mine.csv").read_text().splitlines()[0].startswith("rank,variant,")
    if drawn:
        assert (tmp_path / "docs" / "mine.png").read_bytes().startswith(b"\x89PNG")
    if len(made) > 1:
        # A column that says nothing of a group is left out there, and numbers begin at the right.
        assert re.search(
            r"^\| +rank \| variant +\| +test_mse \| +±95% \| +vs_pca \| +params \| +train/s \|$", text, re.M
        )
        assert re.search(r"^\|-+:\|:-+\|(-+:\|){5}$", text, re.MULTILINE)


@pytest.mark.parametrize(("changes", "named"), [({"seeds": 2}, "quick --seeds 2"), ({"steps": 20}, "mine.toml")])
def test_the_recipe_is_published_where_no_line_can_name_it(changes, named, tmp_path, call):
    run = make_run(tmp_path / "run", several(4), recipe=recipe.read_recipe("quick").change(**changes))
    call("publish", run.path, tmp_path / "mine")
    text = (tmp_path / "mine.md").read_text()
    assert f"for one: `aezoo bench 'net0[latent_dim=8]' --recipe {named} --device cpu --out mine`;" in text
    assert ("[Its recipe](mine.toml)" in text, (tmp_path / "mine.toml").exists()) == (2 * ("steps" in changes,))
    if "steps" in changes:
        assert recipe.read_recipe(tmp_path / "mine.toml") == run.info().recipe


@pytest.mark.parametrize(
    ("target", "base"),
    [("docs/mine.md", "docs/mine"), ("docs/mine.html", "docs/mine"), ("docs", "docs/the-run"), ("new/", "new/the-run"),
     ("v0.2", "v0.2"), ("the-run", "the-run")],
)  # fmt: skip
def test_the_name_of_a_file_or_a_folder_is_understood(target, base, tmp_path, call):
    run = make_run(tmp_path / "the-run", several(4), samples=False)
    (tmp_path / "docs").mkdir()
    status, out, _ = call("publish", run.path, f"{tmp_path}/{target}")
    assert (status, set(out.split())) == (0, {f"{tmp_path / base}{ending}" for ending in published.ENDINGS})
    assert {path for path in tmp_path.rglob("*.*") if path.parent != run.path and run.path not in path.parents} == {
        *map(Path, out.split())
    }


def test_what_it_is_held_beside_must_be_there(tmp_path, call):
    run = make_run(tmp_path / "run", several(4), samples=False)
    status, _, err = call("publish", run.path, tmp_path / "mine", "--beside", tmp_path / "nowhere")
    assert (status, len(err.splitlines())) == (2, 1)
    assert f"no published table at {tmp_path / 'nowhere.csv'}" in err


def test_a_published_table_says_whose_order_a_tuned_one_turns_round(tmp_path):
    columns = "group,variant,lr,lr_at_edge,test_mse,vs_pca,group_rank,group_rank_low,group_rank_high,against_pca"
    fixed = ["g,a,,,0.1,0.9,1,1,1,better", "g,b,,,0.2,1.5,2,2,3,worse", "g,c,,,0.2,1.5,3,2,3,worse"]
    tuned = ["g,b,0.01,yes,0.05,0.5,1,1,2,better", "g,c,0.003,,0.06,1.1,2,1,2,worse", "g,a,0.001,,0.1,0.9,4,3,4,better"]
    for name, some in (("fixed", fixed), ("tuned", tuned)):
        (tmp_path / f"{name}.csv").write_text("\n".join([columns, *some]) + "\n")
    said = published.held_beside(*(pd.read_csv(tmp_path / f"{name}.csv") for name in ("fixed", "tuned")), "fixed")
    assert "- `a`, ahead in fixed, is now behind `b`, `c`" in said
    assert "- from behind PCA to ahead of PCA: `b`" in said
    assert re.search(r"\| g +\| b +\| +0.01\* \| 0.20000 \| 0.05000 \| +-75% \| +2 \(2-3\) \| +1 \(1-2\) \|", said)
    assert said.count("is now behind") == 1
    assert "- `b` passes PCA\n- `a` goes from place 1 to 4 among those of g\n" in said


@pytest.mark.parametrize("fmt", latex.FORMATS)
def test_a_table_for_a_paper_has_a_caption_and_marks_what_is_best_by_the_evidence(fmt, tmp_path, call):
    made = [variant("best_one", loss=0.001), variant("tied_a", loss=0.02), variant("tied_b", loss=0.0201)]
    made += [variant("p", loss=0.02, group=8), variant("q", loss=0.0202, group=8)]
    run = make_run(tmp_path / "run", made, seeds=3)
    _, out, _ = call("table", run.path, "--format", fmt, "--columns", "test_mse,params,±95%")
    highs = views.by_group(RunDirectory(run.path)).set_index("variant")["group_rank_high"]
    assert (highs["best_one"] == 1, highs["p"] > 1) == (True, True)
    body = out.split("\\begin{tabular}{lrrr}\n")[1].split("\\end{tabular}")[0]
    cells = [line.removesuffix(" \\\\").split(" & ") for line in body.splitlines() if " & " in line]
    assert cells[0] == ["variant", "test\\_mse", "params", "$\\pm$95\\%"]
    assert [row[0] for row in cells[1:] if row[1].startswith("\\textbf{")] == ["best\\_one"]
    assert [row[0] for row in cells[1:]] == ["p", "q", "best\\_one", "tied\\_a", "tied\\_b"]
    assert "\\multicolumn{4}{l}{\\textit{16 numbers}} \\\\" in body
    assert body.startswith("\\toprule" if fmt == "latex_booktabs" else "\\hline")
    assert re.search(r"\\caption\{Test MSE a pixel on made, 200 steps of 32 \(400 images of 1x12x12 to train on", out)


def captioned(text):
    """Return the caption of a table of LaTeX."""
    return re.search(r"\\caption\{(.*)\}\n", text)[1]


def test_a_caption_explains_what_is_in_the_table_and_no_more(tmp_path):
    made = [variant("best_one", loss=0.001), variant("tied_a", loss=0.02), variant("tied_b", loss=0.0201)]
    run = make_run(tmp_path / "run", made, seeds=3).load()
    table = views.by_group(run)
    whole = captioned(latex.latex(run, table, "latex"))
    assert ("$\\pm$95\\%" in whole, "Bold" in whole) == (True, True)
    few = captioned(latex.latex(run, table, "latex", ["variant", "test_mse"]))
    assert ("95" in few, "Bold" in few, "Test MSE a pixel on made" in few) == (False, True, True)
    sizes = captioned(latex.latex(run, table, "latex", ["variant", "num_params"]))
    assert ("Bold" in sizes, "Test MSE" in sizes, "variants in groups" in sizes) == (False, False, True)
    tied = make_run(tmp_path / "tied", made[1:], seeds=3).load()
    text = latex.latex(tied, views.by_group(tied), "latex")
    assert ("textbf" in text, "Bold" in captioned(text)) == (False, False)


def test_a_flat_table_for_a_paper_has_a_caption_and_the_columns_that_a_paper_has_room_for(tmp_path):
    made = [variant("p", loss=0.02, group=8), variant("q", loss=0.0202, group=8), variant("r", loss=0.001, group=8)]
    made += [variant("best", loss=0.005), variant("c", loss=0.03), variant("fails", status="error", reason="no")]
    run = make_run(tmp_path / "run", made, seeds=3).load()
    text = latex.latex(run, views.VIEWS["flat"](run), "latex_booktabs")
    lines = [line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if " & " in line]
    assert [[line[0].split(" ")[0], *line[1:3]] for line in lines] == [
        ["rank", "variant", "group"], ["1", "r", "8 numbers"], ["2", "best", "16 numbers"], ["3", "p", "8 numbers"],
        ["4", "q", "8 numbers"], ["5", "c", "16 numbers"], ["6", "fails", "failed"],
    ]  # fmt: skip
    assert [line[1] for line in lines if line[3].startswith("\\textbf{")] == ["r", "best"]
    assert "\\begin{tabular}{rllrrrr}\n\\toprule\nrank & " in text
    assert text.count("\\midrule") == 1
    assert "variants in groups" not in captioned(text)
    alone = latex.latex(run, views.VIEWS["flat"](run), "latex", ["variant", "test_mse"])
    assert ("textbf" in alone, "Bold" in captioned(alone)) == (False, False)
