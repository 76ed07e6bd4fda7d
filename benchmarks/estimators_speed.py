"""How fast do the estimators of ae_models.sklearn learn and score, beside PyOD's on the same rows in one run?

    python benchmarks/estimators_speed.py                                     # 100,000 rows to learn from, a million to score
    python benchmarks/estimators_speed.py --train 2000 --rows 5000            # in seconds
    python benchmarks/estimators_speed.py --docs-only                         # the table in docs/sklearn.md, from the record

Rows are normal scores of 5 hidden numbers in 20 columns with noise; a detector's time does not depend on what they mean. Each
detector is fitted once and scores all rows in one call, with the same number of threads. PyOD's kNN compares each row with all
training rows, so it scores fewer: the rows per second are those of that call. CPU seconds stand beside those of the clock.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_tools import RECORDS, ROOT, measurement_facts, replace_section, save_record
from table_detectors import DETECTORS
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from aeops.project import find_project
from aeops.report.model_card import markdown_table

RECORD, DOCS = RECORDS / "estimators.json", ROOT / "docs" / "sklearn.md"
BEGIN, END = "<!-- speed: written by `python benchmarks/estimators_speed.py` -->", "<!-- speed: end -->"
COLUMNS, HIDDEN = 20, 5
MEASURED = ("AutoencoderDetector", "MemoryDetector", "PyOD AutoEncoder", "PyOD ECOD", "PyOD kNN")
ROWS_AT_MOST = {"PyOD kNN": 100_000}  # of one call: a million would take minutes
REFERENCE = "PyOD AutoEncoder"


def make_rows(count: int, seed: int) -> np.ndarray:
    """Return rows, float64 (count, COLUMNS)."""
    mixing = np.random.default_rng(0).normal(size=(HIDDEN, COLUMNS))
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, HIDDEN)) @ mixing + 0.3 * generator.normal(size=(count, COLUMNS))


def measure(name: str, train: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Fit a detector and score rows in one call."""
    rows = rows[: ROWS_AT_MOST.get(name)]
    fit_s, fit_cpu_s, detector = timed(lambda: DETECTORS[name].fit(train, 0))
    detector.score(rows[:100])  # what a first call sets up is not its speed
    score_s, score_cpu_s, _ = timed(lambda: detector.score(rows))
    return {
        "fit_s": fit_s,
        "fit_cpu_s": fit_cpu_s,
        "rows": len(rows),
        "score_s": score_s,
        "score_cpu_s": score_cpu_s,
        "rows_per_s": len(rows) / score_s,
    }


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the seconds of the clock and of the CPU that work took, and its result."""
    start_time, start_cpu_time = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start_time, time.process_time() - start_cpu_time, result


def speed_section(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/sklearn.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/estimators_speed.py`."
    reference = record["detectors"].get(REFERENCE)
    rows = []
    for name, figures in record["detectors"].items():
        ratio = f"{figures['rows_per_s'] / reference['rows_per_s']:.1f}" if reference else "-"
        rows.append(
            [
                name,
                f"{figures['fit_s']:.1f} s ({figures['fit_cpu_s']:.1f} s)",
                f"{figures['rows']:,}",
                f"{figures['score_s']:.1f} s ({figures['score_cpu_s']:.1f} s)",
                f"{figures['rows_per_s']:,.0f}",
                ratio,
            ]
        )
    learnt = f"learns {record['train']:,} x {COLUMNS} in (CPU)"
    header = ["detector", learnt, "scores", "in (CPU)", "rows/s", f"beside {REFERENCE}"]
    return markdown_table(header, rows)


def update_docs(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/sklearn.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, speed_section(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Speed of the estimators, beside PyOD's on the same rows.")
    parser.add_argument("--train", type=int, default=100_000, help="rows to learn from [%(default)s]")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to score in one call [%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU [%(default)s]")
    parser.add_argument("--detectors", nargs="+", choices=MEASURED, default=MEASURED, help="[all]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    parser.add_argument("--docs-only", action="store_true", help="only write docs/sklearn.md, from the record")
    args = parser.parse_args(arguments)
    if not args.docs_only:
        train, rows = make_rows(args.train, 1), make_rows(args.rows, 2)
        figures = {}
        torch.set_num_threads(args.threads)
        with threadpool_limits(args.threads):
            for name in args.detectors:
                figures[name] = measure(name, train, rows)
                print(f"{name}: learnt in {figures[name]['fit_s']:.1f} s, {figures[name]['rows_per_s']:,.0f} rows/s", flush=True)
        facts = measurement_facts(find_project(ROOT), "python benchmarks/estimators_speed.py")
        save_record(args.out, facts | {"train": args.train, "threads": args.threads, "detectors": figures})
    if args.out == RECORD:
        record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else None
        DOCS.write_text(update_docs(DOCS.read_text(encoding="utf-8"), record), encoding="utf-8")


if __name__ == "__main__":
    main()
