"""What goes wrong while a bench runs, in real processes: nothing is lost, and nothing wrong is printed."""

import hashlib
import json
import os
import pickle
import pty
import random
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import FAULTY
from launcher import Bench

import aezoo
from aezoo import machine
from aezoo.contract.recipe import Recipe
from aezoo.errors import StorageError
from aezoo.harness.run import Run
from aezoo.run import files, store
from aezoo.run.store import RunDirectory
from aezoo.table.cells import cells
from aezoo.table.notes import notes

KILLS = 24
SETTINGS = "--dataset tiny --steps 60 --batch-size 16 --lr 1e-2 --no-timing --device cpu --format csv".split()
RECIPE = Recipe(name="default", dataset="tiny", steps=60, batch_size=16, lr=1e-2)
DETERMINISTIC = [
    "rank", "rank_low", "rank_high", "variant", "objective", "latent_size", "num_params", "test_mse", "test_mse_low",
    "test_mse_high", "vs_pca", "seeds", "status", "flops_per_image", "train_flops_per_image", "batch_size", "threads",
    "precision", "compiled", "device", "deterministic", "exceptions",
]  # fmt: skip


def bench(variants, out, *, recipe=RECIPE, **options):
    return aezoo.bench(variants, recipe=recipe, out=out, device="cpu", **{"timing": False, **options})


def row(run, variant):
    (found,) = run.table().query("variant == @variant").to_dict("records")
    return found


