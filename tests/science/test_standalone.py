"""The folder ae_models, copied alone to a bare machine, trains from the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from ae_models.spec import FitSpec

ROOT = Path(__file__).parents[2]
FOREIGN = ("aeops", "flows", "mlflow", "prefect", "dvc", "great_expectations")


def alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs in a folder where only ae_models lies beside the installed packages, and none of the FOREIGN may be imported."""
    shutil.copytree(ROOT / "ae_models", folder / "ae_models", dirs_exist_ok=True)
    guard = f"import runpy, sys; sys.modules.update(dict.fromkeys({FOREIGN!r}))"
    guard += "; runpy.run_module('ae_models', run_name='__main__')"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", guard, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_folder_alone_fits_a_bundle(spec: FitSpec, digits: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(json.dumps(spec.plain()))
    for part, rows in (("train", digits[:320]), ("validation", digits[320:384]), ("calibration", digits[384:])):
        np.save(tmp_path / f"{part}.npy", rows)
    files = [f"--{part}={part}.npy" for part in ("train", "validation", "calibration")]
    done = alone(tmp_path, "fit", "--spec=small.json", *files, "--out=bundle", "--history=training", "--checkpoints=state")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["recipe"] == "small"


def test_every_mistake_of_a_spec_is_told_at_once(spec: FitSpec, tmp_path: Path) -> None:
    plain = spec.plain()
    plain["train"]["epoch"] = 3
    plain["model"]["encode"]["kind"] = "convolution"
    (tmp_path / "wrong.json").write_text(json.dumps(plain))
    files = [f"--{name}=x" for name in ("train", "validation", "calibration", "out", "history", "checkpoints")]
    done = alone(tmp_path, "fit", "--spec=wrong.json", *files)
    assert done.returncode == 1
    assert "did you mean epochs" in done.stderr
    assert "encode.kind: no part 'convolution'; " in done.stderr
