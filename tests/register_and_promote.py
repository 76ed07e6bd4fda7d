"""`python tests/register_and_promote.py ROOT BUNDLE` registers a bundle in the project ROOT and makes it the champion."""

import sys
from pathlib import Path

from aeops.machine.library_settings import configure_libraries
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.store import open_store

EVIDENCE_FILE = "evidence.json"  # beside the bundle; stored with the run


def register_and_promote(project: Project, bundle: Path) -> None:
    store = open_store(project)
    run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
    store.log_files(run, [bundle.parent / EVIDENCE_FILE])
    version = store.register(run, "digits", bundle, {"verdict": "accepted"}, "# digits")
    store.set_alias("digits", "challenger", version)
    evidence = {"sha256": "e" * 64}
    promotion.promote(store, "digits", version, expected=None, who="ada", why="the first", evidence=evidence)


if __name__ == "__main__":
    configure_libraries()
    root = Path(sys.argv[1])
    register_and_promote(Project(root=root, home=root / ".ae"), Path(sys.argv[2]))
