"""The trials of a run as they are read, those that changed from their files: records, and the means of test errors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aezoo.run.index import Index, SeenFile
from aezoo.run.means import Means, Vector
from aezoo.run.records import TrialRecord

Read = Callable[[Path], tuple[TrialRecord, Vector | None] | None]
"""Reads a record and, where its trial has some, its test errors; None where one of them is damaged, and set aside."""


def read_trials(
    index: Index,
    folder: Path,
    requested: Mapping[str, Sequence[str]],
    *,
    beside: Callable[[str], str],
    read: Read,
) -> dict[str, TrialRecord]:
    """Return the records in a folder, by trial id, in the order of their files; what changed is read.

    Whatever the number of trials, the test errors of one variant at a time are in memory; their means are kept in the
    index.

    Args:
        index: Of the run.
        folder: Where the records lie.
        requested: The ids of each variant's trials, in the order of their seeds.
        beside: Says, by the name of a record's file, where the file of its trial's test errors lies.
        read: Reads the files of a trial.
    """
    kept, changed = index.unchanged(folder, TrialRecord, beside)
    records = {record.trial_id: record for record in kept.values()}
    waiting = {found.name.removesuffix(".json"): found for found in changed}

    def take(trial_id: str) -> Vector | None:
        found = waiting.pop(trial_id, None) or SeenFile(f"{trial_id}.json", None)
        trial = read(folder / found.name)
        if trial is None:
            records.pop(trial_id, None)
            return None
        records[trial_id] = index.keep(folder, found, trial[0])
        return trial[1]

    for variant, trial_ids in requested.items():
        errors = {trial_id: take(trial_id) for trial_id in trial_ids if trial_id in waiting}
        while True:
            scored = scored_of([records[trial_id] for trial_id in trial_ids if trial_id in records])
            hashes = hashes_of(scored)
            covered = index.covered(variant, hashes)
            added = scored[covered:]
            unread = [record.trial_id for record in added if record.trial_id not in errors]
            if not unread:
                break
            errors |= {trial_id: take(trial_id) for trial_id in unread}
        vectors = [vector for record in added if (vector := errors[record.trial_id]) is not None]
        if vectors:
            earlier = index.means(variant, hashes[:covered]) if covered else None
            index.keep_means(variant, hashes, earlier.plus(vectors) if earlier else Means.of(vectors))
    for trial_id in list(waiting):
        take(trial_id)
    return dict(sorted(records.items(), key=lambda item: f"{item[0]}.json"))


def scored_of(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return those of some records whose trials have test errors."""
    return [record for record in records if record.test_errors_sha256 is not None]


def hashes_of(records: Sequence[TrialRecord]) -> list[str]:
    """Return the hashes of the files of test errors of some trials that have them."""
    return [record.test_errors_sha256 or "" for record in records]
