"""Every score is recorded, and the chain behind it is told to its end, with every link that does not hold marked."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ae_models.checksums import bundle_sha256, write_checksums
from aeops.cli import score, why
from aeops.data.statistics import sample_sha256
from aeops.errors import DataError, InfrastructureError, UsageError
from aeops.files import file_sha256
from aeops.machine.lock import file_lock
from aeops.predictions import prediction_store
from aeops.predictions.rows import Scorer
from aeops.project import Project
from aeops.registry import promotion
from aeops.registry.ledger import Decision
from aeops.registry.store import Store, open_store

REPOSITORY = Path(__file__).parents[2]
CONTENT = "c" * 64
SCORER = Scorer(recipe="digits", version="1", bundle_sha256="b", threshold=0.5, kind="image", low=0, high=255)
NAMES = ["prediction", "version", "threshold", "data", "receipt", "commit", "verdict", "rebuild", "approver"]


@pytest.fixture(scope="module")
def evidence_project(linear_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in a git repository, whose champion has every document that a run keeps, and an approval."""
    root = tmp_path_factory.mktemp("chain")
    (root / "recipes").mkdir()
    shutil.copy(REPOSITORY / "recipes" / "digits.yaml", root / "recipes")
    shutil.copy(REPOSITORY / "dvc.yaml", root)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True).stdout.strip()
    bundle = finished_bundle(linear_bundle, root / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        made = Project(root=root, home=root / ".ae")
        store = open_store(made)
        run = store.start_run("digits", {}, {}, {"dataset": "digits", "content_sha256": CONTENT})
        log_documents(store, run, root, bundle_sha256(bundle))
        tags = {"verdict": "accepted", "git.commit": commit, "git.dirty": "false"}
        tags |= {"data.dataset": "digits", "data.content_sha256": CONTENT, "data.dvc_md5": "d" * 32 + ".dir"}
        number = store.register(run, "digits", bundle, tags, "")
        evidence = {"sha256": "e" * 64}
        promotion.record_decision(store, Decision("approval", "digits", number, "grace", "looked at it", evidence))
        promotion.promote(store, "digits", number, expected=None, who="ada", why="better", evidence=evidence)
    return made


def finished_bundle(linear_bundle: Path, place: Path) -> Path:
    """The linear bundle with what a training notes in bundle.json."""
    shutil.copytree(linear_bundle, place)
    document = json.loads((place / "bundle.json").read_text())
    document["threshold"] |= {"calibration_rows": 200}
    document["data"] = {"content_sha256": CONTENT}
    (place / "bundle.json").write_text(json.dumps(document))
    write_checksums(place)
    return place


def log_documents(store: Store, run: str, folder: Path, sha256: str) -> None:
    receipt = {"content_sha256": CONTENT, "rows": {"accepted": 5000, "quarantined": 3}, "suite": [{"success": True}] * 4}
    verdict = {"verdict": "accepted", "rules": [{"passed": True}] * 2, "reasons": [], "evidence": {"bundle_sha256": sha256}}
    for name, document, place in (("receipt.json", receipt, "validation"), ("verdict.json", verdict, None)):
        (folder / name).write_text(json.dumps(document))
        store.log_files(run, [folder / name], place)


@pytest.fixture
def store(evidence_project: Project, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The project's registry; the current folder is the project."""
    monkeypatch.chdir(evidence_project.root)
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return open_store(evidence_project)


def scored(samples: np.ndarray, folder: Path, capsys: pytest.CaptureFixture[str], as_json: bool = True) -> Any:
    np.save(folder / "batch.npy", samples)
    given = {"recipe": "digits", "file": folder / "batch.npy", "version": "champion", "json": as_json, "inbox": False}
    given |= {"fdr": None, "explain": False, "on": None, "shards": None}
    score.run(SimpleNamespace(**given))  # type: ignore[arg-type]
    told = capsys.readouterr().out
    return json.loads(told) if as_json else told


def said(count: int) -> dict[str, np.ndarray]:
    """What a detector says of so many samples."""
    numbers = {name: np.zeros(count, np.float32) for name in ("score", "p_value")}
    return numbers | {
        "is_anomaly": np.zeros(count, bool),
        "code": np.zeros((count, 3), np.float32),
        "flags": np.zeros(count, np.uint16),
    }


def told_of(what: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = why.run(SimpleNamespace(what=what, json=False))  # type: ignore[arg-type]
    return code, capsys.readouterr().out


# ---------------------------------------------------------------- what is recorded


@pytest.mark.slow
def test_every_score_is_recorded_as_it_is_told(
    store: Store, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = scored(digits[:5], tmp_path, capsys)
    ids = [row["id"] for row in answer["samples"]]
    assert len({name.partition("-")[0] for name in ids}) == 1
    assert [name.partition("-")[2] for name in ids] == ["0", "1", "2", "3", "4"]
    [file] = prediction_store.call_files(store.project, ids[0].partition("-")[0])
    assert file.parent == store.project.home / "predictions" / "digits" / f"{datetime.now(UTC):%Y-%m-%d}"
    rows = pq.read_table(file).to_pylist()
    for row, told, sha256 in zip(rows, answer["samples"], sample_sha256(digits[:5]), strict=True):
        assert {name: row[name] for name in told} == told
        assert row["sample_sha256"] == sha256  # as a dataset's index has it, so that the sample can be found there
        assert (row["recipe"], row["version"]) == ("digits", answer["version"])
        assert (row["bundle_sha256"], row["threshold"]) == (answer["bundle_sha256"], answer["threshold"])
        assert row["channel"] == "hand"
    assert [file.name for file in file.parent.iterdir() if ".tmp" in file.name] == []


def test_the_table_names_the_predictions_and_what_to_type(
    store: Store, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = scored(digits[0, 0], tmp_path, capsys, as_json=False)
    asked = told.split("ae why ")[1].split()[0]
    assert told.count(asked) == 2
    assert prediction_store.find_prediction(store.project, asked).sample == "batch.npy[0]"


def test_texts_are_recorded_by_their_words_and_odd_names_do_no_harm(project: Project) -> None:
    texts = np.array(["Grüße", "a b"], dtype=object)
    news = replace(SCORER, recipe="news", kind="text")
    ids = prediction_store.record_call(project, news, channel="hand", names=["a\udcff", "b"], samples=texts, outputs=said(2))
    found = prediction_store.find_prediction(project, ids[0])
    assert found.sample_sha256 == hashlib.sha256("Grüße".encode()).hexdigest()
    assert found.sample == "a\\udcff"
    assert (found.mean, found.std) == (5, 0)


def test_what_cannot_be_recorded_is_not_told(
    store: Store, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = store.project.home / "predictions"
    place.rename(tmp_path / "predictions")
    place.write_text("in the way")
    try:
        with pytest.raises(InfrastructureError, match="the predictions cannot be recorded in"):
            scored(digits[:2], tmp_path, capsys)
    finally:
        place.unlink()
        (tmp_path / "predictions").rename(place)
    assert capsys.readouterr().out == ""


def test_what_is_no_prediction_is_told(
    store: Store, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = scored(digits[:2], tmp_path, capsys)["samples"][1]["id"]
    call = last.partition("-")[0]
    for asked, words in (
        ("7f3a9c2e", "expected the id of a prediction"),
        ("00000000-0", "no prediction 00000000-0"),
        (f"{call}-2", f"{call}-0 to {call}-1"),
    ):
        with pytest.raises(UsageError, match=words):
            prediction_store.find_prediction(store.project, asked)
    [file] = prediction_store.call_files(store.project, call)
    rows = pq.read_table(file)
    pq.write_table(rows.take([1, 0]), file)
    with pytest.raises(DataError, match="its rows were changed"):
        prediction_store.find_prediction(store.project, last)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        prediction_store.find_prediction(store.project, last)


# ---------------------------------------------------------------- the chain


def test_the_chain_of_a_prediction_is_told_to_its_end(
    store: Store, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scored(digits[:3], tmp_path, capsys)["samples"][2]["id"]
    code, told = told_of(asked, capsys)
    assert code == 0, told
    assert [line.split()[0] for line in told.splitlines() if not line.startswith(" ")] == NAMES
    for words in (
        *("batch.npy[2]", f"{asked.partition('-')[0]}.parquet", "digits 1 (champion)", "/models/digits/versions/1"),
        *("flags 5.00% of normal samples, by 200 calibration samples", "bundle.json"),
        *("digits, content cccccccccccc, 5000 rows", "d" * 32 + ".dir"),
        *("4 of 4 expectations passed, 3 rows set aside", "artifacts/validation/receipt.json", "git show"),
        *("accepted: 2 of 2 rules", "not tried yet", "ae rebuild digits@1"),
        *("approved by grace", "looked at it", "ae history digits", "line 1"),
    ):
        assert words in told, words


def test_a_version_has_the_same_chain_without_a_prediction(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.set_tags("digits", "1", {"rebuild.verdict": "identical", "rebuild.time": "2026-01-02", "rebuild.machine": "here"})
    try:
        code, told = told_of("digits@champion", capsys)
    finally:
        for name in ("verdict", "time", "machine"):
            store.client.delete_model_version_tag("digits", "1", f"rebuild.{name}")
    assert code == 0, told
    assert [line.split()[0] for line in told.splitlines() if not line.startswith(" ")] == NAMES[1:]
    assert "identical, 2026-01-02 on here" in told


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"data.content_sha256": "0" * 64}, ("bundle.json names the content cccccccccccc", "was trained on 000000000000")),
        ({"git.commit": "0" * 40}, ("this repository does not have it",)),
        ({"git.commit": "none"}, ("the run was not in a git repository",)),
        ({"rebuild.verdict": "different"}, ("a rebuild from its record is another model",)),
        (
            {"bundle_sha256": "0" * 64},
            ("the bundle that scored was", "it judged the bundle", "the decision was about the bundle", "is not the bundle"),
        ),
    ],
)
def test_a_link_that_does_not_hold_is_marked(
    store: Store,
    digits: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tags: dict[str, str],
    words: tuple[str, ...],
) -> None:
    asked = scored(digits[:1], tmp_path, capsys)["samples"][0]["id"]
    before = store.version("digits", "1").tags
    store.set_tags("digits", "1", tags)
    try:
        code, told = told_of(asked, capsys)
    finally:
        for name in tags.keys() - before.keys():
            store.client.delete_model_version_tag("digits", "1", name)
        store.set_tags("digits", "1", {name: before[name] for name in tags.keys() & before.keys()})
    assert code == 3
    for said in words:
        assert said in told, told
    assert "links do not hold" in told


def test_a_prediction_of_a_version_that_is_gone_says_so(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(project.root)
    monkeypatch.delenv("AE_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    gone = replace(SCORER, version="99")
    [asked] = prediction_store.record_call(project, gone, channel="hand", names=["a"], samples=np.zeros((1, 2)), outputs=said(1))
    code, told = told_of(asked, capsys)
    assert code == 3
    assert "no version '99' of digits" in told


def test_a_broken_ledger_is_a_link_that_does_not_hold(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    file = store.project.home / "ledger" / "digits.jsonl"
    before = file.read_bytes()
    with file_lock(store.project, "ledger"):
        file.write_bytes(before.replace(b"looked at it", b"looked at me"))
    try:
        code, told = told_of("digits@1", capsys)
    finally:
        file.write_bytes(before)
    assert code == 3
    assert "was edited" in told


@pytest.mark.parametrize("asked", ["digits", "7f3a9c2e", "@1", "digits@", ""])
def test_what_is_neither_a_prediction_nor_a_version_is_told_what_is(store: Store, asked: str) -> None:
    with pytest.raises(UsageError, match=r"(digits@7|7f3a9c2e-12)"):
        why.run(SimpleNamespace(what=asked, json=False))  # type: ignore[arg-type]


def test_an_unknown_recipe_is_told_with_its_near_match(store: Store) -> None:
    with pytest.raises(UsageError, match="did you mean digits"):
        why.run(SimpleNamespace(what="digit@1", json=False))  # type: ignore[arg-type]


def test_the_module_of_predictions_is_light() -> None:
    heavy = "('numpy', 'pandas', 'pyarrow', 'mlflow')"
    script = f"import sys, aeops.predictions.prediction_store; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_file_of_a_call_is_the_one_its_ids_name(project: Project) -> None:
    first, second = (
        prediction_store.record_call(project, SCORER, channel="hand", names=["a"], samples=np.zeros((1, 2)), outputs=said(1))[0]
        for _ in range(2)
    )
    files = [prediction_store.find_prediction(project, asked).file for asked in (first, second)]
    assert files[0] != files[1]
    assert [file.stem for file in files] == [asked.partition("-")[0] for asked in (first, second)]
    assert file_sha256(files[0]) != file_sha256(files[1])
