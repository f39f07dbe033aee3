"""Claims of both kinds: real processes that race, stop and are killed; locks that do not hold are simulated."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aezoo
from aezoo import locks
from aezoo.contract.recipe import Recipe
from aezoo.errors import StorageError
from aezoo.run import renames
from aezoo.run.claim import Claims, LockClaims
from aezoo.run.owner import Owners, place_of_pids
from aezoo.run.renames import RenameClaims, make_folder
from aezoo.run.store import RunDirectory

FORK = multiprocessing.get_context("fork")
RECIPE = Recipe(name="t", dataset="tiny", steps=3, batch_size=16)


def locks_of(folder: Path) -> Claims:
    return LockClaims()


def renames_of(folder: Path) -> Claims:
    return RenameClaims(folder, beat_seconds=0.02)


def renames_elsewhere(folder: Path) -> Claims:
    """Every process is a machine of its own: it knows of the others by their signs of life alone."""
    return RenameClaims(folder, beat_seconds=0.02, stale_seconds=0.5, place=f"machine {os.getpid()}")


KINDS = {"locks": locks_of, "renames": renames_of, "elsewhere": renames_elsewhere}


@pytest.fixture(params=KINDS)
def open_kind(request) -> Callable[[Path], Claims]:
    return KINDS[request.param]


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "claims"
    path.mkdir()
    return path


def place(claims: Claims, folder: Path, name: str = "a") -> Path:
    return folder / f"{name}{claims.suffix}"


@contextmanager
def child(work: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    """Run a function in a process that is killed in the end, with a pipe to it."""
    mine, other = FORK.Pipe()
    process = FORK.Process(target=work, args=(other, *arguments))
    process.start()
    mine.process = process
    try:
        yield mine
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.join()


@contextmanager
def children(count: int, work: Callable[..., Any], *arguments: Any) -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(child(work, *arguments)) for _ in range(count)]


def until(reached: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := reached()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def keep(pipe, open_kind, folder) -> None:
    """Claim, and keep it."""
    claims = open_kind(folder)
    claim = claims.claim(place(claims, folder))
    pipe.send(claim is not None)
    while True:
        pipe.recv()
        pipe.send(claim.holds())


# Both kinds promise ---------------------------------------------------------------------------------------------------


def test_a_claim_is_one_owners_until_it_lets_go(open_kind, folder):
    mine, other = open_kind(folder), open_kind(folder)
    for _ in range(3):
        claim = mine.claim(place(mine, folder))
        assert claim.holds()
        assert other.claim(place(other, folder)) is None
        assert mine.claim(place(mine, folder)) is None
        another = other.claim(place(other, folder, "b"))
        assert another.holds()
        another.release()
        claim.release()
        claim.release()
        assert not claim.holds()


def race(pipe, open_kind, folder, count) -> None:
    """Try each name, once all others do too, and say which were had."""
    claims = open_kind(folder)
    pipe.recv()
    claimed = [claims.claim(place(claims, folder, f"n{number}")) for number in range(count)]
    pipe.send([number for number, claim in enumerate(claimed) if claim is not None])
    # Whoever ends lets go.
    pipe.recv()


def test_of_many_processes_that_race_for_a_name_one_has_it(open_kind, folder):
    with children(4, race, open_kind, folder, 100) as racers:
        for pipe in racers:
            pipe.send("go")
        claimed = [number for pipe in racers for number in pipe.recv()]
    assert sorted(claimed) == list(range(100))


def test_a_claim_is_released_by_its_owners_death(open_kind, folder):
    with child(keep, open_kind, folder) as owner:
        assert owner.recv()
        claims = open_kind(folder)
        assert claims.claim(place(claims, folder)) is None
        owner.process.kill()
        owner.process.join()
        assert until(lambda: claims.claim(place(claims, folder))).holds()


@pytest.mark.parametrize("open_kind", [locks_of, renames_of], ids=["locks", "renames"])
def test_an_owner_that_lives_is_never_taken_for_dead_also_not_while_it_is_stopped(open_kind, folder, monkeypatch):
    with child(keep, open_kind, folder) as owner:
        assert owner.recv()
        os.kill(owner.process.pid, signal.SIGSTOP)
        # Days pass for whoever watches.
        days = iter(range(0, 10**9, 86_400))
        monkeypatch.setattr("aezoo.run.owner.time.monotonic", lambda: float(next(days)))
        claims = open_kind(folder)
        assert [claims.claim(place(claims, folder)) for _ in range(50)] == [None] * 50
        os.kill(owner.process.pid, signal.SIGCONT)
        owner.send("still?")
        assert owner.recv()


def test_an_owner_elsewhere_that_counts_on_is_never_taken_for_dead(folder):
    with child(keep, renames_elsewhere, folder) as owner:
        assert owner.recv()
        claims = RenameClaims(folder, beat_seconds=0.02, stale_seconds=0.5, place="here")
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            assert claims.claim(place(claims, folder)) is None
            time.sleep(0.02)
        owner.send("still?")
        assert owner.recv()


def take(pipe, open_kind, folder) -> None:
    """Try until somebody has it, who keeps it."""
    claims = open_kind(folder)
    pipe.send("ready")
    pipe.recv()
    claim = None
    while claim is None and not pipe.poll(0.002):
        claim = claims.claim(place(claims, folder))
    pipe.send(claim is not None and claim.holds())
    pipe.recv()


def test_a_takeover_by_many_has_one_winner(open_kind, folder):
    with child(keep, open_kind, folder) as owner:
        assert owner.recv()
        with children(4, take, open_kind, folder) as watchers:
            for pipe in watchers:
                assert pipe.recv() == "ready"
                pipe.send("go")
            owner.process.kill()
            owner.process.join()
            first = until(lambda: [pipe for pipe in watchers if pipe.poll()])
            # The others have as long again as it took to find the owner dead.
            time.sleep(0.8 if open_kind is renames_elsewhere else 0.1)
            for pipe in watchers:
                if pipe not in first:
                    pipe.send("stop")
            assert sorted(pipe.recv() for pipe in watchers) == [False, False, False, True]


def churn(pipe, open_kind, folder) -> None:
    """Claim and release without end."""
    claims = open_kind(folder)
    pipe.send("ready")
    while True:
        claim = claims.claim(place(claims, folder))
        if claim is not None:
            claim.holds()
            claim.release()


@pytest.mark.parametrize("open_kind", [locks_of, renames_of], ids=["locks", "renames"])
def test_one_killed_in_the_middle_of_a_claim_or_a_release_leaves_nothing_that_blocks(open_kind, folder):
    claims = open_kind(folder)
    for round_ in range(25):
        with child(churn, open_kind, folder) as owner:
            assert owner.recv() == "ready"
            time.sleep(0.0007 * round_)
        claim = until(lambda: claims.claim(place(claims, folder)))
        assert claim.holds()
        claim.release()


class CrashError(Exception):
    """A process ends here."""


@pytest.mark.parametrize("step", range(12))
def test_a_death_at_each_step_of_a_claim_by_rename_leaves_one_that_can_be_had(step, folder, monkeypatch):
    """At each call that changes the folder, before it and after it."""
    dying = RenameClaims(folder, beat_seconds=60)
    calls = 0

    def dies(real):
        def changed(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == step + 1 and step % 2 == 0:
                raise CrashError
            value = real(*arguments, **options)
            if calls == step + 1:
                raise CrashError
            return value

        return changed

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "write_bytes"):
            patch.setattr(Path, name, dies(getattr(Path, name)))
        with suppress(CrashError):
            claim = dying.claim(place(dying, folder))
            claim.holds()
            claim.release()
    # It is dead: no process of this machine has its id, and it does not count on.
    monkeypatch.setattr("aezoo.run.owner._lives", lambda pid, started: False)
    other = RenameClaims(folder, beat_seconds=60)
    claim = other.claim(place(other, folder))
    assert claim.holds()
    claim.release()


# Claims by renames ----------------------------------------------------------------------------------------------------


def states(folder: Path) -> list[str]:
    return sorted(path.name.split(".")[0] + "." + path.name.split(".")[1] for path in (folder / "a.claim").iterdir())


def test_an_owner_that_was_taken_for_dead_finds_out_before_it_writes(folder):
    with child(keep, renames_elsewhere, folder) as owner:
        assert owner.recv()
        os.kill(owner.process.pid, signal.SIGSTOP)
        claims = renames_elsewhere(folder)
        claim = until(lambda: claims.claim(place(claims, folder)))
        os.kill(owner.process.pid, signal.SIGCONT)
        owner.send("still?")
        assert not owner.recv()
        assert claim.holds()
        # It does not let go of what is another's by now.
        owner.send("still?")
        assert not owner.recv()
        assert claim.holds()


def test_a_watcher_counts_no_time_in_which_it_did_not_watch(folder, monkeypatch):
    """It was stopped, or the server of both was away: a claim is not taken because much time has passed."""
    clock = [0.0]
    monkeypatch.setattr("aezoo.run.owner.time.monotonic", lambda: clock[0])
    owner = Owners(folder / "owners", (), place="there", beat_seconds=1000)
    token = owner.me()
    watcher = Owners(folder / "owners", (), place="here", beat_seconds=10, stale_seconds=300)
    assert not watcher.is_dead(token)
    clock[0] += 3600
    assert not watcher.is_dead(token)
    looks = 0
    while not watcher.is_dead(token):
        clock[0] += 5
        looks += 1
    # 290 s are left, which it must see pass.
    assert looks == 58


def test_a_claim_grows_by_nothing_however_often_it_is_had(folder):
    claims = RenameClaims(folder, beat_seconds=60)
    for number in range(20):
        claim = claims.claim(place(claims, folder))
        assert states(folder) == [f"{1 + 3 * number}.held"]
        assert claim.holds()
        assert states(folder) == [f"{2 + 3 * number}.held"]
        claim.release()
        assert states(folder) == [f"{3 + 3 * number}.free"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.claim", "owners"]
    assert len(list((folder / "owners").iterdir())) == 1


def test_a_process_that_ends_leaves_a_file_only_where_it_holds_a_claim(folder):
    code = (
        "import sys; from pathlib import Path; from aezoo.run.renames import RenameClaims; folder = Path(sys.argv[1]); "
        "claims = RenameClaims(folder); claim = claims.claim(folder / 'a.claim'); "
        "claim.release() if sys.argv[2] == 'released' else None"
    )
    for what, left in (("released", 0), ("held", 1)):
        subprocess.run([sys.executable, "-c", code, str(folder), what], check=True)
        assert len(list((folder / "owners").iterdir())) == left


@pytest.mark.parametrize("steps", range(1, 4))
def test_a_rename_that_was_done_and_reported_as_failed_is_recognised(steps, folder, monkeypatch):
    """Over NFS an answer may be lost: the request is sent again, and the server has no such file any more."""
    real, calls = Path.rename, 0

    def rename(path, target):
        nonlocal calls
        real(path, target)
        calls += path.parent.name == "a.claim" or Path(target).name == "a.claim"
        if calls == steps:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    claims = RenameClaims(folder, beat_seconds=60)
    monkeypatch.setattr(Path, "rename", rename)
    claim = claims.claim(place(claims, folder))
    assert claim.holds()
    claim.release()
    assert states(folder) == ["3.free"]


def test_a_step_that_failed_and_was_taken_after_all_is_ones_own_again(folder, monkeypatch):
    claims, other = (RenameClaims(folder, beat_seconds=60) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(renames, "make_folder", lambda *arguments: make_folder(*arguments) and False)
        assert claims.claim(place(claims, folder)) is None
    assert states(folder) == ["1.held"]
    assert other.claim(place(other, folder)) is None
    claim = claims.claim(place(claims, folder))
    assert claim.holds()
    assert claims.claim(place(claims, folder)) is None


def test_a_folder_whose_listing_comes_up_empty_is_anothers(folder, monkeypatch):
    """A listing misses a file that is renamed meanwhile; that a folder cannot be renamed onto it says enough."""
    claims, other = (RenameClaims(folder, beat_seconds=60) for _ in range(2))
    claim = other.claim(place(other, folder))
    real = Path.iterdir
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda path: iter(()) if path.name == "a.claim" else real(path))
        assert claims.claim(place(claims, folder)) is None
    assert claim.holds()
    assert not list(folder.glob(".tmp-*"))


def test_a_release_that_fails_leaves_it_to_the_same_process(folder, monkeypatch):
    claims, other = (RenameClaims(folder, beat_seconds=60) for _ in range(2))
    claim = claims.claim(place(claims, folder))

    def rename(path, target):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(StorageError, match=r"cannot write .*a.claim: Input/output error; earlier results"):
            claim.holds()
        claim.release()
    assert other.claim(place(other, folder)) is None
    assert claims.claim(place(claims, folder)).holds()


def test_a_fork_has_a_token_of_its_own(folder):
    claims = RenameClaims(folder, beat_seconds=60)
    claim = claims.claim(place(claims, folder))

    def work(pipe):
        pipe.send((claims.claim(place(claims, folder)) is None, claims.claim(place(claims, folder, "b")).holds()))
        pipe.recv()

    with child(work) as fork:
        assert fork.recv() == (True, True)
        assert claims.claim(place(claims, folder, "b")) is None
    assert claim.holds()
    assert until(lambda: claims.claim(place(claims, folder, "b"))).holds()


def test_a_process_that_has_the_id_of_a_dead_one_is_another_one(folder):
    with child(keep, renames_of, folder) as owner:
        assert owner.recv()
    (beat,) = (folder / "owners").iterdir()
    facts = {**json.loads(beat.read_text()), "pid": os.getpid()}
    del facts["checksum"]
    from aezoo.run.files import checksum

    beat.write_text(json.dumps({**facts, "checksum": checksum(facts)}))
    claims = renames_of(folder)
    assert claims.claim(place(claims, folder)).holds()


def test_the_place_of_ids_is_this_machines_and_this_start_of_it():
    assert (place_of_pids() is None) == (sys.platform != "linux")


STEPS = st.tuples(st.sampled_from(["claim", "holds", "release", "taken for dead"]), st.integers(0, 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_whatever_processes_do_a_claim_has_one_owner_at_most_that_holds_it(tmp_path_factory, steps):
    """Held against a model: whose it is, and who is taken for dead, wrongly, since it goes on."""
    folder = tmp_path_factory.mktemp("claims")
    processes = [RenameClaims(folder, beat_seconds=60) for _ in range(3)]
    had: dict[int, tuple[Any, str]] = {}
    owner: str | None = None
    dead: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Owners, "is_dead", lambda self, token: token in dead)
        for step, number in steps:
            token = processes[number]._owners.me()
            if step == "claim":
                claim = processes[number].claim(place(processes[number], folder))
                assert (claim is not None) == (owner is None or owner in dead)
                if claim is not None:
                    owner, had[number] = token, (claim, token)
            elif step == "taken for dead":
                dead.add(token)
                processes[number] = RenameClaims(folder, beat_seconds=60)
            elif number in had:
                claim, token = had[number]
                if step == "holds":
                    assert claim.holds() == (owner == token)
                else:
                    claim.release()
                    owner = None if owner == token else owner
            assert len(list(folder.glob("a.claim/*"))) <= 1


def test_requests_of_processes_that_ask_at_once_are_all_written_without_locks(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "weakness", lambda folder: "no locks")
    bench = aezoo.bench(["mean"], recipe=RECIPE, out=tmp_path / "run", device="cpu", timing=False)
    info = RunDirectory(bench.path).info()

    def request(pipe):
        run = RunDirectory(bench.path)
        number = pipe.recv()
        for trial in range(5):
            run.request(info, {f"v{number}-{trial}": [f"v{number}-{trial}-s0"]})
        pipe.send("done")
        pipe.recv()

    with children(3, request) as askers:
        for number, pipe in enumerate(askers):
            pipe.send(number)
        assert [pipe.recv() for pipe in askers] == ["done"] * 3
    assert {name for name in RunDirectory(bench.path).info().requested if name.startswith("v")} == {
        f"v{number}-{trial}" for number in range(3) for trial in range(5)
    }
