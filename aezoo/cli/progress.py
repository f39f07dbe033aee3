"""Show what a bench does, on standard error: live on a terminal, a line for each event elsewhere."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from aezoo.harness.observer import Observer
from aezoo.run.records import TrialPlan, TrialRecord
from aezoo.run.store import RunDirectory
from aezoo.table import render, rows
from aezoo.text import duration, plain


class PlainObserver(Observer):
    """A line for each trial that ends, with the time left: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.run: Path | None = None
        self.variants: set[str] = set()
        self.clock = _Clock({})
        self.total = 0
        self.done = 0

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")

    def chosen(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)

    def stage(self, text: str) -> None:
        self._say(text)

    def requested(self, run: Path, variants: Sequence[str]) -> None:
        self.run = run
        self.variants = set(variants)

    def planned(self, plans: Sequence[TrialPlan], seconds: dict[str, float]) -> None:
        self.clock = _Clock(seconds)
        self.total = len(plans)
        self._say(f"{len(plans)} trials to run, into {self.run}" if plans else f"all trials are in {self.run} already")

    def ended(self, record: TrialRecord) -> None:
        self.done += 1
        self.clock.ended(record.trial_id)
        self._say(f"[{self.done}/{self.total}] {_result(record)}; {self.clock.left()}")

    def _say(self, text: str) -> None:
        self.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)


class LiveObserver(PlainObserver):
    """The growing table, what runs and how far it is, and the time left: for a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} steps")
        )
        self.tasks: dict[str, TaskID] = {}
        self.head = Text("")
        self.table = Table()
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
        self.live.start()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self.live.stop()

    def stage(self, text: str) -> None:
        self.head = Text(text)

    def planned(self, plans: Sequence[TrialPlan], seconds: dict[str, float]) -> None:
        super().planned(plans, seconds)
        self._tell()

    def started(self, plan: TrialPlan) -> None:
        steps = plan.recipe.num_steps(plan.dataset.num_train)
        name = f"{plain(plan.variant)} seed {plan.seed}".replace("[", "\\[")
        self.tasks[plan.trial_id] = self.bars.add_task(name, total=steps)

    def stepped(self, plan: TrialPlan, steps: int) -> None:
        self.bars.update(self.tasks[plan.trial_id], completed=steps)
        self.clock.stepped(plan.trial_id, steps / plan.recipe.num_steps(plan.dataset.num_train))
        self._tell()

    def ended(self, record: TrialRecord) -> None:
        self.done += 1
        self.clock.ended(record.trial_id)
        if record.trial_id in self.tasks:
            self.bars.remove_task(self.tasks.pop(record.trial_id))
        if record.status != "ok":
            self.warn(_result(record))
        if self.run:
            table = rows.summarise(RunDirectory(self.run))
            begun = table[(table["seeds"] > 0) | (table["status"] != "interrupted")]
            # What has not ended yet has not been interrupted either.
            begun = begun.assign(status=begun["status"].replace("interrupted", "more seeds to run"))
            self.table = render.rich_table(begun, render.ESSENTIAL)
        self._tell()

    def timed(self, done: int, total: int) -> None:
        self.head = Text(f"measuring throughput, one variant at a time: {done}/{total}")

    def _tell(self) -> None:
        self.head = Text(f"{self.done}/{self.total} trials; {self.clock.left()}")

    def _render(self) -> Group:
        return Group(self.table, self.bars, self.head) if self.table.columns else Group(self.bars, self.head)


TRUST = 0.05
"""The share of a bench after which its own pace counts for as much as what the preflight estimated."""


class _Clock:
    """The time left: what the preflight estimated, scaled by how the trials so far kept to it."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.fraction = dict.fromkeys(seconds, 0.0)
        self.started = time.monotonic()

    def stepped(self, trial_id: str, fraction: float) -> None:
        self.fraction[trial_id] = fraction

    def ended(self, trial_id: str) -> None:
        self.fraction[trial_id] = 1.0

    def left(self) -> str:
        total = sum(self.seconds.values())
        done = sum(self.seconds[one] * self.fraction[one] for one in self.seconds)
        if done >= total:
            return "no trial left"
        # The first to end are baselines, whose little time is not spent in steps: they say hardly anything of the rest.
        pace = (time.monotonic() - self.started + TRUST * total) / (done + TRUST * total)
        return f"about {duration((total - done) * pace)} left"


def _result(record: TrialRecord) -> str:
    what = f"{record.variant} seed {record.seed}: {record.status}"
    if record.test_mse is None:
        return f"{what}: {record.reason}"
    return f"{what}, test_mse {record.test_mse:.5f}, {record.train_seconds or 0:.1f} s"
