"""Fake distributions on the path, as an installer would leave them, and one with a tiny data set."""

import os
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from multiprocessing import util
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from launcher import Launcher

from aezoo import cli
from aezoo.registry.discovery import discover

pytest_plugins = ["pytester"]

# Every bench would write for TensorBoard where that is installed; one test asks for it.
os.environ["AEZOO_NO_PLUGINS"] = "tensorboard"

# Listings are kept there; what the user has kept is none of a test's business.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="aezoo-tests-cache-")
util.Finalize(None, shutil.rmtree, args=(os.environ["XDG_CACHE_HOME"], True), exitpriority=-200)
# What torch.compile has compiled before, it need not again.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / f"aezoo-inductor-{os.getuid()}"))
# Tests look at what benches leave in the temporary folder, while another worker's benches use it.
os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="aezoo-tests-")
# Removed last of all: multiprocessing removes its own in it before.
util.Finalize(None, shutil.rmtree, args=(tempfile.tempdir, True), exitpriority=-200)

# The networks here are so small that a second thread only waits for the first.
torch.set_num_threads(1)

# How long an example takes is the machine's business.
settings.register_profile("aezoo", deadline=None)
settings.load_profile("aezoo")

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

FAULTY = """
    import ctypes, os, resource, signal, sys, time
    import aezoo, torch
    from torch import nn

    class Faulty(aezoo.Autoencoder):
        def __init__(self, image_shape, fault):
            super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)),
                             nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, image_shape)))
            self.fault, self.steps = fault, 0
            if fault == "dice":
                torch.manual_seed(int.from_bytes(os.urandom(4), "big"))
                nn.init.normal_(self.encoder[1].weight)
            if fault == "unwritten":
                self.encoder[1].weight = nn.Parameter(torch.empty(2, 36).nan_to_num(0.5).clamp(-0.1, 0.1))

        def training_forward(self, x):
            self.steps += 1
            # The preflight takes four steps: these faults come later, in the trial.
            if self.steps > 20:
                getattr(self, self.fault)()
            return aezoo.TrainingOutput(self(x))

        def none(self): pass
        def raises(self): raise KeyError("gone\\nwrong")
        def exits(self): sys.exit(3)
        def memory(self): torch.empty(2**62, dtype=torch.uint8)
        def limit(self):
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
        def host_memory(self):
            self.limit()
            torch.ones(2**28)
        def python_memory(self):
            self.limit()
            bytearray(2**28)
        def device_memory(self): raise torch.OutOfMemoryError("CUDA out of memory")
        def dice(self): pass
        def unwritten(self): pass
        def segfault(self): ctypes.string_at(0)
        def killed(self): os.kill(os.getpid(), signal.SIGKILL)
        def prints(self): print("rank,variant\\nstdout of a plugin", flush=True)
        def hangs(self):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)

    def build(image_shape, *, fault: str = "none", latent_dim: int = 2):
        if fault == "build":
            raise RuntimeError("cannot be built")
        if fault == "big":
            raise aezoo.AezooError("too big for these images")
        if fault == "huge":
            return aezoo.Autoencoder(nn.Linear(10**7, 10**7), nn.Identity())
        return Faulty(image_shape, fault)

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="faulty", build=build, summary="s", reference="r")
"""


def hear_ctrl_c() -> None:
    """Undo, in a process about to start, what a shell does to those that it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """Return what starts real `aezoo` processes in a blink."""
    made = Launcher()
    yield made
    made.stop()


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
def tiny(distribute: Distribute, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a data set of 160 images of 6x6, and return its name. Clocks run shortly: no test reads a speed."""
    monkeypatch.setattr("aezoo.harness.timing.ROUND_SECONDS", 0.02)
    distribute(TINY, name="tiny-data")
    return "tiny"


@pytest.fixture(autouse=True)
def no_page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page of the many runs that are benched in this process, but where a test asks for the fixture `page`."""
    if "page" not in request.fixturenames:
        monkeypatch.setattr("aezoo.harness.call._write_page", lambda *_: None)
        monkeypatch.setattr("aezoo.harness.merge._page", lambda *_: [])


@pytest.fixture
def page() -> None:
    """Let benches in this process write the pages of their runs."""


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that calls the command line and returns (exit status, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["aezoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return (exit_.value.code or 0, *capsys.readouterr())

    return run
