"""A model of texts, served: by the app, as MLflow's model and its server, and to `ae score`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
from champion_helpers import make_champion
from data_project import Room, make_room
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from ae_models import tokens
from ae_models.fit import fit
from ae_models.spec import FitSpec
from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.cli import score
from aeops.errors import AeError, DataError, UsageError
from aeops.gate.rules import answer_example
from aeops.kinds.flags import list_flag_names
from aeops.kinds.samples import SampleSpec
from aeops.kinds.text import KIND, ROWS_AT_ONCE
from aeops.project import Project
from aeops.registry.logged_model_check import check_version
from aeops.registry.packing import save_model
from aeops.registry.store import open_store
from aeops.serving.app import detector_app

WORDS = ["a", "cat", "dog", "sees", "hears", "the", "bird", "often", "Ärger", "naïve"]
GIVEN = ["The cat sees a bird.", "naïve Ärger", "", "x" * 400]
TEXT_SPEC = SampleSpec((64,), (64,), 0, 255)
SPEC = {
    "input": {"kind": "text", "shape": [64]},
    "model": {
        "corrupt": {"kind": "word-deletion", "share": 0.3},
        "encode": {"kind": "tokens", "vocabulary": 300, "length": 12, "width": 16, "layers": 0, "pooling": "inverse-frequency"},
        "bottleneck": {"kind": "identity", "size": 8},
        "decode": {"kind": "tokens", "width": 16, "layers": 0},
        "compare": {"kind": "cross-entropy"},
    },
    "score": {"kind": "token-surprise"},
    "threshold": {"kind": "split-conformal", "false_alarm_rate": 0.05},
    "train": {"epochs": 2, "batch": 32, "threads": 1, "accelerator": "cpu"},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts, trained for two epochs."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    rows = tokens.texts_to_bytes([" ".join(rng.choice(WORDS, 6)) for _ in range(300)])
    rows = np.pad(rows, ((0, 0), (0, 64 - rows.shape[1])))
    places = {"checkpoints": folder / "checkpoints", "bundle": folder / "bundle", "history": folder / "history"}
    spec = FitSpec.from_dict(SPEC, "spec")
    fit(spec, rows[:160], rows[160:180], rows[180:], **places, content_sha256="d" * 64, recipe="texts", progress_bar=False)
    return folder / "bundle"


@pytest.fixture(scope="module")
def detector(bundle: Path) -> Detector:
    return Detector(bundle)


@pytest.fixture(scope="module")
def client(detector: Detector) -> TestClient:
    return TestClient(detector_app(detector, "texts", "3"))


# ---------------------------------------------------------------- the detector


def test_texts_of_many_blocks_are_scored_as_each_alone(detector: Detector) -> None:
    texts = [f"the {WORDS[i % 10]} number {i}" for i in range(ROWS_AT_ONCE + 7)]
    together = detector.score(texts, reconstruction=True, code=True)
    alone = [detector.score(text, reconstruction=True, code=True) for text in texts]
    for name in ("score", "code"):
        np.testing.assert_allclose(together[name], np.concatenate([said[name] for said in alone]), rtol=1e-4, atol=1e-5)
    assert together["reconstruction"].tolist() == [said["reconstruction"][0] for said in alone]
    assert detector.decode(together["code"]).tolist() == together["reconstruction"].tolist()


def test_strings_and_their_bytes_are_the_same_samples(detector: Detector) -> None:
    wanted = detector.score(GIVEN)["score"].tolist()
    for given in (tuple(GIVEN), np.array(GIVEN), np.array(GIVEN, dtype=object), tokens.texts_to_bytes(GIVEN)):
        assert detector.score(given)["score"].tolist() == wanted
    assert detector.score(np.array(GIVEN[0]))["score"].tolist() == wanted[:1]
    assert detector.score(tokens.texts_to_bytes(GIVEN[:1])[0])["score"].tolist() == wanted[:1]


@pytest.mark.parametrize("given", [None, 3, [3], ["a", None], [["a"]], {"a": 1}, np.zeros(3), [b"a"]])
def test_what_is_no_text_is_refused(detector: Detector, given: object) -> None:
    with pytest.raises(DataError, match="expected strings, or their bytes"):
        detector.score(given)


def test_no_texts_are_refused(detector: Detector) -> None:
    for given in ([], np.zeros((0, 5), np.uint8)):
        with pytest.raises(DataError, match="expected at least one sample"):
            detector.score(given)


@pytest.mark.parametrize("given", [np.array([[97, 0], [255, 254]], np.uint8), ["a", "\ud800"]])
def test_a_text_without_utf8_is_refused_and_the_other_is_scored(detector: Detector, given: Any) -> None:
    scored = detector.score(given, reconstruction=True, code=True)
    assert scored["score"][0] == detector.score("a")["score"][0]
    assert list_flag_names(scored["flags"]) == [(), ("unreadable", "refused")]
    assert np.isnan(scored["score"][1])
    assert scored["reconstruction"][1] == ""
    with pytest.raises(DataError, match="sample 0 holds no UTF-8, expected UTF-8: convert it, as with iconv"):
        detector.require_scored(scored["flags"][1:])


def test_the_gate_finds_that_it_answers(bundle: Path) -> None:
    assert answer_example(bundle) in ("answers", "needs torch to answer")  # this process has torch; the gate's has none


# ---------------------------------------------------------------- the app


def test_the_app_answers_texts(client: TestClient, detector: Detector) -> None:
    answer = client.post("/score", json={"inputs": GIVEN, "params": {"reconstruction": True, "code": True}})
    assert (answer.status_code, answer.json()) == (
        200,
        {"predictions": json.loads(json.dumps(to_answers(detector.score(GIVEN, reconstruction=True, code=True))))},
    )
    assert all(isinstance(said["reconstruction"], str) for said in answer.json()["predictions"])
    one = client.post("/invocations", json={"inputs": GIVEN[0]}).json()
    assert one["predictions"] == to_answers(detector.score(GIVEN[:1]))


@pytest.mark.parametrize("given", [None, 3, [3], ["a", 3], {"a": 1}, [["a"]], []])
def test_the_app_refuses_what_is_no_text_in_one_line(client: TestClient, given: object) -> None:
    answer = client.post("/score", json={"inputs": given})
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]


def test_the_app_says_that_it_takes_texts(client: TestClient) -> None:
    assert client.get("/model").json()["input"]["kind"] == "text"


# ---------------------------------------------------------------- MLflow


@pytest.fixture(scope="module")
def logged(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> mlflow.pyfunc.PyFuncModel:
    """The model as it is logged, loaded again."""
    folder = tmp_path_factory.mktemp("logged")
    project = Project(root=folder, home=folder / ".ae")
    save_model(folder / "model", project, "texts", bundle, run_id="r", model_id="m")
    return mlflow.pyfunc.load_model(str(folder / "model"))


@pytest.mark.slow
def test_the_logged_model_predicts_an_array_of_strings(logged: mlflow.pyfunc.PyFuncModel, detector: Detector) -> None:
    given = np.array(GIVEN)
    assert logged.predict(given) == to_answers(detector.score(GIVEN))
    assert logged.predict(given, params={"code": True}) == to_answers(detector.score(GIVEN, code=True))


@pytest.mark.parametrize("given", [np.zeros(3, np.float32), np.array([["a"]]), np.array(["a"], dtype=object), ["a"]])
def test_the_logged_models_signature_takes_nothing_else(logged: mlflow.pyfunc.PyFuncModel, given: object) -> None:
    with pytest.raises(MlflowException, match="Failed to enforce schema"):
        logged.predict(given)


def test_mlflows_server_answers_texts(logged: mlflow.pyfunc.PyFuncModel, detector: Detector) -> None:
    client = TestClient(scoring_server.init(logged))
    answer = client.post("/invocations", json={"inputs": GIVEN, "params": {"reconstruction": True}})
    assert (answer.status_code, answer.json()) == (200, {"predictions": to_answers(detector.score(GIVEN, reconstruction=True))})


# ---------------------------------------------------------------- files


def test_a_file_holds_a_text_a_line(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffÄrger \r\n\r\n  two\u2028parts\nlast".encode())
    samples = KIND.read_file(file, TEXT_SPEC)
    assert samples.names == ["lines.txt:1", "lines.txt:3", "lines.txt:4"]
    assert samples.values.tolist() == ["Ärger", "two\u2028parts", "last"]


def test_every_bad_file_of_texts_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"one\ntwo\n\xc4rger\n")
    (tmp_path / "image.png").write_bytes(b"")
    cases: list[tuple[str, type[AeError], str]] = [
        ("absent.txt", UsageError, "no file"),
        ("empty.txt", DataError, "holds no text"),
        ("latin.txt", DataError, "latin.txt, line 3: no UTF-8"),
        ("image.png", DataError, "this recipe takes texts"),
        ("", DataError, "got the folder"),
    ]
    for name, error, told in cases:
        with pytest.raises(error) as caught:
            KIND.read_file(tmp_path / name, TEXT_SPEC)
        assert told in str(caught.value)


@pytest.fixture(scope="module")
def room(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A project whose champion of the recipe `mine` takes texts."""
    made = make_room(tmp_path_factory.mktemp("room"), np.zeros((1, 1)), np.zeros(1))
    made.ask_for_texts(64, {"kind": "npy", "path": "texts.npy"})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
            patch.delenv(name, raising=False)
        store = open_store(made.project)
        run = store.start_run("mine", {}, {}, {"dataset": "mine", "content_sha256": "c" * 64})
        make_champion(store, "mine", store.register(run, "mine", bundle, {}, "# mine"))
    return made


@pytest.mark.long
def test_the_registered_model_is_tried_out_on_texts(room: Room) -> None:
    found = check_version(open_store(room.project), "mine", "1")
    assert (found.status, found.difference) == ("answers", pytest.approx(0, abs=1e-5))


@pytest.mark.slow
def test_ae_score_takes_a_file_of_texts(
    room: Room, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(room.root)
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "news.txt").write_text("\n".join(GIVEN), encoding="utf-8")
    score.run(
        SimpleNamespace(
            recipe="mine",
            file=tmp_path / "news.txt",
            version="champion",
            json=True,
            inbox=False,
            fdr=None,
            explain=False,
            on=None,
            shards=None,
        )
    )  # type: ignore[arg-type]
    told = json.loads(capsys.readouterr().out)["samples"]
    assert [row["sample"] for row in told] == ["news.txt:1", "news.txt:2", "news.txt:4"]
    assert [row["score"] for row in told] == detector.score([GIVEN[0], GIVEN[1], GIVEN[3]])["score"].tolist()
