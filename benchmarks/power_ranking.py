"""Does power rank detectors as labels would? `python benchmarks/power_ranking.py` measures it on every labelled set at hand.

A set's normals are split into training, calibration and test samples. Detectors that need next to no training, and some that are
of no use on purpose, score the test normals, their faulty versions (`ae_models.faults`) and the labelled anomalies. Over the
detectors of a set, the rank correlation (Spearman) of power with the AUROC on the anomalies says how well power ranks them:

- **mean power**: the mean share of injected faults caught at the rate, which needs a threshold;
- **separation**: the mean AUROC of faulty against normal samples, which needs none.

It is given for all detectors, and without the useless ones, which are easy to tell. **Lost** is how much lower the AUROC of the
detector that power would choose is than that of the best one.

One more cell, `trained digits`, holds trainings of recipes/digits.yaml that differ in their seed: it says how far apart seeds put
the power.

Each set is a cell of benchmarks/records/power_ranking.json: it is stored as soon as it is measured, and not measured again
(`--again`: it is). docs/power.md quotes the record (`--docs-only`: writes that section alone).
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, replace_section, train_score_function
from labelled_sets import LabelledSet, list_sets, read_digits
from scipy.ndimage import gaussian_filter1d
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models.faults import standard_faults
from ae_models.power import Power, ScoreFunction, conformal_threshold, measure_power, threshold_detectors
from aeops.evaluation.baselines import ENERGY_FLOOR, HULL_RIDGES, hull_residuals
from aeops.files import atomic_write
from aeops.gate.auroc import estimate_auroc
from aeops.machine.stored_json import read_json
from aeops.recipe.reader import read_recipe
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "power_ranking.json", ROOT / "docs" / "power.md"
BEGIN, END = "<!-- ranking: written by `python benchmarks/power_ranking.py` -->", "<!-- ranking: end -->"
NORMALS = 100  # test samples that get each fault
RATES = (0.01, 0.05)  # of false alarms: the first that the calibration samples allow
BLUR = 1.0  # pixels or steps
WORDS = 2000  # that a text is counted by
USELESS = ("constant", "noise", "least residual", "energy", "least energy")  # detectors that nobody would choose
PCA_SIZES = (2, 8, 32)
NEIGHBOURS = (1, 5, 30)
HULL_NEIGHBOURS, HULL_ROWS = 20, 200  # HULL_ROWS: samples at once
PROJECTED_VALUES = 8
TREES = 50

TRAINED = "trained digits, 5 is new"  # the cell of trained models
NOVEL_DIGIT = 5

Scores = dict[str, np.ndarray]


# ---------------------------------------------------------------- detectors


def make_vectorizer(labelled: LabelledSet) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from raw samples to vectors (n, values): values in [0, 1], or weighted counts of words."""
    spec = labelled.spec
    if spec.kind == "text":
        counts = TfidfVectorizer(max_features=WORDS, sublinear_tf=True).fit(read_texts(labelled.train))
        return lambda rows: counts.transform(read_texts(rows)).toarray().astype(np.float32)
    return lambda samples: ((samples.astype(np.float32) - spec.low) / (spec.high - spec.low)).reshape(len(samples), -1)


def read_texts(rows: np.ndarray) -> list[str]:
    return [row.tobytes().rstrip(b"\0").decode() for row in rows]


def fit_detectors(labelled: LabelledSet) -> ScoreFunction:
    """Return the scores of every detector, fitted to the training samples, as a function of raw samples."""
    to_vectors, spec = make_vectorizer(labelled), labelled.spec
    detectors = [VectorDetectors(to_vectors(labelled.train), suffix="")]
    if spec.kind != "text":

        def to_blurred(samples: np.ndarray) -> np.ndarray:
            blurred = to_vectors(samples).reshape(samples.shape)
            for axis in range(2, samples.ndim):
                blurred = gaussian_filter1d(blurred, BLUR, axis=axis, mode="constant")
            return blurred.reshape(len(samples), -1)

        blurred_detectors = VectorDetectors(to_blurred(labelled.train), suffix=", blurred")

    def score(samples: np.ndarray) -> Scores:
        with threadpool_limits(1):
            scores = detectors[0].score(to_vectors(samples))
            if spec.kind != "text":
                scores |= blurred_detectors.score(to_blurred(samples))
        return scores

    return score


