"""What a call puts in the place of what other calls came to: which rows of theirs stay beside, and what to tell."""

from collections.abc import Mapping, Sequence

from aezoo.machine import Environment
from aezoo.run.records import TrialPlan, TrialRecord, identity
from aezoo.run.snapshot import Snapshot
from aezoo.table.notes import listed

_ASKED = ("threads", "processes", "compiled")
"""What a call asks for beside its recipe: with another value both rows are wanted."""
_TUNED = ("lr", "tuning", "seed")
"""What tells trials of one row apart."""


def superseded(
    run: Snapshot, plans: Mapping[str, Sequence[TrialPlan]], environment: Environment, *, keep_old: bool
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the rows of earlier calls that stay, by what each is called, and what their user should know.

    A row that was made with other threads, in other processes or otherwise compiled stays. One whose plugin, aezoo or
    torch was another one gives its place to the new one, unless old rows are to be kept. A baseline stands once.

    Args:
        run: As it is before the call.
        plans: The trials of each variant that is asked for.
        environment: That of the call.
        keep_old: Whether each row stays.
    """
    records = run.records()
    rows: dict[str, list[str]] = {}
    told: dict[str, list[str]] = {}
    for variant, own in plans.items():
        ids, new = run.info().requested.get(variant, []), [plan.trial_id for plan in own]
        ended = [records[trial_id] for trial_id in ids if trial_id in records]
        if not ended or ids[: len(new)] == new or new[: len(ids)] == ids:
            continue
        before, after = identity(ended[0], ended[0].environment), identity(own[0], environment)
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        changed = sorted(set(changed) - set(_TUNED))
        if ended[0].baseline is None and (keep_old or set(changed) & set(_ASKED)):
            name = f"{variant} ({', '.join(_term(part, ended[0]) for part in changed)})"
            rows[name] = ids
            told.setdefault("made anew; in the table the row of before stays beside, as {}", []).append(name)
        elif changed and ended[0].baseline is None:
            why = " and ".join(map(_changed, changed))
            told.setdefault(
                f"made anew, since {why}, in the place of the row of before (--keep-old keeps it): {{}}", []
            ).append(variant)
    return rows, [line.format(listed(some)) for line, some in told.items()]


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
