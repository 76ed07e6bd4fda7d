"""The result of a validation: what is accepted, what is set aside and why, and what refuses the set."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pandas as pd

from aeops.data.judged_samples import Decided
from aeops.data.judgements import expectation_name
from aeops.data.set_aside import REPLACED, count_reasons
from aeops.data.validation import ExpectationResult, messages_of
from aeops.recipe.sections import DUPLICATE, SET, WARNING


@dataclass(frozen=True)
class DatasetValidation:
    """The result of a validation.

    Attributes:
        index: the incoming dataset's index, which holds what is new, with the labels that people gave.
        reasons: for each bad sample that nobody has judged: its id -> the expectations that it fails, but for mere warnings.
        budget: number of bad samples that may be quarantined.
        sample_results: the results of the expectations of single samples.
        set_results: those of all accepted samples; empty if the budget is exceeded, as there is no accepted set then.
        drift_results: those of the accepted samples and the last accepted version; empty if the budget is exceeded.
        drift_skipped: the reason why drift was not checked; None if it was.
        set_aside: what the source held and could not become a sample: its name -> the reason; see `fault_count`.
        decided: what people have decided about samples that are, or would be, bad.
        judgements_sha256: of the record of that; None without one.
        kept: rows of the accepted dataset's index that stay; empty where it begins anew.
    """

    index: pd.DataFrame
    reasons: dict[str, list[str]]
    budget: int
    sample_results: list[ExpectationResult]
    set_results: list[ExpectationResult]
    drift_results: list[ExpectationResult]
    drift_skipped: str | None
    set_aside: dict[str, str] = field(default_factory=dict)
    decided: Decided = field(default_factory=lambda: Decided({}))
    judgements_sha256: str | None = None
    kept: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def bad_count(self) -> int:
        """Number of bad samples and of what could not become one."""
        return len(self.reasons) + len(self.set_aside)

    @property
    def fault_count(self) -> int:
        """Number of bad samples that count in the budget: all but the rows that later ones have corrected."""
        return self.bad_count - list(self.set_aside.values()).count(REPLACED)

    @property
    def given_count(self) -> int:
        """Number of all that the source has now: what stays and what came in."""
        return len(self.kept) + len(self.index) + len(self.set_aside) + len(self.decided.dropped_names)

    @property
    def copy_count(self) -> int:
        """Number of samples that are set aside as they equal an earlier one, and for nothing else."""
        return sum({*map(expectation_name, reasons)} == {DUPLICATE} for reasons in self.reasons.values())

    @property
    def reason_counts(self) -> dict[str, int]:
        """Expectation, or why something is no sample -> how many are set aside for it, the most frequent first."""
        names: list[str] = []
        for reasons in self.reasons.values():
            names += dict.fromkeys(map(expectation_name, reasons))
        return dict((Counter(names) + Counter(count_reasons(self.set_aside))).most_common())

    @property
    def new_index(self) -> pd.DataFrame:
        """Rows of the incoming index without those of bad samples and of those that people have dropped."""
        return self.index[~self.index["id"].isin([*self.reasons, *self.decided.dropped])]

    @property
    def accepted_index(self) -> pd.DataFrame:
        """Rows of all samples of the new version: those that stay, and those that are new and good."""
        return pd.concat([self.kept, self.new_index], ignore_index=True) if len(self.kept) else self.new_index

    @property
    def row_counts(self) -> dict[str, int]:
        """Numbers of incoming, accepted and quarantined samples, and of judged ones, as the receipt holds them.

        What stays counts as both first.
        """
        accepted_count = len(self.kept) + len(self.index) - len(self.reasons) - len(self.decided.dropped)
        counts = {"given": self.given_count, "accepted": accepted_count, "quarantined": self.bad_count}
        return counts | self.decided.counts

    @property
    def over_budget(self) -> bool:
        """True if more samples are bad than may be quarantined."""
        return self.fault_count > self.budget

    @property
    def results(self) -> list[ExpectationResult]:
        """Results of all expectations."""
        return self.sample_results + self.set_results + self.drift_results

    @property
    def strict_results(self) -> list[ExpectationResult]:
        """Expectations of single samples that refuse the whole set, with the samples that break them and nobody has judged."""
        failed = []
        for result in self.sample_results:
            items = [item for item in result.unexpected_items if result.item_key(item) in self.reasons]
            if result.check.severity == SET and items:
                failed.append(replace(result, unexpected_items=items))
        return failed

    @property
    def failed_results(self) -> list[ExpectationResult]:
        """Expectations of the set that failed."""
        return _failures(self.set_results + self.drift_results, SET)

    @property
    def warnings(self) -> list[str]:
        """What is not as expected and only reported."""
        return messages_of(_failures(self.results, WARNING))

    @property
    def is_accepted(self) -> bool:
        """True if the dataset is accepted, without its bad samples."""
        return not self.strict_results and not self.over_budget and not self.failed_results


def _failures(results: list[ExpectationResult], severity: str) -> list[ExpectationResult]:
    return [result for result in results if not result.is_success and result.check.severity == severity]
