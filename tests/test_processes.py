"""One trial over several processes: the steps of one, or a row that says why not; and nobody is left behind."""

import signal
from dataclasses import replace

import psutil
import pytest
import torch
from works import Members

import aezoo
from aezoo.check.shares import share_notes
from aezoo.contract.executor import Task
from aezoo.contract.recipe import Recipe
from aezoo.errors import AezooError
from aezoo.harness import opening
from aezoo.harness.local import LOCAL
from aezoo.harness.observer import Observer
from aezoo.harness.request import Request
from aezoo.harness.tasks import trial_task
from aezoo.registry.discovery import discover
from aezoo.run.store import RunDirectory
from aezoo.train.parallel import Share

RECIPE = Recipe(name="t", dataset="tiny", steps=120, batch_size=15, lr=1e-2, seeds=1)
ROUNDING = 1e-5
"""Relative: what 120 steps make of gradients that are summed in another order; measured, 2e-7 at most."""

PARTS = """
    import ctypes, os, signal, sys, time
    from pathlib import Path
    import aezoo, torch
    from torch import nn

    class Conv(aezoo.Autoencoder):
        def __init__(self, image_shape):
            super().__init__(
                nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)),
                nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, image_shape)))
            self.unused = nn.Linear(3, 3)

    class Penalised(Conv):
        objective = "mse + size"
        def training_forward(self, x):
            z = self.encode(x)
            return aezoo.TrainingOutput(self.decode(z), 0.01 * z.square().mean())

    class Normed(Conv):
        def __init__(self, image_shape):
            super().__init__(image_shape)
            self.encoder.insert(1, nn.BatchNorm2d(4))

    class Spread(Conv):
        objective = "mse + spread"
        def training_forward(self, x):
            z = self.encode(x)
            return aezoo.TrainingOutput(self.decode(z), 0.01 * z.std())

    class Fails(Conv):
        def __init__(self, image_shape, fault):
            super().__init__(image_shape)
            self.fault, self.steps = fault, 0

        def training_forward(self, x):
            self.steps += 1
            if os.environ.get("RANK") and self.steps == 20:
                Path("FOLDER", str(os.getpid())).touch()
            if os.environ.get("RANK") == "1" and self.steps > 20:
                getattr(self, self.fault)()
            return aezoo.TrainingOutput(self(x))

        def raises(self): raise KeyError("gone")
        def diverges(self): self.decoder[0].bias.data += float("nan")
        def segfault(self): ctypes.string_at(0)
        def killed(self): os.kill(os.getpid(), signal.SIGKILL)
        def exits(self): os._exit(3)
        def memory(self): torch.empty(2**62, dtype=torch.uint8)
        def hangs(self):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)

    PARTS = {"conv": Conv, "penalised": Penalised, "normed": Normed, "spread": Spread}

    def build(image_shape, *, part: str = "none"):
        return PARTS[part](image_shape) if part in PARTS else Fails(image_shape, part)

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="parts", build=build, summary="s", reference="r",
                                 exceptions={"gradients": "the spare layer"})
"""

EQUAL = ["mlp[latent_dim=2]", "parts[part=conv]", "parts[part=penalised]"]
OTHER = {
    "vae[latent_dim=2]": "its training noise is drawn for each part of a batch",
    "parts[part=normed]": "its buffers, such as batch statistics, are of a part of a batch, unless it gathers them",
    "parts[part=spread]": "its loss of a batch is no mean over images",
}
FAULTS = {
    "raises": ("error", "KeyError: 'gone'"),
    "segfault": ("error", "its process 2 of 2 was killed by SIGSEGV"),
    "killed": ("error", "its process 2 of 2 was killed by SIGKILL"),
    "exits": ("error", "its process 2 of 2 ended without a result, exit status 3"),
    "memory": ("out_of_memory", "RuntimeError"),
    "diverges": ("diverged", "the training loss was not finite at step 21"),
}


@pytest.fixture
def parts(distribute, tiny, tmp_path):
    (tmp_path / "pids").mkdir()
    distribute(PARTS.replace("FOLDER", str(tmp_path / "pids")), name="parts-dist")


def bench(variants, out, processes=2, recipe=RECIPE, **options):
    run = aezoo.bench(
        variants, recipe=recipe, out=out, device="cpu", timing=False, observer=Observer(), processes=processes,
        jobs=1, **options,
    )  # fmt: skip
    return {record.variant: record for record in run.records()}


def started(tmp_path):
    return [int(path.name) for path in (tmp_path / "pids").iterdir()]


def none_left(tmp_path):
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in started(tmp_path) if psutil.pid_exists(pid)], 10)
    return not alive


def test_two_processes_take_the_steps_of_one_or_their_row_says_why_not(parts, tmp_path):
    """A batch of 15 is 8 and 7: each image counts the same all the same."""
    alone = bench([*EQUAL, *OTHER], tmp_path / "alone", processes=1)
    both = bench([*EQUAL, *OTHER], tmp_path / "both")
    for variant in EQUAL:
        one, two = alone[variant], both[variant]
        assert (one.processes, two.processes, two.status, two.notes) == (1, 2, "ok", one.notes)
        assert two.test_mse == pytest.approx(one.test_mse, rel=ROUNDING)
        assert [loss for _, loss in two.curve] == pytest.approx([loss for _, loss in one.curve], rel=ROUNDING)
        assert one.test_mse < 0.9 * alone["mean"].test_mse
    for variant, reason in OTHER.items():
        one, two = alone[variant], both[variant]
        assert two.notes == [f"over 2 processes its steps are not those of one: {reason}"]
        assert one.notes == []
        assert two.test_mse == pytest.approx(one.test_mse, rel=0.2)
        assert abs(two.test_mse / one.test_mse - 1) > ROUNDING
    assert (both["mean"].processes, both["mean"].notes) == (1, ["a closed form: it is fitted in one process"])
    assert both["mean"].test_mse == alone["mean"].test_mse
    again = bench(["parts[part=conv]", "vae[latent_dim=2]"], tmp_path / "again")
    assert all(each.test_errors_sha256 == both[name].test_errors_sha256 for name, each in again.items())
    assert "mlp-latent_dim=2-s0" in both["mlp[latent_dim=2]"].trial_id
    assert both["mlp[latent_dim=2]"].trial_id != alone["mlp[latent_dim=2]"].trial_id
    assert both["mlp[latent_dim=2]"].peak_memory_bytes > alone["mlp[latent_dim=2]"].peak_memory_bytes


