"""Samples that are unlike those of the training: flagged with their reason, by every way in, and in nobody else's way."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from champion_helpers import project_with_champion
from fastapi.testclient import TestClient
from ruled_bundles import EXPECTED, TRAINED, ruled_bundle, strokes
from small_bundles import small_bundle, text_bundle

from ae_models.spec import MISSING_RULES, SampleRules
from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.cli import score
from aeops.errors import AeError, DataError
from aeops.kinds.arrays import flag_values
from aeops.kinds.flags import flag_names, list_flag_names
from aeops.kinds.interface import load_kind
from aeops.kinds.samples import SampleSpec
from aeops.kinds.text import flag_texts
from aeops.predictions import prediction_store
from aeops.predictions.rows import scorer_of
from aeops.project import Project
from aeops.provenance.why import why_prediction
from aeops.recipe.reader import load_recipe, read_recipe
from aeops.registry.store import open_store
from aeops.scoring.inbox_run import score_inbox
from aeops.serving.app import detector_app
from aeops.serving.served_version import ServedVersion
from aeops.serving.shadow import AnsweredBatch, ShadowTrial
from aeops.stages.calibrate import served_rules

REPOSITORY = Path(__file__).parents[2]
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Detector]:
    """One for each rule for missing values."""
    folder = tmp_path_factory.mktemp("ruled")
    return {rule: Detector(ruled_bundle(folder / rule, rule)) for rule in MISSING_RULES}


@pytest.fixture
def batch() -> np.ndarray:
    """Seven samples: normal, out of range, missing, all black, too bright, all of them infinite, normal."""
    samples = strokes(7).astype(np.float32)
    samples[1, 0, 0, 7] = 300
    samples[2, 0, 3, 3] = np.nan
    samples[3] = 0
    samples[4] = np.linspace(180, 255, 64).reshape(1, 8, 8)
    samples[5] = np.inf
    return samples


FLAGS = [(), ("out_of_range",), ("missing",), ("blank", "mean", "std"), ("mean",), ("out_of_range", "blank", "mean", "std"), ()]


def flags_of(scored: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    return list_flag_names(scored["flags"])


# ---------------------------------------------------------------- the detector


def test_each_sample_is_flagged_with_its_reason_and_is_an_anomaly(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    scored = detectors["flag"].score(batch)
    found = flags_of(scored)
    assert found[:5] == FLAGS[:5]
    assert set(found[5]) >= {"out_of_range", "mean", "std"}
    assert scored["is_anomaly"][1:6].all()
    assert np.isfinite(scored["score"]).all()


def test_flags_change_no_score_of_a_sample_inside(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    scored = detectors["flag"].score(batch)
    [graph] = detectors["flag"]._score_network.run(["score", "p_value"], {"input": batch})
    for name, values in zip(("score", "p_value"), graph, strict=True):
        np.testing.assert_array_equal(scored[name], values)
    black = detectors["flag"].score(np.zeros((1, 1, 8, 8), np.uint8))
    assert (flags_of(black), black["is_anomaly"].tolist()) == ([("blank", "mean", "std")], [True])


def test_a_bad_sample_changes_nothing_of_the_others(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    for detector in detectors.values():
        alone, among = detector.score(strokes(7)), detector.score(batch)
        for name in ("score", "p_value", "is_anomaly", "flags"):
            np.testing.assert_array_equal(alone[name][[0, 6]], among[name][[0, 6]])


def test_missing_values_are_answered_by_the_rule(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    answers = {rule: to_answers(detector.score(batch, code=True))[2] for rule, detector in detectors.items()}
    assert answers["flag"]["is_anomaly"] is True
    assert answers["flag"]["flags"] == answers["impute"]["flags"] == ["missing"]
    assert answers["refuse"] == {**dict.fromkeys(("score", "p_value", "is_anomaly", "code")), "flags": ["missing", "refused"]}
    assert answers["impute"]["score"] < answers["flag"]["score"]


def test_a_bundle_of_an_older_format_refuses_the_bad_sample_alone(tmp_path: Path) -> None:
    detector = Detector(small_bundle(tmp_path / "bundle"))
    samples = np.full((3, 1, 4, 4), 100, np.float32)
    samples[1, 0, 0, 0] = np.nan
    samples[2, 0, 0, 0] = 256
    scored = detector.score(samples, reconstruction=True)
    assert flags_of(scored) == [(), ("missing", "refused"), ("out_of_range", "refused")]
    assert scored["score"][0] == detector.score(samples[0])["score"][0]
    assert np.isnan(scored["score"][1:]).all()
    assert samples[1, 0, 0, 1] == 100  # the client's own memory is left alone
    with pytest.raises(DataError, match=r"sample 0 holds missing values, .* from 0 to 255: this bundle is of an older"):
        detector.require_scored(detector.check(samples[1:]).flags)


def test_bytes_can_be_blank_and_are_out_of_range_only_where_the_range_is_smaller() -> None:
    rules = SampleRules("flag", EXPECTED)
    images = np.array([0, 200, 17], np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    for high, expected in ((255, [False, False, False]), (16, [False, True, True])):
        spec = SampleSpec((1, 4, 4), (1, 4, 4), 0, high, rules=rules)
        names = [flag_names(flags) for flags in flag_values(images, images.astype(np.float32), spec).tolist()]
        assert ["out_of_range" in found for found in names] == expected
        assert all("blank" in found for found in names)


def test_texts_are_judged_as_a_dataset_would_hold_them() -> None:
    rules = SampleRules("flag", {"blank": (0, 0), "characters": (2, 10), "letters": (0.5, 1)})
    spec = SampleSpec((8,), (8,), 0, 255, (10,), rules)
    texts = np.array(["a text", "   ", "x", "1234567", "a long one that is cut at ten bytes"], dtype=object)
    found = [set(flag_names(flags)) for flags in flag_texts(texts, spec).tolist()]
    assert found == [set(), {"blank", "letters"}, {"characters"}, {"letters"}, set()]


def test_an_explanation_holds_the_excess_and_its_place(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    detector = detectors["flag"]
    checked = detector.check(batch)
    outputs = detector.score_checked(checked, explanation=True)
    explained = detector.explain(checked.model_input, outputs)
    assert [(explanation["outside"], explanation["missing"]) for explanation in explained[:3]] == [(0, 0), (1, 0), (0, 1)]
    assert explained[1]["excess"] == pytest.approx(45 / 255)
    assert explained[1]["worst"][0]["at"] == [0, 0, 7]
    assert explained[5]["outside"] == 64
    assert all(np.isfinite(explanation["residual"]).all() and np.isfinite(explanation["total"]) for explanation in explained)


# ---------------------------------------------------------------- the service


def posted(client: TestClient, path: str, samples: np.ndarray, **headers: str) -> Any:
    stream = io.BytesIO()
    np.save(stream, samples)
    return client.post(path, content=stream.getvalue(), headers={"content-type": NPY, **headers})


def test_the_service_answers_every_sample_in_every_format(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    client = TestClient(detector_app(detectors["refuse"], "small", "7"))
    answer = posted(client, "/score", batch)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    assert [tuple(row["flags"]) for row in rows[:5]] == [*FLAGS[:2], ("missing", "refused"), *FLAGS[3:5]]
    assert (rows[2]["score"], rows[2]["p_value"], rows[2]["is_anomaly"]) == (None, None, None)
    assert [row["is_anomaly"] for row in rows[3:6]] == [True, True, True]
    table = np.load(io.BytesIO(posted(client, "/score", batch, accept=NPY).content))
    assert table["flags"].tolist()[:3] == ["", "out_of_range", "missing,refused"]
    stream = "application/vnd.apache.arrow.stream"
    columns = pa.ipc.open_stream(posted(client, "/score", batch, accept=stream).content).read_all()
    assert columns["flags"].to_pylist()[:3] == ["", "out_of_range", "missing,refused"]
    for path in ("/explain", "/embed", "/reconstruct", "/invocations"):
        assert posted(client, path, batch).status_code == 200, path
    counted = client.get("/metrics").text
    assert 'ae_data_flags_total{flag="blank"}' in counted
    assert client.get("/model").json()["rules"]["missing"] == "refuse"


def test_a_request_of_refused_samples_alone_is_an_error(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    client = TestClient(detector_app(detectors["refuse"], "small", "7"))
    answer = posted(client, "/score", batch[2:3])
    assert answer.status_code == 422
    assert answer.json() == {"error": "sample 0 holds missing values, expected values from 0 to 255"}


def test_null_is_a_missing_value_in_json_and_huge_numbers_are_out_of_range(detectors: dict[str, Detector]) -> None:
    client = TestClient(detector_app(detectors["flag"], "small", "7"))
    samples: list[Any] = strokes(3).tolist()
    samples[0][0][0][0] = None
    samples[1][0][0][0] = 2**64 - 1
    samples[2][0][0][0] = 1e308
    answer = client.post("/score", json={"inputs": samples})
    assert answer.status_code == 200, answer.text
    assert [row["flags"][0] for row in answer.json()["predictions"]] == ["missing", "out_of_range", "out_of_range"]


def test_null_in_an_arrow_column_is_a_missing_value(detectors: dict[str, Detector]) -> None:
    client = TestClient(detector_app(detectors["flag"], "small", "7"))
    for dtype in (pa.float32(), pa.uint8()):
        values = pa.array([None, *strokes(2).ravel().tolist()[1:]], dtype)
        batch = pa.record_batch([pa.FixedSizeListArray.from_arrays(values, 64)], names=["sample"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        headers = {"content-type": "application/vnd.apache.arrow.stream"}
        answer = client.post("/score", content=bytes(sink.getvalue()), headers=headers)
        assert answer.status_code == 200, answer.text
        assert [row["flags"] for row in answer.json()["predictions"]] == [["missing"], []]


def test_what_is_recorded_of_whole_numbers_out_of_range_is_what_was_sent() -> None:
    spec = SampleSpec((1, 1, 2), (1, 1, 2), 0, 255)
    for values, expected in ([256, 1], np.float32), ([-1, 1], np.float32), ([255, 1], np.uint8):
        stored = load_kind("image").stored_form(np.array([[[values]]]), spec, is_json=True)
        assert (stored.dtype, stored.ravel().tolist()) == (expected, values)
    small = SampleSpec((1, 1, 2), (1, 1, 2), 0, 16)
    assert load_kind("image").stored_form(np.array([[[1, 2]]], np.uint8), small, is_json=True).dtype == np.float32


def test_a_text_without_utf8_is_recorded(tmp_path: Path) -> None:
    detector = Detector(text_bundle(tmp_path / "texts"))
    texts = np.array(["a b", "\ud800"], dtype=object)
    project = Project(tmp_path, tmp_path / ".ae")
    scorer, outputs = scorer_of("texts", "1", detector), detector.score(texts, code=True)
    ids = prediction_store.record_call(project, scorer, channel="hand", names=["a", "b"], samples=texts, outputs=outputs)
    assert [prediction_store.find_prediction(project, name).flags for name in ids] == [[], ["unreadable", "refused"]]


# ---------------------------------------------------------------- ae score, the inbox, ae why, the logged model


@pytest.fixture(scope="module")
def project(detectors: dict[str, Detector], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose champion refuses samples with missing values."""
    project, _, _ = project_with_champion(tmp_path_factory.mktemp("project"), detectors["refuse"].folder)
    return project


