"""A call becomes a grid of trials, and the grid a run."""

from aezoo.machine import require_posix

require_posix()
