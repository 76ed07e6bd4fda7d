"""A whole run, its repetition, a score, the chain of evidence and a rebuild in a checkout of any name."""

from pathlib import Path

import pytest
from any_name import ANY_NAME
from checkout import make_checkout

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # seconds, on a busy machine


def test_a_checkout_of_any_name_trains_serves_its_evidence_and_rebuilds(tmp_path: Path) -> None:
    """The braces are left out: DVC fails with them, which a run says."""
    checkout = make_checkout(tmp_path / "parent" / ANY_NAME.replace("{HOME}", "HOME"))
    before = {path.name for path in checkout.root.iterdir()}
    first = checkout.ae("run", "small")
    assert (first.returncode, "state      champion" in first.stdout) == (0, True), first.stderr
    again = checkout.ae("run", "small")
    assert "nothing changed" in again.stdout
    for command in (("score", "small", "inbox/images.npy"), ("why", "small@1"), ("ledger", "verify"), ("rebuild", "small@1")):
        done = checkout.ae(*command, timeout=900)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert "\x1b" not in done.stdout + done.stderr
    assert "identical" in done.stdout
    created = {".ae", "data", "artifacts", "data.dvc", "dvc.lock"}
    assert {path.name for path in checkout.root.iterdir()} - before <= created
    assert [path.name for path in checkout.root.parent.iterdir()] == [checkout.root.name]
