"""Checkpoints inside a trial: what was killed goes on from the last one as if nothing had happened, bit by bit."""

import random
import signal
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import aezoo
from aezoo.check.resume import resumption_fault
from aezoo.contract.recipe import Recipe
from aezoo.errors import StorageError
from aezoo.harness import call, opening
from aezoo.harness.observer import Observer, Trackers
from aezoo.harness.plan import Failure
from aezoo.harness.runner import Runner
from aezoo.registry.discovery import discover
from aezoo.run.checkpoint import CHECKPOINT, Checkpoint, pack_checkpoint, read_checkpoint, unpack_checkpoint
from aezoo.run.files import DamagedFileError
from aezoo.run.store import RunDirectory
from aezoo.table.notes import notes

RECIPE = Recipe(name="t", dataset="tiny", steps=130, batch_size=16, seeds=1)
OFTEN = 1e-6
"""Minutes: between two checkpoints there is one block."""

KINDS = """
    import random
    import aezoo, numpy as np, torch
    from torch import nn

    class Normed(aezoo.Autoencoder):
        # Batch statistics, dropout, noise from three streams, and weights that are used now and then.
        objective = "mse, corrupted input"

        def __init__(self, image_shape):
            super().__init__(
                nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                              nn.Dropout(0.1), nn.Linear(144, 2)),
                nn.Sequential(nn.Linear(2, 36), nn.Unflatten(1, image_shape)))
            self.rare = nn.Linear(2, 36)
            self.register_buffer("unsaved", torch.zeros(()), persistent=False)

        def training_forward(self, x):
            z = self.encode(x + 0.01 * float(np.random.rand()) + 0.01 * random.gauss(0, 1))
            self.unsaved += 0.001
            y = self.decode(z + self.unsaved)
            if random.random() < 0.1:
                y = y + self.rare(z).view_as(y)
            return aezoo.TrainingOutput(y)

    class Counts(Normed):
        # As it would stop being equal only after many steps.
        steps = 0

        def training_forward(self, x):
            self.steps += 1
            return super().training_forward(x + (self.steps > 60))

    class Hidden(Normed):
        def __init__(self, image_shape):
            super().__init__(image_shape)
            self.teacher = [nn.Linear(2, 2)]

        def training_forward(self, x):
            self.teacher[0].weight.data += 1
            return super().training_forward(x)

    class Saves(Normed):
        def get_extra_state(self): return 1
        def set_extra_state(self, state): pass

    class Sleeps(Normed):
        def training_forward(self, x):
            import time
            time.sleep(0.002)
            return super().training_forward(x)

    KINDS = {each.__name__.lower(): each for each in (Normed, Counts, Hidden, Saves, Sleeps)}

    def build(image_shape, *, kind: str = "normed"):
        return KINDS[kind](image_shape)

    @aezoo.hookimpl
    def aezoo_architectures():
        yield aezoo.Architecture(name="kinds", build=build, summary="s", reference="r")
"""


class Stops(Observer):
    """Presses Ctrl-C once a trial of a variant has taken so many steps."""

    def __init__(self, steps: int, variant: str = "") -> None:
        self.steps, self.variant, self.warnings = steps, variant, []

    def stepped(self, plan, steps):
        if plan.variant.startswith(self.variant) and steps >= self.steps:
            raise KeyboardInterrupt

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture
def kinds(distribute, tiny):
    distribute(KINDS, name="kinds-dist")


def bench(variant, out, *, observer=None, recipe=RECIPE, minutes=OFTEN, **options):
    return aezoo.bench(
        [variant], recipe=recipe, out=out, device="cpu", timing=False, checkpoint_minutes=minutes,
        observer=observer or Observer(), **{"executor": "inline", **options},
    )  # fmt: skip


def of(run, variant):
    records = RunDirectory(run).records().values()
    (record,) = (each for each in records if each.architecture == variant.partition("[")[0] and not each.tuning)
    return record


def interrupted(variant, out, steps=100, **options):
    """Bench until Ctrl-C after so many steps; return the record."""
    with pytest.raises(KeyboardInterrupt):
        bench(variant, out, observer=Stops(steps, variant.partition("[")[0]), **options)
    return of(out, variant)


def left_behind(out):
    return [*out.rglob("checkpoint*"), *out.rglob(".tmp-*")]


def bits(record):
    return record.test_mse, record.test_errors_sha256, record.weights_sha256, record.curve, record.train_mse


