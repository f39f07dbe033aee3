"""Start real `aezoo` processes in a blink: each is a fork of one process that has imported torch already.

What a fork shares with a fresh interpreter, the tests rely on: a process, a session and signals of its own. The server
that trials are forked from is such a fork too. Run as a script, this is the process that forks; it never computes, so
that no thread of torch's is lost in a fork.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

FIELDS = ("args", "cwd", "env", "out", "err", "tty")


class Launcher:
    """Forks benches, and hears how they end."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lock = threading.Condition()
        self.ended: dict[int, int] = {}
        self.started: list[int] = []
        self.told = 0
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        for line in self.process.stdout:
            told = json.loads(line)
            with self.lock:
                if "code" in told:
                    self.ended[told["pid"]] = told["code"]
                else:
                    self.started.append(told["pid"])
                self.lock.notify_all()

    def start(self, *args: object, cwd: Path, tty: str | None = None, **env: str) -> "Bench":
        """Start `aezoo` with these arguments; with a terminal's path, that is its terminal."""
        with self.lock:
            number = self.told
            self.told += 1
            out, err = cwd / f"out-{number}", cwd / f"err-{number}"
            out.touch()
            err.touch()
            asked = [list(map(str, args)), str(cwd), {**os.environ, **env}, str(out), str(err), tty]
            self.process.stdin.write(json.dumps(dict(zip(FIELDS, asked, strict=True))) + "\n")
            self.process.stdin.flush()
            assert self.lock.wait_for(lambda: len(self.started) > number, timeout=60)
            return Bench(self, self.started[number], out, err)

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=20)


class Bench:
    """A running `aezoo`, as subprocess.Popen would show it."""

    def __init__(self, launcher: Launcher, pid: int, out: Path, err: Path) -> None:
        self.launcher = launcher
        self.pid = pid
        self.out = out
        self.err = err

    @property
    def returncode(self) -> int | None:
        """The exit status; negative for a signal; None while it runs."""
        return self.launcher.ended.get(self.pid)

    def wait(self, timeout: float = 120) -> int:
        with self.launcher.lock:
            if not self.launcher.lock.wait_for(lambda: self.pid in self.launcher.ended, timeout=timeout):
                raise TimeoutError(f"still running after {timeout} s: {self.err.read_text()}")
        return self.launcher.ended[self.pid]

    def kill(self, number: int = signal.SIGKILL, *, group: bool = False) -> None:
        if self.returncode is None:
            (os.killpg if group else os.kill)(self.pid, number)

    def until(self, reached: Any, timeout: float = 60) -> None:
        """Wait until something is so, while it runs."""
        deadline = time.monotonic() + timeout
        while not reached():
            assert self.returncode is None, self.err.read_text()
            assert time.monotonic() < deadline, self.err.read_text()
            time.sleep(0.02)


def serve() -> None:
    """Fork a bench for each line of standard input, and tell on standard output how it ended."""
    import multiprocessing.util

    import torch._dynamo  # noqa: F401

    import aezoo.cli
    import aezoo.cli.screen
    import aezoo.harness.call
    import aezoo.harness.preflight
    import aezoo.harness.trial
    import aezoo.page.page  # noqa: F401

    multiprocessing.util.spawnv_passfds = fork_in_place_of_exec
    signal.signal(signal.SIGCHLD, tell_of_the_dead)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(**asked)
        tell(pid=pid)


def tell(**message: int) -> None:
    os.write(1, (json.dumps(message) + "\n").encode())


def tell_of_the_dead(*_: object) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def become(args: list[str], cwd: str, env: dict[str, str], out: str, err: str, tty: str | None) -> None:
    """Be `aezoo`, in a session of its own."""
    from aezoo import cli

    code: Any = 70
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        tempfile.tempdir = None
        sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
        # The first terminal that the head of a session opens is its own.
        files = [tty or os.devnull, tty or out, tty or err]
        for descriptor, name in enumerate(files):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | (0 if tty else os.O_TRUNC)), descriptor)
        sys.argv = ["aezoo", *args]
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fork_in_place_of_exec(path: str, args: list[str], passfds: list[int]) -> int:
    """Stand in for multiprocessing.util.spawnv_passfds, which starts the server and the tracker."""
    pid = os.fork()
    if pid:
        return pid
    try:
        kept = sorted({0, 1, 2, *passfds})
        for below, above in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(below + 1, above)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        exec(args[args.index("-c") + 1], {})
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve()
