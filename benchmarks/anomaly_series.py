"""Protocol `nab` of `make bench-anomaly`: 30 series of NAB, each alone and in its order, beside detectors of sub-sequences.

    python benchmarks/anomaly_series.py                                  # all series
    python benchmarks/anomaly_series.py --series realKnownCause/nyc_taxi --detectors "robust z-score"

The first 15 % of a series are trained on (NAB's probationary period), the rest is scored to its end. A step is a row of the file,
whatever its time stamp. Windows have 64 steps, or a quarter of the training steps where those are fewer; their scores are
averaged over the steps that they hold, for all detectors alike. **ours**: model, score and training of recipes/nab.yaml. PCA and
kNN read the same windows. The matrix profile (stumpy) is that of the whole series with its future, as discords are usually
found; the robust z-score reads single steps. VUS-PR and AUC-PR with NAB's windows as labels, no point adjustment, means over the
series that have windows. NAB's score by its standard profile, with one threshold over all series that is searched for each
detector alike: on the rank of a step among those of its series that are scored, since scores of one series say little about those
of another, so that a threshold is the share of its steps that each series may alarm. A detection is the first step of an alarm
(alarmed steps less than a window apart are one, as `ae score` joins them); beside it stands NAB's score with each alarmed step as
a detection. Each cell (a series, a detector) is stored in the state folder as soon as it is measured. docs/series.md quotes the
record.
"""

import argparse
import dataclasses
import gzip
import hashlib
import io
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmark_tools import RECORDS, ROOT, find_file, measurement_facts, replace_section, save_record
from scipy.stats import rankdata
from series_metrics import best_nab_score, vus_pr
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from ae_models.fit import fit
from ae_models.spec import ChannelSpec, FitSpec, QuantileThresholdSpec, StepsSpec
from aeops.bundle.detector import Detector
from aeops.files import write_json
from aeops.kinds.series_windows import average_scores, cut_windows
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.recipe.reader import read_recipe
from aeops.report.model_card import markdown_table

PROTOCOL, FOLDER = "nab", "timeseries/nab"
RECORD, DOCS = RECORDS / "anomaly_series.json", ROOT / "docs" / "series.md"
BEGIN, END = "<!-- nab: written by `make bench-anomaly PROTOCOLS=nab` -->", "<!-- nab: end -->"
PROBATION = 0.15
LENGTH, SHORTEST = 64, 4  # steps of a window
VALIDATION = 0.2  # of the training windows, at their end
COMPONENTS, NEIGHBOURS = 8, 5
OURS = "ours (recipe nab)"


@dataclass(frozen=True)
class NabSeries:
    """One series.

    Attributes:
        name: its file without suffixes.
        values: float64 (n,).
        labels: 1 in NAB's windows, int (n,).
        trained: steps that are trained on.
        length: of a window.
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    trained: int
    length: int

    @property
    def starts(self) -> np.ndarray:
        return np.arange(len(self.values) - self.length + 1)

    def unit_windows(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all windows (k, length), scaled by the training steps, and those of the training."""
        low, high = self.values[: self.trained].min(), self.values[: self.trained].max()
        unit = (self.values - low) / (high - low or 1.0)
        windows = cut_windows(unit[:, np.newaxis], self.starts, self.length)[:, 0]
        return windows, windows[: self.trained - self.length + 1]


