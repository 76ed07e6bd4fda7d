"""Projects in which `ae new` is typed."""

from pathlib import Path

import pytest
from intake_project import NewProject, make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewProject:
    return make_project(tmp_path / "project", monkeypatch)
