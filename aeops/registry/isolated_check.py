"""Fresh process of aeops.registry.logged_model_check: run a logged model with no code of this project but its own.

Run by its path, `python -I -S isolated_check.py MODEL FOLDER ROWS PACKAGES...`: without the current folder, PYTHONPATH and .pth
files, so that an editable installation is not found. MODEL is MLflow's address in the store that MLFLOW_TRACKING_URI names. It
writes to FOLDER: example.npy or example.json, the model's own input example, and answers.json. ROWS is the smallest batch, which
is timed.
"""

import ctypes
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, SIGKILL = 1, 9
REPEATS = 20  # timed predictions of the smallest batch


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)  # as aeops.machine.entry_point does, which cannot be imported here
    model_address, folder, rows, *packages = sys.argv[1:]
    sys.path += packages
    import mlflow.pyfunc
    import numpy as np

    model = mlflow.pyfunc.load_model(model_address)
    if model.input_example is None:
        sys.exit("the logged model has no input example")
    is_frame = hasattr(model.input_example, "to_dict")  # by the names of its columns
    example: Any = model.input_example if is_frame else np.asarray(model.input_example)
    model_answers = model.predict(example)
    if is_frame:
        model_answers = model_answers.to_dict("records")
    seconds = [_time_prediction(model, example[: int(rows)]) for _ in range(REPEATS)]
    if is_frame:
        (Path(folder) / "example.json").write_text(example.to_json(orient="records"), encoding="utf-8")
    else:
        np.save(Path(folder) / "example.npy", example, allow_pickle=False)
    record = {"answers": model_answers, "milliseconds": 1000 * statistics.median(seconds), "torch": "torch" in sys.modules}
    (Path(folder) / "answers.json").write_text(json.dumps(record, default=str), encoding="utf-8")  # times as texts


def _time_prediction(model: Any, sample: Any) -> float:
    """Return the seconds that one prediction takes."""
    started_at = time.perf_counter()
    model.predict(sample)
    return time.perf_counter() - started_at


if __name__ == "__main__":
    main()
