"""Locks on files: how one is taken, and whether locks hold in a folder, against other machines too.

It knows systems, file systems and mounts, and nothing of runs.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

from aezoo.errors import AezooError, StorageError

SYSTEMS = ("linux", "darwin")
"""The systems that aezoo runs on, as `sys.platform` names them: Linux and macOS."""


def require_posix() -> None:
    """Refuse a system that has no file locks, process groups and resource limits as POSIX has them.

    Raises:
        AezooError: it is such a system.
    """
    if sys.platform not in SYSTEMS:
        raise AezooError(
            f"aezoo runs on Linux and macOS, but this is {sys.platform}: it needs file locks, process groups and "
            "resource limits as POSIX has them; on Windows, use WSL 2"
        )


# fmt: off
LOCAL = frozenset({
    "apfs", "aufs", "bcachefs", "btrfs", "ecryptfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuse.fuse-overlayfs",
    "fuseblk", "hfs", "jfs", "msdos", "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs", "reiserfs", "tmpfs", "ufs", "vfat",
    "xfs", "zfs",
})
"""File systems of one machine: all that may write there ask one kernel for a lock."""
OBJECTS = frozenset({
    "fuse.blobfuse", "fuse.blobfuse2", "fuse.gcsfuse", "fuse.goofys", "fuse.mount-s3", "fuse.mountpoint-s3",
    "fuse.rclone", "fuse.s3fs",
})
"""Storage of objects: a rename there copies, so that nothing keeps two machines apart."""
# fmt: on


class Mount(NamedTuple):
    """What the system says of a file system that is mounted, as psutil has it."""

    mountpoint: str
    fstype: str
    opts: str


def lock(file: IO[Any], *, wait: bool) -> bool:
    """Lock an open file until it is closed, also against other machines where locks hold; say whether it is.

    Args:
        file: Its owner's death lets go of the lock, however that happens.
        wait: Whether to wait for whoever has it; else False is returned.

    Raises:
        StorageError: the file system takes no locks.
    """
    try:
        return _flock(file, wait)
    except OSError as error:
        raise StorageError(
            f"cannot lock {file.name}: {error.strerror}; give a folder on another disk with --out"
        ) from error


def is_locked(path: Path) -> bool:
    """Say whether some process, this one among them, has a lock on a file; False where that cannot be seen."""
    import fcntl

    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def weakness(folder: Path) -> str | None:
    """Say why locks in a folder do not hold against every process that may write there; None where they do.

    What a process gets is tried, and what no process can see from one machine is read from the mount.

    Raises:
        OSError: no file can be made in the folder.
    """
    return _weakness_tried(folder) or weakness_of_mount(mount_of(folder, mounts()))


def mounts() -> list[Mount]:
    """Return what is mounted on this machine; of two on one place, the later one is seen."""
    import psutil  # the command line imports this module before it knows whether it needs a lock

    return [Mount(each.mountpoint, each.fstype, each.opts) for each in psutil.disk_partitions(all=True)]


def mount_of(folder: Path, mounted: Iterable[Mount]) -> Mount | None:
    """Return the mount that holds a folder; None where the system lists none."""
    place = folder.resolve()
    holding = [(number, each) for number, each in enumerate(mounted) if place.is_relative_to(each.mountpoint)]
    return max(holding, key=lambda each: (len(Path(each[1].mountpoint).parts), each[0]))[1] if holding else None


def weakness_of_mount(mount: Mount | None) -> str | None:
    """Say why locks on a mount may not hold against other machines; None where they do.

    A file system that is not known here is taken for a weak one: many of those in user space, and of the parallel ones,
    keep locks to the machine that asks, and grant them all.
    """
    if mount is None:
        return "the system does not say what file system it is on"
    weakness = _weakness_of(mount.fstype.lower(), set(mount.opts.split(",")))
    return weakness and f"{mount.mountpoint} is {mount.fstype}{weakness}"


def _weakness_of(fstype: str, options: set[str]) -> str | None:
    reason: str | None = ", whose locks may not reach other machines"
    if fstype in LOCAL or fstype == "ceph":
        reason = None
    elif fstype in {"nfs", "nfs4"}:
        # nfs(5): these answer locks on the client alone. Linux lists what a mount has, macOS does not.
        local = sorted(options & {"nolock", "local_lock=all", "local_lock=flock"})
        reason = f" with {local[0]}, which keeps locks to one machine" if local else None
        if sys.platform != "linux":
            reason = f", and {sys.platform} does not say how it locks"
    elif fstype == "lustre":
        # mount.lustre(8): `flock` is coherent over all clients, `localflock` on one.
        reason = None if "flock" in options else " without the option flock"
    elif fstype in {"gfs2", "ocfs2"}:
        reason = " with localflocks, which keeps locks to one machine" if "localflocks" in options else None
    elif fstype in OBJECTS:
        reason = ", which has neither locks nor renames against other machines: let one process write there"
    return reason


def _weakness_tried(folder: Path) -> str | None:
    """Lock a file twice: the second one must not get the lock."""
    # NFS gives an exclusive lock only to who may write.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-") as file, Path(file.name).open("r+b") as again:
        try:
            if not _flock(file, wait=False):
                return "a lock that nobody has is refused"
            return "a lock that is held is given a second time" if _flock(again, wait=False) else None
        except OSError as error:
            return f"the system gives none: {error.strerror}"


def _flock(file: IO[Any], wait: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
