"""How many wrong labels of a table does `ae audit` find? `python benchmarks/label_errors_tables.py`

5 % of the labels of labelled tables are replaced by another one at random; the audit ranks the rows by how little they look like
their label, out of fold. Precision: the share of flipped ones among as many first ones as were flipped; beside it the rankings
of the library cleanlab on the same out-of-fold probabilities, by the formulas of benchmarks/label_errors.py. The tables are
scikit-learn's and two of ADBench's that are no rare anomalies. Means over seeds with standard deviations; docs/audit.md quotes
the record.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_tools import RECORDS, ROOT, find_file, measurement_facts, replace_section, save_record
from label_errors import DOCS, FLIPPED_SHARE, flip_labels, rank_by_formulas, with_deviation
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from ae_models.spec import number_columns
from aeops.audit.features import AuditSamples
from aeops.audit.label_errors import estimate_probabilities
from aeops.kinds.named_rows import NamedRows
from aeops.kinds.table_vectors import learn_columns
from aeops.machine.stored_json import read_json
from aeops.project import find_project
from aeops.report.model_card import markdown_table

RECORD = RECORDS / "label_errors_tables.json"
BEGIN = "<!-- label errors of tables: written by `python benchmarks/label_errors_tables.py` -->"
END = "<!-- label errors of tables: end -->"
ONE_HOT = 32  # no table here has a category
LabelledRows = tuple[np.ndarray, np.ndarray]
BUNDLED: dict[str, Callable[..., LabelledRows]] = {"wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
ADBENCH = {"SpamBase": "35_SpamBase", "magic.gamma": "22_magic.gamma"}


def read_table(name: str) -> LabelledRows:
    """Return rows, float64 (n, columns), and labels (n,)."""
    if name in BUNDLED:
        return BUNDLED[name](return_X_y=True)
    path = find_file(f"adbench/Classical/{ADBENCH[name]}.npz")
    assert path is not None, "listed where it is at hand"
    arrays = np.load(path)
    return arrays["X"].astype(np.float64), arrays["y"].astype(np.int64)


def list_tables() -> list[str]:
    """Return the names of the tables at hand."""
    names = list(BUNDLED)
    for name, file in ADBENCH.items():
        if find_file(f"adbench/Classical/{file}.npz"):
            names.append(name)
    return names


def measure_seed(rows: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Any]:
    """Return the precision of each ranking at the number of flipped labels."""
    given = flip_labels(labels, FLIPPED_SHARE, seed)
    is_flipped = given != labels
    start_time = time.process_time()
    named = NamedRows(rows, learn_columns(rows, number_columns(rows.shape[1])), ONE_HOT)
    samples = AuditSamples(named.ranked_vectors, None, named.ranked_vectors.shape[1:], named)
    estimate = estimate_probabilities(samples, given, named.contents)
    seconds = time.process_time() - start_time
    precision = {}
    for name, scores in rank_by_formulas(estimate.probabilities, np.searchsorted(estimate.classes, given)).items():
        first = np.argsort(scores, kind="stable")[: int(is_flipped.sum())]
        precision[name] = float(is_flipped[first].mean())
    accuracy = float((estimate.classes[estimate.probabilities.argmax(axis=1)] == labels).mean())
    return {"seed": seed, "flipped": int(is_flipped.sum()), "accuracy": accuracy, "precision": precision, "cpu_seconds": seconds}


def results_table(record: Mapping[str, Any] | None) -> str:
    """Return the section of docs/audit.md."""
    if record is None:
        return "Not measured yet: `python benchmarks/label_errors_tables.py` measures it."
    names = list(record["tables"])
    rows = []
    for ranking in record["tables"][names[0]]["seeds"][0]["precision"]:
        cells = [ranking]
        for name in names:
            cells.append(with_deviation([seed["precision"][ranking] for seed in record["tables"][name]["seeds"]]))
        rows.append(cells)
    facts = []
    for name in names:
        table = record["tables"][name]
        accuracy = statistics.fmean(seed["accuracy"] for seed in table["seeds"])
        facts.append(f"{name} {table['rows']:,} rows, {table['seeds'][0]['flipped']:,} flipped, {accuracy:.1%} right")
    seeds = len(record["tables"][names[0]]["seeds"])
    return (
        f"{markdown_table(['ranking', *names], rows)}\n\nPrecision at the number flipped, means over {seeds} seeds with their "
        f"standard deviations. How often the classifier is right about the true label, out of fold: {'; '.join(facts)}."
    )


def update_page(text: str, record: Mapping[str, Any] | None) -> str:
    """Return docs/audit.md with the section that quotes the record."""
    return replace_section(text, BEGIN, END, results_table(record), DOCS.name)


def main(arguments: Sequence[str] | None = None) -> None:
    tables = list_tables()
    parser = argparse.ArgumentParser(description="Precision of an audit of tables whose labels were flipped at random.")
    parser.add_argument("--seeds", type=int, default=5, help="[%(default)s]")
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables, help="[all]")
    parser.add_argument("--out", type=Path, default=RECORD, help="JSON to write [%(default)s]")
    args = parser.parse_args(arguments)
    record = measurement_facts(find_project(ROOT), "python benchmarks/label_errors_tables.py") | {"tables": {}}
    for name in args.tables:
        rows, labels = read_table(name)
        seeds = [measure_seed(rows, labels, seed) for seed in range(args.seeds)]
        record["tables"][name] = {"rows": len(rows), "columns": rows.shape[1], "seeds": seeds}
        print(name, seeds[-1], flush=True)
    save_record(args.out, record)
    if args.out == RECORD:
        DOCS.write_text(update_page(DOCS.read_text(encoding="utf-8"), read_json(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
