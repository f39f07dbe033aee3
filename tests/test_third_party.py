"""A stranger's plugin: the tutorial's class as it stands, in a distribution of its own."""

import pandas as pd

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


def test_the_tutorial_class_is_listed_benched_and_stands_in_the_table(distribute, launcher, tmp_path):
    distribute(MODULE, name="aezoo-tutorial", version="1.0")
    listed = launcher.start("list", "tutorial", cwd=tmp_path)
    bench = launcher.start(
        *"bench tutorial mlp[] --steps 30 --seeds 1 --device cpu --no-timing --out run".split(), cwd=tmp_path
    )
    assert listed.wait() == 0
    assert "aezoo-tutorial 1.0" in listed.out.read_text()
    assert bench.wait() == 0, bench.err.read_text()
    table = pd.read_csv(tmp_path / "run" / "table.csv").set_index("variant")
    assert set(table.index) == {"tutorial", "mlp", "pca", "mean"}
    assert table["status"].eq("ok").all()
    assert table.loc["tutorial", "num_params"] == table.loc["mlp", "num_params"] == 219_891
    assert table.loc["tutorial", "latent_size"] == 3
    # The same layers, drawn from the same stream, on the same batches.
    assert table.loc["tutorial", "test_mse"] == table.loc["mlp", "test_mse"]
