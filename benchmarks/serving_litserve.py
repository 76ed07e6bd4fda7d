"""The same bundle behind LitServe, to be measured beside `ae serve`: `python serving_litserve.py BUNDLE PORT`.

JSON as `ae serve` takes it; a binary batch travels as base64 in JSON, as LitServe reads JSON or forms alone. Nothing is recorded.
"""

import argparse
import base64
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.kinds.npy_bytes import read_npy
from aeops.kinds.samples import CheckedSamples


class ScoreApi(litserve.LitAPI):
    def __init__(self, bundle: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.bundle = bundle

    def setup(self, device: str) -> None:
        self.detector = Detector(Path(self.bundle))

    def decode_request(self, request: dict[str, Any]) -> CheckedSamples:
        samples = read_npy(base64.b64decode(request["npy"])) if "npy" in request else np.asarray(request["inputs"])
        return self.detector.check(samples)

    def batch(self, inputs: list[CheckedSamples]) -> tuple[CheckedSamples, list[int]]:
        joined = CheckedSamples(*map(np.concatenate, zip(*inputs, strict=True)))
        return joined, np.cumsum([len(checked.flags) for checked in inputs])[:-1].tolist()

    def predict(self, batch: tuple[CheckedSamples, list[int]]) -> list[list[dict[str, Any]]]:
        checked, splits = batch
        predictions = to_answers(self.detector.score_checked(checked))
        return [predictions[first:end] for first, end in pairwise([0, *splits, len(checked.flags)])]

    def unbatch(self, output: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        return output

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {"predictions": output}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Serve a bundle by LitServe.")
    parser.add_argument("bundle", help="folder of the bundle")
    parser.add_argument("port", type=int)
    args = parser.parse_args(arguments)
    api = ScoreApi(args.bundle, max_batch_size=16, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=False)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
