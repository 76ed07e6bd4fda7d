"""`ae forget` after a whole run: nothing that the run made holds the sample any more, and the next run goes on without it."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from checkout import Checkout, make_checkout

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
ROWS = 900


def make_rows() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"a": draw.normal(100, 10, ROWS), "kind": draw.choice(["x", "y", "z"], ROWS)})
    rows["b"] = rows["a"] * 0.3 + draw.normal(0, 0.5, ROWS)
    rows["part_id"] = [f"p{number:07d}" for number in range(ROWS)]
    return rows


def files_with(checkout: Checkout, value: str | float) -> set[str]:
    """Return the files of the project, but for its code, that hold an id or a number; Parquet is unpacked."""
    pattern = value.encode() if isinstance(value, str) else struct.pack("<d", value)
    found = set()
    for folder in (".ae", ".dvc", "data", "artifacts", "recipes"):
        for file in (checkout.root / folder).rglob("*"):
            if not file.is_file() or file.is_symlink():
                continue
            content = file.read_bytes()
            if pattern in content or (content.startswith(b"PAR1") and holds(file, value)):
                found.add(str(file.relative_to(checkout.root)))
    return found


def holds(file: Path, value: str | float) -> bool:
    """Return whether a cell of a Parquet file is a value, or a text that holds it."""
    for column in pq.read_table(file).columns:
        cells = column.to_pylist()
        if value in cells or (isinstance(value, str) and any(isinstance(cell, str) and value in cell for cell in cells)):
            return True
    return False


def test_nothing_of_a_run_holds_a_forgotten_sample_and_the_next_run_goes_on(tmp_path: Path) -> None:
    checkout, rows = make_checkout(tmp_path / "checkout"), make_rows()
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    assert checkout.ae_in_process("new", "plant", "--from", str(tmp_path / "rows.parquet"), "--yes").returncode == 0
    done = checkout.ae_in_forks("run", "plant")
    assert "plant 1 (challenger, champion)" in done.stdout, done.stdout + done.stderr
    index_file = checkout.root / "data" / "plant" / "index.parquet"
    index = pd.read_parquet(index_file)
    gone = str(index[index["split"] == "train"]["id"].iloc[0])  # which the bank of neighbours holds
    value = float(rows.set_index("part_id").loc[gone, "a"])
    assert len(files_with(checkout, gone)) >= 3
    assert len(files_with(checkout, value)) >= 3

    (tmp_path / "gone.txt").write_text(f"{gone}\n")
    forgotten = checkout.ae_in_forks("forget", "plant", "--ids", str(tmp_path / "gone.txt"), "--why", "consent withdrawn")
    assert forgotten.returncode == 0, forgotten.stdout + forgotten.stderr
    assert files_with(checkout, gone) == set()
    assert files_with(checkout, value) == set()
    [(version, aliases, tags)] = checkout.versions("plant")
    assert version == "1"
    assert "champion" not in aliases
    assert "consent withdrawn" in tags["forgotten"]
    assert not list(checkout.home.glob("mlflow/**/model.onnx"))
    rebuilt = checkout.ae_in_forks("rebuild", "plant@1")
    assert rebuilt.returncode == 3
    assert "plant@1 cannot be rebuilt: samples of its data were forgotten" in rebuilt.stderr
    assert "consent withdrawn" in rebuilt.stderr

    done = checkout.ae_in_forks("run", "plant")
    assert "plant 2 (challenger, champion)" in done.stdout, done.stdout + done.stderr
    ids = set(pd.read_parquet(index_file)["id"])
    assert ids == set(rows["part_id"]) - {gone}
    assert files_with(checkout, gone) == set()
