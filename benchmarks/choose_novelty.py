"""Which digit should recipes/digits.yaml hold out? `python benchmarks/choose_novelty.py` writes benchmarks/records/novelty.json.

For each digit as the novelty: AUROC of every baseline of an evaluation, preprocessed as the model's score is, and of the
recipe's model with a short training. Only the recipe's training and validation splits are used: of their normal digits
four in five are trained on and every fifth is scored, beside all of the held-out digit; the calibration and test splits
stay unseen. A digit is a real task where the baselines neither fail nor nearly solve it; among those the one on which
the model is furthest ahead of the best baseline is recommended, and trained at the recipe's full length with several
seeds, which says how low a floor for the gate must be.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, mnist_digits, save_record, train_score_function

from ae_models.spec import FitSpec
from ae_models.training_environment import deterministic_threads, quiet_lightning
from aeops.data.splits import draw_split
from aeops.data.statistics import sample_sha256
from aeops.evaluation.baselines import FittedBaselines, PcaBaseline, ResidualTreatment
from aeops.evaluation.detection import measure_ranking
from aeops.recipe.metric_names import MODEL_DETECTOR
from aeops.recipe.reader import Recipe, read_recipe

REAL_TASK = (0.75, 0.97)  # AUROC of the best baseline between which a task is neither hopeless nor solved


@dataclasses.dataclass(frozen=True)
class Task:
    """Arrays (n, 1, 28, 28); `is_novel` marks those of `scored` that are of the held-out digit."""

    train: np.ndarray
    scored: np.ndarray
    is_novel: np.ndarray


def development_digits(recipe: Recipe, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and labels of the training and validation splits of `count` digits, in their usual order."""
    samples, labels = mnist_digits()
    drawn = np.sort(np.random.default_rng(0).permutation(len(samples))[:count])
    samples, labels = samples[drawn], labels[drawn]
    splits = [draw_split(digest, recipe.data.dataset, recipe.data.split) for digest in sample_sha256(samples)]
    chosen = np.isin(splits, ("train", "validation"))
    return samples[chosen], labels[chosen]


def hold_out(samples: np.ndarray, labels: np.ndarray, digit: int) -> Task:
    """Return the task in which `digit` is the novelty and every fifth normal digit is scored."""
    normal, novel = samples[labels != digit], samples[labels == digit]
    is_scored = np.arange(len(normal)) % 5 == 0
    is_novel = np.repeat([False, True], [is_scored.sum(), len(novel)])
    return Task(normal[~is_scored], np.concatenate([normal[is_scored], novel]), is_novel)


def auroc(scores: np.ndarray, is_novel: np.ndarray) -> float:
    result = measure_ranking(scores, is_novel)
    assert result is not None
    return result.auroc


def baseline_aurocs(recipe: Recipe, task: Task) -> dict[str, float]:
    train, scored = (part / np.float32(255) for part in (task.train, task.scored))
    pca = PcaBaseline.fit(train.reshape(len(train), -1), recipe.evaluate.pca_components)
    treatment = ResidualTreatment.of_score(recipe.fit.score)
    scores = FittedBaselines(train, recipe.evaluate.neighbours, treatment, pca).score(scored)
    return {name: auroc(score, task.is_novel) for name, score in scores.items()}


def model_auroc(spec: FitSpec, task: Task, epochs: int, seed: int) -> float:
    """Return the AUROC of a model trained for so many epochs.

    It does not depend on the threshold, so the scored samples serve as calibration samples.
    """
    score = train_score_function(spec, task.train, task.scored, epochs, seed)
    return auroc(score(task.scored), task.is_novel)


def recommend_digit(aurocs: dict[int, dict[str, float]]) -> int:
    """Return the digit on which the model is furthest ahead, among the real tasks if there are any."""
    best_baseline = {digit: max(row[name] for name in row if name != MODEL_DETECTOR) for digit, row in aurocs.items()}
    low, high = REAL_TASK
    candidates = [digit for digit, value in best_baseline.items() if low <= value <= high]
    return max(candidates or aurocs, key=lambda digit: aurocs[digit][MODEL_DETECTOR] - best_baseline[digit])


def full_trainings(spec: FitSpec, task: Task, epochs: int, seeds: int) -> dict[str, Any]:
    aurocs = [model_auroc(spec, task, epochs, seed) for seed in range(seeds)]
    return {
        "epochs": epochs,
        "model": [round(value, 4) for value in aurocs],
        "lowest": round(min(aurocs), 4),
        "standard_deviation": round(statistics.stdev(aurocs), 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Which digit to hold out as the novelty.")
    parser.add_argument("--out", type=Path, default=RECORDS / "novelty.json", help="JSON to write [%(default)s]")
    parser.add_argument("--digits", type=int, nargs="+", default=range(10), metavar="DIGIT", help="candidates [all ten]")
    parser.add_argument("--samples", type=int, default=5000, help="digits to draw from, at most 5000 [5000]")
    parser.add_argument("--epochs", type=int, default=8, help="of each short training [8]")
    parser.add_argument("--seeds", type=int, default=5, help="full trainings of the recommended digit, 2 or more [5]")
    parser.add_argument("--full-epochs", type=int, help="of each full training [those of the recipe]")
    args = parser.parse_args(arguments)
    recipe = read_recipe(ROOT / "recipes" / "digits.yaml")
    samples, labels = development_digits(recipe, args.samples)
    aurocs: dict[int, dict[str, float]] = {}
    with deterministic_threads(recipe.fit.train.threads), quiet_lightning():
        for digit in args.digits:
            task = hold_out(samples, labels, digit)
            aurocs[digit] = baseline_aurocs(recipe, task) | {MODEL_DETECTOR: model_auroc(recipe.fit, task, args.epochs, seed=0)}
            print(digit, {name: round(value, 3) for name, value in aurocs[digit].items()}, flush=True)
        recommended = recommend_digit(aurocs)
        epochs = args.full_epochs or recipe.fit.train.epochs
        full = full_trainings(recipe.fit, hold_out(samples, labels, recommended), epochs, args.seeds)
    rows = {}
    for digit, row in aurocs.items():
        rows[str(digit)] = {name: round(value, 4) for name, value in row.items()}
    save_record(args.out, {"epochs": args.epochs, "auroc": rows, "recommended": recommended, "full_trainings": full})
    print(json.dumps({"recommended": recommended, **full}, indent=2))


if __name__ == "__main__":
    main()
