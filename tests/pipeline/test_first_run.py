"""What one `ae run` leaves behind, and what the next one does with it."""

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
import yaml
from checkout import EPOCHS, ROOT, Checkout, copy_checkout, wait_for
from local_receivers import name_webhook, notices_of, receiver

from aeops.data import dvc
from aeops.machine.network import find_free_port
from aeops.machine.servers import is_healthy
from aeops.project import Project


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def ledger(checkout: Checkout) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (checkout.home / "ledger" / "small.jsonl").read_text().splitlines()]


def test_a_run_ends_with_a_champion_and_one_table(first_run: tuple[Checkout, subprocess.CompletedProcess[str]]) -> None:
    checkout, done = first_run
    assert done.returncode == 0, done.stderr
    for word in ("MSE", "AUROC", "PCA-16", "kNN-", "false alarms", "first", "accepted", "small 1 (challenger, champion)"):
        assert word in done.stdout
    for next_command in ("ae up", "ae serve small", "ae show small"):
        assert next_command in done.stdout
    [(version, aliases, tags)] = checkout.versions()
    assert (version, aliases, tags["verdict"]) == ("1", ("challenger", "champion"), "accepted")
    [line] = ledger(checkout)
    assert (line["event"], line["from"], line["to"]) == ("promotion", None, "1")
    evidence = (checkout.home / "reports" / "small" / "evidence.json").read_bytes()
    assert line["evidence"]["sha256"] == tags["evidence.sha256"] == hashlib.sha256(evidence).hexdigest()


def test_what_the_gate_does_not_check_is_told_in_the_terminal_the_report_and_the_card(
    first_run: tuple[Checkout, subprocess.CompletedProcess[str]],
) -> None:
    checkout, done = first_run
    assert "not checked: 3 of the rules that always hold" in done.stdout
    page = (checkout.home / "reports" / "small" / "report.html").read_text(encoding="utf-8")
    card = checkout.store().client.get_model_version("small", "1").description
    for rule in ("beats_pca_and_knn", "catches_the_novelty", "not_worse_than_champion"):
        for text in (done.stdout, page, card):
            assert f"the gate does not check {rule} (" in text


def test_a_second_run_trains_nothing_registers_nothing_and_says_so(ran: Checkout) -> None:
    bundle = ran.root / "artifacts" / "small" / "bundle" / "model.onnx"
    before = bundle.stat().st_mtime_ns
    runs = rows(ran.home / "mlflow" / "mlflow.db", "select count(*) from runs")
    done = ran.ae_in_process("run", "small")
    assert done.returncode == 0, done.stderr
    assert "nothing changed" in done.stdout
    assert bundle.stat().st_mtime_ns == before
    assert rows(ran.home / "mlflow" / "mlflow.db", "select count(*) from runs") == runs
    assert len(ran.versions()) == 1


@pytest.mark.slow
def test_the_command_that_dvc_yaml_names_has_nothing_to_do_after_a_run(ran: Checkout) -> None:
    head = (ROOT / "dvc.yaml").read_text(encoding="utf-8").partition("stages:")[0]
    assert "`dvc repro gate@digits`" in head
    done = ran.dvc("repro", "gate@small")
    assert done.returncode == 0, done.stderr
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


@pytest.mark.slow
def test_a_change_of_code_shows_in_dvc_status_once_its_hash_is_written(ran: Checkout, tmp_path: Path) -> None:
    changed = Checkout(shutil.copytree(ran.root, tmp_path / "changed", symlinks=True))
    file = changed.root / "aeops" / "kinds" / "arrays.py"
    text = file.read_text()
    assert "return total / counts, " in text
    file.write_text(text.replace("return total / counts, ", "return total / counts + 1, "))
    subprocess.run([sys.executable, "-m", "aeops.data.stage_code", "--write"], cwd=changed.root, check=True)
    status = json.loads(changed.dvc("status", "--json").stdout)
    assert {"prepare@small", "evaluate@small"} <= status.keys()  # both use the statistics of samples
    assert "code.evaluate" in str(status)


def test_every_step_is_a_task_with_a_name_and_its_artifacts_are_on_the_page(ran: Checkout) -> None:
    database = ran.home / "prefect" / "prefect.db"
    names = {name for (name,) in rows(database, "select name from task_run where state_type = 'COMPLETED'")}
    steps = ("repair", "ingest", "validate", "version", "log", "prepare", "train", "calibrate", "evaluate")
    assert {f"{step} small" for step in (*steps, "gate", "compare", "register", "decide", "promote")} <= names
    keys = {key for (key,) in rows(database, "select key from artifact")}
    assert {"small-metrics", "small-verdict", "small-comparison", "small-mlflow-run", "small-data-docs"} <= keys


