"""A project whose notifications are tried again at once."""

from pathlib import Path

import pytest
from monitored_project import make_project

from aeops.alerts import sending
from aeops.project import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AE_HOME", raising=False)
    monkeypatch.setattr(sending, "WAITS", (0.0, 0.0))
    return made
