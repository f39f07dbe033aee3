"""`aezoo new-plugin`: what it writes works at once, as a stranger would try it."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pandas as pd
import pytest

from aezoo.cli.author import write_plugin
from aezoo.errors import AezooError, StorageError
from aezoo.registry.discovery import discover


def test_a_new_plugin_installs_passes_its_tests_and_stands_in_a_table(launcher, tmp_path):
    done = launcher.start("new-plugin", "my_net", cwd=tmp_path)
    assert done.wait() == 0, done.err.read_text()
    assert "next: pip install -e 'aezoo-my-net[test]' && aezoo check my_net" in done.out.read_text()
    source = tmp_path / "aezoo-my-net"
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert files == {
        "pyproject.toml", "aezoo_my_net.py", "tests/test_my_net.py", "README.md", ".github/workflows/test.yml",
    }  # fmt: skip
    assert not any("$" in (source / name).read_text() for name in files)
    python = environment_beside_this_one(tmp_path / "environment")
    # Without isolation and dependencies: pip builds with what is here, and asks no registry.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-build-isolation"]
    subprocess.run([*pip, "--no-deps", "-e", str(source)], check=True, timeout=120)
    aezoo = [python, "-m", "aezoo"]
    calls = {
        "check": ([*aezoo, "check", "my_net"], tmp_path),
        "tests": ([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"], source),
        "bench": (
            [*aezoo, *"bench my_net --quick --steps 2 --no-timing --no-report --device cpu --out run".split()],
            tmp_path,
        ),
    }
    done = {
        name: subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        for name, (command, folder) in calls.items()
    }
    for one in done.values():
        assert one.returncode == 0, one.stdout + one.stderr
    assert done["check"].stdout.endswith("my_net: meets the contract\n")
    assert "13 passed" in done["tests"].stdout
    table = pd.read_csv(tmp_path / "run" / "table.csv").set_index("variant")
    assert table.loc["my_net", "latent_size"] == 8
    assert table["status"].eq("ok").all()
    assert {"my_net[latent_dim=2]", "my_net[latent_dim=32]", "mean", "pca[latent_dim=32]"} <= set(table.index)


def environment_beside_this_one(folder: Path) -> Path:
    """Make a virtual environment that also has all that this one has, and return its interpreter."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "this_one.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in site_packages()))
    return folder / "bin" / "python"


def site_packages() -> list[str]:
    """Return the folders where this environment's distributions lie, editable ones among them."""
    return [path for path in sys.path if path and "python" in path and Path(path).name == "site-packages"]


def test_what_it_writes_is_clean_for_linters_and_type_checkers(tmp_path):
    path = write_plugin("tiny", tmp_path, discover())
    assert tomllib.loads((path / "pyproject.toml").read_text())["project"]["entry-points"]["aezoo"] == {
        "tiny": "aezoo_tiny"
    }
    for file in path.rglob("*.py"):
        compile(file.read_text(), str(file), "exec")
        assert max(map(len, file.read_text().splitlines())) <= 120


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mlp", "aezoo has an architecture 'mlp' already; choose another name"),
        ("My-Net", "a plugin's name is a small letter, then small letters, digits and '_', but got 'My-Net'"),
        ("../out", "but got '../out'"),
        ("class", "'class' is a word of Python's own; choose another name"),
        ("plugins", "the module aezoo_plugins is aezoo's own; choose another name"),
    ],
)
def test_a_name_that_will_not_do_is_one_line_and_nothing_is_written(name, told, tmp_path):
    with pytest.raises(AezooError, match=told.replace("(", r"\(")):
        write_plugin(name, tmp_path, discover())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_ever_overwritten(tmp_path):
    path = write_plugin("tiny", tmp_path, discover())
    (path / "aezoo_tiny.py").write_text("mine")
    with pytest.raises(AezooError, match="is there already, and not empty"):
        write_plugin("tiny", tmp_path, discover())
    assert (path / "aezoo_tiny.py").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write .*file"):
        write_plugin("other", Path(tmp_path / "file"), discover())