@pytest.mark.slow
def test_the_mlflow_run_holds_curves_parameters_lineage_data_and_evidence(ran: Checkout) -> None:
    script = """
import json
from aeops.project import find_project
from aeops.registry.store import open_store
store = open_store(find_project())
run = store.client.get_run(store.versions("small")[0].run_id)
curve = store.client.get_metric_history(run.info.run_id, "train_loss")
files = [f.path for f in store.client.list_artifacts(run.info.run_id)]
figures = [f.path for f in store.client.list_artifacts(run.info.run_id, "figures")]
files += [f.path for folder in ("validation", "rebuild") for f in store.client.list_artifacts(run.info.run_id, folder)]
print(json.dumps({"status": run.info.status, "steps": [m.step for m in curve], "losses": [m.value for m in curve], "files": files,
  "id": run.info.run_id, "figures": figures, "lineage":
  open(store.client.download_artifacts(run.info.run_id, "rebuild/lineage.json")).read(), "descriptions":
  [store.client.get_registered_model("small").description, store.versions("small")[0].description,
   run.data.tags["mlflow.note.content"]],
  "params": run.data.params, "metrics": run.data.metrics, "tags": run.data.tags,
  "inputs": [given.dataset.name for given in run.inputs.dataset_inputs]}))
"""
    run = json.loads(ran.python(script))
    assert run["status"] == "FINISHED"
    assert len(set(run["steps"])) == len(run["steps"]) == EPOCHS
    assert run["losses"][-1] < run["losses"][0]
    assert run["params"]["train.epochs"] == str(EPOCHS)
    assert run["inputs"] == ["small", "small, test samples"]
    receipt = json.loads((ran.root / "data" / "small" / "receipt.json").read_text())
    assert run["tags"]["data.content_sha256"] == receipt["content_sha256"]
    shown = {name for name in run["tags"] if not name.startswith("mlflow.")}
    assert {"git.commit", "git.dirty", "data.dataset", "started_by", "process"} <= shown
    assert len(shown) <= 12
    [(_, _, tags)] = ran.versions()
    assert len(tags) <= 14
    lineage = json.loads(run["lineage"])
    assert {"platform.cpu", "platform.torch", "recipe.sha256", "seed", "file.dvc.lock", "holdout_sha256"} <= set(lineage)
    assert hashlib.sha256(run["lineage"].encode()).hexdigest() == tags["lineage.sha256"]
    for description in run["descriptions"]:
        assert "Accepted" in description
        assert f"](get-artifact?path=figures%2Fhistogram.svg&run_uuid={run['id']})" in description
    assert "figures/histogram.svg" in run["figures"], "which the descriptions show"
    assert 0 < run["metrics"]["detection/model.auroc"] <= 1
    assert {"report.html", "figures", "verdict.json", "evidence.json", "metrics.json"} <= set(run["files"])
    assert {"validation/validation.json", "validation/receipt.json"} <= set(run["files"])
    assert {"rebuild/small.yaml", "rebuild/dvc.lock", "rebuild/data.dvc"} <= set(run["files"])


def test_the_report_is_one_file_that_loads_nothing(ran: Checkout) -> None:
    page = (ran.home / "reports" / "small" / "report.html").read_text()
    for outside in ('src="http', "src='http", '<link rel="stylesheet"', "@import", 'href="file:'):
        assert outside not in page
    assert "accepted" in page


def test_dvc_pull_restores_what_was_deleted(ran: Checkout, tmp_path: Path) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    before = copy.pointers()
    model = (copy.root / "artifacts" / "small" / "bundle" / "model.onnx").read_bytes()
    for folder in ("data", "artifacts", ".dvc/cache"):
        shutil.rmtree(copy.root / folder)
    done = copy.dvc("pull")
    assert done.returncode == 0, done.stderr
    assert copy.pointers() == before
    assert (copy.root / "artifacts" / "small" / "bundle" / "model.onnx").read_bytes() == model


@pytest.mark.slow
def test_a_refused_model_is_registered_as_challenger_and_the_champion_stays(
    ran: Checkout, prefect_address: str, tmp_path: Path
) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    copy.edit_recipe({"score.blur": 2.0, "gate.ranks_the_novelty.at_least": 0.9999})
    with receiver(200) as seen:
        name_webhook(copy.root, seen.address)
        done = copy.ae_in_forks("run", "small", AE_HOME=str(copy.home), PREFECT_API_URL=prefect_address)
    assert done.returncode == 4, done.stdout + done.stderr
    [notice] = notices_of(seen)
    assert (notice["event"], notice["title"]) == ("refusal", "small 2 is refused")
    assert str(notice["text"]).startswith("Refused: ")
    assert str(notice["link"]).endswith("/reports/small/report.html")
    assert "notify: ops was notified: small 2 is refused" in done.stderr
    assert "refused" in done.stdout
    assert "0.9999" in done.stdout
    shown = copy.ae_in_process("show", "small", AE_HOME=str(copy.home))
    assert "refused" in shown.stdout
    assert [aliases for _, aliases, _ in copy.versions()] == [("champion",), ("challenger",)]
    refusal = ledger(copy)[-1]
    assert (refusal["event"], refusal["version"], refusal["to"]) == ("refusal", "2", None)
    assert "0.9999" in refusal["why"]
    again = copy.ae_in_process("run", "small", AE_HOME=str(copy.home))
    assert (again.returncode, "nothing changed" in again.stdout) == (4, True), again.stderr
    assert ledger(copy)[-1] == refusal


