"""A stored bundle that was cut, deleted or replaced is uploaded again from a copy; without one, what is typed next leads out."""

import itertools
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from champion_helpers import stored_bundle
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from ae_models.checksums import VerifiedBundle, bundle_sha256, write_checksums
from ae_models.errors import BundleError
from aeops.cli import health_checks
from aeops.errors import DataError, InfrastructureError
from aeops.project import Project
from aeops.provenance.last_run import _current_state
from aeops.provenance.run_summary import RunSummary
from aeops.registry import ledger, promotion
from aeops.registry.bundle_repair import find_copy
from aeops.registry.packing import upload_bundle, upload_files
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


@pytest.mark.slow
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
    with pytest.raises(DataError, match=r"damaged: model\.onnx was altered.*No whole copy.*`ae rollback digits --to 1 --why"):
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


def test_a_file_too_many_goes_with_the_damaged_bundle(store: Store, project: Project, champion: Path) -> None:
    leave_copy(project, champion)
    (champion / "surplus").touch()
    (champion / "more").mkdir()
    (champion / "more" / "surplus").touch()
    promotion.repair_champion_bundle(store, "digits")
    assert promotion.find_problems(store, "digits") == []


# ---------------------------------------------------------------- an upload that is interrupted


@contextmanager
def small_files_only(limit: int) -> Iterator[None]:
    """Let every write beyond so many bytes of a file fail, as on a disk that becomes full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def large_bundle(bundle: Callable[..., Path]) -> Path:
    """A bundle of which one file in the middle, `scorer.safetensors`, is larger than the others."""
    folder = bundle("large")
    (folder / "scorer.safetensors").write_bytes(b"1" * 5000)
    write_checksums(folder)
    return folder


def test_an_upload_that_fails_half_way_leaves_the_stored_bundle_as_it_was(
    store: Store, champion: Path, large_bundle: Path
) -> None:
    (champion / "model.onnx").write_text("damaged", encoding="utf-8")
    before = {file.name: file.read_bytes() for file in champion.iterdir()}
    with small_files_only(3000), pytest.raises(OSError, match="File too large"):
        upload_bundle(store, "digits", "2", large_bundle)
    assert {file.name: file.read_bytes() for file in champion.iterdir()} == before
    assert [folder.name for folder in champion.parent.iterdir() if "bundle" in folder.name] == ["bundle"]
    upload_bundle(store, "digits", "2", large_bundle)
    assert VerifiedBundle(champion).sha256 == bundle_sha256(large_bundle)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(3))
def test_an_upload_that_is_killed_while_it_switches_leaves_no_mixture(
    store: Store, champion: Path, large_bundle: Path, step: int
) -> None:
    old_sha256 = bundle_sha256(champion)
    child = os.fork()
    if child == 0:
        renames = itertools.count()
        rename = os.rename

        def rename_or_die(source: Path, target: Path) -> None:
            if next(renames) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        os.rename = rename_or_die
        upload_bundle(store, "digits", "2", large_bundle)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    if champion.exists():
        assert VerifiedBundle(champion).sha256 in (old_sha256, bundle_sha256(large_bundle))
    else:
        with pytest.raises(DataError, match="is not in the store"):
            store.stored_bundle_sha256("digits", "2")
    upload_bundle(store, "digits", "2", large_bundle)
    assert VerifiedBundle(champion).sha256 == bundle_sha256(large_bundle)


def test_files_that_are_uploaded_one_by_one_are_damaged_until_the_last(champion: Path, large_bundle: Path) -> None:
    repository = LocalArtifactRepository(champion.parent.parent.as_uri())  # as a server's store, in which nothing can be renamed
    (champion / "surplus").touch()
    with small_files_only(3000), pytest.raises(OSError, match="File too large"):
        upload_files(repository, large_bundle)
    with pytest.raises(BundleError, match=r"model\.onnx was altered"):
        VerifiedBundle(champion)
    upload_files(repository, large_bundle)
    assert VerifiedBundle(champion).sha256 == bundle_sha256(large_bundle)


# ---------------------------------------------------------------- a failure of the machine is no damage


def test_a_temporary_folder_that_cannot_be_used_is_not_taken_for_a_lost_bundle(
    store: Store, project: Project, champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_copy(project, champion)
    stored_at = (champion / "model.onnx").stat().st_mtime_ns
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(InfrastructureError, match="absent"):
        promotion.repair_champion_bundle(store, "digits")
    assert (champion / "model.onnx").stat().st_mtime_ns == stored_at


def test_a_full_disk_is_not_taken_for_a_lost_bundle(store: Store, project: Project, champion: Path) -> None:
    whole = bundle_sha256(champion)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(InfrastructureError, match="File too large"):
            promotion.repair_champion_bundle(store, "digits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bundle_sha256(champion) == whole


def test_registering_the_same_bundle_writes_nothing_over_one_that_cannot_be_downloaded(
    store: Store,
    champion: Path,
    start: Callable[[], str],
    bundle: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, same_bundle = start(), bundle("two")
    stored_at = (champion / "model.onnx").stat().st_mtime_ns
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(InfrastructureError, match="absent"):
        store.register(run, "digits", same_bundle, {}, "")
    assert (champion / "model.onnx").stat().st_mtime_ns == stored_at


def test_a_copy_that_cannot_be_read_is_passed_over_for_the_next(store: Store, project: Project, champion: Path) -> None:
    leave_copy(project, champion)
    downloaded = project.home / "serving" / "digits" / "2"
    shutil.copytree(champion, downloaded)
    (downloaded / "model.onnx").unlink()
    socket.socket(socket.AF_UNIX).bind(str(downloaded / "model.onnx"))  # opening it is refused, to root as well
    assert find_copy(project, "digits", "2", bundle_sha256(champion)) == project.artifacts("digits") / "bundle"


# ---------------------------------------------------------------- what to type where no copy is left


def test_a_rollback_onto_a_torn_version_names_another_former_champion(store: Store, project: Project, champion: Path) -> None:
    promotion.rollback(store, "digits", "3", who="ada", why="for now")
    DAMAGES["cut to nothing"](champion)
    with pytest.raises(DataError) as refused:
        promotion.rollback(store, "digits", "2", who="ada", why="back")
    assert "champion stays 3" in str(refused.value)
    assert "`ae rollback digits --to 1 --why TEXT`" in str(refused.value)
    assert "retire" not in str(refused.value)
    assert "if a copy is left" not in str(refused.value)


def test_a_torn_challenger_says_nothing_against_the_champion(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    number = store.register(start(), "digits", bundle("four"), {}, "")
    DAMAGES["cut to nothing"](stored_bundle(store, "digits", number))
    with pytest.raises(DataError, match=r"champion stays 2.*`ae run digits`") as refused:
        promotion.promote(store, "digits", number, expected="2", who="ada", why="better", evidence={"sha256": "4" * 64})
    assert "retire" not in str(refused.value)


@pytest.mark.slow
def test_a_torn_champion_names_the_newest_former_one_that_is_whole(
    store: Store, project: Project, champion: Path, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    number = store.register(start(), "digits", bundle("four"), {}, "")
    promotion.promote(store, "digits", number, expected="2", who="ada", why="better", evidence={"sha256": "4" * 64})
    for torn in (champion, stored_bundle(store, "digits", number)):
        DAMAGES["cut to nothing"](torn)
    (problem,) = promotion.find_problems(store, "digits")
    assert "`ae rollback digits --to 1 --why TEXT`" in problem
    assert promotion.rollback(store, "digits", "1", who="ada", why="whole").to_version == "1"


def test_a_deleted_tag_has_one_answer_everywhere(store: Store, project: Project) -> None:
    store.client.delete_model_version_tag("digits", "2", "bundle_sha256")
    with pytest.raises(DataError, match=r"no tag bundle_sha256.*`ae run digits` sets the champion's again") as refused:
        store.download_bundle("digits", "2")
    assert "retire" not in str(refused.value)
    promotion.repair_champion_bundle(store, "digits")
    assert store.download_bundle("digits", "2").is_dir()


# ---------------------------------------------------------------- a run with nothing changed


def last_summary(store: Store) -> RunSummary:
    """The summary of a run that made version 2, with what is compared of it."""
    digest = store.version("digits", "2").tags["bundle_sha256"]
    return {"recipe": "digits", "version": "2", "bundle_sha256": digest, "comparison": {}}  # type: ignore[typeddict-item]


@pytest.mark.slow
def test_a_run_with_nothing_changed_still_repairs(
    store: Store, project: Project, champion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    summary = last_summary(store)
    assert _current_state(project, summary) is not None
    leave_copy(project, champion)
    DAMAGES["cut to nothing"](champion)
    assert _current_state(project, summary) is None
    promotion.repair_champion_bundle(store, "digits")
    assert _current_state(project, summary) is not None
    store.client.delete_registered_model_tag("digits", "ledger.00005")  # as after a kill between the ledger and its mirror
    assert _current_state(project, summary) is None
    promotion.repair_ledger(store, "digits")
    with ledger.ledger_file(project, "digits").open("ab") as stream:
        stream.write(b'{"number": 6')
    assert _current_state(project, summary) is None
    promotion.repair_ledger(store, "digits")
    assert _current_state(project, summary) is not None
