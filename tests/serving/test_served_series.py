"""A model of a series, served as MLflow's model: readings by the names of their columns, a row answered for each."""

from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from machine_series import fit_bundle, readings
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from mlflow.types.schema import AnyType
from mlflow_evaluation import auroc_by_mlflow

from aeops.bundle.detector import Detector
from aeops.kinds.series_scores import SeriesScores, score_series
from aeops.project import Project
from aeops.registry.packing import save_model

MACHINES = ("press-1", "press-2")
STEPS = 80


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(fit_bundle(tmp_path_factory.mktemp("press")))


@pytest.fixture(scope="module")
def model_folder(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logged")
    project = Project(root=folder, home=folder / ".ae")
    save_model(folder / "model", project, "press", detector.folder, run_id="r", model_id="m")
    return folder / "model"


@pytest.fixture(scope="module")
def logged(model_folder: Path) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(str(model_folder))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Two machines, of which the second breaks for ten minutes; labelled from 1,000 on."""
    frame = readings(STEPS, MACHINES)
    frame.loc[STEPS + 40 : STEPS + 49, "pressure"] += 900
    return frame.set_index(pd.RangeIndex(1000, 1000 + len(frame)))


@pytest.fixture(scope="module")
def scores(detector: Detector, frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> SeriesScores:
    """What `ae score` says of a file of the same readings."""
    file = tmp_path_factory.mktemp("file") / "readings.csv"
    frame.to_csv(file, index=False)
    series = detector.read_file(file).series
    assert series is not None
    return score_series(detector, series)


def test_the_signature_names_time_machine_and_channels_and_the_columns_of_the_answer(logged: mlflow.pyfunc.PyFuncModel) -> None:
    signature = logged.metadata.signature
    types = {column.name: column.type for column in signature.inputs}
    assert types.pop("time") == AnyType()
    assert {name: str(kind) for name, kind in types.items()} == {
        "machine": "DataType.string",
        "temperature": "DataType.double",
        "pressure": "DataType.double",
    }
    assert signature.outputs.input_names() == ["score", "is_anomaly", "flags", "alarm_start", "alarm_end", "channels"]
    assert [param.name for param in signature.params] == ["reconstruction"]


def test_each_reading_has_the_score_of_its_step_and_the_alarm_that_it_lies_in(
    logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame, scores: SeriesScores
) -> None:
    answers = logged.predict(frame)
    assert list(answers.index) == list(frame.index)
    np.testing.assert_array_equal(answers["score"], scores.step_scores)
    np.testing.assert_array_equal(answers["is_anomaly"], scores.is_alarmed)
    [alarm] = [one for one in scores.alarms if one.first <= STEPS + 45 <= one.last]
    inside = answers[(answers["alarm_start"] == pd.Timestamp(alarm.start, unit="s")) & (frame["machine"] == "press-2")]
    assert len(inside) == alarm.last + 1 - alarm.first
    assert set(inside["alarm_end"]) == {pd.Timestamp(alarm.end, unit="s")}
    assert inside["channels"].iloc[0] == ["pressure"]
    outside = answers.drop(inside.index)
    assert outside.loc[~outside["is_anomaly"], "alarm_start"].isna().sum() > STEPS


def test_order_of_columns_and_form_of_time_stamps_do_not_matter(logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame) -> None:
    expected = logged.predict(frame)["score"].to_numpy()
    stamps = pd.to_datetime(frame["time"])
    seconds = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    for times in (stamps, stamps.dt.tz_localize(None), stamps.dt.tz_convert("Asia/Tokyo"), seconds):
        turned = frame.assign(time=times, note="x")[["note", "pressure", "machine", "temperature", "time"]]
        np.testing.assert_array_equal(logged.predict(turned)["score"], expected)


def test_readings_at_one_step_share_its_score_and_a_short_run_has_none(
    logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame
) -> None:
    first = frame[:STEPS]
    twice = pd.concat([first, first]).sort_values("time", kind="stable", ignore_index=True)
    answers = logged.predict(twice)
    np.testing.assert_array_equal(answers["score"], np.repeat(logged.predict(first)["score"].to_numpy(), 2))
    short = pd.concat([first, frame[STEPS : STEPS + 5]])
    assert logged.predict(short)["score"].isna().tolist() == [False] * STEPS + [True] * 5
    with pytest.raises(MlflowException, match="expected 16 steps of 60 s in a row"):
        logged.predict(frame[:5])


def test_missing_and_infinite_values_are_flagged(logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame) -> None:
    changed = frame[:STEPS].copy()
    changed.loc[changed.index[30:36], "pressure"] = np.nan
    changed.loc[changed.index[60], "temperature"] = np.inf
    answers = logged.predict(changed)
    assert answers["flags"].iloc[33] == ["missing"]
    assert answers["flags"].iloc[60] == ["out_of_range"]
    assert answers["is_anomaly"].iloc[[33, 60]].all()
    assert answers["flags"].iloc[0] == []


def test_a_missing_renamed_or_retyped_column_is_refused_by_name(logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame) -> None:
    with pytest.raises(MlflowException, match="pressure"):
        logged.predict(frame.drop(columns="pressure"))
    with pytest.raises(MlflowException, match="pressure"):
        logged.predict(frame.rename(columns={"pressure": "presure"}))
    with pytest.raises(MlflowException, match="pressure"):
        logged.predict(frame.assign(pressure="high"))
    with pytest.raises(MlflowException, match="row 0, column time: expected a time stamp"):
        logged.predict(frame.assign(time="noon"))


def test_the_reconstruction_comes_in_raw_units_by_channel(logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame) -> None:
    made = np.stack(logged.predict(frame, params={"reconstruction": True})["reconstruction"])
    assert made.shape == (len(frame), 2)
    assert 1500 < np.median(made[:, 1]) < 2500


def test_mlflows_server_answers_readings_in_each_of_its_forms(logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame) -> None:
    client, part = TestClient(scoring_server.init(logged)), frame[:STEPS].copy()
    part.loc[part.index[30:36], "pressure"] = np.nan
    plain = part.astype(object).where(part.notna(), None)
    bodies = [
        {"dataframe_split": plain.to_dict(orient="split")},
        {"dataframe_records": plain.to_dict(orient="records")},
        {"inputs": plain.to_dict(orient="list")},
    ]
    for body in bodies:
        answer = client.post("/invocations", json=body)
        assert answer.status_code == 200, answer.text
        scores = [prediction["score"] for prediction in answer.json()["predictions"]]
        np.testing.assert_array_equal(scores, logged.predict(part)["score"])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of MLflow, about integers
def test_mlflow_evaluates_the_model_on_readings(
    model_folder: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = np.zeros(len(frame), bool)
    broken[STEPS + 40 : STEPS + 50] = True
    monkeypatch.chdir(tmp_path)
    metrics = auroc_by_mlflow(model_folder, frame.reset_index(drop=True).assign(broken=broken), "broken", tmp_path)
    assert metrics["auroc"] > 0.95


def test_a_batch_as_spark_makes_it_is_answered_in_the_types_of_the_signature(
    logged: mlflow.pyfunc.PyFuncModel, frame: pd.DataFrame
) -> None:
    """What MLflow's `spark_udf` does with a batch, but for Spark: columns by position, and the answer as Arrow."""
    names = logged.metadata.signature.inputs.input_names()
    batch = pd.DataFrame({name: frame[name].reset_index(drop=True) for name in names}, columns=names)
    types = {"double": pa.float64(), "boolean": pa.bool_(), "datetime": pa.timestamp("us")}
    fields = []
    for column in logged.metadata.signature.outputs:
        fields.append((column.name, types.get(getattr(column.type, "name", ""), pa.list_(pa.string()))))
    answers = pa.Table.from_pandas(logged.predict(batch), schema=pa.schema(fields), preserve_index=False)
    assert answers.num_rows == len(frame)
    assert answers["score"].null_count == 0
    assert 0 < answers["alarm_start"].null_count < len(frame)
