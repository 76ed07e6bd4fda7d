"""Fresh process of aeops.registry.logged_model_check: asks a logged model, with no code of this project but what that brings.

Run by its path, `python -I -S isolated_check.py MODEL FOLDER PACKAGES...`: without the current folder, PYTHONPATH and .pth files,
so that an editable installation is not found. MODEL is MLflow's address in the store that MLFLOW_TRACKING_URI names. It writes
to FOLDER: example.npy, the model's own input example, and answers.json.
"""

import ctypes
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, SIGKILL = 1, 9
TIMES = 20  # that one sample is asked about


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)  # as aeops.machine.entry_point does, which cannot be imported here
    model_address, folder, *packages = sys.argv[1:]
    sys.path += packages
    import mlflow.pyfunc
    import numpy as np

    model = mlflow.pyfunc.load_model(model_address)
    if model.input_example is None:
        sys.exit("the logged model has no input example")
    example = np.asarray(model.input_example)
    answers = model.predict(example)
    seconds = [timed(model, example[:1]) for _ in range(TIMES)]
    np.save(Path(folder) / "example.npy", example, allow_pickle=False)
    found = {"answers": answers, "milliseconds": 1000 * statistics.median(seconds), "torch": "torch" in sys.modules}
    (Path(folder) / "answers.json").write_text(json.dumps(found), encoding="utf-8")


def timed(model: Any, sample: Any) -> float:
    """The seconds that one answer takes."""
    started = time.perf_counter()
    model.predict(sample)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
