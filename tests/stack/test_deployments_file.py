"""prefect.yaml deploys each recipe that was run: its first run writes three lines, and those of a recipe that is gone go."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from aeops.project import Project
from aeops.project_files.templates import read_template
from aeops.stack.deployments_file import list_deployments
from aeops.stack.schedules import find_skipped_schedules


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    return Project(tmp_path, tmp_path / ".ae")


def deployments(project: Project) -> dict[str, dict[str, object]]:
    document = yaml.safe_load((project.root / "prefect.yaml").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in document["deployments"]}


def test_a_new_recipe_gets_the_deployments_that_the_digits_have(project: Project) -> None:
    before = (project.root / "prefect.yaml").read_text(encoding="utf-8")
    shutil.copy(project.recipe_file("digits"), project.recipe_file("shoes"))
    assert list_deployments(project, "shoes")
    found = deployments(project)
    for name in ("retrain", "score", "monitor"):
        theirs = found[f"{name}-digits"]
        ours = {"name": f"{name}-shoes", "parameters": {"recipe": "shoes"}, "tags": ["shoes", name]}
        assert found[f"{name}-shoes"] == theirs | ours
    after = (project.root / "prefect.yaml").read_text(encoding="utf-8")
    assert after.startswith(before)
    assert not list_deployments(project, "shoes")


def test_a_recipe_that_is_deployed_keeps_its_schedule_and_one_that_is_gone_goes(project: Project) -> None:
    assert list_deployments(project, "mnist-vae")
    file = project.root / "prefect.yaml"
    file.write_text(file.read_text().replace("recipe: digits}, schedules: *nightly", "recipe: digits}, schedules: *hourly"))
    before = deployments(project)
    assert not list_deployments(project, "digits")
    project.recipe_file("mnist-vae").unlink()
    assert list_deployments(project, "digits")
    assert deployments(project) == {name: entry for name, entry in before.items() if not name.endswith("-mnist-vae")}


def test_the_file_of_a_new_project_deploys_nothing_until_a_recipe_is_run(project: Project) -> None:
    (project.root / "prefect.yaml").write_text(read_template("prefect.yaml"))
    assert find_skipped_schedules(project, datetime(2026, 1, 1, tzinfo=UTC)) == []
    assert list_deployments(project, "digits")
    assert (project.root / "prefect.yaml").read_text() == (ROOT / "prefect.yaml").read_text()
    project.recipe_file("digits").unlink()
    assert list_deployments(project, "mnist")
    assert set(deployments(project)) == {"retrain-mnist", "score-mnist", "monitor-mnist"}


@pytest.mark.parametrize("text", ["deployments: []\n", "name: mine\ndeployments:\n- name: other\n", ""])
def test_a_file_of_another_form_is_left_to_its_author(project: Project, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "prefect.yaml").write_text(text)
    assert not list_deployments(project, "digits")
    assert (project.root / "prefect.yaml").read_text() == text
    assert "does not deploy digits: add its deployments by hand" in capsys.readouterr().err


def test_without_the_file_nothing_is_deployed(project: Project) -> None:
    (project.root / "prefect.yaml").unlink()
    assert not list_deployments(project, "digits")
    assert not (project.root / "prefect.yaml").exists()
