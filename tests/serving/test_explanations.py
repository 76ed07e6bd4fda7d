"""Why a sample has its score: by the detector, by the service and by `ae score --explain`."""

import io
import json
from typing import Any

import numpy as np
import pytest
from explained_bundles import TRAIN, edges_bundle, image_bundle, images, series_bundle, text_bundle, windows
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from ruled_bundles import TRAINED, strokes

from aeops.bundle.detector import Detector, name_parts
from aeops.bundle.explanations import count_leading_parts, describe_explanation, short_part_name, to_json_values
from aeops.cli.score import FileResult, print_table
from aeops.kinds.arrays import explain_residual
from aeops.kinds.results import Explanation
from aeops.kinds.samples import FileSamples
from aeops.serving.app import detector_app

NPY = "application/x-npy"
TEXTS = ["the cat sees a dog", "a bird often hears the cat", "qqq"]


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Detector]:
    folder = tmp_path_factory.mktemp("explained")
    makers = {"image": image_bundle, "series": series_bundle, "edges": edges_bundle, "text": text_bundle}
    return {name: Detector(make(folder / name)) for name, make in makers.items()}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """Refuses samples with missing values."""
    return Detector(image_bundle(tmp_path_factory.mktemp("refusing"), missing="refuse"))


def explained(detector: Detector, samples: Any) -> list[Explanation]:
    checked = detector.check(samples)
    return detector.explain(checked.model_input, detector.score_checked(checked, explanation=True))


# ---------------------------------------------------------------- the detector


@pytest.mark.slow
def test_the_parts_are_ranked_and_their_mean_is_the_score(detectors: dict[str, Detector]) -> None:
    samples = images(130)[120:]
    scores = detectors["image"].score(samples)["score"]
    for explanation, expected in zip(explained(detectors["image"], samples), scores, strict=True):
        values = [part["value"] for part in explanation["parts"]]
        assert values == sorted(values, reverse=True)
        assert np.mean(values) == pytest.approx(expected, abs=1e-4)
        names = {part["score"] for part in explanation["parts"]}
        assert names == {"normalised-residual", "local-hull", "knn (input)", "knn (code)"}


def test_the_nearest_normal_sample_is_a_training_sample(detectors: dict[str, Detector]) -> None:
    train = images(TRAIN)
    bright = images(130)[120:].clip(0, 190)
    for explanation, sample in zip(explained(detectors["image"], bright), bright, strict=True):
        distances = ((train / 255.0 - sample / 255.0) ** 2).sum((1, 2, 3))
        np.testing.assert_array_equal(explanation["nearest"]["sample"], train[distances.argmin()])


def test_the_columns_of_an_explanation_come_with_the_scores(detectors: dict[str, Detector]) -> None:
    samples = images(70)
    outputs = detectors["image"].score(samples, explanation=True)
    np.testing.assert_allclose(outputs["part_scores"].mean(1), outputs["score"], atol=1e-4)
    assert outputs["nearest"][:TRAIN].tolist() == list(range(TRAIN))
    assert "reconstruction" not in outputs
    assert detectors["text"].score(TEXTS, explanation=True)["token_surprise"].shape == (3, 12)


def test_two_channels_have_a_share_each_and_steps_are_ranked(detectors: dict[str, Detector]) -> None:
    [explanation] = explained(detectors["series"], windows(3)[:1])
    residual = np.asarray(explanation["residual"], np.float64)
    by_channel = residual.sum(1) / residual.sum()
    ranked = [(entry["channel"], entry["share"]) for entry in explanation["channels"]]
    assert [channel for channel, _ in ranked] == np.argsort(-by_channel).tolist()
    assert [share for _, share in ranked] == pytest.approx(np.sort(by_channel)[::-1].tolist())
    by_step = residual.sum(0) / residual.sum()
    assert [entry["step"] for entry in explanation["steps"]] == np.argsort(-by_step, kind="stable")[:10].tolist()
    assert explanation["steps"][0]["share"] == pytest.approx(by_step.max())


