"""A stranger's plugin: the tutorial's class as it stands, in a distribution of its own, installed with pip."""

import os
import subprocess
import sys

import pandas as pd
import pytest

PYPROJECT = """\
[project]
name = "aezoo-tutorial"
version = "1.0"
[project.entry-points.aezoo]
tutorial = "aezoo_tutorial"
"""

MODULE = """\
import aezoo
from torch import nn


class AE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 12), nn.ReLU(),
            nn.Linear(12, 3),
        )
        self.decoder = nn.Sequential(
            nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(),
            nn.Linear(128, 28 * 28), nn.Sigmoid(),
        )

    def forward(self, x):
        encoded = self.encoder(x)
        decoded = self.decoder(encoded)
        return decoded


def build(image_shape):
    return aezoo.Flat(AE(), image_shape)


@aezoo.hookimpl
def aezoo_architectures():
    yield aezoo.Architecture(name="tutorial", build=build, summary="The tutorial's class", reference="a tutorial")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the distribution where only these tests look, and return the environment to run in."""
    source, site = tmp_path_factory.mktemp("aezoo-tutorial"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "aezoo_tutorial.py").write_text(MODULE)
    # Without isolation and dependencies: pip builds with what is here, and asks no registry.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", site, source], check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": str(site)}


def aezoo(environment, *arguments, cwd):
    command = [sys.executable, "-m", "aezoo", *arguments]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tutorial_class_is_listed_benched_and_stands_in_the_table(installed, tmp_path):
    listed = aezoo(installed, "list", "tutorial", cwd=tmp_path)
    assert "aezoo-tutorial 1.0" in listed
    aezoo(
        installed, "bench", "tutorial", "mlp[]", "--steps", "30", "--seeds", "1", "--device", "cpu", "--no-timing",
        "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "run" / "table.csv").set_index("variant")
    assert set(table.index) == {"tutorial", "mlp", "pca", "mean"}
    assert table["status"].eq("ok").all()
    assert table.loc["tutorial", "num_params"] == table.loc["mlp", "num_params"] == 219_891
    assert table.loc["tutorial", "latent_size"] == 3
    # The same layers, drawn from the same stream, on the same batches.
    assert table.loc["tutorial", "test_mse"] == table.loc["mlp", "test_mse"]
