"""The folder ae_models, copied alone to a bare machine, trains from the command line."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from fork_server import run_in_fork

from ae_models.spec import FitSpec

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("aeops", "flows", "mlflow", "prefect", "dvc", "great_expectations")


def run_alone(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands in a folder where only ae_models lies beside the installed packages, and none of the FORBIDDEN may be
    imported; all in one process."""
    shutil.copytree(ROOT / "ae_models", folder / "ae_models")
    guard = f"import runpy, sys; sys.modules.update(dict.fromkeys({FORBIDDEN!r}))\n"
    guard += f"for arguments in {commands!r}:\n"
    guard += "    sys.argv[1:] = arguments\n    runpy.run_module('ae_models', run_name='__main__')"
    return run_in_fork("code", guard, cwd=folder, env=os.environ)


def test_the_folder_alone_fits_a_bundle_and_calibrates_it_again(spec: FitSpec, digits: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(json.dumps(spec.to_dict()))
    for part, rows in (("train", digits[:320]), ("validation", digits[320:384]), ("calibration", digits[384:])):
        np.save(tmp_path / f"{part}.npy", rows)
    files = [f"--{part}={part}.npy" for part in ("train", "validation", "calibration")]
    other = spec.to_dict() | {"threshold": {"kind": "split-conformal", "false_alarm_rate": 0.1}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    completed = run_alone(
        tmp_path,
        ["fit", "--spec=small.json", *files, "--out=bundle", "--history=training", "--checkpoints=state"],
        ["calibrate", "--spec=other.json", *files, "--out=second", "--history=training"],
    )
    assert completed.returncode == 0, completed.stderr
    assert completed.stderr == ""
    first, second = (json.loads((tmp_path / name / "bundle.json").read_text()) for name in ("bundle", "second"))
    assert first["recipe"] == "small"
    assert second["threshold"]["value"] < first["threshold"]["value"]


def test_every_mistake_of_a_spec_is_named_at_once(spec: FitSpec, tmp_path: Path) -> None:
    raw_spec = spec.to_dict()
    raw_spec["train"]["epoch"] = 3
    raw_spec["model"]["encode"]["kind"] = "convolution"
    (tmp_path / "wrong.json").write_text(json.dumps(raw_spec))
    files = [f"--{name}=x" for name in ("train", "validation", "calibration", "out", "history", "checkpoints")]
    completed = run_alone(tmp_path, ["fit", "--spec=wrong.json", *files])
    assert completed.returncode == 1
    assert "did you mean epochs" in completed.stderr
    assert (
        "encode.kind: expected conv, dense, temporal, tokens, onnx or table, got 'convolution': did you mean conv?"
        in completed.stderr
    )
