"""`python tests/check_after_cut.py ROOT BUNDLE [finished]` checks a project after a power cut while a bundle was registered.

What the ledger says has to be there, and the same work done again has to end as if nothing had happened.
"""

import sys
from pathlib import Path

from champion_helpers import stored_bundle
from register_and_promote import EVIDENCE_FILE, register_and_promote

from ae_models.checksums import bundle_sha256, verify_bundle
from aeops.machine.library_settings import configure_libraries
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.store import open_store


def require_what_the_ledger_says(project: Project, bundle: Path) -> None:
    """What an entry of the ledger names is there, without any repair: version, bundle and evidence."""
    entries = ledger.read_content(project, "digits").entries
    if not entries:
        return
    store = open_store(project)
    version = store.version("digits", entries[-1].version)
    stored = stored_bundle(store, "digits", version.version)
    verify_bundle(stored)
    assert bundle_sha256(stored) == bundle_sha256(bundle) == version.tags["bundle_sha256"]
    assert store.files(version.run_id) == [EVIDENCE_FILE]


def repeat_and_check(project: Project, bundle: Path, was_finished: bool) -> None:
    """Check what the ledger names, do the work again, and check that it is there once."""
    require_what_the_ledger_says(project, bundle)
    if was_finished:
        assert promotion.find_problems(open_store(project), "digits") == []
        assert len(ledger.read_entries(project, "digits")) == 1
    register_and_promote(project, bundle)
    store = open_store(project)
    assert promotion.find_problems(store, "digits") == []
    assert [version.version for version in store.versions("digits")] == ["1"]
    assert [entry.event for entry in ledger.read_entries(project, "digits")] == ["promotion"]


if __name__ == "__main__":
    configure_libraries()
    root = Path(sys.argv[1])
    repeat_and_check(Project(root=root, home=root / ".ae"), Path(sys.argv[2]), "finished" in sys.argv[3:])
