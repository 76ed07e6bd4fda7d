"""Rules for the samples that a model is given once it is served: what it does with those that it was not trained for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ae_models.mappings import map_values

__all__ = ["FLAG_MISSING", "IMPUTE_MISSING", "LARGEST_EXCESS", "MISSING_RULES", "REFUSE_MISSING", "SampleRules"]

FLAG_MISSING, REFUSE_MISSING, IMPUTE_MISSING = "flag", "refuse", "impute"
MISSING_RULES = (FLAG_MISSING, REFUSE_MISSING, IMPUTE_MISSING)
LARGEST_EXCESS = 1e6  # of a value, in lengths of the range: those further out, infinite ones too, count as much


@dataclass(frozen=True)
class SampleRules:
    """Rules of a bundle, which do not change the score of a sample that is as those of its training.

    Attributes:
        missing: one of `MISSING_RULES`: a sample with missing values is an anomaly, gets no score, or is scored with the mean of
            its other values in their place; of a table, with the median or the most frequent category of the column.
        unknown: one of them: of a table, the same for a category that is not among those of the column.
        infinite: one of them: of a table, the same for an infinite number.
        expected: bounds of a sample's statistics, such as `mean`, those of its training; a sample outside is an anomaly.
        id: of a table, the column of a file that names its rows; empty: rows are named by their number.
    """

    missing: str = FLAG_MISSING
    expected: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unknown: str = FLAG_MISSING
    infinite: str = FLAG_MISSING
    id: str = ""

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """Read the section `samples` of a bundle.json, as `to_dict` returns it."""
        return cls(
            missing=section.get("missing", FLAG_MISSING),
            unknown=section.get("unknown", FLAG_MISSING),
            infinite=section.get("infinite", FLAG_MISSING),
            expected={name: (low, high) for name, (low, high) in section["expected"].items()},
            id=section.get("id", ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the section `samples` of a bundle.json."""
        section: dict[str, Any] = {"missing": self.missing}
        for name in ("unknown", "infinite"):  # younger than the format
            if (rule := getattr(self, name)) != FLAG_MISSING:
                section[name] = rule
        if self.id:
            section["id"] = self.id
        return section | {"expected": map_values(list, self.expected)}
