"""What README, index and pages say of a recipe is what its record says, and the record is of the recipe as it stands."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aeops.project import Project
from aeops.report import recipe_page as pages
from aeops.report.targets import RecipeTargets, read_targets, unknown_metrics

ROOT = Path(__file__).parents[2]
PROJECT = Project(root=ROOT, home=ROOT / ".ae")
PAGES, RECORDS = ROOT / "docs" / "recipes", ROOT / "benchmarks" / "records" / "models"
RECIPES = list(yaml.safe_load((ROOT / "benchmarks" / "targets.yaml").read_text()))


@pytest.fixture(scope="module")
def targets() -> dict[str, RecipeTargets]:
    return read_targets(ROOT / "benchmarks" / "targets.yaml", RECIPES)


@pytest.fixture(scope="module")
def records() -> dict[str, dict[str, Any]]:
    return pages.read_records(PROJECT, RECIPES)


@pytest.fixture(params=RECIPES)
def measured(request: pytest.FixtureRequest, records: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return the name of a recipe and its record."""
    name = request.param
    assert name in records, f"recipes/{name}.yaml was never measured: make bench-models RECIPES={name}"
    return name, records[name]


def test_every_recipe_says_what_it_has_to_show_and_no_target_is_of_none(targets):
    files = {file.stem for file in (ROOT / "recipes").glob("*.yaml")}
    assert files == set(RECIPES) == set(targets)


def test_a_record_is_of_the_recipe_as_it_stands(measured):
    name, record = measured
    again = f"recipes/{name}.yaml has changed since it was measured: make bench-models RECIPES={name}"
    assert not pages.is_stale(PROJECT, name, record), again


def test_a_target_names_what_was_measured(measured, targets):
    name, record = measured
    assert unknown_metrics(targets[name], record["metrics"], name) == []


def test_a_page_says_what_its_record_says(measured, targets):
    name, record = measured
    text = (PAGES / f"{name}.md").read_text()
    said = pages.recipe_page(name, (ROOT / "recipes" / f"{name}.yaml").read_text(), record, targets[name])
    assert text == said, "python benchmarks/models.py --pages-only"


def test_a_pages_pictures_are_few_small_and_on_paper(measured):
    name, record = measured
    files = {file.name: file.read_text() for file in (PAGES / name).glob("*")}
    assert set(files) == {picture["file"] for picture in record["pictures"]}
    assert 0 < len(files) <= pages.MAX_PICTURES
    assert all(len(svg.encode()) < pages.PICTURE_BYTES for svg in files.values())
    assert all('<rect width="100%" height="100%"' in svg for svg in files.values())


def test_the_readmes_table_says_what_the_records_say(records, targets):
    text = (ROOT / "README.md").read_text()
    assert pages.with_table(text, pages.readme_table(RECIPES, records, targets), "README.md") == text, (
        "python benchmarks/models.py --pages-only"
    )


def test_the_index_says_what_the_records_say(records):
    text = (PAGES / "README.md").read_text()
    assert (
        pages.with_table(text, pages.index_table(RECIPES, records, pages.recipe_descriptions(PROJECT, RECIPES)), "README.md")
        == text
    ), "python benchmarks/models.py --pages-only"


def test_nothing_is_kept_of_a_recipe_that_is_no_more(records):
    assert {file.stem for file in RECORDS.glob("*.json")} == set(records)
    assert {place.name.removesuffix(".md") for place in PAGES.iterdir()} - {"README"} == set(records)


def test_every_link_of_the_pages_and_of_the_readme_leads_somewhere():
    for file in (ROOT / "README.md", *PAGES.glob("*.md")):
        for link in re.findall(r"(?<!\\)\]\(([^)#]+)\)", file.read_text()):
            assert link.startswith("http") or (file.parent / link).exists(), (file.name, link)


def test_make_bench_models_takes_the_names_of_recipes():
    done = subprocess.run(["make", "-n", "bench-models", "RECIPES=digits mnist"], cwd=ROOT, capture_output=True, text=True)
    assert "benchmarks/models.py digits mnist" in done.stdout, done.stderr
