"""Challenger against champion on the same samples: how large each difference is, how sure, and what follows from that.

A difference is positive where the challenger is better. Each comparison makes three claims, each with a one-sided p-value:

    better      the difference is above the margin           (against: at most the margin)
    not worse   the difference is above minus the margin     (against: at most minus the margin)
    worse       the difference is below minus the margin     (against: at least minus the margin)

The p-values of one claim over all comparisons of a recipe are corrected by Holm (1979, Scandinavian Journal of Statistics 6),
so that the chance of any wrong `better` among them is at most `LEVEL`; the same for the other two claims.
Samples of one group (tiles of a page, sentences of a document) are no independent evidence: groups are what is drawn.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata

from aeops.recipe.gate_rules import AUROC, ERROR, Rule
from aeops.recipe.gate_rules import BETTER as NEEDS_BETTER
from aeops.recipe.gate_rules import NOT_WORSE as NEEDS_NOT_WORSE

LEVEL = 0.025  # one-sided, of each claim over all comparisons of a recipe
DRAWS = 4000  # of a bootstrap, at least
DRAWS_A_COMPARISON = 1000  # at least: the correction asks for p-values as small as LEVEL / comparisons
SEED = 1_442_695_041  # of the draws: the same evidence gives the same verdict
ROUNDING = 1e-12  # of the largest error, below which a residual is none
DRAWN_AT_ONCE = 2**21  # numbers in memory
FEWEST = 20  # groups of normals, or of novelty, below which nothing is claimed
WORN = 0.5  # chance of luck from which a holdout is worn

BETTER, NOT_WORSE, WORSE, CANNOT_TELL = "better", "not worse", "worse", "cannot tell"
CLAIMS = (BETTER, WORSE, NOT_WORSE)  # the first that holds is the verdict: what is better is not worse, too
GRAVEST_FIRST = (WORSE, CANNOT_TELL, BETTER, NOT_WORSE)  # the first among the comparisons' is the recipe's
SUFFICE = {NEEDS_NOT_WORSE: (BETTER, NOT_WORSE), NEEDS_BETTER: (BETTER,)}  # verdicts, by what a rule needs
EVERYWHERE = "all"  # the slice that holds every sample


@dataclass(frozen=True)
class Holdout:
    """What is known of the test samples.

    Attributes:
        novelty: bool (n,).
        label: int64 (n,); -1 where a sample has none.
        group: (n,) of anything that can be told apart; samples of one group belong together.
    """

    novelty: np.ndarray
    label: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class Scored:
    """What one model makes of the test samples.

    Attributes:
        error: of each sample's reconstruction, (n,); 0 is perfect.
        score: (n,); the higher, the stranger.
    """

    error: np.ndarray
    score: np.ndarray


@dataclass(frozen=True)
class Question:
    """One comparison that a rule asks for: its samples are those where `rows`, bool (n,), is true."""

    name: str
    metric: str
    slice: str
    margin: float
    needs: str
    rows: np.ndarray


@dataclass(frozen=True)
class Difference:
    """How far the challenger is ahead, with the law of its error.

    Attributes:
        champion, challenger: mean error, or AUROC.
        value: the difference, positive where the challenger is better: a share of the champion's error, or of AUROCs.
        error: its standard error; 0 where both models say the same of every sample, so that the difference is known.
        draws: of (estimate - truth) / standard error, (draws,), NaN where a draw tells nothing; None for the normal law.
        faultless: where both models rank without a fault, how many pairs of a novelty and a normal there are that share no
            sample and no group: no standard error can be told then; else 0.
    """

    champion: float
    challenger: float
    value: float
    error: float
    draws: np.ndarray | None = None
    faultless: int = 0

    def p_above(self, bound: float) -> float:
        """p-value of the claim that the true difference is above `bound`."""
        if self.faultless:
            # A challenger with an AUROC of 1 + bound ranks that many separate pairs without a fault this often at most.
            return (1 + bound) ** self.faultless if bound < 0 else 1.0
        if self.error == 0:
            return 0.0 if self.value > bound else 1.0
        t = (self.value - bound) / self.error
        if self.draws is None:
            return float(norm.sf(t))
        return (1 + int((self._high >= t).sum())) / (1 + len(self.draws))

    def p_below(self, bound: float) -> float:
        """p-value of the claim that the true difference is below `bound`."""
        if self.faultless:
            return 1.0
        if self.error == 0:
            return 0.0 if self.value < bound else 1.0
        t = (self.value - bound) / self.error
        if self.draws is None:
            return float(norm.cdf(t))
        return (1 + int((self._low <= t).sum())) / (1 + len(self.draws))

    def interval(self, tail: float) -> tuple[float, float]:
        """The differences that neither tail of this size contradicts; an end may be infinite."""
        if self.faultless:
            reach = 1 - tail ** (1 / self.faultless)
            return self.value - reach, self.value + reach
        if self.error == 0:
            return self.value, self.value
        if self.draws is None:
            low = high = float(norm.isf(tail))
        else:
            high = float(np.quantile(self._high, 1 - tail, method="higher"))
            low = -float(np.quantile(self._low, tail, method="lower"))
        return self.value - high * self.error, self.value + low * self.error

    @property
    def _high(self) -> np.ndarray:
        return filled(np.asarray(self.draws), np.inf)

    @property
    def _low(self) -> np.ndarray:
        return filled(np.asarray(self.draws), -np.inf)


def filled(draws: np.ndarray, value: float) -> np.ndarray:
    """The draws with those that tell nothing at `value`: as if they spoke against whatever is claimed."""
    return np.where(np.isnan(draws), value, draws)


@dataclass(frozen=True)
class Compared:
    """One comparison, judged.

    Attributes:
        champion, challenger, difference: as in `Difference`; None where nothing could be compared.
        interval: of the difference, at LEVEL / comparisons on either side; None for an end that is not known.
        p: of each claim, after Holm's correction.
        says: the result for a person, with the rule that decided.
    """

    name: str
    metric: str
    slice: str
    champion: float | None
    challenger: float | None
    difference: float | None
    interval: list[float | None] | None
    margin: float
    p: dict[str, float] | None
    verdict: str
    needs: str
    passed: bool
    says: str


# ---------------------------------------------------------------- from rules to verdicts


def questions(rules: Mapping[str, Rule], holdout: Holdout) -> list[Question]:
    """What the rules against the champion ask, one question a slice. Novelty is ranked against the normals of a slice."""
    return [
        Question(name, rule.champion, part, rule.margin, rule.needs or NEEDS_NOT_WORSE, rows)
        for name, rule in rules.items()
        if rule.champion is not None and rule.margin is not None
        for part, rows in slices(rule, holdout)
    ]


def slices(rule: Rule, holdout: Holdout) -> Iterator[tuple[str, np.ndarray]]:
    novelty = holdout.novelty & (rule.champion == AUROC)
    if rule.by is None:
        yield EVERYWHERE, ~holdout.novelty | novelty
        return
    labels = np.unique(holdout.label[~holdout.novelty & (holdout.label >= 0)])
    for label in labels:
        yield f"label {label}", ~holdout.novelty & (holdout.label == label) | novelty
    if not len(labels):  # a rule that finds nothing to judge must not pass
        yield "label", np.zeros(len(holdout.label), dtype=bool)


def compare(asked: list[Question], holdout: Holdout, champion: Scored, challenger: Scored) -> list[Compared]:
    """Each question, answered on the same samples by both models."""
    draws = max(DRAWS, DRAWS_A_COMPARISON * len(asked))
    found = [difference(question, holdout, champion, challenger, draws) for question in asked]
    p_values = {
        claim: holm([p_of(claim, one, question.margin) for one, question in zip(found, asked, strict=True)]) for claim in CLAIMS
    }
    return [
        untold(question, one)
        if isinstance(one, str)
        else told(question, one, {claim: p_values[claim][place] for claim in CLAIMS}, LEVEL / len(asked))
        for place, (question, one) in enumerate(zip(asked, found, strict=True))
    ]


def p_of(claim: str, found: Difference | str, margin: float) -> float:
    """The p-value of a claim, 1 where nothing could be compared."""
    if isinstance(found, str):
        return 1.0
    if claim == WORSE:
        return found.p_below(-margin)
    return found.p_above(margin if claim == BETTER else -margin)


def holm(p_values: list[float]) -> list[float]:
    """The p-values corrected for their number, step down (Holm 1979)."""
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = worst
    return corrected


def overall(found: list[Compared]) -> tuple[str, bool, list[str]]:
    """The verdict on a challenger, whether it is accepted, and why: what the rules that decided say."""
    verdict = next(word for word in GRAVEST_FIRST if any(one.verdict == word for one in found))
    failed = [one.says for one in found if not one.passed]
    if failed:
        return verdict, False, failed
    decided = [one for one in found if one.verdict == verdict]
    if verdict == NOT_WORSE:  # all of them decided: the one that came nearest to another verdict speaks for them
        decided = [max(decided, key=lambda one: (one.p or {})[NOT_WORSE])]
    return verdict, True, [one.says for one in decided]


def chance_of_luck(judged: int) -> float:
    """Chance at most, that of so many candidates which are no better at least one was called better."""
    return 1 - (1 - LEVEL) ** judged


# ---------------------------------------------------------------- what is told


def told(question: Question, found: Difference, p_values: dict[str, float], tail: float) -> Compared:
    verdict = next((claim for claim in CLAIMS if p_values[claim] <= LEVEL), CANNOT_TELL)
    ends = found.interval(tail)
    p = p_values[verdict] if verdict in p_values else min(p_values.values())
    what = "AUROC" if question.metric == AUROC else "error"
    where = "" if question.slice == EVERYWHERE else f" on {question.slice}"
    says = (
        f"{question.name}: {what}{where} is {found.challenger:.4g}, the champion's {found.champion:.4g}: "
        f"{shown(question.metric, found.value)} ({' to '.join(shown(question.metric, end) for end in ends)}; above 0 is better); "
        f"{MEANS[verdict].format(margin=unsigned(question.metric, question.margin), p=f'{p:.2g}')}; "
        f"{question.needs.replace('-', ' ')} is needed"
    )
    return Compared(
        **of_question(question),
        champion=found.champion,
        challenger=found.challenger,
        difference=found.value,
        interval=[end if math.isfinite(end) else None for end in ends],
        p=p_values,
        verdict=verdict,
        passed=verdict in SUFFICE[question.needs],
        says=says,
    )


MEANS = {
    BETTER: "better by more than the margin of {margin} (p {p})",
    NOT_WORSE: "not worse by as much as the margin of {margin} (p {p})",
    WORSE: "worse by more than the margin of {margin} (p {p})",
    CANNOT_TELL: "cannot tell whether it is worse by the margin of {margin} (the smallest p is {p})",
}


def untold(question: Question, why: str) -> Compared:
    """A comparison that could not be made."""
    where = "" if question.slice == EVERYWHERE else f" on {question.slice}"
    needed = f"{question.needs.replace('-', ' ')} is needed"
    return Compared(
        **of_question(question),
        champion=None,
        challenger=None,
        difference=None,
        interval=None,
        p=None,
        verdict=CANNOT_TELL,
        passed=False,
        says=f"{question.name}: cannot tell by {question.metric}{where}: {why}; {needed}",
    )


def of_question(question: Question) -> dict[str, Any]:
    return {key: getattr(question, key) for key in ("name", "metric", "slice", "margin", "needs")}


def shown(metric: str, value: float) -> str:
    """A difference with its sign: of errors in per cent of the champion's."""
    if not math.isfinite(value):
        return "not known"
    return f"{100 * value:+.1f} %" if metric == ERROR else f"{value:+.4f}"


