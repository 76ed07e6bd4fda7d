"""`ae serve` as a real process over a real registry: swaps under load, kill -9, memory, and what it must not load."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from champion_helpers import make_champion
from small_bundles import SIDE, small_bundle

from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.store import Store, open_store
from aeops.serving.npy import write_npy

REPOSITORY = Path(__file__).parents[2]
IMAGE = np.zeros((1, SIDE, SIDE), np.uint8)
SHIFTS = {"1": 0.0, "2": 0.01, "3": 0.02}  # version -> what it adds to the score of a dark image, 0.25
SECONDS = 20.0  # of saturation
WARM_UP = 6.0
GROWTH = 24 * 2**20  # bytes of memory that may be added after the warm-up: a leak of a kilobyte a request is far more

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose recipe has three sound versions, the first of them champion, and a fourth that is broken."""
    root = tmp_path_factory.mktemp("live")
    (root / "recipes").mkdir()
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    recipe = yaml.safe_load((REPOSITORY / "recipes" / "digits.yaml").read_text(encoding="utf-8"))
    recipe["serving"] = {"shadow_requests": 20, "shadow_seconds": 30}
    (root / "recipes" / "digits.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        made = Project(root=root, home=root / ".ae")
        store = open_store(made)
        for number, shift in SHIFTS.items():
            register(store, small_bundle(root / f"bundle-{number}", shift=shift))
        register(store, small_bundle(root / "bundle-4", fault="nan", shift=0.03))
        make_champion(store, "digits", "1")
        yield made


def register(store: Store, bundle: Path) -> None:
    run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": "c" * 64})
    store.register(run, "digits", bundle, {}, "")


@contextmanager
def serving(project: Project) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "aeops.cli.main", "serve", "digits", "--port", "0"]
    settings = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, cwd=project.root, env=settings, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert "answers at" in greeting, f"{greeting!r}, exit code {process.poll()}"
        yield process, int(greeting.split("answers at ")[1].split(";")[0].rsplit(":", 1)[1])
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Load:
    """Clients that ask again and again, each over one connection, until it is stopped.

    Attributes:
        answers: (status, score, prediction id) of every request.
        faults: what else became of requests.
    """

    def __init__(self, port: int, clients: int, images: np.ndarray = IMAGE) -> None:
        self.port, self.body = port, write_npy(images)
        self.answers: list[tuple[int, float, str]] = []
        self.faults: list[str] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self._stopping.is_set():
            try:
                client.request("POST", "/score", self.body, {"content-type": MEDIA_TYPE})
                answer = client.getresponse()
                told = json.load(answer)
            except OSError as error:
                self.faults.append(repr(error))
                return
            score, name = (told["predictions"][0]["score"], told["ids"][0]) if answer.status == 200 else (0.0, "")
            self.answers.append((answer.status, round(score, 4), name))


def model(port: int) -> Any:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("GET", "/model")
    return json.load(client.getresponse())


def wait_for(port: int, **wanted: str | None) -> Any:
    """Waits until /model tells that version, or that last event. Long: three processes are started for it."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        told = model(port)
        found = {"version": told["version"], "event": told["serving"]["last"]["event"], "of": told["serving"]["last"]["version"]}
        if wanted.items() <= found.items():
            return told
        time.sleep(0.2)
    raise AssertionError(f"still not {wanted} but {found}: {told['serving']}")


@pytest.mark.timeout(1200)  # some 25 s where nothing else runs
def test_champions_come_and_go_and_no_request_fails(project: Project) -> None:
    store = open_store(project)
    with serving(project) as (process, port):
        with Load(port, clients=4) as load:
            wait_for(port, version="1")
            make_champion(store, "digits", "2")
            wait_for(port, version="2")
            make_champion(store, "digits", "4")
            refused = wait_for(port, version="2", event="shadow", of="4")
            bright = write_npy(np.full((1, SIDE, SIDE), 250, np.uint8))
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            while refused["serving"]["last"]["event"] == "shadow":
                client.request("POST", "/embed", bright, {"content-type": MEDIA_TYPE})  # what it cannot take
                client.getresponse().read()
                refused = model(port)
            assert (refused["version"], refused["serving"]["last"]["event"]) == ("2", "refused")
            assert "answers with a score that is not finite" in refused["serving"]["last"]["why"]
            promotion.rollback(store, "digits", "1", who="ada", why="as it was")
            wait_for(port, version="1")
        maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
        promotion.retire(store, "digits", who="ada", why="no more")
        assert wait_for(port, version=None)["serving"]["last"]["event"] == "retired"
        promotion.rollback(store, "digits", "1", who="ada", why="again")
        wait_for(port, version="1")
    assert load.faults == []
    assert {status for status, _, _ in load.answers} == {200}
    assert {score for _, score, _ in load.answers} == {round(0.25 + SHIFTS[number], 4) for number in ("1", "2")}
    assert "onnxruntime" in maps
    for foreign in ("libtorch", "mlflow", "pandas", "sqlalchemy"):
        assert foreign not in maps
    held = prediction_store.read_predictions(project, "digits", columns=["id", "version", "score"]).to_pylist()
    found = {row["id"]: (row["version"], round(row["score"], 4)) for row in held}
    assert len(found) == len(held)
    for _, score, name in load.answers:  # each answer is wholly of one version, the one that its record names
        version, recorded = found[name]
        assert score == recorded == round(0.25 + SHIFTS[version], 4)


def test_kill_9_loses_no_answered_prediction_and_the_next_start_makes_files_of_them(project: Project) -> None:
    with serving(project) as (process, port), Load(port, clients=4) as load:
        while len(load.answers) < 500:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    told = [name for _, _, name in load.answers]
    assert set(told) <= set(prediction_store.read_predictions(project, "digits", columns=["id"])["id"].to_pylist())
    call = told[0].partition("-")[0]
    assert prediction_store.call_files(project, call)[0].suffix == ".arrow"
    with serving(project):
        deadline = time.monotonic() + 60
        while prediction_store.call_files(project, call)[0].suffix == ".arrow" and time.monotonic() < deadline:
            time.sleep(0.2)
    assert prediction_store.call_files(project, call)[0].suffix == ".parquet"
    assert set(told) <= set(prediction_store.read_predictions(project, "digits", columns=["id"])["id"].to_pylist())
    found = prediction_store.find_prediction(project, told[-1])
    assert (found.channel, found.recipe) == ("service", "digits")


def test_memory_stays_flat_at_saturation(project: Project) -> None:
    images = np.zeros((16, 1, SIDE, SIDE), np.uint8)
    with serving(project) as (process, port), Load(port, clients=8, images=images) as load:
        time.sleep(WARM_UP)
        warm, asked = psutil.Process(process.pid).memory_info().rss, len(load.answers)
        time.sleep(SECONDS - WARM_UP)
        grown = psutil.Process(process.pid).memory_info().rss - warm
    assert {status for status, _, _ in load.answers} == {200}
    assert len(load.answers) - asked > 500
    assert grown < GROWTH, f"{grown / 2**20:.1f} MiB more after {len(load.answers) - asked} requests"
