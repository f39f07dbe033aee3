"""Where locks hold, how a run is claimed by that, and benches where they do not."""

import errno
import fcntl
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from test_sharing import COUNTED

import aezoo
from aezoo import locks
from aezoo.cli import author
from aezoo.contract.recipe import Recipe
from aezoo.errors import StorageError
from aezoo.harness import call as calls
from aezoo.harness import opening
from aezoo.harness.observer import Observer
from aezoo.harness.plan import Grid
from aezoo.harness.runner import Runner
from aezoo.locks import Mount
from aezoo.run import renames
from aezoo.run.claim import KindOfClaims, LockClaims, open_claims
from aezoo.run.renames import RenameClaims
from aezoo.run.store import RunDirectory

RECIPE = Recipe(name="t", dataset="tiny", steps=3, batch_size=16)

# Which kind -----------------------------------------------------------------------------------------------------------

WEAK = "locks may not reach other machines"


@pytest.mark.parametrize(
    ("fstype", "opts", "reason"),
    [
        ("ext4", "rw,relatime", None),
        ("xfs", "rw", None),
        ("tmpfs", "rw", None),
        ("overlay", "rw,lowerdir=/a,upperdir=/b", None),
        ("apfs", "rw,local", None),
        ("nfs4", "rw,vers=4.2,hard,local_lock=none,addr=10.0.0.1", None),
        ("nfs", "rw,vers=3,local_lock=none", None),
        ("nfs", "rw,vers=3,local_lock=posix", None),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "with local_lock=all, which keeps locks to one machine"),
        ("nfs", "rw,vers=3,nolock", "with nolock"),
        ("nfs4", "rw,local_lock=flock", "with local_lock=flock"),
        ("lustre", "rw,flock,lazystatfs", None),
        ("lustre", "rw,localflock", "without the option flock"),
        ("lustre", "rw", "without the option flock"),
        ("gfs2", "rw", None),
        ("gfs2", "rw,localflocks", "localflocks"),
        ("ceph", "rw", None),
        ("fuse.sshfs", "rw", WEAK),
        ("9p", "rw,trans=virtio", WEAK),
        ("virtiofs", "rw", WEAK),
        ("cifs", "rw,vers=3.1.1", WEAK),
        ("beegfs", "rw", WEAK),
        ("gpfs", "rw", WEAK),
        ("something new", "rw", WEAK),
        ("fuse.s3fs", "rw", "let one process write there"),
    ],
)
def test_what_a_mount_says_of_its_locks(fstype, opts, reason, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    weakness = locks.weakness_of_mount(Mount("/shared", fstype, opts))
    assert weakness is None if reason is None else f"/shared is {fstype}" in weakness and reason in weakness


def test_a_mac_does_not_say_how_nfs_locks(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "darwin does not say" in locks.weakness_of_mount(Mount("/shared", "nfs", "rw"))


def test_a_folder_is_of_the_innermost_mount_and_of_the_last_on_one_place(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "link").symlink_to(inner)
    mounted = [
        Mount("/", "ext4", "rw"), Mount(str(inner), "nfs", "rw"), Mount(str(tmp_path), "xfs", "rw"),
        Mount(str(inner), "lustre", "rw"), Mount(f"{inner}-not", "9p", "rw"),
    ]  # fmt: skip
    kinds = [locks.mount_of(path, mounted).fstype for path in (inner / "a", tmp_path / "link", tmp_path, Path("/etc"))]
    assert kinds == ["lustre", "lustre", "xfs", "ext4"]
    assert locks.mount_of(inner, []) is None
    assert "does not say" in locks.weakness_of_mount(None)


def given_twice(file, flags):
    """Be a system that answers every request for a lock with yes."""


def given_never(file, flags):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize(
    ("flock", "reason"),
    [(given_twice, "a lock that is held is given a second time"), (given_never, "No locks available")],
    ids=["twice", "never"],
)
def test_where_locks_do_not_hold_a_run_is_claimed_by_renames_and_others_follow(
    flock, reason, call, tiny, tmp_path, monkeypatch
):
    real = fcntl.flock

    def weak(file, flags):
        # The images lie in the temporary folder, where locks hold.
        return (flock if str(tmp_path / "run") in str(getattr(file, "name", "")) else real)(file, flags)

    arguments = ["bench", "mean", "--dataset", "tiny", "--steps", 1, "--no-timing", "--out", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", weak)
        code, _, err = call(*arguments)
        told = [line for line in err.splitlines() if "claimed by renames" in line]
        assert (code, len(told)) == (0, 1), err
        assert reason in told[0]
        assert "dies on another machine is taken over 5 min later" in told[0]
    # Locks hold here; the run is what it is.
    assert isinstance(RunDirectory(tmp_path / "run").claims, RenameClaims)
    names = {path.name.split(".")[0] for path in (tmp_path / "run" / "claims").glob("*.claim/*")}
    assert len(names) >= 1
    assert not list((tmp_path / "run").rglob("*.lock"))


def test_a_run_that_is_claimed_by_locks_is_one_line_where_they_do_not_hold(call, tiny, tmp_path, monkeypatch):
    arguments = ["bench", "mean", "--dataset", "tiny", "--steps", 1, "--no-timing", "--out", tmp_path / "run"]
    assert call(*arguments)[0] == 0
    monkeypatch.setattr(locks, "mounts", lambda: [Mount("/", "nfs", "rw,nolock")])
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    run = tmp_path / "run"
    assert err.splitlines()[-1] == (
        f"error: {run} is claimed by locks, which do not hold here: / is nfs with nolock, which keeps locks to one "
        f"machine; mount it as where it was begun, or, once no process works on it, remove {run}/claims"
    )


def test_of_processes_that_find_otherwise_the_first_one_chooses(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "weakness", lambda folder: "a reason")
    first = open_claims(tmp_path / "run" / "claims")
    monkeypatch.setattr(locks, "weakness", lambda folder: None)
    second = open_claims(tmp_path / "run" / "claims")
    assert [type(each) for each in (first, second)] == [RenameClaims] * 2
    assert "a reason" in second.notice
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["claims"]


def test_what_says_which_kind_is_damaged_is_one_line(tmp_path):
    open_claims(tmp_path / "run" / "claims")
    (tmp_path / "run" / "claims" / "kind.json").write_text("{")
    with pytest.raises(StorageError, match=r"kind.json is damaged: .*; once no process works on the run, remove /.*"):
        open_claims(tmp_path / "run" / "claims")


def test_a_run_of_before_is_claimed_by_locks(tmp_path):
    (tmp_path / "run" / "claims").mkdir(parents=True)
    (tmp_path / "run" / "claims" / "a.lock").touch()
    assert isinstance(open_claims(tmp_path / "run" / "claims"), LockClaims)


def test_a_file_system_that_renames_over_anything_is_refused(tmp_path, monkeypatch):
    def over(path, name, content):
        path.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
        return True

    monkeypatch.setattr(renames, "make_folder", over)
    monkeypatch.setattr(locks, "weakness", lambda folder: "no locks")
    with pytest.raises(StorageError, match="nothing keeps two processes apart in .*: no locks, and a folder"):
        KindOfClaims.of(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_says_how_a_run_in_a_folder_would_be_claimed(call, tmp_path, monkeypatch):
    _, out, _ = call("doctor", "--out", tmp_path / "not" / "yet")
    assert f"{tmp_path} takes files; locks hold; a run there is claimed by locks" in out
    monkeypatch.setattr(locks, "mounts", lambda: [Mount("/", "fuse.sshfs", "rw")])
    condition = author._claims(tmp_path)
    assert condition.ok
    assert condition.detail == (
        f"{tmp_path} takes files; locks do not hold: / is fuse.sshfs, whose locks may not reach other machines; a run "
        "there is claimed by renames"
    )


# A bench --------------------------------------------------------------------------------------------------------------


def grid_of(out: Path, log: Observer) -> Any:
    settings = {"variants": ["linear[latent_dim=2]"], "recipe": RECIPE, "out": out, "device": "cpu"}
    return opening.tried_grid(calls.Request.of(settings), log)


class Log(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_a_result_of_a_process_that_was_taken_for_dead_is_left_with_a_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "weakness", lambda folder: "no locks")
    log = Log()
    with grid_of(tmp_path / "run", log) as grid:
        assert isinstance(grid, Grid)
        runner = Runner(grid=grid, trackers=calls.Trackers([], log))
        plans = grid.missing()
        monkeypatch.setattr("aezoo.run.owner._lives", lambda pid, started: False)
        other = RunDirectory(grid.run.path)
        stolen = []
        real = runner._holds

        def holds(name, what):
            # At the last moment.
            if name == plans[0].trial_id and not stolen:
                stolen.append(other.claim(name))
            return real(name, what)

        runner._holds = holds
        assert runner._run(plans) == plans[:1]
        assert stolen[0].holds()
        assert not grid.run.trial_path(plans[0].trial_id).exists()
        assert not grid.run.artifacts(plans[0].trial_id).joinpath("weights.safetensors").exists()
        left = [line for line in log.warnings if "another one has taken its place" in line]
        assert left == [
            f"the result of {plans[0].label} is left: this process gave no sign of life for too long, and another one "
            "has taken its place"
        ]
        # The other one dies too: it is had again, and ended.
        runner._holds = real
        assert runner._run(plans[:1]) == []
    assert {record.status for record in RunDirectory(tmp_path / "run").records().values()} == {"ok"}


LOCKLESS = """
    import fcntl, os

    real = fcntl.flock

    def flock(file, flags):
        # Every lock in the run is granted; the images lie elsewhere.
        return None if os.sep + "lockless" + os.sep in str(getattr(file, "name", "")) else real(file, flags)

    fcntl.flock = flock
"""


def test_two_benches_on_one_run_without_locks_run_each_trial_once_also_when_one_is_killed(
    launcher, tiny, distribute, tmp_path
):
    distribute(COUNTED + LOCKLESS, name="counted-dist")
    seeds = 8
    (tmp_path / "recipe.toml").write_text(
        f'name = "t"\ndataset = "tiny"\nsteps = 60\nbatch_size = 16\nlr = 1e-2\nseeds = {seeds}\n'
    )
    run, log = tmp_path / "lockless" / "run", tmp_path / "log"
    command = [
        "bench", "counted", "--recipe", tmp_path / "recipe.toml", "--device", "cpu", "--jobs", "2", "--no-timing",
        "--out", run, "--format", "csv",
    ]  # fmt: skip
    log.touch()
    benches = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        benches.append(launcher.start(*command, cwd=tmp_path / str(number), COUNTED_LOG=str(log)))
    benches[0].until(log.read_text)
    benches[0].kill()
    assert [bench.wait() for bench in benches] == [-signal.SIGKILL, 0, 0]
    assert "claimed by renames, as locks do not hold: a lock that is held is given" in benches[1].err.read_text()
    assert len({bench.out.read_text() for bench in benches[1:]}) == 1
    records = RunDirectory(run).records().values()
    assert {record.status for record in records} == {"ok"}
    # Two of its trials may have been under way when it was killed; another process ran those again.
    trained = [line.split()[1] for line in log.read_text().splitlines()]
    assert (len(set(trained)), len(trained) <= seeds + 2) == (seeds, True)
    alone = aezoo.bench(
        ["counted"],
        recipe=Recipe(name="t", dataset="tiny", steps=60, batch_size=16, lr=1e-2, seeds=seeds),
        out=tmp_path / "alone", device="cpu", timing=False,
    )  # fmt: skip
    columns = ["variant", "test_mse", "test_mse_low", "test_mse_high", "seeds", "status", "rank"]
    assert aezoo.Run(path=run).table()[columns].equals(alone.table()[columns])
    # What is left: a folder and a file for each of what was claimed.
    assert not list(run.rglob("*.lock"))
    assert all(len(list(path.iterdir())) == 1 for path in run.glob("claims/*.claim"))
    assert not list(run.rglob(".tmp-*"))