def unsigned(metric: str, value: float) -> str:
    return shown(metric, value).lstrip("+")


# ---------------------------------------------------------------- differences


def difference(question: Question, holdout: Holdout, champion: Scored, challenger: Scored, draws: int) -> Difference | str:
    """The difference that a question asks for, or why there is none."""
    of = "score" if question.metric == AUROC else "error"
    before, after = (getattr(model, of)[question.rows].astype(np.float64) for model in (champion, challenger))
    novelty, group = holdout.novelty[question.rows], holdout.group[question.rows]
    parts = {"normals": ~novelty} | ({"novelty": novelty} if question.metric == AUROC else {})
    if few := [
        f"{len(np.unique(group[rows]))} of {name}" for name, rows in parts.items() if len(np.unique(group[rows])) < FEWEST
    ]:
        return f"{' and '.join(few)} to compare on; {FEWEST} groups of samples or more are needed"
    for who, values in (("champion", before), ("challenger", after)):
        if not np.isfinite(values).all():
            return f"the {who}'s {of} of {int((~np.isfinite(values)).sum())} of {len(values)} samples is no number"
    if question.metric == AUROC:
        return auroc_difference(before, after, novelty, group)
    if not before.any():
        return "the champion's error is 0, and no share of that can be told"
    return error_difference(before, after, group, draws)