@pytest.fixture
def in_project(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("MLFLOW_TRACKING_URI", "AE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return project


@pytest.mark.slow
def test_ae_score_answers_every_sample_and_says_what_is_wrong_with_it(
    in_project: Project, batch: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "batch.npy", batch)
    arguments = {
        "recipe": "digits",
        "file": tmp_path / "batch.npy",
        "version": "champion",
        "inbox": False,
        "fdr": None,
        "explain": False,
        "on": None,
        "shards": None,
    }
    score.run(SimpleNamespace(**arguments, json=True))  # type: ignore[arg-type]
    rows = json.loads(capsys.readouterr().out)["samples"]
    assert [tuple(row["flags"]) for row in rows[:4]] == [(), ("out_of_range",), ("missing", "refused"), ("blank", "mean", "std")]
    assert rows[2]["score"] is None
    score.run(SimpleNamespace(**arguments, json=False))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "refused: missing values" in printed
    assert "yes: values outside the range" in printed
    assert "1 sample refused" in printed
    store = open_store(in_project)
    links = [why_prediction(in_project, store, rows[row]["id"])[0].message for row in (1, 2)]
    assert "flagged (values outside the range)" in links[0]
    assert "refused (missing values)" in links[1]
    np.save(tmp_path / "batch.npy", batch[2])
    with pytest.raises(DataError, match="sample 0 holds missing values"):
        score.run(SimpleNamespace(**arguments, json=True))  # type: ignore[arg-type]


def test_the_inbox_takes_a_file_with_bad_samples_and_refuses_one_of_nothing_else(
    in_project: Project, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aeops.scoring.inbox.QUIET_SECONDS", 0)
    inbox = in_project.home / "inbox" / "digits"
    inbox.mkdir(parents=True)
    np.save(inbox / "mixed.npy", batch)
    np.save(inbox / "missing.npy", np.full((2, 1, 8, 8), np.nan, np.float32))
    summary = score_inbox(in_project, load_recipe(in_project, "digits", with_keys=True))
    [taken], [refused] = summary["files"]["taken"], summary["files"]["refused"]
    assert (taken["name"], taken["samples"], taken["unscored"]) == ("mixed.npy", 7, 1)
    assert (refused["name"], refused["reason"].startswith("sample 0 holds missing values")) == ("missing.npy", True)
    assert summary["says"].startswith(f"6 samples of 1 file scored, {taken['flagged']} flagged, 1 refused")
    assert "values outside" not in summary["says"]
    page = Path(str(summary["page"])).read_text(encoding="utf-8")
    assert "out_of_range" in page
    table = prediction_store.read_predictions(in_project, "digits", channels=["batch"])
    assert table["flags"].to_pylist()[:4] == [[], ["out_of_range"], ["missing", "refused"], ["blank", "mean", "std"]]
    for name in ("score", "p_value", "code"):
        assert [value is None for value in table[name].to_pylist()] == [row == 2 for row in range(7)]
    assert all(abs(mean) < 1e7 for mean in table["mean"].to_pylist())


def test_the_logged_model_answers_as_the_service_does(detectors: dict[str, Detector], batch: np.ndarray, tmp_path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException

    from aeops.registry.packing import save_model

    bundle = detectors["refuse"].folder
    save_model(tmp_path / "model", Project(tmp_path, tmp_path / ".ae"), "small", bundle, run_id="r", model_id="m")
    model = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert model.predict(batch) == to_answers(detectors["refuse"].score(batch))
    assert model.metadata.signature.outputs.input_names() == ["score", "p_value", "is_anomaly", "flags"]
    with pytest.raises(MlflowException, match="missing values"):
        model.predict(batch[2:3])


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("digits", {"blank": (0, 0), "mean": (0.01, 0.6), "std": (0.05, 0.6)}),
        ("mnist-denoise", {"blank": (0, 0)}),  # it is served corrupted images, and the bounds are of clean ones
        ("news-text", {"blank": (0, 0), "characters": (8, 256), "letters": (0.4, 1)}),
    ],
)
def test_the_rules_of_a_bundle_are_the_bounds_of_its_recipe(recipe: str, expected: dict[str, tuple[float, float]]) -> None:
    rules = served_rules(read_recipe(REPOSITORY / "recipes" / f"{recipe}.yaml"))
    assert rules == SampleRules("flag", expected)
    assert SampleRules.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules


def test_a_recipe_names_its_rule_for_missing_values_and_no_other(tmp_path: Path) -> None:
    text = (REPOSITORY / "recipes" / "digits.yaml").read_text(encoding="utf-8")
    file = tmp_path / "digits.yaml"
    file.write_text(text.replace("mean_drift: 0.02", "mean_drift: 0.02\n  missing: impute\n  blank: accept"), encoding="utf-8")
    assert served_rules(read_recipe(file)) == SampleRules("impute", {"mean": (0.01, 0.6), "std": (0.05, 0.6)})
    file.write_text(text.replace("mean_drift: 0.02", "mean_drift: 0.02\n  missing: drop"), encoding="utf-8")
    with pytest.raises(AeError, match=r"missing.*flag.*refuse.*impute.*drop"):
        read_recipe(file)


def test_a_new_champion_that_refuses_a_sample_is_not_broken(detectors: dict[str, Detector], batch: np.ndarray) -> None:
    new, old = (ServedVersion("small", number, detectors[rule]) for number, rule in (("2", "refuse"), ("1", "flag")))
    trial = ShadowTrial(new, old)
    flagged = old.detector.score(batch)["is_anomaly"]
    assert trial._score_batch(AnsweredBatch(batch, 1, flagged, 0.1)) is None
    assert (trial.counts.samples, trial.counts.disagreements) == (7, 1)


def test_the_fixture_of_the_format_has_rules() -> None:
    assert Detector(TRAINED).spec.rules == SampleRules("flag", EXPECTED)
