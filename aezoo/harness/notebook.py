"""A bench in a notebook: its progress in the cell, and its run as a table in groups."""

import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aezoo.errors import counted, plain
from aezoo.harness.observer import Clock, WarningObserver
from aezoo.run.records import TrialPlan, TrialRecord
from aezoo.run.store import REPORT, RunDirectory
from aezoo.table import render, rows, views
from aezoo.table.notes import headline, notes, verdicts


def observer() -> "NotebookObserver | None":
    """Return what shows a bench in the cell that called it; None where this is no notebook."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return NotebookObserver() if shell is not None and hasattr(shell, "kernel") else None


class NotebookObserver(WarningObserver):
    """How far a bench is and the time left, in a notebook's cell; what the user should know, as warnings."""

    def __init__(self) -> None:
        from IPython import display

        # IPython has no types.
        self.ipython: Any = display
        self.clock = Clock({})
        self.done = self.total = 0
        self.running: dict[str, str] = {}
        self.handle: Any = None

    def stage(self, text: str) -> None:
        self._show(text)

    def chosen(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._show(line)

    def requested(self, run: Path, variants: Sequence[str]) -> None:
        self._show(f"{len(variants)} variants, into {run}")

    def planned(self, plans: Sequence[TrialPlan], seconds: dict[str, float]) -> None:
        self.clock, self.done, self.total = Clock(seconds), 0, len(plans)
        self._show(f"{counted(len(plans), 'trial')} to run")

    def started(self, plan: TrialPlan) -> None:
        self.running[plan.trial_id] = plan.label
        self._show("")

    def stepped(self, plan: TrialPlan, steps: int) -> None:
        self.clock.stepped(plan.trial_id, steps / plan.recipe.num_steps(plan.dataset.num_train))
        self._show("")

    def ended(self, record: TrialRecord) -> None:
        super().ended(record)
        self.done += 1
        self.clock.ended(record.trial_id)
        self.running.pop(record.trial_id, None)
        self._show("")

    def timed(self, done: int, total: int) -> None:
        self._show(f"measuring throughput, one variant at a time: {done}/{total}")

    def measured(self, done: int, total: int) -> None:
        self._show(f"computing metrics: {done}/{total}")

    def finished(self, text: str) -> None:
        # What was shown of a wrong call goes: its error says what is wrong.
        if text:
            self._show(text)
        elif self.handle is not None:
            self._put("")

    def _show(self, text: str) -> None:
        """Show a text, or how far the trials are."""
        if not text:
            running = ", ".join(self.running.values()) or "none"
            text = f"{self.done}/{self.total} trials; {self.clock.left()}; running: {running}"
        bar = f"<progress value='{self.done}' max='{max(1, self.total)}'></progress> "
        self._put(f"<p>{bar}{html.escape(plain(text))}</p>")

    def _put(self, content: str) -> None:
        if self.handle is None:
            self.handle = self.ipython.display(self.ipython.HTML(content), display_id=True)
        else:
            self.handle.update(self.ipython.HTML(content))


def run_html(run: RunDirectory) -> str:
    """Return what a notebook shows of a run: what its evidence supports, its table in groups, its notes, its page."""
    run = run.load()
    table = rows.summarise(run)
    first, second = headline(run, table)
    page = run.path / REPORT
    where = f"<p>page: {html.escape(str(page))}</p>" if page.is_file() else ""
    judged = "".join(f"<p>{html.escape(line)}</p>" for line in verdicts(run, table))
    told = "".join(f"<li>{html.escape(line)}</li>" for line in notes(run, table))
    return (
        f"<p><b>{html.escape(plain(first))}</b> {html.escape(plain(second))}</p>"
        f"{render.render(views.grouped(table), 'html')}{judged}<ul>{told}</ul>{where}"
    )
