"""The protocols of anomaly_detection.py that are about tables: every set of ADBench at hand, one setting of a detector for all.

- **adbench-clean**: a random half of a set's normal rows is trained on; the other half and all anomalies are scored.
- **adbench-dirty**: the same with anomalies among the training rows, until they are 1, 5 or 10 % of them. They are none of those
  that are scored, and at most half of a set's anomalies: a set that cannot reach a level is left out of it, by name.

A set of more than 20,000 rows is cut to 20,000 random ones, for all detectors alike. A seed decides the split and the training.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anomaly_cells import Cell, spread
from benchmark_tools import find_file
from scipy.stats import rankdata
from table_detectors import DETECTORS, OWN_DETECTORS, FittedDetector

from aeops.errors import DataError
from aeops.evaluation.detection import measure_ranking
from aeops.files import write_json
from aeops.report.model_card import markdown_table

__all__ = [
    "CLEAN",
    "TABLE_PROTOCOLS",
    "list_table_tasks",
    "measure_tables",
    "read_table_cells",
    "summarize_tables",
    "summary_row",
    "tables_section",
]

LEVELS = (0.01, 0.05, 0.1)  # of contamination
CLEAN = "adbench-clean"
TABLE_PROTOCOLS = {CLEAN: (0.0,), "adbench-dirty": LEVELS}
MAX_ROWS = 20_000  # of a set
SPLIT_RULE = 1  # raise it where a split changes, so that old cells do not count


# ---------------------------------------------------------------- the tasks


@dataclass(frozen=True)
class TableTask:
    """One set of ADBench at one level of contamination.

    Attributes:
        protocol: with its level.
        name: of the set.
        file: .npz with X (n, columns) and y (n,), 1 for an anomaly.
        contamination: share of anomalies among the training rows.
    """

    protocol: str
    name: str
    file: Path
    contamination: float


@dataclass(frozen=True)
class TableSplit:
    """The rows of a task, raw float64 (n, columns), with the novelty of the test rows, bool (n,)."""

    train: np.ndarray
    test: np.ndarray
    is_novel: np.ndarray


def protocol_name(protocol: str, contamination: float) -> str:
    return f"{protocol} {contamination:.0%}" if contamination else protocol


def list_table_tasks(protocol: str) -> list[TableTask]:
    """Return the tasks of a protocol, the small sets first.

    Raises:
        DataError: the sets are not at hand.
    """
    folder = find_file("adbench")
    if folder is None:
        raise DataError(f"{protocol}: expected the folder adbench among the sources, got none: AE_SOURCES names their folder")
    files = sorted(folder.glob("*/*.npz"), key=lambda file: (_values(file), file.name))
    levels = TABLE_PROTOCOLS[protocol]
    return [TableTask(protocol_name(protocol, level), file.stem, file, level) for level in levels for file in files]


def _values(file: Path) -> int:
    with np.load(file) as arrays:
        return int(arrays["X"].size)


def split_table(rows: np.ndarray, labels: np.ndarray, contamination: float, seed: int) -> TableSplit | None:
    """Split a set.

    Args:
        rows: (n, columns).
        labels: (n,), 1 for an anomaly.
        contamination: share of anomalies among the training rows; they are taken out of the test rows.
        seed: of the split.

    Returns:
        The split; None where half of the anomalies do not suffice for the level, or it means less than one row.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(rows))[:MAX_ROWS]
    rows, labels = rows[drawn], labels[drawn]
    normals, anomalies = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    train, test_normals = np.split(normals, [len(normals) // 2])
    mixed_in = round(contamination / (1 - contamination) * len(train))
    if contamination and not 1 <= mixed_in <= len(anomalies) // 2:
        return None
    train = generator.permutation(np.concatenate([train, anomalies[:mixed_in]]))
    test = np.concatenate([test_normals, anomalies[mixed_in:]])
    return TableSplit(rows[train], rows[test], labels[test] == 1)


def read_split(task: TableTask, seed: int) -> TableSplit | None:
    with np.load(task.file) as arrays:
        return split_table(arrays["X"].astype(np.float64), arrays["y"], task.contamination, seed)


# ---------------------------------------------------------------- the cells


def table_cell_file(folder: Path, task: TableTask, detector: str, seed: int) -> Path:
    """Return the file of a cell: named by the settings of detector and split, and the set's content."""
    settings = {"detector": dict(DETECTORS[detector].settings), "rule": SPLIT_RULE, "rows": MAX_ROWS, "seed": seed}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(task.file.read_bytes())
    name = "-".join([task.protocol, task.name, detector, str(seed), digest.hexdigest()[:16]])
    return folder / f"{name.replace(' ', '_').replace('%', 'percent')}.json"


def measure_tables(
    tasks: Sequence[TableTask], detectors: Sequence[str], seeds: Sequence[int], folder: Path, limit_s: float | None = None
) -> None:
    """Measure the cells that the folder lacks, each stored as soon as it is measured, small sets first.

    Args:
        tasks: of `list_table_tasks`.
        detectors: names of DETECTORS.
        seeds: of split and training.
        folder: of the cells.
        limit_s: seconds after which no further cell is begun; None: no limit.
    """
    start_time = time.monotonic()
    for seed in seeds:
        for task in tasks:
            missing = [name for name in detectors if not table_cell_file(folder, task, name, seed).is_file()]
            split = read_split(task, seed) if missing else None
            for name in missing if split is not None else ():
                if limit_s is not None and time.monotonic() - start_time > limit_s:
                    print(f"stopped after {limit_s:g} s: call it again to go on", flush=True)
                    return
                cell = measure_table(task, split, name, seed)
                file = table_cell_file(folder, task, name, seed)
                write_json(file, [asdict(cell)])
                print(file.stem, f"AUROC {cell.auroc:.4f}, {cell.seconds:.1f} s", flush=True)


def measure_table(task: TableTask, split: TableSplit, detector: str, seed: int) -> Cell:
    """Fit a detector and score the test rows."""
    start_time = time.monotonic()
    fitted = DETECTORS[detector].fit(split.train, seed)
    seconds = time.monotonic() - start_time
    start_time = time.monotonic()
    # PyOD's PCA divides by variances of 0 on InternetAds: scores that are not finite count as equal, and the highest.
    scores = np.nan_to_num(np.asarray(fitted.score(split.test), dtype=np.float64), nan=np.inf)
    scores = np.minimum(scores, np.finfo(np.float64).max)
    milliseconds = 1000 * (time.monotonic() - start_time) / len(split.test)
    ranking = measure_ranking(scores, split.is_novel)
    caught, false_alarms = flagged_shares(fitted, scores, split.is_novel)
    figures = (ranking.auroc, ranking.average_precision, caught, false_alarms)
    return Cell(task.protocol, task.name, detector, seed, *figures, seconds, milliseconds)


def flagged_shares(fitted: FittedDetector, scores: np.ndarray, is_novel: np.ndarray) -> tuple[float | None, float | None]:
    """Return the shares of novel and of normal rows above the threshold; None twice without one."""
    if fitted.threshold is None:
        return None, None
    is_flagged = scores > fitted.threshold
    return float(is_flagged[is_novel].mean()), float(is_flagged[~is_novel].mean())


def read_table_cells(folder: Path, tasks: Sequence[TableTask], seeds: Sequence[int]) -> Iterator[Cell]:
    """Yield the stored cells of today's settings."""
    for task in tasks:
        for detector in DETECTORS:
            for seed in seeds:
                file = table_cell_file(folder, task, detector, seed)
                if file.is_file():
                    for document in json.loads(file.read_text(encoding="utf-8")):
                        yield Cell(**document)


# ---------------------------------------------------------------- the summary


MEASURES = ("auroc", "average_precision", "caught", "false_alarms", "seconds", "milliseconds")
REFERENCE = "PyOD kNN"
TARGETS = {"auroc": 0.005, "average_precision": 0.025}  # of adbench-clean: above the reference, at least


def summarize_tables(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return protocol -> detector -> its figures: the mean over sets of each seed, their spread, and the mean rank.

    A seed counts where a detector has all sets of the protocol. A detector without such a seed is `partial`: its means are over
    the sets that it has, `beside` has those of the reference on the same sets and seeds, and it gets no rank.
    """
    protocols: dict[str, Any] = {}
    for protocol in dict.fromkeys(cell.protocol for cell in cells):
        of_protocol = [cell for cell in cells if cell.protocol == protocol]
        tasks = sorted({cell.task for cell in of_protocol})
        by_detector = {
            name: {(cell.task, cell.seed): cell for cell in of_protocol if cell.detector == name}
            for name in dict.fromkeys(cell.detector for cell in of_protocol)
        }
        protocols[protocol] = {
            name: _summarize_detector(own_cells, tasks, by_detector.get(REFERENCE, {})) for name, own_cells in by_detector.items()
        }
        for name, rank in _mean_ranks(by_detector, protocols[protocol]).items():
            protocols[protocol][name]["mean_rank"] = rank
    _add_losses(protocols, cells)
    return protocols


CellTable = Mapping[tuple[str, int | None], Cell]


def _summarize_detector(cells: CellTable, tasks: Sequence[str], reference: CellTable) -> dict[str, Any]:
    seeds = sorted({seed for _, seed in cells if seed is not None})
    whole_seeds = [seed for seed in seeds if all((task, seed) in cells for task in tasks)]
    summary: dict[str, Any] = {"tasks": len(tasks), "seeds": len(whole_seeds), "partial": not whole_seeds}
    for measure in MEASURES:
        groups = [[cells[task, seed] for task in tasks] for seed in whole_seeds] or [list(cells.values())]
        has_measure = all(getattr(cell, measure) is not None for cell in cells.values())
        summary[measure] = spread([_mean(group, measure) for group in groups] if has_measure else [])
    summary["by_task"] = {
        task: spread([cell.auroc for (name, _), cell in cells.items() if name == task])["mean"] for task in tasks
    }
    shared = [key for key in cells if key in reference and (key[1] in whole_seeds or not whole_seeds)]
    if shared:
        summary["against_reference"] = {
            measure: _mean([cells[key] for key in shared], measure) - _mean([reference[key] for key in shared], measure)
            for measure in TARGETS
        }
    if not whole_seeds:
        summary["missing"] = [task for task in tasks if summary["by_task"][task] is None]
    return summary


def _mean(cells: Sequence[Cell], measure: str) -> float:
    return float(np.mean([getattr(cell, measure) for cell in cells]))


def _mean_ranks(by_detector: Mapping[str, CellTable], summaries: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean rank by AUROC of each detector that is not partial, over the sets and seeds that all of them have."""
    names = [name for name in by_detector if not summaries[name]["partial"]]
    shared = set.intersection(*(set(by_detector[name]) for name in names)) if names else set()
    if not shared:
        return {}
    ranks = [rankdata([-by_detector[name][key].auroc for name in names]) for key in sorted(shared)]
    return dict(zip(names, np.mean(ranks, axis=0).tolist(), strict=True))


def _add_losses(protocols: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Add to each detector of a dirty protocol what it lost in AUROC and average precision against clean training rows."""
    clean = {(cell.detector, cell.task, cell.seed): cell for cell in cells if cell.protocol == CLEAN}
    for protocol, detectors in protocols.items():
        if protocol == CLEAN:
            continue
        for name, summary in detectors.items():
            pairs = [
                (clean[name, cell.task, cell.seed], cell)
                for cell in cells
                if cell.protocol == protocol and cell.detector == name and (name, cell.task, cell.seed) in clean
            ]
            if pairs:
                summary["lost"] = {
                    measure: _mean([before for before, _ in pairs], measure) - _mean([after for _, after in pairs], measure)
                    for measure in TARGETS
                }


def tables_section(protocols: Mapping[str, Any]) -> str:
    """Return the tables of the protocols about tables: clean ones, and what contamination costs."""
    sections = []
    if clean := protocols.get(CLEAN):
        figures = ["AUROC", "AP", "mean rank", "caught at 10 %", "false alarms", "to train"]
        header = ["adbench-clean", "seeds", *figures]
        sections.append(markdown_table(header, [[name, *_clean_row(summary)] for name, summary in _ordered(clean)]))
    dirty = {name: detectors for name, detectors in protocols.items() if name != CLEAN}
    if dirty:
        names = list(dict.fromkeys(name for detectors in dirty.values() for name, _ in _ordered(detectors)))
        rows = [[name, *(_dirty_cell(detectors.get(name)) for detectors in dirty.values())] for name in names]
        levels = [f"{protocol.removeprefix('adbench-dirty ')} of {_task_count(found)} sets" for protocol, found in dirty.items()]
        sections.append(markdown_table(["adbench-dirty: AUROC / AP (lost)", *levels], rows))
    return "\n\n".join(sections)


def summary_row(protocols: Mapping[str, Any]) -> list[str]:
    """Return the README's row of clean tables: our best detector, with AUROC and the share caught, and the best of the others."""
    ordered = _ordered(protocols[CLEAN])
    own = [name in OWN_DETECTORS for name, _ in ordered]
    (ours, summary), (other, beside) = ordered[own.index(True)], ordered[own.index(False)]
    auroc, precision = (_hundredths(summary[measure]) for measure in TARGETS)
    caught = f"{summary['caught']['mean']:.1%} at 10 %"
    beside_figures = " / ".join(_hundredths(beside[measure]) for measure in TARGETS)
    return [f"{CLEAN}, {ours}", f"{auroc} (average precision {precision})", caught, f"{other} {beside_figures}"]


def _ordered(detectors: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the detectors from the best mean AUROC to the worst; those that lack sets come last."""
    return sorted(detectors.items(), key=lambda item: (item[1]["partial"], -item[1]["auroc"]["mean"]))


def _task_count(detectors: Mapping[str, Any]) -> int:
    return max(summary["tasks"] for summary in detectors.values())


def _clean_row(summary: Mapping[str, Any]) -> list[str]:
    auroc, precision = (_hundredths(summary[measure]) for measure in TARGETS)
    seeds = str(summary["seeds"])
    if summary["partial"]:
        seeds = f"{summary['tasks'] - len(summary['missing'])} of {summary['tasks']} sets, kNN there"
        if "against_reference" in summary:
            differences = [f"{-100 * summary['against_reference'][measure]:+.1f}" for measure in TARGETS]
            auroc, precision = (f"{text}, {other}" for text, other in zip((auroc, precision), differences, strict=True))
    rank = f"{summary['mean_rank']:.2f}" if "mean_rank" in summary else "-"
    shares = [
        "-" if summary[measure]["mean"] is None else f"{summary[measure]['mean']:.1%}" for measure in ("caught", "false_alarms")
    ]
    return [seeds, auroc, precision, rank, *shares, f"{summary['seconds']['mean']:.1f} s"]


def _dirty_cell(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "-"
    text = " / ".join(f"{100 * summary[measure]['mean']:.1f}" for measure in TARGETS)
    if "lost" in summary:
        lost = [f"{100 * summary['lost'][measure]:.1f}" for measure in TARGETS]
        text += f" ({' / '.join(lost)})"
    if summary["partial"]:
        text += f", {summary['tasks'] - len(summary['missing'])} sets"
    return text


def _hundredths(figures: Mapping[str, float | None]) -> str:
    text = f"{100 * (figures['mean'] or 0.0):.1f}"
    return text if figures["sd"] is None else f"{text} ± {100 * figures['sd']:.1f}"
