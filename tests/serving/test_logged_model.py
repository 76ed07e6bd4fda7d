"""The logged MLflow model where this project is not installed: it brings all that it needs."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

from aeops.bundle.answers import answers
from aeops.bundle.detector import Detector
from aeops.project import Project
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
assert importlib.util.find_spec("aeops.project") is None
assert not {"torch", "pytorch_lightning"} & set(sys.modules)
print(json.dumps(answer))
"""


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
    expected = [answers(detector.score(samples)), answers(detector.score(samples, reconstruction=True, code=True))]
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
