"""A run as it was at one moment: what everything about tables is made of."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, TypeVar

from aezoo.errors import StorageError
from aezoo.machine import Environment
from aezoo.run.index import Index
from aezoo.run.means import Means
from aezoo.run.records import Measurement, RunInfo, Timing, TrialPlan, TrialRecord
from aezoo.run.repetition import Repetition
from aezoo.run.store import INDEX, RunDirectory, timing_name
from aezoo.run.trials import hashes_of, scored_of

T = TypeVar("T")


class Snapshot(RunDirectory):
    """A run that is read once: what other processes add to its records meanwhile is not seen."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._index = Index(self._inside(INDEX))
        self._contents: dict[str, Any] = {}
        # What was asked for comes first: what others ask for from here on is no part of this snapshot.
        for part in (self.info, self.records, self.measurements, self.anchors, self.timings, self.running):
            part()
        self._index.save()

    def load(self) -> "Snapshot":
        """Return this snapshot: nothing is read again."""
        return self

    def info(self) -> RunInfo:
        """Return run.json as it was read."""
        return self._once("info", super().info)

    def records(self) -> dict[str, TrialRecord]:
        """Return all records, by trial id, as they were read."""
        return self._once("records", super().records)

    def measurements(self) -> list[Measurement]:
        """Return the metrics of all trials as they were read."""
        return self._once("measurements", super().measurements)

    def anchors(self) -> list[Repetition]:
        """Return how recorded trials came out when they were repeated, as it was read."""
        return self._once("anchors", super().anchors)

    def timings(self) -> dict[str, Timing]:
        """Return the timings of all variants on all machines, by the names of their files, as they were read."""
        return self._once("timings", super().timings)

    def running(self) -> set[str]:
        """Return the ids of the trials that living processes were at."""
        return self._once("running", super().running)

    def of(self, variants: Collection[str]) -> "Snapshot":
        """Return this snapshot as if nothing but some of its variants had been asked for."""
        narrowed = copy(self)
        requested = {name: ids for name, ids in self.info().requested.items() if name in variants}
        info = self.info().model_copy(update={"requested": requested, "earlier": {}})
        narrowed._contents = {**self._contents, "info": info}
        narrowed._contents.pop("by_variant", None)
        return narrowed

    def read_timing(self, plan: TrialPlan, environment: Environment) -> Timing | None:
        """Return the timing of a variant as it was read."""
        return self.timings().get(timing_name(plan, environment))

    def means(self, variant: str, records: Sequence[TrialRecord]) -> Means | None:
        """Return what the test errors of some of a variant's trials come to; None where none of them has any.

        Raises:
            StorageError: they were not all asked for when this was read, and cannot be read now.
        """
        scored = scored_of(records)
        if not scored:
            return None
        means = self._index.means(variant, hashes_of(scored))
        return means or Means.of(self.read_test_errors(record) for record in scored)

    def plus(self, record: TrialRecord) -> "Snapshot":
        """Return this snapshot with a record that was written since; nothing but its own files is read.

        Where those are damaged it is left out, as `records` would.
        """
        later = copy(self)
        later._contents = {**self._contents, "records": {**self.records(), record.trial_id: record}}
        later._contents.pop("by_variant", None)
        try:
            if record.test_errors_sha256 is not None:
                errors = self.read_test_errors(record)
                before, after = (scored_of(run.by_variant().get(record.variant, [])) for run in (self, later))
                if record.trial_id not in {earlier.trial_id for earlier in before}:
                    earlier = self._index.means(record.variant, hashes_of(before))
                    means = earlier.plus([errors]) if earlier else Means.of([errors])
                    self._index.keep_means(record.variant, hashes_of(after), means)
        except StorageError:
            return self
        return later

    def by_variant(self) -> dict[str, list[TrialRecord]]:
        """Return the records of each variant that was asked for, in the order of their seeds; those that there are."""
        records = self.records()
        return self._once(
            "by_variant",
            lambda: {
                variant: [records[trial_id] for trial_id in trial_ids if trial_id in records]
                for variant, trial_ids in self.info().rows.items()
            },
        )

    @contextmanager
    def _indexed(self) -> Iterator[Index]:
        yield self._index

    def _once(self, key: str, read: Callable[[], T]) -> T:
        if key not in self._contents:
            self._contents[key] = read()
        return self._contents[key]  # type: ignore[no-any-return]  # what `read` returned
