"""Predictions of the service: in the journal before the answer goes out, found by their ids, and never lost or doubled."""

import fcntl
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from fork_server import run_in_fork
from power_cut import PowerCut, record
from small_bundles import SIDE, small_bundle, text_bundle

from aeops.bundle.detector import Detector
from aeops.data.statistics import sample_sha256
from aeops.errors import InfrastructureError
from aeops.kinds.npy_bytes import MEDIA_TYPE
from aeops.predictions import journal as journals
from aeops.predictions import journal_roller, prediction_store
from aeops.predictions.arrow_rows import build_rows
from aeops.predictions.journal import Journal
from aeops.predictions.rows import predictions_schema, scorer_of, summary_of_code
from aeops.project import Project
from aeops.recipe.monitoring import SERVICE_CHANNEL
from aeops.serving.app import detector_app
from aeops.serving.npy import write_npy

ROOT = Path(__file__).parents[2]
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 1, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(small_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "dvc.yaml").write_text("")
    return Project(root=tmp_path, home=tmp_path / ".ae")


def fill(journal: Journal, detector: Detector, images: np.ndarray = IMAGES) -> tuple[str, int]:
    names = [f"r[{row}]" for row in range(len(images))]
    return journal.append(scorer_of("small", "1", detector), names, images, detector.score(images, code=True))


def die(journal: Journal) -> None:
    """As when the process dies: the kernel closes the file, and frees it."""
    assert journal._current is not None
    os.close(journal._current.descriptor)


def held(project: Project) -> list[str]:
    return prediction_store.read_predictions(project, "small")["id"].to_pylist()


def journal_files(project: Project) -> list[Path]:
    return sorted((project.home / "predictions" / "small" / "journal").glob("*.arrow"))


# ---------------------------------------------------------------- what is written


def test_rows_hold_what_the_detector_answered(detector: Detector, tmp_path: Path) -> None:
    text_detector = Detector(text_bundle(tmp_path / "texts"))
    now = datetime.now(UTC)
    cases = ((detector, IMAGES), (detector, IMAGES / np.float32(2)), (text_detector, ["a b", "Grüße \U0001f600", ""]))
    for model, samples in cases:
        names = ["a\udcff", *["é"] * (len(samples) - 1)]
        scored = model.score(samples, code=True)
        scorer = scorer_of("small", "1", model)
        batch = build_rows(
            scorer, call="7f3a9c2e", channel=SERVICE_CHANNEL, time=now, names=names, samples=samples, outputs=scored, first_row=9
        )
        batch.validate(full=True)
        assert batch.schema == predictions_schema()
        for number, row in enumerate(batch.to_pylist()):
            assert row["id"] == f"7f3a9c2e-{9 + number}"
            assert row["sample"] == ("a\\udcff" if number == 0 else "é")
            assert (row["recipe"], row["version"], row["channel"], row["time"]) == ("small", "1", "service", now)
            assert (row["bundle_sha256"], row["threshold"]) == (model.sha256, scorer.threshold)
            assert row["score"] == np.float32(scored["score"][number])
            assert row["is_anomaly"] == scored["is_anomaly"][number]
            np.testing.assert_array_equal(np.float32(row["code"]), summary_of_code(scored["code"])[number])


def test_every_answered_sample_is_found_by_its_id(project: Project, detector: Detector) -> None:
    client = TestClient(detector_app(detector, "small", "3", journal=Journal(project, "small")))
    headers = {"content-type": MEDIA_TYPE, "x-request-id": "order-7"}
    answer = client.post("/score", content=write_npy(IMAGES), headers=headers)
    known = answer.json()["ids"]
    call = known[0].partition("-")[0]
    assert answer.headers["x-prediction-ids"] == f"{call}-0..4"
    for row, (name, said) in enumerate(zip(known, answer.json()["predictions"], strict=True)):
        found = prediction_store.find_prediction(project, name)
        assert (found.sample, found.version, found.channel) == (f"order-7[{row}]", "3", "service")
        assert (found.score, found.p_value, found.is_anomaly, found.flags) == tuple(said.values())
        assert found.sample_sha256 == sample_sha256(IMAGES)[row]  # so that the sample is found in a dataset
    as_json = client.post("/score", json={"inputs": IMAGES[:1].tolist()}).json()["ids"]
    assert as_json == [f"{call}-5"]
    assert (
        prediction_store.find_prediction(project, as_json[0]).sample_sha256 == sample_sha256(IMAGES)[0]
    )  # JSON has no dtype: bytes again
    explained = client.post("/explain", json={"inputs": IMAGES[0].tolist()})
    assert (explained.json()["ids"], explained.headers["x-prediction-ids"]) == ([f"{call}-6"], f"{call}-6..6")
    invoked = client.post("/invocations", json={"inputs": IMAGES[0].tolist()})
    assert (list(invoked.json()), invoked.headers["x-prediction-ids"]) == (["predictions"], f"{call}-7..7")
    for path in ("/embed", "/reconstruct"):  # which tell no score
        assert "x-prediction-ids" not in client.post(path, json={"inputs": IMAGES[0].tolist()}).headers
    assert len(held(project)) == 8


