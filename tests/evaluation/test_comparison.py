"""The statistics of the gate against the champion, beside formulas and draws that are written otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from aeops.gate import comparison
from aeops.gate.comparison import (
    BETTER,
    CANNOT_TELL,
    LEVEL,
    NOT_WORSE,
    WORSE,
    ComparisonSpec,
    ComparisonVerdict,
    HoldoutSamples,
    ModelScores,
    combine_results,
    compare_models,
    correct_holm,
    estimate_auroc_difference,
    estimate_error_difference,
    estimate_power_difference,
    false_accept_probability,
    plan_comparisons,
)
from aeops.gate.margins import resolve_margins
from aeops.gate.seed_record import no_seed_spread
from aeops.recipe.gate_rules import Rule

ERROR = Rule(champion="error", margin=0.05)
AUROC = Rule(champion="auroc", margin=0.05)


def scores(seed: int, normals: int = 90, novelties: int = 40, digits: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models' scores of the same samples, related; few digits make ties."""
    rng = np.random.default_rng(seed)
    novelty = np.repeat([False, True], [normals, novelties])
    shared = rng.normal(size=len(novelty)) + novelty
    one, two = (np.round(shared + 0.7 * rng.normal(size=len(novelty)) + 0.3 * novelty * k, digits) for k in (0, 1))
    return one, two, novelty


def pairs(score: np.ndarray, novelty: np.ndarray) -> np.ndarray:
    """Which novelty scores above which normal, (novelties, normals), ties a half."""
    above = score[novelty][:, None] - score[~novelty][None, :]
    return (above > 0) + 0.5 * (above == 0)


def singles(n: int) -> np.ndarray:
    return np.arange(n)


def samples(
    error_ratio: float, score_shift: float = 0.0, n: int = 400, noise: float = 0.1
) -> tuple[HoldoutSamples, ModelScores, ModelScores]:
    """A holdout with four labels of normals and one novelty; the challenger's errors are `error_ratio` times the champion's."""
    rng = np.random.default_rng(7)
    label = np.arange(n) % 5
    novelty = label == 4
    champion = rng.lognormal(0, 0.6, n)
    challenger = champion * error_ratio * rng.lognormal(-(noise**2) / 2, noise, n)
    score = rng.normal(size=n) + 2 * novelty
    moved = score + score_shift * novelty + 0.1 * rng.normal(size=n)
    return HoldoutSamples(novelty, label, singles(n)), ModelScores(champion, score), ModelScores(challenger, moved)


def planned(rules: dict[str, Rule], holdout: HoldoutSamples) -> list[ComparisonSpec]:
    return plan_comparisons(rules, holdout, resolve_margins(rules, no_seed_spread("digits")))


def judged(rules: dict[str, Rule], holdout: HoldoutSamples, champion: ModelScores, challenger: ModelScores):
    return compare_models(planned(rules, holdout), holdout, champion, challenger)


# ---------------------------------------------------------------- power


POWER = Rule(champion="power", margin=0.05)


def powers(shift: float, n: int = 300) -> tuple[HoldoutSamples, ModelScores, ModelScores]:
    """A holdout of normals, of which every other one got faults; the challenger catches `shift` more of them."""
    rng = np.random.default_rng(5)
    by_sample = np.where(np.arange(n) % 2 == 0, rng.beta(2, 3, n), np.nan)
    champion = ModelScores(np.ones(n), np.zeros(n), by_sample)
    challenger = replace(champion, power=by_sample + shift + 0.1 * rng.normal(size=n))
    return HoldoutSamples(np.zeros(n, dtype=bool), np.zeros(n, dtype=int), singles(n)), champion, challenger


@pytest.mark.parametrize(
    ("shift", "verdict", "accepted"),
    [(0.12, BETTER, True), (0.0, NOT_WORSE, True), (-0.05, CANNOT_TELL, False), (-0.12, WORSE, False)],
)
def test_a_challenger_is_judged_by_the_faults_that_it_catches(shift, verdict, accepted):
    [found] = judged({"power": POWER}, *powers(shift))
    assert (found.verdict, found.passed) == (verdict, accepted)
    assert found.difference == pytest.approx(shift, abs=0.03)
    assert found.challenger - found.champion == pytest.approx(found.difference)
    assert found.message.startswith("power: mean power is")


