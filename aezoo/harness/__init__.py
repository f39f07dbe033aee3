"""A call becomes a grid of trials, and the grid a run."""