@pytest.mark.parametrize(
    "variant",
    ["mlp[latent_dim=2]", "denoising[latent_dim=2]", "vae[latent_dim=2]", "vq_vae[strides=1]", "recurrent[]",
     "nested_dropout[latent_dim=2]", "kinds[]", "contractive[latent_dim=2]"],
)  # fmt: skip
def test_a_resumed_trial_is_bit_equal_to_one_that_was_not_interrupted(variant, kinds, tmp_path):
    bench(variant, tmp_path / "whole", minutes=None)
    whole = of(tmp_path / "whole", variant)
    before = interrupted(variant, tmp_path / "run")
    assert before.reason == "stopped (Ctrl-C or SIGTERM) after 100 steps or more; it goes on from step 100"
    bench(variant, tmp_path / "run")
    resumed = of(tmp_path / "run", variant)
    assert (whole.resumed_at, resumed.resumed_at, resumed.status) == ([], [100], "ok")
    assert bits(resumed) == bits(whole)
    assert resumed.notes == whole.notes
    assert left_behind(tmp_path / "run") == []


def test_a_trial_may_be_interrupted_more_than_once_and_its_seconds_are_those_of_all_parts(kinds, tmp_path):
    recipe = RECIPE.change(steps=230)
    for steps in (60, 160):
        interrupted("kinds[kind=sleeps]", tmp_path, steps, recipe=recipe)
    content = read_checkpoint(RunDirectory(tmp_path), of(tmp_path, "kinds").trial_id)
    checkpoint, _ = unpack_checkpoint(content, of(tmp_path, "kinds").trial_id)
    assert (checkpoint.steps, checkpoint.resumed_at) == (200, [100])
    bench("kinds[kind=sleeps]", tmp_path, recipe=recipe)
    record = of(tmp_path, "kinds")
    assert record.resumed_at == [100, 200]
    assert record.train_seconds > checkpoint.seconds > 200 * 0.002


def test_what_chooses_a_learning_rate_is_resumed_too(kinds, tmp_path):
    recipe = RECIPE.change(lr=[1e-3, 1e-2], validation=0.2)
    with pytest.raises(KeyboardInterrupt):
        bench("kinds[]", tmp_path, observer=Stops(100, "kinds"), recipe=recipe)
    bench("kinds[]", tmp_path, recipe=recipe)
    bench("kinds[]", tmp_path / "whole", recipe=recipe, minutes=None)
    tries = [[each for each in RunDirectory(run).records().values() if each.tuning] for run in
             (tmp_path, tmp_path / "whole")]  # fmt: skip
    assert sorted(each.resumed_at for each in tries[0]) == [[], [100]]
    losses = [{each.lr: each.validation_mse for each in some} for some in tries]
    assert losses[0] == losses[1]
    assert bits(of(tmp_path, "kinds")) == bits(of(tmp_path / "whole", "kinds"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("counts", "the attribute 'steps' of Counts changes as it trains, and is no buffer (register_buffer)"),
        ("hidden", "the attribute 'teacher' of Hidden changes as it trains, and is no buffer (register_buffer)"),
        ("saves", "its state holds '_extra_state', which is no parameter and no buffer"),
        ("normed", None),
    ],
)
def test_what_no_checkpoint_holds_is_found_out_within_a_few_steps(kind, reason, kinds):
    images = torch.randint(0, 256, (32, 1, 6, 6), dtype=torch.uint8)
    variant = discover().resolve(f"kinds[kind={kind}]")
    assert resumption_fault(variant, images, RECIPE, "contiguous") == reason


def test_a_network_that_cannot_be_resumed_runs_without_checkpoints_and_its_row_says_so(kinds, tmp_path):
    variant = "kinds[kind=counts]"
    assert interrupted(variant, tmp_path).reason.endswith("steps or more")
    assert left_behind(tmp_path) == []
    run = bench(variant, tmp_path)
    record = of(tmp_path, variant)
    assert (record.status, record.resumed_at) == ("ok", [])
    (note,) = record.notes
    assert note.startswith("cannot be resumed, and runs without checkpoints: the attribute 'steps' of Counts changes")
    assert f"note: {variant}: {note}" in notes(run.snapshot, run.table())


