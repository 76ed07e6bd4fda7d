"""A file of state that is empty, cut or altered is named with the command to type, or made anew; never a traceback."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from checkout import make_checkout

from aeops.cli import health_checks
from aeops.cli.main import main
from aeops.data import dvc
from aeops.data.dataset import read_index
from aeops.errors import DataError
from aeops.gate.evidence import read_comparison, read_evidence
from aeops.machine import lock, servers, service_records, stack_settings
from aeops.machine.entry_point import raise_child_error
from aeops.machine.stored_json import STATE_FILES, find_damaged_files, read_json, read_json_if_whole, read_json_lines_if_whole
from aeops.monitoring.verdict import read_last_verdict
from aeops.page import state_files
from aeops.project import Project
from aeops.provenance.last_run import unchanged_summary
from aeops.recipe.reader import load_recipe
from aeops.scoring.inbox import SeenFiles, read_refusals
from aeops.scoring.inbox_run import score_inbox
from aeops.stack import alarms, leader_state, service_definitions, startup

DAMAGE = {
    "empty": b"",
    "cut": b'{"pid": 1, "addr',
    "zeros": bytes(64),
    "no text": b"\xff\xfe\x00",
    "another type": b"[]",
    "lacks its keys": b"{}",
    "deep": b"[" * 20_000,
}


@pytest.fixture(scope="module")
def checkout_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("state") / "checkout").root


@pytest.fixture
def project(checkout_root: Path, tmp_path: Path) -> Project:
    """The checkout with a state folder of its own."""
    return Project(root=checkout_root, home=tmp_path / "home")


@pytest.fixture(params=list(DAMAGE))
def damage(request: pytest.FixtureRequest) -> bytes:
    return DAMAGE[request.param]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------- readers


def test_a_damaged_file_is_named_with_its_command(project: Project, damage: bytes) -> None:
    file = write(project.home / "reports" / "small" / "comparison.json", damage)
    with pytest.raises(DataError, match=r"comparison\.json is damaged \(.*\): type `ae run small`"):
        read_comparison(file)
    file = write(project.home / "reports" / "small" / "evidence.json", damage)
    with pytest.raises(DataError, match=r"evidence\.json has SHA-256 .*; run the recipe again"):
        read_evidence(file, "a" * 64)
    file = write(stack_settings.settings_file(project), damage)
    with pytest.raises(DataError, match=r"settings\.json is damaged \(.*\): type `ae down, then ae up`"):
        stack_settings.read_settings(project)
    with pytest.raises(FileNotFoundError):
        read_json(project.home / "absent.json")


def test_what_is_written_anew_counts_as_absent_and_is_told(
    project: Project, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    home = project.home
    for name in ("stack/state.json", "stack/deployed.json", "stack/ports.json", "stack/outages.json"):
        write(home / name, damage)
    for name in ("services/prefect.json", "services/page.json", "last-run/small.json", "monitoring/small/verdict.json"):
        write(home / name, damage)
    assert leader_state.read_state(project) == leader_state.LeaderState()
    assert stack_settings.read_setup_record(project) is None
    assert service_definitions._read_ports(project, stack_settings.Settings()) == {}
    assert alarms.read_alarms(project) == []
    assert service_records.read_service_records(project) == []
    assert servers.find_running_prefect(project) is None
    assert unchanged_summary(project, "small") is None
    assert read_last_verdict(project, "small") is None
    told = capsys.readouterr().err
    for name in ("state.json", "deployed.json", "ports.json", "page.json", "last-run/small.json", "verdict.json"):
        assert name in told
    assert "going on without it" in told


def test_a_damaged_lock_file_names_nobody_and_can_be_taken(project: Project, damage: bytes) -> None:
    file = write(project.locks_folder / "run.lock", damage)
    assert not lock.was_holder_killed(project)
    with lock.run_lock(project, "a test"):
        assert read_json(file)["purpose"] == "a test"
    assert lock.runs_in_progress(project) == []


def test_an_error_file_that_a_full_disk_has_cut_hides_no_failure(project: Project, damage: bytes) -> None:
    raise_child_error(write(project.home / "error.json", damage))  # the caller then says how the child ended


@pytest.mark.parametrize("damage", [DAMAGE["cut"], DAMAGE["another type"]], ids=["cut", "another type"])
def test_a_damaged_inbox_state_costs_time_only(project: Project, damage: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project.home / "scoring" / "small"
    for name in ("seen.json", "run.json"):
        write(folder / name, damage)
    record = {"sha256": "a" * 64, "name": "a.npy", "reason": "cut", "time": "2026-03-01", "run": "r"}
    write(folder / "refused.jsonl", json.dumps(record).encode() + b"\n" + damage.replace(b"\n", b"") + b"\n")
    assert list(read_refusals(folder / "refused.jsonl")) == ["a" * 64]
    (project.home / "inbox" / "small").mkdir(parents=True)
    summary = score_inbox(project, load_recipe(project, "small"))
    assert summary["state"] == "no champion"
    assert "refused.jsonl is damaged (1 of 2 lines)" in capsys.readouterr().err
    SeenFiles(folder / "seen.json").save()


def test_the_page_shows_what_it_can(project: Project, damage: bytes) -> None:
    write(project.home / "validation" / "small" / "validation.json", damage)
    part = state_files.read_part(lambda: state_files.read_validation(project, "small"))
    if damage in (b"{}",):
        assert part.value is not None
    else:
        assert "validation.json" in part.error


def test_a_damaged_index_of_a_dataset_is_named(project: Project, damage: bytes) -> None:
    write(project.incoming("small") / "index.parquet", damage)
    with pytest.raises(DataError, match=r"index\.parquet is damaged \(.*\): type ae run RECIPE"):
        read_index(project.incoming("small"))


def test_lines_and_values_that_are_whole_are_read(tmp_path: Path) -> None:
    assert read_json_lines_if_whole(write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": 2}\n'), "a") == [{"a": 1}, {"a": 2}]
    assert read_json_if_whole(write(tmp_path / "a.json", b"[1]")) == [1]
    assert read_json_if_whole(tmp_path / "absent.json") is None
    assert read_json_lines_if_whole(tmp_path / "absent.jsonl") == []


# ---------------------------------------------------------------- DVC's own files


@pytest.fixture
def dvc_project(checkout_root: Path, tmp_path: Path) -> Project:
    root = tmp_path / "copy"
    shutil.copytree(checkout_root, root, symlinks=True)
    return Project(root=root, home=root / ".ae")


@pytest.mark.parametrize("name", ["data.dvc", "dvc.lock"])
@pytest.mark.parametrize(
    "content",
    [b"", b"outs:\n- md5: [", b"[]", b"\xff", b"\0\0"],
    ids=["empty", "cut", "a list", "no text", "zeros"],
)
def test_a_damaged_file_of_dvc_is_named_before_dvc_is_asked(dvc_project: Project, name: str, content: bytes) -> None:
    write(dvc_project.root / "data.dvc", b"outs:\n- md5: 0123.dir\n  path: data/small\n")
    assert dvc.dataset_hash(dvc_project, "small") == "0123.dir"
    write(dvc_project.root / name, content)
    for use in (
        dvc.require_whole_files,
        partial(dvc.is_up_to_date, recipe="small", dataset="small"),
        partial(dvc.add_dataset, dataset="small"),
    ):
        with pytest.raises(DataError, match=rf"{name} is damaged \(.*\): type `git checkout {name}`"):
            use(dvc_project)


def test_data_dvc_that_does_not_record_a_dataset_is_told(dvc_project: Project) -> None:
    for content in (b"outs: 1\n", b"outs:\n- md5: 0123.dir\n", b"other: 1\n"):
        write(dvc_project.root / "data.dvc", content)
        with pytest.raises(DataError, match="it has no entries of datasets"):
            dvc.dataset_hash(dvc_project, "small")
    for content in (b"outs: []\n", b"outs:\n- path: data/small\n", b"outs:\n- {path: data/other, md5: 0123.dir}\n"):
        write(dvc_project.root / "data.dvc", content)
        with pytest.raises(DataError, match="records no data/small"):
            dvc.dataset_hash(dvc_project, "small")


def test_a_damaged_configuration_of_dvc_is_named(dvc_project: Project) -> None:
    for content in (b"no section = 1\n", b"['remote \"local\"']\nurl\n", b"\xff\xfe"):
        write(dvc_project.root / ".dvc" / "config.local", content)
        with pytest.raises(DataError, match=r"config\.local is damaged"):
            dvc.keep_state_in_home(dvc_project)


# ---------------------------------------------------------------- commands and doctor


def test_every_kind_of_state_file_is_found_by_doctor(project: Project, tmp_path: Path) -> None:
    for state_file in STATE_FILES:
        folder = tmp_path / "root" if state_file.in_checkout else project.home
        write(folder / state_file.pattern.replace("*", "small"), b'{"cut')
    found = {damaged.path.name for damaged in find_damaged_files(Project(tmp_path / "root", project.home))}
    assert found == {Path(state_file.pattern.replace("*", "small")).name for state_file in STATE_FILES}
    checks = list(health_checks.check_state_files(project))
    assert {check.level for check in checks} == {"note", "fault"}
    assert all(check.type_this for check in checks)
    evidence = [check for check in checks if "evidence.json" in check.message]
    assert [check.type_this for check in evidence] == ["ae run small"]


def test_doctor_says_that_the_state_is_whole_where_it_is(project: Project) -> None:
    write(project.locks_folder / "run.lock", b"")  # nobody holds it
    [check] = health_checks.check_state_files(project)
    assert check.level == "good"


@pytest.mark.slow
@pytest.mark.parametrize("damage", [DAMAGE["cut"], DAMAGE["lacks its keys"]], ids=["cut", "lacks its keys"])
def test_no_command_ends_in_a_traceback(
    dvc_project: Project, damage: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = dvc_project
    monkeypatch.chdir(project.root)
    for name in ("AE_HOME", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for state_file in STATE_FILES:
        if not state_file.in_checkout:
            write(project.home / state_file.pattern.replace("*", "small"), damage)
    for arguments in (["doctor"], ["status"], ["show", "small"], ["history", "small"], ["score", "small", "--inbox"]):
        assert main(arguments) in (0, 2, 3, 5), arguments
        assert "Traceback" not in capsys.readouterr().err


def test_down_removes_damaged_settings_and_records(project: Project, damage: bytes) -> None:
    write(stack_settings.settings_file(project), damage)
    assert startup.take_down(project) == []
    assert stack_settings.read_settings(project) is None


def test_doctor_survives_a_damaged_receipt(dvc_project: Project, damage: bytes) -> None:
    write(dvc_project.dataset("small") / "receipt.json", damage)
    checks = list(health_checks.check_recipe(dvc_project, "small"))
    assert [check.level for check in checks] == ["fault"]
    assert "receipt.json is damaged" in checks[0].message
    assert checks[0].type_this == "ae run small"
