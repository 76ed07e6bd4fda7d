"""`ae prune` in a checkout in which a run has gone through: nothing that the next run or a rebuild needs is deleted."""

import json
import os
import shutil
from pathlib import Path

from checkout import Checkout, copy_checkout


def test_after_all_old_files_are_deleted_the_next_run_has_nothing_to_do_and_the_data_comes_back(
    ran: Checkout, tmp_path: Path
) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    leftover = copy.home / "incoming" / "small" / "0.npy"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"x" * 4096)
    for path in (*copy.root.rglob("*"), copy.root):
        os.utime(path, (0, 0), follow_symlinks=False)
    planned = copy.ae_in_process("prune", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert not json.loads(planned.stdout)["deleted"]
    assert leftover.exists()
    done = copy.ae_in_process("prune")
    assert done.returncode == 0, done.stderr
    assert "freed" in done.stdout
    assert not leftover.exists()
    assert "nothing to delete" in copy.ae_in_process("prune").stdout
    shutil.rmtree(copy.root / ".dvc" / "cache")
    shutil.rmtree(copy.root / "data" / "small")
    pulled = copy.dvc("pull", "data/small")
    assert pulled.returncode == 0, pulled.stderr
    again = copy.ae_in_process("run", "small")
    assert "nothing changed" in again.stdout, again.stdout + again.stderr
    shown = copy.ae_in_process("status")
    assert "state folder\n  " in shown.stdout


def test_too_few_days_are_refused(bare: Checkout) -> None:
    refused = bare.ae_in_process("prune", "--days", "0")
    assert refused.returncode == 2
    assert "--days: expected 1 or more" in refused.stderr