def test_what_cannot_be_recorded_is_not_told(project: Project, detector: Detector) -> None:
    client = TestClient(detector_app(detector, "small", "3", journal=Journal(project, "small")))
    (project.home / "predictions").mkdir(parents=True)
    (project.home / "predictions" / "small").write_text("in the way")
    answer = client.post("/score", json={"inputs": IMAGES[0].tolist()})
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    assert "no score is returned that could not be looked up later" in answer.json()["error"]
    (project.home / "predictions" / "small").unlink()
    assert client.post("/score", json={"inputs": IMAGES[0].tolist()}).status_code == 200


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from aeops.errors import InfrastructureError
from aeops.predictions.rows import predictions_schema, scorer_of
from aeops.project import Project
from aeops.bundle.detector import Detector
from aeops.predictions.journal import Journal
root, bundle = map(Path, sys.argv[1:])
detector, journal, told = Detector(bundle), Journal(Project(root, root / ".ae"), "small"), 0
images = np.zeros((50, 1, 4, 4), np.uint8)
scored = detector.score(images, code=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
for _ in range(10):
    try:
        call, first = journal.append(scorer_of("small", "1", detector), ["x"] * 50, images, scored)
        told = first + 50
    except InfrastructureError as error:
        failed = str(error)
print(told, failed)
"""


def test_a_full_disk_costs_no_prediction_that_was_told(project: Project, detector: Detector) -> None:
    done = run_in_fork("code", FULL_DISK, str(project.root), str(detector.folder), cwd=ROOT, env=os.environ, timeout=60)
    assert done.returncode == 0, done.stderr
    told, failed = done.stdout.split(maxsplit=1)
    assert 0 < int(told) < 500
    assert len(held(project)) == int(told)  # and a journal that can be read to its end
    assert "no space left" in failed or "cannot be recorded" in failed


# ---------------------------------------------------------------- from journals to files


def test_a_held_journal_is_left_alone_and_a_dead_ones_is_adopted(project: Project, detector: Detector) -> None:
    journal = Journal(project, "small")
    fill(journal, detector)
    [file] = journal_files(project)
    assert journal_roller.roll_journals(project, "small") == []
    assert journal_files(project) == [file]
    die(journal)
    assert journal_roller.roll_journals(project, "small") == []
    assert journal_files(project) == []
    assert held(project) == [f"{file.stem}-{row}" for row in range(5)]
    assert prediction_store.call_files(project, file.stem)[0].parent.name == f"{datetime.now(UTC):%Y-%m-%d}"


def test_killed_between_file_and_journal_nothing_is_doubled(project: Project, detector: Detector) -> None:
    journal = Journal(project, "small")
    fill(journal, detector)
    [file] = journal_files(project)
    data = file.read_bytes()
    die(journal)
    journal_roller.roll_journals(project, "small")
    assert journal_files(project) == []
    file.write_bytes(data)  # as if the process had died before it removed the journal
    assert len(held(project)) == 5
    journal_roller.roll_journals(project, "small")
    assert (len(held(project)), journal_files(project)) == (5, [])


def test_a_torn_end_costs_only_what_nobody_was_told(project: Project, detector: Detector) -> None:
    journal = Journal(project, "small")
    fill(journal, detector)
    opened = journal._current
    assert opened is not None
    whole = opened.size
    fill(journal, detector)
    os.ftruncate(opened.descriptor, whole + 100)
    os.close(opened.descriptor)
    assert len(held(project)) == 5
    assert journal_roller.roll_journals(project, "small") == []
    assert (len(held(project)), journal_files(project)) == (5, [])


def test_a_broken_journal_is_told_and_kept_and_the_others_are_adopted(project: Project, detector: Detector) -> None:
    for _ in range(2):
        journal = Journal(project, "small")
        fill(journal, detector)
        fill(journal, detector)
        die(journal)
    broken, _ = journal_files(project)
    data = bytearray(broken.read_bytes())
    head = predictions_schema().serialize().size
    data[head : head + 64] = b"\xff" * 64
    broken.write_bytes(bytes(data))
    [fault] = journal_roller.roll_journals(project, "small")
    assert str(broken) in fault
    assert journal_files(project) == [broken]


@pytest.mark.parametrize("what", ["large", "old", "of another day"])
def test_a_journal_is_closed_when_it_is_due(
    project: Project, detector: Detector, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    journal = Journal(project, "small")
    first, _ = fill(journal, detector)
    opened = journal._current
    assert opened is not None
    if what == "large":
        monkeypatch.setattr(journals, "MAX_JOURNAL_BYTES", opened.size)
    else:
        opened.started_at -= timedelta(minutes=11) if what == "old" else timedelta(days=1)
    second, row = fill(journal, detector)
    assert (second != first, row) == (True, 0)
    assert held(project) == [f"{call}-{row}" for call in (first, second) for row in range(5)]
    journal_roller.roll_journals(project, "small")
    assert [file.stem for file in journal_files(project)] == [second]


def test_an_idle_journal_that_is_old_becomes_a_file_by_itself(project: Project, detector: Detector) -> None:
    journal = Journal(project, "small")
    fill(journal, detector)
    assert journal._current is not None
    journal._current.started_at -= timedelta(minutes=11)
    journal.maintain()
    assert journal._roller is not None
    assert journal._roller.wait(timeout=60) == 0
    assert (len(held(project)), journal_files(project)) == (5, [])


def test_a_journal_has_no_name_before_it_is_held(project: Project, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Path]] = []

    def look_then_lock(descriptor: int, operation: int) -> None:
        seen.append(journal_files(project))
        real(descriptor, operation)

    real = fcntl.flock
    monkeypatch.setattr(journals.fcntl, "flock", look_then_lock)
    fill(Journal(project, "small"), detector)
    assert seen == [[]]  # else another start could take it for a dead one's, and remove it


@pytest.mark.slow
def test_two_at_once_that_roll_neither_lose_nor_double(project: Project, detector: Detector) -> None:
    for _ in range(6):
        journal = Journal(project, "small")
        fill(journal, detector)
        die(journal)
    command = [sys.executable, "-m", "aeops.predictions.journal_roller", "small"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AE_HOME": str(project.home)}
    children = [subprocess.Popen(command, cwd=project.root, env=environment) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    assert (len(held(project)), len(set(held(project))), journal_files(project)) == (30, 30, [])


def test_a_rolled_file_has_large_row_groups(project: Project, detector: Detector) -> None:
    journal = Journal(project, "small")
    for _ in range(20):
        call, _ = fill(journal, detector, IMAGES[:1])
    die(journal)
    journal_roller.roll_journals(project, "small")
    assert pq.ParquetFile(prediction_store.call_files(project, call)[0]).num_row_groups == 1


WRITER = """
import sys
from pathlib import Path
import numpy as np
from aeops.predictions.rows import predictions_schema, scorer_of
from aeops.project import Project
from aeops.bundle.detector import Detector
from aeops.predictions.journal import Journal
root, bundle = map(Path, sys.argv[1:])
detector, journal = Detector(bundle), Journal(Project(root, root / ".ae"), "small")
images = np.zeros((3, 1, 4, 4), np.uint8)
scored = detector.score(images, code=True)
while True:
    call, first = journal.append(scorer_of("small", "1", detector), ["x"] * 3, images, scored)
    print(f"{call}-{first + 2}", flush=True)
"""


def test_kill_9_loses_no_prediction_that_was_told(project: Project, detector: Detector) -> None:
    command = [sys.executable, "-c", WRITER, str(project.root), str(detector.folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(200)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read().split("\n")[:-1]
    found = held(project)
    assert set(told) <= set(found)
    assert len(found) == len(set(found))
    assert isinstance(prediction_store.read_predictions(project, "small"), pa.Table)


RECORD_TWICE = """
import sys
from pathlib import Path
import numpy as np
from aeops.bundle.detector import Detector
from aeops.predictions.journal import Journal
from aeops.predictions.rows import scorer_of
from aeops.project import Project

root, detector = Path(sys.argv[1]), Detector(Path(sys.argv[2]))
images = np.load(sys.argv[3])
journal = Journal(Project(root=root, home=root / ".ae"), "small")
for batch in ("first", "second"):
    names = [f"{batch}[{row}]" for row in range(len(images))]
    journal.append(scorer_of("small", "1", detector), names, images, detector.score(images, code=True))
    if batch == "first":
        journal.maintain()
"""


def test_a_power_failure_loses_at_most_what_was_recorded_since_the_last_sync(tmp_path: Path) -> None:
    root = (tmp_path / "root").resolve()
    root.mkdir()
    np.save(tmp_path / "images.npy", IMAGES)
    bundle = small_bundle(tmp_path / "bundle")
    cut = PowerCut(root)
    command = [sys.executable, "-c", RECORD_TWICE, str(root), str(bundle), str(tmp_path / "images.npy")]
    project, synced_rows = Project(root=root, home=root / ".ae"), []
    for operation in record(command, root, tmp_path):
        cut.apply(operation)
        if operation.letter not in "sw":
            continue
        for names_survive in (False, True):
            cut.restore(names_survive=names_survive)
            assert journal_roller.roll_journals(project, "small") == []
            rows = len(held(project))
            assert rows in (0, len(IMAGES))
            if not names_survive:
                synced_rows.append(rows)
    assert sorted(synced_rows) == synced_rows, "what was on the disk once stays there"
    assert synced_rows[-1] == len(IMAGES)


def test_no_request_waits_for_the_disk(project: Project, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(project, "small")
    journal.require_writable()  # makes the folder, whose name is synced

    def refuse(_: int) -> None:
        raise AssertionError("a request waits for the disk")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        fill(journal, detector)
        fill(journal, detector)
    journal.close()


def test_unwritable_places_are_told_by_name(project: Project, detector: Detector) -> None:
    project.home.write_text("in the way")
    with pytest.raises(InfrastructureError, match="the predictions cannot be recorded in"):
        fill(Journal(project, "small"), detector)
