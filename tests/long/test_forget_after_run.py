"""`ae forget` after a whole run: nothing that the run made holds the sample any more, and the next run goes on without it."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import Checkout, make_checkout

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
ROWS = 900
GONE = "p0000007-gone"
VALUE = 101.73205080756887  # of the row's column a, and of no other


def write_rows(path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"a": draw.normal(100, 10, ROWS), "kind": draw.choice(["x", "y", "z"], ROWS)})
    rows["b"] = rows["a"] * 0.3 + draw.normal(0, 0.5, ROWS)
    rows["part_id"] = [f"p{number:07d}" for number in range(ROWS)]
    rows.loc[7, ["a", "part_id"]] = [VALUE, GONE]
    rows.to_parquet(path, index=False)


def files_with(checkout: Checkout, pattern: bytes) -> set[str]:
    """Return the files of the project, but for its code, that hold these bytes."""
    found = set()
    for folder in (".ae", ".dvc", "data", "artifacts", "recipes"):
        for file in (checkout.root / folder).rglob("*"):
            if file.is_file() and not file.is_symlink() and pattern in file.read_bytes():
                found.add(str(file.relative_to(checkout.root)))
    return found


def test_nothing_of_a_run_holds_a_forgotten_sample_and_the_next_run_goes_on(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "checkout")
    write_rows(tmp_path / "rows.parquet")
    assert checkout.ae_in_process("new", "plant", "--from", str(tmp_path / "rows.parquet"), "--yes").returncode == 0
    done = checkout.ae_in_forks("run", "plant")
    assert "plant 1 (challenger, champion)" in done.stdout, done.stdout + done.stderr
    assert files_with(checkout, GONE.encode())
    assert files_with(checkout, struct.pack("<d", VALUE))

    (tmp_path / "gone.txt").write_text(f"{GONE}\n")
    forgotten = checkout.ae_in_forks("forget", "plant", "--ids", str(tmp_path / "gone.txt"), "--why", "consent withdrawn")
    assert forgotten.returncode == 0, forgotten.stdout + forgotten.stderr
    assert files_with(checkout, GONE.encode()) == set()
    assert files_with(checkout, struct.pack("<d", VALUE)) == set()
    [(version, aliases, tags)] = checkout.versions("plant")
    assert version == "1"
    assert "champion" not in aliases
    assert "forgotten" in tags
    rebuilt = checkout.ae_in_forks("rebuild", "plant@1")
    assert rebuilt.returncode != 0
    assert "consent withdrawn" in rebuilt.stderr

    done = checkout.ae_in_forks("run", "plant")
    assert "plant 2 (challenger, champion)" in done.stdout, done.stdout + done.stderr
    ids = pd.read_parquet(checkout.root / "data" / "plant" / "index.parquet")["id"]
    assert len(ids) == ROWS - 1
    assert GONE not in set(ids)
    assert files_with(checkout, GONE.encode()) == set()
