"""Print tables and rows on standard output, and what is said beside them on standard error."""

import contextlib
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from aezoo.cli.app import say
from aezoo.contract.columns import FIGURES
from aezoo.errors import AezooError, none_of, plain
from aezoo.harness.observer import LineObserver, result
from aezoo.run.records import TrialPlan, TrialRecord
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import REPORT, RunDirectory
from aezoo.table import latex, render, rows, views
from aezoo.table.across import leaderboard
from aezoo.table.cells import chosen, sparkline
from aezoo.table.formats import PROGRAMS, check_format
from aezoo.table.groups import UNFINISHED
from aezoo.table.layout import lay_out
from aezoo.table.notes import notes, verdicts

_OF_NO_RUN = dict.fromkeys(FIGURES, "it is of several runs, and one was given") | {"code": "group has taken its place"}
_OF_NO_RUNS = dict.fromkeys([*views.VIEWS, "code"], "it is of one run, and several were given")
"""What is said of a view that another number of runs has."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a user wants to see a table: its format, its view, what it is sorted by, and which columns."""

    fmt: str = "rich"
    view: str | None = None
    sort: str | None = None
    columns: Sequence[str] | None = None

    @property
    def for_programs(self) -> bool:
        """Whether a program reads it: one table then, with every digit."""
        return self.fmt in PROGRAMS

    def checked_view(self, views: Collection[str], default: str, others: Mapping[str, str]) -> str:
        """Return the view, or the default one.

        Args:
            views: Those that there are.
            default: The one that is taken where none is asked for.
            others: What is to be said of other ones.

        Raises:
            AezooError: there is no such view.
        """
        view = self.view or default
        if view in others:
            raise AezooError(f"no view {view!r} here: {others[view]}; give one of {', '.join(views)}")
        if view not in views:
            raise none_of("view", view, list(views))
        return view


def print_run(run: RunDirectory, look: Look) -> pd.DataFrame:
    """Print a run in one of its views, what the evidence supports, its notes beside it, and return the flat table.

    People get it in groups where no view is named, and programs, who read csv and json, in one table.

    Raises:
        AezooError: no such format, view or column; or there is no run.
    """
    check_format(look.fmt)
    view = look.checked_view(views.VIEWS, "flat" if look.for_programs else "group", _OF_NO_RUN)
    table = rows.summarise(run)
    # Two of the views are made of the table that there is.
    everything = () if look.for_programs and look.columns is None else list(map(str, table))
    shown = table if view == "flat" else views.grouped(table, everything) if view == "group" else views.VIEWS[view](run)
    print_table(shown, look, run=run)
    # What is beside a table of losses by latent_dim is its recipe; the rest is told of columns that it has not.
    for line in notes(run, table)[: 1 if view in ("rate", "tuning") else None]:
        say(line)
    if view == "group":
        # They are what a screen ends with.
        _print_sentences(verdicts(run, table), look.fmt)
    page = run.path / REPORT
    say(f"run: {run.path}")
    if page.is_file():
        say(f"page: {page}")
    return table


def print_leaderboard(runs: Sequence[RunDirectory], look: Look) -> None:
    """Print how variants stand over the data sets of several runs, what that comes to, and the notes beside it.

    Raises:
        AezooError: no such format, view of several runs, or column; or there is no run.
    """
    check_format(look.fmt)
    view = look.checked_view(FIGURES, "mse", _OF_NO_RUNS)
    board = leaderboard(runs)
    print_table(board.view(view), look)
    for line in board.notes(view):
        say(line)
    _print_sentences(list(board.sentences().values()), look.fmt)


def _print_sentences(lines: Sequence[str], fmt: str) -> None:
    """Print what the evidence supports below a table that a person reads."""
    if fmt in ("rich", "simple", "plain", "github", "pipe"):
        for line in ["", *lines]:
            say(line, sys.stdout)


def print_table(table: pd.DataFrame, look: Look, *, run: RunDirectory | None = None) -> None:
    """Print a table as it is wanted: with colours where it is read on a terminal, and as wide as that is.

    Args:
        table: A view of runs.
        look: How it is wanted.
        run: The run that it is of, which says whether more of a metric is better.

    Raises:
        AezooError: there is no such column.
    """
    fmt = "simple" if look.fmt == "rich" else look.fmt
    names = None if look.columns is None else chosen(table, look.columns, for_people=not look.for_programs)
    asked: list[str] = []
    if look.sort is not None:
        asked = chosen(table, [look.sort], for_people=False)[-1:]
        groups = list(dict.fromkeys(table["group"])) if table.columns[0] == "group" and not look.for_programs else []
        table = views.sort(table, asked[0], run)
        if groups:
            table = table.sort_values("group", key=lambda some: some.map(groups.index), kind="stable")
    console = console_on(stderr=False)
    if look.fmt in latex.FORMATS and "group_rank" in table and run is not None:
        print(latex.latex(run, table, look.fmt, names), end="")
        return
    if look.fmt != "rich" or not (console.is_terminal or table.columns[0] == "group"):
        text = render.render(table, fmt, names)
        print(text, end="" if text.endswith("\n") else "\n")
        return
    layout = lay_out(table, console.width if console.is_terminal else None, names=names, asked=asked)
    for line, style in layout.lines:
        console.print(Text(line, style), soft_wrap=True)
    if layout.left_out:
        missing = ", ".join(layout.left_out)
        say(f"not shown here: {missing}; a wider terminal, --columns or --format simple has them")


