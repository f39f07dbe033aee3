"""A call becomes a grid of trials, and the grid a run."""

from aezoo.locks import require_posix

require_posix()
