"""Run a recorded trial again, and say whether it comes out as it did."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from aezoo.benchmark import open_grid
from aezoo.compare import TOLERANCE
from aezoo.errors import AezooError, did_you_mean
from aezoo.grid import Observer
from aezoo.records import TrialRecord
from aezoo.store import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A trial's record, that of its repetition, and what differs between the circumstances, a phrase each."""

    before: TrialRecord
    after: TrialRecord
    differences: list[str]

    @property
    def verdict(self) -> str:
        """`bit-equal`, every test image's error among it; `within the band` of 1 %; or `not reproduced`."""
        before, after = self.before, self.after
        if before.status != after.status:
            return "not reproduced"
        if before.test_mse is None or after.test_mse is None:
            return "bit-equal" if before.reason == after.reason else "within the band"
        if (before.test_mse, before.test_errors_sha256) == (after.test_mse, after.test_errors_sha256):
            return "bit-equal"
        change = abs(after.test_mse - before.test_mse)
        return "within the band" if change <= TOLERANCE * before.test_mse else "not reproduced"


def reproduce(
    run: str | Path, trial: str, *, data_dir: str | Path | None = None, observer: Observer | None = None
) -> Reproduction:
    """Run a trial again from its record: the same variant, recipe, seed, device, threads. The run stays as it is.

    Args:
        run: The run's folder.
        trial: The trial's id, or its beginning where that is enough.
        data_dir: Where data sets are kept, as for `bench`.
        observer: Told what happens.

    Raises:
        AezooError: there is no such trial; its architecture, data or device are not here; or the data are others now.
    """
    record = _find(RunDirectory(run), trial)
    with (
        tempfile.TemporaryDirectory(prefix="aezoo-") as folder,
        open_grid(
            [record.variant if "[" in record.variant else f"{record.variant}[]"], recipe=record.recipe,
            out=Path(folder) / "run", data_dir=data_dir, device=record.device, threads=record.threads,
            compiled=record.compiled, observer=observer,
        ) as (grid, (variant,)),
    ):  # fmt: skip
        if grid.info.fingerprint != record.fingerprint:
            raise AezooError(
                f"cannot repeat {record.trial_id}: the images of {record.dataset.name} are others than it was trained "
                f"on, or this aezoo reads its recipe otherwise"
            )
        after = grid.rerun(variant, record.seed)
    return Reproduction(before=record, after=after, differences=_differences(record, after))


def _find(run: RunDirectory, trial: str) -> TrialRecord:
    records = run.require().records()
    if trial in records:
        return records[trial]
    found = [one for one in records if one.startswith(trial)]
    if len(found) == 1:
        return records[found[0]]
    if found:
        raise AezooError(f"{trial!r} is the beginning of {len(found)} trials: {', '.join(sorted(found))}; give one")
    raise AezooError(
        f"no trial {trial!r} in {run.path}; its trials are the names in {run.path / 'trials'}."
        + did_you_mean(trial, records)
    )


def _differences(before: TrialRecord, after: TrialRecord) -> list[str]:
    one, other = ({**record.environment.model_dump(), **record.plugin.model_dump()} for record in (before, after))
    return [
        "plugin source changed" if name == "source_sha256" else f"{name} {value} → {other[name]}"
        for name, value in one.items()
        if value != other[name]
    ]
