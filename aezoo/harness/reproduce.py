"""Run a recorded trial again, and say whether it comes out as it did."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from aezoo.errors import AezooError, did_you_mean
from aezoo.harness.call import open_grid
from aezoo.harness.observer import Observer
from aezoo.run.records import Repetition, TrialRecord, repeated
from aezoo.run.store import RunDirectory


def reproduce(
    run: str | Path,
    trial: str,
    *,
    plugins: Sequence[str | Path] = (),
    block: Sequence[str] = (),
    data_dir: str | Path | None = None,
    observer: Observer | None = None,
) -> Repetition:
    """Run a trial again from its record: the same variant, recipe, seed, device, threads. The run stays as it is.

    Args:
        run: The run's folder.
        trial: The trial's id, or its beginning where that is enough.
        plugins: Files or modules of plugins that are not installed, as for `bench`.
        block: Plugins or distributions to be left out, as for `bench`.
        data_dir: Where data sets are kept, as for `bench`.
        observer: Told what happens.

    Raises:
        AezooError: there is no such trial; its architecture, data or device are not here; or the data are others now.
    """
    record = _find(RunDirectory(run), trial)
    with (
        tempfile.TemporaryDirectory(prefix="aezoo-") as folder,
        open_grid(
            [record.variant if "[" in record.variant else f"{record.variant}[]"], plugins=plugins, block=block,
            recipe=record.recipe.change(metrics=[]), out=Path(folder) / "run", data_dir=data_dir,
            device=record.device, threads=record.threads, compiled=record.compiled, observer=observer,
        ) as (grid, (variant,)),
    ):  # fmt: skip
        if grid.info.fingerprint != record.fingerprint:
            raise AezooError(
                f"cannot repeat {record.trial_id}: the images of {record.dataset.name} are others than it was trained "
                f"on, or this aezoo reads its recipe otherwise"
            )
        after = grid.rerun(variant, record.seed, grid.run.path)
    return repeated(record, after)


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
