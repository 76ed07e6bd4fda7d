"""Draw drift.html, Evidently's report of the recent predictions beside the calibration's, in a process of its own.

Run: python -m aeops.monitoring.drift --reference FILE --recent FILE --out FILE
Evidently takes seconds to import, so no other process does. It decides nothing: its tests hold for a single look.
"""

import argparse
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.stats import wasserstein_distance

from ae_models.names import names_of
from aeops.evaluation.reference import read_reference
from aeops.files import atomic_path
from aeops.machine.entry_point import run_main
from aeops.machine.library_settings import configure_libraries

MAX_ROWS = 5000  # of each side
# How far the values have moved, in standard deviations of the calibration's. A p-value, which Evidently takes of few samples, is
# small where much has moved, and its table, which puts high values first, then begins with what has moved least.
DRIFT_MEASURE = "wasserstein"
SMALLEST_DEVIATION = 0.001  # of a column that is constant, as Evidently has it
# Evidently's page holds its scripts and fonts itself. Browsers enforce that: nothing is fetched, whatever a release writes.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
)
FOREIGN_ADDRESS = re.compile(r"https?://(?!www\.w3\.org/)[\w.-]+", re.IGNORECASE)  # w3.org names SVG; nothing is fetched there


def draw_report(reference: Path, recent: Path, out: Path) -> None:
    """Write Evidently's report.

    Args:
        reference: Parquet file of the calibration samples, with the columns score, mean, std and code, and values of columns.
        recent: the same of recent predictions.
        out: the HTML file to write.
    """
    configure_libraries()  # Evidently asks DO_NOT_TRACK when it is imported
    warnings.filterwarnings("ignore")  # of its statistics, about columns that are constant
    from evidently import DataDefinition, Dataset, Report  # type: ignore[import-untyped]
    from evidently.presets import DataDriftPreset  # type: ignore[import-untyped]

    reference_table, recent_table = read_drift_tables(reference, recent)
    columns = []
    for name in reference_table.columns:
        if name in recent_table.columns and reference_table[name].notna().any() and recent_table[name].notna().any():
            columns.append(name)
    columns = order_by_drift(reference_table, recent_table, columns)
    columns_by_type = DataDefinition(numerical_columns=columns)
    recent_data = Dataset.from_pandas(recent_table[columns], data_definition=columns_by_type)
    reference_data = Dataset.from_pandas(reference_table[columns], data_definition=columns_by_type)
    with atomic_path(out) as tmp_path:
        Report([DataDriftPreset(columns=columns, num_method=DRIFT_MEASURE)]).run(recent_data, reference_data).save_html(
            str(tmp_path)
        )
        tmp_path.write_text(forbid_requests(tmp_path.read_text(encoding="utf-8")), encoding="utf-8")


def order_by_drift(reference: pd.DataFrame, recent: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Return the columns by how much they have drifted, the most first, by DRIFT_MEASURE."""
    distances = {}
    for name in columns:
        before, now = reference[name].dropna(), recent[name].dropna()
        distances[name] = float(wasserstein_distance(before, now) / max(before.std(), SMALLEST_DEVIATION))
    return sorted(columns, key=distances.__getitem__, reverse=True)


def read_drift_tables(reference: Path, recent: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of both files of `draw_report`, with a column for each value that is compared."""
    names = names_of(read_reference(reference).columns)
    return _read_table(reference, names), _read_table(recent, names)


def _read_table(file: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return at most `MAX_ROWS` rows, drawn with a fixed seed, with one column for each number of the code.

    Args:
        file: of calibration samples or of predictions.
        names: of the columns whose values they hold, which stand in the place of mean and deviation; of other samples none.
    """
    table = pq.read_table(file)
    if table.num_rows > MAX_ROWS:
        table = table.take(np.sort(np.random.default_rng(0).choice(table.num_rows, MAX_ROWS, replace=False)))
    rows: pd.DataFrame = table.select(["score"] if names else ["score", "mean", "std"]).to_pandas()
    if names:
        empty = [np.nan] * len(names)  # of a prediction that an older version recorded
        values = np.array([row or empty for row in table["values"].to_pylist()], np.float64).reshape(-1, len(names))
        rows = rows.join(pd.DataFrame(values, columns=list(map("column {}".format, names))))
    codes = pd.DataFrame([code or [] for code in table["code"].to_pylist()])
    return rows.join(codes.rename(columns=lambda index: f"code {int(index) + 1}"))


def forbid_requests(page: str) -> str:
    """Return the page without the addresses of other hosts, with a policy that lets it load nothing."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">'
    return FOREIGN_ADDRESS.sub("", page).replace("<head>", f"<head>{policy}", 1)


def main() -> None:
    """Parse the command line and draw the report."""
    parser = argparse.ArgumentParser(prog="python -m aeops.monitoring.drift", description="Draw Evidently's report.")
    for name in ("reference", "recent", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    run_main(lambda: draw_report(arguments.reference, arguments.recent, arguments.out))


if __name__ == "__main__":
    main()
