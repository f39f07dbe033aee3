"""A claim: what one process runs, and no other does, on any machine that shares the run."""

from pathlib import Path
from typing import IO

from aezoo import machine
from aezoo.errors import StorageError, system_reason


class Claim:
    """A lock on a file: the system lets go of it when its owner dies, however that happens."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def of(cls, path: Path) -> "Claim | None":
        """Claim what a file stands for, or return None where another process, on any machine, has it.

        Raises:
            StorageError: the folder cannot be written, or takes no locks.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise StorageError(f"cannot write {path}: {system_reason(error)}; earlier results are untouched") from error
        try:
            if machine.lock(file, wait=False):
                return cls(file)
        except StorageError:
            file.close()
            raise
        file.close()
        return None

    def release(self) -> None:
        """Let others have it. The file stays: removing it would leave two owners of one name."""
        self._file.close()
