"""The same bundle behind LitServe, to be measured beside `ae serve`: `python serving_litserve.py BUNDLE PORT`.

JSON as `ae serve` takes it; a binary batch travels as base64 in JSON, as LitServe reads JSON or forms alone. Nothing is recorded.
"""

import base64
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from aeops.bundle.answers import answers
from aeops.bundle.detector import Detector
from aeops.kinds.npy_bytes import read_npy


class Scores(litserve.LitAPI):
    def __init__(self, bundle: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.bundle = bundle

    def setup(self, device: str) -> None:
        self.detector = Detector(Path(self.bundle))

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        given = read_npy(base64.b64decode(request["npy"])) if "npy" in request else np.asarray(request["inputs"])
        return self.detector.check(given)

    def batch(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        return np.concatenate(inputs), np.cumsum([len(given) for given in inputs])[:-1].tolist()

    def predict(self, batch: tuple[np.ndarray, list[int]]) -> list[list[dict[str, Any]]]:
        scored, ends = answers(self.detector.score_checked(batch[0])), [0, *batch[1], len(batch[0])]
        return [scored[first:last] for first, last in pairwise(ends)]

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {"predictions": output}


if __name__ == "__main__":
    api = Scores(sys.argv[1], max_batch_size=16, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=False)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
