"""What a bench would run, as `aezoo bench --dry-run` shows it."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from aezoo.contract.executor import Outcome
from aezoo.run.records import Preflight


@dataclass(frozen=True, kw_only=True)
class PreviewRow:
    """What a bench would run of one variant: `known` is None where every trial of it is in the run already."""

    variant: str
    trials: int
    known: Preflight | Outcome | None
    seconds: float

    def cells(self) -> dict[str, Any]:
        """Return the row's columns by name; None where there is no number."""
        known = self.known if isinstance(self.known, Preflight) else None
        peak = None if known is None else known.peak_device_memory_bytes or known.peak_memory_bytes
        status = "to run" if known else "in the run already"
        return {
            "variant": self.variant,
            "trials": self.trials,
            "objective": known.objective if known else None,
            "latent_size": known.latent_size if known else None,
            "num_params": known.num_params if known else None,
            "flops_per_image": known.flops_per_image if known else None,
            "peak_memory_mb": peak / 1e6 if peak is not None else None,
            "seconds": self.seconds,
            "status": f"{self.known.status}: {self.known.reason}" if isinstance(self.known, Outcome) else status,
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
        return any(isinstance(row.known, Outcome) for row in self.rows)

    def table(self) -> pd.DataFrame:
        """Return a row a variant: what the preflight learnt, and the seconds of its missing trials, one by one."""
        return pd.DataFrame([row.cells() for row in self.rows])
