"""The folders that a source is looked for in, as a message lists them."""

from pathlib import Path

import pytest

from aeops.data.sources.files import source_folder
from aeops.errors import DataError
from aeops.project import Project


def test_each_place_where_a_folder_is_missing_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AE_SOURCES", raising=False)
    project = Project(root=tmp_path / "project", home=tmp_path / "project" / ".ae")
    missing = tmp_path / "pictures"
    with pytest.raises(DataError) as refused:
        source_folder(project, str(missing), "put it there")
    assert str(refused.value) == f"{missing}: no such folder; looked for {missing}: put it there"
    with pytest.raises(DataError) as refused:
        source_folder(project, "inbox", "put it there")
    places = [project.root, project.home / "sources", tmp_path / "shared" / "data", project.home]
    assert str(refused.value).endswith(f"looked for {', '.join(str(place / 'inbox') for place in places)}: put it there")
