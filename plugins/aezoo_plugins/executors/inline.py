"""inline: run the tasks in the bench's own process, one after another, so that a debugger stops in them."""

from collections.abc import Iterator, Sequence
from typing import Any

import aezoo


def run(
    tasks: Sequence[aezoo.Task], jobs: int, on_start: Any, on_report: Any, may_start: Any
) -> Iterator[aezoo.Outcome]:
    """Run each task here and now.

    Raises:
        AezooError: a task has a time limit, which nothing can hold it to here, or starts processes of its own.
    """
    del jobs  # one at a time
    for task in tasks:
        if task.timeout is not None:
            raise aezoo.AezooError("the executor inline cannot stop a trial: leave out --timeout, or --executor inline")
        if task.processes > 1:
            raise aezoo.AezooError(
                "the executor inline runs a trial in one process: leave out --processes-per-trial, or --executor inline"
            )
    for task in tasks:
        ready = may_start(task)
        if ready is not None:
            on_start(ready)
            yield ready.run(lambda progress, task=ready: on_report(task, progress))


@aezoo.hookimpl
def aezoo_executors() -> Iterator[aezoo.Executor]:
    """Contribute `inline`."""
    yield aezoo.Executor(
        name="inline",
        run=run,
        summary="in the bench's own process, one after another, for debuggers: a crash takes the bench with it",
    )
