"""What a trial reports while it trains, checkpoints among it, and the one that it goes on from."""

import time
from typing import Any

from aezoo.contract.executor import Progress, Report
from aezoo.errors import AezooError
from aezoo.machine import PeakMemory
from aezoo.run.checkpoint import Checkpoint, pack_checkpoint, unpack_checkpoint
from aezoo.run.files import DamagedFileError
from aezoo.run.records import TrialPlan
from aezoo.train.loop import Pause
from aezoo.train.state import State, StateError


class Checkpoints:
    """Those of one trial.

    Args:
        plan: The trial's.
        report: Takes its progress.
        memory: What it came to hold is read before a checkpoint is made, whose memory is none of the network's.
        seconds: Between two checkpoints, at least; None for none.
        content: The one that it goes on from; None for none.
    """

    def __init__(
        self, plan: TrialPlan, report: Report, memory: PeakMemory, seconds: float | None, content: bytes | None
    ) -> None:
        self.plan = plan
        self.state: State | None = None
        self.notes: list[str] = []
        self._report = report
        self._memory = memory
        self._seconds = seconds
        self._last = time.monotonic()
        self._resumed_at: list[int] = []
        self._peak: int | None = None
        if content is not None:
            self._go_on_from(content)

    def on_block(self, pause: Pause) -> None:
        """Report the steps that are done, with a checkpoint where it is time for one and steps are left."""
        checkpoint = None
        steps = self.plan.settings.num_steps(self.plan.dataset.num_train)
        if self._seconds is not None and time.monotonic() - self._last >= self._seconds and pause.steps < steps:
            checkpoint = self._made(pause)
            self._last = time.monotonic()
        self._report(Progress(steps=pause.steps, checkpoint=checkpoint))

    def refuse(self, error: StateError) -> None:
        """Go on from nothing, and say why."""
        self.state, self._peak, self._resumed_at = None, None, []
        self.notes.append(f"its checkpoint is not of such a network ({error}): it was trained from the start")

    def peak(self) -> int | None:
        """Return what the trial added to its process's memory at its peak, but for that of checkpoints, in bytes."""
        return self._memory.host() if self._peak is None else self._peak

    def facts(self) -> dict[str, Any]:
        """Return what a record says of it."""
        return {"resumed_at": self._resumed_at}

    def _made(self, pause: Pause) -> bytes | None:
        if self._peak is None:
            self._peak = self._memory.host()
        try:
            state = pause.state()
            checkpoint = Checkpoint(
                trial_id=self.plan.trial_id, steps=state.steps, seconds=state.seconds, curve=state.curve,
                compile_seconds=state.compile_seconds, streams=dict(state.streams), resumed_at=self._resumed_at,
                peak_memory_bytes=self._peak,
            )  # fmt: skip
            return pack_checkpoint(checkpoint, state.tensors)
        except AezooError as error:
            self._seconds = None
            self.notes.append(f"no checkpoints of it: {error}")
            return None

    def _go_on_from(self, content: bytes) -> None:
        try:
            checkpoint, tensors = unpack_checkpoint(content, self.plan.trial_id)
        except DamagedFileError as error:
            self.notes.append(f"its checkpoint is damaged ({error}): it was trained from the start")
            return
        self._resumed_at = [*checkpoint.resumed_at, checkpoint.steps]
        self._peak = checkpoint.peak_memory_bytes
        self.state = State(
            steps=checkpoint.steps, seconds=checkpoint.seconds, curve=checkpoint.curve,
            compile_seconds=checkpoint.compile_seconds, tensors=tensors, streams=checkpoint.streams,
        )  # fmt: skip