def error_difference(champion: np.ndarray, challenger: np.ndarray, group: np.ndarray, draws: int) -> Difference:
    """1 - (sum of the challenger's errors) / (sum of the champion's), by a paired and studentised bootstrap of the groups.

    The ratio of two means is drawn with its own standard error each time (Efron and Tibshirani 1993, chapter 12), which is
    accurate for skewed errors and few groups, where percentiles are not.

    Args:
        champion, challenger: the errors of the same samples, (n,).
        group: (n,).
        draws: of the bootstrap.
    """
    codes, count = coded(group)
    of_champion, of_challenger = (np.bincount(codes, weights=errors, minlength=count) for errors in (champion, challenger))
    ratio = of_challenger.sum() / of_champion.sum()
    residual = of_challenger - ratio * of_champion
    residual[np.abs(residual) <= ROUNDING * of_champion.max()] = 0  # one model's errors in a fixed proportion to the other's
    scale = math.sqrt(count / (count - 1))
    return Difference(
        champion=float(champion.mean()),
        challenger=float(challenger.mean()),
        value=float(1 - ratio),
        error=scale * math.sqrt(float(np.square(residual).sum())) / float(of_champion.sum()),
        draws=studentised_draws(of_champion, residual, scale, draws) if residual.any() else None,
    )


