"""Say of every trial of a run whether it is done, missing or stale, and why."""

import pandas as pd

from aezoo import machine
from aezoo.errors import AezooError
from aezoo.registry.names import Registry
from aezoo.run.records import Environment, TrialRecord, identity
from aezoo.run.store import RunDirectory


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
