"""What came of claims that were settled: a model that is written into the run, and what a person reads of it."""

from typing import Literal

import pydantic

from aezoo.machine import Count, FrozenModel
from aezoo.run.records import SCHEMA, Amount, SchemaVersion

Verdict = Literal["better", "worse", "the same", "not decided"]


class Finding(FrozenModel):
    """What the evidence says of a claim, that one variant's loss is lower than another's.

    `percent_low` and `percent_high` are by how much the first one's loss differs from the other's, an interval that
    holds at 95 % for all claims and looks together; null where nothing is known. `seeds` are those of either.
    """

    lower: str
    higher: str
    verdict: Verdict
    percent_low: float | None
    percent_high: float | None
    seeds: tuple[Count, Count]
    look: Count

    @property
    def line(self) -> str:
        """The finding in a line."""
        claim, seeds = f"{self.lower} < {self.higher}", f"{self.seeds[0]} and {self.seeds[1]} seeds"
        if self.percent_low is None or self.percent_high is None:
            return f"{claim}: {self.verdict}; {seeds} tell nothing of chance"
        between = f"{self.percent_low:+.1f} to {self.percent_high:+.1f} %"
        return f"{claim}: {self.verdict}; its loss is {between} against the other's; {seeds}, look {self.look}"


class Card(FrozenModel):
    """What came of claims that were settled together: the findings, what they cost, and how to come to them again."""

    schema_version: SchemaVersion = pydantic.Field(default=SCHEMA, alias="schema")
    findings: list[Finding]
    margin_percent: Amount
    fingerprint: str
    trials: Count
    seconds: Amount
    again: str
    made_at: str
