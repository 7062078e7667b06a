"""Outcomes of many cases by family, operation and rule; what was not run by its reason."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sim.conformance.case import Outcome


@dataclass
class Row:
    """What all cases of a family, an operation and a rule came to; `plain` are codes of plain integers."""

    family: str
    operation: str
    rule: str
    cases: int = 0
    tensors: int = 0
    codes: int = 0
    differing: int = 0
    plain: int = 0
    plain_differing: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.cases += 1
        self.tensors += outcome.tensors
        self.codes += outcome.codes
        self.differing += outcome.differing
        self.plain += outcome.plain
        self.plain_differing += outcome.plain_differing


@dataclass(frozen=True)
class Summary:
    """Rows by family, operation and rule; `unsupported` are cases by (family, operation, reason); `differing` are theirs."""

    rows: list[Row]
    unsupported: dict[tuple[str, str, str], list[str]]
    differing: list[Outcome]

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "Summary":
        """Of any outcomes."""
        rows: dict[tuple[str, str, str], Row] = {}
        unsupported: dict[tuple[str, str, str], list[str]] = {}
        differing = []
        for outcome in outcomes:
            if outcome.is_run:
                key = (outcome.family, outcome.operation, outcome.rule)
                rows.setdefault(key, Row(*key)).add(outcome)
                differing += [] if outcome.agrees else [outcome]
            else:
                unsupported.setdefault((outcome.family, outcome.operation, outcome.reason), []).append(outcome.name)
        families = list(dict.fromkeys(row.family for row in rows.values()))
        ordered = sorted(rows.values(), key=lambda row: (families.index(row.family), row.operation, row.rule))
        return cls(ordered, unsupported, differing)

    @property
    def codes(self) -> int:
        """All that were compared."""
        return sum(row.codes for row in self.rows)

    @property
    def differing_codes(self) -> int:
        """All that differ, those of plain integers included."""
        return sum(row.differing + row.plain_differing for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """As a record holds it."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "unsupported": [{"family": family, "operation": operation, "reason": reason, "cases": names}
                            for (family, operation, reason), names in self.unsupported.items()],
            "differing": [{"family": outcome.family, "case": outcome.name, "operation": outcome.operation,
                           "rule": outcome.rule, "codes": outcome.codes, "differing": outcome.differing,
                           "plain_differing": outcome.plain_differing, "first": outcome.first}
                          for outcome in self.differing]}
