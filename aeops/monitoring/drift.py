"""drift.html: Evidently's report of the recent predictions beside the calibration's, in a process of its own.

Run: python -m aeops.monitoring.drift --reference FILE --recent FILE --out FILE
Evidently takes seconds to import, so no other process does. It decides nothing: its tests are made to look once.
"""

import argparse
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from aeops.files import atomic_path
from aeops.machine.quiet_environment import quiet_environment
from aeops.machine.stage_main import run_stage

MOST = 5000  # rows of each side
# Evidently's page holds its scripts and fonts itself. Browsers hold it to that: nothing is fetched, whatever a release writes.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
)
ADDRESS = re.compile(r"https?://(?!www\.w3\.org/)[\w.-]+", re.IGNORECASE)  # w3.org names what SVG is; nobody goes there


def draw(reference: Path, recent: Path, out: Path) -> None:
    """Writes the report of `recent` beside `reference`, Parquet files with the columns score, mean, std and code."""
    quiet_environment()  # Evidently asks DO_NOT_TRACK when it is imported
    warnings.filterwarnings("ignore")  # of its statistics, about columns that are constant
    from evidently import DataDefinition, Dataset, Report  # type: ignore[import-untyped]
    from evidently.presets import DataDriftPreset  # type: ignore[import-untyped]

    usual, new = frame(reference), frame(recent)
    columns = [name for name in usual.columns if name in new.columns and usual[name].notna().any() and new[name].notna().any()]
    definition = DataDefinition(numerical_columns=columns)
    sides = [Dataset.from_pandas(side[columns], data_definition=definition) for side in (new, usual)]
    with atomic_path(out) as tmp_path:
        Report([DataDriftPreset()]).run(*sides).save_html(str(tmp_path))
        tmp_path.write_text(offline(tmp_path.read_text(encoding="utf-8")), encoding="utf-8")


def frame(file: Path) -> pd.DataFrame:
    """One column a number of the code, at most `MOST` rows, drawn with a fixed seed."""
    table = pq.read_table(file)
    if table.num_rows > MOST:
        table = table.take(np.sort(np.random.default_rng(0).choice(table.num_rows, MOST, replace=False)))
    rows: pd.DataFrame = table.select(["score", "mean", "std"]).to_pandas()
    codes = pd.DataFrame([[] if code is None else code for code in table["code"].to_pylist()])
    return rows.join(codes.rename(columns=lambda place: f"code {int(place) + 1}"))


def offline(page: str) -> str:
    """The page without the addresses of other hosts, under a policy that lets it load nothing."""
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return ADDRESS.sub("", page).replace("<head>", f"<head>{policy}", 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m aeops.monitoring.drift", description="Evidently's report.")
    for name in ("reference", "recent", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    run_stage(lambda: draw(given.reference, given.recent, given.out))


if __name__ == "__main__":
    main()
