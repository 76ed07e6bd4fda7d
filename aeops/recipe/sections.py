"""Sections of a recipe as frozen dataclasses with their bounds. Standard library only."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from ae_models.spec import FLAG_MISSING, MISSING_RULES, InputSpec, bounded_field, join_names
from aeops.kinds import KIND_INFOS

BY_CONTENT, BY_TIME, BY_MACHINE = "content", "time", "machine"  # how data.split is drawn
SKIP, ACCEPT, REFUSE = "skip", "accept", "refuse"  # what becomes of a sample that equals an earlier one
WARN, SAME_SPLIT, IGNORE = "warn", "same-split", "ignore"  # what becomes of near copies in two splits
KEEP_PATTERN = re.compile(r"(\d{1,5}) days?")


@dataclass(frozen=True)
class SourceFile:
    """A file that is found as those of a source are, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class SplitSpec:
    """Shares of the samples, drawn by their content (or their group) so that a sample stays where it is as the data grows.

    Where `test` is left out, the source's own test part is the test set, and the others are shares of the rest.
    """

    validation: float = bounded_field(low=0.001, high=0.5)  # watched while training
    calibration: float = bounded_field(low=0.01, high=0.5)  # for the threshold alone
    test: float | None = bounded_field(None, low=0.01, high=0.5)  # for evaluation alone
    # What is drawn: the content, or of a series with channels its machines; time: the shares follow each other in time, training
    # first, then validation, calibration and test.
    by: str = bounded_field(BY_CONTENT, one_of=(BY_CONTENT, BY_TIME, BY_MACHINE))

    def validation_errors(self) -> list[str]:
        total = self.validation + self.calibration + (self.test or 0.0)
        if total >= 0.9:
            return [f"validation + calibration + test is {total:g}: at least 0.1 must be left to train on"]
        return []