def read_series(names: Sequence[str] | None) -> list[NabSeries]:
    """Return the series; those of these names, where some are given."""
    folder = find_file(FOLDER)
    if folder is None:
        raise SystemExit(f"expected the folder {FOLDER} among the sources: see docs/quick-start.md, the shipped recipes")
    windows = json.loads((folder / "combined_windows.json").read_text())
    series = []
    for file in sorted(folder.glob("*/*.csv.gz")):
        name = f"{file.parent.name}/{file.name.removesuffix('.csv.gz')}"
        if names and name not in names:
            continue
        frame = pd.read_csv(io.BytesIO(gzip.decompress(file.read_bytes())), parse_dates=["timestamp"])
        labels = np.zeros(len(frame), int)
        for start, end in windows[f"{name}.csv"]:
            labels[(frame["timestamp"] >= pd.Timestamp(start)) & (frame["timestamp"] <= pd.Timestamp(end))] = 1
        trained = int(PROBATION * len(frame))
        length = max(SHORTEST, min(LENGTH, trained // 4))
        series.append(NabSeries(name, frame["value"].to_numpy(float), labels, trained, length))
    return series


# ---------------------------------------------------------------- detectors: scores of the steps, (n,)


def over_steps(series: NabSeries, scores: np.ndarray) -> np.ndarray:
    return average_scores(scores, series.starts, series.length, len(series.values))


def score_ours(series: NabSeries, spec: FitSpec) -> np.ndarray:
    """Return the scores of the recipe's model, trained on the first steps."""
    windows = cut_windows(series.values[:, np.newaxis], series.starts, series.length)
    train = windows[: series.trained - series.length + 1]
    first = max(2, round((1 - VALIDATION) * len(train)))
    low, high = float(series.values[: series.trained].min()), float(series.values[: series.trained].max())
    channel = ChannelSpec("value", headroom=1e6, low=low, high=high if high > low else low + 1)
    inputs = dataclasses.replace(
        spec.input, channels=(channel,), shape=(1, series.length), steps=StepsSpec(every=1, length=series.length)
    )
    own = dataclasses.replace(spec, input=inputs, threshold=QuantileThresholdSpec(0.5, 0.5))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(
            own,
            train[:first],
            train[first:],
            train[first:],  # of the threshold, which nothing here reads
            checkpoints=folder / "checkpoints",
            content_sha256="0" * 64,
            recipe="benchmark",
            bundle=folder / "bundle",
            history=folder / "training",
            progress_bar=False,
        )
        return over_steps(series, Detector(folder / "bundle").score(windows)["score"])


def score_pca(series: NabSeries, spec: FitSpec) -> np.ndarray:
    windows, train = series.unit_windows()
    pca = PCA(min(COMPONENTS, series.length - 1, len(train) - 1), svd_solver="full").fit(train)
    return over_steps(series, np.log(np.square(windows - pca.inverse_transform(pca.transform(windows))).sum(axis=1) + 1e-9))


def score_knn(series: NabSeries, spec: FitSpec) -> np.ndarray:
    windows, train = series.unit_windows()
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(train))).fit(train)
    return over_steps(series, np.log(neighbours.kneighbors(windows)[0][:, -1] + 1e-9))


def score_matrix_profile(series: NabSeries, spec: FitSpec) -> np.ndarray:
    import stumpy  # compiles for seconds

    profile = stumpy.stump(series.values, series.length)[:, 0].astype(float)
    return over_steps(series, np.nan_to_num(profile, posinf=0.0))


def score_robust_z(series: NabSeries, spec: FitSpec) -> np.ndarray:
    train = series.values[: series.trained]
    median = np.median(train)
    spread = np.median(np.abs(train - median)) * 1.4826 or train.std() or 1.0
    return np.asarray(np.abs(series.values - median) / spread)


SCORES: dict[str, Callable[[NabSeries, FitSpec], np.ndarray]] = {
    OURS: score_ours,
    "sub-sequence PCA": score_pca,
    "sub-sequence kNN": score_knn,
    "matrix profile": score_matrix_profile,
    "robust z-score": score_robust_z,
}


# ---------------------------------------------------------------- the cells and the record


def measure_cell(series: NabSeries, detector: str, spec: FitSpec) -> dict[str, Any]:
    """Return the figures of a detector on a series, and the rank of each scored step, 0 to 1; 0 for those that are trained on."""
    start = time.monotonic()
    scores = SCORES[detector](series, spec)
    seconds = time.monotonic() - start
    scored, labels = scores[series.trained :], series.labels[series.trained :]
    ranks = np.zeros(len(scores))
    ranks[series.trained :] = rankdata(scored) / len(scored)
    cell = {"series": series.name, "detector": detector, "seconds": seconds, "scores": np.round(ranks, 6).tolist()}
    if labels.any():
        cell |= {"vus_pr": vus_pr(scored, labels, series.length), "auc_pr": float(average_precision_score(labels, scored))}
    return cell