@pytest.mark.parametrize("variant", ["mlp[latent_dim=2]", "kinds[]"])
def test_a_compiled_network_is_resumed_too(variant, kinds, tmp_path):
    """Small, as compiling takes its time."""
    recipe = RECIPE.change(steps=60)
    bench(variant, tmp_path / "whole", minutes=None, recipe=recipe, compiled=True)
    interrupted(variant, tmp_path / "run", 50, recipe=recipe, compiled=True)
    bench(variant, tmp_path / "run", recipe=recipe, compiled=True)
    assert of(tmp_path / "run", variant).resumed_at == [50]
    assert bits(of(tmp_path / "run", variant)) == bits(of(tmp_path / "whole", variant))


# Files ----------------------------------------------------------------------------------------------------------------


def packed(**facts):
    checkpoint = Checkpoint(
        trial_id="a-s0-1", steps=50, seconds=1.5, curve=[(50, 0.25)], streams={"python": [3, [1, 2], None]},
        resumed_at=[], **facts,
    )  # fmt: skip
    tensors = {
        "network/a": torch.arange(12.0).view(3, 4), "adam/0/count": torch.tensor(50.0), "network/odd": torch.empty(0),
        "network/half": torch.ones(2, dtype=torch.bfloat16), "random/cpu": torch.arange(9, dtype=torch.uint8),
    }  # fmt: skip
    return checkpoint, tensors, pack_checkpoint(checkpoint, tensors)


def test_a_checkpoint_comes_back_as_it_was():
    checkpoint, tensors, content = packed(peak_memory_bytes=7)
    again, others = unpack_checkpoint(content, "a-s0-1")
    assert again == checkpoint
    assert others.keys() == tensors.keys()
    assert all(torch.equal(tensor, others[name]) and tensor.dtype == others[name].dtype
               for name, tensor in tensors.items())  # fmt: skip
    with pytest.raises(DamagedFileError, match="of another trial, a-s0-1"):
        unpack_checkpoint(content, "b-s0-1")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_checkpoint_is_never_taken_for_another_one(data):
    _, _, content = packed()
    place = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if change == "flip":
        damaged = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    elif change == "cut":
        damaged = content[:place]
    else:
        damaged = content[:place] + data.draw(st.binary(min_size=1, max_size=70)) + content[place:]
    with pytest.raises(DamagedFileError):
        unpack_checkpoint(damaged, "a-s0-1")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04.", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\2" + 7 * b"\0" + b"[]"]
)
def test_what_is_no_checkpoint_is_refused(content):
    with pytest.raises(DamagedFileError):
        unpack_checkpoint(content, "a-s0-1")


def test_a_damaged_checkpoint_is_set_aside_and_told_and_the_trial_trains_from_its_start(kinds, tmp_path):
    bench("mlp[latent_dim=2]", tmp_path / "whole", minutes=None)
    trial_id = interrupted("mlp[latent_dim=2]", tmp_path / "run").trial_id
    path = RunDirectory(tmp_path / "run").artifact(trial_id, CHECKPOINT)
    content = bytearray(path.read_bytes())
    content[random.Random(0).randrange(len(content))] ^= 1
    path.write_bytes(content)
    observer = Stops(10**9)
    bench("mlp[latent_dim=2]", tmp_path / "run", observer=observer)
    assert observer.warnings == [
        f"{path} is damaged: its checksum does not fit; set aside as checkpoint.damaged; it counts as not there"
    ]
    record = of(tmp_path / "run", "mlp")
    assert record.resumed_at == []
    assert path.with_name("checkpoint.damaged").read_bytes() == content
    assert not path.exists()


def test_a_checkpoint_of_another_network_is_told_of_in_the_row(kinds, tmp_path):
    trial_id = interrupted("mlp[latent_dim=2]", tmp_path).trial_id
    path = RunDirectory(tmp_path).artifact(trial_id, CHECKPOINT)
    checkpoint, tensors = unpack_checkpoint(path.read_bytes(), trial_id)
    tensors["network/more"] = tensors.pop(max(name for name in tensors if name.startswith("network/")))
    path.write_bytes(pack_checkpoint(checkpoint, tensors))
    bench("mlp[latent_dim=2]", tmp_path)
    record = of(tmp_path, "mlp")
    assert (record.status, record.resumed_at) == ("ok", [])
    (note,) = record.notes
    assert note.startswith("its checkpoint is not of such a network (network/")
    assert note.endswith(" is in one of them alone): it was trained from the start")


