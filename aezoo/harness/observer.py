"""Who is told what a bench does, as it does it; and how plugins that listen are told without harm to the run."""

import contextlib
import itertools
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aezoo.contract.columns import loss
from aezoo.contract.recipe import Recipe
from aezoo.errors import counted, duration, plain, reason_of
from aezoo.registry.plugin import Plugin, quiet
from aezoo.run.records import TrialPlan, TrialRecord


class Observer:
    """Told what a bench does, as it does it; it does nothing about it. Subclass it to show or log."""

    def warn(self, text: str) -> None:
        """Something that the user should know went otherwise than asked."""

    def chosen(self, lines: Sequence[str]) -> None:
        """Something was chosen for the caller, who asked for it: what, a line each."""

    def stage(self, text: str) -> None:
        """A part of the bench begins."""

    def requested(self, run: Path, variants: Sequence[str]) -> None:
        """The run's folder is there; these variants were asked for, their baselines among them."""

    def planned(self, plans: Sequence[TrialPlan], seconds: dict[str, float]) -> None:
        """These trials will run, in this order; `seconds` estimates what each adds to the bench's time, by trial id."""

    def started(self, plan: TrialPlan) -> None:
        """A trial starts."""

    def stepped(self, plan: TrialPlan, steps: int) -> None:
        """A trial has taken so many steps."""

    def ended(self, record: TrialRecord) -> None:
        """A trial ended, and its record is written."""

    def measured(self, done: int, total: int) -> None:
        """The metrics of so many trained networks are computed."""

    def timed(self, done: int, total: int) -> None:
        """So many measurements of throughput are done."""

    def finished(self, text: str) -> None:
        """The bench is over: what it came to; nothing where the call was wrong, which an error says."""


class WarningObserver(Observer):
    """Gives out as Python's warnings what the user should know, and keeps quiet about the rest."""

    def warn(self, text: str) -> None:
        """Warn, at the line of the program that called aezoo."""
        warnings.warn(text, stacklevel=_level_of_the_caller())

    def ended(self, record: TrialRecord) -> None:
        """Warn of what failed, and why, and once of what is noted of a variant."""
        if record.status != "ok":
            self.warn(result(record))
        self._warn_of_notes(record)

    _noted: frozenset[str] = frozenset()

    def _warn_of_notes(self, record: TrialRecord) -> None:
        kinds = ("adapted", record.adaptations), ("note", record.notes)
        for line in [f"{kind}: {record.variant}: {text}" for kind, some in kinds for text in some]:
            if line not in self._noted:
                self._noted |= {line}
                self.warn(line)


def _level_of_the_caller() -> int:
    """Return how far above the caller of this the first line is that is neither aezoo's nor of a context manager."""
    own = (str(Path(__file__).parent.parent), contextlib.__file__)
    frame = sys._getframe(1)
    for level in itertools.count(1):
        if frame.f_back is None or not frame.f_code.co_filename.startswith(own):
            return level
        frame = frame.f_back
    raise AssertionError


TRUST = 0.05
"""The share of a bench after which its own pace counts for as much as what the preflight estimated."""


