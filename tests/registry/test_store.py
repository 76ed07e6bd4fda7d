"""Runs and versions in a real MLflow on SQLite."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from champion_helpers import make_champion
from checkout import ROOT
from forked import Fork

from ae_models.checksums import bundle_sha256, file_sha256, verify_bundle
from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.machine.process_identity import this_process
from aeops.machine.run_watch import RunWatch
from aeops.machine.stack_settings import Settings, remove_settings, write_settings
from aeops.project import Project
from aeops.registry import database
from aeops.registry.carried_code import carried_files, package_name
from aeops.registry.database import database_file
from aeops.registry.killed_runs import PROCESS_TAG
from aeops.registry.store import Store, open_store
from flows import registering_steps

DATASET = {"dataset": "digits", "content_sha256": "c" * 64}


@pytest.mark.slow
def test_two_first_users_of_a_fresh_store_both_open_it_after_one_that_was_killed(
    project: Project, tmp_path: Path, create_database: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "create_database", create_database)  # MLflow's own, no copy
    project.mlflow.mkdir(parents=True)
    (project.mlflow / ".mlflow.db.tmp").write_bytes(b"SQLite format 3\x00 and then the power went")
    marks = [tmp_path / "ready-0", tmp_path / "ready-1"]

    def first_use(mark: Path) -> None:
        mark.touch()
        while not all(each.exists() for each in marks):
            time.sleep(0.01)
        print(open_store(project).start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64}))

    logs, users = [tmp_path / "log-0", tmp_path / "log-1"], []
    for mark, log in zip(marks, logs, strict=True):
        with log.open("wb") as file:
            users.append(Fork(lambda mark=mark: first_use(mark), cwd=tmp_path, env=os.environ, stdout=file))
    assert [user.wait() for user in users] == [0, 0]
    runs = {log.read_text(encoding="utf-8").splitlines()[-1] for log in logs}
    experiments = {open_store(project).client.get_run(run).info.experiment_id for run in runs}
    assert (len(runs), len(experiments)) == (2, 1)


def test_a_run_carries_what_it_was_given(store: Store, start: Callable[[], str], tmp_path: Path) -> None:
    run_id = start()
    store.log_curves(run_id, [{"epoch": epoch, "step": 9 * epoch, "train_loss": 1 / epoch} for epoch in (1, 2, 3)])
    store.log_metrics(run_id, {"detection": {"model": {"auroc": 0.9, "auroc_interval": [0.8, 0.95]}, "note": "x", "none": None}})
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "roc.svg").write_text("<svg/>", encoding="utf-8")
    store.log_files(run_id, [tmp_path / "figures", tmp_path / "dvc.yaml"])
    store.finish_run(run_id, "FINISHED")
    run = store.client.get_run(run_id)
    assert run.data.params == {"train.epochs": "3", "train.widths": "[1, 2]"}
    assert run.data.tags["git.commit"] == "abc"
    assert run.info.status == "FINISHED"
    curve = store.client.get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    named = {"detection.model.auroc": 0.9, "detection.model.auroc_interval.0": 0.8, "detection.model.auroc_interval.1": 0.95}
    assert store.metrics(run_id) == named | {"train_loss": pytest.approx(1 / 3)}
    assert "detection/model.auroc" in run.data.metrics, "MLflow groups its charts by what stands before the first /"
    assert [entry.path for entry in store.client.list_artifacts(run_id, "figures")] == ["figures/roc.svg"]
    assert run.inputs.dataset_inputs[0].dataset.digest == "c" * 36
    assert "c" * 64 in run.inputs.dataset_inputs[0].dataset.profile


def test_the_columns_of_a_wide_table_are_logged_as_far_as_mlflow_takes_them(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = store.start_run("digits", {}, {"columns": "sensor, " * 2000}, DATASET)
    logged = store.client.get_run(run_id).data.params["columns"]
    assert len(logged) == 6000
    assert logged.endswith("sens ...")
    assert "truncated" not in caplog.text


def test_the_experiment_opens_with_runs_and_metrics_and_no_empty_one_stands_beside_it(
    store: Store, start: Callable[[], str]
) -> None:
    folder = (store.project.mlflow / "artifacts" / "digits").as_uri()
    store.client.create_experiment("digits", artifact_location=folder)  # by an older version
    run_id = start()
    (experiment,) = store.client.search_experiments()
    assert (experiment.name, experiment.tags["mlflow.experimentKind"]) == ("digits", "custom_model_development")
    assert store.client.get_experiment(store.experiment("mnist")).tags["mlflow.experimentKind"] == "custom_model_development"
    store.describe_run(run_id, "digits 3, 2026-11-30", "Accepted.")
    run = store.client.get_run(run_id)
    assert (run.info.run_name, run.data.tags["mlflow.note.content"]) == ("digits 3, 2026-11-30", "Accepted.")


def test_a_run_takes_as_long_as_since_its_first_step_which_comes_before_mlflow(store: Store) -> None:
    run_id = store.start_run("digits", {}, {}, DATASET, started_at=time.time() - 60)
    store.finish_run(run_id, "FINISHED")
    [seconds] = [run.seconds for run in store.runs("digits", 20) if run.run_id == run_id]
    assert seconds is not None
    assert 60 <= seconds < 120


def test_ctrl_c_closes_a_run_that_mlflow_has_and_whose_id_has_not_come_back(
    store: Store, project: Project, start: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_another = store.start_run("digits", {PROCESS_TAG: "elsewhere:1:1"}, {}, DATASET)
    without_tag = start()

    def open_and_interrupt(recipe: str, data: dict[str, str], started_at: float) -> None:
        store.start_run(recipe, {PROCESS_TAG: this_process().text}, {}, data, started_at)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    def run() -> None:
        monkeypatch.setattr(registering_steps, "open_mlflow_run", open_and_interrupt)
        with RunWatch(), registering_steps.mlflow_run("digits", DATASET, time.time()):
            pass

    assert Fork(run, cwd=project.root, env=os.environ | {"AE_HOME": str(project.home)}).wait(timeout=30) == 130
    runs = store.client.search_runs([store.experiment("digits")])
    statuses = {run.info.run_id: run.info.status for run in runs}
    assert (statuses.pop(of_another), statuses.pop(without_tag)) == ("RUNNING", "RUNNING")
    assert list(statuses.values()) == ["KILLED"]
    store.finish_run(of_another, "KILLED")
    assert sorted(run.status for run in store.runs("digits", 3)) == ["killed", "running", "stopped"]


def test_everything_the_store_writes_lies_in_the_state_folder(
    store: Store,
    start: Callable[[], str],
    bundle: Callable[..., Path],
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    store.register(start(), "digits", bundle(), {}, "")
    assert list(elsewhere.iterdir()) == []
    assert list((project.mlflow / "artifacts" / "digits").rglob("model.onnx"))


def test_the_same_bundle_registered_twice_is_one_version_that_tells_the_newer_judgement(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    place = bundle()
    first = store.register(start(), "digits", place, {"verdict": "accepted"}, "# digits")
    again = start()
    assert store.register(again, "digits", place, {"verdict": "refused"}, "# stricter") == first
    (version,) = store.versions("digits")
    names = {"bundle_sha256": bundle_sha256(place), "weights_sha256": file_sha256(place / "weights.safetensors")}
    assert version.tags == {"verdict": "refused", "run_id": again} | names
    assert version.run_id == again  # the first may have failed before it could log any evidence
    assert (version.version, version.description, version.aliases) == (first, "# stricter", ())


@pytest.mark.slow
def test_another_bundle_is_a_newer_version_and_aliases_move(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    assert store.versions("digits") == []
    assert store.champion("digits") is None
    one = store.register(start(), "digits", bundle("one"), {}, "")
    make_champion(store, "digits", one)
    two = store.register(start(), "digits", bundle("two"), {}, "")
    store.set_alias("digits", "challenger", two)
    store.remove_alias("digits", "challenger", "1")  # it points elsewhere
    assert [(version.version, version.aliases) for version in store.versions("digits")] == [
        (two, ("challenger",)),
        (one, ("champion",)),
    ]
    make_champion(store, "digits", two)
    champion = store.champion("digits")
    assert champion is not None
    assert (champion.version, champion.aliases) == (two, ("challenger", "champion"))


def test_a_downloaded_bundle_is_the_registered_one_byte_for_byte(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path], project: Project
) -> None:
    place = bundle()
    number = store.register(start(), "digits", place, {}, "")
    fetched = store.download_bundle("digits", number)
    verify_bundle(fetched)
    assert fetched == project.home / "serving" / "digits" / number
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == {
        file.name: file.read_bytes() for file in place.iterdir()
    }


def test_an_altered_download_is_fetched_again_and_an_altered_registry_refused(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path], project: Project
) -> None:
    number = store.register(start(), "digits", bundle(), {}, "")
    fetched = store.download_bundle("digits", number)
    (fetched / "model.onnx").write_bytes(b"other")
    assert (store.download_bundle("digits", number) / "model.onnx").read_bytes() == b"one"
    (fetched / "model.onnx").unlink()
    (kept,) = (project.mlflow / "artifacts").rglob("model.onnx")
    kept.write_bytes(b"other")
    with pytest.raises(DataError, match=r"model\.onnx was altered"):
        store.download_bundle("digits", number)


def test_a_broken_bundle_is_not_registered(store: Store, start: Callable[[], str], bundle: Callable[..., Path]) -> None:
    place = bundle()
    (place / "model.onnx").write_bytes(b"other")
    with pytest.raises(DataError, match=r"model\.onnx was altered"):
        store.register(start(), "digits", place, {}, "")
    assert store.versions("digits") == []


@pytest.mark.slow
def test_no_file_of_a_logged_model_is_a_pickle(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path], project: Project
) -> None:
    store.register(start(), "digits", bundle(), {}, "")
    (mlmodel,) = (project.mlflow / "artifacts").rglob("MLmodel")
    files = sorted(file.relative_to(mlmodel.parent).as_posix() for file in mlmodel.parent.rglob("*") if file.is_file())
    assert [file for file in files if not file.startswith("code/")] == sorted(LOGGED)
    code = [file for file in files if file.startswith("code/")]
    assert len(code) == len(carried_files(ROOT)) + 1  # with the package's own __init__.py
    assert all(file.startswith(f"code/{package_name(ROOT)}/") and file.endswith(".py") for file in code)
    assert "python_model" not in mlmodel.read_text(encoding="utf-8")
    assert not [file for file in mlmodel.parent.rglob("*") if file.is_file() and file.read_bytes()[:1] == b"\x80"]


LOGGED = (
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "served_model.py"),
    *("input_example.json", "serving_input_example.json"),
    *("artifacts/bundle/SHA256SUMS", "artifacts/bundle/bundle.json", "artifacts/bundle/model.onnx"),
    *("artifacts/bundle/scorer.safetensors", "artifacts/bundle/weights.safetensors"),
)


def test_a_version_that_is_not_there_is_told_with_those_that_are(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=r"no version of digits is registered .* make one with `ae run digits`"):
        store.version("digits", "champion")
    store.register(start(), "digits", bundle(), {}, "")
    with pytest.raises(UsageError, match="no version 'champion' of digits; expected one of 1: make a champion with `ae run"):
        store.version("digits", "champion")
    store.set_alias("digits", "challenger", "1")
    assert store.version("digits", "challenger") == store.version("digits", "1") == store.versions("digits")[0]
    for other in ("2", "01", "-1", "99999999999", "1 or 1 = 1", ""):
        with pytest.raises(UsageError, match=f"no version {other!r} of digits; expected one of challenger, 1"):
            store.version("digits", other)


def test_a_card_too_long_for_the_registry_is_cut_with_a_note(
    store: Store, start: Callable[[], str], bundle: Callable[..., Path]
) -> None:
    store.register(start(), "digits", bundle(), {}, "x" * 6000)
    description = store.versions("digits")[0].description
    assert len(description) == 5000
    assert description.endswith("in the run's report.)")


def test_links_lead_to_where_the_stack_shows_mlflow(store: Store, start: Callable[[], str]) -> None:
    run = start()
    assert store.run_url(run).startswith("http://127.0.0.1:5000/#/")
    write_settings(store.project, Settings(mlflow_port=5077))  # `ae up --mlflow-port 5077`
    try:
        assert store.run_url(run).startswith("http://127.0.0.1:5077/#/")
        assert store.versions_url("digits") == "http://127.0.0.1:5077/#/models/digits?workflowType=machine_learning"
        assert store.versions_url("digits", "3").endswith("/#/models/digits/versions/3?workflowType=machine_learning")
        assert store.run_url(run, "report.html").endswith(f"/runs/{run}/artifacts/report.html?workflowType=machine_learning")
    finally:
        remove_settings(store.project)


def test_two_stores_in_one_process_do_not_mix(
    store: Store, start: Callable[[], str], empty_database: Path, tmp_path: Path
) -> None:
    other = Project(root=tmp_path, home=tmp_path / "other")
    other.mlflow.mkdir(parents=True)
    shutil.copyfile(empty_database, database_file(other))
    second = open_store(other)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    run = start()
    assert store.has_run(run)
    assert not second.has_run(run)


def test_a_file_that_is_no_database_is_named(project: Project) -> None:
    project.mlflow.mkdir(parents=True)
    (project.mlflow / "mlflow.db").write_bytes(b"no database at all, but long enough to be read as a header" * 30)
    with pytest.raises(InfrastructureError, match=r"MLflow at sqlite:///.*mlflow\.db failed: .*not a database"):
        open_store(project)
