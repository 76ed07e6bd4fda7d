"""The logged MLflow model where this project is not installed: it brings all that it needs."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT
from small_bundles import small_bundle

from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.project import Project
from aeops.registry import packing
from aeops.registry.packing import save_model

# -I -S: no current folder, no PYTHONPATH, no .pth file by which an editable installation comes in.
ELSEWHERE = """
import sys
sys.path.append(sys.argv[1])
import importlib.util, json
assert importlib.util.find_spec("aeops") is None and importlib.util.find_spec("ae_models") is None
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[2])
samples = np.load(sys.argv[3])
answer = model.predict(samples), model.predict(samples, params={"reconstruction": True, "code": True})
assert importlib.util.find_spec("aeops") is None and importlib.util.find_spec("ae_models") is None
assert not {"torch", "pytorch_lightning"} & set(sys.modules)
print(json.dumps(answer))
"""


@pytest.mark.slow
def test_it_answers_where_the_project_is_not_installed(linear_bundle: Path, digits: np.ndarray, tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    save_model(tmp_path / "model", project, "digits", linear_bundle, run_id="r", model_id="m")
    samples = digits[3000:3003].astype(np.float32)
    np.save(tmp_path / "samples.npy", samples)
    arguments = [sysconfig.get_path("purelib"), str(tmp_path / "model"), str(tmp_path / "samples.npy")]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ELSEWHERE, *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    detector = Detector(linear_bundle)
    expected = [to_answers(detector.score(samples)), to_answers(detector.score(samples, reconstruction=True, code=True))]
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_its_input_example_is_two_prepared_samples(linear_bundle: Path, digits: np.ndarray, tmp_path: Path) -> None:
    project = Project(root=tmp_path, home=tmp_path / ".ae")
    prepared = project.artifacts("digits") / "prepared"
    prepared.mkdir(parents=True)
    np.save(prepared / "test.npy", digits[:9])
    save_model(tmp_path / "model", project, "digits", linear_bundle, run_id="r", model_id="m")
    example = json.loads((tmp_path / "model" / "serving_input_example.json").read_text(encoding="utf-8"))
    np.testing.assert_array_equal(np.array(example["inputs"]), digits[:2])
    assert example["params"] == {"reconstruction": False, "code": False}


@pytest.mark.slow
def test_two_models_that_carry_different_code_answer_in_one_process_beside_this_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.pyfunc

    project, bundle = Project(root=tmp_path, home=tmp_path / ".ae"), small_bundle(tmp_path / "bundle")
    save_model(tmp_path / "new", project, "digits", bundle, run_id="r", model_id="m")
    for package in ("ae_models", "aeops"):
        shutil.copytree(ROOT / package, tmp_path / "old_code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "old_code" / "aeops" / "bundle" / "answers.py"
    file.write_text(
        file.read_text()
        + "\n\n_today = to_answers\ndef to_answers(outputs):\n    return [row | {'old': True} for row in _today(outputs)]\n"
    )
    monkeypatch.setattr(packing, "SOURCE_ROOT", tmp_path / "old_code")
    save_model(tmp_path / "old", project, "digits", bundle, run_id="r", model_id="m")
    samples = np.random.default_rng(0).uniform(0, 255, (3, 1, 4, 4)).astype(np.float32)
    new, old = (mlflow.pyfunc.load_model(str(tmp_path / name)) for name in ("new", "old"))
    expected = to_answers(Detector(bundle).score(samples))
    assert new.predict(samples) == expected
    assert old.predict(samples) == [row | {"old": True} for row in expected]
    assert new.predict(samples) == expected
    names = {name.split(".")[0] for name in sys.modules if name.startswith("ae_served_")}
    assert {path.name for name in ("new", "old") for path in (tmp_path / name / "code").iterdir()} <= names