def test_the_difference_of_two_powers_and_its_error_are_those_of_paired_values():
    _, champion, challenger = powers(0.02)
    measured = ~np.isnan(champion.power)
    old, new = champion.power[measured], challenger.power[measured]
    found = estimate_power_difference(old, new, singles(len(old)), 4000)
    assert found.value == pytest.approx((new - old).mean())
    assert found.standard_error == pytest.approx((new - old).std(ddof=1) / np.sqrt(len(old)))
    low, high = found.interval(0.025)
    expected = stats.t.interval(0.95, len(old) - 1, found.value, found.standard_error)
    assert (low, high) == pytest.approx(expected, abs=0.2 * found.standard_error)
    thrice = estimate_power_difference(old.repeat(3), new.repeat(3), singles(len(old)).repeat(3), 4000)
    assert (thrice.value, thrice.standard_error) == pytest.approx((found.value, found.standard_error))


def test_two_models_that_catch_the_same_are_not_worse_and_without_faults_nothing_is_claimed():
    holdout, champion, _ = powers(0.0)
    [same] = judged({"power": POWER}, holdout, champion, champion)
    assert (same.verdict, same.difference, same.interval) == (NOT_WORSE, 0, [0, 0])
    for unmeasured in (replace(champion, power=None), replace(champion, power=np.full(300, np.nan))):
        [found] = judged({"power": POWER}, holdout, unmeasured, unmeasured)
        assert (found.verdict, found.passed) == (CANNOT_TELL, False)
        assert "0 of normals to compare on" in found.message
    [broken] = judged({"power": POWER}, holdout, champion, replace(champion, power=None))
    assert "the challenger's power of 150 of 150 samples is not a finite number" in broken.message


# ---------------------------------------------------------------- AUROC


@pytest.mark.parametrize("digits", [6, 0])
def test_the_auroc_difference_and_its_error_are_delongs_by_the_full_table_of_pairs(digits):
    one, two, novelty = scores(1, digits=digits)
    psi = pairs(two, novelty) - pairs(one, novelty)
    variance = psi.mean(axis=1).var(ddof=1) / novelty.sum() + psi.mean(axis=0).var(ddof=1) / (~novelty).sum()
    found = estimate_auroc_difference(one, two, novelty, singles(len(one)))
    assert found.value == pytest.approx(roc_auc_score(novelty, two) - roc_auc_score(novelty, one))
    assert found.value == pytest.approx(psi.mean())
    assert found.standard_error == pytest.approx(np.sqrt(variance))
    assert found.champion == pytest.approx(roc_auc_score(novelty, one))


def test_the_error_of_the_auroc_difference_is_what_a_bootstrap_finds():
    one, two, novelty = scores(2)
    psi, rng = pairs(two, novelty) - pairs(one, novelty), np.random.default_rng(0)
    drawn = [psi[np.ix_(*(rng.integers(size, size=size) for size in psi.shape))].mean() for _ in range(1500)]
    assert estimate_auroc_difference(one, two, novelty, singles(len(one))).standard_error == pytest.approx(np.std(drawn), rel=0.1)


def test_copies_of_samples_in_one_group_are_no_more_evidence():
    one, two, novelty = scores(3)
    rows = np.repeat(singles(len(one)), 3)
    single = estimate_auroc_difference(one, two, novelty, singles(len(one)))
    copied = estimate_auroc_difference(one[rows], two[rows], novelty[rows], rows)
    assert copied.value == pytest.approx(single.value)
    assert copied.standard_error == pytest.approx(single.standard_error)
    mistaken = estimate_auroc_difference(one[rows], two[rows], novelty[rows], singles(len(rows)))
    assert mistaken.standard_error < 0.7 * single.standard_error


def test_a_group_of_novelty_and_normals_that_err_together_counts_their_covariance():
    rng = np.random.default_rng(4)
    group = np.repeat(singles(60), 2)
    novelty = np.tile([True, False], 60)
    common = np.repeat(rng.normal(size=60), 2)  # lifts the novelty and the normal of a group alike, which cancels in a rank
    score = common + 0.5 * novelty + 0.1 * rng.normal(size=120)
    other = np.random.default_rng(5).normal(size=120)
    together, apart = (estimate_auroc_difference(other, score, novelty, codes) for codes in (group, singles(120)))
    psi = pairs(score, novelty) - pairs(other, novelty)
    drawn = [psi[np.ix_(chosen, chosen)].mean() for chosen in rng.integers(60, size=(1500, 60))]
    assert together.standard_error == pytest.approx(np.std(drawn), rel=0.12)
    assert apart.standard_error > 1.15 * together.standard_error


