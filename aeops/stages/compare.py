"""Compare a challenger with the champion on the prepared test samples, by the recipe's rules; a refusal exits with 0, too.

    python -m aeops.stages.compare --recipe recipes/digits.yaml --prepared DIR --challenger BUNDLE
        [--champion BUNDLE --champion-version N] --judged K --out comparison.json

It is no stage of DVC: the champion changes in the registry while the files stay the same.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ae_models.spec import ColumnSpec
from aeops.bundle.detector import Detector
from aeops.data.fit_samples import learnt_fit
from aeops.errors import UsageError
from aeops.evaluation import fault_power
from aeops.evaluation.paired_scores import predict_both, sample_difference
from aeops.evaluation.prepared import PreparedSamples, load_prepared
from aeops.files import make_folder, write_json
from aeops.gate import comparison
from aeops.gate.comparison import ComparisonResult, ComparisonVerdict, HoldoutSamples, ModelScores
from aeops.gate.documents import STALE, ChampionRecord, ComparisonDocument, HoldoutRecord
from aeops.gate.evidence import holdout_sha256
from aeops.gate.margins import DEFAULT, resolve_margins
from aeops.gate.seed_record import SeedSpread, load_seed_spread, no_seed_spread
from aeops.machine.entry_point import run_main
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.gate_rules import POWER
from aeops.recipe.metric_names import MODEL_DETECTOR
from aeops.recipe.reader import Recipe, read_recipe
from aeops.recipe.studies import POWER_STUDY, PowerStudy

FIRST_VERSION, SAME_BUNDLE, NOT_COMPARED = "first", "the same", "not compared"


@dataclass(frozen=True)
class Champion:
    """The version that is served today, and its bundle."""

    version: str
    bundle: Path


def compare(
    recipe: Recipe,
    prepared: Path,
    challenger: Path,
    champion: Champion | None,
    candidate_count: int,
    output_file: Path,
    seeds: SeedSpread | None = None,
) -> ComparisonDocument:
    """Compare two bundles on the test samples in `prepared`; write and return comparison.json.

    Args:
        recipe: its rules with the key `champion` decide.
        prepared: the folder of the stage prepare.
        challenger: a bundle.
        champion: None if the recipe has none yet.
        candidate_count: number of candidates that were evaluated on these test samples, this one included.
        output_file: where to write comparison.json.
        seeds: of the recipe's record of seeds, for the margins of rules that name none; None: there is no such record.

    Raises:
        DataError: no prepared samples, or a bundle that must not be used.
        UsageError: candidate_count below 1.
    """
    if candidate_count < 1:
        raise UsageError(f"--judged: expected 1 or more, as this candidate counts, got {candidate_count}")
    holdout_digest, data = holdout_sha256(prepared), load_prepared(prepared)
    # A champion may have other codes for the categories of a table, and other ranges of the channels of a series.
    recipe = replace(recipe, fit=learnt_fit(recipe.fit, read_json(prepared / "prepared.json")))
    challenger_detector = Detector(challenger)
    champion_detector: Detector | None = None
    champion_record: ChampionRecord | None = None
    if champion is not None:
        champion_detector = Detector(champion.bundle)
        champion_record = {"version": champion.version, "bundle_sha256": champion_detector.sha256}
    if seeds is None:
        seeds = no_seed_spread(recipe.name)
    results, verdict = compare_detectors(recipe, data, challenger_detector, champion_detector, seeds)
    holdout = holdout_record(holdout_digest, len(data.test), candidate_count)
    warnings = []
    if holdout["worn"]:
        warnings.append(reuse_warning(recipe, candidate_count, holdout["chance_of_luck"]))
    if seeds.evidence["state"] == STALE and any(result.margin.source == DEFAULT for result in results):
        warnings.append(f"default margins hold: {seeds.evidence['reason']}")
    document: ComparisonDocument = {
        "format": 1,
        "recipe": recipe.name,
        "verdict": verdict.verdict,
        "accepted": verdict.accepted,
        "champion": champion_record,
        "challenger": {"bundle_sha256": challenger_detector.sha256},
        "holdout": holdout,
        "level": comparison.LEVEL,
        "seeds": seeds.evidence,
        "rules": [result.to_dict() for result in results],
        "reasons": verdict.reasons,
        "warnings": warnings,
    }
    make_folder(output_file.parent)
    write_json(output_file, document)
    return document


def holdout_record(digest: str, row_count: int, candidate_count: int) -> HoldoutRecord:
    """Return the record of the test samples: hash, rows, uses, and the probability of accepting a candidate by chance."""
    false_accept_probability = comparison.false_accept_probability(candidate_count)
    return {
        "sha256": digest,
        "rows": row_count,
        "judged": candidate_count,
        "chance_of_luck": false_accept_probability,
        "worn": false_accept_probability > comparison.REUSE_LIMIT,
    }


def compare_detectors(
    recipe: Recipe, data: PreparedSamples, challenger: Detector, champion: Detector | None, seeds: SeedSpread
) -> tuple[list[ComparisonResult], ComparisonVerdict]:
    """Return the result of each comparison, and the verdict over all of them with its reasons."""
    if champion is None:
        reason = f"{recipe.name} had no champion: there was nothing to compare with"
        return [], ComparisonVerdict(FIRST_VERSION, True, [reason])
    if champion.sha256 == challenger.sha256:
        reason = f"the challenger has the same bundle as the champion, {champion.sha256[:12]}"
        return [], ComparisonVerdict(SAME_BUNDLE, True, [reason])
    holdout = HoldoutSamples(data.novelty, data.labels, data.table["group"].to_numpy(dtype=str))
    planned_comparisons = comparison.plan_comparisons(recipe.gate, holdout, resolve_margins(recipe.gate, seeds))
    if not planned_comparisons:
        reason = f"recipes/{recipe.name}.yaml has no rule with the key champion: the challenger is not compared with the champion"
        return [], ComparisonVerdict(NOT_COMPARED, True, [reason])
    if difference := sample_difference(champion, challenger):
        reason = f"the champion expects other samples: {difference}; to start without a champion, type ae retire {recipe.name}"
        results = [comparison.build_failed_result(planned_comparison, reason) for planned_comparison in planned_comparisons]
    else:
        champion_scores, challenger_scores = score_both(recipe, data, champion, challenger)
        if any(planned_comparison.metric == POWER for planned_comparison in planned_comparisons):
            champion_power, challenger_power = measure_powers(recipe, data, champion, challenger)
            champion_scores = replace(champion_scores, power=champion_power)
            challenger_scores = replace(challenger_scores, power=challenger_power)
        results = comparison.compare_models(planned_comparisons, holdout, champion_scores, challenger_scores)
    return results, comparison.combine_results(results)


def score_both(
    recipe: Recipe, data: PreparedSamples, champion: Detector, challenger: Detector
) -> tuple[ModelScores, ModelScores]:
    """Score the test samples with champion and challenger, as `aeops.evaluation.paired_scores.predict_both` does."""
    of_champion, of_challenger = predict_both(recipe, data, champion, challenger)
    return ModelScores(of_champion.error, of_champion.score), ModelScores(of_challenger.error, of_challenger.score)


def measure_powers(recipe: Recipe, data: PreparedSamples, champion: Detector, challenger: Detector) -> list[np.ndarray]:
    """Return what each test sample adds to the mean power of champion and challenger, (n,) each, NaN for those left out.

    Both have a threshold of the rate that the challenger's requests, from the same calibration samples: otherwise the one that
    is allowed more false alarms would catch more.
    """
    study: PowerStudy = recipe.evaluate.studies.get(POWER_STUDY, PowerStudy())
    calibration = np.load(data.folder / "calibration.npy", mmap_mode="r")
    samples = fault_power.draw_power_samples(recipe.fit, data, calibration, study.samples)
    rate = fault_power.comparable_rate(challenger, samples)
    powers = []
    for detector in (champion, challenger):
        scores = _recoded(fault_power.model_scores(detector), detector, recipe.fit.input.columns)
        power = fault_power.measure_score_power(scores, rate, samples)[MODEL_DETECTOR]
        by_test_sample = np.full(len(data.test), np.nan)
        by_test_sample[samples.rows] = power.by_sample
        powers.append(by_test_sample)
    return powers


def _recoded(scores: fault_power.ServedScores, detector: Detector, columns: Sequence[ColumnSpec]) -> fault_power.ServedScores:
    """Return scores of samples that have the codes of these columns."""

    def score(served: np.ndarray) -> Mapping[str, np.ndarray]:
        return scores(detector.data_kind.recode(served, columns, detector.spec))

    return score


def reuse_warning(recipe: Recipe, candidate_count: int, false_accept_probability: float) -> str:
    """Return the warning about test samples that were used too often."""
    return (
        f"these test samples were used too often: they have judged {candidate_count} candidates, so the probability that one "
        f"which is no better is called better by chance is up to {false_accept_probability:.0%}; bring more data to "
        f"{recipe.data.dataset}: with new test samples the count starts again at 1"
    )


# ---------------------------------------------------------------- the program


def main() -> None:
    """Parse the command line, compare, and print the verdict."""
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.compare", description=__doc__.splitlines()[0])
    for name in ("recipe", "prepared", "challenger", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--champion", type=Path, help="its bundle; leave it out if there is no champion")
    parser.add_argument("--champion-version", help="its number in the registry")
    parser.add_argument(
        "--judged", type=int, required=True, help="number of candidates evaluated on these test samples, this one included"
    )
    arguments = parser.parse_args()

    def run_comparison() -> None:
        champion = read_champion(arguments.champion, arguments.champion_version)
        recipe = read_recipe(arguments.recipe)
        content_sha256 = str(read_json(arguments.prepared / "prepared.json", "content_sha256")["content_sha256"])
        seeds = load_seed_spread(find_project().seed_record(recipe.name), arguments.recipe, content_sha256)
        document = compare(recipe, arguments.prepared, arguments.challenger, champion, arguments.judged, arguments.out, seeds)
        print_verdict(document)

    run_main(run_comparison)


def read_champion(bundle: Path | None, version: str | None) -> Champion | None:
    """Return the champion of the command line; None if it names none.

    Raises:
        UsageError: only one of the two options is set.
    """
    if bundle is None and version is None:
        return None
    if bundle is None:
        raise UsageError("expected --champion with --champion-version: set both, or neither if there is no champion")
    if version is None:
        raise UsageError("expected --champion-version with --champion: set both, or neither if there is no champion")
    return Champion(version, bundle)


def print_verdict(document: ComparisonDocument) -> None:
    """Print the verdict, its reasons and the warnings."""
    outcome = "refused"
    if document["accepted"]:
        outcome = "accepted"
    print(f"{document['verdict']}: {outcome}", *document["reasons"], *document["warnings"], sep="\n")


if __name__ == "__main__":
    main()
