"""Bad input and broken machines: one clear line, the exit code of its kind, and nothing lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from checkout import EPOCHS_OF_A_KILL, Checkout, copy_checkout, wait_for

from aeops.machine.library_settings import configure_libraries
from aeops.machine.network import find_free_port
from aeops.machine.servers import is_healthy


def kinds(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


@pytest.mark.slow
def test_an_unknown_recipe_is_told_with_its_near_match(bare: Checkout) -> None:
    done = bare.ae_in_process("run", "smal")
    assert done.returncode == 2
    assert "no recipe 'smal'" in kinds(done)
    assert "did you mean small?" in done.stderr


def test_every_mistake_of_a_recipe_is_told_at_once(bare: Checkout) -> None:
    bare.edit_recipe(
        {
            "train.batchsize": 3,
            "model.encode.kind": "konv",
            "train.epochs": 0,
            "gate.ranks_the_novelty.at_leest": 1,
            "threshold.false_alarm_rate": "one per cent",
        }
    )
    done = bare.ae_in_process("run", "small")
    assert done.returncode == 2
    for told in ("did you mean batch?", "did you mean conv?", "expected 1 to", "did you mean at_least?", "expected a number"):
        assert told in kinds(done), told
    assert not bare.home.exists()  # nothing was started


@pytest.mark.slow
def test_bad_data_stops_the_run_and_leaves_everything_as_it_was(ran: Checkout, prefect_address: str, tmp_path: Path) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    before, versions = copy.pointers(), copy.versions()
    images = np.load(copy.root / "inbox" / "images.npy")
    images[: len(images) // 2] = 0
    np.save(copy.root / "inbox" / "images.npy", images)
    done = copy.ae_in_forks("run", "small", PREFECT_API_URL=prefect_address)
    assert done.returncode == 3, done.stderr
    assert "blank" in kinds(done)
    assert copy.pointers() == before
    assert copy.versions() == versions


@pytest.mark.slow
def test_a_second_run_is_refused_while_one_goes_on(bare: Checkout, stopping: list[subprocess.Popen[bytes]]) -> None:
    first = bare.start("run", "small")
    stopping.append(first)
    lock = bare.home / "locks" / "run-small.lock"
    wait_for(lambda: lock.is_file() and lock.read_text())
    done = bare.ae_in_process("run", "small")
    assert done.returncode == 5
    assert str(first.pid) in kinds(done)
    assert "Wait for it to end" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_is_told_before_anything_starts(bare: Checkout, tmp_path: Path) -> None:
    small_disk = tmp_path / "disk"
    small_disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small_disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        done = bare.ae_in_process("run", "small", AE_HOME=str(small_disk / "state"))
        assert done.returncode == 5
        assert "MiB free" in kinds(done)
        assert "AE_HOME" in done.stderr
        assert not (bare.root / "data").exists()
    finally:
        subprocess.run(["umount", str(small_disk)], check=True)


def curve_points(checkout: Checkout) -> int:
    with sqlite3.connect(f"file:{checkout.home}/mlflow/mlflow.db?mode=ro", uri=True) as connection:
        return int(connection.execute("select count(*) from metrics where key = 'train_loss'").fetchone()[0])


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.long
def test_a_run_killed_while_training_leaves_no_process_and_the_next_ends_in_the_same_bits(
    ran: Checkout, prefect_address: str, tmp_path: Path
) -> None:
    copy = copy_checkout(ran, tmp_path / "copy")
    copy.edit_recipe({"train.epochs": EPOCHS_OF_A_KILL})
    progress, points = copy.home / "training" / "small" / "progress.jsonl", curve_points(copy)
    progress.unlink(missing_ok=True)  # of the first run
    killed = copy.start("run", "small")  # with a Prefect server of its own, which must not outlive it
    wait_for(lambda: progress.is_file() and progress.read_text().count("\n") >= 1)
    wait_for(lambda: curve_points(copy) > points)  # the loss curve moves in MLflow while training goes on
    children = psutil.Process(killed.pid).children(recursive=True)
    assert any("aeops.stages.train" in command_of(child) for child in children)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not any(is_alive(child) for child in children), seconds=20)
    done = copy.ae("run", "small", PREFECT_API_URL=prefect_address)
    assert done.returncode == 0, done.stderr
    artifacts = copy.root / "artifacts" / "small"
    resumed, uninterrupted = artifacts / "bundle", copy.root / "uninterrupted" / "bundle"
    inputs, training = ("--recipe", "recipes/small.yaml", "--prepared", str(artifacts / "prepared")), "uninterrupted/training"
    shutil.rmtree(copy.home / "training")
    copy.stage("train", *inputs, "--out", training)
    copy.stage("calibrate", *inputs, "--training", training, "--out", str(uninterrupted))
    for name in ("weights.safetensors", "model.onnx", "SHA256SUMS"):
        assert (resumed / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert [version for version, _, _ in copy.versions()] == ["1", "2"]


@pytest.mark.long
def test_mlflow_gone_in_the_middle_is_told_and_the_same_command_goes_on_later(
    bare: Checkout, prefect_address: str, stopping: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{(port := find_free_port())}"
    server = start_mlflow(tmp_path, port)
    stopping.append(server)
    settings = {"MLFLOW_TRACKING_URI": address, "PREFECT_API_URL": prefect_address}
    running = bare.start("run", "small", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", **settings)
    stopping.append(running)
    wait_for(lambda: (bare.home / "training" / "small" / "progress.jsonl").is_file())
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    assert running.wait(timeout=400) == 5
    told = (bare.root / "started.log").read_text()
    assert address in told
    assert "Traceback" not in told
    stopping.append(start_mlflow(tmp_path, port))
    done = bare.ae("run", "small", **settings)
    assert done.returncode == 0, done.stderr
    assert "small 1 (challenger, champion)" in done.stdout


def start_mlflow(folder: Path, port: int) -> subprocess.Popen[bytes]:
    place = f"sqlite:///{folder}/server.db"
    environment = os.environ | configure_libraries()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", place, "--artifacts-destination", str(folder / "files")]
    child = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    wait_for(lambda: is_healthy(f"http://127.0.0.1:{port}/health"))
    return child
