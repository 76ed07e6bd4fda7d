"""Compare challenger and champion on the same samples: how large each difference is, how sure, and what follows from that.

A difference is positive where the challenger is better. Each comparison makes three claims, each with a one-sided p-value:

    better      the difference is above the margin           (against: at most the margin)
    not worse   the difference is above minus the margin     (against: at most minus the margin)
    worse       the difference is below minus the margin     (against: at least minus the margin)

The p-values of one claim over all comparisons of a recipe are corrected by Holm (1979, Scandinavian Journal of Statistics 6),
so that the chance of any wrong `better` among them is at most `LEVEL`; the same for the other two claims.
Samples of one group (tiles of a page, sentences of a document) are no independent evidence: groups are what is drawn.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np
from scipy.special import ndtr, ndtri

from ae_models.mappings import map_values
from aeops.gate.auroc import average_ranks, grouped_variance, structural_components
from aeops.gate.documents import ComparisonRecord
from aeops.gate.margins import Margin
from aeops.recipe.gate_rules import AUROC, ERROR, MIN_GROUPS, POWER, Rule
from aeops.recipe.gate_rules import NEEDS_BETTER as NEEDS_BETTER
from aeops.recipe.gate_rules import NEEDS_NOT_WORSE as NEEDS_NOT_WORSE

LEVEL = 0.025  # one-sided, of each claim over all comparisons of a recipe
MIN_DRAWS = 4000  # of a bootstrap
DRAWS_PER_COMPARISON = 1000  # at least: the correction asks for p-values as small as LEVEL / comparisons
SEED = 1_442_695_041  # of the draws: the same evidence gives the same verdict
RESIDUAL_TOLERANCE = 1e-12  # of the largest error, below which a residual counts as 0
MAX_DRAWN_NUMBERS = 2**21  # in memory at once
REUSE_LIMIT = 0.5  # probability of a false acceptance from which the test samples are used up

BETTER, NOT_WORSE, WORSE, CANNOT_TELL = "better", "not worse", "worse", "cannot tell"
CLAIM_ORDER = (BETTER, WORSE, NOT_WORSE)  # the first that holds is the verdict: what is better is not worse, too
SEVERITY_ORDER = (WORSE, CANNOT_TELL, BETTER, NOT_WORSE)  # the first among the comparisons' is the recipe's
SUFFICIENT_VERDICTS = {NEEDS_NOT_WORSE: (BETTER, NOT_WORSE), NEEDS_BETTER: (BETTER,)}  # by what a rule needs
ALL_SAMPLES = "all"  # the slice that holds every sample
METRIC_TITLES = {ERROR: "error", AUROC: "AUROC", POWER: "mean power"}
VALUE_NAMES = {ERROR: "error", AUROC: "score", POWER: "power"}  # of one sample, by the metric that is compared


@dataclass(frozen=True)
class HoldoutSamples:
    """Labels of the test samples.

    Attributes:
        novelty: bool (n,).
        label: int64 (n,); -1 where a sample has none.
        group: (n,) of any comparable values; samples of one group belong together.
    """

    novelty: np.ndarray
    label: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class ModelScores:
    """Errors and scores of one model on the test samples.

    Attributes:
        error: reconstruction error of each sample, (n,); 0 is perfect.
        score: anomaly score of each sample, (n,); higher is more anomalous.
        power: what each sample adds to the mean power, (n,), NaN where no fault was injected, see `ae_models.power`; None where
            no rule compares it.
    """

    error: np.ndarray
    score: np.ndarray
    power: np.ndarray | None = None


@dataclass(frozen=True)
class ComparisonSpec:
    """One comparison that a rule asks for, on the samples where `rows`, bool (n,), is true."""

    name: str
    metric: str
    slice: str
    margin: Margin
    needs: str
    rows: np.ndarray


@dataclass(frozen=True)
class NotComparable:
    """A comparison that could not be made, and the reason."""

    reason: str


@dataclass(frozen=True)
class Estimate:
    """An estimated difference between challenger and champion, with its sampling distribution.

    Attributes:
        champion: its mean error, its AUROC, or its mean power.
        challenger: likewise.
        value: the difference, positive where the challenger is better: a share of the champion's error; of AUROCs or powers.
        standard_error: of `value`; 0 where the two models agree on every sample, so that the difference is known.
        draws: of (estimate - truth) / standard error, (draws,), NaN where a draw holds no error; None for the normal law.
        separable_pairs: where both models rank without an error, how many pairs of a novelty and a normal there are that
            share no sample and no group: the standard error cannot be estimated then. Else 0.
    """

    champion: float
    challenger: float
    value: float
    standard_error: float
    draws: np.ndarray | None = None
    separable_pairs: int = 0

    def p_above(self, bound: float) -> float:
        """Return the p-value of the claim that the true difference is above `bound`."""
        if self.separable_pairs:
            # A challenger with an AUROC of 1 + bound ranks that many separate pairs without an error this often at most.
            if bound < 0:
                return (1 + bound) ** self.separable_pairs
            return 1.0
        if self.standard_error == 0:
            return float(self.value <= bound)
        t = (self.value - bound) / self.standard_error
        if self.draws is None:
            return float(ndtr(-t))
        return (1 + int((self._upper_draws >= t).sum())) / (1 + len(self.draws))

    def p_below(self, bound: float) -> float:
        """Return the p-value of the claim that the true difference is below `bound`."""
        if self.separable_pairs:
            return 1.0
        if self.standard_error == 0:
            return float(self.value >= bound)
        t = (self.value - bound) / self.standard_error
        if self.draws is None:
            return float(ndtr(t))
        return (1 + int((self._lower_draws <= t).sum())) / (1 + len(self.draws))

    def interval(self, tail_probability: float) -> tuple[float, float]:
        """Return the interval that leaves out `tail_probability` on either side; an end may be infinite."""
        if self.separable_pairs:
            half_width = 1 - tail_probability ** (1 / self.separable_pairs)
            return self.value - half_width, self.value + half_width
        if self.standard_error == 0:
            return self.value, self.value
        if self.draws is None:
            low = high = -float(ndtri(tail_probability))
        else:
            high = float(np.quantile(self._upper_draws, 1 - tail_probability, method="higher"))
            low = -float(np.quantile(self._lower_draws, tail_probability, method="lower"))
        return self.value - high * self.standard_error, self.value + low * self.standard_error

    @property
    def _upper_draws(self) -> np.ndarray:
        return _replace_nan(self.draws, np.inf)

    @property
    def _lower_draws(self) -> np.ndarray:
        return _replace_nan(self.draws, -np.inf)


def _replace_nan(draws: np.ndarray | None, value: float) -> np.ndarray:
    """Return the draws with `value` for each NaN, so that a draw without any error counts against whatever is claimed."""
    return np.where(np.isnan(np.asarray(draws)), value, np.asarray(draws))


@dataclass(frozen=True)
class ComparisonResult:
    """The result of one comparison.

    Attributes:
        champion, challenger, difference: as in `Estimate`; None where nothing could be compared.
        interval: of the difference, at LEVEL / comparisons on either side; None for an infinite end.
        p_values: of each claim, after Holm's correction.
        message: the result in words, with the rule that it belongs to.
    """

    name: str
    metric: str
    slice: str
    champion: float | None
    challenger: float | None
    difference: float | None
    interval: list[float | None] | None
    margin: Margin
    p_values: dict[str, float] | None
    verdict: str
    needs: str
    passed: bool
    message: str

    def to_dict(self) -> ComparisonRecord:
        """Return the result as comparison.json holds it."""
        return {
            "name": self.name,
            "metric": self.metric,
            "slice": self.slice,
            "champion": self.champion,
            "challenger": self.challenger,
            "difference": self.difference,
            "interval": self.interval,
            "margin": self.margin.value,
            "margin_source": self.margin.source,
            "p": self.p_values,
            "verdict": self.verdict,
            "needs": self.needs,
            "passed": self.passed,
            "says": self.message,
        }


@dataclass(frozen=True)
class ComparisonVerdict:
    """The verdict on a challenger, whether it is accepted, and the messages of the comparisons that decided."""

    verdict: str
    accepted: bool
    reasons: list[str]


# ---------------------------------------------------------------- from rules to verdicts


def plan_comparisons(rules: Mapping[str, Rule], holdout: HoldoutSamples, margins: Mapping[str, Margin]) -> list[ComparisonSpec]:
    """Return the comparisons that the rules against the champion ask for, one a slice.

    Args:
        rules: name -> rule; rules without the key `champion` are skipped.
        holdout: the test samples. Novelty is ranked against the normals of a slice.
        margins: of each rule against the champion, as `aeops.gate.margins.resolve_margins` returns them.
    """
    specs = []
    for name, rule in rules.items():
        if rule.champion is None:
            continue
        for slice_name, rows in _split_slices(rule, holdout):
            specs.append(ComparisonSpec(name, rule.champion, slice_name, margins[name], rule.needs or NEEDS_NOT_WORSE, rows))
    return specs


def _split_slices(rule: Rule, holdout: HoldoutSamples) -> Iterator[tuple[str, np.ndarray]]:
    novelty = holdout.novelty & (rule.champion == AUROC)
    if rule.by is None:
        yield ALL_SAMPLES, ~holdout.novelty | novelty
        return
    labels = np.unique(holdout.label[~holdout.novelty & (holdout.label >= 0)])
    for label in labels:
        yield f"label {label}", ~holdout.novelty & (holdout.label == label) | novelty
    if not len(labels):  # a rule that finds nothing to compare must not pass
        yield "label", np.zeros(len(holdout.label), dtype=bool)


def compare_models(
    specs: list[ComparisonSpec], holdout: HoldoutSamples, champion: ModelScores, challenger: ModelScores
) -> list[ComparisonResult]:
    """Make every comparison on the same samples and correct the p-values for their number.

    Args:
        specs: the comparisons of one recipe, one or more.
        holdout: the n test samples.
        champion: its errors and scores on them, (n,).
        challenger: its errors and scores on them, (n,).
    """
    draws = max(MIN_DRAWS, DRAWS_PER_COMPARISON * len(specs))
    spec_estimates = [estimate_difference(spec, holdout, champion, challenger, draws) for spec in specs]
    corrected_p = {}
    for claim in CLAIM_ORDER:
        p_values = []
        for spec, estimate in zip(specs, spec_estimates, strict=True):
            p_values.append(p_value(claim, estimate, spec.margin.value))
        corrected_p[claim] = correct_holm(p_values)
    results = []
    for index, (spec, estimate) in enumerate(zip(specs, spec_estimates, strict=True)):
        if isinstance(estimate, NotComparable):
            results.append(build_failed_result(spec, estimate.reason))
        else:
            p_values_of_spec = map_values(itemgetter(index), corrected_p)
            results.append(build_result(spec, estimate, p_values_of_spec, LEVEL / len(specs)))
    return results


def p_value(claim: str, estimate: Estimate | NotComparable, margin: float) -> float:
    """Return the p-value of a claim; 1 where nothing could be compared."""
    if isinstance(estimate, NotComparable):
        return 1.0
    if claim == WORSE:
        return estimate.p_below(-margin)
    if claim == BETTER:
        return estimate.p_above(margin)
    return estimate.p_above(-margin)


def correct_holm(p_values: list[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down procedure (Holm 1979)."""
    adjusted_p, running_max = [0.0] * len(p_values), 0.0
    ascending_order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(ascending_order):
        running_max = max(running_max, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted_p[index] = running_max
    return adjusted_p


def combine_results(results: list[ComparisonResult]) -> ComparisonVerdict:
    """Combine the comparisons of a recipe, one or more, into the verdict on the challenger."""
    verdict = min(map(attrgetter("verdict"), results), key=SEVERITY_ORDER.index)
    failures, deciding_results = [], []
    for result in results:
        if not result.passed:
            failures.append(result.message)
        if result.verdict == verdict:
            deciding_results.append(result)
    if failures:
        return ComparisonVerdict(verdict, False, failures)
    if verdict == NOT_WORSE:  # all of them decided: report the one that came nearest to another verdict
        deciding_results = [max(deciding_results, key=lambda result: (result.p_values or {})[NOT_WORSE])]
    return ComparisonVerdict(verdict, True, [result.message for result in deciding_results])


def false_accept_probability(candidates: int) -> float:
    """Return an upper bound of the probability that at least one of so many candidates is called better by chance."""
    return 1 - (1 - LEVEL) ** candidates


# ---------------------------------------------------------------- results in words


def build_result(
    spec: ComparisonSpec, estimate: Estimate, p_values: dict[str, float], tail_probability: float
) -> ComparisonResult:
    """Decide one comparison by its corrected p-values and describe it."""
    verdict = _first_proven_claim(p_values)
    interval = estimate.interval(tail_probability)
    return ComparisonResult(
        name=spec.name,
        metric=spec.metric,
        slice=spec.slice,
        champion=estimate.champion,
        challenger=estimate.challenger,
        difference=estimate.value,
        interval=[_finite_or_none(interval[0]), _finite_or_none(interval[1])],
        margin=spec.margin,
        p_values=p_values,
        verdict=verdict,
        needs=spec.needs,
        passed=verdict in SUFFICIENT_VERDICTS[spec.needs],
        message=_result_message(spec, estimate, p_values, verdict, interval),
    )


def _first_proven_claim(p_values: dict[str, float]) -> str:
    for claim in CLAIM_ORDER:
        if p_values[claim] <= LEVEL:
            return claim
    return CANNOT_TELL


def build_failed_result(spec: ComparisonSpec, reason: str) -> ComparisonResult:
    """Return the result of a comparison that could not be made."""
    return ComparisonResult(
        name=spec.name,
        metric=spec.metric,
        slice=spec.slice,
        champion=None,
        challenger=None,
        difference=None,
        interval=None,
        margin=spec.margin,
        p_values=None,
        verdict=CANNOT_TELL,
        needs=spec.needs,
        passed=False,
        message=f"{spec.name}: cannot tell by {spec.metric}{_slice_suffix(spec)}: {reason}; {_required_verdict(spec)}",
    )


def _result_message(
    spec: ComparisonSpec, estimate: Estimate, p_values: dict[str, float], verdict: str, interval: tuple[float, float]
) -> str:
    low, high = format_difference(spec.metric, interval[0]), format_difference(spec.metric, interval[1])
    smallest_p = p_values.get(verdict, min(p_values.values()))
    margin = format_difference(spec.metric, spec.margin.value).lstrip("+")
    verdict_phrase = VERDICT_PHRASES[verdict].format(margin=margin, p=f"{smallest_p:.2g}")
    return (
        f"{spec.name}: {METRIC_TITLES[spec.metric]}{_slice_suffix(spec)} is {estimate.challenger:.4g}, "
        f"the champion's {estimate.champion:.4g}: "
        f"{format_difference(spec.metric, estimate.value)} ({low} to {high}; above 0 is better); "
        f"{verdict_phrase}; {_required_verdict(spec)}{_margin_suffix(spec)}"
    )


VERDICT_PHRASES = {
    BETTER: "better by more than the margin of {margin} (p {p})",
    NOT_WORSE: "not worse by as much as the margin of {margin} (p {p})",
    WORSE: "worse by more than the margin of {margin} (p {p})",
    CANNOT_TELL: "cannot tell whether it is worse by the margin of {margin} (the smallest p is {p})",
}


def format_difference(metric: str, value: float) -> str:
    """Return a difference with its sign; of errors in per cent of the champion's."""
    if not math.isfinite(value):
        return "not known"
    if metric == ERROR:
        return f"{100 * value:+.1f} %"
    return f"{value:+.4f}"


def _slice_suffix(spec: ComparisonSpec) -> str:
    if spec.slice == ALL_SAMPLES:
        return ""
    return f" on {spec.slice}"


def _margin_suffix(spec: ComparisonSpec) -> str:
    if not spec.margin.description:
        return ""
    return f"; {spec.margin.description}"


def _required_verdict(spec: ComparisonSpec) -> str:
    return f"{spec.needs.replace('-', ' ')} is needed"


def _finite_or_none(value: float) -> float | None:
    if math.isfinite(value):
        return value
    return None


# ---------------------------------------------------------------- differences


def estimate_difference(
    spec: ComparisonSpec, holdout: HoldoutSamples, champion: ModelScores, challenger: ModelScores, draws: int
) -> Estimate | NotComparable:
    """Estimate the difference that a comparison asks for.

    Args:
        spec: the comparison.
        holdout: the n test samples.
        champion: its errors and scores, (n,).
        challenger: its errors and scores, (n,).
        draws: of the bootstrap of errors.
    """
    rows = spec.rows
    if spec.metric == POWER:
        rows = rows & ~np.isnan(_model_values(POWER, champion))
    novelty, group = holdout.novelty[rows], holdout.group[rows]
    if shortage_text := _describe_shortage(spec.metric, novelty, group):
        return NotComparable(shortage_text)
    values = {}
    for model_name, model in (("champion", champion), ("challenger", challenger)):
        values[model_name] = _model_values(spec.metric, model)[rows].astype(np.float64)
        not_finite = int((~np.isfinite(values[model_name])).sum())
        if not_finite:
            total, what = len(values[model_name]), VALUE_NAMES[spec.metric]
            return NotComparable(f"the {model_name}'s {what} of {not_finite} of {total} samples is not a finite number")
    if spec.metric == AUROC:
        return estimate_auroc_difference(values["champion"], values["challenger"], novelty, group)
    if spec.metric == POWER:
        return estimate_power_difference(values["champion"], values["challenger"], group, draws)
    if not values["champion"].any():
        return NotComparable("the champion's error is 0, so the difference cannot be given as a share of it")
    return estimate_error_difference(values["champion"], values["challenger"], group, draws)


def _model_values(metric: str, model: ModelScores) -> np.ndarray:
    """Return the value of each sample, (n,), that a metric compares."""
    if metric == AUROC:
        return model.score
    if metric == ERROR:
        return model.error
    if model.power is None:
        return np.full(len(model.score), np.nan)
    return model.power


def _describe_shortage(metric: str, novelty: np.ndarray, group: np.ndarray) -> str:
    """Return which class has too few groups to compare on; empty where none has."""
    class_rows = {"normals": ~novelty}
    if metric == AUROC:
        class_rows["novelty"] = novelty
    shortage_parts = []
    for name, rows in class_rows.items():
        count = len(np.unique(group[rows]))
        if count < MIN_GROUPS:
            shortage_parts.append(f"{count} of {name}")
    if not shortage_parts:
        return ""
    return f"{' and '.join(shortage_parts)} to compare on; {MIN_GROUPS} groups of samples or more are needed"


def estimate_error_difference(champion: np.ndarray, challenger: np.ndarray, group: np.ndarray, draws: int) -> Estimate:
    """Estimate 1 - (sum of the challenger's errors) / (sum of the champion's) by a paired, studentised bootstrap of groups.

    The ratio of two means is drawn with its own standard error each time (Efron and Tibshirani 1993, chapter 12), which is
    accurate for skewed errors and few groups, where percentiles are not.

    Args:
        champion: errors, (n,).
        challenger: errors of the same samples, (n,).
        group: (n,).
        draws: of the bootstrap.
    """
    group_codes, group_count = encode_groups(group)
    champion_sums = np.bincount(group_codes, weights=champion, minlength=group_count)
    challenger_sums = np.bincount(group_codes, weights=challenger, minlength=group_count)
    ratio = challenger_sums.sum() / champion_sums.sum()
    group_residuals = challenger_sums - ratio * champion_sums
    group_residuals[np.abs(group_residuals) <= RESIDUAL_TOLERANCE * champion_sums.max()] = (
        0  # one model's errors are a fixed multiple
    )
    scale = math.sqrt(group_count / (group_count - 1))
    bootstrap_draws = None
    if group_residuals.any():
        bootstrap_draws = draw_studentised(champion_sums, group_residuals, scale, draws)
    return Estimate(
        champion=float(champion.mean()),
        challenger=float(challenger.mean()),
        value=float(1 - ratio),
        standard_error=scale * math.sqrt(float(np.square(group_residuals).sum())) / float(champion_sums.sum()),
        draws=bootstrap_draws,
    )


def estimate_power_difference(champion: np.ndarray, challenger: np.ndarray, group: np.ndarray, draws: int) -> Estimate:
    """Estimate the difference of two mean powers on the same faulty samples by a paired, studentised bootstrap of groups.

    Args:
        champion: what each normal sample adds to its mean power, (n,).
        challenger: the same of the challenger.
        group: (n,).
        draws: of the bootstrap.
    """
    group_codes, group_count = encode_groups(group)
    group_sizes = np.bincount(group_codes, minlength=group_count).astype(np.float64)
    loss = champion - challenger  # as in `draw_studentised`, whose draws are positive where the challenger is better
    group_residuals = np.bincount(group_codes, weights=loss - loss.mean(), minlength=group_count)
    group_residuals[np.abs(group_residuals) <= RESIDUAL_TOLERANCE * group_sizes.max()] = 0
    scale = math.sqrt(group_count / (group_count - 1))
    bootstrap_draws = None
    if group_residuals.any():
        bootstrap_draws = draw_studentised(group_sizes, group_residuals, scale, draws)
    return Estimate(
        champion=float(champion.mean()),
        challenger=float(challenger.mean()),
        value=float(-loss.mean()),
        standard_error=scale * math.sqrt(float(np.square(group_residuals).sum())) / len(loss),
        draws=bootstrap_draws,
    )


def draw_studentised(champion: np.ndarray, group_residuals: np.ndarray, scale: float, draws: int) -> np.ndarray:
    """Draw (difference - observed difference) / standard error, (draws,).

    With r the observed ratio, the residuals of a draw whose ratio is r + s are `group_residuals - s * champion`: written like
    this, nothing cancels however near the two models are. In the formula below a, e, ee, ea and aa are the sums over a draw of
    the champion's errors, the residuals, their squares, their products with the champion's errors, and the latter's squares. Of
    two powers, the sizes of the groups stand for the champion's errors.
    """
    count = len(champion)
    terms = np.stack([champion, group_residuals, group_residuals**2, group_residuals * champion, champion**2], axis=1)
    generator = np.random.default_rng(SEED)
    chunk_size = max(1, MAX_DRAWN_NUMBERS // count)
    parts = []
    for start in range(0, draws, chunk_size):
        rows = min(chunk_size, draws - start)
        indices = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        draw_counts = np.bincount(indices.ravel(), minlength=rows * count).reshape(rows, count)
        a, e, ee, ea, aa = (draw_counts @ terms).T
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw without any error gives NaN
            s = e / a
            standard_error = scale * np.sqrt(np.maximum(ee - 2 * s * ea + s**2 * aa, 0)) / a
            parts.append(-s / standard_error)
    return np.concatenate(parts)


def encode_groups(group: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the groups as whole numbers from 0, (n,), and how many there are."""
    names, group_codes = np.unique(group, return_inverse=True)
    return group_codes, len(names)


def estimate_auroc_difference(champion: np.ndarray, challenger: np.ndarray, novelty: np.ndarray, group: np.ndarray) -> Estimate:
    """Estimate the difference of two AUROCs on the same samples (DeLong et al. 1988, Biometrics 44).

    Where samples share groups, Obuchowski's standard error (1997, Biometrics 53) is used, which is DeLong's for groups of one.

    Args:
        champion: scores, (n,).
        challenger: scores of the same samples, (n,).
        novelty: bool (n,), some of both.
        group: (n,).
    """
    old_novelty, old_normals = structural_components(champion[novelty], champion[~novelty])
    new_novelty, new_normals = structural_components(challenger[novelty], challenger[~novelty])
    novelty_change, normal_change = new_novelty - old_novelty, new_normals - old_normals
    value = float(novelty_change.mean())
    group_codes, group_count = encode_groups(group)
    variance = grouped_variance(
        novelty_change - value, normal_change - value, group_codes[novelty], group_codes[~novelty], group_count
    )
    separable_pairs = 0
    ranks_differ = not np.array_equal(average_ranks(champion), average_ranks(challenger))
    if variance == 0 and new_novelty.min() == 1 and ranks_differ:
        separable_pairs = min(len(np.unique(group_codes[novelty])), len(np.unique(group_codes[~novelty])))
    return Estimate(
        champion=float(old_novelty.mean()),
        challenger=float(new_novelty.mean()),
        value=value,
        standard_error=math.sqrt(max(variance, 0.0)),
        separable_pairs=separable_pairs,
    )
