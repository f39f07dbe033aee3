"""A run as Python has it: what can be read from its folder."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aezoo.harness import notebook
from aezoo.run.records import TrialRecord
from aezoo.run.snapshot import Snapshot
from aezoo.run.store import RunDirectory
from aezoo.table import frames, rows


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: one results directory, and what can be read from it.

    What `bench` returns speaks of the variants of its call, and of the baselines beside them; `whole` of all that its
    folder holds.
    """

    path: Path = field(kw_only=False)
    snapshot: Snapshot | None = field(default=None, compare=False, repr=False)
    """The whole run as it was read when its bench ended."""
    trials: int = field(default=0, compare=False, repr=False)
    """How many trials ended while it was benched."""
    variants: tuple[str, ...] | None = field(default=None, compare=False, repr=False)
    """The variants that it speaks of; None for all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def whole(self) -> "Run":
        """All that is in the folder, whoever asked for it."""
        return Run(path=self.path)

    def table(self) -> pd.DataFrame:
        """Return the table as the records are now: a row a variant, best first; `aezoo.contract.columns` has what each
        column means."""
        return rows.summarise(self._read())

    def records(self) -> list[TrialRecord]:
        """Return the records of all trials that ended, those that chose learning rates among them."""
        records = RunDirectory(self.path).records().values()
        return [each for each in records if self.variants is None or each.variant in self.variants]

    def curves(self) -> pd.DataFrame:
        """Return the learning curves: a row for each variant, seed and point."""
        return frames.curves(self._read())

    def errors(self) -> pd.DataFrame:
        """Return the test error of each image: a row for each variant, seed and image."""
        return frames.errors(self._read())

    def reconstructions(self, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
        """Return the reconstructions that the run keeps, (N, C, H, W), uint8, of each variant's trial from a seed."""
        return frames.reconstructions(self._read(), seed)

    def test_images(self) -> NDArray[np.uint8]:
        """Return the test images that are reconstructed in it, (N, C, H, W), uint8."""
        return frames.kept_images(RunDirectory(self.path))

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it: its table in groups, and where its page is."""
        return notebook.run_html(self._read())

    def _read(self) -> Snapshot:
        """Read what it speaks of, as it is now."""
        run = RunDirectory(self.path).load()
        return run if self.variants is None else run.of(self.variants)

    @property
    def failed(self) -> bool:
        """Whether some trial that was asked for has no loss."""
        return bool((self.table()["status"] != "ok").any())
