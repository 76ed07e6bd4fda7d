"""Compares a challenger with the champion on the prepared test samples, by the recipe's rules; a refusal exits with 0, too.

    python -m aeops.stages.compare --recipe recipes/digits.yaml --prepared DIR --challenger BUNDLE
        [--champion BUNDLE --champion-version N] --judged K --out comparison.json

No stage of DVC: who is champion is known to the registry alone, and changes while the files do not.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_models.spec import InputSpec
from aeops.bundle.detector import Detector
from aeops.errors import UsageError
from aeops.evaluation import model_input
from aeops.evaluation.prepared import PreparedSamples, load_prepared
from aeops.files import write_json
from aeops.gate import comparison
from aeops.gate.comparison import ComparisonResult, ComparisonVerdict, HoldoutSamples, ModelScores
from aeops.gate.documents import ComparisonDocument
from aeops.gate.evidence import holdout_sha256
from aeops.machine.entry_point import run_main
from aeops.recipe.reader import Recipe, read_recipe

FIRST, THE_SAME, NOT_COMPARED = "first", "the same", "not compared"
INPUT = ("kind", "shape", "low", "high", "target_channels", "given")  # of bundle.json: what a model's samples are


@dataclass(frozen=True)
class Champion:
    """The version that is served today, and its bundle."""

    version: str
    bundle: Path


def compare(
    recipe: Recipe, prepared: Path, challenger: Path, champion: Champion | None, judged: int, out: Path
) -> ComparisonDocument:
    """Compares on the test samples in `prepared`; writes and returns comparison.json.

    Args:
        recipe: its rules with the key `champion` are judged.
        prepared: the stage prepare's folder.
        challenger: a bundle.
        champion: None where the recipe has none yet.
        judged: how many candidates these test samples have judged, this one included.
        out: the file.

    Raises:
        DataError: no prepared samples, or a bundle that must not be used.
        UsageError: fewer than one candidate judged.
    """
    if judged < 1:
        raise UsageError(f"--judged is {judged}; 1 or more is allowed: this candidate counts")
    pinned, data, new = holdout_sha256(prepared), load_prepared(prepared), Detector(challenger)
    old = Detector(champion.bundle) if champion is not None else None
    results, decision = decide(recipe, data, new, old)
    luck = comparison.false_accept_probability(judged)
    worn = luck > comparison.REUSE_LIMIT
    document: ComparisonDocument = {
        "format": 1,
        "recipe": recipe.name,
        "verdict": decision.verdict,
        "accepted": decision.accepted,
        "champion": {"version": champion.version, "bundle_sha256": old.sha256} if champion is not None and old else None,
        "challenger": {"bundle_sha256": new.sha256},
        "holdout": {"sha256": pinned, "rows": len(data.test), "judged": judged, "chance_of_luck": luck, "worn": worn},
        "level": comparison.LEVEL,
        "rules": [result.to_dict() for result in results],
        "reasons": decision.reasons,
        "warnings": [worn_out(recipe, judged, luck)] if worn else [],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, document)
    return document


def decide(
    recipe: Recipe, data: PreparedSamples, challenger: Detector, champion: Detector | None
) -> tuple[list[ComparisonResult], ComparisonVerdict]:
    """The comparisons, then verdict, whether the challenger is accepted, and the reasons."""
    if champion is None:
        return [], ComparisonVerdict(FIRST, True, [f"{recipe.name} has no champion yet: there is nothing to compare with"])
    if champion.sha256 == challenger.sha256:
        return [], ComparisonVerdict(THE_SAME, True, [f"the challenger is the champion's very bundle, {champion.sha256[:12]}"])
    holdout = holdout_of(data)
    asked = comparison.plan_comparisons(recipe.gate, holdout)
    if not asked:
        why = f"recipes/{recipe.name}.yaml has no rule with the key champion: the challenger is not compared with the champion"
        return [], ComparisonVerdict(NOT_COMPARED, True, [why])
    if foreign := foreign_samples(champion, challenger):
        why = f"the champion does not take today's samples: {foreign}; ae retire {recipe.name} lets the next one begin anew"
        found = [comparison.build_failed_result(question, why) for question in asked]
    else:
        found = comparison.compare_models(asked, holdout, *ask(recipe, data, champion, challenger))
    return found, comparison.combine_results(found)


def holdout_of(data: PreparedSamples) -> HoldoutSamples:
    """The test samples as the statistics need them."""
    return HoldoutSamples(data.novelty, data.labels, data.table["group"].to_numpy(dtype=str))


def foreign_samples(champion: Detector, challenger: Detector) -> str:
    """In what the samples that the champion takes or makes differ from the challenger's; empty where they do not."""
    before, after = samples_of(champion), samples_of(challenger)
    return ", ".join(f"{key} {before[key]} instead of {after[key]}" for key in before if before[key] != after.get(key))