class VectorDetectors:
    """Detectors of vectors.

    Args:
        train: (m, values).
        suffix: of their names; with one, the isolation forest and those of no use are left out.
    """

    def __init__(self, train: np.ndarray, suffix: str) -> None:
        self.suffix, self.train = suffix, train
        self.center = train.mean(axis=0)
        self.sizes = [size for size in PCA_SIZES if size < min(train.shape)]
        with threadpool_limits(1):
            self.pca = PCA(max(self.sizes), svd_solver="randomized", random_state=0).fit(train)
            self.neighbours = NearestNeighbors(n_neighbors=max(*NEIGHBOURS, HULL_NEIGHBOURS), algorithm="brute").fit(train)
            self.forest = IsolationForest(n_estimators=TREES, random_state=0).fit(train)
        self.projection = np.random.default_rng(0).normal(size=(train.shape[1], PROJECTED_VALUES)) / np.sqrt(PROJECTED_VALUES)

    def score(self, vectors: np.ndarray) -> Scores:
        energy = np.square(vectors).sum(axis=1, dtype=np.float64)
        half_energy = 0.5 * np.log(energy + ENERGY_FLOOR)
        scores: Scores = {}
        residuals = {}
        centred = vectors - self.center
        codes = centred @ self.pca.components_.T
        for size in self.sizes:
            residuals[f"PCA-{size}"] = np.square(centred - codes[:, :size] @ self.pca.components_[:size]).sum(axis=1)
        distances, indices = self.neighbours.kneighbors(vectors)
        for count in NEIGHBOURS:
            residuals[f"kNN-{count}"] = np.square(distances[:, count - 1])
        residuals[f"hull-{HULL_NEIGHBOURS}"] = self._hull_residuals(vectors, indices[:, :HULL_NEIGHBOURS])
        residuals["distance to the mean"] = np.square(centred).sum(axis=1)
        for name, residual in residuals.items():
            scores[name] = np.log(residual + ENERGY_FLOOR)
            scores[f"{name} per energy"] = scores[name] - half_energy
        scores["whitened code"] = np.square(codes / np.sqrt(self.pca.explained_variance_ + ENERGY_FLOOR)).sum(axis=1)
        scores[f"{PROJECTED_VALUES} random projections"] = np.square(centred @ self.projection).sum(axis=1)
        if not self.suffix:
            scores["isolation forest"] = -self.forest.score_samples(vectors)
            scores["constant"] = np.zeros(len(vectors))
            scores["noise"] = np.random.default_rng(len(vectors)).random(len(vectors))
            scores["least residual"] = -residuals[f"PCA-{self.sizes[-1]}"]
            scores["energy"], scores["least energy"] = energy, -energy
        return {f"{name}{self.suffix}": values for name, values in scores.items()}

    def _hull_residuals(self, vectors: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return the squared distance to the hull of the neighbours, (n,), block by block."""
        parts = []
        for start in range(0, len(vectors), HULL_ROWS):
            rows = slice(start, start + HULL_ROWS)
            offsets = self.train[indices[rows]].astype(np.float64) - vectors[rows, None]
            parts.append(hull_residuals(offsets, HULL_RIDGES[HULL_NEIGHBOURS]))
        return np.concatenate(parts)


def train_models(labelled: LabelledSet, epochs: int | None, seeds: int) -> ScoreFunction:
    """Return the scores of trainings of the recipe `digits` with seeds from 0, as a function of raw samples.

    Args:
        labelled: digits.
        epochs: in place of the recipe's; None: the recipe's.
        seeds: number of trainings.
    """
    from ae_models.training_environment import deterministic_threads, quiet_lightning  # here: they load torch

    spec = read_recipe(ROOT / "recipes" / "digits.yaml").fit
    functions = {}
    with deterministic_threads(spec.train.threads), quiet_lightning():
        for seed in range(seeds):
            functions[f"seed {seed}"] = train_score_function(
                spec, labelled.train, labelled.calibration, epochs or spec.train.epochs, seed
            )
    return lambda samples: {name: function(samples) for name, function in functions.items()}


# ---------------------------------------------------------------- one cell


def measure_set(labelled: LabelledSet, fit: Callable[[LabelledSet], ScoreFunction], normals: int) -> dict[str, Any]:
    """Return the cell of one set: the power of each detector beside what labels say of it.

    Args:
        labelled: the set.
        fit: returns the scores of the detectors.
        normals: test samples that get each fault, at most.
    """
    start_time = time.monotonic()
    score = fit(labelled)
    calibration_scores = score(labelled.calibration)
    rate = next((rate for rate in RATES if len(labelled.calibration) >= 1 / rate - 1), RATES[-1])
    thresholds = {name: conformal_threshold(scores, rate) for name, scores in calibration_scores.items()}
    powers = measure_power(threshold_detectors(score, thresholds), labelled.test[:normals], labelled.spec)
    normal_scores, novelty_scores = score(labelled.test), score(labelled.novelty)
    detectors = {}
    for name, power in powers.items():
        auroc, _ = estimate_auroc(novelty_scores[name], normal_scores[name])
        detectors[name] = {
            "auroc": round(auroc, 4),
            "caught": round(float((novelty_scores[name] > thresholds[name]).mean()), 4),
            "mean_power": round_share(power.mean),
            "separation": round_share(power.mean_separation),
        }
    return {
        "kind": labelled.spec.kind,
        "rate": rate,
        "train": len(labelled.train),
        "calibration": len(labelled.calibration),
        "test": len(labelled.test),
        "novelty": len(labelled.novelty),
        "seconds": round(time.monotonic() - start_time, 1),
        "detectors": detectors,
        "faults": correlate_faults(powers, detectors),
    }


def correlate_faults(powers: Mapping[str, Power], detectors: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rank correlation of the power on each fault alone with the AUROC, of the detectors that are not useless."""
    names = [name for name in powers if name not in USELESS]
    aurocs = [detectors[name]["auroc"] for name in names]
    correlations = {}
    for fault in powers[names[0]].by_fault:
        shares = [powers[name].by_fault[fault] or 0.0 for name in names]
        separations = [powers[name].separation_by_fault[fault] or 0.0 for name in names]
        correlations[fault] = {
            "share": round_share(rank_correlation(shares, aurocs)),
            "separation": round_share(rank_correlation(separations, aurocs)),
        }
    return correlations


def rank_correlation(measured: Sequence[float], aurocs: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None where one of the two is the same for all."""
    if len(set(measured)) < 2 or len(set(aurocs)) < 2:
        return None
    return float(spearmanr(measured, aurocs).statistic)


def round_share(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


# ---------------------------------------------------------------- what follows


@dataclass(frozen=True)
class Ranking:
    """How a measure without labels ranks the detectors of one set.

    Attributes:
        correlation: Spearman's, with the AUROC on labelled anomalies; None where the measure is the same for all.
        lost: the best AUROC less that of the detector that the measure is highest for.
    """

    correlation: float | None
    lost: float


def rank_detectors(cell: Mapping[str, Any], measure: Callable[[Mapping[str, Any]], float | None], useless: bool) -> Ranking:
    """Rank the detectors of a cell by a measure; `useless` says whether those that nobody would choose are among them."""
    measured, aurocs = [], []
    for name, row in cell["detectors"].items():
        if useless or name not in USELESS:
            measured.append(measure(row) or 0.0)
            aurocs.append(row["auroc"])
    chosen = int(np.argmax(measured))
    return Ranking(rank_correlation(measured, aurocs), max(aurocs) - aurocs[chosen])


def family(name: str) -> str:
    """Return the sets that are summarised together: what stands before the comma."""
    return name.partition(",")[0]


def summarize(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/power.md."""
    if record is None or not record["cells"]:
        return "Not measured yet: `python benchmarks/power_ranking.py` measures it."
    cells = dict(record["cells"])
    trained = cells.pop(TRAINED, None)
    if not cells:
        return "\n\n".join(describe_trained(trained))
    detector_count = max(len(cell["detectors"]) for cell in cells.values())
    families: dict[str, list[Mapping[str, Any]]] = {}
    for name, cell in cells.items():
        families.setdefault(family(name), []).append(cell)
    heads = ["sets", "AUROC of the detectors", "mean power, all", "separation, all", "mean power", "separation"]
    heads += ["lost by mean power", "by separation", "by kNN-5"]
    rows = [summary_row(name, cells) for name, cells in families.items()]
    rows.append(summary_row("all", list(cells.values())))
    fault_rows = []
    for kind in ("image", "series", "text"):
        kind_cells = [cell for cell in cells.values() if cell["kind"] == kind]
        if kind_cells:
            fault_rows += [fault_row(kind, fault.name, kind_cells) for fault in standard_faults(kind)]
    return "\n\n".join(
        [
            f"{len(cells)} sets, up to {detector_count} detectors. Rank correlations are means over sets, the lowest in "
            "brackets, for all detectors and without the useless ones. **Lost**: how much lower the AUROC of the detector that "
            "the measure is highest for is than that of the best one; beside it, what always taking kNN-5 would lose.",
            markdown_table(heads, rows),
            "By fault: the mean rank correlation of share caught and separation on one fault alone, useless detectors left out.",
            markdown_table(["kind", "fault", "share caught", "separation", "sets above 0"], fault_rows),
            *describe_trained(trained),
        ]
    )


def describe_trained(cell: Mapping[str, Any] | None) -> list[str]:
    """Return a paragraph about trained models; nothing where they were not measured."""
    if cell is None:
        return []
    rows = list(cell["detectors"].values())
    spreads = []
    for key, title in (
        ("mean_power", "mean power"),
        ("separation", "separation"),
        ("auroc", "AUROC"),
        ("caught", "novelty caught"),
    ):
        values = [row[key] for row in rows]
        spreads.append(f"{title} {np.mean(values):.3f} (standard deviation {np.std(values, ddof=1):.3f})")
    correlations = []
    for key in ("mean_power", "separation"):
        correlation = rank_detectors(cell, lambda row, key=key: row[key], useless=True).correlation
        correlations.append("not defined" if correlation is None else f"{correlation:+.2f}")
    return [
        f"{len(rows)} trainings of `recipes/digits.yaml` that differ in their seed alone, at {cell['rate']:.0%} false alarms: "
        f"{', '.join(spreads)}. Among them the rank correlation with the AUROC is {correlations[0]} of the mean power and "
        f"{correlations[1]} of the separation: so many seeds are few, and near each other."
    ]


def summary_row(name: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    spans = [[row["auroc"] for key, row in cell["detectors"].items() if key not in USELESS] for cell in cells]
    columns = [f"{name} ({len(cells)})", f"{np.mean(list(map(min, spans))):.2f} to {np.mean(list(map(max, spans))):.2f}"]
    for useless in (True, False):
        for key in ("mean_power", "separation"):
            rankings = [rank_detectors(cell, lambda row, key=key: row[key], useless) for cell in cells]
            columns.append(correlation_text([ranking.correlation for ranking in rankings]))
    for key in ("mean_power", "separation"):
        lost = [rank_detectors(cell, lambda row, key=key: row[key], useless=False).lost for cell in cells]
        columns.append(f"{np.mean(lost):.3f}")
    knn_lost = [max(aurocs) - cell["detectors"]["kNN-5"]["auroc"] for aurocs, cell in zip(spans, cells, strict=True)]
    return [*columns, f"{np.mean(knn_lost):.3f}"]


def correlation_text(correlations: Sequence[float | None]) -> str:
    defined = [correlation for correlation in correlations if correlation is not None]
    if not defined:
        return "not defined"
    return f"{np.mean(defined):+.2f} ({min(defined):+.2f})"


def fault_row(kind: str, fault: str, cells: Sequence[Mapping[str, Any]]) -> list[str]:
    shares = [cell["faults"][fault]["share"] for cell in cells]
    separations = [cell["faults"][fault]["separation"] for cell in cells]
    defined = [separation for separation in separations if separation is not None]
    above = sum(separation > 0 for separation in defined)
    return [kind, fault, correlation_text(shares), correlation_text(separations), f"{above} of {len(defined)}"]


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/power.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, summarize(record), DOCS.name)


# ---------------------------------------------------------------- the program


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the sets that the record lacks, and store each as soon as it is measured; return the record."""
    settings = {"normals": options.normals, "rates": list(RATES)}
    record: dict[str, Any] = {"settings": settings, "cells": {}}
    if options.out.is_file() and not options.again:
        stored = read_json(options.out)
        if stored["settings"] == settings:
            record = stored

    def fit_models(labelled: LabelledSet) -> ScoreFunction:
        return train_models(labelled, options.epochs, options.seeds)

    readers = {name: (reader, fit_detectors) for name, reader in list_sets().items()}
    readers[TRAINED] = (lambda: read_digits(NOVEL_DIGIT), fit_models)
    for name, (reader, fit) in readers.items():
        is_asked = options.sets is None or name in options.sets or family(name) in options.sets
        if name in record["cells"] or not is_asked:
            continue
        record["cells"][name] = measure_set(reader(), fit, options.normals)
        # One line: indented, so many detectors take half as much again.
        options.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(options.out, json.dumps(record, separators=(",", ":")) + "\n")
        print(name, record["cells"][name]["seconds"], "s", flush=True)
    return record


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Whether power ranks detectors as labels would.")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="data sets, or families of them such as mnist [all at hand]")
    parser.add_argument("--normals", type=int, default=NORMALS, help=f"test samples that get each fault [{NORMALS}]")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of recipes/digits.yaml, 2 or more [5]")
    parser.add_argument("--epochs", type=int, help="of each of them [those of the recipe]")
    parser.add_argument("--again", action="store_true", help="also measure what the record holds")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/power.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        print(summarize(measure(args)))
    if args.out == RECORD:
        stored = read_json(RECORD) if RECORD.is_file() else None
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), stored), encoding="utf-8")


if __name__ == "__main__":
    main()
