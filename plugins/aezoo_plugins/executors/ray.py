"""ray: tasks of Ray Core, on a cluster that is there, or on this machine alone.

Here a bench is connected; `aezoo_plugins.cluster` has the bench's side of it, `aezoo_plugins.placement` the machines,
and `aezoo_plugins.node` what happens on one.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil

import aezoo

SOCKET_ROOM = 32
"""Characters of a temporary folder in which Ray's sockets have room: their paths have 107, of which it takes 70."""


@contextlib.contextmanager
def connect(site: aezoo.Site) -> Iterator[aezoo.Executor]:
    """Yield the executor on a cluster, for as long as the context lasts.

    Raises:
        aezoo.AezooError: Ray is not installed, there is no such cluster, or it has no such device.
    """
    try:
        import ray
    except ImportError as error:
        raise aezoo.AezooError("the executor ray needs Ray: pip install 'aezoo[ray]'") from error
    from aezoo_plugins.cluster import Cluster

    with contextlib.ExitStack() as stack:
        if not ray.is_initialized():
            _initialise(site.address or os.environ.get("RAY_ADDRESS") or "")
            stack.callback(ray.shutdown)
        cluster = Cluster(site)
        stack.callback(cluster.close)
        placement = cluster.placement
        yield replace(RAY, run=cluster.run, alone=cluster.alone, device=placement.device, jobs=placement.most())


def _initialise(address: str) -> None:
    """Connect this process to a cluster, or start one on this machine, on loopback and without a dashboard."""
    import ray

    settings: dict[str, Any] = {"address": address}
    if address.startswith("ray://"):
        raise aezoo.AezooError(
            f"aezoo does not go through Ray's client, {address}; run it on a machine of the cluster with --address auto"
        )
    if address in ("", "local"):
        cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else psutil.cpu_count()
        settings = {
            "address": "local", "num_cpus": cores, "_node_ip_address": "127.0.0.1", "include_dashboard": False,
        }  # fmt: skip
        # Nobody is to be called from a cluster that lives for one bench.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Else trials would wait for whatever else this machine does.
        os.environ.setdefault("RAY_worker_niceness", "0")
        if len(os.environ.get("TMPDIR", "")) > SOCKET_ROOM:
            settings["_temp_dir"] = "/tmp/ray"
    elif address != "auto":
        _reach(address)
    # What goes wrong it raises too; the rest is of no use between the lines of a bench.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(log_to_driver=False, configure_logging=False, **settings)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        hint = "start one with `ray start --head`, or leave --address out for this machine alone"
        raise aezoo.AezooError(f"no Ray cluster at {address or 'this machine'}: {reason}; {hint}") from error
    finally:
        # Ray puts its own in their place, which end this process and not the bench.
        with contextlib.suppress(ValueError):  # signals are the main thread's
            for number, handler in handlers.items():
                signal.signal(number, handler)
    # It prints what its own processes log to standard output, between the lines of the table.
    vars(sys.modules["ray._private.worker"])["print_to_stdstream"] = lambda *_, **__: None


def _reach(address: str) -> None:
    """Refuse an address at which nothing listens: Ray would wait for it, and log."""
    host, colon, port = address.rpartition(":")
    try:
        if not colon:
            raise ValueError("it is auto or HOST:PORT")
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise aezoo.AezooError(f"no Ray cluster at {address}: {error}; `ray status` there says its address") from error


RAY = aezoo.Executor(
    name="ray", connect=connect, shares_files=False, carries_files=True,
    summary="tasks of Ray Core, on a cluster (--address auto or HOST:PORT, or RAY_ADDRESS) or on this machine",
)  # fmt: skip


@aezoo.hookimpl
def aezoo_executors() -> Iterator[aezoo.Executor]:
    """Contribute `ray`."""
    yield RAY
