"""What a call puts in the place of what other calls came to: which rows of theirs stay beside, and what to tell."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aezoo.machine import Environment
from aezoo.run.records import TrialPlan, TrialRecord, identity
from aezoo.run.snapshot import Snapshot
from aezoo.table.notes import listed

_ASKED = ("threads", "processes", "compiled")
"""What a call asks for beside its recipe: with another value both rows are wanted."""
_TUNED = ("lr", "tuning", "seed")
"""What tells trials of one row apart."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What stays of earlier calls.

    Args:
        beside: The trials of rows that stay beside this call's, by what each is called.
        baselines: Those of baselines that stay in the place of this call's.
        told: What the user should know.
    """

    beside: dict[str, list[str]] = field(default_factory=dict)
    baselines: dict[str, list[str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


def earlier_rows(
    run: Snapshot, plans: Mapping[str, Sequence[TrialPlan]], environment: Environment, *, keep_old: bool
) -> Earlier:
    """Return the rows of earlier calls that stay.

    A row that was made with other threads, in other processes or otherwise compiled stays. One whose plugin, aezoo or
    torch was another one gives its place to the new one, unless old rows are to be kept. A baseline stands once: with
    more seeds, where threads and the like are all that differs.

    Args:
        run: As it is before the call.
        plans: The trials of each variant that is asked for.
        environment: That of the call.
        keep_old: Whether each row stays, and what gave its place up before comes back.
    """
    records = run.records()
    stays = Earlier()
    told: dict[str, list[str]] = {}
    rows = {variant: [run.info().requested.get(variant, [])] for variant in plans}
    if keep_old:
        for variant, ids in _given_up(run, plans):
            rows[variant].append(ids)
    for variant, ids in ((variant, ids) for variant, each in rows.items() for ids in each):
        own = plans[variant]
        new = [plan.trial_id for plan in own]
        ended = [records[trial_id] for trial_id in ids if trial_id in records]
        if not ended or ids[: len(new)] == new or new[: len(ids)] == ids:
            continue
        before, after = identity(ended[0], ended[0].environment), identity(own[0], environment)
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        changed = sorted(set(changed) - set(_TUNED))
        if ended[0].baseline is not None:
            if set(changed) <= set(_ASKED) and len(ended) > len(new):
                stays.baselines[variant] = ids
        elif keep_old or set(changed) & set(_ASKED):
            name = f"{variant} ({', '.join(_term(part, ended[0]) for part in changed)})"
            stays.beside[name] = ids
            told.setdefault("in the table rows of before stand beside, as {}", []).append(name)
        elif changed:
            why = " and ".join(map(_changed, changed))
            told.setdefault(
                f"made anew, since {why}, in the place of the row of before (--keep-old keeps it): {{}}", []
            ).append(variant)
    stays.told.extend(line.format(listed(some)) for line, some in told.items())
    return stays


def _given_up(run: Snapshot, plans: Mapping[str, Sequence[TrialPlan]]) -> Iterator[tuple[str, list[str]]]:
    """Give the trials of variants that are in no row, those of one row together, in the order of their seeds."""
    shown = {trial_id for ids in run.info().rows.values() for trial_id in ids}
    shown |= {plan.trial_id for own in plans.values() for plan in own}
    rows: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in run.records().values():
        if record.variant in plans and record.trial_id not in shown and not record.tuning:
            facts = {name: fact for name, fact in identity(record, record.environment).items() if name not in _TUNED}
            rows.setdefault((record.variant, json.dumps(facts, sort_keys=True)), []).append(record)
    for (variant, _), records in rows.items():
        yield variant, [record.trial_id for record in sorted(records, key=lambda record: record.seed)]


def _term(name: str, record: TrialRecord) -> str:
    """Return what a row was made with, as it stands behind its name."""
    counts = {"threads": record.threads, "processes": record.processes}
    if name in counts:
        return f"{counts[name]} {name if counts[name] != 1 else name.removesuffix('es' * (name == 'processes') or 's')}"
    return {
        "compiled": "compiled" if record.compiled else "not compiled",
        "plugin source": f"source {record.plugin.source_sha256[:7]}",
        "aezoo": f"aezoo {record.environment.aezoo}",
        "torch": f"torch {record.environment.torch}",
    }.get(name, f"another {name}")


def _changed(name: str) -> str:
    return "its source has changed" if name == "plugin source" else f"{name} is another one"
