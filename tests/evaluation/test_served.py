import numpy as np
import pytest
import torch

from ae_models.spec import FitSpec
from aeops.evaluation import model_input

SHAPE = [4, 16, 16]


def sentence(corrupt: dict, **source: object) -> FitSpec:
    plain = {
        "input": {"kind": "image", "shape": SHAPE, "low": 0, "high": 255} | source,
        "model": {
            "corrupt": corrupt,
            "encode": {"kind": "dense"},
            "bottleneck": {"kind": "identity"},
            "decode": {"kind": "dense"},
            "compare": {"kind": "bce"},
        },
        "score": {"kind": "ambiguity"},
        "threshold": {"kind": "split-conformal"},
        "train": {},
    }
    return FitSpec.from_dict(plain, "sentence")


@pytest.fixture
def samples() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1500, *SHAPE), dtype=np.uint8)


def test_target_channels_are_not_given(samples):
    given = model_input.served_inputs(sentence({"kind": "none"}, target_channels=1), samples, model_input.TEST_SEED)
    np.testing.assert_array_equal(given, samples[:, :3])


def test_a_corruption_is_applied_only_where_it_is_served(samples):
    noise = {"kind": "gaussian", "deviation": 0.1}
    assert model_input.served_inputs(sentence(noise), samples, model_input.TEST_SEED) is samples
    noisy = model_input.served_inputs(sentence(noise, given="corrupted"), samples, model_input.TEST_SEED)
    assert noisy.min() == 0
    assert noisy.max() == 255
    inside = (samples > 100) & (samples < 155)  # far enough from both ends for no value to be clipped
    assert (noisy - samples)[inside].std() == pytest.approx(0.1 * 255, rel=0.02)


def test_the_same_samples_get_the_same_noise_and_others_get_other(samples):
    fit = sentence({"kind": "gaussian", "deviation": 0.5}, given="corrupted")
    before = torch.random.get_rng_state()
    first = model_input.served_inputs(fit, samples, model_input.TEST_SEED)
    np.testing.assert_array_equal(first, model_input.served_inputs(fit, samples, model_input.TEST_SEED))
    assert torch.equal(before, torch.random.get_rng_state())
    assert (
        np.abs(
            np.corrcoef(
                (first - samples).ravel(), (model_input.served_inputs(fit, samples, model_input.TRAIN_SEED) - samples).ravel()
            )[0, 1]
        )
        < 0.8
    )
