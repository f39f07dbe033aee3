"""The documents: every link leads somewhere, and what they print is what the program prints."""

import re
from pathlib import Path

import pytest

from aezoo.architecture import EXCUSABLE
from aezoo.conformance import CHECKS
from aezoo.registry import discover

ROOT = Path(__file__).parent.parent
DOCUMENTS = [path for path in ROOT.glob("**/*.md") if ".venv" not in path.parts and "wheel-env" not in path.parts]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_exists(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readmes_table_is_the_published_one():
    """Each figure of the README's excerpt stands in results/mnist-5k.md."""
    published = (ROOT / "results" / "mnist-5k.md").read_text()
    rows = {
        cells[1]: cells
        for line in published.splitlines()
        if len(cells := [c.strip() for c in line.split("|")[1:-1]]) > 5
    }
    block = re.split(r"```\n *rank", (ROOT / "README.md").read_text())[1].split("```")[0]
    excerpt = [re.split(r"\s{2,}", line.strip()) for line in block.splitlines()[2:]]
    assert len(excerpt) >= 10
    for line in excerpt:
        assert set(line) <= set(rows[line[1]]), line


def test_every_failure_of_the_list_has_tests_that_are_there():
    source = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 30
    assert [name for name in named if f"def {name}(" not in source] == []


def test_the_published_table_has_every_declared_variant():
    published = (ROOT / "results" / "mnist-5k.csv").read_text()

    names = {variant.text for variant in discover().select(["*"])}
    assert {name for name in names if name not in published} == set()


def test_the_guide_names_every_check_and_every_exception():
    guide = (ROOT / "plugins" / "README.md").read_text()
    named = re.findall(r"^\| `(\w+)` \| (.+) \|$", guide, re.MULTILINE)
    assert named == [(check.name, check.summary) for check in CHECKS]
    assert f"{', '.join(f'`{name}`' for name in EXCUSABLE)} may be\ndeclared" in guide
