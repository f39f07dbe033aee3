"""What a bench would run, as `aezoo bench --dry-run` shows it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from aezoo import machine
from aezoo.contract.executor import Outcome
from aezoo.errors import AezooError
from aezoo.machine import Environment
from aezoo.registry.names import Registry
from aezoo.run.records import Preflight, TrialRecord, identity
from aezoo.run.store import RunDirectory


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """What a bench would run of one variant: `known` is None where every trial of it is in the run already."""

    variant: str
    trials: int
    known: Preflight | Outcome | None
    seconds: float

    def cells(self) -> dict[str, Any]:
        """Return the row's columns by name; None where there is no number."""
        known = self.known if isinstance(self.known, Preflight) else None
        peak = None if known is None else known.peak_device_memory_bytes or known.peak_memory_bytes
        status = "to run" if known else "in the run already"
        return {
            "variant": self.variant,
            "trials": self.trials,
            "objective": known.objective if known else None,
            "latent_size": known.latent_size if known else None,
            "num_params": known.num_params if known else None,
            "flops_per_image": known.flops_per_image if known else None,
            "peak_memory_mb": peak / 1e6 if peak is not None else None,
            "seconds": self.seconds,
            "status": f"{self.known.status}: {self.known.reason}" if isinstance(self.known, Outcome) else status,
        }


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a bench would run, and an estimate of its seconds, throughput measurement included."""

    rows: list[PreviewRow]
    seconds: float

    @property
    def trials(self) -> int:
        """How many trials would run."""
        return sum(row.trials for row in self.rows)

    @property
    def refused(self) -> bool:
        """Whether some variant could not be built and stepped."""
        return any(isinstance(row.known, Outcome) for row in self.rows)

    def table(self) -> pd.DataFrame:
        """Return a row a variant: what the preflight learnt, and the seconds of its missing trials, one by one."""
        return pd.DataFrame([row.cells() for row in self.rows])


def status(run: RunDirectory, registry: Registry) -> pd.DataFrame:
    """Return a row for each trial that was asked for: variant, seed, state, and why it is not simply done.

    The state is `done`; the status of a trial that failed; `missing`, where there is no record; or `stale`, where
    the same command would now train another trial: its plugin's source, aezoo or torch are not what they were.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    info = run.info()
    now = machine.capture(info.device, info.environment.threads)
    records = run.records()
    rows = []
    for variant, trial_ids in info.requested.items():
        for seed, trial_id in enumerate(trial_ids):
            record = records.get(trial_id)
            if record is None:
                state, why = "missing", _why_missing(variant, seed, records, now, registry)
            elif changed := _changes(record, now, registry):
                state, why = "stale", changed
            else:
                state = "done" if record.status == "ok" else record.status
                why = record.reason or ""
            rows.append({"variant": variant, "seed": seed, "state": state, "why": why})
    return pd.DataFrame(rows, columns=["variant", "seed", "state", "why"])


def _why_missing(variant: str, seed: int, records: dict[str, TrialRecord], now: Environment, registry: Registry) -> str:
    """Return what became of an earlier trial of the same name, if there was one."""
    earlier = [one for one in records.values() if (one.variant, one.seed) == (variant, seed)]
    if not earlier:
        return "not run yet"
    changed = _changes(max(earlier, key=lambda one: one.finished_at), now, registry)
    return f"it ran before, with another: {changed}" if changed else "it ran before, on other terms"


def _changes(record: TrialRecord, now: Environment, registry: Registry) -> str:
    """Return, field by field, what makes the trial of a record another one today; empty where nothing does."""
    try:
        source = registry.plugin(registry.resolve(record.variant)).source
    except AezooError as error:
        return str(error)
    today = identity(record.model_copy(update={"plugin": source}), now)
    return "; ".join(
        f"{name} changed" if name in ("plugin source", "metrics") else f"{name} {before} → {today[name]}"
        for name, before in identity(record, record.environment).items()
        if before != today[name]
    )
