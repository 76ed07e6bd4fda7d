"""What lies outside the range or is missing: clipped and filled in, and scored above every normal sample, all in the graph."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from ruled_bundles import ruled_bundle, strokes

from ae_models.bundle import load_bundle
from ae_models.input_bounds import InputBounds
from ae_models.spec import LARGEST_EXCESS, MISSING_RULES

OLD = Path(__file__).parents[1] / "fixtures" / "bundle-format-2"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each rule for missing values."""
    folder = tmp_path_factory.mktemp("ruled")
    return {rule: ruled_bundle(folder / rule, rule) for rule in MISSING_RULES}


def answers(bundle: Path, samples: np.ndarray) -> dict[str, np.ndarray]:
    """What a foreign program gets of bare onnxruntime."""
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": samples.astype(np.float32)}), strict=True))


@pytest.mark.parametrize("rule", MISSING_RULES)
def test_samples_inside_keep_every_bit_of_their_answers(bundles: dict[str, Path], rule: str) -> None:
    samples = np.concatenate([strokes(70), np.zeros((1, 1, 8, 8)), np.full((1, 1, 8, 8), 255)])
    before, now = answers(OLD, samples), answers(bundles[rule], samples)
    assert before.keys() == now.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, now[name], err_msg=name)


def test_the_further_out_a_sample_is_the_higher_its_score_above_all_normal_ones(bundles: dict[str, Path]) -> None:
    samples = np.repeat(strokes(1), 6, axis=0).astype(np.float32)
    samples[:, 0, 0, 7] = [np.nextafter(np.float32(255), np.float32(256)), 256, 300, -1000, 1e30, np.inf]
    found, normal = answers(bundles["flag"], samples), load_bundle(bundles["flag"]).scorer.calibration_scores
    assert np.isfinite(found["score"]).all()
    assert (found["score"] > float(normal.max())).all()
    assert (np.diff(found["score"][:5]) > 0).all()
    assert found["score"][4] == found["score"][5]  # beyond what counts
    np.testing.assert_allclose(found["p_value"], 1 / (len(normal) + 1), rtol=1e-6)
    assert found["is_anomaly"].all()
    assert np.isfinite(found["reconstruction"]).all()


def test_a_missing_value_is_answered_by_the_rule(bundles: dict[str, Path]) -> None:
    samples = np.repeat(strokes(1), 3, axis=0).astype(np.float32)
    samples[1, 0, 0, 0] = np.nan
    samples[2] = np.nan
    flagged, refused, imputed = (answers(bundles[rule], samples) for rule in ("flag", "refuse", "impute"))
    assert flagged["is_anomaly"].tolist()[1:] == [True, True]
    assert flagged["score"][0] < flagged["score"][1] < flagged["score"][2]
    assert np.isnan(refused["score"]).tolist() == np.isnan(refused["p_value"]).tolist() == [False, True, True]
    assert not refused["is_anomaly"][1:].any()
    filled = samples[:2].copy()
    filled[1, 0, 0, 0] = np.nanmean(samples[1])
    np.testing.assert_allclose(imputed["score"][:2], answers(bundles["impute"], filled)["score"], rtol=1e-5)
    assert np.isfinite(imputed["score"]).all()


def test_torch_and_onnxruntime_agree_on_samples_that_are_none(bundles: dict[str, Path]) -> None:
    samples = np.random.default_rng(0).normal(0, 400, (50, 1, 8, 8)).astype(np.float32)
    samples[samples > 900] = np.nan
    samples[-1] = -np.inf
    for bundle in bundles.values():
        with torch.inference_mode():
            score, p_value, is_anomaly, *_ = load_bundle(bundle).scorer(torch.from_numpy(samples))
        found = answers(bundle, samples)
        np.testing.assert_allclose(found["score"], score.numpy(), rtol=1e-5)
        np.testing.assert_allclose(found["p_value"], p_value.numpy(), rtol=1e-6)
        np.testing.assert_array_equal(found["is_anomaly"], is_anomaly.numpy())


def test_each_channel_is_filled_by_its_own_mean_and_an_empty_one_by_the_middle() -> None:
    raw = torch.tensor([[[0.0, 4.0, torch.nan, 100.0], [torch.nan] * 4]])
    inputs, excess = InputBounds(-10, 10, "impute")(raw)
    assert inputs.tolist() == [[[0, 4, pytest.approx(14 / 3), 10], [0, 0, 0, 0]]]
    assert excess.tolist() == [4.5]  # 90 of a range of 20


def test_the_excess_of_a_value_is_bounded_and_a_missing_one_counts_as_the_rule_says() -> None:
    raw = torch.tensor([[[torch.inf, 0.5]], [[torch.nan, 0.5]], [[0.0, 1.0]]])
    assert InputBounds(0, 1, "flag")(raw)[1].tolist() == [LARGEST_EXCESS, 1, 0]
    assert InputBounds(0, 1, "impute")(raw)[1].tolist() == [LARGEST_EXCESS, 0, 0]
    assert InputBounds(0, 1, "refuse")(raw)[1][1].isnan()


def test_another_rule_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="missing: expected one of flag, refuse, impute, got 'drop'"):
        InputBounds(0, 1, "drop")
