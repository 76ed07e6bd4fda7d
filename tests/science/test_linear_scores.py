"""The score pca-residual against scikit-learn's PCA, its exported graph, and what few, equal or single samples make of it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ae_models.autoencoder import Autoencoder
from ae_models.bundle import load_bundle
from ae_models.calibration import calibrate
from ae_models.errors import SpecError
from ae_models.linear_scores import PcaResidualScore, find_principal_axes
from ae_models.model_output import ModelOutput
from ae_models.sample_sets import ArraySampleSet, SampleRoles
from ae_models.score_interface import ENERGY_FLOOR
from ae_models.score_samples import ScoreSamples
from ae_models.spec import CombinedScoreSpec, FitSpec, InputSpec, KnnScoreSpec, NormalisedResidualScoreSpec, PcaResidualScoreSpec

INPUT = InputSpec("image", (1, 28, 28), 0, 255)
SETTINGS = {"components": 8, "variance": 0.95, "blur": 0.0, "energy": 0.0, "pool": 1}


@pytest.fixture(scope="module")
def autoencoder(spec: FitSpec) -> Autoencoder:
    """A model before its training, which the score does not read."""
    torch.manual_seed(0)
    return Autoencoder(spec.model, spec.input).eval()


@pytest.fixture(scope="module")
def samples(autoencoder: Autoencoder, digits: np.ndarray) -> ScoreSamples:
    return score_samples(autoencoder, digits[:320], digits[320:384])


def score_samples(autoencoder: Autoencoder, train: np.ndarray, validation: np.ndarray) -> ScoreSamples:
    return ScoreSamples(autoencoder, INPUT, ArraySampleSet(train), ArraySampleSet(validation), seed=3)


def fitted_score(samples: ScoreSamples, **settings: Any) -> PcaResidualScore:
    score = PcaResidualScore(**{**SETTINGS, **settings})
    score.fit(samples)
    return score


def validation_output(samples: ScoreSamples) -> ModelOutput:
    [output] = samples.outputs("validation")
    return output


def blurred(raw: np.ndarray, pool: int = 1) -> np.ndarray:
    x = gaussian_filter(raw / 255.0, (0, 0, 1, 1), mode="constant", radius=(0, 0, 3, 3))
    side = x.shape[-1] // pool
    return np.asarray(x.reshape(len(x), side, pool, side, pool).mean((2, 4)).reshape(len(x), -1))


@pytest.mark.parametrize("pool", [1, 4])  # 784 numbers of 320 samples, and 49 of them
def test_it_is_the_residual_of_scikit_learns_pca(samples: ScoreSamples, digits: np.ndarray, pool: int) -> None:
    train, vectors = blurred(digits[:320], pool), blurred(digits[320:384], pool)
    with threadpool_limits(1, "blas"):
        pca = PCA(8, svd_solver="full").fit(train)
    residuals = vectors - pca.inverse_transform(pca.transform(vectors))
    expected = np.log(np.square(residuals).sum(1) + ENERGY_FLOOR) - 0.5 * np.log(np.square(vectors).sum(1) + ENERGY_FLOOR)
    score, output = fitted_score(samples, blur=1.0, energy=0.5, pool=pool), validation_output(samples)
    np.testing.assert_allclose(score(output), expected, rtol=1e-4, atol=1e-4)
    assert score.has_value_shares == (pool == 1)
    if pool == 1:
        shares = np.square(residuals) / np.square(residuals).sum(1, keepdims=True)
        np.testing.assert_allclose(score.value_shares(output), shares, atol=1e-5)


def test_a_level_that_is_subtracted_counts_no_more(samples: ScoreSamples) -> None:
    score, output = fitted_score(samples, level=1.0), validation_output(samples)
    brighter = output._replace(inputs=output.inputs + 0.25)
    np.testing.assert_allclose(score(brighter), score(output), atol=1e-3)
    assert (fitted_score(samples)(brighter) > fitted_score(samples)(output)).all()


@pytest.mark.parametrize("variance", [0.5, 0.9])
def test_as_many_axes_as_the_share_of_variance_needs(samples: ScoreSamples, digits: np.ndarray, variance: float) -> None:
    with threadpool_limits(1, "blas"):
        pca = PCA(variance, svd_solver="full").fit(digits[:320].reshape(320, -1) / 255.0)
    score = fitted_score(samples, components=0, variance=variance)
    assert score.learnt_facts() == {"components": pca.n_components_}


def test_axes_are_orthonormal_and_fewer_than_the_samples(samples: ScoreSamples) -> None:
    axes = fitted_score(samples, components=700).axes
    assert len(axes) == 319
    np.testing.assert_allclose(axes @ axes.T, np.eye(319), atol=1e-4)


def test_axes_of_many_short_vectors_are_those_of_few() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 12)) * np.arange(1, 13))
    vectors = vectors - vectors.mean(0)
    axes, energies, total = find_principal_axes(vectors)
    wide_axes, wide_energies, _ = find_principal_axes(torch.nn.functional.pad(vectors, (0, 30)))
    assert len(axes) == len(wide_axes) == 11  # the mean takes one away
    np.testing.assert_allclose(energies, wide_energies)
    np.testing.assert_allclose((axes @ wide_axes[:, :12].T).abs(), np.eye(11), atol=1e-8)
    assert total == pytest.approx(float(vectors.square().sum()))


@pytest.mark.parametrize("components", [0, 8])
@pytest.mark.parametrize("rows", [1, 30])
def test_one_sample_and_equal_ones_have_no_axes(autoencoder: Autoencoder, digits: np.ndarray, rows: int, components: int) -> None:
    normal = score_samples(autoencoder, np.repeat(digits[:1], rows, axis=0), digits[:5])
    score = fitted_score(normal, components=components)
    assert score.learnt_facts() == {"components": 0}
    squares = np.square((digits[:5].astype(float) - digits[0]) / 255).reshape(5, -1).sum(1)
    np.testing.assert_allclose(score(validation_output(normal)), np.log(squares + ENERGY_FLOOR), atol=1e-4)


def test_two_samples_are_a_line(autoencoder: Autoencoder, digits: np.ndarray) -> None:
    score = fitted_score(score_samples(autoencoder, digits[:2], digits[:2]), components=8)
    assert score.learnt_facts() == {"components": 1}
    between = torch.from_numpy((0.3 * digits[:1] + 0.7 * digits[1:2]) / 255).float()
    output = validation_output(score_samples(autoencoder, digits[:1], digits[:1]))._replace(inputs=between)
    np.testing.assert_allclose(score(output), np.log(ENERGY_FLOOR), atol=1e-3)


@pytest.mark.parametrize(
    "score",
    [
        PcaResidualScoreSpec(components=5, blur=1.0, energy=0.5),
        CombinedScoreSpec((PcaResidualScoreSpec(), KnnScoreSpec(), NormalisedResidualScoreSpec()), choose="networks-by-power"),
    ],
)
def test_a_bundle_scores_as_its_graph_and_is_the_same_each_time(
    score: Any, spec: FitSpec, fitted: Any, digits: np.ndarray, tmp_path: Path
) -> None:
    whole = dataclasses.replace(spec, score=score)
    roles = SampleRoles(*(ArraySampleSet(part) for part in (digits[:320], digits[320:384], digits[384:])))
    for name in ("bundle", "again"):
        calibrate(whole, fitted.history, roles, content_sha256="0" * 64, bundle=tmp_path / name)
    assert (tmp_path / "bundle" / "SHA256SUMS").read_text() == (tmp_path / "again" / "SHA256SUMS").read_text()
    raw = digits[384:454].astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = load_bundle(tmp_path / "bundle").scorer(torch.from_numpy(raw))[0].detach()
    np.testing.assert_allclose(session.run(["score"], {"input": raw})[0], expected, atol=1e-3)
    facts = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["score_facts"]
    parts = facts.get("parts", [facts])
    assert parts[0]["components"] >= 5
    assert all(part.get("chosen", True) for part in parts[:2])  # whatever their power


def test_a_bundle_of_equal_samples_answers(spec: FitSpec, fitted: Any, digits: np.ndarray, tmp_path: Path) -> None:
    whole = dataclasses.replace(spec, score=PcaResidualScoreSpec())
    roles = SampleRoles(*(ArraySampleSet(part) for part in (np.repeat(digits[:1], 40, 0), digits[320:384], digits[384:])))
    calibrate(whole, fitted.history, roles, content_sha256="0" * 64, bundle=tmp_path / "bundle")
    raw = digits[:8].astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = load_bundle(tmp_path / "bundle").scorer(torch.from_numpy(raw))[0].detach()
    np.testing.assert_allclose(session.run(["score"], {"input": raw})[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"components": 784}, "components is 784, expected fewer than the 784 numbers of a sample"),
        ({"components": 49, "pool": 4}, "components is 49, expected fewer than the 49 numbers of a sample"),
        ({"components": 8, "variance": 0.9}, "components is 8 and variance is 0.9: leave one of them out"),
        ({"pool": 3}, "pool is 3, and does not divide the sides [28, 28]"),
        ({"variance": 1.5}, "variance: expected 0.01 to 0.9999, got 1.5"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str, spec: FitSpec) -> None:
    with pytest.raises(SpecError) as refusal:
        FitSpec.from_dict(spec.to_dict() | {"score": {"kind": "pca-residual", **settings}}, "spec.json")
    assert message in str(refusal.value)


def test_columns_of_a_table_have_no_order(make_table_spec: Callable[..., FitSpec]) -> None:
    make_table_spec({"components": 2})
    with pytest.raises(SpecError, match="expected 0, 1 and 0 for kind table: columns have no order"):
        make_table_spec({"blur": 1.0})
    with pytest.raises(SpecError, match="components is 3, expected fewer than the 3 numbers"):
        make_table_spec({"components": 3})


@pytest.fixture
def make_table_spec(spec: FitSpec) -> Callable[..., FitSpec]:
    columns = [{"name": name, "type": "number"} for name in ("a", "b", "c")]
    model = {
        "corrupt": {"kind": "none"},
        "encode": {"kind": "dense", "widths": [4]},
        "bottleneck": {"kind": "identity", "size": 2},
        "decode": {"kind": "dense", "widths": [4]},
        "compare": {"kind": "mixed"},
    }

    def make(settings: dict[str, Any]) -> FitSpec:
        train = {**spec.to_dict()["train"], "augment": {"kind": "none"}}
        sections = {"input": {"kind": "table", "columns": columns}, "model": model, "train": train}
        return FitSpec.from_dict(spec.to_dict() | sections | {"score": {"kind": "pca-residual", **settings}}, "spec.json")

    return make
