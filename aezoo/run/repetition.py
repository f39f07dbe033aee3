"""How a recorded trial came out when it was run again, as it is written down. No file is touched here."""

from typing import Literal

import pydantic

from aezoo.machine import Count, Environment, FrozenModel
from aezoo.run.records import SCHEMA, TOLERANCE, SchemaVersion, TrialId, TrialRecord

Agreement = Literal["bit-equal", "within the band", "not reproduced"]


class Repetition(FrozenModel):
    """A recorded trial that was run again before variants were added to its run, and how it came out.

    Where runs were merged, `run` is the one that had the trial too: it was not run anew. `verdict` is `bit-equal`,
    every test image's error among it; `within the band` of 1 %; or `not reproduced`.
    `differences` names what is not as it was when the trial was recorded.
    """

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    trial_id: TrialId
    variant: str
    seed: Count
    verdict: Agreement
    recorded: str
    repeated: str
    differences: list[str]
    environment: Environment
    repeated_at: str
    run: str | None = None

    @property
    def line(self) -> str:
        """The repetition in a line."""
        circumstances = "; ".join(self.differences) or "in the same circumstances"
        where = "was repeated before variants were added" if self.run is None else f"is in {self.run} too"
        return (
            f"{self.variant} seed {self.seed}, recorded with {self.recorded}, {where} ({self.repeated_at}) and gave "
            f"{self.repeated}: {self.verdict}; {circumstances}"
        )


def repeated(before: TrialRecord, after: TrialRecord, run: str | None = None) -> Repetition:
    """Hold a trial's repetition, or the same trial of another run, against its record."""
    return Repetition(
        trial_id=before.trial_id,
        variant=before.variant,
        seed=before.seed,
        verdict=_verdict(before, after),
        recorded=_result(before),
        repeated=_result(after),
        differences=_differences(before, after),
        environment=after.environment,
        repeated_at=after.finished_at,
        run=run,
    )


def _verdict(before: TrialRecord, after: TrialRecord) -> Agreement:
    if before.status != after.status:
        return "not reproduced"
    if before.test_mse is None or after.test_mse is None:
        return "bit-equal" if before.reason == after.reason else "within the band"
    if (before.test_mse, before.test_errors_sha256) == (after.test_mse, after.test_errors_sha256):
        return "bit-equal"
    close = abs(after.test_mse - before.test_mse) <= TOLERANCE * before.test_mse
    return "within the band" if close else "not reproduced"


def _result(record: TrialRecord) -> str:
    return f"{record.status}: {record.reason}" if record.test_mse is None else f"test_mse {record.test_mse!r}"


def _differences(before: TrialRecord, after: TrialRecord) -> list[str]:
    earlier, later = (
        {**record.environment.model_dump(), "compiled": record.compiled, **record.plugin.model_dump(exclude={"place"})}
        for record in (before, after)
    )
    return [
        "plugin source changed" if name == "source_sha256" else f"{name} {value} → {later[name]}"
        for name, value in earlier.items()
        if value != later[name]
    ]