def samples_of(detector: Detector) -> dict[str, Any]:
    """What a model takes and makes.

    Older bundles lack the keys that came later; where samples have any length, the one that a model reads is its own.
    """
    usual = InputSpec()
    taken = {key: detector.bundle["input"].get(key, getattr(usual, key)) for key in INPUT}
    if not detector.data_kind.FIXED_SHAPE:
        return taken
    return taken | {"shape given": list(detector.shape), "shape made": list(detector.made_shape)}


def ask(recipe: Recipe, data: PreparedSamples, champion: Detector, challenger: Detector) -> tuple[ModelScores, ModelScores]:
    """What champion and challenger make of the same test samples, given to both as the recipe serves them today.

    Both are measured as the champion measures: two tokenizers cut the same text into different numbers of tokens.
    """
    given = model_input.served_inputs(recipe.fit, data.test, model_input.TEST_SEED)
    target = champion.measurable(model_input.target_channels(recipe.fit.input, data.test))
    return scored(champion, champion, given, target), scored(challenger, champion, given, target)


def scored(detector: Detector, ruler: Detector, given: np.ndarray, target: np.ndarray) -> ModelScores:
    """Errors and scores of the samples by `detector`, its reconstructions measured by `ruler`."""
    said = detector.score(given, reconstruction=True)
    errors = ruler.data_kind.errors(target, ruler.measurable(said["reconstruction"]))
    return ModelScores(errors, said["score"])


def worn_out(recipe: Recipe, judged: int, luck: float) -> str:
    return (
        f"this holdout is worn: it has judged {judged} candidates, and of so many that are no better one is called better by "
        f"luck with a chance of up to {luck:.0%}; bring more data to {recipe.data.dataset}: with new test samples it is "
        f"another holdout, and the count begins anew"
    )


# ---------------------------------------------------------------- the program


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.stages.compare", description=__doc__.splitlines()[0])
    for name in ("recipe", "prepared", "challenger", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--champion", type=Path, help="its bundle; left out where there is no champion")
    parser.add_argument("--champion-version", help="its number in the registry")
    parser.add_argument("--judged", type=int, required=True, help="candidates that these test samples judged, this one included")
    given = parser.parse_args()

    def work() -> None:
        champion = champion_of(given.champion, given.champion_version)
        tell(compare(read_recipe(given.recipe), given.prepared, given.challenger, champion, given.judged, given.out))

    run_main(work)


def champion_of(bundle: Path | None, version: str | None) -> Champion | None:
    if (bundle is None) != (version is None):
        given, missing = ("--champion", "--champion-version") if version is None else ("--champion-version", "--champion")
        raise UsageError(f"{given} is given without {missing}; both are needed, or neither where there is no champion")
    return Champion(version, bundle) if bundle is not None and version is not None else None


def tell(found: ComparisonDocument) -> None:
    accepted = "accepted" if found["accepted"] else "refused"
    print("\n".join([f"{found['verdict']}: {accepted}", *found["reasons"], *found["warnings"]]))


if __name__ == "__main__":
    main()