class Clock:
    """The time left: what the preflight estimated, scaled by how the trials so far kept to it."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.fraction: dict[str, float] = {}
        self.total = sum(seconds.values())
        self.done = 0.0
        self.started = time.monotonic()

    def stepped(self, trial_id: str, fraction: float) -> None:
        """A trial has taken this share of its steps."""
        self.done += self.seconds.get(trial_id, 0.0) * (fraction - self.fraction.get(trial_id, 0.0))
        self.fraction[trial_id] = fraction

    def ended(self, trial_id: str) -> None:
        """A trial has ended."""
        self.stepped(trial_id, 1.0)

    def left(self) -> str:
        """Return the time left, in words."""
        left = self.total - self.done
        if left <= 1e-9 * self.total:
            return "no trial left"
        # The first to end are baselines, whose little time is not spent in steps: they say hardly anything of the rest.
        pace = (time.monotonic() - self.started + TRUST * self.total) / (self.done + TRUST * self.total)
        return f"about {duration(left * pace)} left"


class LineObserver(WarningObserver):
    """Says on standard error where a bench is: a line for each trial that ends, with the time left."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.clock = Clock({})
        self.total = 0
        self.done = 0
        self.parts: dict[str, tuple[float, int]] = {}

    def chosen(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)

    def stage(self, text: str) -> None:
        self._say(text)

    def requested(self, run: Path, variants: Sequence[str]) -> None:  # noqa: ARG002 - each is named when it ends
        self.folder = run

    def planned(self, plans: Sequence[TrialPlan], seconds: dict[str, float]) -> None:
        self.clock = Clock(seconds)
        self.total, self.done = len(plans), 0
        into = f"{counted(len(plans), 'trial')} to run, into {self.folder}"
        self._say(into if plans else f"all trials are in {self.folder} already")

    def ended(self, record: TrialRecord) -> None:
        self.done += 1
        self.clock.ended(record.trial_id)
        self._say(f"[{self.done}/{self.total}] {result(record)}; {self.clock.left()}")

    def timed(self, done: int, total: int) -> None:
        self._progress("throughput", done, total)

    def measured(self, done: int, total: int) -> None:
        self._progress("metrics", done, total)

    def _progress(self, what: str, done: int, total: int) -> None:
        """Say how far a part of the bench is, and the time left, each tenth of it."""
        now = time.monotonic()
        started, tenths = self.parts.get(what, (now, 0))
        if what not in self.parts or done == 1:
            started, tenths = now, 0
        reached = 10 * done // total
        if reached > tenths and 1 < done < total:
            # The first of them started the clock.
            left = (now - started) / (done - 1) * (total - done)
            self._say(f"{what}: {done}/{total}; about {duration(left)} left")
        self.parts[what] = (started, reached)

    def _say(self, text: str) -> None:
        print(plain(text), file=sys.stderr)


class ScriptObserver(LineObserver):
    """Says where a bench is that a program called, and warns of what is noted of a variant."""

    def ended(self, record: TrialRecord) -> None:
        super().ended(record)
        self._warn_of_notes(record)


def result(record: TrialRecord) -> str:
    """Say in a line what became of a trial."""
    what = f"{record.label}: {record.status}"
    figure = record.validation_mse if record.tuning else record.test_mse
    if figure is None:
        return f"{what}: {record.reason}"
    name = "validation_mse" if record.tuning else "test_mse"
    return f"{what}, {name} {loss(figure)}, {record.train_seconds or 0:.1f} s"


class Trackers:
    """The plugins that listen to events. One that raises is told to the user, and not called again."""

    def __init__(self, plugins: Sequence[Plugin], observer: Observer) -> None:
        self._observer = observer
        self._hooks = [(plugin, name, hook) for plugin in plugins for name, hook in plugin.events.items()]
        self._silent: set[str] = set()
        self._run: Path | None = None

    def run_started(self, run: Path, recipe: Recipe, variants: Sequence[str]) -> None:
        """The run's folder is there."""
        self._run = run
        self._tell("aezoo_run_started", run=run, recipe=recipe, variants=list(variants))

    def trial_finished(self, record: TrialRecord) -> None:
        """A trial ended, and its record is written."""
        self._tell("aezoo_trial_finished", run=self._run, record=record)

    def trial_measured(self, record: TrialRecord, metrics: Mapping[str, float]) -> None:
        """Metrics of a trial's network are computed and written."""
        self._tell("aezoo_trial_measured", run=self._run, record=record, metrics=dict(metrics))

    def run_finished(self) -> None:
        """The table is written."""
        if self._run is not None:
            self._tell("aezoo_run_finished", run=self._run)

    def _tell(self, event: str, **facts: Any) -> None:
        for plugin, name, hook in self._hooks:
            if name == event and str(plugin) not in self._silent:
                try:
                    with quiet(), contextlib.chdir(Path.cwd()):
                        hook(**facts)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
                    self._silent.add(str(plugin))
                    self._observer.warn(
                        f"{plugin}: {event} raised {reason_of(error)}; it is told nothing more of this bench"
                    )
