"""What the author reads: a card of how an architecture came out of the conformance suite."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aezoo.check.case import CHECKS
from aezoo.check.suite import Finding, failures
from aezoo.contract.architecture import ImageShape
from aezoo.run.records import PluginSource

_MARKS = {"ok": "ok", "failed": "FAIL", "refused": "no", "excepted": "except", "skipped": "-", "note": "note"}
_WORST_FIRST = ("failed", "refused", "excepted", "skipped", "note", "ok")


@dataclass(frozen=True, kw_only=True)
class Card:
    """How an architecture came out: where it is from, and a finding for each check, variant and image shape."""

    architecture: str
    summary: str
    plugin: PluginSource
    findings: list[Finding]

    @property
    def failures(self) -> list[Finding]:
        """The checks that failed, and what it refused on every image shape that it was tried on."""
        return failures(self.findings)

    def lines(self) -> list[str]:
        """Return the card as a person reads it: a line a check, below it what was found where it was not simply met."""
        shapes = dict.fromkeys(_size(finding.image_shape) for finding in self.findings)
        variants = dict.fromkeys(finding.variant for finding in self.findings)
        lines = [
            f"{self.architecture} of {self.plugin.distribution} {self.plugin.version}: {self.summary}",
            f"{len(variants)} variant{'s' * (len(variants) > 1)}, images {', '.join(shapes)}",
        ]
        summaries = {check.name: check.summary for check in CHECKS}
        for name in dict.fromkeys(finding.check for finding in self.findings):
            of_check = [finding for finding in self.findings if finding.check == name]
            worst = min((finding.status for finding in of_check), key=_WORST_FIRST.index)
            lines.append(f"{_MARKS[worst]:6}  {name:13}  {summaries.get(name, '')}".rstrip())
            lines += [f"{'':23}{text}" for text in _details(of_check, len(variants) * len(shapes))]
        failed = len({finding.check for finding in self.failures})
        verdict = f"{failed} check{'s' * (failed > 1)} failed" if failed else "meets the contract"
        lines.append(f"{self.architecture}: {verdict}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for a program."""
        return {
            "architecture": self.architecture,
            "plugin": self.plugin.model_dump(exclude={"place"}),
            "passed": not self.failures,
            "findings": [asdict(finding) for finding in self.findings],
        }


def _details(findings: Sequence[Finding], total: int) -> list[str]:
    """Say what was found, once where it is the same for several; what was simply met says nothing."""
    where: dict[str, list[str]] = {}
    for finding in findings:
        # What was skipped for another one's fault says nothing that that one does not.
        if finding.detail and finding.status != "ok" and not finding.detail.startswith("needs '"):
            where.setdefault(finding.detail, []).append(f"{finding.variant} on {_size(finding.image_shape)}")
    return [
        detail
        if len(places) == total > 1
        else f"{places[0]}{f' and {len(places) - 1} more' * (len(places) > 1)}: {detail}"
        for detail, places in where.items()
    ]


def _size(shape: ImageShape) -> str:
    return "x".join(map(str, shape))