def test_nothing_is_kept_of_a_trial_that_another_process_has(kinds, tmp_path):
    request = call.Request.of({"variants": ["mlp[latent_dim=2]"], "recipe": RECIPE, "out": tmp_path, "device": "cpu"})
    with opening.tried_grid(request, Observer()) as grid:
        runner = Runner(grid=grid, trackers=Trackers([], grid.observer))
        (plan,) = (plan for plan in grid.plans if plan.architecture == "mlp")
        path = grid.run.artifact(plan.trial_id, CHECKPOINT)
        runner._keep(plan.trial_id, b"mine", 50)
        assert not path.exists()
        assert runner._claim(plan)
        runner._keep(plan.trial_id, b"mine", 50)
        assert path.read_bytes() == b"mine"
        runner._release()


@pytest.mark.parametrize(
    ("status", "kept"),
    [("interrupted", True), ("timeout", True), ("error", True), ("out_of_memory", True), ("diverged", False),
     ("invalid", False)],
)  # fmt: skip
def test_a_checkpoint_is_kept_of_what_may_still_end_well(status, kept, kinds, tmp_path):
    request = call.Request.of({"variants": ["mlp[latent_dim=2]"], "recipe": RECIPE, "out": tmp_path, "device": "cpu"})
    with opening.tried_grid(request, Observer()) as grid:
        runner = Runner(grid=grid, trackers=Trackers([], grid.observer))
        (plan,) = (plan for plan in grid.plans if plan.architecture == "mlp")
        assert runner._claim(plan)
        runner._keep(plan.trial_id, b"mine", 50)
        runner._fail(plan, Failure(status=status, reason="late"), "2026")
        assert grid.run.artifact(plan.trial_id, CHECKPOINT).exists() == kept


def test_a_checkpoint_that_cannot_be_written_is_told_and_costs_the_trial_nothing(kinds, tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("cannot write checkpoint.safetensors: No space left on device")

    monkeypatch.setattr("aezoo.harness.runner.write_checkpoint", full)
    observer = Stops(10**9)
    bench("mlp[latent_dim=2]", tmp_path, observer=observer)
    trial_id = of(tmp_path, "mlp").trial_id
    assert (
        observer.warnings
        == [f"no checkpoint of {trial_id}: cannot write checkpoint.safetensors: No space left on device"] * 2
    )
    assert of(tmp_path, "mlp").status == "ok"


# Real processes -------------------------------------------------------------------------------------------------------

VARIANTS = ["vae[latent_dim=2]", "kinds[kind=sleeps]", "kinds[kind=counts]"]


def test_a_bench_that_is_killed_goes_on_from_its_checkpoints_to_the_same_table(kinds, launcher, tmp_path):
    """SIGKILL to the whole group at random moments, over and over; then what one came to that was not killed."""
    command = ["bench", *VARIANTS, *"--dataset tiny --steps 600 --batch-size 16 --seeds 1 --no-timing".split()]
    command += ["--device", "cpu", "--jobs", "2", "--no-report", "--checkpoint-minutes", "0.001", "--out"]
    rng = random.Random(0)
    for _ in range(2):
        running = launcher.start(*command, "run", cwd=tmp_path)
        running.until(lambda: [*tmp_path.rglob(CHECKPOINT)])
        time.sleep(rng.uniform(0, 1))
        running.kill(group=True)
        assert running.wait() == -signal.SIGKILL
    for name in ("run", "whole"):
        assert launcher.start(*command, name, cwd=tmp_path).wait() == 0
    resumed, whole = (
        {each.variant: each for each in RunDirectory(tmp_path / name).records().values()} for name in ("run", "whole")
    )
    assert {name: bits(each) for name, each in resumed.items()} == {name: bits(each) for name, each in whole.items()}
    assert resumed["kinds[kind=sleeps]"].resumed_at
    assert not resumed["kinds[kind=counts]"].resumed_at
    assert left_behind(tmp_path) == []


def test_sigterm_leaves_the_last_checkpoint_and_the_same_command_goes_on(kinds, launcher, tmp_path):
    command = ["bench", "kinds[kind=sleeps]", *"--dataset tiny --steps 600 --batch-size 16 --seeds 1".split()]
    command += "--no-timing --device cpu --no-report --checkpoint-minutes 0.001 --out run".split()
    running = launcher.start(*command, cwd=tmp_path)
    running.until(lambda: [*tmp_path.rglob(CHECKPOINT)])
    running.kill(signal.SIGTERM)
    assert running.wait() == 1
    record = of(tmp_path / "run", "kinds")
    assert record.status == "interrupted"
    kept = int(record.reason.partition("it goes on from step ")[2])
    assert launcher.start(*command, cwd=tmp_path).wait() == 0
    assert of(tmp_path / "run", "kinds").resumed_at == [kept]
