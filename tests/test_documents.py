"""The documents: every link leads somewhere, and what they print is what the program prints."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import aezoo
from aezoo.check.suite import CHECKS
from aezoo.contract.architecture import EXCUSABLE
from aezoo.contract.columns import COLUMNS, COMPARED, GROUPED, LEADERS, ORIGIN, PLANNED, STATES
from aezoo.contract.recipe import Recipe
from aezoo.registry.discovery import discover
from aezoo.registry.outside import extend
from aezoo.testing import check_architecture

ROOT = Path(__file__).parent.parent
DOCUMENTS = [path for path in ROOT.glob("**/*.md") if ".venv" not in path.parts and "wheel-env" not in path.parts]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_exists(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readmes_table_is_the_published_one():
    """Each row of the README's excerpt stands in results/mnist-5k.md, and so does each of its sentences."""
    published = (ROOT / "results" / "mnist-5k.md").read_text()
    rows = [{cell.strip() for cell in line.split("|")} for line in published.splitlines() if line.startswith("|")]
    block = re.split(r"```\n *rank", (ROOT / "README.md").read_text())[1].split("```")[0]
    lines = [line for line in block.splitlines() if re.match(r" *\d+ [( ]", line)]
    assert len(lines) >= 20
    for line in lines:
        # A name that the terminal cut is known by its figures; what is empty in a whole group is not published.
        cells = {cell for cell in re.split(r"\s{2,}", line.strip()) if "…" not in cell and cell != "-"}
        assert any(cells <= row for row in rows), line
    sentences = [line for line in block.splitlines() if re.match(r"(at|about) .*:", line)]
    assert len(sentences) >= 5
    assert [line for line in sentences if f"- {line}" not in published] == []


def test_the_readmes_columns_are_those_that_a_person_sees():
    section = (ROOT / "README.md").read_text().split("## The columns")[1]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section.split("\n## ")[0], re.MULTILINE)
    assert rows == [(column.name, column.meaning) for column in COLUMNS if column.shown]


def test_every_column_has_a_meaning_and_one_name():
    for view in (COLUMNS, GROUPED, COMPARED, LEADERS, STATES, PLANNED, ORIGIN):
        assert all(column.meaning for column in view)
        assert len({column.name for column in view}) == len(view)


def test_the_map_is_eleven_lines_that_name_every_wing():
    rows = (ROOT / "CONTRIBUTING.md").read_text().split("| go to |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == 11
    wings = {path.name for path in (ROOT / "aezoo").iterdir() if (path / "__init__.py").exists()}
    assert {wing for wing in wings if not any(f"`aezoo/{wing}/`" in row for row in rows)} == set()


def test_every_failure_of_the_list_has_tests_that_are_there():
    source = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in source] == []


def test_the_published_table_has_every_declared_variant():
    published = (ROOT / "results" / "mnist-5k.csv").read_text()

    names = {variant.text for variant in discover().select(["*"])}
    assert {name for name in names if name not in published} == set()


def test_the_readme_names_every_architecture_once():
    zoo = (ROOT / "README.md").read_text().split("## The zoo")[1].split("\n\n")[1]
    named = re.findall(r"`(\w+)`", zoo)
    first_party = [name for name, (_, owner) in discover().architectures.items() if owner.distribution == "aezoo"]
    assert sorted(named) == sorted(first_party)


def test_the_page_of_reproductions_is_made_of_its_files(monkeypatch):
    folder = ROOT / "benchmarks" / "reproduce"
    monkeypatch.syspath_prepend(str(folder))
    run = importlib.import_module("run")
    assert (folder / "README.md").read_text() == run.page()
    assert run.page().count("\n## ") == len(list(folder.glob("*.toml")))


def test_a_mean_between_two_steps_of_a_curve_weighs_its_points(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "reproduce"))
    mean_between = importlib.import_module("run").mean_between
    curve = [(50, 1.0), (100, 2.0), (150, 4.0)]
    assert mean_between(curve, 0, 150) == pytest.approx(7 / 3)
    assert mean_between(curve, 25, 75) == pytest.approx(1.5)
    assert mean_between(curve, 90, 110) == pytest.approx(3.0)


def test_the_guide_names_every_check_and_every_exception():
    guide = (ROOT / "plugins" / "README.md").read_text()
    named = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", guide, re.MULTILINE)
    assert named == [(check.name, check.summary) for check in CHECKS]
    assert f"{', '.join(f'`{name}`' for name in EXCUSABLE)} may be\ndeclared" in guide


PARTS = re.split(r"^#+ ", (ROOT / "plugins" / "README.md").read_text(), flags=re.MULTILINE)
PYTHON = re.compile(r"```python\n(.+?)```", re.DOTALL)
BLOCKS = {part.partition("\n")[0]: found[1] for part in PARTS if (found := PYTHON.search(part))}
ARCHITECTURES = [title for title, code in BLOCKS.items() if "def build(" in code]


def save(title, folder):
    path = folder / f"{re.sub(r'[^a-z]+', '_', title.lower())}.py"
    path.write_text(BLOCKS[title])
    return str(path)


@pytest.mark.parametrize("title", ARCHITECTURES)
def test_the_guides_architectures_meet_the_contract(title, tmp_path):
    registry, texts = extend(discover(), [save(title, tmp_path)])
    for variant in registry.select(texts):
        findings = check_architecture(variant.architecture, image_shapes=[(1, 12, 12), (3, 5, 7)])
        assert {"ok"} <= {one.status for one in findings} <= {"ok", "skipped", "note"}, findings


def test_the_guides_recipes_make_one_bench(tmp_path, capfd):
    rng = np.random.RandomState(0)
    arrays = {part: rng.randint(0, 256, (n, 1, 6, 6), np.uint8) for part, n in (("train", 128), ("test", 32))}
    labels = {f"{part}_labels": np.arange(len(pixels)) % 2 for part, pixels in arrays.items()}
    np.savez(tmp_path / "mine.npz", **arrays, **labels)
    networks = [save(title, tmp_path) for title in ARCHITECTURES]
    others = [save(title, tmp_path) for title in BLOCKS if title not in ARCHITECTURES]
    assert (len(networks), len(others)) == (4, 4)
    run = aezoo.bench(
        networks,
        plugins=others,
        recipe=Recipe(name="t", dataset="mine", steps=5, metrics=["worst"]),
        executor="one-by-one",
        data_dir=tmp_path,
        out=tmp_path / "run",
        device="cpu",
        timing=False,
    )
    table = run.table()
    assert table["status"].eq("ok").all()
    assert table["worst"].gt(table["test_mse"]).all()
    told = capfd.readouterr().err
    assert f"{tmp_path / 'run'}: {len(table)} variants, t\n" in told
    assert told.count(" 0 ok 0.") == len(table)
