"""What a bench would run, and what that would take."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from aezoo.contract.executor import Outcome
from aezoo.run.records import Preflight


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """What a bench would run of one variant: `preflight` is None where every trial of it is in the run already."""

    variant: str
    trials: int
    preflight: Preflight | Outcome | None
    seconds: float

    def cells(self) -> dict[str, Any]:
        """Return the row's columns by name; None where there is no number."""
        facts = self.preflight if isinstance(self.preflight, Preflight) else None
        peak = None if facts is None else facts.peak_device_memory_bytes or facts.peak_memory_bytes
        failure = self.preflight if isinstance(self.preflight, Outcome) else None
        return {
            "variant": self.variant,
            "trials": self.trials,
            "objective": facts.objective if facts else None,
            "latent_size": facts.latent_size if facts else None,
            "num_params": facts.num_params if facts else None,
            "flops_per_image": facts.flops_per_image if facts else None,
            "peak_memory_mb": peak / 1e6 if peak is not None else None,
            "seconds": self.seconds,
            "status": f"{failure.status}: {failure.reason}" if failure else "to run" if facts else "in the run already",
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
        return any(isinstance(row.preflight, Outcome) for row in self.rows)

    def table(self) -> pd.DataFrame:
        """Return a row a variant: what the preflight learnt, and the seconds of its missing trials, one by one."""
        return pd.DataFrame([row.cells() for row in self.rows])
