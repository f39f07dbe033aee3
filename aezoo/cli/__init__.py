"""The command line: parse, call, print; nothing else lives here. `main` runs it."""

import codecs
import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO, cast

import typer

# Each of these adds its commands, in the order in which the help lists them.
from aezoo.cli import bench, settle, listing, look, data, use, author  # isort: skip
from aezoo.cli.app import app, say
from aezoo.errors import AezooError, plain, system_reason
from aezoo.locks import require_posix

_UsageError: type[Exception] = typer.BadParameter.__base__ or Exception
"""What the parser raises: typer exports no more of this family."""

_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What a system says that cannot take what is printed."""

__all__ = ["app", "author", "bench", "data", "listing", "look", "main", "settle", "use"]


def main() -> None:
    """Run the command line; a user's mistake becomes one line and an exit status."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    warnings.showwarning = _show_warning
    _open_closed()
    try:
        for stream in (sys.stdout, sys.stderr):
            # A terminal of another time lacks some characters: it shows a ? in their place.
            if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
                stream.reconfigure(errors="replace")
        sys.stderr = cast("TextIO", _Talk(sys.stderr))
        require_posix()
        _refuse_empty(sys.argv[1:])
        status = app(prog_name="aezoo", standalone_mode=False) or 0
        sys.stdout.flush()
    except (AezooError, _UsageError) as error:
        if debug:
            raise
        say(f"error: {plain(' '.join(_text(error).split()))}")
        sys.exit(getattr(error, "exit_status", 2))
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader, `head` perhaps, has what it wanted.
        _close_output()
        sys.exit(0)
    except OSError as error:
        if debug or error.filename is not None or error.errno not in _UNWRITTEN:
            raise
        _close_output()
        say(f"error: what was asked for cannot be printed: {system_reason(error)}")
        sys.exit(2)
    sys.exit(status)


def _open_closed() -> None:
    """Open in nothing what a daemon, or `>&-`, has closed, so that no file of ours takes its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.dup2(descriptor, number)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


class _Talk:
    """Standard error, where nothing is said that is worth a bench's end: what it does not take is left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _close_output() -> None:
    """Write no more to standard output, so that Python does not complain while it closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse an empty text, as a variable has that is not set: a folder of that name would be the current one.

    Raises:
        AezooError: one is empty, but for the metrics, of which there may be none.
    """
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if not word and before != "--metrics":
            raise AezooError(f"what is given after {before} is empty; give it a value, or leave it out")
        if option.startswith("--") and equals and not value and option != "--metrics":
            raise AezooError(f"what is given to {option} is empty; give it a value, or leave it out")


def _text(error: Exception) -> str:
    """Return what is wrong; of a call that the parser refuses, with where its options are listed."""
    if isinstance(error, AezooError):
        return str(error)
    what = _refused(error) or str(getattr(error, "format_message", error.__str__)()).strip().rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else _command(sys.argv[1:])
    return f"{what}{'' if what.endswith('?') else ';'} `{command} -h` lists what it takes"


_KINDS = {"int": "a whole number, such as 3", "float": "a number, such as 0.5"}
"""What an option takes, by the first part of what pydantic calls a text that is none."""


def _refused(error: Exception) -> str | None:
    """Return what an option takes, and what it was given, of a value that the parser refuses; None of other faults."""
    errors, parameter = getattr(error.__cause__, "errors", None), getattr(error, "param", None)
    if errors is None or parameter is None:
        return None
    fault, option = errors()[0], parameter.opts[-1]
    accepted = _KINDS.get(fault["type"].partition("_")[0]) or fault["msg"].replace("Input should be", "a value")
    return f"{option} takes {accepted}, but got {fault['input']!r}"


def _command(words: Sequence[str]) -> str:
    """Return the command that a call is of, ``aezoo data show``, as far as its words name one."""
    commands, path = getattr(typer.main.get_command(app), "commands", {}), ["aezoo"]
    for word in words:
        if word not in commands:
            break
        commands = getattr(commands[word], "commands", {})
        path.append(word)
    return " ".join(path)


def _show_warning(message: object, *_: object, **__: object) -> None:
    say(f"warning: {message}")