def console_on(*, stderr: bool) -> Console:
    """Return a console on standard error, or on standard output."""
    return _Console(stderr=stderr)


class _Console(Console):
    """Where a reader has what it wants, `main` says how that ends; rich would leave with the status of a failure."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class PlainObserver(LineObserver):
    """Its lines, on a console: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.run: Path | None = None
        self.variants: set[str] = set()

    def warn(self, text: str) -> None:
        self._say(f"warning: {text}")

    def requested(self, run: Path, variants: Sequence[str]) -> None:
        super().requested(run, variants)
        self.run, self.variants = run, set(variants)

    def _say(self, text: str) -> None:
        self.console.print(plain(text), markup=False, highlight=False, soft_wrap=not self.console.is_terminal)


class LiveObserver(PlainObserver):
    """The growing table, what runs and how far it is, and the time left: for a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f} steps")
        )
        self.tasks: dict[str, TaskID] = {}
        self.snapshot: Snapshot | None = None
        self.head = Text("")
        self.lines: list[Text] = []
        self.curves: dict[str, str] = {}
        self.latest = ""
        self.table_due = 0.0
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

    def requested(self, run: Path, variants: Sequence[str]) -> None:
        super().requested(run, variants)
        # Read once; what ends is added to it.
        self.snapshot = RunDirectory(run).load()

    def started(self, plan: TrialPlan) -> None:
        steps = plan.recipe.num_steps(plan.dataset.num_train)
        name = plain(plan.label).replace("[", "\\[")
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
            self.warn(result(record))
        self.latest = record.variant
        if self.snapshot:
            self.snapshot = self.snapshot.plus(record)
            if record.curve and not record.tuning:
                self.curves[record.variant] = sparkline([loss for _, loss in record.curve])
            begun = time.monotonic()
            # A table of very many takes a while: a tenth of the time goes into it, and no more.
            if begun >= self.table_due or self.done >= self.total:
                self._draw_table(self.snapshot)
                self.table_due = time.monotonic() + 9 * (time.monotonic() - begun)
        self._tell()

    def _draw_table(self, snapshot: Snapshot) -> None:
        table = views.by_group(snapshot)
        unfinished = table["status"].isin(UNFINISHED)
        begun = table[(table["seeds"] > 0) | ~unfinished]
        # What it says of these goes without saying while they run.
        begun = begun.assign(status=begun["status"].mask(unfinished, "ok"))
        layout = lay_out(begun, self.console.width, curves=self.curves)
        self.lines = [Text(line, style) for line, style in layout.lines]

    def timed(self, done: int, total: int) -> None:
        self.head = Text(f"measuring throughput, one variant at a time: {done}/{total}")

    def measured(self, done: int, total: int) -> None:
        self.head = Text(f"computing metrics: {done}/{total}")

    def _tell(self) -> None:
        busy = psutil.cpu_percent() * (psutil.cpu_count() or 1) / 100
        self.head = Text(
            f"{self.done}/{self.total} trials, {len(self.tasks)} running; "
            f"{busy:.1f} of {psutil.cpu_count()} cores busy; {self.clock.left()}"
        )

    def _render(self) -> Group:
        room = self.console.height - len(self.tasks) - 3
        return Group(*self._in_sight(room), self.bars, self.head)

    def _in_sight(self, room: int) -> list[Text]:
        """Return the lines of the table for which there is room: its heading, and those about the latest that ended."""
        if len(self.lines) <= room or room < 4:
            return self.lines if room >= 4 else []
        heading, body = self.lines[:1], self.lines[1:]
        latest = next((place for place, line in enumerate(body) if self.latest and self.latest in line.plain), 0)
        room -= 2
        first = max(0, min(latest - room // 2, len(body) - room))
        left = len(body) - room
        return [*heading, *body[first : first + room], Text(f"… {left} more lines; aezoo table {self.run}", "dim")]


@contextlib.contextmanager
def observer_on(console: Console) -> Iterator[PlainObserver]:
    """Yield an observer that shows a bench on a console: live on a terminal, which is left as it was; else in lines.

    A dumb terminal, which cannot move its cursor, gets lines too.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainObserver(console)
        return
    observer = LiveObserver(console)
    try:
        yield observer
    finally:
        observer.stop()