def studentised_draws(champion: np.ndarray, residual: np.ndarray, scale: float, draws: int) -> np.ndarray:
    """Draws of (difference - observed difference) / standard error, (draws,).

    With r the observed ratio, the residuals of a draw whose ratio is r + s are `residual - s * champion`: written like this,
    nothing cancels however near the two models are.
    """
    count = len(champion)
    sums = np.stack([champion, residual, residual**2, residual * champion, champion**2], axis=1)
    generator = np.random.default_rng(SEED)
    parts = []
    for rows in blocks(draws, max(1, DRAWN_AT_ONCE // count)):
        chosen = generator.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(chosen.ravel(), minlength=rows * count).reshape(rows, count)
        a, e, ee, ea, aa = (times @ sums).T
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw without any error tells nothing: NaN
            slip = e / a
            error = scale * np.sqrt(np.maximum(ee - 2 * slip * ea + slip**2 * aa, 0)) / a
            parts.append(-slip / error)
    return np.concatenate(parts)


def blocks(total: int, size: int) -> Iterable[int]:
    return (min(size, total - first) for first in range(0, total, size))


def coded(group: np.ndarray) -> tuple[np.ndarray, int]:
    """Groups as whole numbers from 0, and how many there are."""
    found, codes = np.unique(group, return_inverse=True)
    return codes, len(found)


def auroc_difference(champion: np.ndarray, challenger: np.ndarray, novelty: np.ndarray, group: np.ndarray) -> Difference:
    """Difference of two AUROCs on the same samples, with DeLong's standard error (DeLong et al. 1988, Biometrics 44).

    Where samples share groups, Obuchowski's (1997, Biometrics 53) takes its place, which is DeLong's for groups of one.

    Args:
        champion, challenger: the scores of the same samples, (n,).
        novelty: bool (n,), some of both.
        group: (n,).
    """
    before, after = (placements(score[novelty], score[~novelty]) for score in (champion, challenger))
    of_novelty, of_normals = after[0] - before[0], after[1] - before[1]
    value = float(of_novelty.mean())
    codes, count = coded(group)
    variance = grouped_variance(of_novelty - value, of_normals - value, codes[novelty], codes[~novelty], count)
    faultless = variance == 0 and after[0].min() == 1 and not np.array_equal(rankdata(champion), rankdata(challenger))
    pairs = min(len(np.unique(codes[part])) for part in (novelty, ~novelty))
    return Difference(
        champion=float(before[0].mean()),
        challenger=float(after[0].mean()),
        value=value,
        error=math.sqrt(max(variance, 0.0)),
        faultless=pairs if faultless else 0,
    )


def placements(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's structural components: the share of negatives below each positive and of positives above each negative.

    Midranks give them in O(n log n), ties counted half (Sun and Xu 2014, IEEE Signal Processing Letters 21).
    """
    m, n = len(positives), len(negatives)
    ranks = rankdata(np.concatenate([positives, negatives]))
    return (ranks[:m] - rankdata(positives)) / n, 1 - (ranks[m:] - rankdata(negatives)) / m


def grouped_variance(
    of_positives: np.ndarray, of_negatives: np.ndarray, positive_codes: np.ndarray, negative_codes: np.ndarray, count: int
) -> float:
    """Variance of a mean of structural components whose sums over groups vary as a whole (Obuchowski 1997).

    Args:
        of_positives, of_negatives: components less their mean, (m,) and (n,).
        positive_codes, negative_codes: the group of each, from 0 to `count` - 1.
    """
    m, n = len(of_positives), len(of_negatives)
    x = np.bincount(positive_codes, weights=of_positives, minlength=count) / m
    y = np.bincount(negative_codes, weights=of_negatives, minlength=count) / n
    with_positives, with_negatives = len(np.unique(positive_codes)), len(np.unique(negative_codes))
    own = unbiased(with_positives) * (x @ x) + unbiased(with_negatives) * (y @ y)
    return float(own + 2 * unbiased(count) * (x @ y))


def unbiased(count: int) -> float:
    return count / (count - 1)