def children_of(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def trials_of(one: Bench) -> list[psutil.Process]:
    """Return the processes of trials: each heads a session of its own."""
    return [found for found in children_of(one.pid) if found.is_running() and os.getsid(found.pid) == found.pid]


def none_left(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


# The run is killed ----------------------------------------------------------------------------------------------------


def facts(run: Path):
    """All that must not depend on who was killed when: columns, losses, curves, and the errors of each image."""
    columns = Run(path=run).table()[DETERMINISTIC]
    records = sorted(RunDirectory(run).records().values(), key=lambda one: one.trial_id)
    return columns.to_csv(), [
        (one.trial_id, one.status, one.test_mse, one.train_mse, one.curve, one.test_errors_sha256) for one in records
    ]


def test_the_run_killed_at_any_moment_goes_on_to_the_table_of_one_that_was_not(launcher, tiny, tmp_path):
    """SIGKILL to the bench, to a process of its, or to the whole group, then the same command, over and over."""
    command = ["bench", "linear[latent_dim=2]", *SETTINGS, "--seeds", "2", "--jobs", "2", "--retry-failed", "--out"]
    (tmp_path / "whole").mkdir()
    assert launcher.start("--version", cwd=tmp_path).wait() == 0
    started = time.monotonic()
    assert launcher.start(*command, "run", cwd=tmp_path / "whole").wait() == 0
    seconds = time.monotonic() - started
    expected = facts(tmp_path / "whole" / "run")
    kills: Counter[str] = Counter()
    finished = Counter[int]()

    def kill_and_go_on(lane: int) -> None:
        rng = random.Random(lane)
        turn = tmp_path / str(lane)
        turn.mkdir()
        number, kept = 0, {}
        while sum(kills.values()) < KILLS or (turn / f"run-{number}").exists():
            run = turn / f"run-{number}"
            one = launcher.start(*command, run.name, cwd=turn)
            if sum(kills.values()) < KILLS:
                time.sleep(rng.uniform(0.05, seconds))
                killed = kill(one, rng)
                kills.update([killed] if killed else [])
            one.wait()
            # Every trial that had ended well is there as it was.
            records = RunDirectory(run).records() if run.exists() else {}
            assert not list(turn.rglob("*.damaged*"))
            for trial_id, before in kept.items():
                assert records[trial_id] == before
            kept = {trial_id: record for trial_id, record in records.items() if record.status == "ok"}
            if one.returncode == 0:
                assert facts(run) == expected
                finished[lane] += 1
                number, kept = number + 1, {}

    def kill(one: Bench, rng: random.Random) -> str | None:
        processes = children_of(one.pid)
        what = rng.choice(["bench", "process", "group"])
        if one.returncode is not None or (what == "process" and not processes):
            return None
        if what == "process":
            try:
                rng.choice(processes).kill()
            except psutil.NoSuchProcess:
                return None
            return what
        one.kill(group=what == "group")
        one.wait()
        assert none_left(processes), f"processes outlive a killed {what}"
        return what

    # Most of the time they wait: more at once than cores.
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(kill_and_go_on, range(4)))
    assert sum(finished.values()) >= 4
    assert min(kills[what] for what in ("bench", "process", "group")) >= 2
    assert sum(kills.values()) >= KILLS


# The run is stopped ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(launcher, tiny, distribute, tmp_path):
    """Return a function that starts a bench of a trial that hangs beside good ones, and waits until it does."""
    distribute(FAULTY, name="faulty-dist")
    command = ["bench", "faulty[fault=hangs]", "linear[latent_dim=2]", *SETTINGS, "--seeds", "1", "--jobs", "2"]
    started = []

    def start(*more: str, tty: str | None = None) -> Bench:
        one = launcher.start(*command, "--out", "run", *more, cwd=tmp_path, tty=tty)
        started.append(one)
        one.until(lambda: len(list(tmp_path.glob("run/trials/*.json"))) == 3)
        return one

    yield start
    for one in started:
        one.kill()


ROWS = {"faulty[fault=hangs]": "interrupted", "linear[latent_dim=2]": "ok", "mean": "ok", "pca[latent_dim=2]": "ok"}


def test_ctrl_c_once_marks_what_runs_as_interrupted_and_prints_the_table(hanging, tmp_path):
    """On a terminal of its own."""
    ours, theirs = pty.openpty()
    one = hanging(tty=os.ttyname(theirs))
    os.close(theirs)
    processes = children_of(one.pid)
    os.write(ours, b"\x03")
    shown = read_all(ours)
    assert one.wait() == 1
    assert none_left(processes)
    assert "Traceback" not in shown
    assert "interrupted: 1 trials have not ended; the same command goes on with them" in shown
    assert dict(read_csv(shown)[["variant", "status"]].to_numpy()) == ROWS
    (record,) = (one for one in RunDirectory(tmp_path / "run").records().values() if one.status == "interrupted")
    assert record.variant == "faulty[fault=hangs]"
    assert record.reason.startswith("stopped (Ctrl-C or SIGTERM) after 0 steps")
    assert "not run yet" in (tmp_path / "run" / "report.html").read_text()


def test_ctrl_c_twice_stops_at_once_and_leaves_no_process(hanging, tmp_path):
    ours, theirs = pty.openpty()
    one = hanging(tty=os.ttyname(theirs))
    os.close(theirs)
    processes = children_of(one.pid)
    # Its server stands still, and so does the first stop, which waits for it.
    (server,) = {found.parent() for found in trials_of(one)}
    server.suspend()
    os.write(ours, b"\x03")
    shown = ""
    while "stopping; once more stops at once" not in shown:
        shown += os.read(ours, 65536).decode()
    time.sleep(0.5)
    assert one.returncode is None
    os.write(ours, b"\x03")
    assert one.wait() == 130
    server.resume()
    shown += read_all(ours)
    assert none_left(processes)
    assert "Traceback" not in shown
    assert "rank,variant" not in shown
    assert sorted(record.status for record in RunDirectory(tmp_path / "run").records().values()) == ["ok"] * 3


def read_all(terminal: int) -> str:
    found = b""
    while True:
        try:
            found += os.read(terminal, 65536)
        except OSError:
            return found.decode().replace("\r\n", "\n")


def read_csv(text: str) -> pd.DataFrame:
    import io

    # On a terminal the notes come behind it.
    table = text[text.index("rank,variant") :].partition("recipe ")[0]
    return pd.read_csv(io.StringIO(table))


@pytest.mark.parametrize("group", [False, True], ids=["the bench", "all its processes"])
def test_a_batch_systems_sigterm_stops_the_run_well_and_the_same_command_goes_on(group, hanging, launcher, tmp_path):
    images = set(Path(tempfile.gettempdir()).glob("aezoo-images-*"))
    one = hanging()
    processes = children_of(one.pid)
    one.kill(signal.SIGTERM, group=group)
    assert one.wait() == 1
    assert none_left(processes)
    assert not set(Path(tempfile.gettempdir()).glob("aezoo-images-*")) - images
    assert dict(read_csv(one.out.read_text())[["variant", "status"]].to_numpy()) == ROWS
    again = launcher.start(
        "bench", "faulty[fault=hangs]", "linear[latent_dim=2]", *SETTINGS, "--seeds", "1", "--timeout", "1",
        "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert again.wait() == 1
    assert "1 trial to run" in again.err.read_text()
    assert read_csv(again.out.read_text()).set_index("variant").loc["faulty[fault=hangs]", "status"] == "timeout"


def test_the_images_that_a_killed_run_leaves_are_removed_by_the_next(hanging, launcher, tmp_path):
    one = hanging("--jobs", "2")
    mine = set(Path(tempfile.gettempdir()).glob("aezoo-images-*"))
    one.kill()
    one.wait()
    left = {path for path in mine if path.exists()}
    assert left
    next_one = launcher.start("bench", "mean", *SETTINGS, "--out", "next", cwd=tmp_path)
    assert next_one.wait() == 0
    assert not {path for path in left if path.exists()}


# A trial fails --------------------------------------------------------------------------------------------------------


def test_a_worker_killed_from_outside_costs_its_own_trial_and_the_run_goes_on(hanging, tmp_path):
    one = hanging()
    one.until(lambda: len(trials_of(one)) == 1)
    trials_of(one)[0].kill()
    assert one.wait() == 1
    found = read_csv(one.out.read_text()).set_index("variant")["status"]
    assert found.to_dict() == {**ROWS, "faulty[fault=hangs]": "error"}
    assert "error: faulty[fault=hangs] seed 0: its process was killed by SIGKILL" in one.err.read_text()


def test_a_worker_that_the_kernel_kills_for_want_of_memory_is_out_of_memory(tiny, distribute, tmp_path, monkeypatch):

    distribute(FAULTY, name="faulty-dist")
    monkeypatch.setattr(machine, "oom_kills", iter(range(1000)).__next__)
    run = bench(["faulty[fault=killed]"], tmp_path / "run")
    assert row(run, "faulty[fault=killed]")["status"] == "out_of_memory"
    (record,) = (one for one in run.records() if one.architecture == "faulty")
    assert "while the system killed processes for want of memory" in record.reason


@pytest.mark.parametrize("fault", ["host_memory", "python_memory", "device_memory"])
def test_out_of_memory_is_told_from_a_crash_and_the_batch_is_not_touched(fault, tiny, distribute, tmp_path):
    """A real limit of the address space for the host; torch's own error, by hand, for a device."""
    distribute(FAULTY, name="faulty-dist")
    run = bench([f"faulty[fault={fault}]", "faulty"], tmp_path / "run")
    found = row(run, f"faulty[fault={fault}]")
    assert (found["status"], found["batch_size"]) == ("out_of_memory", 16)
    assert row(run, "faulty")["status"] == "ok"
    (record,) = (one for one in run.records() if one.status == "out_of_memory")
    assert record.recipe.batch_size == 16
    assert "in training_forward" in record.traceback


@pytest.mark.parametrize("fault", ["dice", "unwritten"])
def test_a_variant_that_is_not_deterministic_says_so_in_its_row(tiny, distribute, tmp_path, fault):
    """It draws from urandom, or reads memory that nobody has written."""
    distribute(FAULTY, name="faulty-dist")
    run = bench([f"faulty[fault={fault}]", "faulty"], tmp_path / "run")
    assert row(run, f"faulty[fault={fault}]")["deterministic"] == "no"
    assert set(run.table()["deterministic"]) == {"yes", "no"}
    _, rows = cells(run.table())
    assert {cells[1]: cells[-3] for cells in rows}[f"faulty[fault={fault}]"] == "ok, not deterministic"
    said = notes(RunDirectory(run.path), run.table())
    assert any(line.startswith(f"not deterministic: faulty[fault={fault}]:") for line in said)


# The disk -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk():
    """Return a folder with room for 128 KiB, on a disk of its own, with a name short enough for a socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], capture_output=True, check=False
    ).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_line_with_exit_status_1_and_records_are_intact(launcher, tiny, small_disk, tmp_path):
    command = ["bench", "linear[latent_dim=2]", *SETTINGS, "--seeds", "12", "--out", small_disk / "run"]
    one = launcher.start(*command, cwd=tmp_path)
    assert one.wait() == 1
    told = one.err.read_text()
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("error: cannot ")
    assert "the disk is full" in told.splitlines()[-1]
    records = RunDirectory(small_disk / "run").records()
    assert len(records) > 3
    assert not list(small_disk.rglob("*.damaged*"))
    # With room, the same command goes on.
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert launcher.start(*command, "--retry-failed", cwd=tmp_path).wait() == 0
    after = RunDirectory(small_disk / "run").records()
    assert {trial_id: after[trial_id] for trial_id, one in records.items() if one.status == "ok"} == {
        trial_id: one for trial_id, one in records.items() if one.status == "ok"
    }


@pytest.mark.parametrize("call", ["fsync", "mkstemp"])
def test_a_disk_that_is_full_from_some_write_on_leaves_whole_records(call, tiny, tmp_path, monkeypatch):
    """ENOSPC by hand, in the process that plans."""
    import errno

    run = bench(["linear[latent_dim=2]"], tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*.json")}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os if call == "fsync" else files.tempfile, call, full)
    with pytest.raises(StorageError, match="the disk is full; earlier results are untouched") as caught:
        RunDirectory(run.path).write_trial(run.records()[0])
    assert caught.value.exit_status == 1
    assert {path: path.read_bytes() for path in run.path.rglob("*.json")} == before
    assert not list(run.path.rglob(".tmp-*"))


def test_a_read_only_directory_is_one_line_with_exit_status_1(tiny, tmp_path):
    info = RunDirectory(bench(["mean"], tmp_path / "run").path).info()
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    was = os.geteuid()
    try:
        if was == 0:
            # Root may write anywhere: be nobody, for whom not even the way there is open.
            os.seteuid(65534)
        with pytest.raises(
            StorageError, match=r"cannot write into .*: Permission denied; give another folder"
        ) as caught:
            RunDirectory(folder / "run").request(info, {})
    finally:
        os.seteuid(was)
    assert caught.value.exit_status == 1
    assert list(folder.iterdir()) == []


def test_a_temporary_folder_with_too_long_a_name_is_one_line(launcher, tiny, tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    one = launcher.start("bench", "mean", "--quick", "--out", "run", cwd=tmp_path, TMPDIR=str(long))
    assert one.wait() == 1
    assert one.err.read_text().splitlines()[-1] == (
        f"error: cannot start a process from the temporary folder {long}: AF_UNIX path too long; the variable TMPDIR "
        "names another folder"
    )


def test_images_that_do_not_fit_are_one_line(launcher, tiny, small_disk, tmp_path):
    one = launcher.start("bench", "mean", "--quick", "--out", "run", cwd=tmp_path, TMPDIR=str(small_disk))
    assert one.wait() == 1
    assert one.err.read_text().splitlines()[-1] == (
        f"error: cannot write the images into {small_disk}: the disk is full; the variable TMPDIR names another folder"
    )
    assert not list(small_disk.glob("aezoo-*"))
    assert not (tmp_path / "run").exists()


# A run's files are damaged, or hostile --------------------------------------------------------------------------------


BENCHED: list[Path] = []
"""Where the run lies that tests have copies of."""


@pytest.fixture
def written(tiny, tmp_path, tmp_path_factory):
    """A run of one variant, benched once."""
    if not BENCHED:
        BENCHED.append(bench(["linear[latent_dim=2]"], tmp_path_factory.mktemp("written") / "run").path)
    return Path(shutil.copytree(BENCHED[0], tmp_path / "run"))


def damaged(content: bytes, rng: random.Random):
    """Yield the content cut at each byte, and with one bit of each byte flipped."""
    for position in range(len(content)):
        yield content[:position]
        flipped = content[position] ^ (1 << rng.randrange(8))
        yield content[:position] + bytes([flipped]) + content[position + 1 :]


def quick_run(content: bytes, run: RunDirectory, path: Path):
    """Read a run whose one file is this, and put the file back."""
    for aside in path.parent.glob("*.damaged*"):
        aside.unlink()
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        return run.records(), [str(one.message) for one in told]


def test_a_record_torn_truncated_or_flipped_at_any_byte_is_set_aside_and_never_read_wrong(written):
    run = RunDirectory(written)
    path = next((written / "trials").glob("linear-*"))
    whole, before = path.read_bytes(), run.records()
    set_aside = 0
    for content in damaged(whole, random.Random(0)):
        records, told = quick_run(content, run, path)
        if path.stem in records:
            assert same(content, whole)
            assert records == before
        else:
            set_aside += 1
            assert records == {name: one for name, one in before.items() if name != path.stem}
            assert len(told) == 1
            assert told[0].startswith(f"{path} is damaged: ")
            assert (path.parent / f"{path.stem}.damaged").read_bytes() == content
    assert set_aside > 1.8 * len(whole)


@pytest.mark.parametrize("name", ["artifacts/linear-*/test_errors.safetensors", "trials/linear-*.json"])
def test_a_trial_whose_files_are_damaged_runs_again_to_the_same_table(name, written):
    before = Run(path=written).table()[DETERMINISTIC]
    (path,) = written.glob(name)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole + b" x", b"\0" * len(whole), None):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        pd.testing.assert_frame_equal(bench(["linear[latent_dim=2]"], written).table()[DETERMINISTIC], before)
    assert path.read_bytes()[: len(whole) // 2] == whole[: len(whole) // 2]


def test_damaged_test_errors_are_found_at_every_byte(written):
    run = RunDirectory(written)
    (path,) = written.glob("artifacts/linear-*/test_errors.safetensors")
    record = next(one for one in run.records().values() if one.architecture == "linear")
    whole = path.read_bytes()
    for content in damaged(whole, random.Random(0)):
        path.write_bytes(content)
        with pytest.raises(store.DamagedFileError, match="is damaged: its checksum does not fit"):
            run.read_test_errors(record)


def test_a_damaged_run_json_is_one_line_and_untouched(written):
    path = written / "run.json"
    whole, info = path.read_bytes(), RunDirectory(written).info()
    for content in damaged(whole, random.Random(0)):
        path.write_bytes(content)
        if same(content, whole):
            assert RunDirectory(written).info() == info
        else:
            with pytest.raises(StorageError, match="run.json is damaged: "):
                RunDirectory(written).info()
        assert path.read_bytes() == content


def same(content: bytes, whole: bytes) -> bool:
    """Say whether a change changes nothing: white space, or a digit beyond what a number holds."""
    try:
        return json.loads(content) == json.loads(whole)
    except ValueError:
        return False


def checksummed(path: Path, **changed: object) -> None:
    """Write a file of a run with other content, and with the checksum that goes with it, as an attacker would."""
    content = {**json.loads(path.read_text()), **changed}
    del content["checksum"]
    path.write_text(json.dumps({**content, "checksum": files.checksum(content)}))


@pytest.mark.parametrize(
    "changed",
    [
        {"trial_id": "../../../etc/passwd"},
        {"trial_id": "/etc/passwd"},
        {"trial_id": "a\0b"},
        {"trial_id": ".."},
        {"trial_id": "another-trial"},
        {"test_mse": -1.0},
        {"test_mse": None},
        {"test_mse": "0.01"},
        {"test_mse": 0.01},
        {"num_params": 10**30},
        {"status": "error"},
        {"status": "splendid"},
        {"curve": [[1, 2, 3]]},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_malicious_record_with_a_good_checksum_is_set_aside(changed, written):
    path = next((written / "trials").glob("linear-*"))
    before = RunDirectory(written).records()
    checksummed(path, **changed)
    with pytest.warns(UserWarning, match="set aside as linear"):
        records = RunDirectory(written).records()
    assert records == {name: one for name, one in before.items() if name != path.stem}


SPOILT = [lambda x: x[:-1], lambda x: x.astype("f4"), lambda x: x + 1, lambda x: x * float("nan")]


@pytest.mark.parametrize("spoil", SPOILT)
def test_malicious_test_errors_with_a_good_checksum_are_set_aside(spoil, written):
    run = RunDirectory(written)
    (record,) = (one for one in run.records().values() if one.architecture == "linear")
    content = store.pack_test_errors(spoil(run.read_test_errors(record)))
    sha256 = hashlib.sha256(content).hexdigest()
    run.write_trial(record.model_copy(update={"test_errors_sha256": sha256}), {store.TEST_ERRORS: content})
    with pytest.warns(UserWarning, match="test_errors.safetensors is damaged: it"):
        assert record.trial_id not in run.records()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a\0b", "..", ".hidden", "a/b", "", "x" * 200])
def test_malicious_names_in_run_json_are_refused(name, written):
    checksummed(written / "run.json", requested={"linear": [name]})
    with pytest.raises(StorageError, match="run.json is damaged: requested.linear.0: String should match"):
        Run(path=written).table()
    with pytest.raises(StorageError, match="is no name of a file in a run"):
        RunDirectory(written).claim(name)


@pytest.mark.parametrize("part", ["trials", "artifacts", "timings", "claims", "anchors"])
def test_a_malicious_link_out_of_the_run_is_neither_read_nor_written(part, written, tmp_path):
    outside = tmp_path / "outside"
    if (written / part).exists():
        shutil.move(written / part, outside)
    else:
        outside.mkdir()
    (written / part).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    with pytest.raises(StorageError, match="leads out of the run"):
        bench(
            ["linear[latent_dim=2]", "mlp[latent_dim=2]"], written, timing=True, recipe=RECIPE.change(timing_rounds=1)
        )
    assert sorted(outside.rglob("*")) == before


def test_no_pickle_of_a_malicious_run_is_ever_loaded(written, tmp_path):
    """A canary in the place of every file: loading one as a pickle would make a file."""
    sung = tmp_path / "sung"

    class Canary:
        def __reduce__(self):
            return Path.touch, (sung,)

    pickle.loads(pickle.dumps(Canary()))
    assert sung.exists()
    sung.unlink()
    (record,) = (one for one in RunDirectory(written).records().values() if one.architecture == "linear")
    for path in [one for one in written.rglob("*") if one.is_file() and one.name != "run.json"]:
        path.write_bytes(pickle.dumps(Canary()))
    # Also where its checksum is in the record.
    import hashlib

    sha256 = hashlib.sha256(pickle.dumps(Canary())).hexdigest()
    files.write_json(
        written / "trials" / f"{record.trial_id}.json", record.model_copy(update={"test_errors_sha256": sha256})
    )
    with pytest.warns(UserWarning, match="set aside"):
        assert Run(path=written).table()["status"].tolist() == ["interrupted"] * 3
    assert not sung.exists()


# Variants are added to a run ------------------------------------------------------------------------------------------


def test_variants_added_to_a_run_come_after_two_recorded_trials_that_are_repeated(tiny, tmp_path):
    run = bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(seeds=2))
    assert RunDirectory(run.path).anchors() == []
    before = {path: path.read_bytes() for path in run.path.glob("*/linear*/*")}
    run = bench(["mlp[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(seeds=2))
    anchors = RunDirectory(run.path).anchors()
    assert [(one.variant, one.seed, one.verdict, one.differences) for one in anchors] == [
        ("linear[latent_dim=2]", 0, "bit-equal", []), ("linear[latent_dim=2]", 1, "bit-equal", []),
    ]  # fmt: skip
    assert (
        "- before variants were added, 2 recorded trials came out bit-equal again"
        in (run.path / "table.md").read_text()
    )
    assert {path: path.read_bytes() for path in before} == before


def test_variants_added_where_recorded_trials_do_not_reproduce_are_warned_of_in_the_table_too(tiny, tmp_path):
    from test_bench import Log

    run = bench(["linear[latent_dim=2]"], tmp_path / "run")
    directory = RunDirectory(run.path)
    (record,) = (one for one in run.records() if one.architecture == "linear")
    # Written by a machine that computed otherwise.
    content = store.pack_test_errors(directory.read_test_errors(record) * 1.5)
    changes = {"test_mse": record.test_mse * 1.5, "test_errors_sha256": hashlib.sha256(content).hexdigest()}
    directory.write_trial(record.model_copy(update=changes), {store.TEST_ERRORS: content})
    log = Log()
    bench(["mlp[latent_dim=2]"], tmp_path / "run", observer=log)
    told = (
        f"linear[latent_dim=2] seed 0, recorded with test_mse {record.test_mse * 1.5!r}, was repeated before variants"
    )
    assert any(line.startswith(told) and "not reproduced" in line for line in log.warnings)
    assert f"- warning: {told}" in (run.path / "table.md").read_text()


def test_a_run_that_goes_on_repeats_no_anchors(tiny, tmp_path):
    run = bench(["linear[latent_dim=2]"], tmp_path / "run")
    next((run.path / "trials").glob("linear*")).unlink()
    bench(["linear[latent_dim=2]"], tmp_path / "run", recipe=RECIPE.change(seeds=2))
    assert RunDirectory(run.path).anchors() == []