def test_models_that_rank_alike_are_not_worse_for_sure():
    one, _, novelty = scores(6)
    found = estimate_auroc_difference(one, 3 * one + 1, novelty, singles(len(one)))
    assert (found.value, found.standard_error) == (0, 0)
    assert found.p_above(-0.01) == 0
    assert found.p_above(0.01) == 1
    assert found.interval(LEVEL) == (0, 0)


def test_a_ranking_without_a_fault_proves_no_more_than_its_pairs_can():
    rng = np.random.default_rng(8)
    novelty = np.repeat([False, True], [200, 50])
    one, two = (rng.random(250) + 2 * novelty for _ in range(2))
    found = estimate_auroc_difference(one, two, novelty, singles(250))
    assert found.value == 0
    assert found.p_above(-0.1) == pytest.approx(0.9**50)
    assert found.p_above(-0.01) == pytest.approx(0.99**50)
    assert found.p_above(0.01) == 1
    assert found.p_below(-0.01) == 1
    low, high = found.interval(0.025)
    assert found.p_above(low) == pytest.approx(0.025)
    assert high == -low


# ---------------------------------------------------------------- error


def test_the_error_difference_is_a_share_of_the_champions_and_positive_where_less_is_wrong():
    champion, challenger = np.array([2.0, 4.0, 6.0] * 10), np.array([1.0, 2.0, 6.0] * 10)
    found = estimate_error_difference(champion, challenger, singles(30), draws=500)
    assert found.value == pytest.approx(1 - 9 / 12)
    assert (found.champion, found.challenger) == (4, 3)


def test_the_interval_of_the_error_difference_is_that_of_a_plain_bootstrap_where_there_are_many_samples():
    _, champion, challenger = samples(0.9, n=1000, noise=0.5)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(2000):
        rows = rng.integers(1000, size=1000)
        drawn.append(1 - challenger.error[rows].mean() / champion.error[rows].mean())
    found = estimate_error_difference(champion.error, challenger.error, singles(1000), draws=4000)
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.08)
    assert found.interval(0.05) == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.3 * found.standard_error)


def test_the_interval_holds_the_truth_as_often_as_it_says_though_errors_are_skewed_and_few():
    rng = np.random.default_rng(11)
    too_low = too_high = 0
    for _ in range(400):
        champion = rng.lognormal(0, 0.8, 30)
        challenger = champion * rng.lognormal(-0.125, 0.5, 30)  # of mean 1: the true difference is 0
        low, high = estimate_error_difference(champion, challenger, singles(30), draws=400).interval(0.05)
        too_low += high < 0
        too_high += low > 0
    assert 400 * 0.02 <= too_low <= 400 * 0.1
    assert 400 * 0.02 <= too_high <= 400 * 0.1


def test_copied_errors_in_one_group_are_no_more_evidence():
    _, champion, challenger = samples(0.9, noise=0.5)
    rows = np.repeat(singles(400), 4)
    single = estimate_error_difference(champion.error, challenger.error, singles(400), draws=1000)
    copied = estimate_error_difference(champion.error[rows], challenger.error[rows], rows, draws=1000)
    assert copied.standard_error == pytest.approx(single.standard_error)
    assert copied.interval(LEVEL) == pytest.approx(single.interval(LEVEL))


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-12, 0.5])
def test_errors_in_one_fixed_proportion_are_told_apart_without_noise(factor):
    champion = np.random.default_rng(0).lognormal(size=200)
    found = estimate_error_difference(champion, factor * champion, singles(200), draws=400)
    assert found.value == pytest.approx(1 - factor, abs=1e-9)
    assert found.standard_error == 0
    assert found.p_above(1 - factor - 0.01) == 0
    assert found.p_above(1 - factor + 0.01) == 1
    assert found.interval(0.025) == pytest.approx((1 - factor, 1 - factor), abs=1e-9)


def test_draws_that_tell_nothing_speak_against_every_claim():
    champion = np.zeros(30)
    champion[:2] = 1.0  # one draw in eight holds neither of them
    challenger = champion * np.array([0.1, 0.2] + [1.0] * 28)
    found = estimate_error_difference(champion, challenger, singles(30), draws=2000)
    assert found.value == pytest.approx(0.85)
    assert found.p_above(-0.5) > 0.1
    assert not np.isfinite(found.interval(LEVEL)[0])


