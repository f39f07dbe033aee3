"""Works that tests give to executors. Whoever does them imports this module, and nothing of the tests beside it."""

import os
import resource
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import aezoo
from aezoo.train.parallel import ProcessFailedError


@dataclass(frozen=True)
class Look:
    """A work of a test: what its process sees."""

    path: Path | None = None

    def run(self, report):
        report(aezoo.Progress(steps=3, checkpoint=b"kept"))
        time.sleep(0.5)
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        return seen, self.path and (self.path.read_bytes(), str(self.path))

    def moved(self, places):
        return Look(places[self.path])


@dataclass(frozen=True)
class Dies:
    """A work of a test that ends its own process."""

    def run(self, report):
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Starves:
    """Finds no memory."""

    def run(self, report):
        raise MemoryError("no memory")


@dataclass(frozen=True)
class Waits:
    """Leaves a mark and waits until it may go."""

    folder: Path

    def run(self, report):
        (self.folder / "runs").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.05)
        return "went"


@dataclass(frozen=True)
class Members:
    """A work of a test in several processes, one for each act: it comes to what a record would say of them."""

    acts: tuple[str, ...]

    def run(self, report):
        # It is slow to import, and the other works do without.
        from aezoo.harness.processes import over_processes

        def act(share):
            getattr(self, self.acts[share.rank])()

        try:
            over_processes(len(self.acts), 1, act, lambda error: {"status": "error", "reason": str(error)})
        except ProcessFailedError as error:
            return error.facts

    def fails(self):
        raise ValueError("first" + 200_000 * ".")

    def fails_later_and_ends_sooner(self):
        time.sleep(0.2)
        threading.Timer(0.3, os._exit, [1]).start()
        raise ValueError("second" + 200_000 * ".")

    def is_killed_as_it_writes(self):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        self.fails()

    def waits(self):
        time.sleep(600)