def test_the_champion_scores_a_file(ran: Checkout) -> None:
    done = ran.ae_in_process("score", "small", "inbox/images.npy")
    assert done.returncode == 0, done.stderr
    assert "1200" in done.stdout.replace(",", "")


@pytest.mark.slow
def test_ae_ui_shows_the_run_that_was(ran: Checkout, stopping: list[subprocess.Popen[bytes]]) -> None:
    port = str(find_free_port())
    stopping.append(ran.start("ui", "--port", port))
    wait_for(lambda: is_healthy(f"http://127.0.0.1:{port}/healthz"))

    def shown(path: str) -> str:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return str(answer.read().decode())

    wait_for(lambda: "<b>version 1</b>" in shown("/") and "registry read" in shown("/"))
    wait_for(lambda: ">valid</span>" in shown("/r/small"))
    recipe = shown("/r/small")
    for words in ("AUROC", "kNN-5 distance", "small had no champion", "1,200 samples came in", "Data Docs"):
        assert words in recipe, words
    assert "Model report" in shown("/r/small/report")
    assert "Data validation" in shown("/data-docs/small/index.html")


@pytest.fixture
def environment_in(ran: Checkout) -> Iterator[Path]:
    """The environment as .venv of the checkout, for this test alone: a copied one is refused by other commands."""
    link = ran.root / ".venv"
    link.symlink_to(Path(sys.executable).parents[1])
    yield link
    link.unlink()


@pytest.mark.slow
@pytest.mark.usefixtures("environment_in")
def test_the_champion_answers_on_both_servers_with_the_same_scores(
    ran: Checkout, stopping: list[subprocess.Popen[bytes]]
) -> None:
    image = np.load(ran.root / "inbox" / "images.npy")[:2].astype(float).tolist()
    ours, theirs = find_free_port(), find_free_port()
    stopping.append(ran.start("serve", "small", "--port", str(ours)))
    stopping.append(serve_as_the_readme_says(ran, theirs))
    wait_for(lambda: is_healthy(f"http://127.0.0.1:{ours}/healthz"))
    wait_for(lambda: is_healthy(f"http://127.0.0.1:{theirs}/health"))
    told = [ask(f"http://127.0.0.1:{port}/invocations", image) for port in (ours, theirs)]
    assert len(told[0]) == 2
    for one, other in zip(*told, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["is_anomaly"] == other["is_anomaly"]
        assert np.shape(one["reconstruction"]) == np.shape(other["reconstruction"]) == (1, 28, 28)


def serve_as_the_readme_says(checkout: Checkout, port: int) -> subprocess.Popen[bytes]:
    """The README's own command, for this recipe and port, where the environment is in .venv and not on the PATH."""
    [line] = [line for line in (ROOT / "README.md").read_text().splitlines() if "mlflow models serve" in line]
    command = ["bash", "-c", f"{line.replace('digits', 'small')} --port {port}"]
    environment = checkout.environment(MLFLOW_DISABLE_TELEMETRY="true", PATH="/usr/local/bin:/usr/bin:/bin")
    with (checkout.root / "served.log").open("wb") as log:
        return subprocess.Popen(command, cwd=checkout.root, env=environment, stdout=log, stderr=log)


def ask(address: str, images: list[object]) -> list[dict[str, object]]:
    body = json.dumps({"inputs": images, "params": {"reconstruction": True}}).encode()
    with urlopen(Request(address, data=body, headers={"Content-Type": "application/json"}), timeout=30) as answer:
        return list(json.load(answer)["predictions"])


def test_ingesting_the_digits_again_gives_the_committed_hash(bare: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "")  # what is set for DVC's processes ends with the test
    incoming = str(bare.home / "incoming" / "digits")
    for stage, place in (("ingest", "--out"), ("validate", "--incoming")):
        bare.stage(stage, "--recipe", "recipes/digits.yaml", place, incoming)
    dvc.add_dataset(Project(bare.root, bare.home), "digits")
    assert yaml.safe_load((bare.root / "data.dvc").read_text()) == yaml.safe_load((ROOT / "data.dvc").read_text())