def test_the_draws_are_the_same_each_time_and_in_blocks_of_any_size(monkeypatch):
    _, champion, challenger = samples(0.95)
    whole = estimate_error_difference(champion.error, challenger.error, singles(400), draws=1000)
    again = estimate_error_difference(champion.error, challenger.error, singles(400), draws=1000)
    assert np.array_equal(whole.draws, again.draws)
    monkeypatch.setattr(comparison, "MAX_DRAWN_NUMBERS", 400 * 7)
    small = estimate_error_difference(champion.error, challenger.error, singles(400), draws=1000)
    assert small.draws == pytest.approx(whole.draws)


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("ratio", "noise", "verdict"), [(0.8, 0.1, BETTER), (1.0, 0.1, NOT_WORSE), (1.2, 0.1, WORSE), (1.15, 1.0, CANNOT_TELL)]
)
def test_errors_are_judged_by_where_their_difference_lies_beside_the_margin(ratio, noise, verdict):
    [found] = judged({"error": ERROR}, *samples(ratio, noise=noise))
    assert found.verdict == verdict, found.message
    assert found.passed is (verdict in (BETTER, NOT_WORSE))
    low, high = found.interval
    assert low < found.difference < high
    expected = {BETTER: low > 0.05, NOT_WORSE: -0.05 < low < 0.05, WORSE: high < -0.05, CANNOT_TELL: low < -0.05 < high}
    assert expected[verdict]


@pytest.mark.parametrize(("shift", "verdict"), [(1.5, BETTER), (0.0, NOT_WORSE), (-1.5, WORSE), (-0.2, CANNOT_TELL)])
def test_scores_are_judged_by_where_the_difference_of_their_aurocs_lies(shift, verdict):
    holdout, champion, challenger = samples(1.0, shift)
    lower = replace(champion, score=champion.score - 0.8 * holdout.novelty)  # leaves room above
    [found] = judged({"rank": AUROC}, holdout, lower, replace(challenger, score=challenger.score - 0.8 * holdout.novelty))
    assert found.verdict == verdict, found.message
    assert (found.metric, found.slice) == ("auroc", "all")


def test_a_rule_that_needs_better_is_not_content_with_not_worse():
    holdout, champion, challenger = samples(1.0)
    [found] = judged({"gains": replace(ERROR, needs="better")}, holdout, champion, challenger)
    assert (found.verdict, found.passed) == (NOT_WORSE, False)
    assert "better is needed" in found.message
    assert combine_results([found]) == ComparisonVerdict(NOT_WORSE, False, [found.message])


def test_a_sentence_names_the_rule_both_models_the_interval_and_the_margin():
    [found] = judged({"keeps_its_error": ERROR}, *samples(0.8))
    assert found.message.startswith("keeps_its_error: error is ")
    for text in (f"{found.champion:.4g}", f"{found.challenger:.4g}", f"{100 * found.difference:+.1f} %", "margin of 5.0 %"):
        assert text in found.message


def test_by_label_compares_the_normals_of_each_label_and_ranks_all_novelty_against_them():
    holdout, champion, challenger = samples(1.0)
    rules = {"error": replace(ERROR, by="label"), "rank": replace(AUROC, by="label")}
    specs = planned(rules, holdout)
    assert [question.slice for question in specs] == [f"label {label}" for label in range(4)] * 2
    assert np.array_equal(specs[1].rows, holdout.label == 1)
    assert np.array_equal(specs[5].rows, (holdout.label == 1) | holdout.novelty)
    found = compare_models(specs, holdout, champion, challenger)
    rows = holdout.label == 2
    assert found[2].difference == pytest.approx(1 - challenger.error[rows].mean() / champion.error[rows].mean())
    both = rows | holdout.novelty
    assert found[6].challenger == pytest.approx(roc_auc_score(holdout.novelty[both], challenger.score[both]))


def test_one_bad_label_is_found_though_the_whole_is_not_worse():
    holdout, champion, challenger = samples(1.0, n=1000)
    error = np.where(holdout.label == 3, 1.4, 0.9) * challenger.error
    found = judged({"all": ERROR, "each": replace(ERROR, by="label")}, holdout, champion, replace(challenger, error=error))
    assert found[0].verdict != WORSE
    assert [one.slice for one in found if one.verdict == WORSE] == ["label 3"]
    decision = combine_results(found)
    assert (decision.verdict, decision.accepted) == (WORSE, False)
    assert any("on label 3" in reason for reason in decision.reasons)