@dataclass(frozen=True)
class DataSpec:
    """Source of the samples, their splits and their labels."""

    dataset: str  # its name, and its folder's in data/; recipes may share one
    # Where the samples come from.
    source: Any
    split: SplitSpec  # shares of the samples; the rest is trained on
    labels: tuple[int, ...] = ()  # the labels there may be, numbers or names; none: unlabelled
    novelty: tuple[int, ...] = ()  # labels held out of training, to be flagged
    novelty_in_validation: bool = False  # those of the validation split choose the threshold by labels; none of them is tested on
    # Samples that equal an earlier one: left out, samples like others, or set aside. None: as validate.duplicates says.
    on_duplicate: str | None = bounded_field(None, one_of=(SKIP, ACCEPT, REFUSE))
    # How long samples stay, such as 90 days: by their own times where the source has some, counted from the newest, else by the
    # day of their first ingest. None: as long as the source has them.
    keep: str | None = None
    # Samples of two splits that are nearly the same: named in a warning, or each new image put into the split of the earlier one.
    near_copies: str = bounded_field(WARN, one_of=(WARN, SAME_SPLIT, IGNORE))

    @property
    def keep_days(self) -> int | None:
        """How many days samples stay; None for as long as the source has them."""
        found = KEEP_PATTERN.fullmatch(self.keep or "")
        return int(found[1]) if found else None

    def validation_errors(self) -> list[str]:
        errors = []
        if self.keep is not None and not self.keep_days:
            errors.append(f"keep: expected a number of days from 1 on, such as 90 days, got {self.keep!r}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.dataset):
            errors.append(f"dataset: expected lower-case letters, digits, - and _, as it names a folder, got {self.dataset!r}")
        unexpected_labels = sorted(set(self.novelty) - set(self.labels))
        if unexpected_labels:
            errors.append(f"novelty names {unexpected_labels}, which labels {list(self.labels)} does not hold")
        if self.novelty and set(self.labels) <= set(self.novelty):
            errors.append(f"novelty names every one of labels {list(self.labels)}: no normal sample is left to train on")
        if self.novelty_in_validation and not self.novelty:
            errors.append("novelty_in_validation is true and novelty names no label: name those of the anomalies there")
        return errors

    def check_source(self) -> list[str]:
        """Return a message for each setting of the section that the source does not support."""
        errors = []
        if self.split.test is None and not self.source.own_test:
            errors.append("the key split.test is missing, and the source has no test part of its own to stand in for it")
        return errors + self.source.check_labels(self.labels)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class CalibrationSamplesSpec:
    """Two keys beside those of the threshold: a file of normal samples that it is calibrated on, in place of data.split's."""

    samples: str  # a .npy file, found as those of a source are; `ae recalibrate RECIPE --on DATA` writes it
    samples_sha256: str  # of that file

    def validation_errors(self) -> list[str]:
        if not re.fullmatch(r"[0-9a-f]{64}", self.samples_sha256):
            return [f"samples_sha256: expected 64 digits of a SHA-256, 0-9 and a-f, got {self.samples_sha256!r}"]
        return []

    def source_files(self) -> dict[str, SourceFile]:
        return {"samples": SourceFile(self.samples, self.samples_sha256)}


@dataclass(frozen=True)
class RangeSpec:
    """A closed interval of allowed values."""

    min: float = bounded_field()  # lowest allowed
    max: float = bounded_field()  # highest allowed

    def validation_errors(self) -> list[str]:
        if self.min > self.max:
            return [f"min is {self.min:g} and max is {self.max:g}: min must not be above max"]
        return []


DUPLICATE = "duplicate"  # the expectation that a sample equals no earlier one
ROW, SET, WARNING = "row", "set", "warning"  # severities of an expectation
SEVERITIES = (ROW, SET, WARNING)
SHARES = ("class_share", "sample_mean", "sample_std", "letters")  # bounds on what lies in [0, 1]


@dataclass(frozen=True)
class ValidateSpec:
    """The bounds of the expectations. Sample statistics are of values scaled to [0, 1], without the target channels."""

    rows: RangeSpec  # samples in the set
    mean_drift: float = bounded_field(low=0.0, high=1.0)  # how far the set's means may move from the last accepted version
    quarantine_budget: float = bounded_field(low=0.0, high=1.0)  # share of rows that may be set aside before the set is refused
    class_share: RangeSpec | None = None  # share of each label in the set; none: not judged, as where there are no labels
    blank: str = bounded_field("refuse", one_of=("refuse", "accept"))  # samples that show nothing: quarantined or accepted
    sample_mean: RangeSpec | None = None  # images and series need it: mean over the values of a sample
    sample_std: RangeSpec | None = None  # images and series need it: standard deviation over the values of a sample
    characters: RangeSpec | None = None  # texts need it: characters of a text
    letters: RangeSpec | None = None  # texts need it: share of letters among the characters of a text
    missing: str = bounded_field(FLAG_MISSING, one_of=MISSING_RULES)  # for served samples; those of a dataset are quarantined
    unknown: str = bounded_field(FLAG_MISSING, one_of=MISSING_RULES)  # of tables: the same for a category that is not known
    infinite: str = bounded_field(FLAG_MISSING, one_of=MISSING_RULES)  # of tables: the same for an infinite number
    # Of tables: share of rows with a value, in each column; of series with channels: share of a machine's steps with a reading.
    completeness: float = bounded_field(0.0, low=0.0, high=1.0)
    # Samples that equal an earlier one, where data.on_duplicate does not say it.
    duplicates: str = bounded_field(REFUSE, one_of=(REFUSE, ACCEPT))
    # Name of an expectation, as `ae suite` lists them -> what becomes of data that breaks it: row: such samples are set aside;
    # set: all of it is refused; warning: it is only reported.
    severity: dict[str, Any] = field(default_factory=dict)

    def validation_errors(self) -> list[str]:
        errors = []
        for name, severity in self.severity.items():
            if severity not in SEVERITIES:
                errors.append(f"severity.{name}: expected {', '.join(SEVERITIES)}, got {severity!r}")
        if self.rows.min < 1:
            errors.append(f"rows.min: expected 1 or more samples in an accepted set, got {self.rows.min:g}")
        for key in SHARES:
            bounds = getattr(self, key)
            if bounds is not None and (bounds.min > 1 or bounds.max < 0):
                errors.append(
                    f"{key}: expected a range that meets 0 to 1, where every {key} lies, got {bounds.min:g} to {bounds.max:g}"
                )
        return errors

    def sample_bounds(self, spec: InputSpec) -> dict[str, tuple[float, float]]:
        """Return the bounds of each statistic that such samples have; the section must have passed `check_kind`."""
        if spec.channels:
            return {"completeness": (self.completeness, 1.0)}
        bounds = {}
        for key in KIND_INFOS[spec.kind].bounds:
            limits = getattr(self, key)
            bounds[key] = (limits.min, limits.max)
        return bounds

    def check_kind(self, spec: InputSpec) -> Iterator[tuple[str, str]]:
        """Yield (path, reason) for each bound that such samples need and lack, or do not have."""
        kind, kind_bounds = spec.kind, KIND_INFOS[spec.kind].bounds
        if spec.channels:
            kind, kind_bounds = f"{spec.kind} with channels", ()
        all_bounds = dict.fromkeys(chain.from_iterable(info.bounds for info in KIND_INFOS.values()))
        for key in all_bounds:
            is_set = getattr(self, key) is not None
            if key in kind_bounds and not is_set:
                yield "validate", f"the key {key} is missing: samples of input.kind {kind} are judged by it"
            if key not in kind_bounds and is_set:
                yield (
                    f"validate.{key}",
                    f"expected {join_names(kind_bounds) or 'no such bound'} with input.kind {kind}, got {key}",
                )


@dataclass(frozen=True)
class EvaluateSpec:
    """Baselines beside the model, and its studies."""

    pca_components: int | None = bounded_field(None, low=1, high=65536)  # None: no such baseline
    neighbours: int | None = bounded_field(None, low=1, high=1000)  # k of kNN; None: no baseline detects
    # Further measurements, by their names.
    studies: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ApprovalSpec:
    """Decision of a person about what the gate has accepted; see docs/approval.md."""

    needed: bool = False  # what the gate accepts waits for `ae approve`
    other_than_starter: bool = False  # whoever started the run may reject its version, not approve it

    def validation_errors(self) -> list[str]:
        if self.other_than_starter and not self.needed:
            return ["other_than_starter is true and needed is not: it says who may approve where an approval is needed"]
        return []


@dataclass(frozen=True)
class SignatureSpec:
    """Signature that a bundle needs before it is promoted or served; see docs/signing.md."""

    require_signature: bool  # of every bundle that is promoted or served
    public_key: str | None = None  # a file, from the project's folder

    def validation_errors(self) -> list[str]:
        if self.require_signature and self.public_key is None:
            return [
                "require_signature is true and public_key is missing: `ae sign --new-keys keys/NAME` makes one, keys/NAME.pub"
            ]
        return []


@dataclass(frozen=True)
class ServingSpec:
    """Takeover by a new champion in a running service; see docs/serving.md."""

    shadow_requests: int = bounded_field(50, low=0, high=1_000_000)  # that it answers beside the old one before it takes over
    shadow_seconds: float = bounded_field(60.0, low=0.0, high=86_400.0)  # after which it takes over though fewer requests came


@dataclass(frozen=True)
class ScoringSpec:
    """Scoring in batches; see docs/scoring.md."""

    inbox: str | None = None  # the folder that new files come to; None: inbox/<recipe> below the state folder
