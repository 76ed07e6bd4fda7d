"""What earlier versions have written keeps loading: one fixture for each stored format, see tests/fixtures/README.md."""

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ae_models.checksums import tensors_sha256
from aeops.bundle.detector import Detector
from aeops.page import state_files
from aeops.predictions import prediction_store
from aeops.project import Project
from aeops.provenance.last_run import last_run_file, write_record
from aeops.recipe.reader import read_recipe
from aeops.registry import ledger

FIXTURES = Path(__file__).parents[1] / "fixtures"
BYTES = 60_000
CALL = "0f207c7b"
PREDICT = """
import json, sys
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
print(json.dumps(model.predict(np.load(sys.argv[2]).astype("float32"))))
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(root=tmp_path, home=tmp_path / ".ae")


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.load(FIXTURES / "predictions" / "samples.npy")


def put(project: Project, fixture: str, place: str) -> None:
    """Copies a file of the fixtures into the state folder."""
    target = project.home / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FIXTURES / fixture, target)


def test_no_fixture_is_large_and_each_is_described() -> None:
    described = (FIXTURES / "README.md").read_text(encoding="utf-8")
    for folder in (path for path in FIXTURES.iterdir() if path.is_dir()):
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < BYTES
        assert f"`{folder.name}/" in described


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_bundle_of_each_format_answers(number: int) -> None:
    detector = Detector(FIXTURES / f"bundle-format-{number}")
    assert detector.bundle["format"] == number
    scored = detector.score(np.zeros((2, *detector.shape), np.float32), reconstruction=True)
    assert np.isfinite(scored["score"]).all()
    assert scored["reconstruction"].shape == (2, *detector.output_shape)


def test_the_result_of_a_training_loads_and_is_the_model_of_its_bundles() -> None:
    from ae_models.training_result import load_training, weight_arrays  # loads torch

    result = load_training(FIXTURES / "training-format-1")
    assert (result.facts.recipe, result.facts.steps, result.tokenizer) == ("small", 30, None)
    log = (FIXTURES / "training-format-1" / "trail.csv").read_text(encoding="utf-8").split()
    assert log[-1] == f"30,{tensors_sha256(weight_arrays(result.autoencoder))}"
    for name in ("bundle-format-2", "bundle-format-3", "bundle-format-4"):
        assert tensors_sha256(load_file(FIXTURES / name / "weights.safetensors")) == log[-1].partition(",")[2]


def test_predictions_are_found_and_are_what_the_bundle_still_answers(project: Project, samples: np.ndarray) -> None:
    put(project, f"predictions/{CALL}.parquet", f"predictions/small/2026-11-29/{CALL}.parquet")
    scores = Detector(FIXTURES / "bundle-format-2").score(samples.astype(np.float32))["score"]
    for row, score in enumerate(scores):
        found = prediction_store.find_prediction(project, f"{CALL}-{row}")
        assert (found.recipe, found.version, found.sample) == ("small", "1", f"some.npy[{row}]")
        assert found.score == pytest.approx(float(score), abs=1e-4)


def test_a_ledger_is_read_and_its_chain_holds(project: Project) -> None:
    put(project, "ledger/small.jsonl", "ledger/small.jsonl")
    lines = ledger.read_entries(project, "small")
    assert [(line.number, line.event, line.version) for line in lines] == [(1, "promotion", "1"), (2, "retirement", "1")]
    assert ledger.champion_at(lines) is None


def test_the_record_of_a_last_run_is_read_where_it_lay_and_gives_way_to_a_newer_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(project, "last-run/small.json", "standing/small.json")
    last_run = state_files.read_last_run(project, "small")
    assert last_run is not None
    assert (last_run.summary["recipe"], last_run.summary["version"], last_run.summary["state"]) == ("small", "1", "champion")
    monkeypatch.setattr("aeops.provenance.last_run._run_fingerprint", lambda *_: "f")
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "digits.yaml")
    write_record(project, replace(recipe, name="small"), {"version": "2"})
    assert json.loads(last_run_file(project, "small").read_text(encoding="utf-8"))["summary"] == {"version": "2"}


@pytest.mark.slow
def test_a_logged_model_answers_as_its_bundle_does(tmp_path: Path, samples: np.ndarray) -> None:
    with tarfile.open(FIXTURES / "logged-model" / "model.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "model"), str(FIXTURES / "predictions" / "samples.npy")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scored = Detector(FIXTURES / "bundle-format-2").score(samples.astype(np.float32))
    answers = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose([answer["score"] for answer in answers], scored["score"], atol=1e-5)
    assert [answer["is_anomaly"] for answer in answers] == scored["is_anomaly"].tolist()