def test_holms_correction_is_that_of_a_worked_example():
    assert correct_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_holm([0.5, 0.9]) == [1.0, 1.0]
    assert correct_holm([]) == []


def test_more_comparisons_ask_for_more_evidence():
    holdout, champion, challenger = samples(0.925, noise=0.25)
    alone = judged({"error": ERROR}, holdout, champion, challenger)[0]
    among = judged(
        {"error": ERROR, **{f"more_{i}": replace(AUROC, margin=0.4) for i in range(20)}}, holdout, champion, challenger
    )[0]
    assert among.p_values[BETTER] > 5 * alone.p_values[BETTER]
    assert among.interval[0] < alone.interval[0]
    assert among.interval[1] > alone.interval[1]


def test_a_hundred_comparisons_can_still_prove_something():
    holdout, champion, challenger = samples(0.5)
    found = judged({"error": ERROR, **{f"more_{i}": AUROC for i in range(99)}}, holdout, champion, challenger)
    assert found[0].verdict == BETTER, found[0].message


def test_equal_models_on_many_slices_are_called_better_no_oftener_than_the_level_says():
    rng = np.random.default_rng(3)
    holdout, wrong = HoldoutSamples(np.zeros(160, bool), np.repeat(np.arange(4), 40), singles(160)), 0
    rules = {"each": Rule(champion="error", margin=1e-6, by="label")}
    for _ in range(100):
        champion = rng.lognormal(0, 0.6, 160)
        challenger = champion * rng.lognormal(-0.045, 0.3, 160)  # of mean 1: they are equal but for the samples
        found = judged(rules, holdout, ModelScores(champion, champion), ModelScores(challenger, challenger))
        wrong += any(one.verdict == BETTER for one in found)
    assert wrong <= 7  # 2.5 are meant; eight or more would come once in two hundred times


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda holdout, one, two: (replace(holdout, group=holdout.group % 19), one, two), "19 of normals"),
        (
            lambda holdout, one, two: (holdout, one, replace(two, error=two.error * np.nan)),
            "the challenger's error of 320 of 320",
        ),
        (lambda holdout, one, two: (holdout, replace(one, error=0 * one.error), two), "the champion's error is 0"),
    ],
)
def test_what_cannot_be_compared_is_not_called_equal(spoil, why):
    [found] = judged({"error": ERROR}, *spoil(*samples(1.0)))
    assert (found.verdict, found.passed, found.difference, found.interval, found.p_values) == (
        CANNOT_TELL,
        False,
        None,
        None,
        None,
    )
    assert why in found.message


def test_little_novelty_is_not_ranked():
    holdout, champion, challenger = samples(1.0)
    few = replace(holdout, novelty=holdout.novelty & (singles(400) < 50))
    [found] = judged({"rank": AUROC}, few, champion, challenger)
    assert found.verdict == CANNOT_TELL
    assert "10 of novelty to compare on; 20 groups" in found.message


def test_a_rule_by_label_without_labels_does_not_pass():
    holdout, champion, challenger = samples(1.0)
    unlabelled = replace(holdout, label=np.full(400, -1))
    [found] = judged({"each": replace(ERROR, by="label")}, unlabelled, champion, challenger)
    assert (found.slice, found.verdict, found.passed) == ("label", CANNOT_TELL, False)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([BETTER, NOT_WORSE], BETTER),
        ([NOT_WORSE, NOT_WORSE], NOT_WORSE),
        ([BETTER, CANNOT_TELL], CANNOT_TELL),
        ([BETTER, CANNOT_TELL, WORSE], WORSE),
    ],
)
def test_the_gravest_comparison_decides_and_tells_why(verdicts, whole):
    [one] = judged({"error": ERROR}, *samples(1.0))
    found = [
        replace(one, verdict=verdict, passed=verdict in (BETTER, NOT_WORSE), message=f"{place} {verdict}")
        for place, verdict in enumerate(verdicts)
    ]
    decision = combine_results(found)
    assert (decision.verdict, decision.accepted) == (whole, whole in (BETTER, NOT_WORSE))
    assert decision.reasons
    assert all(whole in reason or not decision.accepted for reason in decision.reasons)


def test_a_holdout_is_worn_from_the_28th_candidate_on():
    assert false_accept_probability(1) == pytest.approx(LEVEL)
    assert false_accept_probability(27) < comparison.REUSE_LIMIT < false_accept_probability(28)
