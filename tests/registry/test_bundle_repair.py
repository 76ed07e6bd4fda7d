"""A stored bundle that was cut, deleted or replaced is uploaded again from a copy; without one, what is typed next leads out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from champion_helpers import stored_bundle

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.cli import health_checks
from aeops.errors import DataError
from aeops.project import Project
from aeops.registry import ledger, promotion
from aeops.registry.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(own_champion: Store, project: Project) -> Store:
    """Versions 1 to 3, of which 2 is champion, and its files are the test's own."""
    shutil.copy(ROOT / "recipes" / "digits.yaml", project.recipes)
    return own_champion


@pytest.fixture
def champion(store: Store) -> Path:
    """The folder in MLflow's store that holds the champion's bundle."""
    return stored_bundle(store, "digits", "2")


def replaced(bundle: Path) -> None:
    (bundle / "model.onnx").write_text("another", encoding="utf-8")
    write_checksums(bundle)


def test_a_tag_that_was_changed_by_hand_is_told_and_set_again(store: Store, project: Project, champion: Path) -> None:
    store.set_tags("digits", "2", {"bundle_sha256": "0" * 64})
    [problem] = promotion.find_problems(store, "digits")
    assert "the tag bundle_sha256 of champion 2 in MLflow is not the" in problem
    promotion.repair_champion_bundle(store, "digits")
    assert promotion.find_problems(store, "digits") == []


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut to nothing": lambda bundle: (bundle / "model.onnx").write_bytes(b""),
    "a file deleted": lambda bundle: (bundle / "bundle.json").unlink(),
    "all deleted": lambda bundle: shutil.rmtree(bundle),
    "replaced": replaced,
}


def leave_copy(project: Project, bundle: Path) -> None:
    shutil.copytree(bundle, project.artifacts("digits") / "bundle")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_champion_is_told_and_uploaded_again(
    store: Store, project: Project, champion: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    leave_copy(project, champion)
    whole = bundle_sha256(champion)
    DAMAGES[damage](champion)
    found = [check for check in health_checks.check_champion_state(store, "digits") if check.level == "fault"]
    assert [("`ae run digits` uploads it again" in check.message) for check in found] == [True]
    promotion.repair_champion_bundle(store, "digits")
    assert "uploaded the bundle of digits 2 to MLflow again" in caplog.text
    assert bundle_sha256(champion) == whole
    assert store.version("digits", "2").tags["bundle_sha256"] == whole
    assert promotion.find_problems(store, "digits") == []
    assert {check.level for check in health_checks.check_champion_state(store, "digits")} == {"good"}


def test_without_a_copy_what_to_type_leads_out(store: Store, project: Project, champion: Path) -> None:
    DAMAGES["cut to nothing"](champion)
    with pytest.raises(DataError, match=r"damaged: model\.onnx was altered.*No whole copy.*`ae rollback digits --why TEXT`"):
        promotion.repair_champion_bundle(store, "digits")
    assert promotion.rollback(store, "digits", None, who="ada", why="2 is torn").to_version == "1"
    promotion.repair_champion_bundle(store, "digits")
    assert promotion.find_problems(store, "digits") == []


def test_a_copy_that_is_damaged_as_well_is_not_taken(store: Store, project: Project, champion: Path) -> None:
    leave_copy(project, champion)
    (project.artifacts("digits") / "bundle" / "model.onnx").write_text("other", encoding="utf-8")
    DAMAGES["cut to nothing"](champion)
    with pytest.raises(DataError, match="No whole copy"):
        promotion.repair_champion_bundle(store, "digits")


def test_a_torn_bundle_is_gone_back_to_once_it_is_uploaded_again(store: Store, project: Project, champion: Path) -> None:
    promotion.rollback(store, "digits", "1", who="ada", why="for now")
    leave_copy(project, champion)
    DAMAGES["cut to nothing"](champion)
    assert promotion.rollback(store, "digits", "2", who="ada", why="back").to_version == "2"
    assert promotion.find_problems(store, "digits") == []


def test_the_same_bundle_registered_again_heals_the_stored_one(
    store: Store, champion: Path, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    DAMAGES["cut to nothing"](champion)
    assert store.register(start(), "digits", bundle("two"), {}, "") == "2"
    assert promotion.find_problems(store, "digits") == []


def test_a_file_too_many_cannot_be_uploaded_away_and_is_named(store: Store, project: Project, champion: Path) -> None:
    leave_copy(project, champion)
    (champion / "surplus").touch()
    with pytest.raises(DataError, match=r"surplus is not in SHA256SUMS.*which did not help: delete what else"):
        promotion.repair_champion_bundle(store, "digits")
    assert ledger.champion_at(ledger.read_entries(project, "digits")) == "2"
