"""What became of each trial that a run was asked for, and what the same command would do anew."""

from collections.abc import Iterable, Mapping

import pandas as pd

from aezoo import machine
from aezoo.errors import AezooError
from aezoo.harness.plan import is_current
from aezoo.machine import Environment
from aezoo.registry.names import Registry
from aezoo.registry.places import VERSION
from aezoo.run.records import Measurement, PluginSource, TrialRecord, identity
from aezoo.run.store import RunDirectory


def status(run: RunDirectory, registry: Registry) -> pd.DataFrame:
    """Return a row for each trial of each row of the table: variant, seed, state, and why it is not simply done.

    The state is `done`; the status of a trial that failed; `running`, where a living process is at it, and `waiting`,
    where it has no record while others run; `missing`, where it has none, or a metric that was asked for is not
    computed; or `stale`, where the same command would now do it anew: its plugin's source, a metric's, aezoo or torch
    are not what they were. A plugin that is not here, such as a file, is not judged, nor a row of before that is kept.

    Raises:
        AezooError: there is no run, or its run.json is damaged.
    """
    info, records = run.info(), run.records()
    measured: dict[str, dict[str, Measurement]] = {}
    for each in run.measurements():
        measured.setdefault(each.trial_id, {})[each.metric] = each
    latest: dict[tuple[str, int], TrialRecord] = {}
    for earlier in sorted(records.values(), key=lambda record: record.finished_at):
        latest[earlier.variant, earlier.seed] = earlier
    today = _Today(machine.capture(info.device, threads=1), registry)
    rows = []
    running = run.running()
    for variant, trial_ids in info.rows.items():
        for seed, trial_id in enumerate(trial_ids):
            record = records.get(trial_id)
            if trial_id in running:
                state, why = "running", "a bench is at it"
            elif record is None:
                why = _why_missing(latest.get((variant, seed)), today)
                state = "waiting" if running else "missing"
            elif variant not in info.earlier and (changes := today.changes(record)):
                state, why = "stale", changes
            elif record.status == "ok":
                state, why = _metrics_state(record, info.recipe.metrics, measured.get(trial_id, {}), registry)
            else:
                state, why = record.status, record.reason or ""
            rows.append({"variant": variant, "seed": seed, "state": state, "why": why})
    return pd.DataFrame(rows, columns=["variant", "seed", "state", "why"])


def _metrics_state(
    record: TrialRecord,
    requested: Iterable[str],
    measured: Mapping[str, Measurement],
    registry: Registry,
) -> tuple[str, str]:
    """Return whether the metrics of a trial that ended well are done, missing or stale, and why."""
    names = dict.fromkeys([*requested, *measured])
    missing, stale = [], []
    for name in names:
        measurement = measured.get(name)
        if measurement is None:
            missing.append(f"metric {name} not computed; a bench of it with --metrics {name} does")
            continue
        try:
            plugin = registry.metric(name)[1]
        except AezooError as error:
            stale.append(str(error))
            continue
        if not is_current(measurement, plugin, record):
            stale.append(f"metric {name}: its plugin's source changed; the network is not trained again")
    return ("stale" if stale else "missing" if missing else "done"), "; ".join(stale + missing)


def _why_missing(earlier: TrialRecord | None, today: "_Today") -> str:
    """Return what became of an earlier trial of the same name, if there was one."""
    if earlier is None:
        return "not run yet"
    changes = today.changes(earlier)
    return f"it ran before, with another: {changes}" if changes else "it ran before, on other terms"


class _Today:
    """What a trial depends on as it is today."""

    def __init__(self, environment: Environment, registry: Registry) -> None:
        self._environment = environment
        self._registry = registry
        self._sources: dict[str, PluginSource | str] = {}

    def changes(self, record: TrialRecord) -> str:
        """Return, field by field, what makes the trial of a record another one today; empty where nothing does."""
        source = self._source(record)
        if isinstance(source, str):
            return source
        today = identity(record, self._environment) | {"plugin source": source.source_sha256}
        return "; ".join(
            "plugin source changed" if name == "plugin source" else f"{name} {before} → {today[name]}"
            for name, before in identity(record, record.environment).items()
            if before != today[name]
        )

    def _source(self, record: TrialRecord) -> PluginSource | str:
        """Return where the variant of a record comes from today, or why it cannot be had."""
        variant = record.variant
        named = {plugin.distribution for plugin in self._registry.plugins}
        if record.plugin.version == VERSION and record.plugin.distribution not in named:
            # A file or a module that the call does not name: it is as it was, for all that is known.
            return record.plugin
        if variant not in self._sources:
            try:
                self._sources[variant] = self._registry.plugin(self._registry.resolve(variant)).source
            except AezooError as error:
                self._sources[variant] = str(error)
        return self._sources[variant]
