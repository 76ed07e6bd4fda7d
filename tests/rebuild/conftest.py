"""A small git repository that looks like a project, and records of versions without a registry."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aeops.project import Project
from aeops.provenance.rebuild.record import Record
from aeops.registry.versions import VersionInfo


def run_git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def git():
    return run_git


@pytest.fixture
def repository(tmp_path: Path) -> Project:
    """A project in a folder of a repository, with one commit."""
    root = tmp_path / "repository" / "below"
    for name in ("ae_models", "aeops", "recipes"):
        (root / name).mkdir(parents=True)
    (root / "ae_models" / "text.py").write_text("first\n\n\nlast\n\n")
    (root / "ae_models" / "windows.py").write_bytes(b"one\r\ntwo\r\n")
    (root / "ae_models" / "gone.py").write_text("goes\n")
    (root / "aeops" / "weights.bin").write_bytes(bytes(range(256)))
    (root / "recipes" / "small.yaml").write_text("seed: 0\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / ".gitignore").write_text("/.ae/\n__pycache__/\n")
    run_git(root.parent, "init", "-q")
    run_git(root.parent, "add", "-A")
    run_git(root.parent, "commit", "-qm", "one")
    return Project(root=root, home=root / ".ae")


@pytest.fixture
def record_of(tmp_path: Path):
    """Makes a record with these tags and files of its run."""

    def make(tags: dict[str, str], files: dict[str, bytes] | None = None) -> Record:
        folder = tmp_path / "record"
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return Record("small", VersionInfo("1", (), tags, datetime.now(UTC), "run", ""), folder)

    return make
