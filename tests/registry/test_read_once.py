"""What was checked is what is used: the evidence of a decision, and the recipe of a run, are read once and compared by hash."""

import shutil
from pathlib import Path

import pytest

from aeops.errors import DataError, UsageError
from aeops.gate.documents import ComparisonDocument, VerdictDocument
from aeops.gate.evidence import read_evidence, write_evidence
from aeops.machine.lock import RunUse
from aeops.project import Project
from aeops.recipe.reader import load_recipe, read_unchanged, require_unchanged

ROOT = Path(__file__).parents[2]
USE = RunUse("digits", "digits")


@pytest.fixture
def with_recipe(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    shutil.copy(ROOT / "params.yaml", project.root)
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("AE_HOME", raising=False)
    return project


def test_evidence_that_was_edited_after_it_was_written_decides_nothing(tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    verdict: VerdictDocument = {"verdict": "refused"}  # type: ignore[typeddict-item]  # of no more than the hash needs
    comparison: ComparisonDocument = {  # type: ignore[typeddict-item]
        "challenger": {"bundle_sha256": "b" * 64},
        "holdout": {"sha256": "h" * 64},
        "verdict": "worse",
    }
    written = write_evidence(file, verdict, comparison)
    assert read_evidence(file, written["sha256"])["gate"] == verdict
    file.write_text(file.read_text(encoding="utf-8").replace("refused", "accepted"), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"evidence\.json has SHA-256 .*: it was changed after it was written, and nothing was decided"
    ):
        read_evidence(file, written["sha256"])
    file.unlink()
    with pytest.raises(DataError, match=r"evidence\.json cannot be read \(No such file"):
        read_evidence(file, written["sha256"])


@pytest.mark.parametrize("change", ["edited", "deleted"])
def test_a_recipe_that_changes_while_a_run_is_under_way_stops_its_next_step(with_recipe: Project, change: str) -> None:
    from flows.training_steps import load_context, pinned_recipe

    file = with_recipe.recipe_file("digits")
    with pinned_recipe(with_recipe, USE) as checked:
        assert load_context("digits")[1] is checked
        if change == "edited":
            file.write_text(f"{file.read_text(encoding='utf-8')}approval: {{needed: false}}\n", encoding="utf-8")
        else:
            file.unlink()
        with pytest.raises(DataError, match=r"recipes/digits\.yaml was changed while this run was under way.*`ae run digits`"):
            load_context("digits")


def test_between_runs_a_recipe_may_change(with_recipe: Project) -> None:
    from flows.training_steps import load_context, pinned_recipe

    file = with_recipe.recipe_file("digits")
    with pinned_recipe(with_recipe, USE) as first:
        pass
    file.write_text(f"# another comment\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    assert load_context("digits")[1].sha256 != first.sha256
    require_unchanged(with_recipe, load_recipe(with_recipe, "digits"))


@pytest.mark.parametrize("step", ["calibrate_model", "evaluate_model", "apply_gate", "compare_with_champion"])
def test_no_step_of_a_run_goes_on_with_another_recipe(with_recipe: Project, step: str) -> None:
    from flows import decision_steps, training_steps

    file = with_recipe.recipe_file("digits")
    function = getattr(training_steps, step, None) or getattr(decision_steps, step)
    processes = [training_steps.stage_ahead("compare", "digits")] if step == "compare_with_champion" else []
    with training_steps.pinned_recipe(with_recipe, USE):
        file.write_text(f"{file.read_text(encoding='utf-8')}# edited\n", encoding="utf-8")
        state = function.fn("digits", *processes)
    assert state.is_failed()
    assert "recipes/digits.yaml was changed while this run was under way" in state.message


def test_the_keys_of_a_recipe_are_those_that_were_checked(with_recipe: Project) -> None:
    file, checked = with_recipe.recipe_file("digits"), load_recipe(with_recipe, "digits")
    assert read_unchanged(with_recipe, checked)["recipe"] == "digits"
    file.write_text(f"{file.read_text(encoding='utf-8')}# edited\n", encoding="utf-8")
    with pytest.raises(DataError, match="was changed while this run was under way"):
        read_unchanged(with_recipe, checked)


def test_the_checks_before_a_run_are_made_of_the_recipe_that_runs(with_recipe: Project) -> None:
    from flows.training_steps import pinned_recipe

    (with_recipe.root / "params.yaml").write_text("recipes: []\n1", encoding="utf-8")
    with pytest.raises(UsageError, match=r"params\.yaml: not readable as YAML"), pinned_recipe(with_recipe, USE):
        pass


def test_a_run_whose_recipe_has_got_another_dataset_while_it_waited_ends_before_it_begins(with_recipe: Project) -> None:
    from flows.training_steps import pinned_recipe

    waited = pinned_recipe(with_recipe, RunUse("digits", "older"))
    with pytest.raises(UsageError, match=r"has another dataset since this run has waited for data/older.*ae run digits"), waited:
        pytest.fail("it was let in")
