"""A model of tables, served by the names of its columns: by the app, as MLflow's model and its server, and from files."""

import io
import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow_evaluation import auroc_by_mlflow
from wine_table import SECTIONS, fit_wines, wine_rows, wines

from ae_models.errors import SampleError
from ae_models.fit import fit
from ae_models.spec import FitSpec, SampleRules
from aeops.bundle.answer_check import check_example
from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.bundle.explanations import describe_explanation
from aeops.errors import AeError, DataError, UsageError
from aeops.kinds.flags import list_flag_names
from aeops.kinds.samples import FitOptions, SampleSpec
from aeops.kinds.table import KIND
from aeops.project import Project
from aeops.registry.packing import save_model
from aeops.serving import arrow
from aeops.serving.app import detector_app
from aeops.serving.request_bodies import CSV_TYPE, PARQUET_TYPE

ROWS = 5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_wines(tmp_path_factory.mktemp("wine"), unknown="refuse", infinite="impute", missing="impute")


@pytest.fixture(scope="module")
def detector(bundle: Path) -> Detector:
    return Detector(bundle)


@pytest.fixture(scope="module")
def client(detector: Detector) -> TestClient:
    return TestClient(detector_app(detector, "wine", "3"))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return wines()[:ROWS]


def objects(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as a client's JSON has them."""
    return json.loads(frame.assign(bottled=frame["bottled"].dt.strftime("%Y-%m-%d")).to_json(orient="records"))


def arrow_stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


# ---------------------------------------------------------------- by name, in each form


@pytest.mark.slow
def test_rows_have_one_score_in_whatever_form_they_come(client: TestClient, detector: Detector, frame: pd.DataFrame) -> None:
    expected = to_answers(detector.score(wine_rows()[:ROWS]))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    bodies = {
        "application/json": json.dumps({"inputs": objects(frame)}).encode(),
        CSV_TYPE: frame.to_csv(index=False).encode(),
        PARQUET_TYPE: parquet_bytes(table),
        arrow.MEDIA_TYPE: arrow_stream(table),
    }
    for media_type, body in bodies.items():
        answer = client.post("/score", content=body, headers={"content-type": media_type})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected, media_type
    assert to_answers(detector.score(frame)) == expected


def test_order_and_further_columns_do_not_matter(client: TestClient, frame: pd.DataFrame) -> None:
    rows = objects(frame)
    turned = [{"note": "x", **dict(reversed(row.items()))} for row in rows]
    expected = client.post("/score", json={"inputs": rows}).json()["predictions"]
    assert client.post("/score", json={"inputs": turned}).json()["predictions"] == expected
    assert client.post("/score", json={"inputs": turned[0]}).json()["predictions"] == expected[:1]


def test_a_key_that_some_rows_lack_is_a_missing_value(client: TestClient, frame: pd.DataFrame) -> None:
    rows = objects(frame)
    with_null = [{**rows[0], "hue": None}, rows[1]]
    without_key = [{name: value for name, value in rows[0].items() if name != "hue"}, rows[1]]
    expected = client.post("/score", json={"inputs": with_null}).json()["predictions"]
    assert client.post("/score", json={"inputs": without_key}).json()["predictions"] == expected
    assert expected[0]["flags"] == []


BAD = {
    "a missing column": (lambda row: {name: row[name] for name in row if name != "proline"}, "with the column proline"),
    "a renamed column": (lambda row: {**{n: row[n] for n in row if n != "proline"}, "prolin": 3}, "did you mean prolin?"),
    "a text for a number": (lambda row: {**row, "alcohol": "13.1"}, "row 0, column alcohol: expected a number, got '13.1'"),
    "a fraction for a whole number": (lambda row: {**row, "proline": 3.5}, "column proline: expected a whole number, got 3.5"),
    "a number for a category": (lambda row: {**row, "cultivar": 3}, "column cultivar: expected a text of up to 64 bytes, got 3"),
    "a list for a boolean": (lambda row: {**row, "is strong": [1]}, "column is strong: expected true or false"),
    "a word for a date": (lambda row: {**row, "bottled": "tomorrow"}, "column bottled: expected a date such as"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_app_refuses_what_is_no_such_row_and_names_the_cell(client: TestClient, frame: pd.DataFrame, name: str) -> None:
    change, message = BAD[name]
    answer = client.post("/score", json={"inputs": [change(objects(frame)[0])]})
    assert answer.status_code == 422
    assert message in answer.json()["error"]


@pytest.mark.parametrize("given", [None, 3, [3], [[1, 2, 3, 4, 5, 6]], ["a"], [], {}])
def test_the_app_refuses_what_is_no_object(client: TestClient, given: object) -> None:
    answer = client.post("/score", json={"inputs": given})
    assert answer.status_code == 422
    assert "expected" in answer.json()["error"]


def test_bodies_of_other_types_are_refused(client: TestClient) -> None:
    buffer = io.BytesIO()
    np.save(buffer, wine_rows()[:2])
    answer = client.post("/score", content=buffer.getvalue(), headers={"content-type": "application/x-npy"})
    assert answer.status_code == 415
    for media_type in (CSV_TYPE, PARQUET_TYPE, arrow.MEDIA_TYPE):
        answer = client.post("/score", content=b"\x00PAR1 no such thing", headers={"content-type": media_type})
        assert answer.status_code in (400, 422), media_type


# ---------------------------------------------------------------- unlike the training

UNLIKE = {
    "missing": ({"proline": None}, ["missing"]),
    "unknown_category": ({"cultivar": "merlot"}, ["unknown_category"]),
    "out_of_range": ({"alcohol": 90.0}, ["out_of_range"]),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_no_training_row_had_is_flagged_and_scored_above_all_normal_ones(
    client: TestClient, detector: Detector, frame: pd.DataFrame, name: str
) -> None:
    change, flags = UNLIKE[name]
    [answer] = client.post("/score", json={"inputs": [{**objects(frame)[0], **change}]}).json()["predictions"]
    assert (answer["flags"], answer["is_anomaly"]) == (flags, True)
    assert answer["score"] > detector.calibration_scores.max()
    assert answer["p_value"] == pytest.approx(1 / (len(detector.calibration_scores) + 1))


def test_an_infinite_number_is_flagged_with_the_largest_excess(detector: Detector, frame: pd.DataFrame) -> None:
    outputs = detector.score(frame.assign(hue=np.inf))
    assert set(list_flag_names(outputs["flags"])) == {("infinite",)}
    assert (outputs["score"] > detector.calibration_scores.max() + np.log(1e5)).all()


def test_the_rules_of_the_recipe_decide_instead(bundle: Path, frame: pd.DataFrame) -> None:
    changed = frame.assign(cultivar=["merlot", *frame["cultivar"][1:]])
    refusing = Detector(bundle.parent / "unknown-refuse").score(changed)
    assert list_flag_names(refusing["flags"])[0] == ("refused", "unknown_category")
    assert np.isnan(refusing["score"][0])
    assert np.isfinite(refusing["score"][1:]).all()
    with pytest.raises(DataError, match="a category that is not known, expected a finite value"):
        Detector(bundle.parent / "unknown-refuse").require_scored(refusing["flags"][:1])
    imputing = Detector(bundle.parent / "infinite-impute")
    infinite, missing = imputing.score(frame.assign(hue=np.inf)), imputing.score(frame.assign(hue=np.nan))
    np.testing.assert_allclose(infinite["score"], missing["score"], rtol=1e-5)
    median = Detector(bundle.parent / "missing-impute")
    given, filled = wine_rows()[:ROWS], wine_rows()[:ROWS]
    given[:, 1], filled[:, 1] = np.nan, median.spec.columns[1].fill
    np.testing.assert_allclose(median.score(given)["score"], median.score(filled)["score"], rtol=1e-5)


def test_a_row_without_any_value_is_blank(bundle: Path) -> None:
    outputs = Detector(bundle.parent / "missing-impute").score(np.full((1, 6), np.nan))
    assert "blank" in list_flag_names(outputs["flags"])[0]
    assert outputs["is_anomaly"].all()


def test_an_explanation_names_the_column_its_value_and_what_is_usual(client: TestClient, frame: pd.DataFrame) -> None:
    rows = [{**objects(frame)[0], "proline": 90_000}, {**objects(frame)[0], "cultivar": "merlot"}]
    far, unknown = client.post("/explain", json={"inputs": rows}).json()["predictions"]
    assert far["columns"][0]["column"] == "proline"
    assert far["columns"][0]["value"] == 90_000
    low, high = far["columns"][0]["usual"]
    assert 200 < low < high < 2000
    assert far["columns"][0]["share"] > 0.8
    assert sum(entry["share"] for entry in far["columns"]) == pytest.approx(1, abs=1e-4)
    assert far["nearest"]["sample"].keys() == rows[0].keys()
    assert (unknown["unusual"], unknown["columns"][0]["column"]) == (["cultivar"], "cultivar")
    assert describe_explanation(far).count("proline 90000 (usually ") == 1


def test_the_app_describes_the_columns(client: TestClient) -> None:
    columns = client.get("/model").json()["input"]["columns"]
    assert [column["name"] for column in columns][-1] == "bottled"
    schema = client.get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]["content"]
    assert {CSV_TYPE, PARQUET_TYPE, arrow.MEDIA_TYPE} <= schema.keys()
    assert "application/x-npy" not in schema


def test_the_model_answers_its_own_example(detector: Detector) -> None:
    assert check_example(detector) is None


# ---------------------------------------------------------------- MLflow


@pytest.fixture(scope="module")
def model_folder(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged")
    project = Project(root=folder, home=folder / ".ae")
    save_model(folder / "model", project, "wine", bundle, run_id="r", model_id="m")
    return folder / "model"


@pytest.fixture(scope="module")
def logged(model_folder: Path) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(model_folder))


def test_the_logged_model_takes_and_returns_frames(
    logged: mlflow.pyfunc.PyFuncModel, detector: Detector, frame: pd.DataFrame
) -> None:
    given = frame.assign(bottled=frame["bottled"].dt.strftime("%Y-%m-%d"))
    answers = logged.predict(given)
    assert isinstance(answers, pd.DataFrame)
    np.testing.assert_allclose(answers["score"], detector.score(frame)["score"], rtol=1e-6)
    inputs = {column["name"]: column for column in logged.metadata.signature.inputs.to_dict()}
    assert list(inputs) == list(frame.columns)
    assert (inputs["hue"]["type"], inputs["hue"]["required"], inputs["cultivar"]["type"]) == ("double", False, "string")
    with pytest.raises(MlflowException, match="proline"):
        logged.predict(given.drop(columns="proline"))


def test_mlflows_server_answers_rows_by_name(logged: mlflow.pyfunc.PyFuncModel, detector: Detector, frame: pd.DataFrame) -> None:
    answer = TestClient(scoring_server.init(logged)).post("/invocations", json={"dataframe_records": objects(frame)})
    assert answer.status_code == 200, answer.text
    scores = [prediction["score"] for prediction in answer.json()["predictions"]]
    np.testing.assert_allclose(scores, detector.score(frame)["score"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow, about integers and a class that was never predicted
def test_mlflow_evaluates_the_model_on_rows_by_name(
    model_folder: Path, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = wines()[:20]
    broken = detector.score(rows)["score"] > np.median(detector.score(rows)["score"])
    given = rows.assign(bottled=rows["bottled"].dt.strftime("%Y-%m-%d"), broken=broken)
    monkeypatch.chdir(tmp_path)
    assert auroc_by_mlflow(model_folder, given, "broken", tmp_path) == {"auroc": 1.0}


# ---------------------------------------------------------------- files


def test_a_file_gives_the_same_scores_as_a_request(detector: Detector, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "wine.csv", index=False)
    frame.to_csv(tmp_path / "wine.csv.gz", index=False)
    frame.to_parquet(tmp_path / "wine.parquet")
    for name in ("wine.csv", "wine.csv.gz", "wine.parquet"):
        samples = detector.read_file(tmp_path / name)
        assert list(samples.names)[:2] == [f"{name}[0]", f"{name}[1]"]
        np.testing.assert_array_equal(detector.score(samples.values)["score"], detector.score(frame)["score"])


def test_rows_of_a_file_keep_their_ids(bundle: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    document = json.loads((bundle / "bundle.json").read_text())
    spec = SampleSpec.from_bundle(document | {"samples": SampleRules(id="bottle").to_dict()})
    ids = [17, None, *range(2, len(frame))]
    frame.assign(bottle=pd.Series(ids, frame.index)).to_parquet(tmp_path / "wine.parquet")
    frame.assign(bottle=[f"b-{number}" for number in range(len(frame))]).to_csv(tmp_path / "wine.csv", index=False)
    frame.to_csv(tmp_path / "nameless.csv", index=False)
    assert list(KIND.read_file(tmp_path / "wine.parquet", spec).names)[:3] == ["17", "wine.parquet[1]", "2"]
    assert list(KIND.read_file(tmp_path / "wine.csv", spec).names)[:2] == ["b-0", "b-1"]
    assert list(KIND.read_file(tmp_path / "nameless.csv", spec).names)[:1] == ["nameless.csv[0]"]


def test_every_bad_file_is_refused_by_name(detector: Detector, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.drop(columns="hue").to_csv(tmp_path / "lacks.csv", index=False)
    frame.assign(proline="many").to_csv(tmp_path / "typed.csv", index=False)
    frame[:0].to_csv(tmp_path / "empty.csv", index=False)
    (tmp_path / "latin.csv").write_bytes(b"alcohol\n\xc4\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    np.save(tmp_path / "rows.npy", wine_rows())
    cases: list[tuple[str, type[AeError], str]] = [
        ("absent.csv", UsageError, "no file"),
        ("lacks.csv", DataError, "with the column hue"),
        ("typed.csv", DataError, "row 0, column proline: expected a whole number, got 'many' (and in 4 other rows)"),
        ("empty.csv", DataError, "at least one sample"),
        ("latin.csv", DataError, "not readable as CSV in UTF-8"),
        ("broken.parquet", DataError, "not readable as Parquet"),
        ("rows.npy", DataError, "by the names of the columns"),
        ("", DataError, "got the folder"),
    ]
    for name, error, message in cases:
        with pytest.raises(error) as caught:
            detector.read_file(tmp_path / name)
        assert message in str(caught.value), name


def test_a_dropped_row_is_read_as_json_or_csv(detector: Detector, frame: pd.DataFrame) -> None:
    from aeops.kinds.samples import FitOptions

    kind, row = detector.data_kind, objects(frame)[1]
    by_json = kind.fit_sample(json.dumps(row).encode(), "application/json", detector.spec, FitOptions())
    by_csv = kind.fit_sample(frame.to_csv(index=False).encode(), "text/csv", detector.spec, FitOptions(row=1))
    np.testing.assert_array_equal(by_json.batch, by_csv.batch)
    assert by_csv.changes == ["Of 5 rows given, number 1 is shown."]
    with pytest.raises(DataError, match="neither"):
        kind.fit_sample(b'{"alcohol": ', "application/json", detector.spec, FitOptions())
    panels, _ = kind.page_panels(by_json.batch, None, detector.spec)
    assert "alcohol: " in panels[0].content


def test_codes_are_translated_for_a_model_with_others(detector: Detector) -> None:
    columns = [column.spec for column in detector.spec.columns]
    other = SimpleNamespace(name="cultivar", categories=(*reversed(columns[4].categories), "merlot"))
    rows = np.tile(wine_rows()[:1], (5, 1))
    rows[:, 4] = [0, 1, 2, 3, np.nan]
    recoded = detector.data_kind.recode(rows, [*columns[:4], other, columns[5]], detector.spec)  # type: ignore[list-item]
    assert recoded[:4, 4].tolist() == [2, 1, 0, 3]
    assert np.isnan(recoded[4, 4])


def fit_odd(folder: Path, rows: np.ndarray, spec: FitSpec) -> Detector:
    places = {"checkpoints": folder / "checkpoints", "bundle": folder / "bundle", "history": folder / "history"}
    fit(spec, rows[:60], rows[60:80], rows[80:], **places, content_sha256="d" * 64, recipe="odd", progress_bar=False)
    return Detector(folder / "bundle")


@pytest.mark.slow
def test_constant_and_empty_columns_and_ten_thousand_categories_make_a_model_that_answers(tmp_path: Path) -> None:
    columns = [
        {"name": "constant"},
        {"name": "empty", "missing": True},
        {"name": "id", "type": "category", "categories": [f"c{index}" for index in range(10_000)]},
    ]
    spec = FitSpec.from_dict({"input": {"kind": "table", "columns": columns}, **SECTIONS}, "odd")
    rng = np.random.default_rng(0)
    rows = np.stack([np.full(140, 7.0), np.full(140, np.nan), rng.integers(0, 10_000, 140)], 1)
    detector = fit_odd(tmp_path, rows, spec)
    normal = {"constant": 7.0, "empty": None, "id": "c3"}
    outputs = detector.score([normal, {**normal, "constant": 9.0}, {**normal, "empty": 1.0}, {**normal, "id": "new"}])
    assert np.isfinite(outputs["score"]).all()
    assert (outputs["score"][1:3] > outputs["score"][0]).all()
    assert list_flag_names(outputs["flags"]) == [(), (), (), ("unknown_category",)]


def test_constant_rows_alone_and_too_few_of_them(tmp_path: Path) -> None:
    spec = FitSpec.from_dict({"input": {"kind": "table", "columns": [{"name": "a"}, {"name": "b"}]}, **SECTIONS}, "odd")
    detector = fit_odd(tmp_path, np.full((140, 2), 3.0), spec)
    outputs = detector.score([{"a": 3.0, "b": 3.0}, {"a": 3.0, "b": 4.0}])
    assert outputs["is_anomaly"].tolist() == [False, True]
    with pytest.raises(SampleError, match="expected \\(n, 2\\) with n >= 2"):
        fit(
            spec,
            *(np.full((1, 2), 3.0) for _ in range(3)),
            checkpoints=tmp_path / "c",
            bundle=tmp_path / "b",
            history=tmp_path / "h",
            content_sha256="d" * 64,
            recipe="odd",
            progress_bar=False,
        )


def test_marks_of_missing_values_mean_the_same_at_every_door(tmp_path: Path) -> None:
    marks = {"hue": ("-999", "k. A."), "cultivar": ("?",), "proline": ("-1",)}
    detector = Detector(fit_wines(tmp_path, marks))
    rows = objects(wines()[:3])
    missing = [{**rows[0], "hue": None}, {**rows[1], "cultivar": None}, {**rows[2], "proline": None, "hue": None}]
    marked = [{**rows[0], "hue": -999}, {**rows[1], "cultivar": "?"}, {**rows[2], "proline": -1.0, "hue": "k. A."}]
    client = TestClient(detector_app(detector, "wine", "3"))
    expected = client.post("/score", json={"inputs": missing}).json()["predictions"]
    as_json = client.post("/score", json={"inputs": marked})
    assert as_json.status_code == 200, as_json.text
    frame = pd.DataFrame(marked)
    csv = client.post("/score", content=frame.to_csv(index=False), headers={"content-type": CSV_TYPE})
    assert csv.status_code == 200, csv.text
    table = pa.Table.from_pandas(frame.astype({"hue": str}))
    parquet = client.post("/score", content=parquet_bytes(table), headers={"content-type": PARQUET_TYPE})
    for reply in (as_json, csv):
        assert [one["score"] for one in reply.json()["predictions"]] == [one["score"] for one in expected]
        assert [one["flags"] for one in reply.json()["predictions"]] == [one["flags"] for one in expected]
    assert parquet.status_code == 422, "texts in the place of numbers are refused by name, as before"
    frame.to_csv(tmp_path / "rows.csv", index=False)
    table_of_numbers = pa.Table.from_pandas(frame.assign(hue=-999.0))
    pq.write_table(table_of_numbers, tmp_path / "rows.parquet")
    from_file = detector.read_file(tmp_path / "rows.csv").values
    assert np.isnan(from_file).sum(axis=1).tolist() == [1, 1, 2]
    assert np.isnan(detector.read_file(tmp_path / "rows.parquet").values).sum(axis=1).tolist() == [1, 2, 2]
    pasted = KIND.fit_sample(json.dumps(marked).encode(), "application/json", detector.spec, FitOptions(row=2))
    assert np.isnan(pasted.batch).sum() == 2


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"1.2,3,red", 0, "CSV with a header line and a row below it, got one line"),
        (b"alcohol;hue\n1,2;3", 0, "a header line and commas between the cells, got neither"),
        (None, 9, "expected a row from 0 to 1, got 9"),
    ],
)
def test_the_page_says_what_a_pasted_row_lacks(
    detector: Detector, frame: pd.DataFrame, content: bytes | None, row: int, message: str
) -> None:
    content = content or frame[:2].to_csv(index=False).encode()
    with pytest.raises(DataError, match=message):
        detector.data_kind.fit_sample(content, "text/plain", detector.spec, FitOptions(row=row))


def test_the_page_shows_a_row_with_a_line_for_each_column(detector: Detector, frame: pd.DataFrame) -> None:
    fitted = detector.data_kind.fit_sample(frame[:1].to_csv(index=False).encode(), "text/csv", detector.spec, FitOptions())
    given = detector.data_kind.page_panels(fitted.batch, None, detector.spec)[0][0]
    assert len(given.content.splitlines()) == len(detector.spec.columns)
    style = resources.files("aeops.page").joinpath("templates/page.css").read_text(encoding="utf-8")
    [rule] = [line for line in style.splitlines() if line.startswith("blockquote{")]
    assert "white-space:pre-line" in rule, "the lines stay lines in a browser"
