"""When each trial of a bench starts and ends, as the bench sees it; for the programs beside this file."""

import time

from aezoo.harness.observer import Observer
from aezoo.run.records import TrialPlan, TrialRecord


class Stopwatch(Observer):
    """Notes the seconds of a clock that all processes share, by trial id."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.done: dict[str, float] = {}

    def started(self, plan: TrialPlan) -> None:
        self.begun[plan.trial_id] = time.monotonic()

    def ended(self, record: TrialRecord) -> None:
        assert record.status == "ok", record.reason
        self.done[record.trial_id] = time.monotonic()
