"""The command line: parse, call, print; nothing else lives here. `main` runs it."""

import os
import sys
import warnings

# Each of these adds its commands, in the order in which the help lists them.
from aezoo.cli import bench, settle, listing, look, data, use, author  # isort: skip
from aezoo.cli.app import app
from aezoo.errors import AezooError, plain
from aezoo.locks import require_posix

__all__ = ["app", "author", "bench", "data", "listing", "look", "main", "settle", "use"]


def main() -> None:
    """Run the command line; a user's mistake becomes one line and an exit status."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    warnings.showwarning = _show_warning
    try:
        require_posix()
        app()
    except AezooError as error:
        if debug:
            raise
        print(f"error: {plain(' '.join(str(error).split()))}", file=sys.stderr)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # The reader, `head` perhaps, has what it wanted; Python must not complain while it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _show_warning(message: object, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)
