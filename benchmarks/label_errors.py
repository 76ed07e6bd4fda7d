"""How many wrong labels does `ae audit` find? `python benchmarks/label_errors.py`

5 % of the labels of MNIST's training images are replaced by another one at random; the audit ranks all samples by how little
they look like their label, out of fold. Precision: the share of flipped ones among as many first ones as were flipped.

Beside it, on the same out-of-fold probabilities, the rankings that the library cleanlab offers. They are written here from
their papers; the library's licence is AGPL, so it is not installed: self-confidence, normalised margin, confidence-weighted
entropy (Kuan and Mueller 2022, "Model-agnostic label quality scoring to detect real-world label errors"), and confident
learning's two ways of pruning (Northcutt, Jiang and Chuang 2021, "Confident learning: Estimating uncertainty in dataset
labels", JAIR 70, section 3.2). Means over seeds with standard deviations; docs/audit.md quotes the record.
"""

import argparse
import gzip
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, measurement_facts, replace_section, save_record

from aeops.audit.features import AuditSamples
from aeops.audit.label_errors import confidently_other, estimate_probabilities
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "label_errors.json", ROOT / "docs" / "audit.md"
BEGIN, END = "<!-- label errors: written by `python benchmarks/label_errors.py` -->", "<!-- label errors: end -->"
FLIPPED_SHARE = 0.05
OURS = "**self-confidence (`ae audit`)**"


def read_mnist() -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's training images, uint8 (60000, 1, 28, 28), and labels (60000,) int64."""
    folder = find_project(ROOT).find_source("mnist")
    images = gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "train-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28), np.frombuffer(labels, np.uint8, offset=8).astype(
        int
    )


def flip_labels(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return labels of which a share, drawn at random, is replaced by another label, each as likely."""
    random = np.random.default_rng(seed)
    flipped = random.permutation(len(labels))[: round(share * len(labels))]
    classes = np.unique(labels)
    given = labels.copy()
    places = np.searchsorted(classes, labels[flipped])
    given[flipped] = classes[(places + random.integers(1, len(classes), len(flipped))) % len(classes)]
    return given


# ---------------------------------------------------------------- the rankings: low is suspicious


def rank_by_formulas(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return the score of each sample by each ranking, (n,): the lower, the more its label looks wrong."""
    rows = np.arange(len(targets))
    of_label = probabilities[rows, targets]
    others = probabilities.copy()
    others[rows, targets] = -1.0
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=1) / np.log(probabilities.shape[1])
    rankings = {
        OURS: of_label,
        "log-odds of the label and the likeliest other": np.log(np.maximum(of_label, 1e-12)) - np.log(others.max(axis=1)),
        "normalised margin": of_label - others.max(axis=1),
        "confidence-weighted entropy": of_label / np.maximum(entropy, 1e-12),
    }
    for name, pruned in prune(probabilities, targets).items():  # pruned ones first, each part by self-confidence: its default
        rankings[f"{name}, by self-confidence"] = of_label - 2.0 * pruned
    return rankings


def prune(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return which samples confident learning takes out, (n,) bool, by each of its ways."""
    joint = confident_joint(probabilities, targets)
    classes = len(joint)
    by_class, by_noise_rate = np.zeros(len(targets), bool), np.zeros(len(targets), bool)
    for label in range(classes):
        members = np.flatnonzero(targets == label)
        count = round(joint[label].sum() - joint[label, label])
        by_class[members[np.argsort(probabilities[members, label], kind="stable")[:count]]] = True
        for other in range(classes):
            if other != label:
                margins = probabilities[members, label] - probabilities[members, other]
                by_noise_rate[members[np.argsort(margins, kind="stable")[: round(joint[label, other])]]] = True
    return {"prune by class": by_class, "prune by noise rate": by_noise_rate}


def confident_joint(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the estimated number of samples with each label (row) and true label (column), calibrated to the labels' counts."""
    classes = probabilities.shape[1]
    thresholds = np.array([probabilities[targets == label, label].mean() for label in range(classes)])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = confident.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (targets[counted], confident.argmax(axis=1)[counted]), 1)
    counts = np.bincount(targets, minlength=classes)
    return joint / np.maximum(joint.sum(axis=1, keepdims=True), 1) * counts[:, None]


# ---------------------------------------------------------------- measuring


def measure_seed(images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the precision of each ranking at the number of flipped labels, and what the audit says of their number."""
    given = flip_labels(labels, FLIPPED_SHARE, seed)
    is_flipped = given != labels
    vectors = images.reshape(len(images), -1).astype(np.float32) / 255
    start_time = time.monotonic()
    estimate = estimate_probabilities(AuditSamples(vectors, None, images.shape[1:]), given, np.arange(len(given)))
    seconds = time.monotonic() - start_time
    targets = np.searchsorted(estimate.classes, given)
    precision = {}
    for name, scores in rank_by_formulas(estimate.probabilities, targets).items():
        first = np.argsort(scores, kind="stable")[: int(is_flipped.sum())]
        precision[name] = float(is_flipped[first].mean())
    confident = confidently_other(estimate.probabilities, targets)
    return {
        "seed": seed,
        "samples": len(labels),
        "flipped": int(is_flipped.sum()),
        "accuracy": float((estimate.classes[estimate.probabilities.argmax(axis=1)] == labels).mean()),
        "precision": precision,
        "confident": int(confident.sum()),
        "confident_precision": float(is_flipped[confident].mean()) if confident.any() else None,
        "confident_recall": float(confident[is_flipped].mean()),
        "seconds": seconds,
    }


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/audit.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/label_errors.py` measures it."
    seeds = record["seeds"]
    rows = []
    for name in seeds[0]["precision"]:
        values = [seed["precision"][name] for seed in seeds]
        rows.append([name, with_deviation(values)])
    table = markdown_table(["ranking", "precision at the number flipped"], rows)
    accuracy, seconds = (statistics.fmean(seed[key] for seed in seeds) for key in ("accuracy", "seconds"))
    recall = statistics.fmean(seed["confident_recall"] for seed in seeds)
    precision = statistics.fmean(seed["confident_precision"] or 0.0 for seed in seeds)
    return (
        f"{table}\n\n{seeds[0]['samples']:,} images, {seeds[0]['flipped']:,} labels flipped, means over {len(seeds)} seeds with "
        f"their standard deviations. The classifier is right about the true label of {accuracy:.1%}, out of fold. What the audit "
        f"counts as wrong labels holds {recall:.1%} of the flipped ones, and {precision:.1%} of what it counts was flipped. "
        f"{seconds:.0f} s a seed, on a busy machine."
    )


def with_deviation(values: Sequence[float]) -> str:
    """Return the mean in per cent, with the standard deviation where there are several values."""
    if len(values) == 1:
        return f"{values[0]:.1%}"
    return f"{statistics.fmean(values):.1%} ± {statistics.stdev(values):.1%}"


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/audit.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Precision of an audit of MNIST whose labels were flipped at random.")
    parser.add_argument("--seeds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--samples", type=int, default=60_000, help="of MNIST, drawn at random [%(default)s]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    images, labels = read_mnist()
    drawn = np.sort(np.random.default_rng(0).permutation(len(images))[: args.samples])
    record = measurement_facts(find_project(ROOT), "python benchmarks/label_errors.py") | {"seeds": []}
    for seed in range(args.seeds):
        record["seeds"].append(measure_seed(images[drawn], labels[drawn], seed))
        print(f"seed {seed}:", record["seeds"][-1], flush=True)
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