def test_an_image_of_one_channel_has_neither_channels_nor_steps() -> None:
    assert {"channels", "steps"}.isdisjoint(explain_residual(np.ones((1, 4, 4))))
    colours = np.zeros((3, 4, 4))
    colours[1, 0, 0], colours[2, 3, 3] = 3, 1
    shares = [(entry["channel"], entry["share"]) for entry in explain_residual(colours)["channels"]]
    assert shares == [(1, 0.75), (2, 0.25), (0, 0.0)]


def test_the_surprise_of_a_texts_tokens_is_its_score(detectors: dict[str, Detector]) -> None:
    detector = detectors["text"]
    outputs = detector.score(TEXTS, explanation=True)
    surprise = outputs["token_surprise"]
    is_own = detector.check(TEXTS).model_input != 0  # the end of the text among them
    assert (surprise[~is_own] == 0).all()
    facts = detector.bundle["score_facts"]["parts"][0]
    standardised = (surprise.sum(1) / is_own.sum(1) - facts["median"]) / facts["spread"]
    np.testing.assert_allclose(outputs["part_scores"][:, 0], standardised, atol=1e-2)
    [explanation, *_] = explained(detector, TEXTS)
    assert [token["given"].strip() for token in explanation["surprise"]] == TEXTS[0].split()
    assert [token["surprise"] for token in explanation["surprise"]] == pytest.approx(surprise[0, :5].tolist(), abs=1e-4)
    assert isinstance(explanation["nearest"]["sample"], str)


def test_what_cannot_be_compared_has_its_nearest_sample_alone(detectors: dict[str, Detector]) -> None:
    photograph = np.concatenate([images(TRAIN)[7:8]] * 3, axis=1)
    [explanation] = explained(detectors["edges"], photograph)
    assert set(explanation) == {"outside", "excess", "missing", "nearest"}
    assert explanation["nearest"]["row"] == 7
    np.testing.assert_array_equal(explanation["nearest"]["sample"], photograph[0])
    assert describe_explanation(explanation) == "nearest normal sample: row 7"


def test_a_refused_sample_has_no_explanation_and_its_neighbours_have(refusing: Detector) -> None:
    samples = images(3).astype(np.float32)
    samples[1, 0, 2, 2] = np.nan
    explanations = explained(refusing, samples)
    assert explanations[1] == {}
    assert describe_explanation(explanations[1]) == ""
    assert [explanation["nearest"]["row"] for explanation in (explanations[0], explanations[2])] == [0, 2]


def test_a_missing_and_an_infinite_value_are_said_and_break_nothing(detectors: dict[str, Detector]) -> None:
    samples = images(2).astype(np.float32)
    samples[0, 0, 2, 2], samples[1, 0, 0, 0] = np.nan, np.inf
    first, second = map(describe_explanation, explained(detectors["image"], samples))
    assert "1 value missing; rows" in first
    assert "1 value outside the range; rows 0-1, columns 0-1: 100 % of the error" in second


def test_a_bundle_of_an_older_format_explains_what_it_can() -> None:
    detector = Detector(TRAINED)
    [explanation] = explained(detector, strokes(1))
    assert {"parts", "nearest"}.isdisjoint(explanation)
    assert (detector.part_names, detector.has_bank) == ([], False)
    assert describe_explanation(explanation).startswith("rows ")


def test_parts_of_one_kind_are_named_by_their_settings() -> None:
    knn = {"kind": "knn", "space": "input", "blur": 0.5, "neighbours": 5}
    assert name_parts([knn, {"kind": "local-hull"}]) == ["knn", "local-hull"]
    assert name_parts([knn, knn | {"space": "code", "blur": 0.0}]) == ["knn (input)", "knn (code)"]
    assert name_parts([knn, knn | {"blur": 1.0}]) == ["knn (blur 0.5)", "knn (blur 1.0)"]
    several = [knn, knn | {"space": "code"}, knn | {"neighbours": 2}]
    assert name_parts(several) == ["knn (input, neighbours 5)", "knn (code, neighbours 5)", "knn (input, neighbours 2)"]