def test_one_that_fails_ends_its_trial_and_the_row_says_what_it_said(parts, tmp_path):
    records = bench([f"parts[part={fault}]" for fault in FAULTS], tmp_path / "run")
    for fault, (status, reason) in FAULTS.items():
        record = records[f"parts[part={fault}]"]
        assert (record.status, record.reason) == (status, record.reason)
        assert record.reason.startswith(reason)
        assert record.processes == 2
    assert "in raises" in records["parts[part=raises]"].traceback
    assert none_left(tmp_path)


@pytest.mark.parametrize(
    ("acts", "reason"),
    [
        (("fails_later_and_ends_sooner", "fails", "fails"), "first....."),
        (("waits", "is_killed_as_it_writes"), "its process 2 of 2 was killed by SIGXFSZ"),
    ],
)
def test_however_much_they_say_and_whoever_is_killed_the_first_failure_is_told(acts, reason):
    """More than a pipe holds that nobody reads."""
    (outcome,) = LOCAL.outcomes([Task(id="t", work=Members(acts), processes=len(acts), timeout=60)], 1)
    assert outcome.status == "ok", outcome.reason
    assert outcome.value["reason"][: len(reason)] == reason


def test_another_plugin_here_is_a_fault_of_the_machine_and_not_of_the_trial(parts, tmp_path):
    request = Request.of({"variants": ["parts[part=conv]"], "recipe": RECIPE, "processes": 2, "out": tmp_path / "run"})
    with opening.open_call(request, Observer()) as (grid, (variant,)):
        plan = grid.plan(variant, 0)
        task = trial_task(grid, [plan])
        other = plan.model_copy(update={"plugin": plan.plugin.model_copy(update={"version": "9"})})
        (outcome,) = LOCAL.outcomes([replace(task, work=replace(task.work, plans=(other,)))], 1)
    assert (task.processes, outcome.status, outcome.unfit) == (2, "error", True)
    assert outcome.reason.startswith("here is plugin parts_dist of parts-dist 1.2, but the bench has parts-dist 9;")


def test_a_time_limit_ends_all_of_them(parts, tmp_path):
    records = bench(["parts[part=hangs]"], tmp_path / "run", timeout=4)
    assert records["parts[part=hangs]"].status == "timeout"
    assert none_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_none_of_them_outlives_the_bench(number, parts, launcher, tmp_path):
    command = "bench parts[part=hangs] --dataset tiny --steps 120 --batch-size 16 --seeds 1 --no-timing --no-report"
    running = launcher.start(*command.split(), "--processes-per-trial", 2, "--out", "run", cwd=tmp_path)
    running.until(lambda: len(started(tmp_path)) == 2)
    running.kill(number)
    assert running.wait() == (1 if number == signal.SIGTERM else -signal.SIGKILL)
    assert none_left(tmp_path)
    statuses = {record.variant: record.status for record in RunDirectory(tmp_path / "run").records().values()}
    assert statuses.get("parts[part=hangs]") == ("interrupted" if number == signal.SIGTERM else None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"recipe": RECIPE.change(batch_size=1)}, "a batch has 1 images, less than one for each"),
        ({"compiled": True}, "does not go with --compile yet; leave one of them out"),
        ({"checkpoint_minutes": 1}, "does not go with --checkpoint-minutes yet; leave one of them out"),
        ({"executor": "inline"}, "leave out --processes-per-trial, or --executor inline"),
    ],
)
def test_what_does_not_go_with_several_processes_is_refused_in_a_line(settings, said, parts, tmp_path):
    with pytest.raises(AezooError, match=said) as refusal:
        bench(["parts[part=conv]"], tmp_path / "run", **settings)
    assert "\n" not in str(refusal.value)
    assert not RunDirectory(tmp_path / "run").records() if "executor" in settings else not (tmp_path / "run").exists()


def test_the_parts_of_a_batch_are_its_images_in_order_and_their_weighted_mean_is_its_own():
    batches = torch.arange(30).view(2, 15)
    for count in (1, 2, 4, 15):
        shares = [Share(rank=rank, processes=count) for rank in range(count)]
        parts = [share.part(batches) for share in shares]
        assert torch.equal(torch.cat(parts, dim=1), batches)
        means = [float(part.double().mean()) * share.weight(15) for part, share in zip(parts, shares, strict=True)]
        assert sum(means) / count == pytest.approx(float(batches.double().mean()))


@pytest.mark.parametrize("part", ["conv", "penalised"])
def test_what_is_a_mean_over_images_takes_the_same_steps_in_any_number_of_processes(part, parts):
    images = torch.randint(0, 256, (15, 1, 6, 6), dtype=torch.uint8)
    for count in (2, 3, 15):
        assert share_notes(discover().resolve(f"parts[part={part}]"), images, RECIPE, "contiguous", count) == []
