"""benchmarks/serving_litserve.py scores as `ae serve` does; serving_speed.py starts its server (make test-long)."""

import base64
from pathlib import Path

import numpy as np
import pytest
import serving_litserve
from benchmark_tools import shuffled_digits

from aeops.bundle.answers import to_answers
from aeops.bundle.detector import Detector
from aeops.serving.npy import write_npy


def test_requests_that_are_batched_get_the_answers_of_the_detector(trained: Path) -> None:
    api = serving_litserve.ScoreApi(str(trained / "bundle"))
    api.setup("cpu")
    samples = shuffled_digits()[:3]
    inputs = [
        api.decode_request({"inputs": samples[:1].tolist()}),
        api.decode_request({"npy": base64.b64encode(write_npy(samples[1:])).decode()}),
    ]
    outputs = [api.encode_response(output) for output in api.unbatch(api.predict(api.batch(inputs)))]
    predictions = [prediction for output in outputs for prediction in output["predictions"]]
    expected = to_answers(Detector(trained / "bundle").score(samples))
    assert [len(output["predictions"]) for output in outputs] == [1, 2]
    np.testing.assert_allclose([one["score"] for one in predictions], [one["score"] for one in expected], rtol=1e-5)


def test_a_bundle_and_a_port_are_needed() -> None:
    with pytest.raises(SystemExit):
        serving_litserve.main([])