# ---------------------------------------------------------------- in words


def test_a_sentence_says_what_spoke_and_where() -> None:
    explanation: Explanation = {
        "parts": [{"score": "local-hull", "value": 5.24}, {"score": "normalised-residual", "value": -0.3}],
        "total": 2.0,
        "areas": [
            {"from": [0, 0], "to": [7, 7], "share": 0.2},
            {"from": [7, 21], "to": [14, 28], "share": 0.344},
        ],
        "channels": [{"channel": 2, "share": 0.81}, {"channel": 0, "share": 0.19}],
        "outside": 1200,
        "missing": 0,
        "nearest": {"row": 12, "sample": np.zeros((1, 28, 28))},
    }
    assert describe_explanation(explanation) == (
        "local-hull +5.2, residual -0.3; 1,200 values outside the range; rows 7-13, columns 21-27: 34 % of the error; "
        "channel 2: 81 %; nearest normal sample: row 12"
    )
    assert describe_explanation({"total": 0.0, "areas": []}) == ""


def test_a_sentence_says_where_the_patches_are_farthest_from_normal() -> None:
    pixel_map = np.zeros((4, 5))
    pixel_map[3, 1] = 2
    for values in (pixel_map, pixel_map.tolist()):
        assert describe_explanation({"pixel_map": values}) == "farthest from normal at row 3, column 1"
    assert to_json_values({"pixel_map": pixel_map})["pixel_map"] == pixel_map.tolist()


def test_a_sentence_about_a_text_quotes_its_tokens() -> None:
    explanation: Explanation = {
        "tokens": 4,
        "wrong": [{"place": 1, "given": " cat", "made": " dog"}],
        "surprise": [
            {"place": 0, "given": "a", "surprise": 0.1},
            {"place": 1, "given": " cat", "surprise": 7.5},
            {"place": 2, "given": " sees", "surprise": 3.0},
        ],
    }
    assert describe_explanation(explanation) == "1 of 4 tokens wrong: 'cat' read as 'dog'; least expected: 'cat', 'sees', 'a'"


def test_a_token_that_the_model_reads_as_the_end_of_the_text_is_nothing() -> None:
    explanation: Explanation = {"tokens": 2, "share": 0.5, "wrong": [{"place": 1, "given": " cat", "made": ""}]}
    assert describe_explanation(explanation) == "1 of 2 tokens wrong: 'cat' read as nothing"


def test_each_part_is_counted_where_it_says_most() -> None:
    part_scores = np.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.5, 0.4]])
    assert count_leading_parts(["a", "b", "c"], part_scores) == {"a": 1, "b": 2, "c": 0}
    assert short_part_name("normalised-residual") == "residual"
    assert short_part_name("knn (code)") == "knn of codes"


# ---------------------------------------------------------------- the service


def post(detector: Detector, inputs: Any, **params: bool) -> list[dict[str, Any]]:
    client = TestClient(detector_app(detector, "small", "7"))
    response = client.post("/explain", json={"inputs": inputs, "params": params})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    schemas = client.get("/openapi.json").json()["paths"]["/explain"]["post"]["responses"]["200"]["content"]
    Draft202012Validator(schemas["application/json"]["schema"]).validate(content)
    predictions: list[dict[str, Any]] = content["predictions"]
    return predictions


@pytest.mark.parametrize("kind", ["image", "series", "edges", "text"])
def test_the_service_says_what_the_detector_does(detectors: dict[str, Detector], kind: str) -> None:
    detector = detectors[kind]
    samples: Any = {
        "image": images(3),
        "series": windows(3),
        "edges": np.concatenate([images(3)] * 3, axis=1),
        "text": TEXTS,
    }[kind]
    inputs = samples if kind == "text" else samples.tolist()
    for prediction, explanation in zip(post(detector, inputs), explained(detector, samples), strict=True):
        assert set(explanation) == set(prediction) - {"score", "p_value", "is_anomaly", "flags"}
        assert describe_explanation(prediction) == describe_explanation(explanation)  # type: ignore[arg-type]


