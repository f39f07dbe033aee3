"""Does a run survive its processes? Kill them at random, and count what is lost or done twice, by kind of claim.

    python benchmarks/claims.py --kills 1000 --json claims.json

Some processes share names, as benches share a run's trials: each claims one, works on it for some milliseconds, asks
whether the claim still holds, writes a record that must not be there yet, and lets go. Meanwhile one of them after the
other is killed (SIGKILL), at random times, and another process begins in its place. Of `renames` there are two: all on
this machine, where a dead process has no id any more; and each on one of its own, where nothing but its signs of life
says that it lives, which are hurried here: every 20 ms in place of 10 s, and dead after 0.4 s in place of 5 min.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import tabulate

from aezoo.run.claim import Claims, LockClaims
from aezoo.run.renames import RenameClaims

FORK = multiprocessing.get_context("fork")
KINDS: dict[str, Callable[[Path], Claims]] = {
    "locks": lambda _: LockClaims(),
    "renames": RenameClaims,
    "renames, elsewhere": lambda folder: RenameClaims(
        folder, beat_seconds=0.02, stale_seconds=0.4, place=f"machine {os.getpid()}"
    ),
}
PACE = {"renames, elsewhere": 5.0}
"""Kills are so much rarer where a process must live for a while to see that another one is dead."""


def work(folder: Path, kind: str, names: list[str], seconds: float) -> None:
    """Do what is left of the names' work, beside other processes."""
    claims = KINDS[kind](folder / "claims")
    chance = random.Random(os.getpid())
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event: str, name: str) -> None:
        # One that is killed in the middle of a line, where a page ends, spoils no other's.
        os.write(log, f"\n{time.monotonic()!r} {os.getpid()} {event} {name} .\n".encode())

    while left := [name for name in names if not (folder / "records" / name).exists()]:
        # One of the first few, most often, so that many want the same.
        name = left[min(int(chance.expovariate(1 / 4)), len(left) - 1)]
        claim = claims.claim(folder / "claims" / f"{name}{claims.suffix}")
        if claim is None:
            time.sleep(seconds / 4)
            continue
        record = folder / "records" / name
        if not record.exists():
            note("start", name)
            time.sleep(chance.uniform(0, 2 * seconds))
            if not claim.holds():
                note("fenced", name)
                continue
            try:
                os.close(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
                note("end", name)
            except FileExistsError:
                note("twice", name)
        claim.release()


@dataclass
class Killer:
    """Keeps some processes at work, and kills one after the other."""

    folder: Path
    kind: str
    workers: int
    seconds: float
    killed: dict[int, float] = field(default_factory=dict)

    def run(self, kills: int, names: int) -> int:
        """Let names be worked on until so many processes are killed, and all is done; return how many names."""
        chance = random.Random(0)
        rounds = 0
        while len(self.killed) < kills:
            some = [f"n{rounds}-{number}" for number in range(names)]
            rounds += 1
            running = [self.start(some) for _ in range(self.workers)]
            while any(not (self.folder / "records" / name).exists() for name in some):
                time.sleep(chance.expovariate(1 / (self.seconds * PACE.get(self.kind, 1.0))))
                number = chance.randrange(self.workers)
                if len(self.killed) < kills and running[number].is_alive():
                    self.kill(running[number])
                    running[number] = self.start(some)
            for process in running:
                process.join()
        return rounds * names

    def start(self, names: list[str]) -> BaseProcess:
        """Start a process."""
        process = FORK.Process(target=work, args=(self.folder, self.kind, names, self.seconds))
        process.start()
        return process

    def kill(self, process: BaseProcess) -> None:
        """Kill a process, and note when, as the system's clock has it."""
        assert process.pid is not None
        self.killed[process.pid] = time.monotonic()
        process.kill()
        process.join()


def judge(folder: Path, killed: dict[int, float], names: int) -> dict[str, int]:
    """Return what became of the names, from the log of those that worked on them."""
    events: dict[str, list[tuple[float, int, str]]] = defaultdict(list)
    for line in (folder / "log").read_text().splitlines():
        match line.split():
            case [at, pid, event, name, "."]:
                events[name].append((float(at), int(pid), event))
    counts = {"names": names, "lost": names - len(list((folder / "records").iterdir())), "twice": 0, "at once": 0}
    flat = [event for some in events.values() for _, _, event in some]
    counts |= {"starts": flat.count("start"), "fenced": flat.count("fenced")}
    ended = {(pid, name): at for name, some in events.items() for at, pid, event in some if event != "start"}
    left_to_fence = {(pid, name) for name, some in events.items() for _, pid, event in some if event == "fenced"}
    for name, some in events.items():
        starts = sorted((at, pid) for at, pid, event in some if event == "start")
        done = [at for at, _, event in some if event == "end"]
        counts["twice"] += sum(event == "twice" for _, _, event in some) + max(0, len(done) - 1)
        counts["twice"] += sum(at > min(done) for at, _ in starts) if done else 0
        for (_, before), (after, _) in itertools.pairwise(starts):
            over = min(ended.get((before, name), float("inf")), killed.get(before, float("inf")))
            # Whoever is fenced was at work beside another one, and wrote nothing.
            counts["at once"] += over > after and (before, name) not in left_to_fence
    counts["killed at work"] = counts["starts"] - sum(event in {"end", "fenced", "twice"} for event in flat)
    return counts


def alone(folder: Path, kind: str, claims: int) -> dict[str, list[float]]:
    """Return the seconds of a claim of a new name, of asking whether it holds, and of letting go, with nobody else."""
    opened = KINDS[kind](folder / "claims")
    seconds: dict[str, list[float]] = {"claim": [], "holds": [], "release": []}
    for number in range(claims):
        started = time.perf_counter()
        claim = opened.claim(folder / "claims" / f"alone-{number}{opened.suffix}")
        assert claim is not None
        claimed = time.perf_counter()
        claim.holds()
        asked = time.perf_counter()
        claim.release()
        for name, spent in (
            ("claim", claimed - started), ("holds", asked - claimed), ("release", time.perf_counter() - asked),
        ):  # fmt: skip
            seconds[name].append(spent)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="of each kind")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--names", type=int, default=100, help="that the processes share at a time")
    parser.add_argument("--seconds", type=float, default=0.02, help="of the work of a name, in the mean")
    parser.add_argument("--claims", type=int, default=1000, help="that are clocked alone")
    parser.add_argument("--folder", type=Path, help="where; by default that of temporary files")
    parser.add_argument("--json", type=Path)
    settings = parser.parse_args()
    figures: dict[str, Any] = {}
    for kind in KINDS:
        folder = Path(tempfile.mkdtemp(prefix="aezoo-claims-", dir=settings.folder))
        try:
            for part in ("claims", "records"):
                (folder / part).mkdir()
            seconds = alone(folder, kind, settings.claims)
            killer = Killer(folder, kind, settings.workers, settings.seconds)
            started = time.perf_counter()
            names = killer.run(settings.kills, settings.names)
            figures[kind] = {
                "kills": len(killer.killed), **judge(folder, killer.killed, names),
                "left": sum(1 for _ in (folder / "claims").rglob("*")) - 2 * settings.claims,
                **{f"{name}_seconds": some for name, some in seconds.items()},
                "seconds": time.perf_counter() - started,
            }  # fmt: skip
        finally:
            shutil.rmtree(folder)
    shown = ("kills", "killed at work", "names", "starts", "lost", "twice", "at once", "fenced")
    rows = [
        [kind, *(some[name] for name in shown),
         *(1e6 * statistics.median(some[f"{name}_seconds"]) for name in ("claim", "holds", "release"))]
        for kind, some in figures.items()
    ]  # fmt: skip
    print(tabulate.tabulate(rows, ["", *shown, "claim µs", "holds µs", "release µs"], floatfmt=".0f"))
    if settings.json:
        settings.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
