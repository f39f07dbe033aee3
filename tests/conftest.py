"""Fake distributions on the path, as an installer would leave them, and one with a tiny data set."""

import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aezoo.registry import discover

Distribute = Callable[..., Path]

TINY = """
    import numpy as np, aezoo

    def load(data_dir):
        # Rank-2 images with a little noise: there is something to learn, at once.
        rng = np.random.RandomState(0)
        codes, basis = rng.rand(160, 2), rng.rand(2, 36)
        pixels = (codes @ basis / 2 * 230 + rng.rand(160, 36) * 20).astype(np.uint8).reshape(-1, 1, 6, 6)
        return aezoo.Images(train=pixels[:128], test=pixels[128:])

    @aezoo.hookimpl
    def aezoo_datasets():
        yield aezoo.Dataset(name="tiny", load=load, summary="6x6 of rank 2", reference="tests")
"""


def hear_ctrl_c() -> None:
    """Undo, in a process about to start, what a shell does to those that it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def distribute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribute]:
    """Return a function that lays a distribution with one plugin module on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    made: list[str] = []

    def make(source: str, *, name: str = "fake-dist", version: str = "1.2", module: str | None = None) -> Path:
        module = module or name.replace("-", "_")
        (site / f"{module}.py").write_text(textwrap.dedent(source))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[aezoo]\n{module} = {module}\n")
        made.append(module)
        discover.cache_clear()
        return site / f"{module}.py"

    yield make
    for module in made:
        sys.modules.pop(module, None)
    discover.cache_clear()


@pytest.fixture
def tiny(distribute: Distribute) -> str:
    """Install a data set of 160 images of 6x6, and return its name."""
    distribute(TINY, name="tiny-data")
    return "tiny"
