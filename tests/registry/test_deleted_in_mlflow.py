"""Whatever a person deletes on MLflow's page, what `ae` says next leads out of it when it is typed word for word."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import ROOT

from aeops.cli.main import main
from aeops.errors import AeError, DataError, UsageError
from aeops.provenance.why import why_version
from aeops.registry import promotion
from aeops.registry.store import Store

DATASET = {"dataset": "digits", "content_sha256": "c" * 64}
ADA = {"who": "ada", "why": "better"}


@pytest.fixture
def decided(decided: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Champion 2; 1 and 3 were champions before. It is the project of the current folder."""
    shutil.copy(ROOT / "recipes" / "digits.yaml", decided.project.recipes)
    monkeypatch.chdir(decided.project.root)
    return decided


def typed(message: str, command: str) -> int:
    """Type the first command of that name in a message, word for word, and return its exit code."""
    found = re.search(rf"`ae ({command} [^`]*)`", message)
    assert found is not None, message
    return main(found[1].split())


def test_an_experiment_that_was_deleted_is_restored_by_the_next_run(
    store: Store, start: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = start()
    store.log_metrics(first, {"a": 1.0})
    store.client.delete_experiment(store.client.get_run(first).info.experiment_id)
    second = start()
    assert "the experiment digits was deleted in MLflow: it is restored" in capsys.readouterr().err
    assert store.client.get_run(second).info.experiment_id == store.client.get_run(first).info.experiment_id
    store.log_metrics(second, {"a": 2.0})
    assert store.metrics(first) == {"a": 1.0}


def test_a_run_deleted_under_the_flow_says_to_type_the_command_again(store: Store, start: Callable[[], str]) -> None:
    run = start()
    store.client.delete_run(run)
    with pytest.raises(AeError, match=r"deleted on MLflow's page while it was needed .* type the same command again"):
        store.log_metrics(run, {"a": 1.0})


def deleted_for_good(store: Store, run: str) -> None:
    """What `mlflow gc` does with a deleted run."""
    store.client._tracking_client.store._hard_delete_run(run)


@pytest.mark.slow
def test_a_run_that_was_deleted_for_good_ends_neither_show_nor_why(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    deleted_for_good(decided, decided.version("digits", "2").run_id)
    assert main(["show", "digits"]) == 0
    assert "no metrics of 2: their MLflow runs were deleted for good" in capsys.readouterr().out
    links = {link.name: link for link in why_version(decided.project, decided, "digits", "2")}
    assert links["receipt"].problem == "its run keeps no validation/receipt.json"
    assert "better" in links["approver"].message


def test_what_needs_the_files_of_a_deleted_run_says_how_to_get_others(decided: Store, tmp_path: Path) -> None:
    run = decided.version("digits", "2").run_id
    deleted_for_good(decided, run)
    assert decided.files(run) == []
    for use in (
        lambda: decided.download_file(run, "evidence.json", tmp_path),
        lambda: decided.log_files(run, [tmp_path / "dvc.yaml"]),
    ):
        with pytest.raises(DataError, match=f"{run} was deleted for good.*`ae run RECIPE`"):
            use()


@pytest.mark.slow
def test_a_deleted_champion_leads_to_the_one_before(decided: Store, capsys: pytest.CaptureFixture[str]) -> None:
    decided.client.delete_model_version("digits", "2")
    (problem,) = promotion.find_problems(decided, "digits")
    assert "version 2 was deleted" in problem
    assert "--to 2" not in problem
    assert typed(problem, "rollback digits") == 0
    assert decided.champion_version("digits") == "1"
    assert promotion.find_problems(decided, "digits") == []
    capsys.readouterr()
    assert main(["rollback", "digits", "--to", "2", "--why", "it was good"]) == UsageError.exit_code
    message = capsys.readouterr().err
    assert "version 2 of digits was deleted in MLflow" in message
    assert typed(message, "rollback digits --to 3") == 0
    assert decided.champion_version("digits") == "3"


@pytest.mark.slow
def test_where_no_former_champion_is_left_a_retirement_leads_on(decided: Store, bundle: Callable[..., Path]) -> None:
    for version in ("1", "2", "3"):
        decided.client.delete_model_version("digits", version)
    (problem,) = promotion.find_problems(decided, "digits")
    assert "rollback" not in problem
    assert typed(problem, "retire") == 0
    promote_another(decided, bundle)


def test_a_champion_deleted_between_ledger_and_alias_does_not_stop_every_run(decided: Store) -> None:
    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "move_champion", killed)
        with pytest.raises(KilledError):
            promotion.rollback(decided, "digits", "3", who="ada", why="worse")
    decided.client.delete_model_version("digits", "3")
    (message,) = promotion.repair_ledger(decided, "digits")
    assert "completed what was interrupted" in message
    (problem,) = promotion.find_problems(decided, "digits")
    assert typed(problem, "rollback digits --to 2") == 0
    assert promotion.find_problems(decided, "digits") == []


@pytest.mark.slow
def test_a_deleted_model_is_replaced_and_no_number_is_given_twice(decided: Store, bundle: Callable[..., Path]) -> None:
    decided.client.delete_registered_model("digits")
    with pytest.raises(UsageError, match=r"no version of digits is registered .* `ae run digits`"):
        decided.version("digits", "champion")
    with pytest.raises(DataError, match=r"it was deleted, or MLFLOW_TRACKING_URI names another store") as caught:
        promotion.repair_ledger(decided, "digits")  # what `ae run digits` begins with
    (problem,) = promotion.find_problems(decided, "digits")
    assert problem == str(caught.value)
    assert typed(problem, "retire") == 0
    promote_another(decided, bundle)


@pytest.mark.slow
def test_a_deleted_model_that_had_no_champion_is_replaced_too(decided: Store, bundle: Callable[..., Path]) -> None:
    promotion.retire(decided, "digits", who="grace", why="nobody needs it")
    decided.client.delete_registered_model("digits")
    (problem,) = promotion.find_problems(decided, "digits")
    assert typed(problem, "retire") == 0
    promote_another(decided, bundle)


def promote_another(store: Store, bundle: Callable[..., Path]) -> None:
    """What the next run does: register the champion's bundle again, and promote it. Nothing stays at fault."""
    run = store.start_run("digits", {}, {}, DATASET)
    version = store.register(run, "digits", bundle("two"), {}, "")
    assert int(version) > 3
    promotion.promote(store, "digits", version, expected=None, **ADA, evidence={"sha256": "b" * 64})
    assert store.champion_version("digits") == version
    assert promotion.find_problems(store, "digits") == []
    assert [found.version for found in store.versions("digits") if "bundle_sha256" not in found.tags] == []


def test_a_deleted_tag_of_a_champion_is_set_again(decided: Store) -> None:
    decided.client.delete_model_version_tag("digits", "2", "bundle_sha256")
    with pytest.raises(DataError, match=r"no tag bundle_sha256: it was deleted there\. `ae run digits` sets the cham"):
        decided.download_bundle("digits", "2")
    promotion.repair_champion_bundle(decided, "digits")  # as `ae run digits` does
    assert decided.champion_version("digits") == "2"
    assert decided.download_bundle("digits", "2").is_dir()


def test_a_newest_version_that_was_deleted_costs_no_number(decided: Store, bundle: Callable[..., Path]) -> None:
    promotion.promote(decided, "digits", "3", expected="2", **ADA, evidence={"sha256": "b" * 64})
    promotion.rollback(decided, "digits", "2", who="ada", why="as it was")
    decided.client.delete_model_version("digits", "3")
    assert decided.register(decided.start_run("digits", {}, {}, DATASET), "digits", bundle("four"), {}, "") == "4"
