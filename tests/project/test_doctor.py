"""`ae doctor` finds what is wrong and says what to type."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout, make_checkout
from data_project import accept_unjudged

from aeops.cli import health_checks
from aeops.errors import InfrastructureError
from aeops.machine.lock import run_lock
from aeops.project import Project
from aeops.recipe.reader import load_recipe
from aeops.registry import ledger
from aeops.stages.ingest import ingest


@pytest.fixture(scope="module")
def checkout_once(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("once") / "checkout")


@pytest.fixture
def project(checkout_once: Checkout, tmp_path: Path) -> Project:
    """A checkout whose only recipe is `small`, the one that its params.yaml names."""
    checkout = Checkout(Path(shutil.copytree(checkout_once.root, tmp_path / "checkout")))
    for file in (checkout.root / "recipes").glob("*.yaml"):
        if file.stem != "small":
            file.unlink()
    return Project(root=checkout.root, home=checkout.home)


def only(findings: Iterator[health_checks.HealthCheck], level: str) -> health_checks.HealthCheck:
    (found,) = [finding for finding in findings if finding.level == level]
    return found


@pytest.mark.slow
def test_a_fresh_checkout_has_no_fault_and_is_told_how_to_begin(project: Project) -> None:
    done = Checkout(project.root).ae_in_process("doctor")
    assert done.returncode == 0, done.stdout
    assert "fault" not in done.stdout
    assert "ae run small" in done.stdout


def test_a_package_that_is_not_as_locked_is_named_with_both_versions(project: Project) -> None:
    (project.root / "requirements.lock").write_text("numpy==1.0.0\nno-such-package==3.1\nrich==0 ; python_version < '3'\n")
    found = health_checks.check_packages(project)
    assert found.level == "fault"
    assert "numpy" in found.message
    assert "1.0.0" in found.message
    assert "no-such-package is missing" in found.message
    assert "rich" not in found.message
    assert found.type_this.startswith("make")


def test_a_recipe_with_a_mistake_is_a_fault(project: Project) -> None:
    Checkout(project.root).edit_recipe({"train.epochs": -1})
    found = only(health_checks.check_recipe(project, "small"), "fault")
    assert "train.epochs" in found.message
    assert "recipes/small.yaml" in found.type_this


@pytest.mark.slow
def test_data_that_was_changed_after_it_was_accepted_is_a_fault(project: Project) -> None:
    ingest(load_recipe(project, "small"), project, project.incoming("small"))
    accept_unjudged(project.incoming("small"), project.dataset("small"))
    assert {finding.level for finding in health_checks.check_recipe(project, "small")} == {"good"}
    with (project.dataset("small") / "shards" / "00000.npy").open("r+b") as shard:
        shard.seek(5000)
        shard.write(b"\xff")
    found = only(health_checks.check_recipe(project, "small"), "fault")
    assert "does not match its receipt" in found.message
    assert found.type_this == "ae run small"


def test_a_damaged_registry_is_a_fault(project: Project) -> None:
    project.mlflow.mkdir(parents=True)
    (project.mlflow / "mlflow.db").write_bytes(b"SQLite format 3\x00" + b"garbage" * 1000)
    found = only(health_checks.check_registry(project), "fault")
    assert "mlflow.db" in found.message
    assert "mv" in found.type_this


def test_an_mlflow_that_does_not_answer_is_a_fault(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = only(health_checks.check_registry(project), "fault")
    assert "127.0.0.1:9" in found.message


def test_a_run_going_on_is_told_and_is_no_fault(project: Project) -> None:
    script = (
        "from aeops import project; from aeops.cli import health_checks; print(health_checks.check_lock(project.find_project()))"
    )
    with run_lock(project, "ae run small"):
        asked = Checkout(project.root).python(script)
    assert "level='note'" in asked
    assert "`ae run small` is in progress" in asked
    assert health_checks.check_lock(project).message == "none in progress"


def test_a_recipe_that_only_params_yaml_has_is_named(project: Project) -> None:
    assert list(health_checks.check_listed_recipes(project)) == []
    (project.root / "params.yaml").write_text("recipes:\n  gone: {dataset: gone}\n", encoding="utf-8")
    found = only(health_checks.check_listed_recipes(project), "note")
    assert "there is no recipes/gone.yaml: the next run removes the line" in found.message


@pytest.mark.parametrize("text", ["recipes: [", "recipes: 1\nrecipes: 2\n", ""])
def test_a_damaged_yaml_file_is_a_fault_of_its_own(project: Project, text: str) -> None:
    for name in ("params.yaml", "prefect.yaml"):
        (project.root / name).write_text(text, encoding="utf-8")
    if text:
        assert "params.yaml" in only(health_checks.check_listed_recipes(project), "fault").message
    found = only(health_checks.check_schedules(project), "fault")
    assert "prefect.yaml" in found.message
    assert found.type_this == f"edit {project.root / 'prefect.yaml'}"


@pytest.mark.parametrize("text", ["deployments: x", "deployments: [1]", "deployments: [{schedules: 3}]"])
def test_a_prefect_yaml_of_another_form_is_a_fault(project: Project, text: str) -> None:
    (project.root / "prefect.yaml").write_text(text, encoding="utf-8")
    assert "expected a list of mappings" in only(health_checks.check_schedules(project), "fault").message


def test_a_recipe_whose_champion_cannot_be_checked_hides_no_other(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (project.root / "recipes" / "small.yaml").read_text(encoding="utf-8")
    (project.root / "recipes" / "another.yaml").write_text(text, encoding="utf-8")

    def find_problems(store: object, name: str) -> list[str]:
        if name == "another":
            raise InfrastructureError("its files cannot be read")
        return ["its bundle is torn"]

    monkeypatch.setattr(health_checks.promotion, "find_problems", find_problems)
    faults = [check for check in health_checks.check_registry(project) if check.level == "fault"]
    assert [(check.subject, check.message, check.type_this) for check in faults] == [
        ("another", "its files cannot be read", "ae status"),
        ("small", "its bundle is torn", "ae ledger verify small"),
    ]


def test_recipes_that_nobody_ran_are_one_line_and_a_fault_has_a_command(project: Project) -> None:
    text = (project.root / "recipes" / "small.yaml").read_text(encoding="utf-8")
    for number in range(5):
        (project.root / "recipes" / f"other-{number}.yaml").write_text(
            text.replace("recipe: small", f"recipe: other-{number}"), encoding="utf-8"
        )
    checks = list(health_checks.check_recipes(project))
    assert [(check.level, check.message) for check in checks] == [("note", "6 valid ones were never run here")]
    with pytest.raises(ValueError, match="names no command that repairs it"):
        health_checks.HealthCheck("fault", "disk", "it is full")


@pytest.mark.slow
def test_a_program_gets_the_checks_as_json(project: Project) -> None:
    done = Checkout(project.root).ae_in_process("doctor", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["faults"]) == (0, 0)
    assert {"python", "disk", "recipes", "mlflow"} <= {check["subject"] for check in answer["checks"]}


def test_a_recipe_whose_only_version_was_refused_leads_to_the_reasons(project: Project) -> None:
    assert health_checks.describe_missing_champion("small", []).type_this == "ae run small"
    refusal = ledger.Decision("refusal", "small", "1", "the gate", "worse than kNN", {"sha256": "1" * 64})
    ledger.append_entry(project, refusal)
    found = health_checks.describe_missing_champion("small", ledger.read_entries(project, "small"))
    assert (found.level, found.message) == ("note", "no champion: version 1 was refused")
    assert found.type_this == "ae why small@1"
