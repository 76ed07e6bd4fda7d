"""The JSON documents of the gate: verdict.json, comparison.json and evidence.json. Standard library only.

verdict.json holds the rules that the bundle alone decides, comparison.json those against the champion, evidence.json both.
"""

from typing import Any, Final, Literal, NotRequired, TypedDict

USED: Final = "used"
STALE: Final = "stale"
MISSING: Final = "missing"


class RuleRecord(TypedDict):
    """One rule of verdict.json; `says` is the result in words, `value` and `bound` the same as JSON values."""

    name: str
    says: str
    value: Any
    bound: Any
    passed: bool


class VerdictDocument(TypedDict):
    """verdict.json: `verdict` is `accepted` or `refused`, `reasons` are the messages of the rules that failed.

    `evidence` holds the SHA-256 of what was judged: `metrics_sha256`, `bundle_sha256` and `content_sha256`; and
    `calibration_sha256` where the calibration samples are those of a file of their own; `backbone_sha256` where the model has a
    frozen network. Older documents lack two keys: `gate`, every rule of the gate by name, as a recipe writes it, and `warnings`,
    which say what default rules the gate does not check, and why.
    """

    format: int
    recipe: str
    verdict: str
    rules: list[RuleRecord]
    reasons: list[str]
    evidence: dict[str, str]
    gate: NotRequired[dict[str, dict[str, str | float]]]
    warnings: NotRequired[list[str]]


class ComparisonRecord(TypedDict):
    """One comparison of comparison.json; see `aeops.gate.comparison.ComparisonResult`.

    `margin_source` is `recipe`, `seeds` or `default`; documents of before margins were measured lack it: they are the recipe's.
    """

    name: str
    metric: str
    slice: str
    champion: float | None
    challenger: float | None
    difference: float | None
    interval: list[float | None] | None
    margin: float
    margin_source: NotRequired[str]
    p: dict[str, float] | None
    verdict: str
    needs: str
    passed: bool
    says: str


class ChampionRecord(TypedDict):
    """The champion that a challenger was compared with."""

    version: str
    bundle_sha256: str


class ChallengerRecord(TypedDict):
    """The bundle that was compared with the champion."""

    bundle_sha256: str


class HoldoutRecord(TypedDict):
    """The test samples of a comparison.

    `judged` is the number of candidates that these samples have judged, `chance_of_luck` the resulting probability of at
    least one false `better`, and `worn` says that it is too high.
    """

    sha256: str
    rows: int
    judged: int
    chance_of_luck: float
    worn: bool


class SeedEvidence(TypedDict):
    """The record of seeds that margins may come from.

    `state` says whether it is used, stale or missing, `reason` why it is not used or of how many seeds it is, `sha256` is that of
    the file.
    """

    state: Literal["used", "stale", "missing"]
    reason: str
    sha256: str | None
    seeds: list[int]


class ComparisonDocument(TypedDict):
    """comparison.json: `reasons` explain `verdict` whether or not the challenger was accepted.

    `seeds` says whether margins come from a record of seeds, and names that by its hash; older documents lack it.
    """

    format: int
    recipe: str
    verdict: str
    accepted: bool
    champion: ChampionRecord | None
    challenger: ChallengerRecord
    holdout: HoldoutRecord
    level: NotRequired[float]
    seeds: NotRequired[SeedEvidence]
    rules: list[ComparisonRecord]
    reasons: list[str]
    warnings: list[str]


class EvidenceDocument(TypedDict):
    """evidence.json: everything that the gate's decision about a version rests on."""

    gate: VerdictDocument
    comparison: ComparisonDocument


def gate_warnings(verdict: VerdictDocument) -> list[str]:
    """Return what the gate did not check, and why; nothing of a document that is older than these warnings."""
    return list(verdict.get("warnings", []))


def is_accepted(evidence: EvidenceDocument) -> bool:
    """Return whether both the rules of the bundle and the comparison with the champion accept a version."""
    return evidence["gate"]["verdict"] == "accepted" and evidence["comparison"]["accepted"]


def refusal_reasons(evidence: EvidenceDocument) -> list[str]:
    """Return the reasons to refuse a version; an empty list means that it is accepted."""
    reasons = list(evidence["gate"]["reasons"])
    if not evidence["comparison"]["accepted"]:
        reasons += evidence["comparison"]["reasons"]
    return reasons


def compared_champion(evidence: EvidenceDocument) -> str | None:
    """Return the version that was champion during the comparison; None where there was no champion."""
    champion = evidence["comparison"]["champion"]
    if champion is None:
        return None
    return champion["version"]
