"""When each trial of a bench starts and ends, as the bench sees it; for the programs beside this file."""

import time

from aezoo.harness.observer import Observer
from aezoo.run.records import TrialPlan, TrialRecord


class Stopwatch(Observer):
    """Notes the seconds of a clock that all processes share, by trial id, and this process's own CPU seconds."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self._cpu: list[float] = []

    def started(self, plan: TrialPlan) -> None:
        self.begun[plan.trial_id] = time.monotonic()
        self._cpu = self._cpu or [time.process_time()] * 2

    def ended(self, record: TrialRecord) -> None:
        assert record.status == "ok", record.reason
        self.done[record.trial_id] = time.monotonic()
        self._cpu[1] = time.process_time()

    @property
    def cpu_seconds(self) -> float:
        """This process's CPU seconds from the start of the first trial to the end of the last."""
        return self._cpu[1] - self._cpu[0]
