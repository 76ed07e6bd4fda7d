"""params.yaml names the recipes that DVC runs stages of: a recipe's first run writes its line, and those that are gone go."""

import shutil
from pathlib import Path

import pytest
import yaml
from checkout import ROOT

from aeops.data.listed_recipes import list_recipe, listed_recipes, unknown_recipes
from aeops.data.stage_code import write_code_hashes
from aeops.errors import UsageError
from aeops.project import Project
from aeops.recipe.reader import load_recipe


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "recipes").mkdir()
    for name in ("digits", "mnist"):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", tmp_path / "recipes")
    return Project(tmp_path, tmp_path / ".ae")


def listed_after_a_run(project: Project, text: str) -> str:
    file = project.root / "params.yaml"
    file.write_text(text, encoding="utf-8")
    list_recipe(project, load_recipe(project, "digits"))
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "recipes:\n  digits: {dataset: digits}\n"),
        ("code:\n  train: a\n", "recipes:\n  digits: {dataset: digits}\ncode:\n  train: a\n"),
        ("# why\nrecipes: {}\nmine: 1\n", "# why\nrecipes:\n  digits: {dataset: digits}\nmine: 1\n"),
        ("recipes:\n  digits: {dataset: other}\n", "recipes:\n  digits: {dataset: digits}\n"),
        ("recipes:\n  gone: {dataset: gone}\n", "recipes:\n  digits: {dataset: digits}\n"),
        ("recipes:\n  mnist:\n    dataset: mnist\n", "recipes:\n  mnist: {dataset: mnist}\n  digits: {dataset: digits}\n"),
    ],
)
def test_the_line_of_a_recipe_is_written_and_other_lines_stay(project: Project, before: str, after: str) -> None:
    assert listed_after_a_run(project, before) == after
    assert not list_recipe(project, load_recipe(project, "digits"))


def test_the_committed_file_needs_no_change_and_hashes_of_code_stay_beside_it(project: Project) -> None:
    for name in listed_recipes(Project(ROOT, ROOT / ".ae")):
        shutil.copy(ROOT / "recipes" / f"{name}.yaml", project.recipes)
    committed = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert listed_after_a_run(project, committed) == committed
    write_code_hashes(project)
    document = yaml.safe_load((project.root / "params.yaml").read_text())
    assert document.keys() == {"recipes", "code"}


@pytest.mark.parametrize("text", ["recipes: [", "recipes: 1\nrecipes: 2\n", "- 1\n", "recipes: [digits]\n"])
def test_a_file_that_is_something_else_is_left_to_a_person(project: Project, text: str) -> None:
    with pytest.raises(UsageError, match=r"params\.yaml"):
        listed_after_a_run(project, text)
    assert (project.root / "params.yaml").read_text() == text


def test_recipes_without_a_file_are_told(project: Project) -> None:
    (project.root / "params.yaml").write_text("recipes:\n  mnist: {dataset: mnist}\n  gone: {dataset: gone}\n")
    assert unknown_recipes(project) == ["gone"]
