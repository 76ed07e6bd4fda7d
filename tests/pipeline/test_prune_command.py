"""`ae prune` in a checkout in which a run has gone through: the data of its version stays."""

import json
import os
import shutil
from pathlib import Path

import pytest
from checkout import Checkout, copy_checkout

from aeops.data.dataset import content_sha256


@pytest.mark.slow
def test_the_data_of_the_champion_comes_back_after_all_that_is_old_is_deleted(ran: Checkout, tmp_path: Path) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    before = content_sha256(copy.root / "data" / "small")
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
    assert content_sha256(copy.root / "data" / "small") == before
    shown = copy.ae_in_process("status")
    assert "state folder\n  " in shown.stdout


def test_too_few_days_are_refused(bare: Checkout) -> None:
    refused = bare.ae_in_process("prune", "--days", "0")
    assert refused.returncode == 2
    assert "--days: expected 1 or more" in refused.stderr