def test_the_service_returns_the_reconstruction_too_where_it_is_asked_for(detectors: dict[str, Detector]) -> None:
    expected = detectors["image"].score(images(1), reconstruction=True, code=True)
    [prediction] = post(detectors["image"], images(1).tolist(), reconstruction=True, code=True)
    np.testing.assert_allclose(prediction["reconstruction"], expected["reconstruction"][0], rtol=1e-4)
    np.testing.assert_allclose(prediction["code"], expected["code"][0], rtol=1e-4, atol=1e-5)
    [prediction] = post(detectors["text"], TEXTS[:1], reconstruction=True)
    assert prediction["reconstruction"] == detectors["text"].score(TEXTS[0], reconstruction=True)["reconstruction"][0]


def test_the_service_explains_the_others_of_a_refused_sample(refusing: Detector) -> None:
    inputs: list[Any] = images(3).tolist()
    inputs[1][0][0][0] = None
    first, refused, last = post(refusing, inputs)
    assert refused == {"score": None, "p_value": None, "is_anomaly": None, "flags": ["missing", "refused"]}
    assert [prediction["nearest"]["row"] for prediction in (first, last)] == [0, 2]


def test_explanations_are_json_whatever_is_accepted(detectors: dict[str, Detector]) -> None:
    client = TestClient(detector_app(detectors["image"], "small", "7"))
    stream = io.BytesIO()
    np.save(stream, images(1))
    response = client.post("/explain", content=stream.getvalue(), headers={"content-type": NPY, "accept": NPY})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")


# ---------------------------------------------------------------- ae score


def result_of(detector: Detector, samples: np.ndarray) -> FileResult:
    """What `ae score --explain` has of the samples of a file, once they are recorded."""
    checked = detector.check(samples)
    names = [f"batch.npy[{row}]" for row in range(len(samples))]
    scores = detector.score_checked(checked, code=True, explanation=True)
    ids = [f"0123abcd-{row}" for row in range(len(samples))]
    return FileResult("digits", "1", detector, FileSamples(names, samples), scores, ids, checked=checked)


def test_ae_score_explains_in_a_line_and_in_json(
    refusing: Detector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    samples = images(4).astype(np.float32)
    samples[2, 0, 0, 0] = np.nan
    result = result_of(refusing, samples)
    reasons = list(map(describe_explanation, explained(refusing, samples)))
    print_table(result)
    lines = capsys.readouterr().out.splitlines()
    for row, reason in enumerate(reasons):
        [line] = [line for line in lines if f"batch.npy[{row}]" in line]
        assert reason in line
    assert any("1 one spread above it" in line for line in lines)
    rows = json.loads(result.to_json())["samples"]
    assert [row["why"] for row in rows] == reasons
    assert np.shape(rows[0]["residual"]) == np.shape(rows[0]["nearest"]["sample"]) == (1, 8, 8)
    assert rows[2].keys() == {"id", "sample", "score", "p_value", "is_anomaly", "flags", "why"}


def test_texts_are_explained_in_json(detectors: dict[str, Detector]) -> None:
    [row, *_] = json.loads(result_of(detectors["text"], np.array(TEXTS, dtype=object)).to_json())["samples"]
    assert "least expected: " in row["why"]
    assert isinstance(row["nearest"]["sample"], str)


def test_of_many_samples_the_highest_scores_are_explained(
    refusing: Detector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    samples = np.concatenate([images(50), np.full((1, 1, 8, 8), 250, np.uint8)])
    print_table(result_of(refusing, samples))
    [line] = [line for line in capsys.readouterr().out.splitlines() if "batch.npy[50]" in line]
    assert describe_explanation(explained(refusing, samples)[-1]) in line
