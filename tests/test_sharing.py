"""Several processes on one run directory: real ones, and one of them is killed."""

import signal
from collections import Counter

import aezoo
from aezoo.contract.recipe import Recipe
from aezoo.harness.run import Run
from aezoo.run.store import RunDirectory

COUNTED = """
    import os
    import aezoo
    from torch import nn

    class Counted(aezoo.Autoencoder):
        def __init__(self, image_shape):
            super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)),
                             nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, image_shape)))
            self.steps = 0

        def training_forward(self, x):
            self.steps += 1
            # The preflight takes four steps.
            if self.steps == 20:
                with open(os.environ.get("COUNTED_LOG", os.devnull), "a") as log:
                    # Every trial starts from other weights.
                    log.write(f"{os.getppid()} {float(self.encoder[1].bias[0])!r}\\n")
            return aezoo.TrainingOutput(self(x))

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="counted", build=Counted, summary="s", reference="r")
"""


def test_two_benches_on_one_run_directory_run_each_trial_once_also_when_one_is_killed(
    launcher, tiny, distribute, tmp_path
):
    distribute(COUNTED, name="counted-dist")
    seeds = 12
    (tmp_path / "recipe.toml").write_text(
        f'name = "t"\ndataset = "tiny"\nsteps = 60\nbatch_size = 16\nlr = 1e-2\nseeds = {seeds}\n'
    )
    command = [
        "bench", "counted", "--recipe", tmp_path / "recipe.toml", "--device", "cpu", "--jobs", "2", "--no-timing",
        "--out", tmp_path / "run", "--format", "csv",
    ]  # fmt: skip
    log = tmp_path / "log"
    log.touch()
    benches = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        benches.append(launcher.start(*command, cwd=tmp_path / str(number), COUNTED_LOG=str(log)))
    benches[0].until(log.read_text)
    benches[0].kill()
    assert [bench.wait() for bench in benches] == [-signal.SIGKILL, 0, 0, 0]
    tables = {bench.out.read_text() for bench in benches[1:]}
    records = RunDirectory(tmp_path / "run").records().values()
    assert Counter(record.variant for record in records)["counted"] == seeds
    assert {record.status for record in records} == {"ok"}
    # Two of its trials may have been under way when it was killed; another process ran those again.
    trained = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert len(trained) == seeds
    assert sum(trained.values()) <= seeds + 2
    # All print one table, and it is the one of a bench that nobody disturbed.
    alone = aezoo.bench(
        ["counted"],
        recipe=Recipe(name="t", dataset="tiny", steps=60, batch_size=16, lr=1e-2, seeds=seeds),
        out=tmp_path / "alone", device="cpu", timing=False,
    )  # fmt: skip
    assert len(tables) == 1
    columns = ["variant", "test_mse", "test_mse_low", "test_mse_high", "seeds", "status", "rank"]
    assert Run(path=tmp_path / "run").table()[columns].equals(alone.table()[columns])