def measure(
    all_series: Sequence[NabSeries], detectors: Sequence[str], spec: FitSpec, folder: Path, minutes: float | None
) -> list[Any]:
    """Return the cells of the folder and those that it lacks; after so many minutes no further one is begun."""
    cells, start = [], time.monotonic()
    settings = json.dumps(spec.to_dict(), sort_keys=True)
    for series in all_series:  # all detectors of one series before the next, so that those measured so far are the same
        for detector in detectors:
            key = f"ranks|{series.name}|{detector}|{settings if detector == OURS else ''}|{series.length}"
            file = folder / f"{PROTOCOL}-{hashlib.sha256(key.encode() + series.values.tobytes()).hexdigest()[:16]}.json"
            if not file.is_file():
                if minutes is not None and time.monotonic() - start > 60 * minutes:
                    continue
                write_json(file, measure_cell(series, detector, spec))
            cells.append(read_json(file))
    return cells


def summarize(cells: Sequence[Mapping[str, Any]], all_series: Sequence[NabSeries]) -> dict[str, Any]:
    """Return the figures of each detector over its series."""
    by_name = {series.name: series for series in all_series}
    summary = {}
    detectors = list(dict.fromkeys(cell["detector"] for cell in cells))
    counts = Counter(cell["series"] for cell in cells)
    cells = [cell for cell in cells if counts[cell["series"]] == len(detectors)]  # those of all detectors alone
    for detector in detectors:
        own = [cell for cell in cells if cell["detector"] == detector]
        labelled = [cell for cell in own if "vus_pr" in cell]
        corpus: list[Mapping[str, Any]] = []
        for cell in own:
            series = by_name[cell["series"]]
            one = {"scores": np.array(cell["scores"]), "labels": series.labels, "first": series.trained}
            corpus.append(one | {"apart": series.length})
        summary[detector] = {
            "series": len(own),
            "labelled": len(labelled),
            "vus_pr": statistics.fmean(cell["vus_pr"] for cell in labelled) if labelled else None,
            "auc_pr": statistics.fmean(cell["auc_pr"] for cell in labelled) if labelled else None,
            "nab": best_nab_score(corpus) if labelled else None,
            "nab_by_step": best_nab_score([one | {"apart": 1} for one in corpus]) if labelled else None,
            "seconds": statistics.fmean(cell["seconds"] for cell in own),
        }
    return summary


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/series.md."""
    if record is None:
        return "Not measured yet: `make bench-anomaly PROTOCOLS=nab` measures it."
    rows = []
    for name, figures in record["detectors"].items():
        texts = ["-" if figures[key] is None else f"{figures[key]:{form}}" for key, form in MEASURES.items()]
        rows.append([name, f"{figures['series']}", *texts])
    head = ["detector", "series", "VUS-PR", "AUC-PR", "NAB's score", "NAB's, each step"]
    text = f"A random score has an AUC-PR of {record['anomalous_share']:.3f} on average over the 30 series. "
    text += "NAB's score counts the first step of each alarm as a detection, and beside it each alarmed step."
    if missing := [name for name in SCORES if name not in record["detectors"]]:
        text += f" Not measured yet: {', '.join(missing)}, and the series that the table lacks of 30."
    return f"{markdown_table(head, rows)}\n\n{text}"


MEASURES = {"vus_pr": ".3f", "auc_pr": ".3f", "nab": ".1f", "nab_by_step": ".1f"}


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/series.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Series of NAB: our default beside detectors of sub-sequences.")
    parser.add_argument("--series", nargs="+", metavar="GROUP/NAME", help="[all 30]")
    parser.add_argument("--detectors", nargs="+", choices=SCORES, default=list(SCORES), help="[all]")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "nab.yaml", help="of our default [%(default)s]")
    parser.add_argument("--minutes", type=float, help="after which no further cell is begun [no limit]")
    parser.add_argument("--cells", type=Path, help="folder of the cells [benchmarks/anomaly in the state folder]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    project = find_project(ROOT)
    folder = args.cells or project.home / "benchmarks" / "anomaly"
    folder.mkdir(parents=True, exist_ok=True)
    all_series = read_series(args.series)
    cells = measure(all_series, args.detectors, read_recipe(args.recipe).fit, folder, args.minutes)
    record = measurement_facts(project, "make bench-anomaly PROTOCOLS=nab")
    labelled = [series for series in all_series if series.labels[series.trained :].any()]
    record["anomalous_share"] = statistics.fmean(float(series.labels[series.trained :].mean()) for series in labelled)
    record["detectors"] = summarize(cells, all_series)
    record["cells"] = [{key: value for key, value in cell.items() if key != "scores"} for cell in cells]
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
